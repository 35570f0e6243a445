//! Sealed contact cards.

use postern_protocol::ids::MailboxId;
use postern_store::{StoreError, Tx};

const PUT: &str =
    "INSERT INTO cards (mailbox, card) VALUES ($1, $2) ON CONFLICT (mailbox) DO UPDATE SET card = excluded.card";
const GET: &str = "SELECT card FROM cards WHERE mailbox = $1";

/// Replaces the card.
pub(crate) async fn put(tx: &mut Tx<'_>, mailbox: &MailboxId, card: &[u8]) -> Result<(), StoreError> {
    tx.execute(PUT, &[mailbox.0.into(), card.into()]).await?;
    Ok(())
}

/// The card, if one was published.
pub(crate) async fn get(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<Option<Vec<u8>>, StoreError> {
    tx.fetch_optional(GET, &[mailbox.0.into()]).await?.map(|row| row.blob(0)).transpose()
}
