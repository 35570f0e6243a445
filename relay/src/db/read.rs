//! Reading the queue.

use postern_protocol::ids::{MailboxId, MessageId};
use postern_store::{StoreError, Tx};

use super::{int, unsigned};

const STATUS: &str = "SELECT queued_messages, arrivals FROM mailboxes WHERE mailbox = $1";
// Envelopes are not read here, and a mailbox holds few enough messages to be sorted.
const LIST: &str = "SELECT message, size FROM messages WHERE mailbox = $1 ORDER BY position LIMIT $2";
const FETCH: &str = "SELECT message, arrived_at, envelope FROM messages WHERE mailbox = $1 \
     ORDER BY position LIMIT $2";

/// What a waiting reader looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Messages in the queue.
    pub(crate) queued: u64,
    /// Messages ever queued.
    pub(crate) arrivals: u64,
}

/// The mailbox's counters; none if there is no such mailbox.
pub(crate) async fn status(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<Option<Status>, StoreError> {
    let row = tx.fetch_optional(STATUS, &[mailbox.0.into()]).await?;
    row.map(|row| Ok(Status { queued: unsigned(row.int(0)?), arrivals: unsigned(row.int(1)?) })).transpose()
}

/// Sizes of the oldest `limit` messages, oldest first.
pub(crate) async fn sizes(tx: &mut Tx<'_>, mailbox: &MailboxId, limit: u64) -> Result<Vec<u64>, StoreError> {
    let rows = tx.fetch_all(LIST, &[mailbox.0.into(), int(limit).into()]).await?;
    rows.iter().map(|row| row.int(1).map(unsigned)).collect()
}

/// A queued message.
pub(crate) struct Queued {
    pub(crate) message: MessageId,
    /// Unix seconds.
    pub(crate) arrived: u64,
    pub(crate) envelope: Vec<u8>,
}

/// The oldest `limit` messages with their envelopes, oldest first.
pub(crate) async fn fetch(tx: &mut Tx<'_>, mailbox: &MailboxId, limit: u64) -> Result<Vec<Queued>, StoreError> {
    let rows = tx.fetch_all(FETCH, &[mailbox.0.into(), int(limit).into()]).await?;
    let queued = rows.iter().map(|row| {
        Ok(Queued { message: MessageId(row.array(0)?), arrived: unsigned(row.int(1)?), envelope: row.blob(2)? })
    });
    queued.collect()
}
