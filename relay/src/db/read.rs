//! Reading the queue.

use std::collections::HashMap;

use postern_protocol::ids::{Base64, MailboxId, MessageId};
use postern_protocol::reply::PRESENTATION_LEN;
use postern_protocol::send::Admission;
use postern_store::{Column, Holder, Many, Row, StoreError, Tx};

use super::{corrupt, int, opt_array, unsigned};

const STATUS: &str = "SELECT queued_messages, arrivals FROM mailboxes WHERE mailbox = $1";
static ARRIVALS: Many = Many::list("SELECT mailbox, arrivals FROM mailboxes WHERE mailbox IN ($1)", &[Column::Blob]);
const RING: &str = "INSERT INTO bells (process, rung, rung_at) VALUES ($1, 1, $2) \
     ON CONFLICT (process) DO UPDATE SET rung = bells.rung + 1, rung_at = excluded.rung_at";
const RUNG: &str = "SELECT process, rung FROM bells";
// Envelopes are not read here, and a mailbox holds few enough messages to be sorted.
const LIST: &str = "SELECT message, size FROM messages WHERE mailbox = $1 ORDER BY position LIMIT $2";
const FETCH: &str = "SELECT message, arrived_at, envelope, reply_key_version, reply_epoch, presentation FROM messages \
     WHERE mailbox = $1 ORDER BY position LIMIT $2";

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

/// How many messages ever arrived, of those of these mailboxes that there are.
pub(crate) async fn arrivals(tx: &mut Tx<'_>, mailboxes: &[MailboxId]) -> Result<HashMap<MailboxId, u64>, StoreError> {
    let rows = tx.fetch_many(&ARRIVALS, mailboxes.iter().map(|mailbox| vec![mailbox.0.into()]).collect()).await?;
    rows.iter().map(|row| Ok((MailboxId(row.array(0)?), unsigned(row.int(1)?)))).collect()
}

/// Says, with the transaction that it is part of, to the other processes that there is something for readers to see.
pub(crate) async fn ring(tx: &mut Tx<'_>, process: &Holder, at: u64) -> Result<(), StoreError> {
    tx.execute(RING, &[(*process).into(), int(at).into()]).await.map(drop)
}

/// How often each process has rung.
pub(crate) async fn rung(tx: &mut Tx<'_>) -> Result<HashMap<Holder, u64>, StoreError> {
    tx.fetch_all(RUNG, &[]).await?.iter().map(|row| Ok((row.array(0)?, unsigned(row.int(1)?)))).collect()
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
    pub(crate) admission: Admission,
}

impl Queued {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            message: MessageId(row.array(0)?),
            arrived: unsigned(row.int(1)?),
            envelope: row.blob(2)?,
            admission: admission(row)?,
        })
    }
}

/// By what right it came in; the schema keeps the three columns together.
fn admission(row: &Row) -> Result<Admission, StoreError> {
    let Some(presentation) = opt_array::<PRESENTATION_LEN>(row, 5)? else { return Ok(Admission::Token) };
    let number = |index| u32::try_from(row.int(index)?).map_err(|_| corrupt(index, "a 32-bit number"));
    Ok(Admission::Reply { key_version: number(3)?, epoch: number(4)?, presentation: Base64(presentation.to_vec()) })
}

/// The oldest `limit` messages with their envelopes, oldest first.
pub(crate) async fn fetch(tx: &mut Tx<'_>, mailbox: &MailboxId, limit: u64) -> Result<Vec<Queued>, StoreError> {
    let rows = tx.fetch_all(FETCH, &[mailbox.0.into(), int(limit).into()]).await?;
    rows.iter().map(Queued::read).collect()
}
