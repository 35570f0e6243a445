//! `PUT /v1/mailbox/reply-keys`, `POST /v1/mailbox/reply-strikes` and `/reply-reveals`: the owner and its contacts.

use axum::extract::State;
use axum::http::StatusCode;
use postern_protocol::reply::{ReplyKeys, Reveal, Strikes};

use super::body::Json;
use crate::app::App;
use crate::error::Refusal;
use crate::service::mailbox::Owner;
use crate::service::{reply_keys, strike};

/// The longest list of strikes: 1,024 nullifiers, each of another epoch, are 48 KiB.
const MAX_STRIKES_JSON: usize = 64 * 1024;

/// Declares the group secrets in force.
pub(crate) async fn keys(
    State(app): State<App>,
    owner: Owner,
    Json(keys): Json<ReplyKeys>,
) -> Result<StatusCode, Refusal> {
    reply_keys::declare(&app, owner.mailbox, &keys.keys).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Strikes nullifiers and lifts strikes.
pub(crate) async fn strikes(
    State(app): State<App>,
    owner: Owner,
    Json(strikes): Json<Strikes, MAX_STRIKES_JSON>,
) -> Result<StatusCode, Refusal> {
    strike::apply(&app, owner.mailbox, &strikes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Strikes all that comes from a seed.
pub(crate) async fn reveal(
    State(app): State<App>,
    owner: Owner,
    Json(reveal): Json<Reveal>,
) -> Result<StatusCode, Refusal> {
    strike::reveal(&app, owner.mailbox, &reveal).await?;
    Ok(StatusCode::NO_CONTENT)
}
