//! What a load generator is made of, for benchmarks as well as for the program.
//!
//! **Owns** sending requests over kept connections ([`http`]), when they are sent ([`pace`]), what they took ([`measure`]) and what
//! the servers used ([`usage`]). These four know nothing of Postern but bytes.
//!
//! A measurement in five lines: [`http::Connections::new`], [`measure::Recorder::default`], [`usage::Snapshot::of`] before and after, and
//! [`pace::run`] with a closure that sends one request and says how it went.

pub mod account;
pub mod http;
pub mod measure;
pub mod pace;
pub mod scenario;
pub mod usage;
pub mod wire;
