//! The directory's files: the same for everybody, and for caches to keep.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use postern_protocol::directory::MANIFEST_MEDIA_TYPE;
use postern_protocol::problem::ProblemKind;

use super::answer::{Answer, Handled, IMMUTABLE};
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::directory::{self, File};

/// `GET /v1/directory`.
///
/// # Errors
/// See [`directory::manifest`].
pub async fn manifest(State(issuer): State<Arc<Issuer>>, headers: HeaderMap) -> Handled {
    let body = directory::manifest(&issuer).await?;
    let age = format!("public, max-age={}", issuer.config.limits.directory_max_age_seconds);
    Ok(Answer::cacheable(&headers, MANIFEST_MEDIA_TYPE, body, &age))
}

/// `GET /v1/directory/{build}/fingerprints/{bucket}`.
///
/// # Errors
/// See [`directory::file`].
pub async fn fingerprints(
    State(issuer): State<Arc<Issuer>>,
    Path((build, bucket)): Path<(String, String)>,
    headers: HeaderMap,
) -> Handled {
    file(&issuer, &headers, &build, File::Fingerprints(number(&bucket)?)).await
}

/// `GET /v1/directory/{build}/records/{bucket}`.
///
/// # Errors
/// See [`directory::file`].
pub async fn records(
    State(issuer): State<Arc<Issuer>>,
    Path((build, bucket)): Path<(String, String)>,
    headers: HeaderMap,
) -> Handled {
    file(&issuer, &headers, &build, File::Records(number(&bucket)?)).await
}

/// `GET /v1/directory/{build}/filter`.
///
/// # Errors
/// See [`directory::file`].
pub async fn filter(State(issuer): State<Arc<Issuer>>, Path(build): Path<String>, headers: HeaderMap) -> Handled {
    file(&issuer, &headers, &build, File::Filter).await
}

/// `GET /v1/directory/{build}/delta`.
///
/// # Errors
/// See [`directory::file`].
pub async fn delta(State(issuer): State<Arc<Issuer>>, Path(build): Path<String>, headers: HeaderMap) -> Handled {
    file(&issuer, &headers, &build, File::Delta).await
}

async fn file(issuer: &Issuer, headers: &HeaderMap, build: &str, wanted: File) -> Handled {
    let (digest, body) = directory::file(issuer, number(build)?, wanted).await?;
    Ok(Answer::tagged(headers, &digest, "application/octet-stream", body, IMMUTABLE))
}

/// One spelling of each number, so that caches keep one copy.
fn number(text: &str) -> Result<u32, Refusal> {
    let number = text.parse().ok().filter(|number: &u32| number.to_string() == text);
    number.ok_or_else(|| ProblemKind::NotFound.into())
}
