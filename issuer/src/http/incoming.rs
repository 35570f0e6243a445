//! What comes in: a request with its whole body, of bounded size.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use axum::http::{HeaderMap, HeaderName, Method, Uri};
use futures::StreamExt;
use postern_protocol::problem::ProblemKind;
use serde::de::DeserializeOwned;

use crate::error::Refusal;

/// A request, read to its end.
#[derive(Debug)]
pub struct Incoming {
    /// The body as it came.
    pub body: Bytes,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Incoming {
    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// `too-large`, as soon as that is known; `bad-request` if the connection breaks.
    pub async fn read(request: Request, limit: usize) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
            return Err(ProblemKind::TooLarge.into());
        }
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refusal::detailed(ProblemKind::BadRequest, "the body is incomplete"))?;
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(ProblemKind::TooLarge.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self { body: bytes.into(), method: parts.method, uri: parts.uri, headers: parts.headers })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `unsupported-media-type`; `bad-request`, which does not say where, for that would repeat what was sent.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.media_type() != Some("application/json") {
            return Err(ProblemKind::UnsupportedMediaType.into());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let detail = if error.is_data() { "the JSON is not of the right shape" } else { "the body is not JSON" };
            Refusal::detailed(ProblemKind::BadRequest, detail)
        })
    }

    /// The media type without its parameters.
    pub fn media_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)?.split(';').next().map(str::trim)
    }

    /// The value of `Authorization`, if there is exactly one.
    pub fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION)
    }

    /// Whether anything was said about who asks.
    pub fn has_credentials(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION) || self.headers.contains_key(COOKIE)
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { first.to_str().ok() }
    }

    /// `GET`, `POST` …
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// As in the request line.
    pub fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str)
    }
}
