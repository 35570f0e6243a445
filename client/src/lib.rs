//! The client of Postern: a library first, the command `postern` on top.
//!
//! **Owns** the profile on disk, the two channels to the servers, and every deed of an account: registering, logging in, sending, reading,
//! judging, exchanging. **May call** `postern-protocol` and `postern-credentials`; never a server crate, never `postern-store`.
//!
//! Begin with [`Client`]: a [`profile::Profile`], a clock and randomness. Its methods are in the files of their words:
//!
//! | file | what |
//! |---|---|
//! | `register` | number, code, account, mailbox; resumable at every step |
//! | `login` | session, signed calls, JWTs |
//! | `card` | own card and its keys, other people's cards |
//! | `prekeys` | one-time prekeys: the own supply, a claim of somebody else's |
//! | `tokens`, `directory`, `exchange` | the signature screen; the issuer's keys; how tokens come back |
//! | `send` | writing: as a reply, or for a token |
//! | `reply` | reply credentials: handed over, held, traced, struck |
//! | `read`, `open`, `payload`, `olm` | fetching, opening, checking the sender |
//! | `verdict`, `outbox` | accept, decline, spam; told the relay at a random time |
//! | `lookup` | from phone numbers to cards; address books |
//! | `contact` | people |
//! | `sync`, `doctor`, `settings` | what is due; what is wrong; what was chosen |
//! | `profile`, `channel` | the file; the network |
//! | `cli`, `demo` | the command |
//!
//! How to add a command: a method on [`Client`] in the file of its word, a variant in `cli::args`, an arm in `cli::commands`.

pub mod card;
pub mod channel;
mod cli;
pub mod client;
pub mod contact;
mod demo;
pub mod directory;
pub mod doctor;
pub mod error;
pub mod exchange;
pub mod login;
pub mod lookup;
pub mod names;
mod olm;
mod open;
pub mod outbox;
pub mod payload;
pub mod prekeys;
pub mod profile;
pub mod read;
pub mod register;
pub mod reply;
pub mod secret;
pub mod send;
pub mod settings;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod verdict;

pub use cli::{command, main};
pub use client::Client;
pub use error::{Error, Result};
