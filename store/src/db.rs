//! The database handle: opening, and named transactions with retry.

use std::path::Path;

use futures::future::BoxFuture;

use crate::StoreError;
use crate::migrate::{Migration, migrate};
use crate::sqlite::Pools;
use crate::tx::{Mode, Tx};

/// How often a transaction is tried before the caller is told that the database is busy.
const ATTEMPTS: u32 = 5;

/// Closed on purpose: one enum and a few matches instead of a trait with bodies that drift apart.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Sqlite(Pools),
}

/// A database. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Engine,
}

impl Db {
    /// Opens, or creates readable by the owner only, the database at `url` and brings its schema up to date.
    ///
    /// `url` is `sqlite:///path/to/file.db`; with two slashes, `sqlite://file.db`, the path is relative.
    ///
    /// # Errors
    /// [`StoreError::Url`] for another engine; [`StoreError::SchemaTooNew`] and [`StoreError::SchemaMismatch`] for a
    /// database that this program must not touch; others as the engine reports them.
    pub async fn open(url: &str, migrations: &'static [Migration]) -> Result<Self, StoreError> {
        let path = url.strip_prefix("sqlite://").filter(|path| !path.is_empty()).ok_or(StoreError::Url)?;
        let engine = Engine::Sqlite(Pools::open(Path::new(path)).await?);
        migrate(&engine, migrations).await?;
        Ok(Self { engine })
    }

    /// Runs one writing transaction. `Ok` comes back only after a durable commit; any `Err` of the closure rolls back.
    ///
    /// The closure may run several times (the engine can ask for a retry) and so must have no effect but on `tx`. It may
    /// borrow from its surroundings.
    ///
    /// ```no_run
    /// # async fn example(db: &postern_store::Db, key: [u8; 32]) -> Result<(), postern_store::StoreError> {
    /// const TAKE: &str = "insert into spent (key) values ($1) on conflict do nothing";
    /// let taken = db.run("take", |tx| Box::pin(async move { tx.execute(TAKE, &[key.into()]).await })).await? == 1;
    /// # let _: bool = taken;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever the closure returns, or the store's own: [`StoreError::Busy`] after several tries.
    pub async fn run<'env, T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        self.transact(Mode::Write, name, body).await
    }

    /// Runs one transaction that only reads, on a snapshot. It never waits for writers.
    ///
    /// # Errors
    /// As [`Self::run`]; writing is an error as well.
    pub async fn read<'env, T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        self.transact(Mode::Read, name, body).await
    }

    async fn transact<'env, T, E, F>(&self, mode: Mode, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        for attempt in 1..=ATTEMPTS {
            let mut tx = match Tx::begin(&self.engine, mode).await {
                Ok(tx) => tx,
                Err(error) if error.is_transient() && attempt < ATTEMPTS => continue,
                Err(error) => return Err(error.into()),
            };
            let result = body(&mut tx).await;
            if tx.is_transient() {
                tx.rollback().await;
            } else if let Ok(value) = result {
                match tx.commit().await {
                    Ok(()) => return Ok(value),
                    Err(error) if !error.is_transient() => return Err(error.into()),
                    Err(_) => {}
                }
            } else {
                tx.rollback().await;
                return result;
            }
            tracing::debug!(transaction = name, attempt, "transaction will be tried again");
        }
        Err(StoreError::Busy.into())
    }

    /// Closes every connection after the transactions under way.
    pub async fn close(&self) {
        let Engine::Sqlite(pools) = &self.engine;
        pools.close().await;
    }
}
