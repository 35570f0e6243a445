//! Authenticated encryption for what leaves our hands and must come back unchanged: rows at rest, cookies, login nonces.
//!
//! `version 1 ‖ 24-byte random nonce ‖ XChaCha20-Poly1305`, with the context as associated data: a sealed row that is moved
//! to another table, column or account does not open.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const VERSION: u8 = 1;

/// By how many bytes sealing lengthens: version, nonce, tag.
pub const OVERHEAD: usize = 1 + 24 + 16;

/// A symmetric key. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

/// The bytes were not sealed with this key and context. Says nothing about why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed with this key for this purpose")]
pub struct OpenError;

impl SealKey {
    /// Takes the key over; it must be uniformly random or derived from such a key.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Seals `plaintext`, of any length, for `context`: [`OVERHEAD`] bytes longer.
    pub fn seal(&self, rng: &mut impl CryptoRng, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; 24];
        rng.fill_bytes(&mut nonce);
        let body = self.cipher().encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: context });
        let mut out = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        // Fails above 256 GiB only, which no memory holds; what came out then would open nowhere.
        out.extend_from_slice(&body.unwrap_or_default());
        out
    }

    /// Opens what [`Self::seal`] made with the same context.
    ///
    /// # Errors
    /// [`OpenError`] for anything else.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (&version, rest) = sealed.split_first().ok_or(OpenError)?;
        let (nonce, body) = rest.split_first_chunk::<24>().ok_or(OpenError)?;
        if version != VERSION {
            return Err(OpenError);
        }
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: context });
        opened.map(Zeroizing::new).map_err(|_| OpenError)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_truncation_other_key_and_other_context_is_refused() {
        let key = SealKey::new([1; 32]);
        let sealed = key.seal(&mut crate::testing::rng(), b"ctx", b"hello");
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        assert_eq!(key.open(b"ctx", &sealed).unwrap().as_slice(), b"hello");
        assert_eq!(key.open(b"ctz", &sealed), Err(OpenError));
        assert_eq!(SealKey::new([2; 32]).open(b"ctx", &sealed), Err(OpenError));
        for n in 0..sealed.len() {
            assert_eq!(key.open(b"ctx", &sealed[..n]), Err(OpenError), "cut to {n}");
            let mut bad = sealed.clone();
            bad[n] ^= 1;
            assert_eq!(key.open(b"ctx", &bad), Err(OpenError), "flipped at {n}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SealKey::new([1; 32])), "SealKey(secret)");
    }
}
