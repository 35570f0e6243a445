//! Connections at hand: a pool of the driver's looks at each connection with a round trip whenever it comes back, and hands it on through
//! two queues. Here one that has just committed is simply put down, and the next transaction takes it up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::StoreError;

/// How long a request waits for a connection.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// The driver's pool, and the connections of it that are at hand. Cloning shares them.
pub(crate) struct Kept<DB: Database> {
    pool: Pool<DB>,
    /// As many as the pool has connections: whoever has a permit finds one at hand, or one can be made.
    permits: Arc<Semaphore>,
    free: Arc<Free<DB>>,
}

struct Free<DB: Database>(Mutex<Vec<PoolConnection<DB>>>);

impl<DB: Database> Free<DB> {
    fn take(&self) -> Option<PoolConnection<DB>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, connection: PoolConnection<DB>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// Back to the pool, which looks at each and drops the dead ones.
    fn give_back(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }
}

/// The last owner may be dropped after the runtime, where a connection cannot find its way back to the pool: it is just closed.
impl<DB: Database> Drop for Free<DB> {
    fn drop(&mut self) {
        while let Some(connection) = self.take() {
            drop(connection.leak());
        }
    }
}

impl<DB: Database> Clone for Kept<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), permits: Arc::clone(&self.permits), free: Arc::clone(&self.free) }
    }
}

impl<DB: Database> std::fmt::Debug for Kept<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(..)")
    }
}

impl<DB: Database> Kept<DB> {
    /// Of a pool that nobody else takes connections from.
    pub(crate) fn new(pool: Pool<DB>) -> Self {
        let most = usize::try_from(pool.options().get_max_connections()).unwrap_or(1);
        Self { pool, permits: Arc::new(Semaphore::new(most)), free: Arc::new(Free(Mutex::new(Vec::new()))) }
    }

    /// A connection, in the order in which it is asked for.
    pub(crate) async fn acquire(&self) -> Result<Held<DB>, StoreError> {
        let permit = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Busy)?;
        let connection = match self.free.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        Ok(Held { connection: Some(connection), free: Arc::clone(&self.free), _permit: permit })
    }

    /// Closes all, after what is under way. No more are given out.
    pub(crate) async fn close(&self) {
        let most = self.pool.options().get_max_connections();
        let all = self.permits.acquire_many(most).await;
        self.free.give_back();
        self.permits.close();
        drop(all);
        self.pool.close().await;
    }
}

/// A connection that is put down at the end.
pub(crate) struct Held<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    free: Arc<Free<DB>>,
    /// Given back after the connection is.
    _permit: OwnedSemaphorePermit,
}

impl<DB: Database> std::fmt::Debug for Held<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held(..)")
    }
}

impl<DB: Database> Held<DB> {
    /// Closes it instead. The others at hand are looked at before they are used again: what broke one has often broken all.
    pub(crate) fn close_on_drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
        self.free.give_back();
    }

    /// The connection itself; none if it is to be closed.
    pub(crate) fn get(&mut self) -> Result<&mut DB::Connection, StoreError> {
        self.connection.as_deref_mut().ok_or(StoreError::Lost)
    }
}

impl<DB: Database> Drop for Held<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.free.put(connection);
        }
    }
}
