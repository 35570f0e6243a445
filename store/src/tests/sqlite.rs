//! What only SQLite has: a file.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_full_disk_loses_the_transaction_and_nothing_else() {
    let place = place(Engine::Sqlite);
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
async fn the_file_is_readable_by_its_owner_only_and_synced_at_every_commit() {
    let place = place(Engine::Sqlite);
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
