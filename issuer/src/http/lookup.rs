//! Look-ups: by nobody in particular.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use postern_protocol::problem::ProblemKind;

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::lookup;

/// A full batch has 34 kB.
const LIMIT: usize = 36 * 1024;

/// `GET /v1/lookup`.
///
/// # Errors
/// See [`lookup::info`].
pub async fn info(State(issuer): State<Arc<Issuer>>) -> Handled {
    Answer::json(StatusCode::OK, &lookup::info(&issuer).await?)
}

/// `POST /v1/lookup`. A request with credentials is refused: who sends them has mixed two circuits up.
///
/// # Errors
/// See [`lookup::evaluate`]; `bad-request`.
pub async fn evaluate(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let incoming = Incoming::read(request, LIMIT).await?;
    if incoming.has_credentials() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "a look-up must not say who asks"));
    }
    Answer::json(StatusCode::OK, &lookup::evaluate(&issuer, incoming.json()?).await?)
}
