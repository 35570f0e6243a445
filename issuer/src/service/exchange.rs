//! Calls of relays (design §2.2): the live keys, and blind signatures for exchanges.
//!
//! The issuer learns which relay had how many signed, and nothing of the tokens given up. It bounds each relay per key, so
//! that a relay that goes bad cannot print tokens without limit, and signs every answer to an authenticated call, refusals
//! included: a `key-not-active` that a stranger puts on the wire must not make a relay give a token up.

use std::sync::Arc;

use postern_credentials::relay_call;
use postern_protocol::ids::{CallNonce, RsaElement};
use postern_protocol::internal::{Keys, RELAY_SCHEME, RelayCall, SignRequest, SignResponse};
use postern_protocol::problem::ProblemKind;
use postern_store::Tx;

use super::keys;
use crate::app::Issuer;
use crate::db;
use crate::error::Refusal;
use crate::secrets::digest;

/// What a relay is told to wait when its budget is used up: it grows with the accounts.
const BUDGET_RETRY_SECONDS: u64 = 3600;

/// A relay that has proved to be the one it says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Binds the answer to the call.
    pub nonce: CallNonce,
    relay: String,
    enabled: bool,
}

/// Checks a call's signature with the configured key of the relay that it names.
///
/// # Errors
/// Unauthorised, whatever is wrong.
pub fn authenticate(
    issuer: &Issuer,
    header: Option<&str>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Caller, Refusal> {
    let unauthorised = || Refusal::Unauthorized(RELAY_SCHEME);
    let call = header.and_then(RelayCall::parse).ok_or_else(unauthorised)?;
    let relay = issuer.config.relays.iter().find(|relay| relay.name == call.relay).ok_or_else(unauthorised)?;
    relay_call::verify_call(&relay.public_key, &issuer.config.name, &call, method, path, body, issuer.now())
        .map_err(|_| unauthorised())?;
    Ok(Caller { nonce: call.nonce, relay: call.relay, enabled: relay.enabled })
}

impl Caller {
    fn permit(&self) -> Result<(), Refusal> {
        if self.enabled { Ok(()) } else { Err(Refusal::Unauthorized(RELAY_SCHEME)) }
    }
}

/// The live keys.
///
/// # Errors
/// Unauthorised for a relay that is cut off.
pub async fn live_keys(issuer: &Issuer, caller: &Caller) -> Result<Keys, Refusal> {
    caller.permit()?;
    keys::live_keys(issuer).await
}

/// Blind-signs for an exchange, once per blinded message and key.
///
/// # Errors
/// `key-not-active`: not signed, and never will be under this key. `exchange-budget`: not now. `bad-request` for a message
/// out of range. Unauthorised for a relay that is cut off.
pub async fn sign(issuer: &Arc<Issuer>, caller: &Caller, request: &SignRequest) -> Result<SignResponse, Refusal> {
    caller.permit()?;
    let known = issuer
        .db
        .read("find an exchange", |tx| Box::pin(async move { signed_before(issuer, tx, caller, request).await }))
        .await?;
    if let Some(blind_signature) = known {
        issuer.db.settle().await?;
        return Ok(SignResponse { blind_signature });
    }
    let key = keys::signing_key(issuer, request.token_key_id).await?;
    let signatures = keys::blind_sign(key, vec![request.blinded]).await?;
    let signature = signatures.into_iter().next().ok_or(Refusal::Failed("nothing was signed"))?;
    let now = issuer.now();
    let recording = issuer.db.run("exchange", |tx| {
        Box::pin(async move {
            if let Some(earlier) = signed_before(issuer, tx, caller, request).await? {
                return Ok::<_, Refusal>(earlier);
            }
            let (name, key) = (digest(&request.blinded.0), &request.token_key_id);
            db::exchange::insert(tx, &name, key, &caller.relay, &signature).await?;
            db::keys::add(tx, key, &caller.relay, 1, now).await?;
            Ok(signature)
        })
    });
    Ok(SignResponse { blind_signature: recording.await? })
}

/// The recorded signature; `None` if there is none and one may be made, as of this transaction.
async fn signed_before(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    caller: &Caller,
    request: &SignRequest,
) -> Result<Option<RsaElement>, Refusal> {
    let key = &request.token_key_id;
    if let Some(signature) = db::exchange::find(tx, &digest(&request.blinded.0), key).await? {
        return Ok(Some(signature));
    }
    keys::require_active(tx, key).await?;
    let limits = &issuer.config.limits;
    let issued = db::keys::issued(tx).await?;
    let budget = limits.exchange_multiple.saturating_mul(issued).saturating_add(limits.exchange_base);
    if db::keys::count_of(tx, key, &caller.relay).await? >= budget {
        return Err(Refusal::retry_after(ProblemKind::ExchangeBudget, BUDGET_RETRY_SECONDS));
    }
    Ok(None)
}
