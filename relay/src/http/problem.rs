//! Every refusal becomes a problem document (RFC 9457) here, and nowhere else.

use std::any::Any;

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use postern_protocol::problem::{MEDIA_TYPE, Problem, ProblemKind};
use postern_store::StoreError;

use crate::error::Refusal;

/// What a failure of ours tells the client to wait, seconds.
const INTERNAL_RETRY: u64 = 1;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => {
                // RFC 9110 §15.5.2: a 401 names the scheme.
                let scheme = match problem.known_kind() {
                    Some(ProblemKind::TokenRequired | ProblemKind::TokenInvalid | ProblemKind::ReplyInvalid) => {
                        "PrivateToken"
                    }
                    _ => "Bearer",
                };
                render(&problem, scheme)
            }
            Self::Challenge(problem, challenge) => render(&problem, &challenge),
            Self::Store(error @ (StoreError::Busy | StoreError::Lost)) => {
                tracing::warn!(%error, "a request must be repeated");
                render(&Problem::new(ProblemKind::Unavailable).retry_after(INTERNAL_RETRY), "")
            }
            Self::Store(error) => {
                tracing::error!(%error, "the database failed");
                render(&Problem::new(ProblemKind::Internal).retry_after(INTERNAL_RETRY), "")
            }
        }
    }
}

fn render(problem: &Problem, www_authenticate: &str) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED
        && let Ok(value) = HeaderValue::from_str(www_authenticate)
    {
        headers.insert(WWW_AUTHENTICATE, value);
    }
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, headers, body).into_response();
    // For whoever counts what was refused.
    if let Some(kind) = problem.known_kind() {
        response.extensions_mut().insert(kind);
    }
    response
}

/// No such path.
pub(crate) async fn not_found() -> Refusal {
    ProblemKind::NotFound.into()
}

/// The path has other methods.
pub(crate) async fn method_not_allowed() -> Refusal {
    ProblemKind::MethodNotAllowed.into()
}

/// A handler panicked: a fault of ours, and all that is said of it.
pub(crate) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Refusal::from(ProblemKind::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_problem_document_with_its_headers() {
        let response = Refusal::retry_after(ProblemKind::MailboxFull, 60).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()[RETRY_AFTER], "60");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        let response = Refusal::from(ProblemKind::Unauthorized).into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
