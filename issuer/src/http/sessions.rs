//! Session-signed calls. Every answer to a call that was authenticated carries its tag, refusals included.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use postern_credentials::session::reply_mac;
use postern_protocol::login::SESSION_REPLY_HEADER;

use super::answer::{Answer, Handled};
use super::incoming::Incoming;
use crate::app::Issuer;
use crate::error::Refusal;
use crate::service::sessions::{self, Caller};
use crate::service::{account, lookup_tokens};

const LIMIT: usize = 1024;
const REPLY: HeaderName = HeaderName::from_static(SESSION_REPLY_HEADER);

async fn authenticated(issuer: &Issuer, request: Request) -> Result<(Caller, Incoming), Refusal> {
    let call = Incoming::read(request, LIMIT).await?;
    let caller =
        sessions::authenticate(issuer, call.authorization(), call.method(), call.path_and_query(), &call.body).await?;
    Ok((caller, call))
}

fn tagged(caller: &Caller, result: Handled) -> Answer {
    let answer = result.unwrap_or_else(Answer::from);
    let (status, body) = answer.signed_parts();
    let tag = reply_mac(&caller.key, &caller.mac, status, body);
    answer.with(REPLY, &tag.to_string())
}

/// `POST /v1/sessions/token`.
///
/// # Errors
/// See [`sessions::jwt`].
pub async fn jwt(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    async fn call(issuer: &Issuer, caller: &Caller, call: &Incoming) -> Handled {
        Answer::json(StatusCode::OK, &sessions::jwt(issuer, caller, &call.json()?).await?)
    }
    let (caller, incoming) = authenticated(&issuer, request).await?;
    Ok(tagged(&caller, call(&issuer, &caller, &incoming).await))
}

/// `GET /v1/sessions`.
///
/// # Errors
/// See [`sessions::list`].
pub async fn list(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let (caller, _) = authenticated(&issuer, request).await?;
    let result = sessions::list(&issuer, &caller).await;
    Ok(tagged(&caller, result.and_then(|sessions| Answer::json(StatusCode::OK, &sessions))))
}

/// `POST /v1/sessions/revoke`.
///
/// # Errors
/// See [`sessions::revoke`].
pub async fn revoke(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    async fn call(issuer: &Issuer, caller: &Caller, call: &Incoming) -> Handled {
        sessions::revoke(issuer, caller, &call.json()?).await?;
        Ok(Answer::empty())
    }
    let (caller, incoming) = authenticated(&issuer, request).await?;
    Ok(tagged(&caller, call(&issuer, &caller, &incoming).await))
}

/// `GET /v1/account`.
///
/// # Errors
/// See [`sessions::account`].
pub async fn account(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let (caller, _) = authenticated(&issuer, request).await?;
    let result = sessions::account(&issuer, &caller).await;
    Ok(tagged(&caller, result.and_then(|account| Answer::json(StatusCode::OK, &account))))
}

/// `DELETE /v1/account`.
///
/// # Errors
/// See [`account::delete`].
pub async fn delete_account(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let (caller, _) = authenticated(&issuer, request).await?;
    let result = account::delete(&issuer, &caller).await;
    Ok(tagged(&caller, result.map(|()| Answer::empty())))
}

/// `PUT /v1/account/listing`.
///
/// # Errors
/// See [`account::set_listed`].
pub async fn listing(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    async fn call(issuer: &Issuer, caller: &Caller, call: &Incoming) -> Handled {
        account::set_listed(issuer, caller, call.json()?).await?;
        Ok(Answer::empty())
    }
    let (caller, incoming) = authenticated(&issuer, request).await?;
    Ok(tagged(&caller, call(&issuer, &caller, &incoming).await))
}

/// `GET /v1/account/lookups`.
///
/// # Errors
/// See [`lookup_tokens::allowance`].
pub async fn lookups(State(issuer): State<Arc<Issuer>>, request: Request) -> Handled {
    let (caller, _) = authenticated(&issuer, request).await?;
    let result = lookup_tokens::allowance(&issuer, &caller).await;
    Ok(tagged(&caller, result.and_then(|allowance| Answer::json(StatusCode::OK, &allowance))))
}
