//! What goes back: a status, a body, a few headers; and the one place where a refusal becomes HTTP.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use postern_protocol::ids::encode_base64;
use postern_protocol::problem::{self, Problem, ProblemKind};
use postern_store::StoreError;
use serde::Serialize;

use crate::error::Refusal;
use crate::secrets::digest;

/// `Cache-Control` of what never changes under its name.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What a handler returns.
pub type Handled = Result<Answer, Refusal>;

/// An answer whose bytes are still at hand, to be signed.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    headers: HeaderMap,
    /// Of a refusal: what kind. For whoever counts.
    refused: Option<ProblemKind>,
}

impl Answer {
    /// Bytes of a media type.
    pub fn bytes(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, body, headers, refused: None }
    }

    /// JSON.
    ///
    /// # Errors
    /// If it does not encode, which our types do.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Handled {
        let body = serde_json::to_vec(value).map_err(|_| Refusal::Failed("an answer does not encode"))?;
        Ok(Self::bytes(status, "application/json", body))
    }

    /// 204.
    pub fn empty() -> Self {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        Self { status: StatusCode::NO_CONTENT, body: Vec::new(), headers, refused: None }
    }

    /// Bytes that caches may keep, by an ETag of what they are; 304 without them for who has them (RFC 9110 §13.1.2).
    pub fn cacheable(request: &HeaderMap, media_type: &'static str, body: Vec<u8>, cache_control: &str) -> Self {
        Self::tagged(request, &digest(&body), media_type, body, cache_control)
    }

    /// The same for bytes whose SHA-256 is known.
    pub fn tagged(
        request: &HeaderMap,
        digest: &[u8; 32],
        media_type: &'static str,
        body: Vec<u8>,
        cache_control: &str,
    ) -> Self {
        let tag = format!("\"{}\"", encode_base64(digest));
        let kept = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut kept = kept.flat_map(|value| value.split(',')).map(|kept| kept.trim().trim_start_matches("W/"));
        let answer = if kept.any(|kept| kept == "*" || kept == tag) {
            Self { status: StatusCode::NOT_MODIFIED, body: Vec::new(), headers: HeaderMap::new(), refused: None }
        } else {
            Self::bytes(StatusCode::OK, media_type, body)
        };
        answer.with(ETAG, &tag).with(CACHE_CONTROL, cache_control)
    }

    /// With a header; a value that is none is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// What a signature over the answer covers.
    pub fn signed_parts(&self) -> (u16, &[u8]) {
        (self.status.as_u16(), &self.body)
    }

    fn problem(document: &Problem) -> Self {
        let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(document).unwrap_or_default();
        let mut answer = Self::bytes(status, problem::MEDIA_TYPE, body);
        answer.refused = document.known_kind();
        match document.retry_after {
            Some(seconds) => answer.with(RETRY_AFTER, &seconds.to_string()),
            None => answer,
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Problem(document) if document.status == 401 => {
                Self::problem(&document).with(WWW_AUTHENTICATE, "PosternLogin")
            }
            Refusal::Problem(document) => Self::problem(&document),
            Refusal::Unauthorized(scheme) => {
                Self::problem(&Problem::new(ProblemKind::Unauthorized)).with(WWW_AUTHENTICATE, scheme)
            }
            Refusal::Store(error @ (StoreError::Busy | StoreError::Lost)) => {
                tracing::warn!(%error, "a request must be repeated");
                Self::problem(&Problem::new(ProblemKind::Unavailable).retry_after(1))
            }
            failure @ (Refusal::Store(_) | Refusal::Failed(_)) => {
                tracing::error!(error = %failure, "a request failed");
                Self::problem(&Problem::new(ProblemKind::Internal).retry_after(1))
            }
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(kind) = self.refused {
            response.extensions_mut().insert(kind);
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Answer::from(self).into_response()
    }
}
