//! What can go wrong in the store.

use std::fmt;
use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

/// Why the store did not do it. Messages name tables and columns, never values.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither `sqlite:///path/to/file.db` nor `postgres://…`.
    #[error("not a database URL of a supported engine (sqlite:///path/to/file.db or postgres://user@host/database)")]
    Url,
    /// A parameter of the URL that this program does not know, or a value that it cannot have.
    #[error("the database URL has an unknown parameter, or one with a value that it cannot have")]
    UrlParameter,
    /// There is no server at the place that the URL names, or it does not let this program in yet.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The file could not be created with owner-only permissions.
    #[error("cannot create the database file: {0}")]
    File(#[source] std::io::Error),
    /// The database was written by a newer program; running on would damage it.
    #[error("the database has schema version {found}, this program knows only up to {known}")]
    SchemaTooNew {
        /// The version in the database.
        found: i64,
        /// The newest version that this program has.
        known: i64,
    },
    /// A migration was applied under this number that is not the one this program has, or one is missing.
    #[error("the database's schema history differs from this program's at version {0}")]
    SchemaMismatch(i64),
    /// Another process held the lock for too long, or the engine asked for a retry too often.
    #[error("the database is busy")]
    Busy,
    /// The connection broke, again and again. If that was during a commit, nobody knows whether it was done: whoever repeats
    /// the request learns it.
    #[error("the connection to the database was lost")]
    Lost,
    /// A statement failed and the transaction went on as if it had not; nothing was committed.
    #[error("a statement failed, and its transaction was given up")]
    GivenUp,
    /// Another process holds the lease of what this one was doing: it was silent for too long, and stops.
    #[error("another process has taken this over")]
    Taken,
    /// A statement for many rows has no group of arguments.
    #[error("a statement for many rows has no place for one")]
    Statement,
    /// A column does not hold what the row mapping expects.
    #[error("column {index} is not {expected}")]
    Column {
        /// Its position in the result, from 0.
        index: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// Anything else that the engine reports: full disk, I/O error, violated constraint.
    #[error("the database failed: {0}")]
    Engine(EngineError),
}

/// What an engine said, without the detail in which PostgreSQL names values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    message: String,
    code: Option<String>,
}

impl EngineError {
    /// SQLSTATE of PostgreSQL, or the extended result code of SQLite.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What became of a transaction in which a statement failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Others were in the way: the whole transaction may succeed if it is run again.
    Busy,
    /// The connection is gone: the same.
    Lost,
    /// A key, or a table, was there that this transaction could not see: PostgreSQL may say so where it means a conflict, so
    /// the same, a few times.
    Duplicate,
    /// It would fail again.
    Final,
}

impl StoreError {
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Busy => Failure::Busy,
            Self::Lost => Failure::Lost,
            Self::Engine(error) if matches!(error.code(), Some("23505" | "42P07" | "42710")) => Failure::Duplicate,
            _ => Failure::Final,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            // A certificate that is not to be trusted comes as invalid data.
            sqlx::Error::Io(error) if error.kind() != ErrorKind::InvalidData => Self::Lost,
            sqlx::Error::Database(reported) => match reported.try_downcast_ref::<PgDatabaseError>() {
                Some(reported) => of_postgres(reported),
                None => of_sqlite(reported.message(), reported.code().as_deref()),
            },
            _ => Self::Engine(EngineError { message: error.to_string(), code: None }),
        }
    }
}

fn of_sqlite(message: &str, code: Option<&str>) -> StoreError {
    // The primary result code is in the low byte: SQLITE_BUSY (5) and SQLITE_LOCKED (6).
    match code.and_then(|code| code.parse::<i64>().ok()).map(|code| code & 0xff) {
        Some(5 | 6) => StoreError::Busy,
        _ => StoreError::Engine(EngineError { message: message.to_owned(), code: code.map(str::to_owned) }),
    }
}

fn of_postgres(reported: &PgDatabaseError) -> StoreError {
    match reported.code() {
        // Serialisation failure, deadlock, too many connections.
        "40001" | "40P01" | "53300" => StoreError::Busy,
        // The server stops, starts or has crashed, or (CockroachDB) does not know whether it committed.
        "57P01" | "57P02" | "57P03" | "40003" => StoreError::Lost,
        // Connection exceptions.
        code if code.starts_with("08") => StoreError::Lost,
        code => StoreError::Engine(EngineError { message: reported.message().to_owned(), code: Some(code.to_owned()) }),
    }
}
