//! Bounded counters.

use postern_protocol::time::Timestamp;
use postern_store::{StoreError, Tx, Value};

use super::time;

const COUNT: &str = "insert into attempts (bucket, scope, window_start, count, expires) values ($1, $2, $3, 1, $4)
    on conflict (bucket, scope, window_start) do update set count = attempts.count + 1 where attempts.count < $5";
const GIVE_BACK: &str = "update attempts set count = count - 1
    where bucket = $1 and scope = $2 and window_start = $3 and count > 0";
const PRUNE: &str = "delete from attempts where expires <= $1";

/// Which counter, and how far it may count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    pub bucket: u32,
    pub scope: &'static str,
    pub window_start: Timestamp,
    pub expires: Timestamp,
    pub limit: u64,
}

impl Counter {
    fn key(&self) -> [Value; 3] {
        [Value::Int(self.bucket.into()), self.scope.into(), time(self.window_start)]
    }
}

/// Counts one; false if the limit is reached, and then nothing is counted.
pub(crate) async fn count(tx: &mut Tx<'_>, counter: &Counter) -> Result<bool, StoreError> {
    if counter.limit == 0 {
        return Ok(false);
    }
    let [bucket, scope, start] = counter.key();
    let args = [bucket, scope, start, time(counter.expires), super::count(counter.limit)];
    Ok(tx.execute(COUNT, &args).await? == 1)
}

/// Takes one back.
pub(crate) async fn give_back(tx: &mut Tx<'_>, counter: &Counter) -> Result<(), StoreError> {
    tx.execute(GIVE_BACK, &counter.key()).await.map(drop)
}

/// Drops the counters of windows that are over.
pub(crate) async fn prune(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PRUNE, &[time(now)]).await
}
