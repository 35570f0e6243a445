//! `PUT /v1/mailbox/card` and `GET /v1/mailboxes/{id}/card`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::MAX_SEALED_CARD;

use super::body::Octets;
use crate::app::App;
use crate::error::Refusal;
use crate::service::card;
use crate::service::mailbox::Owner;

/// Replaces the owner's card.
pub(crate) async fn publish(
    State(app): State<App>,
    owner: Owner,
    Octets(sealed): Octets<MAX_SEALED_CARD>,
) -> Result<StatusCode, Refusal> {
    card::publish(&app, owner.mailbox, sealed).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands a card to whoever asks.
pub(crate) async fn fetch(
    State(app): State<App>,
    mailbox: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let mailbox = mailbox.ok().and_then(|Path(text)| text.parse().ok()).ok_or(ProblemKind::MailboxUnknown)?;
    let sealed = card::fetch(&app, mailbox).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], sealed))
}
