//! Leases: of all processes on one database, one at a time does a job that would be a waste to do twice.
//!
//! Nothing is decided by a lease (ADR 17): clocks differ, and whoever slept past its time finds out at its next step only. A job must be
//! right if two do it at once; it holds a lease so that they seldom do. The table `leases` is in the migrations of each server that has
//! jobs: `name` TEXT, its key; `holder` BLOB; `until` BIGINT, Unix seconds.

use std::time::Duration;

use postern_protocol::time::Timestamp;

use crate::{Db, StoreError, Tx, Value};

/// Takes it if nobody has it or its time is over, renews it if it is the caller's own; so saying it twice is saying it once.
const TAKE: &str = "insert into leases (name, holder, until) values ($1, $2, $3)
    on conflict (name) do update set holder = excluded.holder, until = excluded.until
    where leases.until <= $4 or leases.holder = excluded.holder returning name";
const GIVE_BACK: &str = "delete from leases where name = $1 and holder = $2";

/// A holder does not wait longer than this to give its lease back: it runs out as well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who holds a lease: 16 random bytes.
pub type Holder = [u8; 16];

/// A lease that this process holds, or held when it last looked.
#[derive(Debug)]
pub struct Lease {
    db: Db,
    name: &'static str,
    holder: Holder,
    seconds: u64,
    taken: Timestamp,
}

impl Lease {
    /// Takes the lease `name` until `seconds` from `now`, or renews it; none while somebody else has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take(
        db: &Db,
        name: &'static str,
        holder: Holder,
        seconds: u64,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let lease = Self { db: db.clone(), name, holder, seconds, taken: now };
        Ok(lease.ask(now).await?.then_some(lease))
    }

    async fn ask(&self, now: Timestamp) -> Result<bool, StoreError> {
        let (name, holder, until) = (self.name, self.holder, now.plus_seconds(self.seconds));
        self.db.run("lease", |tx| Box::pin(async move { take(tx, name, holder, now, until).await })).await
    }

    /// Said between the steps of a job: renews the lease if a third of its time has gone by since that was done.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if somebody else has it now: the job must stop, and leave the rest to them.
    pub async fn keep(&mut self, now: Timestamp) -> Result<(), StoreError> {
        // Whichever way the clock was moved.
        if now.0.abs_diff(self.taken.0) < self.seconds.saturating_mul(1000) / 3 {
            return Ok(());
        }
        if !self.ask(now).await? {
            return Err(StoreError::Taken);
        }
        self.taken = now;
        Ok(())
    }

    /// Gives the lease back, if it is still the holder's: the next one need not wait until it runs out. Tried for two seconds.
    pub async fn give_back(db: &Db, name: &'static str, holder: Holder) {
        let giving = db.run("give a lease back", |tx| {
            Box::pin(async move { tx.execute(GIVE_BACK, &[name.into(), holder.into()]).await })
        });
        if !matches!(tokio::time::timeout(PATIENCE, giving).await, Ok(Ok(_))) {
            tracing::info!(name, "a lease was not given back, and runs out by itself");
        }
    }
}

async fn take(
    tx: &mut Tx<'_>,
    name: &'static str,
    holder: Holder,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let args = [name.into(), holder.into(), seconds(until), seconds(now)];
    Ok(tx.fetch_optional(TAKE, &args).await?.is_some())
}

fn seconds(at: Timestamp) -> Value {
    Value::Int(i64::try_from(at.seconds()).unwrap_or(i64::MAX))
}
