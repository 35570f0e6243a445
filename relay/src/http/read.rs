//! `GET /v1/mailbox/messages` (long poll) and `GET /v1/mailbox/events` (server-sent events).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures::StreamExt;
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::Messages;
use serde::Deserialize;

use super::body::Json;
use crate::app::App;
use crate::error::Refusal;
use crate::service::mailbox::Owner;
use crate::service::read;

const MAX_WAIT: u64 = 60;
const MAX_LIMIT: u64 = 100;

/// How long to wait for a first message, seconds, and how many to answer at most.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    #[serde(default)]
    wait: u64,
    #[serde(default = "max_limit")]
    limit: u64,
}

const fn max_limit() -> u64 {
    MAX_LIMIT
}

/// The oldest messages that are not acknowledged.
pub(crate) async fn messages(
    State(app): State<App>,
    owner: Owner,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Json<Messages>, Refusal> {
    let Query(wish) = wish.map_err(|_| ProblemKind::BadRequest)?;
    if wish.wait > MAX_WAIT || !(1..=MAX_LIMIT).contains(&wish.limit) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "`wait` is at most 60, `limit` is 1 to 100."));
    }
    read::messages(&app, owner.mailbox, wish.limit, Duration::from_secs(wish.wait)).await.map(Json)
}

/// Says when there is something to fetch, until the JWT expires.
pub(crate) async fn events(State(app): State<App>, owner: Owner) -> Result<impl IntoResponse, Refusal> {
    let events = read::events(app, owner.mailbox, owner.expires)?.map(|event| {
        Ok::<_, Infallible>(match event {
            // An event without data is not dispatched by browsers.
            read::Event::Mail => Event::default().event("message").data("{}"),
            read::Event::Heartbeat => Event::default().comment("still here"),
        })
    });
    // Tells a proxy in front not to hold events back.
    Ok(([("x-accel-buffering", "no")], Sse::new(events)))
}
