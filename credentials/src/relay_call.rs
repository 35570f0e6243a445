//! Calls from a relay to its issuer and the answers: each signed by a key that the other side has in its configuration.
//!
//! A call covers issuer, relay, time, nonce, method, path and body; an answer covers the call's nonce, the status and the body. The
//! time bounds how long the issuer has to remember nonces (if it does: the internal endpoints repeat the same answer anyway).

use postern_protocol::ids::{CallNonce, Signature, SigningPublicKey};
use postern_protocol::internal::{MAX_SKEW_SECONDS, RelayCall};
use postern_protocol::time::Timestamp;

use crate::identity::{self, BadSignature, IdentityKey};
use crate::transcript::{Transcript, sha256};

const CALL: &str = "postern/relay-call/v1";
const REPLY: &str = "postern/relay-reply/v1";

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not signed by this relay's key for this issuer, method, path and body.
    #[error("the call is not signed by the relay")]
    BadSignature,
    /// The relay's clock and ours are more than [`MAX_SKEW_SECONDS`] apart.
    #[error("the call's time is too far from ours")]
    Skew,
}

/// What is signed and sent with one call.
fn call_bytes(issuer: &str, call: (&str, u64, &CallNonce), method: &str, path: &str, body: &[u8]) -> Transcript {
    let (relay, time, nonce) = call;
    Transcript::new(CALL)
        .field(issuer.as_bytes())
        .field(relay.as_bytes())
        .u64(time)
        .fixed(&nonce.0)
        .field(method.as_bytes())
        .field(path.as_bytes())
        .fixed(&sha256(body))
}

/// Signs a call of `relay` to `issuer` (both by name). `nonce` must be fresh: it binds the answer to the call.
#[expect(clippy::too_many_arguments, reason = "each of them is covered by the signature")]
pub fn sign_call(
    key: &IdentityKey,
    issuer: &str,
    relay: &str,
    method: &str,
    path: &str,
    body: &[u8],
    now: Timestamp,
    nonce: CallNonce,
) -> RelayCall {
    let time = now.seconds();
    let bytes = call_bytes(issuer, (relay, time, &nonce), method, path, body);
    let signature = key.sign_transcript(&bytes);
    RelayCall { relay: relay.to_owned(), time, nonce, signature }
}

/// Checks a call with the key that is configured for `call.relay`.
///
/// # Errors
/// [`CallError`]; the signature is looked at first, so that a stranger learns nothing about our clock.
pub fn verify_call(
    key: &SigningPublicKey,
    issuer: &str,
    call: &RelayCall,
    method: &str,
    path: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), CallError> {
    let bytes = call_bytes(issuer, (&call.relay, call.time, &call.nonce), method, path, body);
    identity::verify_transcript(key, &bytes, &call.signature).map_err(|_| CallError::BadSignature)?;
    if call.time.abs_diff(now.seconds()) > MAX_SKEW_SECONDS {
        return Err(CallError::Skew);
    }
    Ok(())
}

fn reply_bytes(nonce: &CallNonce, status: u16, body: &[u8]) -> Transcript {
    Transcript::new(REPLY).fixed(&nonce.0).u16(status).fixed(&sha256(body))
}

/// Signs the issuer's answer to the call with `nonce`.
pub fn sign_reply(key: &IdentityKey, nonce: &CallNonce, status: u16, body: &[u8]) -> Signature {
    key.sign_transcript(&reply_bytes(nonce, status, body))
}

/// Checks the issuer's answer to our call with `nonce`.
///
/// # Errors
/// [`BadSignature`] if it is not the issuer's answer to this call.
pub fn verify_reply(
    key: &SigningPublicKey,
    nonce: &CallNonce,
    status: u16,
    body: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    identity::verify_transcript(key, &reply_bytes(nonce, status, body), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn key() -> IdentityKey {
        IdentityKey::from_seed([1; 32])
    }

    fn call() -> RelayCall {
        sign_call(&key(), "issuer", "relay", "POST", "/p", b"body", NOW, CallNonce([9; 16]))
    }

    #[test]
    fn a_call_is_good_for_what_it_says_alone() {
        let pk = key().public();
        let good = call();
        assert_eq!(verify_call(&pk, "issuer", &good, "POST", "/p", b"body", NOW), Ok(()));
        let bad = Err(CallError::BadSignature);
        assert_eq!(verify_call(&pk, "other", &good, "POST", "/p", b"body", NOW), bad);
        assert_eq!(verify_call(&pk, "issuer", &good, "GET", "/p", b"body", NOW), bad);
        assert_eq!(verify_call(&pk, "issuer", &good, "POST", "/q", b"body", NOW), bad);
        assert_eq!(verify_call(&pk, "issuer", &good, "POST", "/p", b"badly", NOW), bad);
        let other = IdentityKey::from_seed([2; 32]).public();
        assert_eq!(verify_call(&other, "issuer", &good, "POST", "/p", b"body", NOW), bad);
        for changed in [
            RelayCall { relay: "relax".into(), ..good.clone() },
            RelayCall { time: good.time + 1, ..good.clone() },
            RelayCall { nonce: CallNonce([8; 16]), ..good.clone() },
        ] {
            assert_eq!(verify_call(&pk, "issuer", &changed, "POST", "/p", b"body", NOW), bad);
        }
    }

    #[test]
    fn a_call_is_refused_when_the_clocks_are_too_far_apart() {
        let (pk, good) = (key().public(), call());
        let at = |now| verify_call(&pk, "issuer", &good, "POST", "/p", b"body", now);
        assert_eq!(at(NOW.plus_seconds(MAX_SKEW_SECONDS)), Ok(()));
        assert_eq!(at(NOW.minus_seconds(MAX_SKEW_SECONDS)), Ok(()));
        assert_eq!(at(NOW.plus_seconds(MAX_SKEW_SECONDS + 1)), Err(CallError::Skew));
        assert_eq!(at(NOW.minus_seconds(MAX_SKEW_SECONDS + 1)), Err(CallError::Skew));
    }

    #[test]
    fn an_answer_is_good_for_its_call_status_and_body_alone() {
        let pk = key().public();
        let nonce = CallNonce([9; 16]);
        let sig = sign_reply(&key(), &nonce, 200, b"yes");
        assert_eq!(verify_reply(&pk, &nonce, 200, b"yes", &sig), Ok(()));
        assert!(verify_reply(&pk, &CallNonce([8; 16]), 200, b"yes", &sig).is_err());
        assert!(verify_reply(&pk, &nonce, 500, b"yes", &sig).is_err());
        assert!(verify_reply(&pk, &nonce, 200, b"no", &sig).is_err());
        assert!(verify_reply(&IdentityKey::from_seed([2; 32]).public(), &nonce, 200, b"yes", &sig).is_err());
    }
}
