//! Session-signed calls: both sides hold the 32-byte key that the login agreed on, and every request and every answer carries a
//! tag under it. Works without TLS (K3), and a recorded call is useless: method, path, body and a rising counter are in it (K16).
//!
//! Request: `HMAC(key, lp("postern/session-call/v1") ‖ lp(method) ‖ lp(path and query) ‖ seq (8) ‖ SHA-256(body))`.
//! Answer: `HMAC(key, lp("postern/session-reply/v1") ‖ request tag (32) ‖ status (2) ‖ SHA-256(body))`.
//! `lp(x)` is `x` behind its 16-bit length. The server checks that `seq` rises; this module cannot.

use std::fmt;

use postern_protocol::ids::Mac;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::transcript::{Transcript, sha256};

/// What a login leaves behind. Zeroised on drop, silent in `Debug`; to be stored sealed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Takes the bytes over.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for SessionKey {}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(secret)")
    }
}

/// The tag of a request. `path_and_query` exactly as in the request line.
pub fn call_mac(key: &SessionKey, method: &str, path_and_query: &str, seq: u64, body: &[u8]) -> Mac {
    let transcript = Transcript::new("postern/session-call/v1")
        .field(method.as_bytes())
        .field(path_and_query.as_bytes())
        .u64(seq)
        .fixed(&sha256(body));
    Mac(transcript.hmac(&key.0))
}

/// Whether `mac` is the tag of this request; constant time.
#[must_use]
pub fn verify_call(key: &SessionKey, method: &str, path_and_query: &str, seq: u64, body: &[u8], mac: &Mac) -> bool {
    same(&call_mac(key, method, path_and_query, seq, body), mac)
}

/// The tag of the answer to the request with the tag `request`.
pub fn reply_mac(key: &SessionKey, request: &Mac, status: u16, body: &[u8]) -> Mac {
    let transcript = Transcript::new("postern/session-reply/v1").fixed(&request.0).u16(status).fixed(&sha256(body));
    Mac(transcript.hmac(&key.0))
}

/// Whether `mac` is the tag of this answer to that request; constant time.
#[must_use]
pub fn verify_reply(key: &SessionKey, request: &Mac, status: u16, body: &[u8], mac: &Mac) -> bool {
    same(&reply_mac(key, request, status, body), mac)
}

fn same(a: &Mac, b: &Mac) -> bool {
    a.0.ct_eq(&b.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([1; 32]);

    #[test]
    fn a_call_is_good_for_its_method_path_number_and_body_alone() {
        let mac = call_mac(&KEY, "POST", "/v1/x?y=1", 7, b"body");
        assert!(verify_call(&KEY, "POST", "/v1/x?y=1", 7, b"body", &mac));
        assert!(!verify_call(&KEY, "PUT", "/v1/x?y=1", 7, b"body", &mac));
        assert!(!verify_call(&KEY, "POST", "/v1/x?y=2", 7, b"body", &mac));
        assert!(!verify_call(&KEY, "POST/", "v1/x?y=1", 7, b"body", &mac));
        assert!(!verify_call(&KEY, "POST", "/v1/x?y=1", 8, b"body", &mac));
        assert!(!verify_call(&KEY, "POST", "/v1/x?y=1", 7, b"", &mac));
        assert!(!verify_call(&SessionKey::from_bytes([2; 32]), "POST", "/v1/x?y=1", 7, b"body", &mac));
    }

    #[test]
    fn an_answer_is_good_for_its_request_status_and_body_alone() {
        let request = call_mac(&KEY, "GET", "/", 1, b"");
        let mac = reply_mac(&KEY, &request, 200, b"yes");
        assert!(verify_reply(&KEY, &request, 200, b"yes", &mac));
        assert!(!verify_reply(&KEY, &call_mac(&KEY, "GET", "/", 2, b""), 200, b"yes", &mac));
        assert!(!verify_reply(&KEY, &request, 201, b"yes", &mac));
        assert!(!verify_reply(&KEY, &request, 200, b"no", &mac));
        assert!(!verify_reply(&KEY, &request, 200, b"yes", &request), "a request's tag is no answer's tag");
    }

    #[test]
    fn the_bytes_under_the_tag_are_those_of_the_documentation() {
        let mut bytes = b"\0\x17postern/session-call/v1\0\x04POST\0\x02/x".to_vec();
        bytes.extend_from_slice(&7u64.to_be_bytes());
        bytes.extend_from_slice(&sha256(b"body"));
        let expected = crate::transcript::hmac_sha256(KEY.expose(), &[&bytes]);
        assert_eq!(call_mac(&KEY, "POST", "/x", 7, b"body").0, expected);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{KEY:?}"), "SessionKey(secret)");
    }
}
