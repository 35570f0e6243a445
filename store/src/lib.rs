//! The storage engine: transactions, migrations and the system clock; knows no table.
//!
//! **Owns** connections, transactions with retry, the schema version, and the one call to the operating system's clock.
//! **May call** `postern-protocol` (for [`Clock`](postern_protocol::time::Clock)). The tables belong to the servers: each
//! hands its embedded [`Migration`]s to [`Db::open`] and keeps its SQL in its own `db` directory.
//!
//! How to add a table: append a file to `migrations/<server>/sqlite/`, list it in the server's `db/mod.rs`, and write
//! its statements once, with `$1` placeholders and integers, TEXT and BLOB only, so that every engine runs the same text.
//! Spending something is `insert … on conflict do nothing`, and it succeeded if one row was affected.

mod clock;
mod connection;
mod db;
mod error;
mod group;
mod many;
mod migrate;
mod place;
mod postgres;
mod retry;
mod sqlite;
mod tx;
mod value;

pub use clock::SystemClock;
pub use db::Db;
pub use error::{EngineError, StoreError};
pub use group::{Dropped, Group, Work};
pub use many::Many;
pub use migrate::Migration;
pub use place::redacted;
pub use tx::Tx;
pub use value::{Row, Value};

#[cfg(test)]
mod tests;
