//! Replies (design §3, §6): a contact's credential in place of a token. Who it was, or whether two replies are of one contact, is
//! not known here.
//!
//! Order of the checks: size, mailbox, format (in `send`), then key version, epoch, duplicate, signature, transaction. A duplicate is
//! found before any group arithmetic. A struck contact goes the same way and gets the same answer.

use bytes::Bytes;
use postern_credentials::reply_credential::{
    Context, InvalidPresentation, KeyPeriod, Presentation, envelope_digest, peek_nullifier, verify_at,
};
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::ReplyAuthorization;
use postern_protocol::time::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::queue::{Job, Outcome, Right};
use super::{reply_keys, send, strike};
use crate::app::App;
use crate::db::mailbox;
use crate::db::reply::{self, Slot, Taken};
use crate::db::strike as strikes;
use crate::error::Refusal;

/// A reply that nothing is known of yet but its form.
struct Reply {
    shown: Box<ReplyAuthorization>,
    context: Context,
    /// SHA-512 of the envelope.
    envelope_digest: [u8; 64],
    slot: Slot,
    /// What the slot is used for, if it is used for this.
    taken: Taken,
}

impl Reply {
    fn new(app: &App, mailbox: MailboxId, shown: Box<ReplyAuthorization>, envelope: &[u8]) -> Self {
        let period = app.config.replies.period_of(shown.epoch);
        let of = KeyPeriod { mailbox, key_version: shown.key_version, period };
        let context = Context { relay: app.relay_id, of, epoch: shown.epoch };
        let nullifier = peek_nullifier(&shown.presentation);
        let envelope_digest = envelope_digest(envelope);
        let request = Sha256::new_with_prefix(shown.presentation).chain_update(envelope_digest);
        let taken = Taken { request_digest: request.finalize().into(), message: context.message_id(nullifier) };
        let slot = Slot { mailbox, epoch: shown.epoch, nullifier };
        Self { shown, context, envelope_digest, slot, taken }
    }

    fn verify(&self, app: &App, sealed_key: &[u8]) -> Result<(), Refusal> {
        let of = &self.context.of;
        let key = reply_keys::open(app, &of.mailbox, of.key_version, sealed_key)?.verification_key(of);
        let presentation = Presentation::decode(&self.shown.presentation);
        let base = app.epoch_bases.of(&self.context);
        presentation
            .and_then(|shown| verify_at(&key, &base, &shown, &self.envelope_digest))
            .map_err(|InvalidPresentation| send::challenge(app, ProblemKind::ReplyInvalid))?;
        app.epoch_bases.keep(base);
        Ok(())
    }

    /// The answer to a slot that was used before.
    fn decide(&self, before: &Taken) -> Result<MessageId, Refusal> {
        if bool::from(before.request_digest.ct_eq(&self.taken.request_digest)) {
            Ok(before.message)
        } else {
            Err(ProblemKind::ReplyUsed.into())
        }
    }
}

/// Queues a reply. The identical request gets the identical answer for as long as its epoch is accepted.
///
/// # Errors
/// As the order above: `reply-invalid` (with the challenge of a token, which the sender may spend instead), `reply-epoch`, `reply-used`,
/// `mailbox-full` (and then the slot is not used).
pub(crate) async fn accept(
    app: &App,
    mailbox: MailboxId,
    shown: Box<ReplyAuthorization>,
    envelope: Bytes,
) -> Result<MessageId, Refusal> {
    let now = app.clock.now();
    let reply = Reply::new(app, mailbox, shown, &envelope);
    let known = known(app, &reply, app.config.replies.epoch_at(now)).await?;
    if !known.is_open {
        return Err(ProblemKind::MailboxUnknown.into());
    }
    let sealed_key = known.sealed_key.ok_or_else(|| send::challenge(app, ProblemKind::ReplyInvalid))?;
    check_epoch(app, reply.slot.epoch, now)?;
    if let Some(before) = &known.taken {
        let answer = reply.decide(before)?;
        app.db.settle().await?;
        return Ok(answer);
    }
    reply.verify(app, &sealed_key)?;
    if known.strikes_due {
        strike::expand(app, mailbox).await?;
    }
    let answer = write(app, reply, envelope, now).await?;
    app.waiters.wake(&mailbox);
    Ok(answer)
}

/// What the database says before the presentation is looked into.
struct Known {
    is_open: bool,
    sealed_key: Option<Vec<u8>>,
    taken: Option<Taken>,
    /// Whether strikes are still to be derived from revealed seeds.
    strikes_due: bool,
}

async fn known(app: &App, reply: &Reply, epoch_now: u32) -> Result<Known, Refusal> {
    let (slot, version) = (&reply.slot, reply.shown.key_version);
    // Statement by statement: whatever changes in between is found by the transaction that uses the slot.
    app.db
        .glance("reply_seen", |tx| {
            Box::pin(async move {
                Ok(Known {
                    is_open: mailbox::exists(tx, &slot.mailbox).await?,
                    sealed_key: reply::key(tx, &slot.mailbox, version).await?,
                    taken: reply::find(tx, slot).await?,
                    strikes_due: !strikes::due(tx, &slot.mailbox, epoch_now).await?.is_empty(),
                })
            })
        })
        .await
}

/// Only the future is told when to come again.
fn check_epoch(app: &App, epoch: u32, now: Timestamp) -> Result<(), Refusal> {
    let policy = &app.config.replies;
    let begins = policy.epoch_start(epoch);
    if now < begins {
        Err(Refusal::retry_after(ProblemKind::ReplyEpoch, now.seconds_until(begins)))
    } else if policy.accepts(epoch, now) {
        Ok(())
    } else {
        Err(ProblemKind::ReplyEpoch.into())
    }
}

/// Uses the slot and queues, in one transaction. Whatever refuses takes the slot's use back.
async fn write(app: &App, reply: Reply, envelope: Bytes, now: Timestamp) -> Result<MessageId, Refusal> {
    let Reply { slot, taken, ref shown, .. } = reply;
    let right = Right::Slot { slot, taken, shown: shown.clone() };
    match app.queue.put(Job { right, at: now.seconds(), envelope }).await? {
        Outcome::Used(before) => reply.decide(&before),
        Outcome::Fenced => Err(ProblemKind::ReplyEpoch.into()),
        // The owner has dropped the key since the signature was checked.
        Outcome::Over => Err(send::challenge(app, ProblemKind::ReplyInvalid)),
        other => send::queued(app, other, taken.message),
    }
}
