//! What anybody may read: who the issuer is, its keys, what they signed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use postern_protocol::tokens::DIRECTORY_MEDIA_TYPE;

use super::answer::{Answer, Handled};
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::keys;

/// `GET /v1/issuer`.
///
/// # Errors
/// None of its own.
pub async fn info(State(issuer): State<Arc<Issuer>>) -> Handled {
    Answer::json(StatusCode::OK, &keys::info(&issuer))
}

/// `GET /v1/issuer/counters`.
///
/// # Errors
/// If the database fails.
pub async fn counters(State(issuer): State<Arc<Issuer>>) -> Handled {
    Answer::json(StatusCode::OK, &keys::counters(&issuer).await?)
}

/// `GET /.well-known/private-token-issuer-directory` (RFC 9578 §4).
///
/// # Errors
/// If the database fails.
pub async fn directory(State(issuer): State<Arc<Issuer>>) -> Handled {
    let directory = keys::directory(&issuer).await?;
    let body = serde_json::to_vec(&directory).map_err(|_| Refusal::Failed("an answer does not encode"))?;
    let age = format!("public, max-age={}", issuer.config.limits.directory_max_age_seconds);
    Ok(Answer::bytes(StatusCode::OK, DIRECTORY_MEDIA_TYPE, body).with(CACHE_CONTROL, &age))
}
