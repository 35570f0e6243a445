//! The database handle: opening, and named transactions with retry.

use futures::future::BoxFuture;

use crate::connection::Connection;
use crate::error::Failure;
use crate::migrate::Migration;
use crate::place::Place;
use crate::postgres::Pool;
use crate::retry::Tries;
use crate::sqlite::Pools;
use crate::tx::{Mode, Tx};
use crate::{StoreError, migrate};

/// Closed on purpose: one enum and a few matches instead of a trait with bodies that drift apart.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Sqlite(Pools),
    Postgres(Pool),
}

impl Engine {
    /// A connection with a transaction open on it.
    pub(crate) async fn begin(&self, mode: Mode) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(pools) => pools.begin(mode).await,
            Self::Postgres(pool) => pool.begin(mode).await,
        }
    }
}

/// A database. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Engine,
}

impl Db {
    /// Opens the database at `url` and brings its schema up to date. Any number of programs may do so at once.
    ///
    /// `url` is `sqlite:///path/to/file.db`; with two slashes, `sqlite://file.db`, the path is relative. The file is created,
    /// readable by its owner only, if it is not there. Or it is `postgres://user:password@host:port/database`, where the
    /// database must be there and the password may as well come from `PGPASSWORD` or `~/.pgpass`; with `?host=/directory` it is a
    /// Unix socket, with `sslmode=verify-full` and, for a private CA, `sslrootcert=/file.pem` the connection is encrypted and
    /// the server authenticated (feature `pg-tls`), and `pool_size=16` bounds the connections of this process.
    ///
    /// # Errors
    /// [`StoreError::Url`] for another engine, [`StoreError::UrlParameter`]; [`StoreError::Unreachable`];
    /// [`StoreError::SchemaTooNew`] and [`StoreError::SchemaMismatch`] for a database that this program must not touch; others as
    /// the engine reports them.
    pub async fn open(url: &str, migrations: &'static [Migration]) -> Result<Self, StoreError> {
        let engine = match Place::parse(url)? {
            Place::Sqlite(path) => Engine::Sqlite(Pools::open(&path).await?),
            Place::Postgres(place) => Engine::Postgres(Pool::open(&place).await?),
        };
        let db = Self { engine };
        match &db.engine {
            Engine::Sqlite(_) => migrate::on_sqlite(&db, migrations).await?,
            Engine::Postgres(_) => migrate::on_postgres(&db, migrations).await?,
        }
        Ok(db)
    }

    /// As it is, whatever its schema.
    pub(crate) const fn of(engine: Engine) -> Self {
        Self { engine }
    }

    /// Runs one writing transaction. `Ok` comes back only after a durable commit, of what it has written and of what it has read; any
    /// `Err` of the closure rolls back.
    ///
    /// The closure may run several times (the engine can ask for a retry, the connection can break) and so must have no effect
    /// but on `tx`. It may borrow from its surroundings. If the connection breaks during the commit, nobody knows whether it was
    /// done, and the closure is run again: it must then recognise what it may have committed itself, by a key, and come to
    /// the same result ([`Tx::may_have_committed`]).
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
    /// Whatever the closure returns, or the store's own: [`StoreError::Busy`] or [`StoreError::Lost`] after many tries,
    /// [`StoreError::GivenUp`] if the closure hides that a statement failed.
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

    /// Runs statements that only read, each on a snapshot of its own: nothing but they themselves goes to the engine and back.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn glance<'env, T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        self.transact(Mode::Glance, name, body).await
    }

    /// Waits until all that was read before is as durable as a commit. PostgreSQL may show commits that its synchronous standby does not have
    /// yet: who has found out by reading alone that something is done already waits for this before saying so.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn settle(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(_) => self.run("settle", |_| Box::pin(async { Ok(()) })).await,
        }
    }

    async fn transact<'env, T, E, F>(&self, mode: Mode, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        let mut tries = Tries::new();
        let mut may_have_committed = false;
        loop {
            let (failure, result) = match self.try_once(mode, may_have_committed, &body).await {
                Tried::Done(result) => return result,
                Tried::Failed(failure, result) => (failure, result),
                Tried::LostAtCommit(error) => {
                    may_have_committed = mode == Mode::Write;
                    if may_have_committed {
                        tracing::info!(transaction = name, "the connection broke: nobody knows whether it committed");
                    }
                    (Failure::Lost, Err(error.into()))
                }
            };
            if !tries.another(failure).await {
                return result;
            }
            tracing::debug!(transaction = name, tries = tries.made(), ?failure, "transaction will be tried again");
        }
    }

    async fn try_once<'env, T, E, F>(&self, mode: Mode, may_have_committed: bool, body: &F) -> Tried<T, E>
    where
        F: for<'t> Fn(&'t mut Tx<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'env,
        T: Send,
        E: From<StoreError> + Send,
    {
        let mut tx = match Tx::begin(&self.engine, mode, may_have_committed).await {
            Ok(tx) => tx,
            Err(error) => return Tried::Failed(error.failure(), Err(error.into())),
        };
        let result = body(&mut tx).await;
        if let Some(failure) = tx.failure() {
            tx.rollback().await;
            return Tried::Failed(failure, result.and_then(|_| Err(of(failure).into())));
        }
        let Ok(value) = result else {
            tx.rollback().await;
            return Tried::Done(result);
        };
        match tx.commit().await {
            Ok(()) => Tried::Done(Ok(value)),
            Err(error @ StoreError::Lost) => Tried::LostAtCommit(error),
            Err(error) => Tried::Failed(error.failure(), Err(error.into())),
        }
    }

    /// Closes every connection after the transactions under way.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(pools) => pools.close().await,
            Engine::Postgres(pool) => pool.close().await,
        }
    }
}

/// What one try came to.
enum Tried<T, E> {
    /// Committed, or refused by the closure.
    Done(Result<T, E>),
    /// Rolled back; the error is for the caller if there is no other try.
    Failed(Failure, Result<T, E>),
    /// Nobody knows.
    LostAtCommit(StoreError),
}

/// The error of a failure that the closure has hidden.
const fn of(failure: Failure) -> StoreError {
    match failure {
        Failure::Busy => StoreError::Busy,
        Failure::Lost => StoreError::Lost,
        Failure::Duplicate | Failure::Final => StoreError::GivenUp,
    }
}
