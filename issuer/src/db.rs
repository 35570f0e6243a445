//! The issuer's SQL: constants and row mapping, nothing decided. Written once, for every engine.

pub(crate) mod attempts;
pub(crate) mod directory;
pub(crate) mod exchange;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod login;
pub(crate) mod lookup;
pub(crate) mod measure;
pub(crate) mod parts;
pub(crate) mod register;
pub(crate) mod sessions;
pub(crate) mod tokens;

use postern_protocol::time::Timestamp;
use postern_store::{Migration, StoreError, Value};

/// Every version of the schema, oldest first.
pub(crate) static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "issuer: initial",
        sqlite: include_str!("../../migrations/issuer/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/issuer/postgres/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "issuer: contact discovery",
        sqlite: include_str!("../../migrations/issuer/sqlite/0002_discovery.sql"),
        postgres: include_str!("../../migrations/issuer/postgres/0002_discovery.sql"),
    },
    Migration {
        version: 3,
        name: "issuer: length of windows",
        sqlite: include_str!("../../migrations/issuer/sqlite/0003_window_length.sql"),
        postgres: include_str!("../../migrations/issuer/postgres/0003_window_length.sql"),
    },
    Migration {
        version: 4,
        name: "issuer: leases",
        sqlite: include_str!("../../migrations/issuer/sqlite/0004_leases.sql"),
        postgres: include_str!("../../migrations/issuer/postgres/0004_leases.sql"),
    },
    Migration {
        version: 5,
        name: "issuer: counts in parts",
        sqlite: include_str!("../../migrations/issuer/sqlite/0005_counts_in_parts.sql"),
        postgres: include_str!("../../migrations/issuer/postgres/0005_counts_in_parts.sql"),
    },
];

/// A time as it is stored.
pub(crate) fn time(at: Timestamp) -> Value {
    Value::Int(i64::try_from(at.0).unwrap_or(i64::MAX))
}

/// A stored time.
pub(crate) fn timestamp(stored: i64) -> Timestamp {
    Timestamp(u64::try_from(stored).unwrap_or(0))
}

/// A count as it is stored; saturates far beyond any count there can be.
pub(crate) fn count(n: u64) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A stored count.
///
/// # Errors
/// [`StoreError::Column`] if it is negative.
pub(crate) fn counted(stored: i64, index: usize) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::Column { index, expected: "a count" })
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

    #[tokio::test]
    async fn what_was_counted_before_counters_were_cut_is_still_counted() {
        let dir = tempfile::tempdir().unwrap();
        for engine in Engine::ALL {
            let database = TestDatabase::new(engine, dir.path().join("counted.db"));
            Db::open(&database.url(), &MIGRATIONS[..4]).await.unwrap().close().await;
            let (old, new) = ("00".repeat(32), "01".repeat(32));
            database.script(&format!(
                "insert into key_counters (key_id, relay, count, created) values
                 (x'{old}', '', 70, 1), (x'{old}', 'relay.test', 30, 2), (x'{new}', '', 5, 3)"
            ));
            let db = Db::open(&database.url(), MIGRATIONS).await.unwrap();
            let counted =
                db.read("counters", |tx| Box::pin(async move { super::keys::counters(tx).await })).await.unwrap();
            let counted: Vec<_> = counted.into_iter().map(|(key, relay, n)| (key.0[0], relay, n)).collect();
            assert_eq!(counted, [(1, String::new(), 5), (0, "relay.test".to_owned(), 30), (0, String::new(), 70)]);
        }
    }
}
