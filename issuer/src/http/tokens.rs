//! Token requests: of RFC 9578, single and batch, and of look-up tokens (type 0x0005).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use postern_protocol::codec::DecodeError;
use postern_protocol::ids::OprfElement;
use postern_protocol::lookup::{
    AMORTIZED_REQUEST_MEDIA_TYPE, AMORTIZED_RESPONSE_MEDIA_TYPE, LookupTokenRequest, MAX_TOKEN_BATCH,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::tokens::{
    BATCH_REQUEST_MEDIA_TYPE, BATCH_RESPONSE_MEDIA_TYPE, BatchTokenRequest, BatchTokenResponse, REQUEST_MEDIA_TYPE,
    RESPONSE_MEDIA_TYPE, TokenRequest,
};

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::lookup_tokens;
use crate::service::tokens::{self, Bearer};

/// The largest is a full batch of look-up tokens.
const LIMIT: usize = 16 + MAX_TOKEN_BATCH * OprfElement::LEN;

/// `POST /v1/token-request`.
///
/// # Errors
/// See [`tokens::issue`] and [`lookup_tokens::issue`]; `unsupported-media-type`.
pub async fn request(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let incoming = Incoming::read(request, LIMIT).await?;
    match incoming.media_type() {
        Some(REQUEST_MEDIA_TYPE) => single(&issuer, &incoming).await,
        Some(BATCH_REQUEST_MEDIA_TYPE) => batch(&issuer, &incoming).await,
        Some(AMORTIZED_REQUEST_MEDIA_TYPE) => lookup(&issuer, &incoming).await,
        _ => Err(ProblemKind::UnsupportedMediaType.into()),
    }
}

async fn single(issuer: &Arc<Issuer>, incoming: &Incoming) -> Handled {
    let bearer = bearer(issuer, incoming)?;
    let request = TokenRequest::decode(&incoming.body).map_err(malformed)?;
    let signatures = tokens::issue(issuer, bearer, &[request]).await?;
    let body = signatures.into_iter().flat_map(|signature| signature.0).collect();
    Ok(Answer::bytes(StatusCode::OK, RESPONSE_MEDIA_TYPE, body))
}

async fn batch(issuer: &Arc<Issuer>, incoming: &Incoming) -> Handled {
    let bearer = bearer(issuer, incoming)?;
    let BatchTokenRequest(requests) = BatchTokenRequest::decode(&incoming.body).map_err(malformed)?;
    let signatures = tokens::issue(issuer, bearer, &requests).await?;
    let body = BatchTokenResponse(signatures.into_iter().map(Some).collect()).encode();
    let body = body.map_err(|_| Refusal::Failed("an answer does not encode"))?;
    Ok(Answer::bytes(StatusCode::OK, BATCH_RESPONSE_MEDIA_TYPE, body))
}

async fn lookup(issuer: &Arc<Issuer>, incoming: &Incoming) -> Handled {
    let bearer = bearer(issuer, incoming)?;
    let request = LookupTokenRequest::decode(&incoming.body)
        .map_err(|_| Refusal::detailed(ProblemKind::BadRequest, "not a token request of type 0x0005"))?;
    let response = lookup_tokens::issue(issuer, bearer, &incoming.body, request).await?;
    let body = response.encode().map_err(|_| Refusal::Failed("an answer does not encode"))?;
    Ok(Answer::bytes(StatusCode::OK, AMORTIZED_RESPONSE_MEDIA_TYPE, body))
}

fn bearer(issuer: &Issuer, incoming: &Incoming) -> Result<Bearer, Refusal> {
    let jwt = incoming
        .authorization()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(tokens::SCHEME))
        .map(|(_, jwt)| jwt.trim());
    tokens::authorise(issuer, jwt.ok_or(Refusal::Unauthorized(tokens::SCHEME))?)
}

fn malformed(_: DecodeError) -> Refusal {
    Refusal::detailed(ProblemKind::BadRequest, "not a token request of type 0x0002")
}
