//! Wire types of Postern: bytes and JSON in, typed values out, and back.
//!
//! **Owns** every shape that crosses a socket or lands in a card: fixed-length identifiers, the Privacy Pass
//! structures of RFC 9577 and RFC 9578, the JSON bodies of both servers, problem documents, and the path of every endpoint.
//! **May call** nothing local. No cryptography (digests are computed in `postern-credentials`), no I/O, no SQL, no async.
//!
//! The same few words name a file in every crate: `register`, `login`, `tokens`, `send`, `reply`, `release`. Start there.
//! How to add an endpoint: put its path into the file of its word, its body types beside it, then a handler of
//! the same name in the server, and a row in `docs/protocol.md`.

pub mod card;
pub mod codec;
pub mod directory;
pub mod exchange;
pub mod ids;
pub mod internal;
pub mod log;
pub mod login;
pub mod lookup;
pub mod operate;
pub mod prekeys;
pub mod problem;
pub mod register;
pub mod release;
pub mod reply;
pub mod send;
pub mod server;
pub mod synthetic;
pub mod texts;
pub mod time;
pub mod tokens;
