//! Bodies: of the right media type, no longer than the endpoint takes, and entirely there.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use postern_protocol::problem::ProblemKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Refusal;

/// The longest JSON body that an endpoint takes unless it says otherwise: a full `MessageList` is 12 KiB.
const MAX_JSON: usize = 16 * 1024;

/// `application/octet-stream` of at most `MAX` bytes.
pub(crate) struct Octets<const MAX: usize>(pub(crate) Bytes);

impl<S: Sync, const MAX: usize> FromRequest<S> for Octets<MAX> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        expect_type(request.headers(), "application/octet-stream")?;
        read(request.into_body(), MAX).await.map(Self)
    }
}

/// `application/json` of at most `MAX` bytes, decoded; and the same as an answer.
pub(crate) struct Json<T, const MAX: usize = MAX_JSON>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        expect_type(request.headers(), "application/json")?;
        let body = read(request.into_body(), MAX).await?;
        // Serde's messages can repeat what they found: the client is not told more than that it was not this.
        serde_json::from_slice(&body).map(Self).map_err(|_| ProblemKind::BadRequest.into())
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// No body at all.
pub(crate) struct Empty;

impl<S: Sync> FromRequest<S> for Empty {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        match read(request.into_body(), 0).await {
            Ok(_) => Ok(Self),
            Err(_) => Err(Refusal::detailed(ProblemKind::BadRequest, "This request has no body.")),
        }
    }
}

fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), Refusal> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) { Ok(()) } else { Err(ProblemKind::UnsupportedMediaType.into()) }
}

async fn read(body: Body, max: usize) -> Result<Bytes, Refusal> {
    // What says itself that it is too long is not read at all.
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if least > max {
        return Err(ProblemKind::TooLarge.into());
    }
    // A body that came in one piece stays where the connection read it to.
    match Limited::new(body, max).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ProblemKind::TooLarge.into()),
        Err(_) => Err(ProblemKind::BadRequest.into()),
    }
}
