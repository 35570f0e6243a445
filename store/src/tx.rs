//! One transaction.

use std::marker::PhantomData;

use crate::sqlite::{self, Unfinished};
use crate::value::{Row, Value};
use crate::{StoreError, db::Engine};

/// Whether the transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sees one snapshot, writes nothing.
    Read,
    /// Excludes every other writer from its first statement on.
    Write,
}

/// A transaction under way; see [`Db::run`](crate::Db::run). If it is dropped before it is committed, nothing of it stays.
///
/// The lifetime stands for whatever the transaction's closure borrows, which therefore need not be cloned.
#[derive(Debug)]
pub struct Tx<'env> {
    connection: Unfinished,
    transient: bool,
    borrowed: PhantomData<fn(&'env ()) -> &'env ()>,
}

impl Tx<'_> {
    pub(crate) async fn begin(engine: &Engine, mode: Mode) -> Result<Self, StoreError> {
        let Engine::Sqlite(pools) = engine;
        let connection = Unfinished(Some(pools.begin(mode).await?));
        Ok(Self { connection, transient: false, borrowed: PhantomData })
    }

    /// Runs one statement; returns how many rows it changed.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn execute(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, StoreError> {
        let result = sqlite::execute(self.connection.get()?, sql, args).await;
        self.note(result)
    }

    /// Runs a query; returns all its rows.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn fetch_all(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let result = sqlite::fetch_all(self.connection.get()?, sql, args).await;
        self.note(result)
    }

    /// Runs a query of at most one row.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn fetch_optional(&mut self, sql: &'static str, args: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(sql, args).await?.into_iter().next())
    }

    pub(crate) async fn execute_script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let result = sqlite::execute_script(self.connection.get()?, sql).await;
        self.note(result)
    }

    /// Remembers that the engine asked for a retry, whatever the closure makes of the error.
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.transient |= result.as_ref().is_err_and(StoreError::is_transient);
        result
    }

    #[cfg(test)]
    pub(crate) const fn fail_as_busy(&mut self) {
        self.transient = true;
    }

    pub(crate) const fn is_transient(&self) -> bool {
        self.transient
    }

    /// Durable when this returns `Ok`. On an error the connection is closed, which rolls back what may be left.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        sqlite::execute(self.connection.get()?, "COMMIT", &[]).await?;
        self.connection.take().map(drop)
    }

    /// Gives the transaction up. After some errors (full disk) the engine has done so by itself, and the connection is
    /// closed rather than guessed about.
    pub(crate) async fn rollback(mut self) {
        let Ok(connection) = self.connection.get() else { return };
        if sqlite::execute(connection, "ROLLBACK", &[]).await.is_ok() {
            drop(self.connection.take());
        }
    }
}
