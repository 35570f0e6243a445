//! `PUT`, `GET /v1/mailbox/prekeys` and `POST /v1/mailboxes/{id}/prekey`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use postern_protocol::ids::PrekeyClaim;
use postern_protocol::prekeys::{MAX_PREKEY_UPLOAD, PREKEY_CLAIM_LEN, PrekeySupply};
use postern_protocol::problem::ProblemKind;

use super::body::{Json, Octets};
use crate::app::App;
use crate::error::Refusal;
use crate::service::mailbox::Owner;
use crate::service::prekeys;

/// Adds to the owner's supply.
pub(crate) async fn add(
    State(app): State<App>,
    owner: Owner,
    Octets(upload): Octets<MAX_PREKEY_UPLOAD>,
) -> Result<Json<PrekeySupply>, Refusal> {
    prekeys::add(&app, owner.mailbox, upload).await.map(Json)
}

/// Tells the owner how the supply stands.
pub(crate) async fn look(State(app): State<App>, owner: Owner) -> Result<Json<PrekeySupply>, Refusal> {
    prekeys::look(&app, owner.mailbox).await.map(Json)
}

/// Hands a prekey to whoever asks.
pub(crate) async fn claim(
    State(app): State<App>,
    mailbox: Result<Path<String>, PathRejection>,
    Octets(claim): Octets<PREKEY_CLAIM_LEN>,
) -> Result<Response, Refusal> {
    let mailbox = mailbox.ok().and_then(|Path(text)| text.parse().ok()).ok_or(ProblemKind::MailboxUnknown)?;
    let claim = PrekeyClaim::from_slice(&claim)
        .map_err(|_| Refusal::detailed(ProblemKind::BadRequest, "A claim is 32 random bytes."))?;
    Ok(match prekeys::claim(&app, mailbox, claim).await? {
        Some(sealed) => ([(CONTENT_TYPE, "application/octet-stream")], sealed.0.to_vec()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
