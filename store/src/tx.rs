//! One transaction.

use std::marker::PhantomData;

use crate::connection::{Connection, Unfinished};
use crate::error::Failure;
use crate::value::{Row, Value};
use crate::{StoreError, db::Engine};

/// Whether the transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sees one snapshot, writes nothing.
    Read,
    /// Each statement sees a snapshot of its own; writes nothing.
    Glance,
    /// As if no other writer ran beside it: SQLite lets one in at a time, PostgreSQL makes all but one of those that collide
    /// run again.
    Write,
}

/// A transaction under way; see [`Db::run`](crate::Db::run). If it is dropped before it is committed, nothing of it stays.
///
/// The lifetime stands for whatever the transaction's closure borrows, which therefore need not be cloned.
#[derive(Debug)]
pub struct Tx<'env> {
    connection: Unfinished,
    mode: Mode,
    failure: Option<Failure>,
    /// Whether a statement has certainly changed something.
    has_written: bool,
    may_have_committed: bool,
    borrowed: PhantomData<fn(&'env ()) -> &'env ()>,
}

impl Tx<'_> {
    pub(crate) async fn begin(engine: &Engine, mode: Mode, may_have_committed: bool) -> Result<Self, StoreError> {
        let connection = Unfinished::new(engine.begin(mode).await?);
        Ok(Self { connection, mode, failure: None, has_written: false, may_have_committed, borrowed: PhantomData })
    }

    /// Whether this very transaction may have been committed before: its connection broke during the commit, and it is run
    /// again. Whatever its own earlier commit would have changed must then be recognised, not refused.
    pub const fn may_have_committed(&self) -> bool {
        self.may_have_committed
    }

    /// Runs one statement; returns how many rows it changed.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn execute(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, StoreError> {
        let result = self.connection.get()?.execute(sql, args).await;
        self.has_written |= matches!(result, Ok(1..));
        self.note(result)
    }

    /// Runs a query; returns all its rows.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn fetch_all(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let result = self.connection.get()?.fetch_all(sql, args).await;
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
        let result = self.connection.get()?.execute_script(sql).await;
        self.note(result)
    }

    pub(crate) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.connection.get()
    }

    /// Remembers the first failure, whatever the closure makes of the error: PostgreSQL would answer a commit after it with
    /// success, and roll back.
    pub(crate) fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failure.get_or_insert(error.failure());
        }
        result
    }

    #[cfg(test)]
    pub(crate) const fn fail_as_busy(&mut self) {
        self.failure = Some(Failure::Busy);
    }

    pub(crate) const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Durable when this returns `Ok`. On an error the connection is closed, which rolls back what may be left.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let may_be_unwritten = self.mode == Mode::Write && !self.has_written;
        if self.mode != Mode::Glance {
            self.connection.get()?.commit(may_be_unwritten).await?;
        }
        self.connection.take().map(drop)
    }

    /// Gives the transaction up. After some errors (full disk, lost connection) the engine has done so by itself, and the
    /// connection is closed rather than guessed about.
    pub(crate) async fn rollback(mut self) {
        let Ok(connection) = self.connection.get() else { return };
        let nothing_is_open = self.mode == Mode::Glance && self.failure.is_none();
        if nothing_is_open || connection.execute_script("ROLLBACK").await.is_ok() {
            drop::<Result<Connection, _>>(self.connection.take());
        }
    }
}
