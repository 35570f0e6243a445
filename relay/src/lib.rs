//! The relay: mailboxes, the token ledger, queues.
//!
//! **Owns** mailboxes and their queues, sealed cards, one-time prekeys, and the ledger of `send` tokens (design §2.1, §2.2). It knows random
//! mailbox ids, arrival times and spent tokens; never a phone number, an account, a sender, or which sends share one.
//! **May call** `postern-protocol`, `postern-credentials`, `postern-store`, `postern-listen` and `postern-operate`; never the issuer's crate. It speaks to the
//! issuer over the internal API only.
//!
//! Three rooms: `http` decodes, makes one call and encodes; `service` decides; `db` holds the SQL. One word names a
//! matter in all three: `send`, `release`, `exchange`, `mailbox`, `card`, `prekeys`, `read`, `keys`, `retention`.
//!
//! How to add an endpoint: path and body types in `postern-protocol`, SQL in `db/<word>.rs`, the decision in
//! `service/<word>.rs`, the handler in `http/<word>.rs`, a route in `app.rs`, and a row in `docs/protocol.md`.

pub mod app;
mod cli;
pub mod config;
mod db;
pub mod error;
mod http;
mod metrics;
mod service;

pub use cli::{command, main};
pub use db::MIGRATIONS;
