//! `POST /v1/exchange`.

use axum::extract::State;
use postern_protocol::exchange::{ExchangeRequest, ExchangeResponse};

use super::body::Json;
use crate::app::App;
use crate::error::Refusal;
use crate::service::exchange;

/// A released token, or an unspent one of a retiring key, for a blind signature.
pub(crate) async fn exchange(
    State(app): State<App>,
    Json(request): Json<ExchangeRequest>,
) -> Result<Json<ExchangeResponse>, Refusal> {
    let blind_signature = exchange::exchange(&app, &request).await?;
    Ok(Json(ExchangeResponse { blind_signature }))
}
