//! What a recipient does with messages: acknowledge, release (M18), decline (M37), spam (M20).

use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{MAX_MESSAGES, Outcome};
use postern_store::Tx;

use crate::app::App;
use crate::db::release::{self, Verdict};
use crate::db::reply;
use crate::db::send::TokenState;
use crate::error::Refusal;

/// What to do with the messages of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Delete from the queue. Tokens stay as they are.
    Acknowledge,
    /// Give the tokens back. Declining is this as well: nothing stored tells the two apart.
    Release,
    /// Burn the tokens.
    Spam,
}

/// Does it to each message of this mailbox, all in one transaction. Repeating is harmless.
///
/// # Errors
/// `bad-request` for more than [`MAX_MESSAGES`].
pub(crate) async fn act(
    app: &App,
    mailbox: MailboxId,
    action: Action,
    mut messages: Vec<MessageId>,
) -> Result<Outcome, Refusal> {
    if messages.len() > MAX_MESSAGES {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "At most 256 messages at a time."));
    }
    // One order for everybody: two such lists cannot block each other row by row.
    messages.sort_unstable();
    messages.dedup();
    let messages = &messages;
    app.db
        .run("verdict", |tx| {
            Box::pin(async move {
                let mut outcome = Outcome::default();
                for message in messages {
                    let done = match action {
                        Action::Acknowledge => acknowledge(tx, &mailbox, message).await?,
                        Action::Release => judge(tx, &mailbox, message, Verdict::Release).await?,
                        Action::Spam => judge(tx, &mailbox, message, Verdict::Burn).await?,
                    };
                    let list = if done { &mut outcome.done } else { &mut outcome.refused };
                    list.push(*message);
                }
                Ok(outcome)
            })
        })
        .await
}

async fn acknowledge(tx: &mut Tx<'_>, mailbox: &MailboxId, message: &MessageId) -> Result<bool, Refusal> {
    // What has left the queue (acknowledged before, or too old) is done; what never came here is refused.
    Ok(release::remove(tx, mailbox, message).await?
        || release::state(tx, mailbox, message).await?.is_some()
        || reply::came(tx, mailbox, message).await?)
}

async fn judge(tx: &mut Tx<'_>, mailbox: &MailboxId, message: &MessageId, verdict: Verdict) -> Result<bool, Refusal> {
    if release::judge(tx, mailbox, message, verdict).await? {
        return Ok(true);
    }
    let stands = release::state(tx, mailbox, message).await?;
    Ok(match verdict {
        Verdict::Release => {
            matches!(stands, Some(TokenState::Released | TokenState::Exchanging | TokenState::Exchanged))
        }
        Verdict::Burn => stands == Some(TokenState::Burnt),
    })
}
