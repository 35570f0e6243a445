//! The checker of docs/invariants.sql.

use std::path::Path;

use rusqlite::Connection;

use crate::world::World;

const SQL: &str = include_str!("../../docs/invariants.sql");

/// The queries with their names.
pub fn queries() -> Vec<(String, String)> {
    let named = SQL.split("-- name: ").skip(1).map(|part| part.split_once('\n').unwrap());
    named.map(|(name, sql)| (name.trim().to_owned(), sql.trim().to_owned())).collect()
}

/// The names of the invariants that do not hold, each with its number of violations.
pub fn violations(issuer_db: &Path, relay_db: &Path) -> Vec<(String, i64)> {
    let db = Connection::open_in_memory().unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    for (file, name) in [(issuer_db, "issuer"), (relay_db, "relay")] {
        db.execute(&format!("attach ?1 as {name}"), [format!("{}", file.display())]).unwrap();
    }
    let count = |sql: &str| -> i64 { db.query_row(sql, [], |row| row.get(0)).unwrap() };
    let counted = queries().into_iter().map(|(name, sql)| (name, count(&sql)));
    counted.filter(|(_, violations)| *violations != 0).collect()
}

/// Fails the test if an invariant does not hold. To be called when nothing is under way: two databases have no common moment.
pub fn assert_hold(world: &World) {
    let found = violations(&world.issuer_db_file(), &world.relay_db_file());
    assert!(found.is_empty(), "broken invariants: {found:?}");
}
