//! PostgreSQL: a pool of connections, every writing transaction SERIALIZABLE, every reading one a snapshot (ADR 14).

use std::time::Duration;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnectOptions, PgPoolOptions, PgRow, PgTypeInfo, Postgres};
use sqlx::{Column, ConnectOptions, Connection as _, Encode, Executor, Row as _, Type, TypeInfo, ValueRef};

use crate::StoreError;
use crate::connection::{Connection as AnyConnection, STATEMENTS, Unfinished};
use crate::kept::{ACQUIRE_TIMEOUT, Held, Kept};
use crate::many::{Column as ManyColumn, MOST_ROWS, Many};
use crate::place::PostgresPlace;
use crate::tx::Mode;
use crate::value::{Row, Value};

/// How long a program that starts waits for a server that starts.
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(200);

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Only a commit that has something to write waits for a synchronous standby, and with it for all commits before it. After a crash the
/// server shows what was on its own disk alone: an answer that rests on having found it must wait like the one that wrote it.
pub(crate) const COMMIT_UNWRITTEN: &str = "SELECT pg_logical_emit_message(true, 'postern', '') \
                                           WHERE pg_current_xact_id_if_assigned() IS NULL; COMMIT";
/// A scan of a whole table makes SERIALIZABLE take every concurrent insertion for a conflict, however small the table.
const PREFER_INDEXES: &str = "SET enable_seqscan = off";
/// A plan that cannot avoid such a scan looks so costly that it would be compiled to machine code each time.
const NO_JIT: &str = "SET jit = off";
/// What is not said to write does not.
const READ_ONLY: &str = "SET default_transaction_read_only = on";
/// That a table is there already is no news.
const NO_NOTICES: &str = "SET client_min_messages = warning";

pub(crate) type Connection = Held<Postgres>;

/// The pool over one database.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Kept<Postgres>);

impl Pool {
    pub(crate) async fn open(place: &PostgresPlace) -> Result<Self, StoreError> {
        let options = place.options.clone().statement_cache_capacity(STATEMENTS).disable_statement_logging();
        reach(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(place.pool_size)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            // A dead one is found by its first statement, and the transaction begins again on another.
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for setting in [PREFER_INDEXES, NO_JIT, READ_ONLY, NO_NOTICES] {
                        connection.execute(setting).await?;
                    }
                    Ok(())
                })
            });
        Ok(Self(Kept::new(pool.connect_lazy_with(options))))
    }

    /// A connection with a transaction open on it.
    pub(crate) async fn begin(&self, mode: Mode) -> Result<AnyConnection, StoreError> {
        let begin = match mode {
            Mode::Write => BEGIN_WRITE,
            Mode::Read => BEGIN_READ,
            Mode::Glance => return Ok(AnyConnection::Postgres(self.0.acquire().await?)),
        };
        let mut connection = Unfinished::new(AnyConnection::Postgres(self.0.acquire().await?));
        match connection.get()?.execute_script(begin).await {
            Ok(()) => connection.take(),
            // A server that only follows another one refuses with 0A000: whoever leads now is found by connecting anew.
            Err(StoreError::Engine(error)) if error.code() == Some("0A000") => Err(StoreError::Lost),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// Connects once, so that a wrong address or password is said at once, and a server that is about to start is waited for.
async fn reach(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut attempts = OPEN_ATTEMPTS;
    loop {
        attempts = attempts.saturating_sub(1);
        let error = match options.connect().await {
            Ok(connection) => return Ok(connection.close().await?),
            Err(error) => error,
        };
        let reason = error.to_string();
        match StoreError::from(error) {
            StoreError::Lost | StoreError::Busy if attempts > 0 => tokio::time::sleep(OPEN_PAUSE).await,
            StoreError::Lost | StoreError::Busy => return Err(StoreError::Unreachable(reason)),
            error => return Err(error),
        }
    }
}

/// NULL without a type: the server takes the type from where it stands.
struct Null;

impl Type<Postgres> for Null {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Null {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn bind<'q>(sql: &'static str, args: &[Value]) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Value::Int(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.as_str()),
        Value::Blob(value) => query.bind(value.as_ref()),
        Value::Null => query.bind(Null),
    })
}

pub(crate) async fn execute(connection: &mut Connection, sql: &'static str, args: &[Value]) -> Result<u64, StoreError> {
    Ok(bind(sql, args).execute(connection.get()?).await?.rows_affected())
}

/// Runs a text without arguments, unprepared.
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

/// Rows of one statement: SQLite's limit, times what an array takes without trouble.
const MOST_OF_AN_ARRAY: usize = 16 * MOST_ROWS;

pub(crate) async fn fetch_many(
    connection: &mut Connection,
    many: &'static Many,
    rows: &[Vec<Value>],
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    for rows in rows.chunks(MOST_OF_AN_ARRAY) {
        let mut query = sqlx::query(many.arrays()?);
        for (place, column) in many.columns().iter().enumerate() {
            query = match column {
                ManyColumn::Int => query.bind(array(rows, place, |value| match value {
                    Value::Int(value) => Some(*value),
                    _ => None,
                })?),
                ManyColumn::Text => query.bind(array(rows, place, |value| match value {
                    Value::Text(value) => Some(value.as_str()),
                    _ => None,
                })?),
                ManyColumn::Blob => query.bind(array(rows, place, |value| match value {
                    Value::Blob(value) => Some(value.as_ref()),
                    _ => None,
                })?),
            };
        }
        let rows = query.fetch_all(connection.get()?).await?;
        found.extend(rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(found)
}

/// One column of all rows. NULLs are none; what is of another type is refused.
fn array<'r, T>(
    rows: &'r [Vec<Value>],
    place: usize,
    read: impl Fn(&'r Value) -> Option<T>,
) -> Result<Vec<Option<T>>, StoreError> {
    let one = |row: &'r Vec<Value>| match row.get(place).ok_or(StoreError::Statement)? {
        Value::Null => Ok(None),
        value => read(value).map(Some).ok_or(StoreError::Statement),
    };
    rows.iter().map(one).collect()
}

fn read_row(row: &PgRow) -> Result<Row, StoreError> {
    row.columns()
        .iter()
        .map(|column| {
            let index = column.ordinal();
            if row.try_get_raw(index)?.is_null() {
                return Ok(Value::Null);
            }
            Ok(match column.type_info().name() {
                "INT8" => Value::Int(row.try_get_unchecked(index)?),
                // What a bare number in a query is.
                "INT4" => Value::Int(row.try_get_unchecked::<i32, _>(index)?.into()),
                "TEXT" => Value::Text(row.try_get_unchecked(index)?),
                "BYTEA" => Value::Blob(row.try_get_unchecked::<Vec<u8>, _>(index)?.into()),
                _ => return Err(StoreError::Column { index, expected: "BIGINT, TEXT or BYTEA" }),
            })
        })
        .collect::<Result<_, _>>()
        .map(Row)
}
