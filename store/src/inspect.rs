//! A look at a database that changes nothing in it.

use postern_protocol::time::Timestamp;

use crate::db::Engine;
use crate::place::Place;
use crate::postgres::Pool;
use crate::sqlite::Pools;
use crate::{Db, Migration, StoreError};

const APPLIED: &str = "select cast(coalesce(max(version), 0) as bigint) from schema_history";
const CLOCK: &str = "select cast(floor(extract(epoch from clock_timestamp()) * 1000) as bigint)";

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The newest version of the schema that is applied; 0 before the first.
    pub applied: i64,
    /// The newest that this program knows.
    pub known: i64,
    /// The database's own clock, if it has one.
    pub clock: Option<Timestamp>,
}

/// Looks at the database at `url`, as [`Db::open`] takes it, and migrates nothing.
///
/// # Errors
/// As [`Db::open`].
pub async fn inspect(url: &str, migrations: &'static [Migration]) -> Result<Inspection, StoreError> {
    let known = migrations.last().map_or(0, |migration| migration.version);
    let engine = match Place::parse(url)? {
        // Opening would make it.
        Place::Sqlite(path) if !path.exists() => return Ok(Inspection { applied: 0, known, clock: None }),
        Place::Sqlite(path) => Engine::Sqlite(Pools::open(&path).await?),
        Place::Postgres(place) => Engine::Postgres(Pool::open(&place).await?),
    };
    let has_clock = matches!(engine, Engine::Postgres(_));
    let db = Db::of(engine);
    let clock = if has_clock { Some(number(&db, CLOCK).await?) } else { None };
    let applied = match number(&db, APPLIED).await {
        Ok(applied) => applied,
        // Nothing was ever migrated: there is no such table.
        Err(StoreError::Engine(_)) => 0,
        Err(error) => return Err(error),
    };
    db.close().await;
    Ok(Inspection { applied, known, clock: clock.and_then(|ms| u64::try_from(ms).ok()).map(Timestamp) })
}

async fn number(db: &Db, sql: &'static str) -> Result<i64, StoreError> {
    let row = db.read("inspect", |tx| Box::pin(async move { tx.fetch_optional(sql, &[]).await })).await?;
    row.map_or(Ok(0), |row| row.int(0))
}
