//! The relay on a real socket and a real SQLite file, against an issuer that the tests hold by the strings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

mod attacks;
mod contacts;
mod exchange;
mod issuer;
mod keys;
mod leases;
mod ledger_model;
mod lost_commits;
mod mailbox;
mod metrics;
mod prekeys;
mod process;
mod queue;
mod read;
mod release;
mod reply;
mod reply_attacks;
mod reply_dump;
mod reply_keys;
mod reply_model;
mod reply_reveal;
mod reply_strike;
mod rollout;
mod send;
mod verdicts;
mod world;
