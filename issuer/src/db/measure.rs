//! What the tables hold altogether.

use postern_store::{StoreError, Tx};

use super::counted;

const SIGNED: &str = "select cast(coalesce(sum(case when relay = '' then count else 0 end), 0) as bigint),
    cast(coalesce(sum(case when relay = '' then 0 else count end), 0) as bigint) from key_counts";
const ACCOUNTS: &str = "select count(*) from accounts";
const SESSIONS: &str = "select count(*) from sessions";

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Tokens ever signed for accounts.
    pub(crate) issued: u64,
    /// Tokens ever signed for exchanges.
    pub(crate) exchanged: u64,
    /// Rows of accounts: numbers that ever had one.
    pub(crate) accounts: u64,
    /// Rows of sessions.
    pub(crate) sessions: u64,
}

/// Counts. An index is read for each, a million entries in a few hundredths of a second.
pub(crate) async fn measure(tx: &mut Tx<'_>) -> Result<Measured, StoreError> {
    let mut measured = Measured::default();
    if let Some(row) = tx.fetch_optional(SIGNED, &[]).await? {
        (measured.issued, measured.exchanged) = (counted(row.int(0)?, 0)?, counted(row.int(1)?, 1)?);
    }
    if let Some(row) = tx.fetch_optional(ACCOUNTS, &[]).await? {
        measured.accounts = counted(row.int(0)?, 0)?;
    }
    if let Some(row) = tx.fetch_optional(SESSIONS, &[]).await? {
        measured.sessions = counted(row.int(0)?, 0)?;
    }
    Ok(measured)
}
