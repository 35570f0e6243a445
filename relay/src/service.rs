//! Decisions. Each function is one call of a handler: typed values in, a typed answer or a [`Refusal`](crate::error::Refusal) out.

pub(crate) mod card;
pub(crate) mod exchange;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod mailbox;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod retention;
pub(crate) mod send;
pub(crate) mod waiters;
