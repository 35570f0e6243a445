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
use crate::db::parts::Part;
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
    let mut place = match look(issuer, caller, request).await? {
        Looked::Signed(earlier) => return Ok(SignResponse { blind_signature: *earlier }),
        Looked::Room(place) => place,
    };
    let key = keys::signing_key(issuer, request.token_key_id).await?;
    let signatures = keys::blind_sign(key, vec![request.blinded]).await?;
    let signature = signatures.into_iter().next().ok_or(Refusal::Failed("nothing was signed"))?;
    // Each time around, others have filled the part that there was room in: it ends with the budget.
    loop {
        if let Some((blind_signature, now)) = record(issuer, caller, request, &place, signature).await? {
            issuer.counters.exchanged.inc_by(now.into());
            return Ok(SignResponse { blind_signature });
        }
        place = match look(issuer, caller, request).await? {
            Looked::Signed(earlier) => return Ok(SignResponse { blind_signature: *earlier }),
            Looked::Room(place) => place,
        };
    }
}

/// What there is before anything is signed.
enum Looked {
    /// The signature that was given before.
    Signed(Box<RsaElement>),
    /// None, and one may be made and counted here.
    Room(Place),
}

/// A part of a relay's counter, and how far it may count.
struct Place {
    part: Part,
    share: u64,
}

/// Looks for the signature, and for room in the relay's budget. Both sides of the budget only grow: what has been issued since only adds
/// room, and what has been exchanged since is seen when it is counted, in one part against its share.
async fn look(issuer: &Issuer, caller: &Caller, request: &SignRequest) -> Result<Looked, Refusal> {
    let drawn = Part::draw(&mut issuer.random.generator());
    let limits = &issuer.config.limits;
    let key = &request.token_key_id;
    let looked = issuer
        .db
        .read("find an exchange", |tx| {
            Box::pin(async move {
                if let Some(signature) = signed_before(tx, request).await? {
                    return Ok(Looked::Signed(Box::new(signature)));
                }
                let issued = db::keys::issued(tx).await?;
                let budget = limits.exchange_multiple.saturating_mul(issued).saturating_add(limits.exchange_base);
                let counted = db::keys::parts_of(tx, key, &caller.relay).await?;
                let mut places = drawn.all_from().map(|part| Place { part, share: part.share(budget) });
                let has_room = |place: &Place| counted.get(&place.part.number()).copied().unwrap_or(0) < place.share;
                let refusal = || Refusal::retry_after(ProblemKind::ExchangeBudget, BUDGET_RETRY_SECONDS);
                places.find(has_room).map(Looked::Room).ok_or_else(refusal)
            })
        })
        .await?;
    if matches!(looked, Looked::Signed(_)) {
        issuer.db.settle().await?;
    }
    Ok(looked)
}

/// Records and counts the signature (and says so), or finds that of an identical call that was faster; none if there is no room in this place any more.
async fn record(
    issuer: &Issuer,
    caller: &Caller,
    request: &SignRequest,
    place: &Place,
    signature: RsaElement,
) -> Result<Option<(RsaElement, bool)>, Refusal> {
    let (now, key) = (issuer.now(), &request.token_key_id);
    let recording = issuer.db.run("exchange", |tx| {
        Box::pin(async move {
            if let Some(earlier) = signed_before(tx, request).await? {
                return Ok(Some((earlier, false)));
            }
            if !db::keys::add(tx, (key, &caller.relay, place.part), 1, place.share, now).await? {
                return Ok(None);
            }
            db::exchange::insert(tx, &digest(&request.blinded.0), key, &caller.relay, &signature).await?;
            Ok::<_, Refusal>(Some((signature, true)))
        })
    });
    recording.await
}

/// The recorded signature; `None` if there is none and the key still signs, as of this transaction.
async fn signed_before(tx: &mut Tx<'_>, request: &SignRequest) -> Result<Option<RsaElement>, Refusal> {
    let key = &request.token_key_id;
    let signature = db::exchange::find(tx, &digest(&request.blinded.0), key).await?;
    if signature.is_none() {
        keys::require_active(tx, key).await?;
    }
    Ok(signature)
}
