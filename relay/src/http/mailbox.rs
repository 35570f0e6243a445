//! `GET /v1/relay` and `POST /v1/mailboxes`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use postern_protocol::ids::Base64;
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::{ENVELOPE_SIZES, MailboxOpened, RelayInfo};

use super::auth::Bearer;
use super::body::{Empty, Json};
use crate::app::App;
use crate::error::Refusal;
use crate::service::{mailbox, rollout};

/// The relay's public face.
pub(crate) async fn info(State(app): State<App>) -> Result<Json<RelayInfo>, Refusal> {
    let config = &app.config;
    Ok(Json(RelayInfo {
        name: config.name.clone(),
        issuer_name: config.issuer.name.clone(),
        issuer_public_key: config.issuer.public_key,
        challenge: Base64(app.challenge.encode().map_err(|_| ProblemKind::Internal)?),
        envelope_sizes: ENVELOPE_SIZES.to_vec(),
        retention_seconds: config.limits.retention_seconds,
        quota_messages: config.limits.quota_messages,
        quota_bytes: config.limits.quota_bytes,
        replies: config.replies,
        prekeys_per_mailbox: config.limits.prekeys_per_mailbox,
        prekey_claim_seconds: config.limits.prekey_claim_seconds,
        token_keys: app.keys.listed(app.clock.now()),
        enforce: config.enforce,
        unenforced: rollout::counts(&app).await?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

/// The endpoints, for programs.
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], include_str!("../../../docs/openapi/relay.json"))
}

/// Opens the mailbox of a grant: 201, or 200 if it was open.
pub(crate) async fn open(
    State(app): State<App>,
    Bearer(grant): Bearer,
    Empty: Empty,
) -> Result<(StatusCode, Json<MailboxOpened>), Refusal> {
    let opened = mailbox::open(&app, &grant).await?;
    let status = if opened.fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(MailboxOpened { mailbox: opened.mailbox })))
}
