//! Rollout (design §2.5, A7): with `enforce = false` a message that would be refused for want of a good token is taken all the same, and why it
//! would have been refused is counted and published. So an operator sees how often honest people run out before anybody is refused.
//!
//! Such a message has no ledger row: nothing was spent, so nothing can be released or burnt. It is known by its mailbox and its envelope, so
//! that the identical request gets the identical answer. A token that is good is spent as always; size, mailbox and quota are held as always,
//! and so is a reply's credential: what it is worth is its owner's rule, not the operator's.

use bytes::Bytes;
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::Unenforced;
use postern_store::StoreError;
use sha2::{Digest, Sha256};

use super::queue::{Job, Right};
use super::send;
use crate::app::App;
use crate::db::rollout;
use crate::error::Refusal;

/// Names the digest that such a message is known by.
const LABEL: &[u8] = b"postern/unenforced/v1";
/// Rows say a day and no more.
const DAY: u64 = 86_400;

/// Why a message without a good token is taken all the same; none if it is not.
pub(super) fn waived(app: &App, refusal: &Refusal) -> Option<ProblemKind> {
    let (Refusal::Problem(problem) | Refusal::Challenge(problem, _)) = refusal else { return None };
    let waived = [ProblemKind::TokenRequired, ProblemKind::TokenInvalid, ProblemKind::TokenAttached];
    problem.known_kind().filter(|kind| !app.config.enforce && waived.contains(kind))
}

/// Takes it.
///
/// # Errors
/// `mailbox-full`, `mailbox-unknown`; what the database says.
pub(super) async fn accept(
    app: &App,
    mailbox: MailboxId,
    reason: ProblemKind,
    envelope: Bytes,
) -> Result<MessageId, Refusal> {
    let digest = Sha256::digest(&envelope);
    let message =
        MessageId(Sha256::new_with_prefix(LABEL).chain_update(mailbox.0).chain_update(digest).finalize().into());
    let at = app.clock.now().seconds();
    // As long as its message may wait, and to the end of that day.
    let kept_until =
        (at.saturating_add(app.config.limits.retention_seconds) / DAY).saturating_add(1).saturating_mul(DAY);
    let right = Right::None { mailbox, message, reason, kept_until };
    let outcome = app.queue.put(Job { right, at, envelope }).await?;
    let answer = send::queued(app, outcome, message)?;
    app.waiters.wake(&mailbox);
    Ok(answer)
}

/// What was taken so, ever, by why it would have been refused.
///
/// # Errors
/// What the database says.
pub(crate) async fn counts(app: &App) -> Result<Unenforced, StoreError> {
    let counts = app.db.glance("unenforced", |tx| Box::pin(async move { rollout::counts(tx).await })).await?;
    let of = |kind: ProblemKind| counts.get(kind.slug()).copied().unwrap_or(0);
    Ok(Unenforced {
        token_required: of(ProblemKind::TokenRequired),
        token_invalid: of(ProblemKind::TokenInvalid),
        token_attached: of(ProblemKind::TokenAttached),
    })
}
