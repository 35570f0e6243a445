//! The relay on a real socket and a real SQLite file, against an issuer that the tests hold by the strings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

mod attacks;
mod exchange;
mod issuer;
mod keys;
mod mailbox;
mod process;
mod read;
mod release;
mod send;
mod world;
