//! SQLite: one writer connection and a few readers on a file in WAL mode, every commit synced (design §9).

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Column, ConnectOptions, Row as _, Sqlite, TypeInfo, ValueRef};

use crate::checkpoint::{Checkpoints, LAST_RESORT};
use crate::connection::{Connection as AnyConnection, STATEMENTS, Unfinished};
use crate::kept::{ACQUIRE_TIMEOUT, Held, Kept};
use crate::many::Many;
use crate::value::{Row, Value};
use crate::{StoreError, tx::Mode};

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Pages that a connection keeps, in KiB as SQLite wants it: negative.
const CACHE: &str = "-16384";
const OPEN_ATTEMPTS: u32 = 200;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// The two pools over one file. Writers queue for the one writing connection, in order, instead of colliding.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    writer: Kept<Sqlite>,
    readers: Kept<Sqlite>,
    checkpoints: Checkpoints,
}

pub(crate) type Connection = Held<Sqlite>;

impl Pools {
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .statement_cache_capacity(STATEMENTS)
            // Deleted keys and messages are overwritten where that costs no extra write.
            .pragma("secure_delete", "fast")
            .pragma("wal_autocheckpoint", LAST_RESORT)
            // Ledger rows fall anywhere in their index: what lies above its leaves should stay at hand.
            .pragma("cache_size", CACHE)
            .disable_statement_logging();
        let pool = |max| {
            SqlitePoolOptions::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = connect(pool(1), options.clone()).await?;
        sync(path).await?;
        let checkpoints = Checkpoints::start(options.clone()).await?;
        let readers = connect(pool(READERS), options.pragma("query_only", "on")).await?;
        Ok(Self { writer: Kept::new(writer), readers: Kept::new(readers), checkpoints })
    }

    /// A connection with a transaction open on it.
    pub(crate) async fn begin(&self, mode: Mode) -> Result<AnyConnection, StoreError> {
        let (pool, begin) = match mode {
            Mode::Write => (&self.writer, Some("BEGIN IMMEDIATE")),
            Mode::Read => (&self.readers, Some("BEGIN")),
            Mode::Glance => (&self.readers, None),
        };
        if mode == Mode::Write {
            self.checkpoints.written();
        }
        let mut connection = Unfinished::new(AnyConnection::Sqlite(pool.acquire().await?));
        if let Some(begin) = begin {
            connection.get()?.execute(begin, &[]).await?;
        }
        connection.take()
    }

    pub(crate) async fn close(&self) {
        self.checkpoints.close().await;
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// Owner-only from the first byte; SQLite gives its side files the same permissions.
///
/// An existing file is not even opened: closing it would drop the locks that this process holds on it through SQLite
/// (POSIX locks belong to the process). For the same reason it is one at a time.
fn create_private(path: &Path) -> Result<(), StoreError> {
    static CREATING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::File(error)),
        _ => Ok(()),
    }
}

/// Syncs what there is. What a process that was killed had written, and not synced yet, SQLite shows whoever opens next, as if it had been; and
/// what is shown is answered with. The log alone: opening the database file itself would cost its locks, as above.
async fn sync(path: &Path) -> Result<(), StoreError> {
    let (mut log, parent) = (path.as_os_str().to_owned(), path.parent().map(Path::to_owned));
    log.push("-wal");
    let synced = tokio::task::spawn_blocking(move || {
        match File::open(log) {
            Ok(log) => log.sync_all()?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Where its name is. A path without a folder is in the present one.
        let parent =
            parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".").to_owned());
        File::open(parent)?.sync_all()
    });
    synced.await.map_err(|_| StoreError::Busy)?.map_err(StoreError::File)
}

/// Opens a pool. Making a new file a WAL database does not wait for others who are at it, whatever the busy timeout.
async fn connect(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    for _ in 0..OPEN_ATTEMPTS {
        match pool.clone().connect_with(options.clone()).await.map_err(StoreError::from) {
            Err(StoreError::Busy) => tokio::time::sleep(OPEN_PAUSE).await,
            result => return result,
        }
    }
    Err(StoreError::Busy)
}

fn bind<'q>(sql: &'static str, args: &[Value]) -> sqlx::query::Query<'q, Sqlite, SqliteArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Value::Int(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.clone()),
        Value::Blob(value) => query.bind(value.to_vec()),
        Value::Null => query.bind(None::<i64>),
    })
}

pub(crate) async fn execute(connection: &mut Connection, sql: &'static str, args: &[Value]) -> Result<u64, StoreError> {
    Ok(bind(sql, args).execute(connection.get()?).await?.rows_affected())
}

/// Runs a text of several statements, without arguments.
pub(crate) async fn execute_script(connection: &mut Connection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql).execute(connection.get()?).await?;
    Ok(())
}

pub(crate) async fn fetch_all(
    connection: &mut Connection,
    sql: &'static str,
    args: &[Value],
) -> Result<Vec<Row>, StoreError> {
    bind(sql, args).fetch_all(connection.get()?).await?.iter().map(read_row).collect()
}

pub(crate) async fn fetch_many(
    connection: &mut Connection,
    many: &'static Many,
    rows: Vec<Vec<Value>>,
) -> Result<Vec<Row>, StoreError> {
    let (mut found, mut rows) = (Vec::new(), rows.into_iter());
    while let Some((sql, args)) = many.take(&mut rows)? {
        found.extend(fetch_all(connection, sql, &args).await?);
    }
    Ok(found)
}

fn read_row(row: &SqliteRow) -> Result<Row, StoreError> {
    row.columns()
        .iter()
        .map(|column| {
            let index = column.ordinal();
            let raw = row.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Value::Null);
            }
            match raw.type_info().name() {
                "INTEGER" => Ok(Value::Int(row.try_get_unchecked(index)?)),
                "TEXT" => Ok(Value::Text(row.try_get_unchecked(index)?)),
                "BLOB" => Ok(Value::Blob(row.try_get_unchecked::<Vec<u8>, _>(index)?.into())),
                _ => Err(StoreError::Column { index, expected: "BIGINT, TEXT or BLOB" }),
            }
        })
        .collect::<Result<_, _>>()
        .map(Row)
}
