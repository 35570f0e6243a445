//! Ed25519 keys (RFC 8032) and labelled signatures: the account's identity, the issuer's and the relay's own keys.
//!
//! A signature covers `u16 length ‖ label ‖ message`. Each kind of statement has its label, so that what was signed as a card
//! is never a login challenge.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use postern_protocol::ids::{Signature, SigningPublicKey};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::transcript::Transcript;

/// An Ed25519 secret key. Zeroised on drop, silent in `Debug`.
#[derive(Clone)]
pub struct IdentityKey(SigningKey);

/// The signature is not by this key over this message. Says nothing about why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl IdentityKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let key = Self::from_seed(seed);
        seed.zeroize();
        key
    }

    /// The key of a 32-byte seed (RFC 8032 §5.1.5); any seed is good.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed, to be stored sealed.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    pub fn public(&self) -> SigningPublicKey {
        SigningPublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` as a statement of the kind `label`; deterministic.
    pub fn sign(&self, label: &str, message: &[u8]) -> Signature {
        self.sign_raw(&labelled(label, message))
    }

    /// Signs a transcript as the kind of statement that its label says.
    pub(crate) fn sign_transcript(&self, transcript: &Transcript) -> Signature {
        self.sign_raw(transcript.bytes())
    }

    /// Plain Ed25519, for the formats of others (X.509, PKCS#10).
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(secret)")
    }
}

/// Checks what [`IdentityKey::sign`] made. Strict: one signature per key and message, no keys of small order.
///
/// # Errors
/// [`BadSignature`] if it is anything else.
pub fn verify(key: &SigningPublicKey, label: &str, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    verify_raw(key, &labelled(label, message), signature)
}

/// Checks what [`IdentityKey::sign_transcript`] made.
pub(crate) fn verify_transcript(
    key: &SigningPublicKey,
    transcript: &Transcript,
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_raw(key, transcript.bytes(), signature)
}

/// Plain Ed25519, strict, for the formats of others.
pub(crate) fn verify_raw(key: &SigningPublicKey, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.verify_strict(message, &signature).map_err(|_| BadSignature)
}

fn labelled(label: &str, message: &[u8]) -> Vec<u8> {
    let prefix = Transcript::new(label);
    [prefix.bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_label_and_message_alone() {
        let key = IdentityKey::generate(&mut crate::testing::rng());
        let other = IdentityKey::from_seed([1; 32]).public();
        let sig = key.sign("a/v1", b"message");
        assert_eq!(verify(&key.public(), "a/v1", b"message", &sig), Ok(()));
        assert_eq!(verify(&key.public(), "b/v1", b"message", &sig), Err(BadSignature));
        assert_eq!(verify(&key.public(), "a/v1", b"massage", &sig), Err(BadSignature));
        assert_eq!(verify(&key.public(), "a/v", b"1message", &sig), Err(BadSignature));
        assert_eq!(verify(&other, "a/v1", b"message", &sig), Err(BadSignature));
        for n in 0..64 {
            let mut bad = sig;
            bad.0[n] ^= 1;
            assert_eq!(verify(&key.public(), "a/v1", b"message", &bad), Err(BadSignature), "{n}");
        }
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        // The neutral element: with R neutral and s = 0 a lax verifier accepts it for every message.
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        let mut sig = [0u8; 64];
        sig[0] = 1;
        assert_eq!(verify(&SigningPublicKey(neutral), "a", b"m", &Signature(sig)), Err(BadSignature));
    }

    #[test]
    fn a_labelled_message_is_no_certificate_and_no_jwt() {
        // One key may sign all three: DER begins with 0x30 and a JWT with 'e', a label's length with 0.
        assert_eq!(labelled("postern/anything/v1", b"")[0], 0);
        let key = IdentityKey::from_seed([1; 32]);
        let transcript = Transcript::new("a/v1").field(b"x");
        assert_eq!(key.sign_transcript(&transcript), key.sign("a/v1", b"\0\x01x"));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", IdentityKey::from_seed([1; 32])), "IdentityKey(secret)");
    }
}
