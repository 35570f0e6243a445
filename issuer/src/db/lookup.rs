//! Look-up tokens: what accounts had of them, and what they were spent on.

use postern_protocol::ids::LookupNullifier;
use postern_protocol::time::Timestamp;
use postern_store::{Column, Many, StoreError, Tx};

use super::{count, counted, time};

const ALLOWANCE: &str = "select first_window, time_window, issued from lookup_allowance where account = $1";
const BEGIN: &str = "insert into lookup_allowance (account, first_window, time_window, issued) values ($1, $2, $2, 0)
    on conflict (account) do nothing";
/// Nothing happens beyond the quota, nor in a window before the last one.
const TAKE: &str = "update lookup_allowance
    set issued = $3 + case when time_window = $2 then issued else 0 end, time_window = $2
    where account = $1 and time_window <= $2
    and $3 + case when time_window = $2 then issued else 0 end <= case when first_window = $2 then $4 else $5 end";
const FIND_ISSUANCE: &str = "select time_window from lookup_issuances where account = $1 and request_digest = $2";
const INSERT_ISSUANCE: &str =
    "insert into lookup_issuances (account, request_digest, time_window, count) values ($1, $2, $3, $4)";

const FENCE: &str = "select time_window from lookup_fence where id = 1";
const RAISE_FENCE: &str = "update lookup_fence set time_window = $1 where id = 1 and time_window < $1";
const PIN_WINDOWS: &str = "update lookup_fence set window_seconds = $1 where id = 1 and window_seconds is null";
const ARE_WINDOWS: &str = "select id from lookup_fence where id = 1 and window_seconds = $1";
const FIND_SPENT: &str = "select request_digest, oprf_epoch from lookup_spent where nullifier = $1";
static SPEND: Many = Many::rows(
    "insert into lookup_spent (nullifier, time_window, request_digest, oprf_epoch)
    values ($1, $2, $3, $4) on conflict do nothing returning nullifier",
    &[Column::Blob, Column::Int, Column::Blob, Column::Int],
);
/// A few at a time, so that nobody waits for the whole of it.
const DROP_SPENT: &str = "delete from lookup_spent where nullifier in
    (select nullifier from lookup_spent where time_window <= $1 limit 500)";
const DROP_ISSUANCES: &str = "delete from lookup_issuances where (account, request_digest) in
    (select account, request_digest from lookup_issuances where time_window <= $1 limit 500)";

const LAST_EPOCH: &str = "select max(epoch) from oprf_epochs";
const INSERT_EPOCH: &str = "insert into oprf_epochs (epoch, created) values ($1, $2)";

/// What an account had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllowanceRow {
    pub first_window: u64,
    pub window: u64,
    pub issued: u64,
}

/// How much an account may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub first: u64,
    pub later: u64,
}

/// What an account had; `None` if it never asked.
pub(crate) async fn allowance(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<Option<AllowanceRow>, StoreError> {
    let row = tx.fetch_optional(ALLOWANCE, &[account.into()]).await?;
    row.map(|row| {
        let number = |index| counted(row.int(index)?, index);
        Ok(AllowanceRow { first_window: number(0)?, window: number(1)?, issued: number(2)? })
    })
    .transpose()
}

/// Takes `n` of what the account may have in a window; false if that would be too many, or the window is not the last one
/// any more. Give the transaction up then.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    window: u64,
    n: u64,
    quota: Quota,
) -> Result<bool, StoreError> {
    tx.execute(BEGIN, &[account.into(), count(window)]).await?;
    let args = [account.into(), count(window), count(n), count(quota.first), count(quota.later)];
    Ok(tx.execute(TAKE, &args).await? == 1)
}

/// The window that this request was counted in.
pub(crate) async fn find_issuance(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    request: &[u8; 32],
) -> Result<Option<u64>, StoreError> {
    let row = tx.fetch_optional(FIND_ISSUANCE, &[account.into(), request.into()]).await?;
    row.map(|row| counted(row.int(0)?, 0)).transpose()
}

/// Records that this request was counted.
pub(crate) async fn insert_issuance(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    request: &[u8; 32],
    window: u64,
    n: u64,
) -> Result<(), StoreError> {
    tx.execute(INSERT_ISSUANCE, &[account.into(), request.into(), count(window), count(n)]).await.map(drop)
}

/// Whether what was spent of a window is not kept any more, so that nothing of it may be spent.
pub(crate) async fn is_fenced(tx: &mut Tx<'_>, window: u64) -> Result<bool, StoreError> {
    let row = tx.fetch_optional(FENCE, &[]).await?.ok_or(StoreError::Column { index: 0, expected: "the fence" })?;
    Ok(u64::try_from(row.int(0)?).is_ok_and(|fence| window <= fence))
}

/// Refuses windows up to this one from now on.
pub(crate) async fn raise_fence(tx: &mut Tx<'_>, window: u64) -> Result<(), StoreError> {
    tx.execute(RAISE_FENCE, &[count(window)]).await.map(drop)
}

/// Whether windows are as long as ever; the first time they are, it is written down.
pub(crate) async fn are_windows(tx: &mut Tx<'_>, window_seconds: u32) -> Result<bool, StoreError> {
    tx.execute(PIN_WINDOWS, &[count(window_seconds.into())]).await?;
    Ok(tx.fetch_optional(ARE_WINDOWS, &[count(window_seconds.into())]).await?.is_some())
}

/// The request that a token was spent in, and the epoch that it is evaluated with.
pub(crate) async fn find_spent(
    tx: &mut Tx<'_>,
    nullifier: &LookupNullifier,
) -> Result<Option<([u8; 32], u32)>, StoreError> {
    let row = tx.fetch_optional(FIND_SPENT, &[nullifier.0.into()]).await?;
    row.map(|row| Ok((row.array(0)?, epoch(row.int(1)?, 1)?))).transpose()
}

/// Spends the tokens that were not spent before; how many those were. Give the transaction up if it shall be all or none.
pub(crate) async fn spend(
    tx: &mut Tx<'_>,
    nullifiers: &[LookupNullifier],
    window: u64,
    request: &[u8; 32],
    oprf_epoch: u32,
) -> Result<usize, StoreError> {
    // One order for everybody, so that nobody waits for somebody who waits for him.
    let mut sorted: Vec<_> = nullifiers.iter().collect();
    sorted.sort_unstable_by_key(|nullifier| nullifier.0);
    let row =
        |nullifier: &LookupNullifier| vec![nullifier.0.into(), count(window), request.into(), count(oprf_epoch.into())];
    Ok(tx.fetch_many(&SPEND, sorted.into_iter().map(row).collect()).await?.len())
}

/// Drops some rows of windows up to this one, which must be behind the fence; 0 when nothing is left.
pub(crate) async fn drop_some(tx: &mut Tx<'_>, window: u64) -> Result<u64, StoreError> {
    let spent = tx.execute(DROP_SPENT, &[count(window)]).await?;
    Ok(spent + tx.execute(DROP_ISSUANCES, &[count(window)]).await?)
}

/// The greatest epoch of the VOPRF's key; `None` for the first.
pub(crate) async fn last_epoch(tx: &mut Tx<'_>) -> Result<Option<u32>, StoreError> {
    let row = tx.fetch_optional(LAST_EPOCH, &[]).await?;
    row.and_then(|row| row.opt_int(0).transpose()).map(|stored| epoch(stored?, 0)).transpose()
}

/// Begins an epoch.
pub(crate) async fn insert_epoch(tx: &mut Tx<'_>, epoch: u32, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(INSERT_EPOCH, &[count(epoch.into()), time(now)]).await.map(drop)
}

fn epoch(stored: i64, index: usize) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| StoreError::Column { index, expected: "an epoch" })
}
