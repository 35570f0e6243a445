//! The log. Proofs and leaves never change and are for caches to keep; the head is not, for what is shown must be in it.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use postern_protocol::ids::Sha256Digest;
use postern_protocol::problem::ProblemKind;
use serde::Serialize;

use super::answer::{Answer, Handled, IMMUTABLE};
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::log;

/// `GET /v1/log`.
///
/// # Errors
/// See [`log::head`].
pub async fn head(State(issuer): State<Arc<Issuer>>, headers: HeaderMap) -> Handled {
    json(&headers, &log::head(&issuer).await?, "no-cache")
}

/// `GET /v1/log/consistency?from=&to=`.
///
/// # Errors
/// See [`log::consistency`].
pub async fn consistency(State(issuer): State<Arc<Issuer>>, query: RawQuery, headers: HeaderMap) -> Handled {
    let [from, to] = parameters(&query, ["from", "to"])?;
    json(&headers, &log::consistency(&issuer, number(&from)?, number(&to)?).await?, IMMUTABLE)
}

/// `GET /v1/log/inclusion?leaf=&size=`.
///
/// # Errors
/// See [`log::inclusion`].
pub async fn inclusion(State(issuer): State<Arc<Issuer>>, query: RawQuery, headers: HeaderMap) -> Handled {
    let [leaf, size] = parameters(&query, ["leaf", "size"])?;
    let leaf: Sha256Digest = leaf.parse().map_err(|_| malformed())?;
    json(&headers, &log::inclusion(&issuer, &leaf, number(&size)?).await?, IMMUTABLE)
}

/// `GET /v1/log/entries?from=&to=`.
///
/// # Errors
/// See [`log::entries`].
pub async fn entries(State(issuer): State<Arc<Issuer>>, query: RawQuery, headers: HeaderMap) -> Handled {
    let [from, to] = parameters(&query, ["from", "to"])?;
    json(&headers, &log::entries(&issuer, number(&from)?, number(&to)?).await?, IMMUTABLE)
}

fn json(headers: &HeaderMap, value: &impl Serialize, cache_control: &str) -> Handled {
    let body = serde_json::to_vec(value).map_err(|_| Refusal::Failed("an answer does not encode"))?;
    Ok(Answer::cacheable(headers, "application/json", body, cache_control))
}

/// Each of these parameters, once, and no others.
fn parameters<const N: usize>(RawQuery(query): &RawQuery, names: [&str; N]) -> Result<[String; N], Refusal> {
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()).collect();
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone().into_owned());
    let values = names.map(value);
    if pairs.len() != N || values.iter().any(Option::is_none) {
        return Err(malformed());
    }
    Ok(values.map(Option::unwrap_or_default))
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| malformed())
}

fn malformed() -> Refusal {
    Refusal::detailed(ProblemKind::BadRequest, "the query is not of the right shape")
}
