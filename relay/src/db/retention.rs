//! What is forgotten: old messages, the ledger rows of keys that have ended, what was kept of epochs that are over, and prekeys that were
//! claimed some time ago.

use std::collections::HashSet;

use postern_protocol::ids::{MailboxId, MessageId, TokenKeyId};
use postern_store::{StoreError, Tx};

use super::send::TokenState;
use super::{corrupt, int};

const OLD_MESSAGES: &str =
    "SELECT mailbox, message FROM messages WHERE arrived_at < $1 ORDER BY arrived_at, mailbox, message LIMIT $2";
const FENCE: &str = "INSERT INTO retired_keys (key_id) VALUES ($1) ON CONFLICT (key_id) DO NOTHING";
const ROWS_OF_KEY: &str = "SELECT nullifier, state FROM ledger WHERE key_id = $1 LIMIT $2";
const DROP_ROW: &str = "DELETE FROM ledger WHERE nullifier = $1";
const COUNT_ROWS: &str = "UPDATE retired_keys SET attached = attached + $2, released = released + $3, burnt = burnt + $4, \
     exchanging = exchanging + $5, exchanged = exchanged + $6 WHERE key_id = $1";
const FORGET_KEY: &str = "DELETE FROM token_keys WHERE key_id = $1";
// Only as far as there are rows to drop: a clock that was ahead for a moment must not shut out the time in between.
const LAST_USED_EPOCH: &str = "SELECT max(epoch) FROM reply_nullifiers WHERE epoch <= $1";
const RAISE_REPLY_FENCE: &str = "UPDATE reply_fence SET epoch = $1 WHERE epoch < $1";
const REPLY_FENCE: &str = "SELECT epoch FROM reply_fence";
const DROP_NULLIFIERS: &str = "DELETE FROM reply_nullifiers WHERE (mailbox, epoch, nullifier) IN \
     (SELECT mailbox, epoch, nullifier FROM reply_nullifiers WHERE epoch <= $1 LIMIT $2)";
const DROP_STRIKES: &str = "DELETE FROM reply_strikes WHERE (mailbox, epoch, nullifier) IN \
     (SELECT mailbox, epoch, nullifier FROM reply_strikes WHERE epoch <= $1 LIMIT $2)";
const DROP_REVEALS: &str = "DELETE FROM reply_reveals WHERE (mailbox, key_version, period, digest) IN \
     (SELECT mailbox, key_version, period, digest FROM reply_reveals WHERE last_period < $1 LIMIT $2)";
const DROP_CLAIMS: &str = "DELETE FROM prekey_claims WHERE (mailbox, claim) IN \
     (SELECT mailbox, claim FROM prekey_claims WHERE kept_until < $1 LIMIT $2)";
const DROP_BELLS: &str = "DELETE FROM bells WHERE rung_at < $1";

/// Some messages that arrived before `before` (Unix seconds).
pub(crate) async fn old_messages(
    tx: &mut Tx<'_>,
    before: u64,
    limit: u64,
) -> Result<HashSet<(MailboxId, MessageId)>, StoreError> {
    let rows = tx.fetch_all(OLD_MESSAGES, &[int(before).into(), int(limit).into()]).await?;
    rows.iter().map(|row| Ok((MailboxId(row.array(0)?), MessageId(row.array(1)?)))).collect()
}

/// From here on no token of the key is accepted, so that its rows can go.
pub(crate) async fn fence(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<(), StoreError> {
    tx.execute(FENCE, &[key.0.into()]).await?;
    Ok(())
}

/// Drops some rows of a fenced key and adds what they said to its counts. Returns how many; 0 when all are gone.
pub(crate) async fn drop_rows(tx: &mut Tx<'_>, key: &TokenKeyId, limit: u64) -> Result<usize, StoreError> {
    let rows = tx.fetch_all(ROWS_OF_KEY, &[key.0.into(), int(limit).into()]).await?;
    let (mut attached, mut released, mut burnt, mut exchanging, mut exchanged) = (0i64, 0i64, 0i64, 0i64, 0i64);
    for row in &rows {
        // Another process may be at it as well: only what this statement deleted is counted.
        let deleted = i64::from(tx.execute(DROP_ROW, &[row.blob(0)?.into()]).await? == 1);
        let counter = match TokenState::parse(&row.text(1)?)? {
            TokenState::Attached => &mut attached,
            TokenState::Released => &mut released,
            TokenState::Burnt => &mut burnt,
            TokenState::Exchanging => &mut exchanging,
            TokenState::Exchanged => &mut exchanged,
        };
        *counter += deleted;
    }
    let counts = [key.0.into(), attached.into(), released.into(), burnt.into(), exchanging.into(), exchanged.into()];
    tx.execute(COUNT_ROWS, &counts).await?;
    Ok(rows.len())
}

/// Forgets the key itself.
pub(crate) async fn forget_key(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<(), StoreError> {
    tx.execute(FORGET_KEY, &[key.0.into()]).await?;
    Ok(())
}

/// From here on no reply of the epochs up to `over` that were used is accepted, so that their rows can go. Returns the fence as it
/// stands: it never goes back. None while it stands before all epochs.
pub(crate) async fn fence_epochs(tx: &mut Tx<'_>, over: u32) -> Result<Option<u32>, StoreError> {
    let used = tx.fetch_optional(LAST_USED_EPOCH, &[i64::from(over).into()]).await?;
    if let Some(used) = used.map(|row| row.opt_int(0)).transpose()?.flatten() {
        tx.execute(RAISE_REPLY_FENCE, &[used.into()]).await?;
    }
    let row = tx.fetch_optional(REPLY_FENCE, &[]).await?.ok_or(corrupt(0, "the fence"))?;
    Ok(u32::try_from(row.int(0)?).ok())
}

/// Drops some nullifiers of fenced epochs. Returns how many; 0 when all are gone.
pub(crate) async fn drop_nullifiers(tx: &mut Tx<'_>, fence: u32, limit: u64) -> Result<u64, StoreError> {
    tx.execute(DROP_NULLIFIERS, &[i64::from(fence).into(), int(limit).into()]).await
}

/// Drops some strikes of epochs up to `over`. Returns how many; 0 when all are gone.
pub(crate) async fn drop_strikes(tx: &mut Tx<'_>, over: u32, limit: u64) -> Result<u64, StoreError> {
    tx.execute(DROP_STRIKES, &[i64::from(over).into(), int(limit).into()]).await
}

/// Drops some reveals whose last period lies before `period`. Returns how many; 0 when all are gone.
pub(crate) async fn drop_reveals(tx: &mut Tx<'_>, period: u32, limit: u64) -> Result<u64, StoreError> {
    tx.execute(DROP_REVEALS, &[i64::from(period).into(), int(limit).into()]).await
}

/// Drops some claims of prekeys that were kept until before `now` (Unix seconds). Returns how many; 0 when all are gone.
pub(crate) async fn drop_claims(tx: &mut Tx<'_>, now: u64, limit: u64) -> Result<u64, StoreError> {
    tx.execute(DROP_CLAIMS, &[int(now).into(), int(limit).into()]).await
}

/// Drops the bells of processes that have not rung since `before` (Unix seconds): if one does again, it gets a new row.
pub(crate) async fn drop_bells(tx: &mut Tx<'_>, before: u64) -> Result<(), StoreError> {
    tx.execute(DROP_BELLS, &[int(before).into()]).await.map(drop)
}
