//! The storage engine: transactions, migrations, leases and the system clock; knows no table but its own and `leases`.
//!
//! **Owns** connections, transactions with retry, the schema version, and the one call to the operating system's clock.
//! **May call** `postern-protocol` (for [`Clock`](postern_protocol::time::Clock)). The tables belong to the servers: each
//! hands its embedded [`Migration`]s to [`Db::open`] and keeps its SQL in its own `db` directory. The one statement that both would write
//! alike, [`Lease`]'s, is here.
//!
//! Two engines, a closed enum: a SQLite file, or PostgreSQL (`postgres://…`; see [`Db::open`]). They meet in `connection.rs`
//! and nowhere else; `docs/adr/0014` says how transactions are kept apart and when they are run again.
//!
//! How to add a table: append a file to `migrations/<server>/sqlite/` and its twin to `postgres/`, list them in the server's
//! `db.rs`, and write its statements once, with `$1` placeholders and BIGINT, TEXT and BLOB/BYTEA only, so that every engine runs
//! the same text. A sum is `cast(sum(…) as bigint)`, and an empty blob an argument.
//! Spending something is `insert … on conflict do nothing`, and it succeeded if one row was affected.
//!
//! How to add a transaction: its body may run several times, also after a commit of its own that nobody heard of. Say in ADR 14
//! by what it recognises that, and let a `lost_commits` test of the server go through it.

mod checkpoint;
mod clock;
mod connection;
mod db;
mod error;
mod group;
mod inspect;
mod kept;
mod lease;
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
pub use inspect::{Inspection, inspect};
pub use lease::{Holder, Lease};
pub use many::{Column, Many};
pub use migrate::Migration;
pub use place::redacted;
pub use tx::Tx;
pub use value::{Row, Value};

#[cfg(test)]
mod tests;
