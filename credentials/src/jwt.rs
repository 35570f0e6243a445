//! Short-lived bearer tokens: JWT (RFC 7519) with EdDSA over Ed25519 (RFC 8037), and nothing else.
//!
//! The header is compared whole, so `none`, HMAC with the public key, embedded keys and critical extensions have no way in. Times are
//! checked against the `now` that is given; the library's own clock is switched off.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::internal::MAX_SKEW_SECONDS;
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::time::Timestamp;
use zeroize::Zeroizing;

use crate::identity::IdentityKey;

/// The longest JWT that is looked at, bytes. Ours have about 500.
pub const MAX_JWT: usize = 2048;

/// Why a JWT was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not a JWT of ours, or not signed by the issuer.
    #[error("not a JWT signed by the issuer")]
    Invalid,
    /// By another issuer, for another audience or for another purpose.
    #[error("the JWT is for something else")]
    WrongUse,
    /// Its time is over.
    #[error("the JWT has expired")]
    Expired,
    /// Its time has not come: the clocks are more than [`MAX_SKEW_SECONDS`] apart.
    #[error("the JWT was issued in the future")]
    NotYetValid,
}

/// Claims that do not encode; does not happen with claims of sane lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claims cannot be encoded")]
pub struct SignError;

/// PKCS#8 (RFC 8410 §7) up to the seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Signs the claims.
///
/// # Errors
/// [`SignError`] if they do not encode or the result is longer than [`MAX_JWT`].
pub fn sign(key: &IdentityKey, claims: &Claims) -> Result<String, SignError> {
    let pkcs8 = Zeroizing::new([&PKCS8_PREFIX[..], key.seed()].concat());
    let key = EncodingKey::from_ed_der(&pkcs8);
    let jwt = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).map_err(|_| SignError)?;
    if jwt.len() > MAX_JWT { Err(SignError) } else { Ok(jwt) }
}

/// Checks signature, issuer, audience, purpose and times. Expiry is exact; `iat` may be [`MAX_SKEW_SECONDS`] ahead.
///
/// # Errors
/// [`JwtError`].
pub fn verify(
    key: &SigningPublicKey,
    jwt: &str,
    iss: &str,
    aud: &str,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Claims, JwtError> {
    if jwt.len() > MAX_JWT {
        return Err(JwtError::Invalid);
    }
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(jwt, &DecodingKey::from_ed_der(key.as_bytes()), &validation)
        .map_err(|_| JwtError::Invalid)?;
    if decoded.header != Header::new(Algorithm::EdDSA) {
        return Err(JwtError::Invalid);
    }
    let claims = decoded.claims;
    if claims.iss != iss || claims.aud != aud || claims.purpose != purpose {
        return Err(JwtError::WrongUse);
    }
    if claims.exp <= now.seconds() {
        return Err(JwtError::Expired);
    }
    if claims.iat > now.seconds().saturating_add(MAX_SKEW_SECONDS) {
        return Err(JwtError::NotYetValid);
    }
    Ok(claims)
}

#[cfg(test)]
#[path = "jwt/tests.rs"]
mod tests;
