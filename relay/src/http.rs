//! Handlers: decode, one call, encode. Nothing is decided here but the form of requests and answers.

mod auth;
mod body;
pub(crate) mod card;
pub(crate) mod exchange;
pub(crate) mod guard;
pub(crate) mod mailbox;
pub(crate) mod prekeys;
pub(crate) mod problem;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod reply;
pub(crate) mod send;
