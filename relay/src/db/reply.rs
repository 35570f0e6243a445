//! Replies: group secrets (sealed), nullifiers, and the fence behind which epochs are forgotten (design §3).

use std::collections::HashSet;

use postern_credentials::reply_credential::ReplyNullifier;
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::reply::ReplyPolicy;
use postern_store::{Column, Many, Row, StoreError, Tx, Value};

use super::corrupt;

const KEY: &str = "SELECT sealed FROM reply_keys WHERE mailbox = $1 AND key_version = $2";
const KEYS: &str = "SELECT key_version, sealed FROM reply_keys WHERE mailbox = $1";
const PUT_KEY: &str = "INSERT INTO reply_keys (mailbox, key_version, sealed) VALUES ($1, $2, $3)";
const DROP_KEY: &str = "DELETE FROM reply_keys WHERE mailbox = $1 AND key_version = $2";
const FIND: &str =
    "SELECT request_digest, message FROM reply_nullifiers WHERE mailbox = $1 AND epoch = $2 AND nullifier = $3";
static TAKE: Many = Many::rows(
    "INSERT INTO reply_nullifiers (mailbox, epoch, nullifier, request_digest, message) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (mailbox, epoch, nullifier) DO NOTHING RETURNING mailbox, epoch, nullifier",
    &[Column::Blob, Column::Int, Column::Blob, Column::Blob, Column::Blob],
);
const UNTAKE: &str = "DELETE FROM reply_nullifiers WHERE mailbox = $1 AND epoch = $2 AND nullifier = $3";
static VERSIONS: Many =
    Many::list("SELECT mailbox, key_version FROM reply_keys WHERE mailbox IN ($1)", &[Column::Blob]);
static CAME: Many = Many::rows(
    "WITH named (mailbox, message) AS (VALUES ($1, $2)) SELECT mailbox, message FROM reply_nullifiers \
     WHERE (mailbox, message) IN (SELECT mailbox, message FROM named)",
    &[Column::Blob, Column::Blob],
);
const PIN_POLICY: &str = "UPDATE reply_fence SET epoch_seconds = $1, period_seconds = $2 WHERE epoch_seconds IS NULL";
const IS_POLICY: &str = "SELECT 1 FROM reply_fence WHERE epoch_seconds = $1 AND period_seconds = $2";
const FENCE: &str = "SELECT epoch FROM reply_fence WHERE one = 1";

/// A version of a mailbox's group secret, sealed; none if the relay has it not.
pub(crate) async fn key(tx: &mut Tx<'_>, mailbox: &MailboxId, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
    let row = tx.fetch_optional(KEY, &[mailbox.0.into(), i64::from(version).into()]).await?;
    row.map(|row| row.blob(0)).transpose()
}

/// All versions of a mailbox's group secret, sealed.
pub(crate) async fn keys(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    let rows = tx.fetch_all(KEYS, &[mailbox.0.into()]).await?;
    let read = |row: &Row| {
        let version = u32::try_from(row.int(0)?).map_err(|_| corrupt(0, "a 32-bit number"))?;
        Ok((version, row.blob(1)?))
    };
    rows.iter().map(read).collect()
}

/// Keeps a version that is not there yet.
pub(crate) async fn put_key(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    version: u32,
    sealed: &[u8],
) -> Result<(), StoreError> {
    tx.execute(PUT_KEY, &[mailbox.0.into(), i64::from(version).into(), sealed.into()]).await?;
    Ok(())
}

/// Forgets a version.
pub(crate) async fn drop_key(tx: &mut Tx<'_>, mailbox: &MailboxId, version: u32) -> Result<(), StoreError> {
    tx.execute(DROP_KEY, &[mailbox.0.into(), i64::from(version).into()]).await?;
    Ok(())
}

/// One slot of one contact in one epoch; whose, nobody here can tell.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) mailbox: MailboxId,
    pub(crate) epoch: u32,
    pub(crate) nullifier: ReplyNullifier,
}

impl Slot {
    /// Mailbox (32) ‖ epoch (4) ‖ nullifier (8).
    pub(crate) fn name(&self) -> [u8; 44] {
        let mut name = [0; 44];
        let (mailbox, rest) = name.split_at_mut(32);
        let (epoch, nullifier) = rest.split_at_mut(4);
        mailbox.copy_from_slice(&self.mailbox.0);
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        nullifier.copy_from_slice(&self.nullifier.0);
        name
    }

    pub(super) fn key(&self) -> [Value; 3] {
        [self.mailbox.0.into(), i64::from(self.epoch).into(), self.nullifier.0.into()]
    }
}

/// What a slot was used for.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// SHA-256 of presentation ‖ SHA-512 of the envelope.
    pub(crate) request_digest: [u8; 32],
    /// What was answered.
    pub(crate) message: MessageId,
}

/// What the slot was used for; none if it is unseen.
pub(crate) async fn find(tx: &mut Tx<'_>, slot: &Slot) -> Result<Option<Taken>, StoreError> {
    let row = tx.fetch_optional(FIND, &slot.key()).await?;
    row.map(|row| Ok(Taken { request_digest: row.array(0)?, message: MessageId(row.array(1)?) })).transpose()
}

/// Uses the slots that are unused; which they were ([`Slot::name`]). One that comes twice is used once, for what it comes with first.
pub(crate) async fn take(tx: &mut Tx<'_>, slots: Vec<(&Slot, &Taken)>) -> Result<HashSet<[u8; 44]>, StoreError> {
    let mut named: Vec<_> = slots.into_iter().map(|(slot, taken)| (slot.name(), slot, taken)).collect();
    // Stable: the message that is queued is the first that names the slot, and the row must be of no other.
    named.sort_by_key(|(name, ..)| *name);
    named.dedup_by_key(|(name, ..)| *name);
    let row = |(_, slot, taken): (_, &Slot, &Taken)| {
        let [mailbox, epoch, nullifier] = slot.key();
        vec![mailbox, epoch, nullifier, taken.request_digest.into(), taken.message.0.into()]
    };
    let rows = tx.fetch_many(&TAKE, named.into_iter().map(row).collect()).await?;
    let read = |row: &Row| {
        let epoch = u32::try_from(row.int(1)?).map_err(|_| corrupt(1, "a 32-bit number"))?;
        Ok(Slot { mailbox: MailboxId(row.array(0)?), epoch, nullifier: ReplyNullifier(row.array(2)?) }.name())
    };
    rows.iter().map(read).collect()
}

/// Takes back that a slot was used, in the transaction in which it was.
pub(crate) async fn untake(tx: &mut Tx<'_>, slot: &Slot) -> Result<(), StoreError> {
    tx.execute(UNTAKE, &slot.key()).await.map(drop)
}

/// The versions of these mailboxes' group secrets.
pub(crate) async fn versions(
    tx: &mut Tx<'_>,
    mailboxes: HashSet<MailboxId>,
) -> Result<HashSet<(MailboxId, u32)>, StoreError> {
    let rows = tx.fetch_many(&VERSIONS, mailboxes.into_iter().map(|mailbox| vec![mailbox.0.into()]).collect()).await?;
    let read = |row: &Row| {
        let version = u32::try_from(row.int(1)?).map_err(|_| corrupt(1, "a 32-bit number"))?;
        Ok((MailboxId(row.array(0)?), version))
    };
    rows.iter().map(read).collect()
}

/// Those of these that are replies which came to their mailbox, in an epoch that is not dropped yet.
pub(crate) async fn came(
    tx: &mut Tx<'_>,
    messages: HashSet<(MailboxId, MessageId)>,
) -> Result<HashSet<(MailboxId, MessageId)>, StoreError> {
    let keys = messages.into_iter().map(|(mailbox, message)| vec![mailbox.0.into(), message.0.into()]).collect();
    let rows = tx.fetch_many(&CAME, keys).await?;
    rows.iter().map(|row| Ok((MailboxId(row.array(0)?), MessageId(row.array(1)?)))).collect()
}

/// The last epoch whose nullifiers have been dropped: nothing can say any more which slots were used up to it. None before the first.
pub(crate) async fn fence(tx: &mut Tx<'_>) -> Result<Option<u32>, StoreError> {
    let row = tx.fetch_optional(FENCE, &[]).await?.ok_or_else(|| corrupt(0, "the fence"))?;
    Ok(u32::try_from(row.int(0)?).ok())
}

/// Whether epochs are counted as ever; the first time they are, it is written down.
pub(crate) async fn is_policy(tx: &mut Tx<'_>, policy: &ReplyPolicy) -> Result<bool, StoreError> {
    let args: [Value; 2] = [i64::from(policy.epoch_seconds).into(), i64::from(policy.period_seconds).into()];
    tx.execute(PIN_POLICY, &args).await?;
    Ok(tx.fetch_optional(IS_POLICY, &args).await?.is_some())
}
