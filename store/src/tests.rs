use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

static SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    sqlite: "create table coins (id BLOB not null primary key, note TEXT, size INTEGER) strict;
             create table log (id INTEGER not null primary key) strict;",
}];
static NEWER: &[Migration] = &[
    SCHEMA[0],
    Migration { version: 2, name: "more", sqlite: "create table extra (id INTEGER not null primary key) strict" },
];
static OTHER: &[Migration] = &[Migration { version: 1, name: "of another server", sqlite: "select 1" }];

const SPEND: &str = "insert into coins (id, note, size) values ($1, $2, $3) on conflict do nothing";
const COUNT: &str = "select count(*) from coins";

struct Place {
    _dir: tempfile::TempDir,
    url: String,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("test.db").display());
    Place { _dir: dir, url }
}

async fn spend(db: &Db, id: [u8; 4]) -> Result<bool, StoreError> {
    db.run("spend", |tx| {
        Box::pin(async move { Ok(tx.execute(SPEND, &[id.into(), "x".into(), Value::Null]).await? == 1) })
    })
    .await
}

async fn count(db: &Db) -> i64 {
    db.read("count", |tx| Box::pin(async move { tx.fetch_all(COUNT, &[]).await?[0].int(0) })).await.unwrap()
}

#[tokio::test]
async fn values_come_back_as_they_went_in_and_types_are_checked() {
    let place = place();
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let text = String::from("borrowed");
    let note = &text;
    db.run("put", |tx| {
        Box::pin(async move {
            tx.execute(SPEND, &[Value::Blob(vec![1, 2]), note.as_str().into(), 7.into()]).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn of_many_parallel_spends_of_one_coin_one_succeeds() {
    let place = place();
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

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_database_at_once() {
    for _ in 0..5 {
        let place = place();
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

#[tokio::test]
async fn an_error_rolls_back_and_the_connection_stays_usable() {
    let place = place();
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

#[tokio::test]
async fn a_full_disk_loses_the_transaction_and_nothing_else() {
    let place = place();
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    assert!(spend(&db, [1; 4]).await.unwrap());
    let full: Result<u64, StoreError> = db
        .run("fill", |tx| {
            Box::pin(async move {
                tx.fetch_all("pragma max_page_count = 8", &[]).await?;
                tx.execute(SPEND, &[[2u8; 4].into(), Value::Null, Value::Null]).await?;
                tx.execute(SPEND, &[vec![7u8; 1_000_000].into(), Value::Null, Value::Null]).await
            })
        })
        .await;
    assert!(matches!(full, Err(StoreError::Engine(_))), "{full:?}");
    assert_eq!(count(&db).await, 1);
    assert!(spend(&db, [2; 4]).await.unwrap());
    assert_eq!(count(&db).await, 2);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_half_way_leaves_nothing_and_blocks_nobody() {
    let place = place();
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

#[tokio::test]
async fn a_transaction_that_hits_a_busy_database_is_tried_again() {
    let place = place();
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

#[tokio::test]
async fn reading_never_writes() {
    let place = place();
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    let result: Result<u64, StoreError> = db
        .read("sneak", |tx| {
            Box::pin(async move { tx.execute(SPEND, &[[1u8; 4].into(), Value::Null, Value::Null]).await })
        })
        .await;
    assert!(result.is_err());
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_only_and_synced_at_every_commit() {
    let place = place();
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    spend(&db, [1; 4]).await.unwrap();
    let path = place.url.strip_prefix("sqlite://").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mode = std::fs::metadata(format!("{path}{suffix}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    let pragma: Result<Vec<Row>, StoreError> = db
        .run("pragmas", |tx| Box::pin(async move { tx.fetch_all("select (select synchronous from pragma_synchronous), (select journal_mode from pragma_journal_mode)", &[]).await }))
        .await;
    let pragma = pragma.unwrap();
    assert_eq!(pragma[0].int(0).unwrap(), 2);
    assert_eq!(pragma[0].text(1).unwrap(), "wal");
}

#[tokio::test]
async fn a_newer_or_foreign_schema_is_refused_and_left_alone() {
    let place = place();
    Db::open(&place.url, SCHEMA).await.unwrap().close().await;
    Db::open(&place.url, NEWER).await.unwrap().close().await;
    assert!(matches!(Db::open(&place.url, SCHEMA).await, Err(StoreError::SchemaTooNew { found: 2, known: 1 })));
    assert!(matches!(Db::open(&place.url, OTHER).await, Err(StoreError::SchemaTooNew { .. })));
    Db::open(&place.url, NEWER).await.unwrap();

    let second = self::place();
    Db::open(&second.url, SCHEMA).await.unwrap().close().await;
    assert!(matches!(Db::open(&second.url, OTHER).await, Err(StoreError::SchemaMismatch(1))));
    assert!(matches!(Db::open("postgres://localhost/x", SCHEMA).await, Err(StoreError::Url)));
}

#[test]
fn a_value_shows_nothing_in_debug() {
    assert_eq!(format!("{:?}", Value::Text("secret".into())), "Text(..)");
    assert_eq!(format!("{:?}", Value::Blob(vec![0; 3])), "Blob(3 bytes)");
    assert_eq!(format!("{:?}", Row(vec![Value::Int(5)])), "Row([Int(..)])");
}
