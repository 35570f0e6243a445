//! The checker of docs/invariants.sql.

use postern_test_database::Table;
use rusqlite::{Connection, params_from_iter};

use crate::world::World;

const SQL: &str = include_str!("../../docs/invariants.sql");

/// The queries with their names.
pub fn queries() -> Vec<(String, String)> {
    let named = SQL.split("-- name: ").skip(1).map(|part| part.split_once('\n').unwrap());
    named.map(|(name, sql)| (name.trim().to_owned(), sql.trim().to_owned())).collect()
}

/// Both databases side by side in memory, whichever engine they are of: the queries name them `issuer` and `relay`. To be made when
/// nothing is under way: two databases have no common moment.
pub fn copy(world: &World) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    for (database, schema) in [(&world.issuer_db, "issuer"), (&world.relay_db, "relay")] {
        db.execute(&format!("attach ':memory:' as {schema}"), []).unwrap();
        database.tables().iter().for_each(|table| copy_table(&db, schema, table));
    }
    db
}

fn copy_table(db: &Connection, schema: &str, table: &Table) {
    let (name, columns) = (&table.name, table.columns.join(", "));
    db.execute(&format!("create table {schema}.{name} ({columns})"), []).unwrap();
    let places = vec!["?"; table.columns.len()].join(", ");
    let mut insert = db.prepare(&format!("insert into {schema}.{name} values ({places})")).unwrap();
    for row in &table.rows {
        insert.execute(params_from_iter(row)).unwrap();
    }
}

/// The names of the invariants that do not hold in a copy, each with its number of violations.
pub fn violations(copy: &Connection) -> Vec<(String, i64)> {
    let count = |sql: &str| -> i64 { copy.query_row(sql, [], |row| row.get(0)).unwrap() };
    let counted = queries().into_iter().map(|(name, sql)| (name, count(&sql)));
    counted.filter(|(_, violations)| *violations != 0).collect()
}

/// Fails the test if an invariant does not hold. To be called when nothing is under way, as [`copy`].
pub fn assert_hold(world: &World) {
    let found = violations(&copy(world));
    assert!(found.is_empty(), "broken invariants: {found:?}");
}

/// The same, but that these accounts have more than five tokens.
pub fn assert_hold_with_more_tokens(world: &World) {
    let mut broken = violations(&copy(world));
    broken.retain(|(rule, _)| rule != "no account has more than its five");
    assert!(broken.is_empty(), "{broken:?}");
}
