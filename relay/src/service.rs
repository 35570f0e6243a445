//! Decisions. Each function is one call of a handler: typed values in, a typed answer or a [`Refusal`](crate::error::Refusal) out.

pub(crate) mod card;
pub(crate) mod epoch_bases;
pub(crate) mod exchange;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod mailbox;
pub(crate) mod prekeys;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod reply;
pub(crate) mod reply_keys;
pub(crate) mod retention;
pub(crate) mod rollout;
pub(crate) mod seen;
pub(crate) mod send;
pub(crate) mod strike;
pub(crate) mod verdicts;
pub(crate) mod waiters;
pub(crate) mod watch;
