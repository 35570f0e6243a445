//! Bounded counters.

use std::collections::HashMap;

use postern_protocol::time::Timestamp;
use postern_store::{Row, StoreError, Tx, Value};

use super::parts::{PARTS, Part};
use super::time;

const COUNT: &str = "insert into attempts (bucket, scope, window_start, count, expires) values ($1, $2, $3, 1, $4)
    on conflict (bucket, scope, window_start) do update set count = attempts.count + 1 where attempts.count < $5";
const HELD: &str = "select bucket, count from attempts
    where bucket >= $1 and bucket < $2 and scope = $3 and window_start = $4";
const GIVE_BACK: &str = "update attempts set count = count - 1
    where bucket = $1 and scope = $2 and window_start = $3 and count > 0";
const IS_SET: &str = "select 1 from attempts where bucket = $1 and scope = $2 and window_start >= $3 limit 1";
const PRUNE: &str = "delete from attempts where expires <= $1";

/// Which counter, and how far it may count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    /// Its bucket; of a counter in parts the first one's, a multiple of [`PARTS`].
    pub bucket: u32,
    pub scope: &'static str,
    pub window_start: Timestamp,
    pub expires: Timestamp,
    pub limit: u64,
    /// Which part is counted on, of a counter that all users count on.
    pub part: Option<Part>,
}

impl Counter {
    fn key(&self) -> [Value; 3] {
        let bucket = self.bucket.saturating_add(self.part.map_or(0, Part::number));
        [Value::Int(bucket.into()), self.scope.into(), time(self.window_start)]
    }

    fn share(&self) -> u64 {
        self.part.map_or(self.limit, |part| part.share(self.limit))
    }
}

/// Counts one, and returns where; none if the limit is reached, and then nothing is counted.
pub(crate) async fn count(tx: &mut Tx<'_>, counter: &Counter) -> Result<Option<Counter>, StoreError> {
    if count_here(tx, counter).await? {
        return Ok(Some(*counter));
    }
    let Some(drawn) = counter.part else { return Ok(None) };
    // The one that was drawn is full. Whoever looks at all of them is in everybody's way: it is done near the limit alone.
    let held = held(tx, counter).await?;
    for part in drawn.all_from() {
        let other = Counter { part: Some(part), ..*counter };
        if held.get(&part.number()).is_none_or(|held| *held < other.share()) && count_here(tx, &other).await? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

async fn count_here(tx: &mut Tx<'_>, counter: &Counter) -> Result<bool, StoreError> {
    if counter.share() == 0 {
        return Ok(false);
    }
    let [bucket, scope, start] = counter.key();
    let args = [bucket, scope, start, time(counter.expires), super::count(counter.share())];
    Ok(tx.execute(COUNT, &args).await? == 1)
}

/// What the parts of a counter hold, by number; those that are missing hold nothing.
async fn held(tx: &mut Tx<'_>, counter: &Counter) -> Result<HashMap<u32, u64>, StoreError> {
    let (first, end) = (i64::from(counter.bucket), i64::from(counter.bucket.saturating_add(PARTS)));
    let args = [first.into(), end.into(), counter.scope.into(), time(counter.window_start)];
    let rows = tx.fetch_all(HELD, &args).await?;
    let read = |row: &Row| {
        let part = u32::try_from(row.int(0)?.saturating_sub(first)).unwrap_or(u32::MAX);
        Ok((part, super::counted(row.int(1)?, 1)?))
    };
    rows.iter().map(read).collect()
}

/// Whether this bucket counted anything in its window or in an earlier one that began at `since` or later.
pub(crate) async fn is_set_since(tx: &mut Tx<'_>, counter: &Counter, since: Timestamp) -> Result<bool, StoreError> {
    let [bucket, scope, _] = counter.key();
    Ok(!tx.fetch_all(IS_SET, &[bucket, scope, time(since)]).await?.is_empty())
}

/// Takes one back.
pub(crate) async fn give_back(tx: &mut Tx<'_>, counter: &Counter) -> Result<(), StoreError> {
    tx.execute(GIVE_BACK, &counter.key()).await.map(drop)
}

/// Drops the counters of windows that are over.
pub(crate) async fn prune(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PRUNE, &[time(now)]).await
}
