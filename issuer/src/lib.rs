//! The issuer: phone numbers, accounts, certificates, blind signatures, logins, contact discovery.
//!
//! **Owns** the issuer's HTTP endpoints, its decisions and its database. **May call** `postern-protocol`,
//! `postern-credentials` and `postern-store`; never the relay's or the client's code.
//!
//! Three rooms, and the same word names a file in each: [`http`] decodes, makes one call and encodes; [`service`] decides;
//! `db` holds the SQL. The words are `register`, `tokens`, `login` (and `sessions`, `account`), `exchange`, `keys`,
//! `attempts`, `lookup` (and `lookup_tokens`), `directory`, `log`.
//!
//! How to add an endpoint: path and types into `postern-protocol`, a handler in [`http`] and its route in [`app`], the
//! decision in [`service`], statements in `db`, and a test in `tests/` that reads like what a user or an attacker does.
//!
//! What the issuer can never learn: which account spent a token, on whom, when. It signs blinded messages and keeps their
//! digests; it sees neither the tokens nor the relays' ledgers. Nor which account looked a number up, nor which number: tokens
//! are blind, numbers are blinded, and the directory is fetched by bucket.

pub mod app;
pub mod cli;
pub mod config;
mod db;
pub mod error;
pub mod gateway;
pub mod http;
pub mod metrics;
pub mod random;
pub mod secrets;
pub mod service;

pub use app::{Issuer, Parts, router};
pub use cli::{command, main};
pub use config::Config;
