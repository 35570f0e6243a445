//! The issuer's decisions. They know the wire's types and the tables' rows, but neither HTTP nor SQL.

pub mod account;
pub mod attempts;
pub mod directory;
pub mod exchange;
pub mod housekeeping;
pub mod keys;
pub mod log;
pub mod login;
pub mod lookup;
pub mod lookup_tokens;
pub mod phone;
pub(crate) mod pumping;
pub mod register;
pub mod sessions;
pub mod texts;
pub mod tokens;

use crate::error::Refusal;

/// Runs what takes more than a moment of CPU where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Failed("a computation was interrupted")))
}
