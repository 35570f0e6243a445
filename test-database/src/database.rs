//! Databases of either engine, written and read past the servers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::types::Value;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Executor, Row, TypeInfo, ValueRef};
use tokio::runtime::{Builder, Runtime};

use crate::{Engine, Server};

const CONNECT_TRIES: u32 = 50;
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// A database that is its test's own. A PostgreSQL one is dropped at the end.
#[derive(Debug)]
pub struct TestDatabase(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(PathBuf),
    Postgres {
        name: String,
        /// The URL of its server, which is not the one of this process.
        elsewhere: Option<String>,
        /// Made when it is first needed.
        connection: Mutex<Option<PgConnection>>,
    },
}

/// One table, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<Value>>,
}

impl TestDatabase {
    /// A fresh one; `file` is where it lies if it is SQLite's, which makes it when it is first opened.
    pub fn new(engine: Engine, file: impl AsRef<Path>) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        Self(match engine {
            Engine::Sqlite => Kind::Sqlite(file.as_ref().to_owned()),
            Engine::Postgres => {
                let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
                administer(&Server::shared().url("postgres"), &format!("create database {name}"));
                Kind::Postgres { name, elsewhere: None, connection: Mutex::new(None) }
            }
        })
    }

    /// A fresh one at another server than that of this process, `postgres://user@host:port`, with which it goes.
    pub(crate) fn at(server: String, name: &str) -> Self {
        administer(&format!("{server}/postgres"), &format!("create database {name}"));
        Self(Kind::Postgres { name: name.to_owned(), elsewhere: Some(server), connection: Mutex::new(None) })
    }

    /// A fresh one of the engine that this run is for.
    pub fn of_this_run(file: impl AsRef<Path>) -> Self {
        Self::new(Engine::of_this_run(), file)
    }

    /// Its engine.
    pub const fn engine(&self) -> Engine {
        match &self.0 {
            Kind::Sqlite(_) => Engine::Sqlite,
            Kind::Postgres { .. } => Engine::Postgres,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match &self.0 {
            Kind::Sqlite(file) => format!("sqlite://{}", file.display()),
            Kind::Postgres { name, elsewhere: Some(server), .. } => format!("{server}/{name}"),
            Kind::Postgres { name, .. } => Server::shared().url(name),
        }
    }

    /// Its file, if it has one.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Sqlite(file) => Some(file),
            Kind::Postgres { .. } => None,
        }
    }

    /// Its name at the server. Fails for SQLite.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Sqlite(_) => panic!("a file has no name at a server"),
            Kind::Postgres { name, .. } => name,
        }
    }

    /// One number out of it.
    pub fn int(&self, sql: &str) -> i64 {
        match self.rows(&format!("select cast(({sql}) as bigint)"), &[]).remove(0).remove(0) {
            Value::Integer(number) => number,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// What a query finds. Literals may be written as `x'0a'`, and arguments as `$1`, for either engine.
    pub fn rows(&self, sql: &str, args: &[Value]) -> Vec<Vec<Value>> {
        match &self.0 {
            Kind::Sqlite(_) => self.sqlite(|db| {
                let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
                let width = statement.column_count();
                let rows = statement
                    .query_map(rusqlite::params_from_iter(args), |row| (0..width).map(|i| row.get(i)).collect());
                rows.unwrap().map(Result::unwrap).collect()
            }),
            Kind::Postgres { .. } => self.postgres(async |db| {
                let rows = bind(sql, args).fetch_all(db).await;
                rows.unwrap_or_else(|error| panic!("{sql}: {error}")).iter().map(read_row).collect()
            }),
        }
    }

    /// Runs one statement; returns how many rows it changed.
    pub fn execute(&self, sql: &str, args: &[Value]) -> u64 {
        match &self.0 {
            Kind::Sqlite(_) => self.sqlite(|db| {
                let changed = db.execute(sql, rusqlite::params_from_iter(args));
                changed.unwrap_or_else(|error| panic!("{sql}: {error}")) as u64
            }),
            Kind::Postgres { .. } => self.postgres(async |db| {
                let done = bind(sql, args).execute(db).await;
                done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
            }),
        }
    }

    /// Runs one statement with each of these arguments, all in one transaction.
    pub fn execute_each(&self, sql: &str, rows: &[Vec<Value>]) {
        match &self.0 {
            Kind::Sqlite(_) => self.sqlite(|db| {
                let tx = db.unchecked_transaction().unwrap();
                for args in rows {
                    tx.execute(sql, rusqlite::params_from_iter(args)).unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                tx.commit().unwrap();
            }),
            Kind::Postgres { .. } => self.postgres(async |db| {
                let mut tx = db.begin().await.unwrap();
                for args in rows {
                    let done = bind(sql, args).execute(&mut *tx).await;
                    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                tx.commit().await.unwrap();
            }),
        }
    }

    /// Runs a text of several statements, in the engine's own words but for `x'0a'`.
    pub fn script(&self, sql: &str) {
        match &self.0 {
            Kind::Sqlite(_) => self.sqlite(|db| db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))),
            Kind::Postgres { .. } => self.postgres(async |db| {
                let done = db.execute(AssertSqlSafe(translated(sql))).await;
                done.map(drop).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }),
        }
    }

    /// A column of blobs.
    pub fn blobs(&self, sql: &str) -> Vec<Vec<u8>> {
        let blob = |mut row: Vec<Value>| match row.remove(0) {
            Value::Blob(bytes) => bytes,
            other => panic!("{sql}: {other:?}"),
        };
        self.rows(sql, &[]).into_iter().map(blob).collect()
    }

    /// All tables that migrations have made, in order of name; what the store keeps for itself is left out.
    pub fn tables(&self) -> Vec<Table> {
        self.table_names().into_iter().map(|name| self.table(name)).collect()
    }

    pub(crate) fn table_names(&self) -> Vec<String> {
        let names = match &self.0 {
            Kind::Sqlite(_) => {
                "select name from sqlite_schema where type = 'table' and name not like 'schema\\_%' escape '\\' \
                 order by name"
            }
            Kind::Postgres { .. } => {
                "select cast(tablename as text) from pg_tables where schemaname = 'public' \
                 and tablename not like 'schema\\_%' order by 1"
            }
        };
        self.rows(names, &[]).into_iter().map(|mut row| text(row.remove(0))).collect()
    }

    fn table(&self, name: String) -> Table {
        let columns = match &self.0 {
            Kind::Sqlite(_) => "select name from pragma_table_info($1) order by cid",
            Kind::Postgres { .. } => {
                "select cast(attname as text) from pg_attribute where attrelid = cast($1 as regclass) \
                 and attnum > 0 and not attisdropped order by attnum"
            }
        };
        let columns = self.rows(columns, &[Value::Text(name.clone())]);
        let columns = columns.into_iter().map(|mut row| text(row.remove(0))).collect();
        let rows = self.rows(&format!("select * from {name}"), &[]);
        Table { name, columns, rows }
    }

    fn sqlite<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> T) -> T {
        let Kind::Sqlite(file) = &self.0 else { unreachable!("asked of a file") };
        let db = rusqlite::Connection::open(file).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        work(&db)
    }

    fn postgres<T: Send>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> T + Send) -> T {
        let Kind::Postgres { elsewhere, connection, .. } = &self.0 else { unreachable!("asked of a server") };
        let options = options(&self.url());
        block_on(async || {
            let mut connected = connection.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A cluster ends its connections when it likes.
            if elsewhere.is_some() && async { connected.as_mut()?.ping().await.ok() }.await.is_none() {
                connected = None;
            }
            let mut db = match connected {
                Some(db) => db,
                None => connect(&options).await,
            };
            let result = work(&mut db).await;
            *connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(db);
            result
        })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Kind::Postgres { name, elsewhere: None, .. } = &self.0
            && !std::thread::panicking()
        {
            administer(&Server::shared().url("postgres"), &format!("drop database {name} with (force)"));
        }
    }
}

/// How to connect.
pub(crate) fn options(url: &str) -> PgConnectOptions {
    url.parse::<PgConnectOptions>().unwrap().disable_statement_logging()
}

/// Connects; a cluster may be without a leader for a moment.
async fn connect(options: &PgConnectOptions) -> PgConnection {
    for _ in 0..CONNECT_TRIES {
        if let Ok(connection) = options.connect().await {
            return connection;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    options.connect().await.unwrap()
}

fn administer(url: &str, sql: &str) {
    let options = options(url);
    block_on(async || {
        let mut db = connect(&options).await;
        db.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        db.close().await.unwrap();
    });
}

/// Runs something to its end on a thread of its own: tests call from inside of other runtimes.
pub(crate) fn block_on<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    let run = || runtime.block_on(work());
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        other => panic!("not a text: {other:?}"),
    }
}

/// `x'0a'` as PostgreSQL writes it.
fn translated(sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find("x'") {
        let begins_word = !rest.get(..at).unwrap().ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'');
        let literal = rest.get(at + 2..).unwrap();
        let end = literal.find('\'').unwrap_or(literal.len());
        if begins_word && literal.get(..end).unwrap().bytes().all(|b| b.is_ascii_hexdigit()) {
            out.push_str(&format!("{}cast('\\x{}' as bytea)", &rest[..at], &literal[..end]));
            rest = literal.get(end + 1..).unwrap_or_default();
        } else {
            out.push_str(&rest[..at + 2]);
            rest = literal;
        }
    }
    out + rest
}

fn bind(sql: &str, args: &[Value]) -> Query<'static, Postgres, PgArguments> {
    args.iter().fold(sqlx::query(AssertSqlSafe(translated(sql))), |query, arg| match arg {
        Value::Integer(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.clone()),
        Value::Blob(bytes) => query.bind(bytes.clone()),
        Value::Null | Value::Real(_) => panic!("no such argument"),
    })
}

fn read_row(row: &PgRow) -> Vec<Value> {
    let read = |column: &sqlx::postgres::PgColumn| {
        let index = column.ordinal();
        if row.try_get_raw(index).unwrap().is_null() {
            return Value::Null;
        }
        match column.type_info().name() {
            "INT8" => Value::Integer(row.get(index)),
            "INT4" => Value::Integer(row.get::<i32, _>(index).into()),
            "TEXT" => Value::Text(row.get(index)),
            "BYTEA" => Value::Blob(row.get(index)),
            other => panic!("a column of type {other}"),
        }
    };
    row.columns().iter().map(read).collect()
}
