//! Reports on texts. What else than the outcome is said in them is not looked at.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use postern_protocol::problem::ProblemKind;

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::service::texts;

const REPORT_LIMIT: usize = 8 * 1024;

/// `GET /v1/texts/{report}?status=…`: as Kannel reports.
///
/// # Errors
/// See [`texts::reported`].
pub async fn query(State(issuer): State<Arc<Issuer>>, Path(report): Path<String>, request: Request) -> Handled {
    texts::reported(&issuer, &report, request.uri().query().unwrap_or_default()).await?;
    Ok(Answer::empty())
}

/// `POST /v1/texts/{report}`, a form: as Twilio reports.
///
/// # Errors
/// See [`texts::reported`].
pub async fn form(State(issuer): State<Arc<Issuer>>, Path(report): Path<String>, request: Request) -> Handled {
    let incoming = Incoming::read(request, REPORT_LIMIT).await?;
    if incoming.media_type() != Some("application/x-www-form-urlencoded") {
        return Err(ProblemKind::UnsupportedMediaType.into());
    }
    texts::reported(&issuer, &report, &String::from_utf8_lossy(&incoming.body)).await?;
    Ok(Answer::empty())
}
