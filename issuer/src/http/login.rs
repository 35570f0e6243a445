//! Login.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::service::login;

const CHALLENGE_LIMIT: usize = 1024;
const LOGIN_LIMIT: usize = 2048;

/// `POST /v1/login/challenge`.
///
/// # Errors
/// See [`login::challenge`].
pub async fn challenge(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let request = Incoming::read(request, CHALLENGE_LIMIT).await?.json()?;
    Answer::json(StatusCode::OK, &login::challenge(&issuer, &request).await?)
}

/// `POST /v1/login`.
///
/// # Errors
/// See [`login::login`].
pub async fn login(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let request = Incoming::read(request, LOGIN_LIMIT).await?.json()?;
    Answer::json(StatusCode::OK, &login::login(&issuer, request).await?)
}
