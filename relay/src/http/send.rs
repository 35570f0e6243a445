//! `POST /v1/mailboxes/{id}/messages`: cold sends and replies.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use postern_protocol::send::{Accepted, ENVELOPE_SIZES};

use super::auth::presented;
use super::body::{Json, Octets};
use crate::app::App;
use crate::error::Refusal;
use crate::service::send;

const MAX_ENVELOPE: usize = {
    let [_, _, greatest] = ENVELOPE_SIZES;
    greatest
};

/// 201 means that the message is on disk.
pub(crate) async fn send(
    State(app): State<App>,
    mailbox: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    Octets(envelope): Octets<MAX_ENVELOPE>,
) -> Result<(StatusCode, Json<Accepted>), Refusal> {
    let mailbox = mailbox.ok().and_then(|Path(text)| text.parse().ok());
    let message = send::accept(&app, mailbox, presented(&headers), envelope).await?;
    Ok((StatusCode::CREATED, Json(Accepted { message })))
}
