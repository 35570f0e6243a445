//! Exchange (design §2.2): a released token, or an unspent one of a retiring key, for a fresh one that nobody can link to it.

use serde::{Deserialize, Serialize};

use crate::ids::{Base64, RefundSecret, RsaElement, TokenKeyId};

/// `POST` [`ExchangeRequest`] at the relay, anonymously → [`ExchangeResponse`].
pub const EXCHANGE_PATH: &str = "/v1/exchange";

/// Shows the old token and the secret behind its nonce; asks for a signature on a fresh blinded message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRequest {
    /// The old token, 354 bytes.
    pub token: Base64,
    /// `r` with nonce = `SHA-256("postern/refund" ‖ r)`.
    pub refund_secret: RefundSecret,
    /// The active key, under which `blinded` was made.
    pub token_key_id: TokenKeyId,
    /// The fresh blinded message.
    pub blinded: RsaElement,
}

/// The identical request gets the identical answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeResponse {
    /// Over the blinded message.
    pub blind_signature: RsaElement,
}
