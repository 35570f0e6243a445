//! The schema, version by version.

use crate::tx::Tx;
use crate::{Db, Row, StoreError, Value};

/// One step of a schema. Applied steps are never edited; a change is a new step.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 … without gaps.
    pub version: i64,
    /// Stored beside the version, to notice a database of another server.
    pub name: &'static str,
    /// The statements for SQLite, `include_str!`d from `migrations/<server>/sqlite/`.
    pub sqlite: &'static str,
    /// The same for PostgreSQL, with equal tables and columns.
    pub postgres: &'static str,
}

const CREATE_ON_SQLITE: &str = "create table if not exists schema_history (
    version INTEGER not null primary key, -- 1, 2, 3 …
    name TEXT not null                   -- of the migration, to notice a database of another server
) strict";
const CREATE_ON_POSTGRES: &str = "create table if not exists schema_history (
    version BIGINT not null primary key, -- 1, 2, 3 …
    name TEXT not null                   -- of the migration, to notice a database of another server
)";
/// PostgreSQL's successors apply one statement of DDL in a transaction, so a migration is as many transactions.
const CREATE_STEPS: &str = "create table if not exists schema_steps (
    version BIGINT not null, -- of a migration
    step BIGINT not null,    -- of its statements, from 0: one that was applied
    primary key (version, step)
)";
const HISTORY: &str = "select version, name from schema_history order by version";
const RECORD: &str = "insert into schema_history (version, name) values ($1, $2) on conflict do nothing";
const TAKE_STEP: &str = "insert into schema_steps (version, step) values ($1, $2) on conflict do nothing";

/// Brings the schema up to date in one transaction, or leaves it as it was.
pub(crate) async fn on_sqlite(db: &Db, migrations: &'static [Migration]) -> Result<(), StoreError> {
    db.run("migrate", |tx| {
        Box::pin(async move {
            tx.execute(CREATE_ON_SQLITE, &[]).await?;
            for migration in missing(tx, migrations).await? {
                announce(migration);
                tx.execute_script(migration.sqlite).await?;
                record(tx, migration).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Brings the schema up to date statement by statement. Whoever begins a statement first writes down that it is done: of several
/// programs that start at once the others wait for its transaction, and go on behind it.
pub(crate) async fn on_postgres(db: &Db, migrations: &'static [Migration]) -> Result<(), StoreError> {
    for create in [CREATE_ON_POSTGRES, CREATE_STEPS] {
        db.run("create the schema's history", |tx| Box::pin(async move { tx.execute(create, &[]).await })).await?;
    }
    let missing = db.read("schema history", |tx| Box::pin(async move { missing(tx, migrations).await })).await?;
    for migration in missing {
        announce(migration);
        for (step, sql) in (0i64..).zip(statements(migration.postgres)) {
            db.run("migrate", |tx| {
                Box::pin(async move {
                    if tx.execute(TAKE_STEP, &[migration.version.into(), step.into()]).await? == 1 {
                        tx.execute_script(sql).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await?;
        }
        db.run("record a migration", |tx| Box::pin(async move { record(tx, migration).await })).await?;
    }
    Ok(())
}

fn announce(migration: &Migration) {
    tracing::info!(version = migration.version, name = migration.name, "applying migration");
}

/// The migrations that are still to be applied.
async fn missing(tx: &mut Tx<'_>, migrations: &'static [Migration]) -> Result<&'static [Migration], StoreError> {
    let history = tx.fetch_all(HISTORY, &[]).await?;
    let known = migrations.last().map_or(0, |m| m.version);
    let found = history.last().map_or(Ok(0), |row: &Row| row.int(0))?;
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for (row, migration) in history.iter().zip(migrations) {
        if row.int(0)? != migration.version || row.text(1)? != migration.name {
            return Err(StoreError::SchemaMismatch(migration.version));
        }
    }
    Ok(migrations.get(history.len()..).unwrap_or_default())
}

async fn record(tx: &mut Tx<'_>, migration: &Migration) -> Result<(), StoreError> {
    tx.execute(RECORD, &[Value::Int(migration.version), migration.name.into()]).await.map(drop)
}

/// The statements of a text: parted by semicolons outside of `'…'` and of comments, which begin with `--`. What holds nothing but
/// comments is none.
fn statements(text: &'static str) -> Vec<&'static str> {
    let mut parts = Vec::new();
    let (mut rest, mut at) = (text, 0);
    while let Some(tail) = rest.get(at..) {
        let Some(found) = tail.find([';', '\'', '-']) else { break };
        at += found;
        let skip = match tail.get(found..).unwrap_or_default() {
            quoted if quoted.starts_with('\'') => {
                quoted.get(1..).and_then(|q| q.find('\'')).map_or(quoted.len(), |end| end + 2)
            }
            comment if comment.starts_with("--") => comment.find('\n').unwrap_or(comment.len()),
            end if end.starts_with(';') => {
                let (part, after) = rest.split_at(at);
                parts.push(part);
                (rest, at) = (after, 0);
                rest = rest.strip_prefix(';').unwrap_or(rest);
                continue;
            }
            _ => 1,
        };
        at += skip;
    }
    parts.push(rest);
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim().starts_with("--");
    parts.into_iter().filter(|part| part.lines().any(says_something)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parted_into_its_statements() {
        let text = "-- One; two.\ncreate table a (b TEXT default 'x;''y', -- it's; so\n c TEXT);\n\n-- The other's.\n\
                    insert into a values ('-- no comment', - 1);\n-- The end; really.\n";
        let parts = statements(text);
        assert_eq!(parts.len(), 2, "{parts:?}");
        assert!(parts[0].starts_with("-- One; two.") && parts[0].ends_with("c TEXT)"));
        assert!(parts[1].ends_with("- 1)"));
        assert_eq!(statements("select 1"), ["select 1"]);
        assert!(statements("-- nothing;\n").is_empty());
    }
}
