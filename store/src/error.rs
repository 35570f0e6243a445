//! What can go wrong in the store.

/// Why the store did not do it. Messages name tables and columns, never values.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not `sqlite:///path/to/file.db`.
    #[error("not a database URL of a supported engine (sqlite:///path/to/file.db)")]
    Url,
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
    Engine(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the whole transaction may succeed if it is run again.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // The primary result code is in the low byte: SQLITE_BUSY (5) and SQLITE_LOCKED (6).
        let code = error.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<i64>().ok());
        match (code.map(|c| c & 0xff), &error) {
            (Some(5 | 6), _) | (_, sqlx::Error::PoolTimedOut) => Self::Busy,
            _ => Self::Engine(error),
        }
    }
}
