//! The queue: what a mailbox has room for, and many messages at once (design §2.1: spend and enqueue are one transaction).

use std::collections::HashMap;

use bytes::Bytes;
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::reply::ReplyAuthorization;
use postern_store::{Column, Many, StoreError, Tx, Value};

use super::{int, unsigned};

static ROOMS: Many = Many::list(
    "SELECT mailbox, queued_messages, queued_bytes, arrivals FROM mailboxes WHERE mailbox IN ($1)",
    &[Column::Blob],
);
// All of them are there: they were read in this transaction.
static COUNT_IN: Many = Many::rows(
    "INSERT INTO mailboxes (mailbox, queued_messages, queued_bytes, arrivals) VALUES ($1, $2, $3, $2) \
     ON CONFLICT (mailbox) DO UPDATE SET queued_messages = mailboxes.queued_messages + excluded.queued_messages, \
     queued_bytes = mailboxes.queued_bytes + excluded.queued_bytes, arrivals = mailboxes.arrivals + excluded.arrivals",
    &[Column::Blob, Column::Int, Column::Int],
);
static ENQUEUE: Many = Many::rows(
    "INSERT INTO messages (mailbox, message, position, arrived_at, size, envelope, \
     reply_key_version, reply_epoch, presentation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    &[
        Column::Blob,
        Column::Blob,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Blob,
        Column::Int,
        Column::Int,
        Column::Blob,
    ],
);

/// What a mailbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What a mailbox holds, and what is about to be added.
#[derive(Debug)]
pub(crate) struct Room {
    messages: u64,
    bytes: u64,
    arrivals: u64,
    added: u64,
    added_bytes: u64,
}

impl Room {
    /// Whether an envelope of so many bytes fits.
    pub(crate) const fn has_room(&self, size: u64, quota: Quota) -> bool {
        self.messages.saturating_add(self.added) < quota.messages
            && self.bytes.saturating_add(self.added_bytes).saturating_add(size) <= quota.bytes
    }

    /// Takes the next place, for so many bytes.
    pub(crate) const fn take(&mut self, size: u64) -> u64 {
        self.added = self.added.saturating_add(1);
        self.added_bytes = self.added_bytes.saturating_add(size);
        self.arrivals.saturating_add(self.added)
    }
}

/// A message that comes in.
pub(crate) struct Arrival<'a> {
    pub(crate) mailbox: MailboxId,
    pub(crate) message: MessageId,
    /// [`Room::take`].
    pub(crate) position: u64,
    /// Unix seconds.
    pub(crate) at: u64,
    pub(crate) envelope: &'a Bytes,
    /// What a reply was admitted by; none for a cold send.
    pub(crate) reply: Option<&'a ReplyAuthorization>,
}

/// The mailboxes among these that are open.
pub(crate) async fn rooms(
    tx: &mut Tx<'_>,
    mailboxes: impl Iterator<Item = MailboxId>,
) -> Result<HashMap<MailboxId, Room>, StoreError> {
    let keys = mailboxes.map(|mailbox| vec![mailbox.0.into()]).collect();
    let mut rooms = HashMap::new();
    for row in tx.fetch_many(&ROOMS, keys).await? {
        let room = Room {
            messages: unsigned(row.int(1)?),
            bytes: unsigned(row.int(2)?),
            arrivals: unsigned(row.int(3)?),
            added: 0,
            added_bytes: 0,
        };
        rooms.insert(MailboxId(row.array(0)?), room);
    }
    Ok(rooms)
}

/// Queues what places were taken for, and counts it.
pub(crate) async fn enqueue(
    tx: &mut Tx<'_>,
    rooms: &HashMap<MailboxId, Room>,
    arrivals: &[Arrival<'_>],
) -> Result<(), StoreError> {
    let mut counts: Vec<_> = rooms.iter().filter(|(_, room)| room.added > 0).collect();
    // One order for everybody, so that nobody waits for somebody who waits for him.
    counts.sort_unstable_by_key(|(mailbox, _)| mailbox.0);
    let counts = counts
        .into_iter()
        .map(|(mailbox, room)| vec![mailbox.0.into(), int(room.added).into(), int(room.added_bytes).into()])
        .collect();
    tx.fetch_many(&COUNT_IN, counts).await?;
    tx.fetch_many(&ENQUEUE, arrivals.iter().map(row).collect()).await.map(drop)
}

fn row(arrival: &Arrival<'_>) -> Vec<Value> {
    let size = u64::try_from(arrival.envelope.len()).unwrap_or(u64::MAX);
    vec![
        arrival.mailbox.0.into(),
        arrival.message.0.into(),
        int(arrival.position).into(),
        int(arrival.at).into(),
        int(size).into(),
        arrival.envelope.clone().into(),
        arrival.reply.map(|reply| i64::from(reply.key_version)).into(),
        arrival.reply.map(|reply| i64::from(reply.epoch)).into(),
        arrival.reply.map(|reply| reply.presentation).into(),
    ]
}
