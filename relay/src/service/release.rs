//! What a recipient does with messages: acknowledge, release (M18), decline (M37), spam (M20).

use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{MAX_MESSAGES, Outcome};

use super::verdicts::{Act, Action};
use crate::app::App;
use crate::error::Refusal;

/// Does it to each message of this mailbox, all in one transaction. Repeating is harmless.
///
/// # Errors
/// `bad-request` for more than [`MAX_MESSAGES`]; `unavailable` with a retry time if too many wait; what the database says.
pub(crate) async fn act(
    app: &App,
    mailbox: MailboxId,
    action: Action,
    mut messages: Vec<MessageId>,
) -> Result<Outcome, Refusal> {
    if messages.len() > MAX_MESSAGES {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "At most 256 messages at a time."));
    }
    messages.sort_unstable();
    messages.dedup();
    app.queue.act(Act { mailbox, action, messages }).await
}
