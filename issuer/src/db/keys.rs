//! Token keys, and what each has signed.

use std::collections::HashMap;

use postern_protocol::ids::TokenKeyId;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::KeyState;
use postern_store::{Row, StoreError, Tx};

use super::parts::Part;
use super::{count, counted, time, timestamp};

/// Active first, then the youngest: the order of the directory.
const LIVE: &str = "select key_id, state, spki, not_after from token_keys
    where not_after is null or not_after > $1 order by state, created desc, key_id";
const EXPIRED: &str = "select key_id, state, spki, not_after from token_keys where not_after <= $1";
const STATE: &str = "select state from token_keys where key_id = $1";
const PRIVATE: &str = "select private_key from token_keys where key_id = $1";
const RETIRE_ACTIVE: &str = "update token_keys set state = 'retiring', not_after = $1 where state = 'active'";
const INSERT: &str = "insert into token_keys (key_id, state, private_key, spki, created, not_after)
    values ($1, 'active', $2, $3, $4, null)";
const ERASE_PRIVATE: &str = "update token_keys set private_key = $2 where key_id = $1";
const DELETE: &str = "delete from token_keys where key_id = $1";

const ADD: &str = "insert into key_counts (key_id, relay, part, count, created) values ($1, $2, $3, $4, $5)
    on conflict (key_id, relay, part) do update set count = key_counts.count + excluded.count
    where key_counts.count + excluded.count <= $6";
const COUNTERS: &str = "select key_id, relay, cast(sum(count) as bigint) from key_counts
    group by key_id, relay order by min(created) desc, key_id, relay";
const PARTS_OF: &str = "select part, count from key_counts where key_id = $1 and relay = $2";
const ISSUED: &str = "select cast(coalesce(sum(count), 0) as bigint) from key_counts where relay = ''";

/// In `key_counts`, what counts tokens for accounts instead of exchanges at a relay.
pub(crate) const ACCOUNTS: &str = "";

/// A key without its private half.
#[derive(Clone, Debug)]
pub(crate) struct KeyRow {
    pub key_id: TokenKeyId,
    pub state: KeyState,
    pub spki: Vec<u8>,
    pub not_after: Option<Timestamp>,
}

fn read(row: &Row) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        key_id: TokenKeyId(row.array(0)?),
        state: read_state(row, 1)?,
        spki: row.blob(2)?,
        not_after: row.opt_int(3)?.map(timestamp),
    })
}

fn read_state(row: &Row, index: usize) -> Result<KeyState, StoreError> {
    match row.text(index)?.as_str() {
        "active" => Ok(KeyState::Active),
        "retiring" => Ok(KeyState::Retiring),
        _ => Err(StoreError::Column { index, expected: "a key state" }),
    }
}

/// The keys whose tokens are accepted, active first.
pub(crate) async fn live(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<KeyRow>, StoreError> {
    tx.fetch_all(LIVE, &[time(now)]).await?.iter().map(read).collect()
}

/// The keys whose time is over and that are still there.
pub(crate) async fn expired(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<KeyRow>, StoreError> {
    tx.fetch_all(EXPIRED, &[time(now)]).await?.iter().map(read).collect()
}

/// Whether this key signs, as of this transaction.
pub(crate) async fn is_active(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<bool, StoreError> {
    let row = tx.fetch_optional(STATE, &[key.0.into()]).await?;
    row.map_or(Ok(false), |row| Ok(read_state(&row, 0)? == KeyState::Active))
}

/// The sealed private half.
pub(crate) async fn sealed_private(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<Option<Vec<u8>>, StoreError> {
    tx.fetch_optional(PRIVATE, &[key.0.into()]).await?.map(|row| row.blob(0)).transpose()
}

/// Makes the active key retiring until `not_after`, and the new one active.
pub(crate) async fn succeed(
    tx: &mut Tx<'_>,
    key: &TokenKeyId,
    sealed_private: &[u8],
    spki: &[u8],
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(RETIRE_ACTIVE, &[time(not_after)]).await?;
    let args = [key.0.into(), sealed_private.into(), spki.into(), time(now)];
    tx.execute(INSERT, &args).await.map(drop)
}

/// Erases the private half of a key whose time is over.
pub(crate) async fn erase_private(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<(), StoreError> {
    tx.execute(ERASE_PRIVATE, &[key.0.into(), Vec::new().into()]).await.map(drop)
}

/// Deletes a key; what it signed must have been dropped before.
pub(crate) async fn delete(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<(), StoreError> {
    tx.execute(DELETE, &[key.0.into()]).await.map(drop)
}

/// Counts `n` signatures of a key for accounts ([`ACCOUNTS`]) or a relay, in this part of the counter; false if the part would be above
/// `limit`, and then nothing is counted.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    (key, relay, part): (&TokenKeyId, &str, Part),
    n: u64,
    limit: u64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if n > limit {
        return Ok(false);
    }
    let args = [key.0.into(), relay.into(), count(part.number().into()), count(n), time(now), count(limit)];
    Ok(tx.execute(ADD, &args).await? == 1)
}

/// Every counter, those of the youngest key first.
pub(crate) async fn counters(tx: &mut Tx<'_>) -> Result<Vec<(TokenKeyId, String, u64)>, StoreError> {
    let rows = tx.fetch_all(COUNTERS, &[]).await?;
    rows.iter().map(|row| Ok((TokenKeyId(row.array(0)?), row.text(1)?, counted(row.int(2)?, 2)?))).collect()
}

/// What the parts of one counter hold, by number; those that are missing hold nothing.
pub(crate) async fn parts_of(tx: &mut Tx<'_>, key: &TokenKeyId, relay: &str) -> Result<HashMap<u32, u64>, StoreError> {
    let rows = tx.fetch_all(PARTS_OF, &[key.0.into(), relay.into()]).await?;
    rows.iter()
        .map(|row| Ok((u32::try_from(counted(row.int(0)?, 0)?).unwrap_or(u32::MAX), counted(row.int(1)?, 1)?)))
        .collect()
}

/// Tokens for accounts under all keys there ever were.
pub(crate) async fn issued(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    tx.fetch_optional(ISSUED, &[]).await?.map_or(Ok(0), |row| counted(row.int(0)?, 0))
}
