//! The contract of the store, on each engine; what only one of them has is in the files beside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postern_test_database::{Engine, TestDatabase};

use super::*;

pub(super) static SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    sqlite: "create table coins (id BLOB not null primary key, note TEXT, size INTEGER) strict;
             create table log (id INTEGER not null primary key) strict;",
    postgres: "create table coins (id BYTEA not null primary key, note TEXT, size BIGINT);
               create table log (id BIGINT not null primary key);",
}];
static NEWER: &[Migration] = &[
    SCHEMA[0],
    Migration {
        version: 2,
        name: "more",
        sqlite: "create table extra (id INTEGER not null primary key) strict",
        postgres: "create table extra (id BIGINT not null primary key)",
    },
];
static OTHER: &[Migration] =
    &[Migration { version: 1, name: "of another server", sqlite: "select 1", postgres: "select 1" }];

pub(super) const SPEND: &str = "insert into coins (id, note, size) values ($1, $2, $3) on conflict do nothing";
const COUNT: &str = "select count(*) from coins";

/// Makes of each function a test on each engine.
macro_rules! on_each_engine {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Engine::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Engine::Postgres).await;
            })*
        }
    };
}

mod lease;
mod postgres;
mod sqlite;

on_each_engine! {
    values_come_back_as_they_went_in_and_types_are_checked,
    null_is_null_in_every_place_and_sums_are_whole_numbers,
    of_many_parallel_spends_of_one_coin_one_succeeds,
    sixty_four_transactions_that_read_and_change_one_row_all_succeed,
    what_a_transaction_has_read_still_holds_when_it_commits,
    many_may_open_a_new_database_at_once,
    an_error_rolls_back_and_the_connection_stays_usable,
    a_failed_statement_is_not_committed_over,
    a_transaction_that_is_dropped_half_way_leaves_nothing_and_blocks_nobody,
    a_transaction_that_hits_a_busy_database_is_tried_again,
    reading_never_writes_and_sees_one_moment,
    a_newer_or_foreign_schema_is_refused_and_left_alone,
}

pub(super) struct Place {
    _dir: tempfile::TempDir,
    pub(super) database: TestDatabase,
    pub(super) url: String,
}

pub(super) fn place(engine: Engine) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::new(engine, dir.path().join("test.db"));
    let url = database.url();
    Place { _dir: dir, database, url }
}

pub(super) async fn spend(db: &Db, id: [u8; 4]) -> Result<bool, StoreError> {
    db.run("spend", |tx| {
        Box::pin(async move { Ok(tx.execute(SPEND, &[id.into(), "x".into(), Value::Null]).await? == 1) })
    })
    .await
}

pub(super) async fn count(db: &Db) -> i64 {
    db.read("count", |tx| Box::pin(async move { tx.fetch_all(COUNT, &[]).await?[0].int(0) })).await.unwrap()
}

async fn values_come_back_as_they_went_in_and_types_are_checked(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let text = String::from("borrowed");
    let note = &text;
    db.run("put", |tx| {
        Box::pin(async move {
            tx.execute(SPEND, &[vec![1, 2].into(), note.as_str().into(), 7.into()]).await?;
            tx.execute(SPEND, &[[9u8; 3].into(), Option::<&str>::None.into(), Value::Null]).await
        })
    })
    .await
    .unwrap();
    let rows: Result<_, StoreError> = db
        .read("get", |tx| {
            Box::pin(async move { tx.fetch_all("select id, note, size from coins order by id", &[]).await })
        })
        .await;
    let rows = rows.unwrap();
    assert_eq!(rows[0].array::<2>(0).unwrap(), [1, 2]);
    assert_eq!(rows[0].text(1).unwrap(), "borrowed");
    assert_eq!(rows[0].int(2).unwrap(), 7);
    assert_eq!(rows[1].opt_text(1).unwrap(), None);
    assert_eq!(rows[1].opt_int(2).unwrap(), None);
    assert!(rows[0].int(0).is_err() && rows[1].int(2).is_err() && rows[0].array::<3>(0).is_err());
    assert!(rows[0].int(3).is_err());
}

async fn of_many_parallel_spends_of_one_coin_one_succeeds(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let second_process = Db::open(&place.url, SCHEMA).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let db = if i % 2 == 0 { db.clone() } else { second_process.clone() };
            tokio::spawn(async move { spend(&db, [1; 4]).await.unwrap() })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        accepted += u32::from(task.await.unwrap());
    }
    assert_eq!(accepted, 1);
    assert_eq!(count(&db).await, 1);
}

async fn many_may_open_a_new_database_at_once(engine: Engine) {
    for _ in 0..5 {
        let place = place(engine);
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let url = place.url.clone();
                tokio::spawn(async move { Db::open(&url, SCHEMA).await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }
}

async fn an_error_rolls_back_and_the_connection_stays_usable(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let result: Result<(), StoreError> = db
        .run("fail", |tx| {
            Box::pin(async move {
                tx.execute(SPEND, &[[1u8; 4].into(), Value::Null, Value::Null]).await?;
                Err(StoreError::Url)
            })
        })
        .await;
    assert!(matches!(result, Err(StoreError::Url)));
    assert_eq!(count(&db).await, 0);
    assert!(spend(&db, [1; 4]).await.unwrap());
}

async fn a_transaction_that_is_dropped_half_way_leaves_nothing_and_blocks_nobody(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let never_ends = db.run("stuck", |tx| {
        Box::pin(async move {
            tx.execute(SPEND, &[[1u8; 4].into(), Value::Null, Value::Null]).await?;
            std::future::pending::<Result<(), StoreError>>().await
        })
    });
    assert!(tokio::time::timeout(Duration::from_millis(100), never_ends).await.is_err());
    assert!(spend(&db, [1; 4]).await.unwrap());
    assert_eq!(count(&db).await, 1);
}

async fn a_transaction_that_hits_a_busy_database_is_tried_again(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let tries = AtomicU32::new(0);
    let seen = &tries;
    let result: Result<u32, StoreError> = db
        .run("flaky", |tx| {
            Box::pin(async move {
                let n = seen.fetch_add(1, Ordering::SeqCst);
                if n < 2 {
                    // What the engine would have noted itself.
                    tx.fail_as_busy();
                }
                tx.execute(SPEND, &[[u8::try_from(n).unwrap(); 4].into(), Value::Null, Value::Null]).await?;
                Ok(n)
            })
        })
        .await;
    assert_eq!(result.unwrap(), 2);
    assert_eq!(count(&db).await, 1, "the two first tries left nothing");
}

async fn reading_never_writes_and_sees_one_moment(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let result: Result<u64, StoreError> = db
        .read("sneak", |tx| {
            Box::pin(async move { tx.execute(SPEND, &[[1u8; 4].into(), Value::Null, Value::Null]).await })
        })
        .await;
    assert!(result.is_err());
    assert_eq!(count(&db).await, 0);
    let other = &db;
    let seen: Result<_, StoreError> = db
        .read("twice", |tx| {
            Box::pin(async move {
                let before = tx.fetch_all(COUNT, &[]).await?[0].int(0)?;
                spend(other, [2; 4]).await?;
                Ok((before, tx.fetch_all(COUNT, &[]).await?[0].int(0)?))
            })
        })
        .await;
    assert_eq!(seen.unwrap(), (0, 0));
    assert_eq!(count(&db).await, 1);
}

async fn a_newer_or_foreign_schema_is_refused_and_left_alone(engine: Engine) {
    let place = place(engine);
    Db::open(&place.url, SCHEMA).await.unwrap().close().await;
    Db::open(&place.url, NEWER).await.unwrap().close().await;
    assert!(matches!(Db::open(&place.url, SCHEMA).await, Err(StoreError::SchemaTooNew { found: 2, known: 1 })));
    assert!(matches!(Db::open(&place.url, OTHER).await, Err(StoreError::SchemaTooNew { .. })));
    Db::open(&place.url, NEWER).await.unwrap();

    let second = self::place(engine);
    Db::open(&second.url, SCHEMA).await.unwrap().close().await;
    assert!(matches!(Db::open(&second.url, OTHER).await, Err(StoreError::SchemaMismatch(1))));
}

#[test]
fn a_value_shows_nothing_in_debug() {
    assert_eq!(format!("{:?}", Value::Text("secret".into())), "Text(..)");
    assert_eq!(format!("{:?}", Value::from([0; 3])), "Blob(3 bytes)");
    assert_eq!(format!("{:?}", Row(vec![Value::Int(5)])), "Row([Int(..)])");
}

async fn null_is_null_in_every_place_and_sums_are_whole_numbers(engine: Engine) {
    const BY_SELECT: &str = "insert into coins (id, note, size) select $1, $2, $3 from log where id = 1";
    const RAISE: &str = "update coins set size = coalesce($2, size) where id = $1";
    const SUMS: &str = "select cast(coalesce(sum(size), 0) as bigint), count(*), max(size), min(note), 1 from coins";
    const LIMITED: &str = "select note from coins where size >= $1 order by id limit $2";
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let rows: Result<Vec<Row>, StoreError> = db
        .run("nulls", |tx| {
            Box::pin(async move {
                tx.execute("insert into log (id) values (1)", &[]).await?;
                // The first time a statement is seen, and later, with and without a value.
                for (id, note, size) in [(1u8, None, None), (2, Some("b"), Some(5i64)), (3, None, Some(i64::MAX - 5))] {
                    assert_eq!(tx.execute(BY_SELECT, &[[id].into(), note.into(), size.into()]).await?, 1);
                }
                assert_eq!(tx.execute(RAISE, &[[1u8].into(), Value::Null]).await?, 1);
                assert_eq!(tx.fetch_all(LIMITED, &[5.into(), 1.into()]).await?[0].text(0)?, "b");
                tx.fetch_all(SUMS, &[]).await
            })
        })
        .await;
    let rows = rows.unwrap();
    assert_eq!(
        (rows[0].int(0).unwrap(), rows[0].int(1).unwrap(), rows[0].int(2).unwrap()),
        (i64::MAX, 3, i64::MAX - 5)
    );
    assert_eq!((rows[0].text(3).unwrap().as_str(), rows[0].int(4).unwrap()), ("b", 1));
    // PostgreSQL's sum of BIGINT is no BIGINT: whoever forgets the cast hears of it at once.
    let uncast = db.read("sum", |tx| Box::pin(async move { tx.fetch_all("select sum(size) from coins", &[]).await }));
    assert_eq!(uncast.await.is_err(), engine == Engine::Postgres);
}

async fn sixty_four_transactions_that_read_and_change_one_row_all_succeed(engine: Engine) {
    const READ: &str = "select size from coins where id = $1";
    const WRITE: &str = "update coins set size = $2 where id = $1";
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let second_process = Db::open(&place.url, SCHEMA).await.unwrap();
    let first =
        db.run("put", |tx| Box::pin(async move { tx.execute(SPEND, &[[1u8].into(), "x".into(), 0.into()]).await }));
    first.await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let db = if i % 2 == 0 { db.clone() } else { second_process.clone() };
            tokio::spawn(async move {
                let adding = db.run("add", |tx| {
                    Box::pin(async move {
                        let size = tx.fetch_all(READ, &[[1u8].into()]).await?[0].int(0)?;
                        tx.execute(WRITE, &[[1u8].into(), (size + 1).into()]).await
                    })
                });
                adding.await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 1);
    }
    assert_eq!(place.database.int("select size from coins"), 64);
}

/// Two that each look whether the other was there, and write if not: with snapshots alone both would.
async fn what_a_transaction_has_read_still_holds_when_it_commits(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    for round in 0..16u8 {
        let task = |mine: u8, others: u8| {
            let db = db.clone();
            tokio::spawn(async move {
                let writing = db.run("unless the other", |tx| {
                    Box::pin(async move {
                        let other =
                            tx.fetch_optional("select 1 from coins where id = $1", &[[round, others].into()]).await?;
                        if other.is_none() {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            tx.execute(SPEND, &[[round, mine].into(), "x".into(), Value::Null]).await?;
                        }
                        Ok::<_, StoreError>(())
                    })
                });
                writing.await.unwrap();
            })
        };
        let (first, second) = (task(1, 2), task(2, 1));
        first.await.unwrap();
        second.await.unwrap();
    }
    assert_eq!(count(&db).await, 16);
}

async fn a_failed_statement_is_not_committed_over(engine: Engine) {
    const PUT: &str = "insert into coins (id, note, size) values ($1, $2, $3)";
    let place = place(engine);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    spend(&db, [1; 4]).await.unwrap();
    let hidden: Result<(), StoreError> = db
        .run("hide", |tx| {
            Box::pin(async move {
                tx.execute(SPEND, &[[2u8; 4].into(), "secret".into(), Value::Null]).await?;
                drop(tx.execute(PUT, &[[1u8; 4].into(), "secret".into(), Value::Null]).await);
                Ok(())
            })
        })
        .await;
    assert!(matches!(hidden, Err(StoreError::GivenUp)), "{hidden:?}");
    assert_eq!(count(&db).await, 1);
    let shown: Result<u64, StoreError> = db
        .run("show", |tx| {
            Box::pin(async move { tx.execute(PUT, &[[1u8; 4].into(), "secret".into(), Value::Null]).await })
        })
        .await;
    let shown = shown.unwrap_err();
    assert!(matches!(shown, StoreError::Engine(_)), "{shown:?}");
    assert!(format!("{shown} {shown:?}").contains("coins"), "{shown}");
    assert!(
        !format!("{shown} {shown:?}").contains("secret") && !format!("{shown:?}").contains("01010101"),
        "{shown:?}"
    );
}

fn a_database_may_outlive_its_runtime(engine: Engine) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let place = place(engine);
    let first = runtime();
    let db = first.block_on(async {
        let db = Db::open(&place.url, SCHEMA).await.unwrap();
        assert!(spend(&db, [1; 4]).await.unwrap());
        assert_eq!(count(&db).await, 1);
        db
    });
    drop(first);
    drop(db);
    let again = runtime();
    again.block_on(async {
        let db = Db::open(&place.url, SCHEMA).await.unwrap();
        assert!(!spend(&db, [1; 4]).await.unwrap());
    });
}

#[test]
fn a_database_of_sqlite_may_outlive_its_runtime() {
    a_database_may_outlive_its_runtime(Engine::Sqlite);
}

#[test]
fn a_database_of_postgres_may_outlive_its_runtime() {
    a_database_may_outlive_its_runtime(Engine::Postgres);
}
