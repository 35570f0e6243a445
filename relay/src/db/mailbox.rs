//! Mailboxes: opening, closing, and whether there is one.

use postern_protocol::ids::MailboxId;
use postern_store::{StoreError, Tx};

const EXISTS: &str = "SELECT 1 FROM mailboxes WHERE mailbox = $1";
const IS_CLOSED: &str = "SELECT 1 FROM closed_mailboxes WHERE mailbox = $1";
const OPEN: &str = "INSERT INTO mailboxes (mailbox) VALUES ($1) ON CONFLICT (mailbox) DO NOTHING";
const CLOSE: [&str; 12] = [
    "INSERT INTO closed_mailboxes (mailbox) VALUES ($1) ON CONFLICT (mailbox) DO NOTHING",
    "DELETE FROM mailboxes WHERE mailbox = $1",
    "DELETE FROM cards WHERE mailbox = $1",
    "DELETE FROM messages WHERE mailbox = $1",
    "DELETE FROM reply_keys WHERE mailbox = $1",
    "DELETE FROM reply_nullifiers WHERE mailbox = $1",
    "DELETE FROM reply_strikes WHERE mailbox = $1",
    "DELETE FROM reply_reveals WHERE mailbox = $1",
    "DELETE FROM prekey_supplies WHERE mailbox = $1",
    "DELETE FROM prekeys WHERE mailbox = $1",
    "DELETE FROM prekey_claims WHERE mailbox = $1",
    "DELETE FROM unenforced WHERE mailbox = $1",
];

/// Whether the mailbox is open.
pub(crate) async fn exists(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(EXISTS, &[mailbox.0.into()]).await?.is_some())
}

/// Whether another mailbox has replaced it.
pub(crate) async fn is_closed(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(IS_CLOSED, &[mailbox.0.into()]).await?.is_some())
}

/// Opens it; `false` if it was open.
pub(crate) async fn open(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<bool, StoreError> {
    Ok(tx.execute(OPEN, &[mailbox.0.into()]).await? == 1)
}

/// Closes it for ever: card, prekeys, queue and all about replies go with it. Its tokens stay in the ledger.
pub(crate) async fn close(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<(), StoreError> {
    for sql in CLOSE {
        tx.execute(sql, &[mailbox.0.into()]).await?;
    }
    Ok(())
}
