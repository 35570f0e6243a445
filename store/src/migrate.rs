//! The schema, version by version.

use crate::db::Engine;
use crate::tx::{Mode, Tx};
use crate::{StoreError, Value};

/// One step of a schema. Applied steps are never edited; a change is a new step.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 … without gaps.
    pub version: i64,
    /// Stored beside the version, to notice a database of another server.
    pub name: &'static str,
    /// The statements for SQLite, `include_str!`d from `migrations/<server>/sqlite/`.
    pub sqlite: &'static str,
}

const CREATE: &str = "create table if not exists schema_history (
    version INTEGER not null primary key, -- 1, 2, 3 …
    name TEXT not null                   -- of the migration, to notice a database of another server
) strict";
const HISTORY: &str = "select version, name from schema_history order by version";
const RECORD: &str = "insert into schema_history (version, name) values ($1, $2)";

/// Brings the schema up to date in one transaction, or leaves it as it was.
pub(crate) async fn migrate(engine: &Engine, migrations: &'static [Migration]) -> Result<(), StoreError> {
    let mut tx = Tx::begin(engine, Mode::Write).await?;
    match apply(&mut tx, migrations).await {
        Ok(()) => tx.commit().await,
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

async fn apply(tx: &mut Tx<'_>, migrations: &'static [Migration]) -> Result<(), StoreError> {
    tx.execute(CREATE, &[]).await?;
    let history = tx.fetch_all(HISTORY, &[]).await?;
    let known = migrations.last().map_or(0, |m| m.version);
    let found = history.last().map_or(Ok(0), |row| row.int(0))?;
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for (row, migration) in history.iter().zip(migrations) {
        if row.int(0)? != migration.version || row.text(1)? != migration.name {
            return Err(StoreError::SchemaMismatch(migration.version));
        }
    }
    for migration in migrations.iter().skip(history.len()) {
        tracing::info!(version = migration.version, name = migration.name, "applying migration");
        tx.execute_script(migration.sqlite).await?;
        tx.execute(RECORD, &[Value::Int(migration.version), migration.name.into()]).await?;
    }
    Ok(())
}
