//! Relay ↔ issuer: every call is signed by the relay's key and every answer by the issuer's, both pinned in configuration.

use serde::{Deserialize, Serialize};

use crate::ids::{CallNonce, RsaElement, Signature, TokenKeyId};
use crate::tokens::DirectoryKey;

/// `POST` [`KeysRequest`] → [`Keys`].
pub const KEYS_PATH: &str = "/internal/v1/keys";
/// `POST` [`SignRequest`] → [`SignResponse`].
pub const SIGN_PATH: &str = "/internal/v1/exchange";

/// Scheme of the `Authorization` header.
pub const RELAY_SCHEME: &str = "PosternRelay";
/// Header of the answer: base64url of the issuer's 64-byte signature over the call's nonce, the status and the body.
pub const REPLY_HEADER: &str = "postern-issuer-signature";
/// How far the two clocks may be apart, seconds.
pub const MAX_SKEW_SECONDS: u64 = 300;

/// `Authorization: PosternRelay name=…, time=…, nonce=…, sig=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayCall {
    /// The relay's name.
    pub relay: String,
    /// Unix seconds.
    pub time: u64,
    /// Fresh; binds the answer to the call.
    pub nonce: CallNonce,
    /// Over all of this, method, path and body.
    pub signature: Signature,
}

impl std::fmt::Display for RelayCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{RELAY_SCHEME} name={}, time={}, nonce={}, sig={}",
            self.relay, self.time, self.nonce, self.signature
        )
    }
}

impl RelayCall {
    /// Reads the header's value; `None` if it is anything but what [`std::fmt::Display`] writes.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.strip_prefix(RELAY_SCHEME)?.strip_prefix(' ')?.split(", ");
        let relay = parts.next()?.strip_prefix("name=")?.to_owned();
        let time_text = parts.next()?.strip_prefix("time=")?;
        let time: u64 = time_text.parse().ok()?;
        let nonce = parts.next()?.strip_prefix("nonce=")?.parse().ok()?;
        let signature = parts.next()?.strip_prefix("sig=")?.parse().ok()?;
        // One spelling of the time: no plus sign, no leading zeros.
        (parts.next().is_none() && time.to_string() == time_text).then_some(Self { relay, time, nonce, signature })
    }
}

/// Asks for the live token keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {}

/// The live keys, active first, each with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// As in the directory.
    pub token_keys: Vec<DirectoryKey>,
}

/// Asks for one blind signature for an exchange. The issuer learns nothing of the token given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// The key to sign with.
    pub token_key_id: TokenKeyId,
    /// The blinded message.
    pub blinded: RsaElement,
}

/// The same blinded message gets the same signature and is counted once. A `key-not-active` problem is final for this
/// blinded message: it has not been signed and never will be, so the relay may let the holder try with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignResponse {
    /// Over the blinded message.
    pub blind_signature: RsaElement,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_s_header_has_exactly_one_spelling() {
        let call = RelayCall { relay: "r".into(), time: 7, nonce: CallNonce([1; 16]), signature: Signature([2; 64]) };
        let text = call.to_string();
        assert_eq!(RelayCall::parse(&text), Some(call));
        for other in [
            text.replace("time=7", "time=07"),
            text.replace("time=7", "time=+7"),
            text.replace("time=7", "time="),
            format!("{text}, x=1"),
            text.replace("PosternRelay", "Bearer"),
        ] {
            assert_eq!(RelayCall::parse(&other), None, "{other}");
        }
    }
}
