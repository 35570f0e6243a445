//! What anybody may read: who the issuer is, its keys, what they signed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use postern_protocol::tokens::DIRECTORY_MEDIA_TYPE;

use super::answer::{Answer, Handled};
use crate::app::Issuer;
use crate::service::keys;

/// `GET /v1/issuer`.
///
/// # Errors
/// None of its own.
pub async fn info(State(issuer): State<Arc<Issuer>>) -> Handled {
    Answer::json(StatusCode::OK, &keys::info(&issuer))
}

/// `GET /openapi.json`.
///
/// # Errors
/// None.
pub async fn openapi(headers: HeaderMap) -> Handled {
    let document = include_str!("../../../docs/openapi/issuer.json").as_bytes().to_vec();
    Ok(Answer::cacheable(&headers, "application/json", document, "public, max-age=3600"))
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
pub async fn directory(State(issuer): State<Arc<Issuer>>, headers: HeaderMap) -> Handled {
    let body = keys::directory(&issuer).await?;
    let age = format!("public, max-age={}", issuer.config.limits.directory_max_age_seconds);
    Ok(Answer::cacheable(&headers, DIRECTORY_MEDIA_TYPE, body, &age))
}
