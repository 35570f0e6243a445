//! Registration.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::service::register;

const CODE_LIMIT: usize = 1024;
const REGISTRATION_LIMIT: usize = 16 * 1024;

/// `POST /v1/registration/code`.
///
/// # Errors
/// See [`register::ask_code`].
pub async fn code(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let request = Incoming::read(request, CODE_LIMIT).await?.json()?;
    Answer::json(StatusCode::OK, &register::ask_code(&issuer, &request).await?)
}

/// `POST /v1/registration`.
///
/// # Errors
/// See [`register::register`].
pub async fn register(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let incoming = Incoming::read(request, REGISTRATION_LIMIT).await?;
    let answer = register::register(&issuer, &incoming.body, &incoming.json()?).await?;
    Ok(Answer::bytes(StatusCode::CREATED, "application/json", answer))
}
