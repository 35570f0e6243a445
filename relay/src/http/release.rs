//! `POST /v1/mailbox/ack`, `/release`, `/decline` and `/spam`.

use axum::extract::State;
use postern_protocol::release::{MessageList, Outcome};

use super::body::Json;
use crate::app::App;
use crate::error::Refusal;
use crate::service::mailbox::Owner;
use crate::service::release::act;
use crate::service::verdicts::Action;

/// Deletes messages from the queue.
pub(crate) async fn acknowledge(
    State(app): State<App>,
    owner: Owner,
    Json(list): Json<MessageList>,
) -> Result<Json<Outcome>, Refusal> {
    act(&app, owner.mailbox, Action::Acknowledge, list.messages).await.map(Json)
}

/// Gives tokens back.
pub(crate) async fn release(
    State(app): State<App>,
    owner: Owner,
    Json(list): Json<MessageList>,
) -> Result<Json<Outcome>, Refusal> {
    act(&app, owner.mailbox, Action::Release, list.messages).await.map(Json)
}

/// Burns tokens.
pub(crate) async fn spam(
    State(app): State<App>,
    owner: Owner,
    Json(list): Json<MessageList>,
) -> Result<Json<Outcome>, Refusal> {
    act(&app, owner.mailbox, Action::Spam, list.messages).await.map(Json)
}
