//! What a session can do: be exchanged for a JWT, list and end sessions, show the account. Every call is signed with the
//! session's key and numbered, and so is good without TLS (K3).

use postern_credentials::jwt;
use postern_credentials::session::{SessionKey, verify_call};
use postern_protocol::ids::{CallNonce, Mac, SessionId, encode_base64};
use postern_protocol::login::{
    Account, Claims, JwtAudience, JwtRequest, JwtResponse, Purpose, RevokeRequest, SESSION_SCHEME, SessionCall,
    SessionEntry, Sessions,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_store::Tx;
use rand_core::Rng;

use crate::app::Issuer;
use crate::db;
use crate::db::register::AccountRow;
use crate::db::sessions::SessionRow;
use crate::error::Refusal;

/// A session that has proved to know its key. Its call number is accepted in the transaction of what it asks for.
#[derive(Debug)]
pub struct Caller {
    /// Signs the answer.
    pub key: SessionKey,
    /// The tag of the call, which the answer is bound to.
    pub mac: Mac,
    pub(super) account: [u8; 32],
    session: SessionId,
    seq: u64,
    expires: Timestamp,
}

fn unauthorised() -> Refusal {
    Refusal::Unauthorized(SESSION_SCHEME)
}

/// Checks a call's tag with the key of the session that it names.
///
/// # Errors
/// Unauthorised for an unknown, revoked or expired session and for a wrong tag: one answer for all.
pub async fn authenticate(
    issuer: &Issuer,
    header: Option<&str>,
    method: &str,
    path_and_query: &str,
    body: &[u8],
) -> Result<Caller, Refusal> {
    let call = header.and_then(SessionCall::parse).filter(|call| i64::try_from(call.seq).is_ok());
    let call = call.ok_or_else(unauthorised)?;
    let (id, now) = (&call.session, issuer.now());
    let row: Option<SessionRow> = issuer
        .db
        .read("session", |tx| Box::pin(async move { Ok::<_, Refusal>(db::sessions::find(tx, id, now).await?) }))
        .await?;
    let row = row.ok_or_else(unauthorised)?;
    let opened = issuer.secrets.sessions.open(&id.0, &row.sealed_key);
    let opened = opened.map_err(|_| Refusal::Failed("a session key does not open"))?;
    let key = <[u8; 32]>::try_from(opened.as_slice()).map(SessionKey::from_bytes);
    let key = key.map_err(|_| Refusal::Failed("a session key is malformed"))?;
    if !verify_call(&key, method, path_and_query, call.seq, body, &call.mac) {
        return Err(unauthorised());
    }
    let SessionRow { account, expires, .. } = row;
    Ok(Caller { key, mac: call.mac, session: call.session, account, seq: call.seq, expires })
}

/// Accepts the call's number, first of all, and returns the account.
pub(super) async fn accept(tx: &mut Tx<'_>, caller: &Caller, now: Timestamp) -> Result<AccountRow, Refusal> {
    if !db::sessions::advance(tx, &caller.session, caller.seq, now).await? && !accepted_before(tx, caller).await? {
        let lives = db::sessions::find(tx, &caller.session, now).await?.is_some();
        return Err(if lives { ProblemKind::CallReplayed.into() } else { unauthorised() });
    }
    db::register::find(tx, &caller.account).await?.ok_or_else(unauthorised)
}

/// Whether this very transaction has accepted the call in a commit that nobody heard of: the session then stands at its number.
/// Whatever such a call asks for may be done once more.
async fn accepted_before(tx: &mut Tx<'_>, caller: &Caller) -> Result<bool, Refusal> {
    Ok(tx.may_have_committed() && db::sessions::stands_at(tx, &caller.session, caller.seq).await?)
}

/// A short-lived bearer token. For the relay its subject is the mailbox id, so that the relay never sees the account.
///
/// # Errors
/// `call-replayed`; unauthorised if the session was revoked meanwhile.
pub async fn jwt(issuer: &Issuer, caller: &Caller, request: &JwtRequest) -> Result<JwtResponse, Refusal> {
    let now = issuer.now();
    let account = issuer.db.run("jwt", |tx| Box::pin(async move { accept(tx, caller, now).await })).await?;
    let (aud, sub, purpose) = match request.audience {
        JwtAudience::Issuer => (issuer.config.name.clone(), encode_base64(&caller.account), Purpose::Issuance),
        JwtAudience::Relay => (account.relay, account.mailbox.to_string(), Purpose::Mailbox),
    };
    let mut jti = CallNonce([0; 16]);
    issuer.random.generator().fill_bytes(&mut jti.0);
    let iat = now.seconds();
    let exp = iat.saturating_add(issuer.config.limits.jwt_seconds).min(caller.expires.seconds());
    let claims = Claims { iss: issuer.config.name.clone(), aud, sub, purpose, iat, exp, jti, replaces: None };
    let jwt = jwt::sign(&issuer.secrets.identity, &claims).map_err(|_| Refusal::Failed("a JWT could not be signed"))?;
    Ok(JwtResponse { jwt, expires: exp })
}

/// The account's live sessions, newest first.
///
/// # Errors
/// As [`jwt()`].
pub async fn list(issuer: &Issuer, caller: &Caller) -> Result<Sessions, Refusal> {
    let now = issuer.now();
    let rows = issuer
        .db
        .run("list sessions", |tx| {
            Box::pin(async move {
                accept(tx, caller, now).await?;
                Ok::<_, Refusal>(db::sessions::of_account(tx, &caller.account, now).await?)
            })
        })
        .await?;
    let entries = rows.into_iter().map(|row| SessionEntry {
        session: row.session,
        label: row.label,
        created: row.created.seconds(),
        last_used: row.last_used.seconds(),
        expires: row.expires.seconds(),
        current: row.session == caller.session,
    });
    Ok(Sessions { sessions: entries.collect() })
}

/// Ends a session of the same account; one that is not there is ended already.
///
/// # Errors
/// As [`jwt()`].
pub async fn revoke(issuer: &Issuer, caller: &Caller, request: &RevokeRequest) -> Result<(), Refusal> {
    let now = issuer.now();
    issuer
        .db
        .run("revoke a session", |tx| {
            Box::pin(async move {
                // A session that ends itself is not there to accept the call again.
                let ends_itself = request.session == caller.session && tx.may_have_committed();
                if ends_itself && db::sessions::find(tx, &caller.session, now).await?.is_none() {
                    return Ok(());
                }
                accept(tx, caller, now).await?;
                Ok(db::sessions::delete(tx, &request.session, &caller.account).await?)
            })
        })
        .await
}

/// What the owner may want to see of the account.
///
/// # Errors
/// As [`jwt()`].
pub async fn account(issuer: &Issuer, caller: &Caller) -> Result<Account, Refusal> {
    let now = issuer.now();
    let row = issuer.db.run("show the account", |tx| Box::pin(async move { accept(tx, caller, now).await })).await?;
    Ok(Account {
        tokens_issued: u32::try_from(row.tokens_issued).unwrap_or(u32::MAX),
        tokens_per_account: issuer.config.limits.tokens_per_account,
        setup_until: row.setup_until.seconds(),
        certificate_expires: row.certificate_expires.seconds(),
        listed: row.listed,
    })
}
