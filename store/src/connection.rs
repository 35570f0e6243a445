//! One connection of either engine: the one place where the two meet.

use crate::StoreError;
use crate::many::Many;
use crate::value::{Row, Value};
use crate::{postgres, sqlite};

/// Prepared statements that a connection keeps: all of a server's, those for many rows in each of their sizes.
pub(crate) const STATEMENTS: usize = 512;

/// A connection of a pool, with a transaction open on it.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Connection {
    /// Runs one statement; returns how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::execute(connection, sql, args).await,
            Self::Postgres(connection) => postgres::execute(connection, sql, args).await,
        }
    }

    /// Runs a text of several statements, without arguments.
    pub(crate) async fn execute_script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::execute_script(connection, sql).await,
            Self::Postgres(connection) => postgres::execute_script(connection, sql).await,
        }
    }

    /// Runs a query; returns all its rows.
    pub(crate) async fn fetch_all(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::fetch_all(connection, sql, args).await,
            Self::Postgres(connection) => postgres::fetch_all(connection, sql, args).await,
        }
    }

    /// Runs one statement for all rows; returns all that it returns.
    pub(crate) async fn fetch_many(
        &mut self,
        many: &'static Many,
        rows: Vec<Vec<Value>>,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::fetch_many(connection, many, rows).await,
            Self::Postgres(connection) => postgres::fetch_many(connection, many, &rows).await,
        }
    }

    /// Commits. `may_be_unwritten`: what the transaction has read must be as durable as what it would have written.
    pub(crate) async fn commit(&mut self, may_be_unwritten: bool) -> Result<(), StoreError> {
        match self {
            Self::Postgres(connection) if may_be_unwritten => {
                postgres::execute_script(connection, postgres::COMMIT_UNWRITTEN).await
            }
            _ => self.execute_script("COMMIT").await,
        }
    }

    fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }
}

/// A connection that is closed, not returned to the pool, if it is dropped here: whoever gives up in the middle of a
/// transaction must not leave it open for the next one. Closing rolls back.
#[derive(Debug)]
pub(crate) struct Unfinished(Option<Connection>);

impl Unfinished {
    pub(crate) const fn new(connection: Connection) -> Self {
        Self(Some(connection))
    }

    pub(crate) fn get(&mut self) -> Result<&mut Connection, StoreError> {
        self.0.as_mut().ok_or(StoreError::Busy)
    }

    pub(crate) fn take(mut self) -> Result<Connection, StoreError> {
        self.0.take().ok_or(StoreError::Busy)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}
