//! Credentials in the `Authorization` header: bearer JWTs of the mailbox's owner, tokens of strangers, and replies of contacts.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::{REPLY_SCHEME, ReplyAuthorization};
use postern_protocol::tokens::parse_authorization;

use crate::app::App;
use crate::error::Refusal;
use crate::service::mailbox::{self, Owner};
use crate::service::send::Presented;

/// The one `Authorization` header; two of them are as good as none.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// A bearer token (RFC 6750 §2.1), unchecked.
pub(crate) struct Bearer(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let (scheme, token) =
            authorization(&parts.headers).and_then(|value| value.split_once(' ')).ok_or(ProblemKind::Unauthorized)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self(token.trim().to_owned()))
        } else {
            Err(ProblemKind::Unauthorized.into())
        }
    }
}

/// The owner of a mailbox. Checked before the body is read.
impl FromRequestParts<App> for Owner {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let Bearer(token) = Bearer::from_request_parts(parts, app).await?;
        mailbox::admit(app, &token).await
    }
}

/// What a stranger (RFC 9577 §2.2) or a contact (design §6) shows.
pub(crate) fn presented(headers: &HeaderMap) -> Presented {
    let Some(value) = authorization(headers) else { return Presented::Nothing };
    let scheme = value.trim().split(' ').next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case(REPLY_SCHEME) {
        return ReplyAuthorization::parse(value).map_or(Presented::MalformedReply, |it| Presented::Reply(Box::new(it)));
    }
    if !scheme.eq_ignore_ascii_case("PrivateToken") {
        return Presented::Nothing;
    }
    parse_authorization(value).map_or(Presented::Malformed, |token| Presented::Token(Box::new(token)))
}
