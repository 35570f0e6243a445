//! SQL: statements as constants, rows as values. Decisions are made in `service`; what is here runs inside its transactions.

pub(crate) mod card;
pub(crate) mod exchange;
pub(crate) mod keys;
pub(crate) mod mailbox;
pub(crate) mod measure;
pub(crate) mod prekeys;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod reply;
pub(crate) mod retention;
pub(crate) mod rollout;
pub(crate) mod send;
pub(crate) mod strike;

use postern_store::{Migration, Row, StoreError};

/// The relay's schema, oldest first.
pub static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        sqlite: include_str!("../../migrations/relay/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "reply credentials",
        sqlite: include_str!("../../migrations/relay/sqlite/0002_reply_credentials.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0002_reply_credentials.sql"),
    },
    Migration {
        version: 3,
        name: "prekeys",
        sqlite: include_str!("../../migrations/relay/sqlite/0003_prekeys.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0003_prekeys.sql"),
    },
    Migration {
        version: 4,
        name: "leases",
        sqlite: include_str!("../../migrations/relay/sqlite/0004_leases.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0004_leases.sql"),
    },
    Migration {
        version: 5,
        name: "bells",
        sqlite: include_str!("../../migrations/relay/sqlite/0005_bells.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0005_bells.sql"),
    },
    Migration {
        version: 6,
        name: "rollout",
        sqlite: include_str!("../../migrations/relay/sqlite/0006_rollout.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0006_rollout.sql"),
    },
];

/// The engine's integers are signed; every count and time of ours fits.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count or a time that the schema keeps from being negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A column holds what this program never writes.
pub(crate) fn corrupt(index: usize, expected: &'static str) -> StoreError {
    StoreError::Column { index, expected }
}

/// A BLOB of exactly `N` bytes, or NULL.
pub(crate) fn opt_array<const N: usize>(row: &Row, index: usize) -> Result<Option<[u8; N]>, StoreError> {
    let bytes = row.opt_blob(index)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| corrupt(index, "a BLOB of the right length or NULL"))).transpose()
}

#[cfg(test)]
mod tests {
    use postern_store::Db;
    use postern_test_database::{Engine, TestDatabase};

    use super::MIGRATIONS;

    #[tokio::test]
    async fn both_engines_have_the_same_tables_and_columns() {
        let dir = tempfile::tempdir().unwrap();
        let mut shapes = Vec::new();
        for engine in Engine::ALL {
            let database = TestDatabase::new(engine, dir.path().join("test.db"));
            Db::open(&database.url(), MIGRATIONS).await.unwrap().close().await;
            let tables = database.tables().into_iter().map(|table| (table.name, table.columns, table.rows));
            shapes.push(tables.collect::<Vec<_>>());
        }
        assert!(!shapes[0].is_empty());
        assert_eq!(shapes[0], shapes[1]);
    }
}
