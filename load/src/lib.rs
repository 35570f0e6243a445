//! The load generator: a library for benchmarks, and the program `postern-load` on top.
//!
//! **Owns** sending requests over kept connections ([`http`]), when they are sent ([`pace`]), what they took ([`measure`]) and what
//! the servers used ([`usage`]); these four know nothing of Postern but bytes. Over them: calls to the two servers ([`wire`]), synthetic
//! accounts ([`account`]), what they do ([`scenario`]), servers for one run ([`spawn`]), and the report ([`report`]).
//! **May call** `postern-protocol` and `postern-credentials`; never a server crate: it knows servers by the wire alone.
//!
//! A measurement in five lines: [`http::Connections::new`], [`measure::Recorder::default`], [`usage::Snapshot::of`] before and after, and
//! [`pace::run`] with a closure that sends one request and says how it went.

pub mod account;
mod cli;
pub mod http;
pub mod measure;
pub mod pace;
mod progress;
pub mod report;
pub mod scenario;
pub mod spawn;
pub mod usage;
pub mod wire;

pub use cli::main;
