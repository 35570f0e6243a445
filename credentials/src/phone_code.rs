//! Phone verification without a table (M1–M3, M35; design §4).
//!
//! 1. A client asks for a code for `phone` with its new `client_key`. The **issuer** encrypts (expiry, client key, phone) into
//!    a cookie, hands the cookie back, and texts [`PhoneCodeKeys::code`]: digits of a PRF of the cookie's ciphertext.
//! 2. The client brings phone, cookie and digits. The issuer opens the cookie, compares, and has stored nothing until then.
//!
//! Each cookie is encrypted with a fresh nonce, so two cookies for one number have unrelated codes: nobody can learn the code of a
//! number by asking for another text. Guessing is bounded by counting attempts per cookie under [`attempt_key`]; a cookie cannot
//! be varied to get more attempts, because only the very bytes that the issuer made open.

use std::fmt;

use postern_protocol::codec::Reader;
use postern_protocol::ids::{PhoneNumber, SigningPublicKey};
use postern_protocol::time::Timestamp;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::seal::SealKey;
use crate::secrets::RootSecret;
use crate::transcript::Transcript;

const CONTEXT: &[u8] = b"postern/phone-cookie/v1";

/// How many digits a code has.
pub const CODE_DIGITS: u32 = 6;

/// The longest cookie that is looked at, bytes. Ours have at most 99.
pub const MAX_COOKIE: usize = 128;

/// The issuer's two keys: one seals cookies, one makes codes of them.
#[derive(Debug)]
pub struct PhoneCodeKeys {
    seal: SealKey,
    code: CodeKey,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct CodeKey([u8; 32]);

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey(secret)")
    }
}

/// Six decimal digits. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Code(String);

impl Code {
    /// The digits, leading zeros included: for the text message.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(secret)")
    }
}

/// What was in a cookie that opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieContents {
    /// The only key that a certificate may be made for.
    pub client_key: SigningPublicKey,
    /// When cookie and code expire.
    pub expires: Timestamp,
}

/// Why a cookie was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Not made here, changed, or for another number.
    #[error("not a cookie for this number")]
    Invalid,
    /// Its time is over.
    #[error("the cookie has expired")]
    Expired,
}

impl PhoneCodeKeys {
    /// The keys of this issuer.
    pub fn derive(root: &RootSecret) -> Self {
        Self { seal: SealKey::new(*root.derive("phone-cookie")), code: CodeKey(*root.derive("phone-code")) }
    }

    /// A fresh cookie, and the code to be texted to `phone`. Both are good until `expires`.
    pub fn issue(
        &self,
        rng: &mut impl CryptoRng,
        phone: &PhoneNumber,
        client_key: &SigningPublicKey,
        expires: Timestamp,
    ) -> (Vec<u8>, Code) {
        let mut plain = Vec::with_capacity(64);
        plain.extend_from_slice(&expires.0.to_be_bytes());
        plain.extend_from_slice(client_key.as_bytes());
        plain.extend_from_slice(phone.as_str().as_bytes());
        let cookie = self.seal.seal(rng, CONTEXT, &plain);
        let code = self.code(&cookie);
        (cookie, code)
    }

    /// The code that belongs to a cookie: HMAC-SHA-256 of its bytes, taken modulo 10^6. The 128 bits that are reduced leave
    /// no digit more likely than another by more than 2^-108.
    pub fn code(&self, cookie: &[u8]) -> Code {
        let tag = Zeroizing::new(Transcript::new("postern/phone-code/v1").field(cookie).hmac(&self.code.0));
        let number = tag.first_chunk().map_or(0, |head| u128::from_be_bytes(*head));
        let width = CODE_DIGITS as usize;
        Code(format!("{:0width$}", number % 10u128.pow(CODE_DIGITS)))
    }

    /// Opens a cookie for `phone`. To be called before [`Self::check`]: an open cookie is what makes its code mean anything.
    ///
    /// # Errors
    /// [`CookieError`]; `Invalid` is decided before `Expired`.
    pub fn open(&self, cookie: &[u8], phone: &PhoneNumber, now: Timestamp) -> Result<CookieContents, CookieError> {
        if cookie.len() > MAX_COOKIE {
            return Err(CookieError::Invalid);
        }
        let plain = self.seal.open(CONTEXT, cookie).map_err(|_| CookieError::Invalid)?;
        let mut r = Reader::new(&plain);
        let expires = Timestamp(r.u64().map_err(|_| CookieError::Invalid)?);
        let client_key = SigningPublicKey(r.array().map_err(|_| CookieError::Invalid)?);
        if r.rest() != phone.as_str().as_bytes() {
            return Err(CookieError::Invalid);
        }
        if expires <= now {
            return Err(CookieError::Expired);
        }
        Ok(CookieContents { client_key, expires })
    }

    /// Whether `code` is what was texted with this cookie; constant time. The caller counts attempts first.
    #[must_use]
    pub fn check(&self, cookie: &[u8], code: &str) -> bool {
        self.code(cookie).0.as_bytes().ct_eq(code.as_bytes()).into()
    }
}

/// What attempts are counted under: says nothing about number or code.
pub fn attempt_key(cookie: &[u8]) -> [u8; 32] {
    Transcript::new("postern/phone-attempt/v1").field(cookie).sha256()
}

#[cfg(test)]
#[path = "phone_code/tests.rs"]
mod tests;
