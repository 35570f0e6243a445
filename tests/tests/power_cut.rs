//! A file system that loses power: what has been shown to anybody is still there.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::process::Command;

use postern_store::{Db, Migration};
use postern_tests::storm::disk::Disk;
use rusqlite::Connection;
use tempfile::TempDir;

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "notes",
    sqlite: "CREATE TABLE notes (note INTEGER PRIMARY KEY) STRICT;",
    postgres: "CREATE TABLE notes (note BIGINT PRIMARY KEY);",
}];
/// Somebody who is killed after a commit was written, and before it was synced.
const KILLED: &str = "import os, sqlite3, sys\n\
    db = sqlite3.connect(sys.argv[1])\n\
    db.execute('pragma synchronous = off')\n\
    db.execute('insert into notes values (7)')\n\
    db.commit()\n\
    os.kill(os.getpid(), 9)";

fn notes(file: &std::path::Path) -> i64 {
    Connection::open(file).unwrap().query_row("select count(*) from notes", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_after_a_kill_is_still_there_after_a_power_cut_if_this_machine_has_disks_to_cut() {
    let directory = TempDir::new().unwrap();
    let disk = match Disk::make(directory.path(), 64) {
        Ok(disk) => disk,
        Err(why) => {
            assert!(std::env::var_os("POSTERN_REQUIRE_FAULTS").is_none(), "{why}");
            eprintln!("== NO POWER CUT: {why}");
            return;
        }
    };
    let file = disk.path().join("notes.db");
    let url = format!("sqlite://{}", file.display());
    Db::open(&url, SCHEMA).await.unwrap().close().await;

    let killed = Command::new("python3").args(["-c", KILLED]).arg(&file).status().unwrap();
    assert!(!killed.success());
    let db = Db::open(&url, SCHEMA).await.unwrap();
    let shown = db
        .read("notes", |tx| Box::pin(async move { tx.fetch_optional("SELECT note FROM notes", &[]).await }))
        .await
        .unwrap();
    assert_eq!(shown.unwrap().int(0).unwrap(), 7);
    disk.cut_power().unwrap();
    db.close().await;
    disk.mount_again();
    assert_eq!(notes(&file), 1, "it was shown, and is gone");
}
