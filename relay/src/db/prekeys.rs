//! One-time prekeys: the unclaimed, and those that were handed out.

use postern_protocol::ids::{MailboxId, PrekeyClaim, SealedPrekey};
use postern_store::{Row, StoreError, Tx, Value};

use super::{int, unsigned};

const SUPPLY: &str = "SELECT batch, digest FROM prekey_supplies WHERE mailbox = $1";
const SET_SUPPLY: &str = "INSERT INTO prekey_supplies (mailbox, batch, digest) VALUES ($1, $2, $3) \
     ON CONFLICT (mailbox) DO UPDATE SET batch = excluded.batch, digest = excluded.digest";
const UNCLAIMED: &str = "SELECT COUNT(*) FROM prekeys WHERE mailbox = $1";
const CLAIMED: &str = "SELECT COUNT(*) FROM prekey_claims WHERE mailbox = $1";
const ADD: &str = "INSERT INTO prekeys (mailbox, batch, position, sealed) VALUES ($1, $2, $3, $4)";
const FIND_CLAIM: &str = "SELECT sealed FROM prekey_claims WHERE mailbox = $1 AND claim = $2";
const OLDEST: &str = "SELECT batch, position, sealed FROM prekeys WHERE mailbox = $1 ORDER BY batch, position LIMIT 1";
const NOTE_CLAIM: &str = "INSERT INTO prekey_claims (mailbox, claim, sealed, kept_until) VALUES ($1, $2, $3, $4)";
const TAKE: &str = "DELETE FROM prekeys WHERE mailbox = $1 AND batch = $2 AND position = $3";

/// The last upload that was taken.
pub(crate) struct LastUpload {
    pub(crate) batch: u64,
    /// SHA-256 of it.
    pub(crate) digest: [u8; 32],
}

/// The last upload; none before the first.
pub(crate) async fn last_upload(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<Option<LastUpload>, StoreError> {
    let row = tx.fetch_optional(SUPPLY, &[mailbox.0.into()]).await?;
    row.map(|row| Ok(LastUpload { batch: unsigned(row.int(0)?), digest: row.array(1)? })).transpose()
}

/// Notes an upload as the last.
pub(crate) async fn set_last_upload(tx: &mut Tx<'_>, mailbox: &MailboxId, last: &LastUpload) -> Result<(), StoreError> {
    tx.execute(SET_SUPPLY, &[mailbox.0.into(), int(last.batch).into(), last.digest.into()]).await?;
    Ok(())
}

/// Adds the prekeys of an upload, in their order.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    batch: u64,
    prekeys: &[SealedPrekey],
) -> Result<(), StoreError> {
    for (position, sealed) in (0i64..).zip(prekeys) {
        tx.execute(ADD, &[mailbox.0.into(), int(batch).into(), position.into(), sealed.0.into()]).await?;
    }
    Ok(())
}

/// How many nobody has claimed.
pub(crate) async fn unclaimed(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<u64, StoreError> {
    count(tx, UNCLAIMED, mailbox).await
}

/// How many were claimed and are still remembered.
pub(crate) async fn claimed(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<u64, StoreError> {
    count(tx, CLAIMED, mailbox).await
}

async fn count(tx: &mut Tx<'_>, sql: &'static str, mailbox: &MailboxId) -> Result<u64, StoreError> {
    let row = tx.fetch_optional(sql, &[mailbox.0.into()]).await?;
    row.map_or(Ok(0), |row| row.int(0).map(unsigned))
}

/// What this claim got, if it got anything.
pub(crate) async fn of_claim(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    claim: &PrekeyClaim,
) -> Result<Option<SealedPrekey>, StoreError> {
    let row = tx.fetch_optional(FIND_CLAIM, &[mailbox.0.into(), claim.0.into()]).await?;
    row.map(|row| Ok(SealedPrekey(row.array(0)?))).transpose()
}

/// A prekey that nobody has claimed.
pub(crate) struct Unclaimed {
    batch: i64,
    position: i64,
    pub(crate) sealed: SealedPrekey,
}

impl Unclaimed {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { batch: row.int(0)?, position: row.int(1)?, sealed: SealedPrekey(row.array(2)?) })
    }
}

/// The oldest; none if the supply is used up.
pub(crate) async fn oldest(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<Option<Unclaimed>, StoreError> {
    let row = tx.fetch_optional(OLDEST, &[mailbox.0.into()]).await?;
    row.as_ref().map(Unclaimed::read).transpose()
}

/// Gives a prekey to a claim that has none; `false` if another was faster.
pub(crate) async fn give(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    claim: &PrekeyClaim,
    prekey: &Unclaimed,
    kept_until: u64,
) -> Result<bool, StoreError> {
    let taken: [Value; 3] = [mailbox.0.into(), prekey.batch.into(), prekey.position.into()];
    if tx.execute(TAKE, &taken).await? != 1 {
        return Ok(false);
    }
    let noted = [mailbox.0.into(), claim.0.into(), prekey.sealed.0.into(), int(kept_until).into()];
    tx.execute(NOTE_CLAIM, &noted).await?;
    Ok(true)
}
