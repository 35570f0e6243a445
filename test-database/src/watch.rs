//! What a test asks beyond rows: whether anything was written, what is on disk, and a write in the middle of somebody's transaction.

use std::fmt;
use std::path::Path;

use crate::database::TestDatabase;
use crate::{Engine, Server};

/// Sees whether something is written.
pub struct Watch<'a> {
    database: &'a TestDatabase,
    /// SQLite counts the commits of others for as long as a connection is open.
    sqlite: Option<rusqlite::Connection>,
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch(..)")
    }
}

impl Watch<'_> {
    /// Another value once something was written. On PostgreSQL something that is still there, or was there before.
    pub fn version(&self) -> Vec<i64> {
        match &self.sqlite {
            Some(db) => vec![db.query_row("pragma data_version", [], |row| row.get(0)).unwrap()],
            None => self.database.table_names().iter().map(|name| self.version_of(name)).collect(),
        }
    }

    /// Each row says which transaction wrote it.
    fn version_of(&self, table: &str) -> i64 {
        self.database
            .int(&format!("select count(*) + coalesce(sum(cast(cast(xmin as text) as bigint)), 0) from {table}"))
    }
}

impl TestDatabase {
    /// Watches it from now on.
    pub fn watch(&self) -> Watch<'_> {
        Watch { database: self, sqlite: self.file().map(|file| rusqlite::Connection::open(file).unwrap()) }
    }

    /// Everything that is on disk of it, bytes as they lie there.
    pub fn stored(&self) -> Vec<u8> {
        let read = |file: &Path| std::fs::read(file).unwrap_or_default();
        if let Some(file) = self.file() {
            // Not written back yet.
            let log = file.with_file_name(format!("{}-wal", file.file_name().unwrap().to_str().unwrap()));
            return [read(file), read(&log)].concat();
        }
        self.script("checkpoint");
        let oid = self.int("select cast(oid as bigint) from pg_database where datname = current_database()");
        let directory = Server::shared().directory().join(format!("data/base/{oid}"));
        let files = std::fs::read_dir(directory).unwrap().map(|entry| read(&entry.unwrap().path()));
        files.collect::<Vec<_>>().concat()
    }

    /// All that was in it is gone.
    pub fn lose(&self) {
        match self.file() {
            Some(file) => {
                let name = file.file_name().unwrap().to_str().unwrap();
                for suffix in ["", "-wal", "-shm"] {
                    drop(std::fs::remove_file(file.with_file_name(format!("{name}{suffix}"))));
                }
            }
            None => self.script("drop schema public cascade; create schema public"),
        }
    }

    /// From now on `statement` runs in every transaction that inserts into `table`, before it does.
    pub fn plant_before_insert(&self, table: &str, statement: &str) {
        self.script(&match self.engine() {
            Engine::Sqlite => format!("create trigger planted before insert on {table} begin {statement}; end"),
            Engine::Postgres => format!(
                "create function planted() returns trigger language plpgsql as
                    $$ begin {statement}; return new; end $$;
                 create trigger planted before insert on {table} for each row execute function planted()"
            ),
        });
    }

    /// Takes back what was planted in `table`.
    pub fn remove_planted(&self, table: &str) {
        self.script(&match self.engine() {
            Engine::Sqlite => "drop trigger planted".to_owned(),
            Engine::Postgres => format!("drop trigger planted on {table}; drop function planted"),
        });
    }
}
