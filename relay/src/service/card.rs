//! Sealed contact cards: whoever holds a card link fetches one, nobody here can read it.

use bytes::Bytes;
use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_store::StoreError;

use crate::app::App;
use crate::db::{card, mailbox};
use crate::error::Refusal;

/// Replaces the card of an open mailbox.
///
/// # Errors
/// `bad-request` for an empty card; `mailbox-unknown` if the mailbox was closed meanwhile.
pub(crate) async fn publish(app: &App, mailbox: MailboxId, sealed: Bytes) -> Result<(), Refusal> {
    if sealed.is_empty() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "The card is empty."));
    }
    let sealed = &sealed;
    app.db
        .run("card_put", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(ProblemKind::MailboxUnknown.into());
                }
                Ok::<_, Refusal>(card::put(tx, &mailbox, sealed).await?)
            })
        })
        .await
}

/// The card of a mailbox.
///
/// # Errors
/// `mailbox-unknown`, or `card-unknown` if its owner has published none.
pub(crate) async fn fetch(app: &App, mailbox: MailboxId) -> Result<Vec<u8>, Refusal> {
    let (exists, card) = app
        .db
        .read("card_get", |tx| {
            Box::pin(async move {
                Ok::<_, StoreError>((mailbox::exists(tx, &mailbox).await?, card::get(tx, &mailbox).await?))
            })
        })
        .await?;
    if !exists {
        return Err(ProblemKind::MailboxUnknown.into());
    }
    card.ok_or_else(|| ProblemKind::CardUnknown.into())
}
