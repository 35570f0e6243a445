//! Acknowledging, and the two verdicts (M18, M20).

use postern_protocol::ids::{MailboxId, MessageId, Nullifier};
use postern_store::{StoreError, Tx};

use super::send::{self, TokenState};

const SIZE: &str = "SELECT size FROM messages WHERE mailbox = $1 AND message = $2";
const DELETE: &str = "DELETE FROM messages WHERE mailbox = $1 AND message = $2";
const COUNT_OUT: &str = "UPDATE mailboxes SET queued_messages = queued_messages - 1, queued_bytes = queued_bytes - $2 \
     WHERE mailbox = $1";
const RELEASE: &str =
    "UPDATE ledger SET state = 'released' WHERE nullifier = $1 AND mailbox = $2 AND state = 'attached'";
const BURN: &str = "UPDATE ledger SET state = 'burnt' WHERE nullifier = $1 AND mailbox = $2 AND state = 'attached'";

/// What a recipient says of a token. There is no third word: declining a contact is a release (M37), and nothing tells
/// the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not spam: the token can be exchanged.
    Release,
    /// Spam: the token is burnt for ever.
    Burn,
}

/// Takes a message out of the queue; `false` if it is not in there.
pub(crate) async fn remove(tx: &mut Tx<'_>, mailbox: &MailboxId, message: &MessageId) -> Result<bool, StoreError> {
    let key = [mailbox.0.into(), message.0.into()];
    let Some(row) = tx.fetch_optional(SIZE, &key).await? else { return Ok(false) };
    if tx.execute(DELETE, &key).await? != 1 {
        return Ok(false);
    }
    tx.execute(COUNT_OUT, &[mailbox.0.into(), row.int(0)?.into()]).await?;
    Ok(true)
}

/// Where the token of a message of this mailbox stands; none if it never came here, or its key is gone.
pub(crate) async fn state(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    message: &MessageId,
) -> Result<Option<TokenState>, StoreError> {
    let row = send::find(tx, &Nullifier(message.0)).await?;
    Ok(row.filter(|row| row.spent.is_some_and(|(at, _)| at == *mailbox)).map(|row| row.state))
}

/// Moves an attached token of this mailbox; `false` if it is not attached or not of this mailbox.
pub(crate) async fn judge(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    message: &MessageId,
    verdict: Verdict,
) -> Result<bool, StoreError> {
    let sql = match verdict {
        Verdict::Release => RELEASE,
        Verdict::Burn => BURN,
    };
    Ok(tx.execute(sql, &[message.0.into(), mailbox.0.into()]).await? == 1)
}
