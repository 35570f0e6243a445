//! Calls of relays. Every answer to a call that was authenticated is signed, refusals included.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use postern_credentials::relay_call::sign_reply;
use postern_protocol::internal::{KeysRequest, REPLY_HEADER, SignRequest};

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::exchange::{self, Caller};

const LIMIT: usize = 2048;
const REPLY: HeaderName = HeaderName::from_static(REPLY_HEADER);

async fn authenticated(issuer: &Issuer, request: Request) -> Result<(Caller, Incoming), Refusal> {
    let call = Incoming::read(request, LIMIT).await?;
    let caller =
        exchange::authenticate(issuer, call.authorization(), call.method(), call.path_and_query(), &call.body)?;
    Ok((caller, call))
}

fn signed(issuer: &Issuer, caller: &Caller, result: Handled) -> Answer {
    let answer = result.unwrap_or_else(Answer::from);
    let (status, body) = answer.signed_parts();
    let signature = sign_reply(&issuer.secrets.identity, &caller.nonce, status, body);
    answer.with(REPLY, &signature.to_string())
}

/// `POST /internal/v1/keys`.
///
/// # Errors
/// See [`exchange::live_keys`].
pub async fn keys(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    async fn call(issuer: &Issuer, caller: &Caller, call: &Incoming) -> Handled {
        let KeysRequest {} = call.json()?;
        Answer::json(StatusCode::OK, &exchange::live_keys(issuer, caller).await?)
    }
    let (caller, incoming) = authenticated(&issuer, request).await?;
    Ok(signed(&issuer, &caller, call(&issuer, &caller, &incoming).await))
}

/// `POST /internal/v1/exchange`.
///
/// # Errors
/// See [`exchange::sign`].
pub async fn sign(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    async fn call(issuer: &Arc<Issuer>, caller: &Caller, call: &Incoming) -> Handled {
        let request: SignRequest = call.json()?;
        Answer::json(StatusCode::OK, &exchange::sign(issuer, caller, &request).await?)
    }
    let (caller, incoming) = authenticated(&issuer, request).await?;
    Ok(signed(&issuer, &caller, call(&issuer, &caller, &incoming).await))
}
