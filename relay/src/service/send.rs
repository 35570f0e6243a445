//! Sending (design §2.1, §6): what cold sends and replies share, and the cold send, in which a token buys one message one place in one
//! mailbox.
//!
//! Order of the answers: size, mailbox, format, key, duplicate, signature, room. Junk costs no write, and an answer leaves only after its
//! commit.

use bytes::Bytes;
use postern_credentials::blind_token::nullifier;
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::reply::ReplyAuthorization;
use postern_protocol::send::ENVELOPE_SIZES;
use postern_protocol::tokens::{Token, www_authenticate};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::keys::Standing;
use super::queue::{Job, Outcome, Right};
use super::{mailbox, reply, rollout};
use crate::app::App;
use crate::db::send::{LedgerRow, Spend};
use crate::error::Refusal;

/// What stands in the `Authorization` header.
pub(crate) enum Presented {
    /// None, or another scheme.
    Nothing,
    /// `PrivateToken` with something that is not a token of ours.
    Malformed,
    /// A token; nothing about it is checked yet.
    Token(Box<Token>),
    /// `PosternReply` with something that is not of the one form.
    MalformedReply,
    /// A reply credential; nothing about it is checked yet.
    Reply(Box<ReplyAuthorization>),
}

/// Queues an envelope for a mailbox (none: the address cannot be one). The identical request gets the identical answer.
///
/// # Errors
/// As the order above: `envelope-size`, `mailbox-unknown`, `token-required`, `token-invalid`, `token-attached`,
/// `mailbox-full` (and then the token is not spent); of a reply, as [`reply::accept`] says.
pub(crate) async fn accept(
    app: &App,
    mailbox: Option<MailboxId>,
    presented: Presented,
    envelope: Bytes,
) -> Result<MessageId, Refusal> {
    if !ENVELOPE_SIZES.contains(&envelope.len()) {
        return Err(ProblemKind::EnvelopeSize.into());
    }
    let mailbox = mailbox.ok_or(ProblemKind::MailboxUnknown)?;
    match admit(app, mailbox, presented, envelope.clone()).await {
        Err(refusal) => match rollout::waived(app, &refusal) {
            Some(reason) => rollout::accept(app, mailbox, reason, envelope).await,
            None => Err(refusal),
        },
        accepted => accepted,
    }
}

/// The same for an envelope of a good size, whether or not tokens are asked for.
async fn admit(app: &App, mailbox: MailboxId, presented: Presented, envelope: Bytes) -> Result<MessageId, Refusal> {
    let why = match presented {
        Presented::Token(token) => return accept_cold(app, mailbox, &token, envelope).await,
        Presented::Reply(shown) => return reply::accept(app, mailbox, shown, envelope).await,
        Presented::Nothing => ProblemKind::TokenRequired,
        Presented::Malformed => ProblemKind::TokenInvalid,
        Presented::MalformedReply => ProblemKind::ReplyInvalid,
    };
    if mailbox::exists(app, mailbox).await? {
        Err(challenge(app, why))
    } else {
        Err(ProblemKind::MailboxUnknown.into())
    }
}

/// The signature comes first: of a token that holds, everything else is found out by the transaction that spends it, for a whole group at
/// once. Only what does not hold is looked up before it is answered.
async fn accept_cold(app: &App, mailbox: MailboxId, token: &Token, envelope: Bytes) -> Result<MessageId, Refusal> {
    let spend = Spend {
        nullifier: nullifier(&token.input),
        key_id: token.input.token_key_id,
        token_digest: token_digest(token),
        mailbox,
        envelope_digest: Sha256::digest(&envelope).into(),
    };
    let key = app.keys.find(&spend.key_id, &app.issuer).await?;
    let standing = key.as_ref().and_then(|key| key.standing(app.clock.now()));
    let holds = matches!(standing, Some(Standing::Active | Standing::Retiring))
        && key.is_some_and(|key| key.verifying.verify(token, &app.challenge_digest).is_ok());
    if !holds {
        return look(app, &spend, standing).await;
    }
    let answer = write(app, spend, envelope).await?;
    app.waiters.wake(&mailbox);
    Ok(answer)
}

/// SHA-256 of the whole token, authenticator included.
pub(crate) fn token_digest(token: &Token) -> [u8; 32] {
    Sha256::digest(token.encode()).into()
}

/// A 401 with the challenge that a token must answer, and the key that signs such tokens (RFC 9577 §2.1).
pub(crate) fn challenge(app: &App, kind: ProblemKind) -> Refusal {
    let Some(key) = app.keys.active(app.clock.now()) else {
        return Refusal::retry_after(ProblemKind::Unavailable, 1);
    };
    match www_authenticate(&app.challenge, key.spki()) {
        Ok(header) => Refusal::Challenge(Box::new(Problem::new(kind)), header),
        Err(_) => ProblemKind::Internal.into(),
    }
}

/// The answer to a token that does not hold, or not any more.
async fn look(app: &App, spend: &Spend, standing: Option<Standing>) -> Result<MessageId, Refusal> {
    let sight = app.looks.at(spend.mailbox, spend.nullifier).await?;
    if !sight.is_open {
        return Err(ProblemKind::MailboxUnknown.into());
    }
    // A row with these very bytes was verified when it was written, maybe before the key expired. A forger of a spent token has
    // other bytes, and learns nothing.
    match sight.row {
        Some(row) if standing.is_some() && bool::from(row.token_digest.ct_eq(&spend.token_digest)) => {
            let answer = decide(&row, spend)?;
            app.db.settle().await?;
            Ok(answer)
        }
        _ => Err(challenge(app, ProblemKind::TokenInvalid)),
    }
}

/// The answer to a token that has a row.
fn decide(row: &LedgerRow, spend: &Spend) -> Result<MessageId, Refusal> {
    let same_message = row.spent == Some((spend.mailbox, spend.envelope_digest));
    if same_message && bool::from(row.token_digest.ct_eq(&spend.token_digest)) {
        Ok(MessageId(spend.nullifier.0))
    } else {
        Err(ProblemKind::TokenAttached.into())
    }
}

/// Spends and queues in one transaction. Whatever refuses takes the spending back.
async fn write(app: &App, spend: Spend, envelope: Bytes) -> Result<MessageId, Refusal> {
    let message = MessageId(spend.nullifier.0);
    let right = Right::Token(Box::new(spend.clone()));
    let job = Job { right, at: app.clock.now().seconds(), envelope };
    match app.queue.put(job).await? {
        Outcome::Spent(row) => decide(&row, &spend),
        Outcome::Over => Err(ProblemKind::TokenInvalid.into()),
        other => queued(app, other, message),
    }
}

/// The answer to what is alike for cold sends and replies.
///
/// # Errors
/// `mailbox-full`, or `mailbox-unknown` if it was closed meanwhile.
pub(super) fn queued(app: &App, outcome: Outcome, message: MessageId) -> Result<MessageId, Refusal> {
    match outcome {
        Outcome::Queued | Outcome::Again => Ok(message),
        Outcome::Full => Err(Refusal::retry_after(ProblemKind::MailboxFull, app.config.limits.quota_retry_seconds)),
        Outcome::NoMailbox => Err(ProblemKind::MailboxUnknown.into()),
        Outcome::Spent(_) | Outcome::Used(_) | Outcome::Over | Outcome::Fenced => Err(ProblemKind::Internal.into()),
    }
}
