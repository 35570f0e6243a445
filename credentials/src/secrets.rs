//! The one secret that a server's configuration holds; every other symmetric key is derived from it.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use crate::transcript::hmac_sha256;
use crate::transcript::{hkdf_expand, hkdf_extract};

/// 32 random bytes. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RootSecret([u8; 32]);

impl RootSecret {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Takes the bytes over.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the key file; nothing else needs them.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose: HKDF-SHA-256 (RFC 5869) without salt, info = `"postern/derive/v1/" ‖ label`.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        hkdf_expand(&hkdf_extract(&[0; 32], &[&self.0]), &[b"postern/derive/v1/", label.as_bytes()])
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_a_key_of_its_own_and_it_is_that_of_hkdf() {
        let root = RootSecret::from_bytes([5; 32]);
        assert_ne!(root.derive("a"), root.derive("b"));
        let mut theirs = [0u8; 32];
        hkdf::Hkdf::<sha2::Sha256>::new(None, &[5; 32]).expand(b"postern/derive/v1/a", &mut theirs).unwrap();
        assert_eq!(*root.derive("a"), theirs);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", RootSecret::from_bytes([5; 32])), "RootSecret(secret)");
    }
}
