//! Sealed envelopes: what a relay sees of a message (design §6).
//!
//! HPKE base mode (RFC 9180) with X-Wing (X25519 + ML-KEM-768), HKDF-SHA-256 and ChaCha20-Poly1305; info
//! `"postern/envelope/v1"`, associated data = the mailbox. The plaintext is `u32 length ‖ inner ‖ zeros`, padded so that the envelope
//! `enc (1,120) ‖ ciphertext` is exactly one of [`ENVELOPE_SIZES`].
//!
//! The relay learns the size class and nothing else: no sender, no recipient key, and no two envelopes have bytes in common.
//! Moving an envelope to another mailbox makes it unreadable. Who sent it is said, and signed, inside.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender_with_rng};
use postern_protocol::ids::{MailboxId, SealingPublicKey};
use postern_protocol::send::ENVELOPE_SIZES;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const INFO: &[u8] = b"postern/envelope/v1";
/// Length of the encapsulated key, bytes.
const ENC: usize = 1120;
const TAG: usize = 16;
const LENGTH: usize = 4;

type Aead = ChaCha20Poly1305;
type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

/// How many bytes fit into an envelope of `size` bytes.
pub const fn capacity(size: usize) -> usize {
    size.saturating_sub(ENC + TAG + LENGTH)
}

/// An X-Wing secret key, kept as its 32-byte seed. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self(seed)
    }

    /// The key of a seed; any 32 bytes are one.
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The seed, to be stored sealed.
    pub const fn seed(&self) -> &[u8; 32] {
        &self.0
    }

    /// What others seal to.
    pub fn public(&self) -> SealingPublicKey {
        let mut out = [0; SealingPublicKey::LEN];
        // Fails for a length other than 32 only, which the type rules out.
        if let Ok(key) = self.private() {
            XWing::sk_to_pk(&key).write_exact(&mut out);
        }
        SealingPublicKey(out)
    }

    fn private(&self) -> Result<PrivateKey, OpenError> {
        PrivateKey::from_bytes(&self.0).map_err(|_| OpenError)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(secret)")
    }
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than [`capacity`] of the largest size.
    #[error("the message is too large for an envelope")]
    TooLarge,
    /// Not an X-Wing key.
    #[error("the recipient's sealing key is not valid")]
    BadKey,
}

/// Not an envelope for this key and mailbox. Says nothing about why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the envelope cannot be opened")]
pub struct OpenError;

/// Seals `inner` into the smallest envelope that holds it.
///
/// # Errors
/// [`SealError`] if it fits none, or `recipient` is not a key.
pub fn seal(
    rng: &mut impl CryptoRng,
    recipient: &SealingPublicKey,
    mailbox: &MailboxId,
    inner: &[u8],
) -> Result<Vec<u8>, SealError> {
    let size = ENVELOPE_SIZES.into_iter().find(|size| inner.len() <= capacity(*size)).ok_or(SealError::TooLarge)?;
    let plain = pad(inner, size)?;
    let recipient = PublicKey::from_bytes(recipient.as_bytes()).map_err(|_| SealError::BadKey)?;
    let (enc, mut context) = setup_sender_with_rng::<Aead, HkdfSha256, XWing>(&OpModeS::Base, &recipient, INFO, rng)
        .map_err(|_| SealError::BadKey)?;
    let body = context.seal(&plain, mailbox.as_bytes()).map_err(|_| SealError::TooLarge)?;
    let mut envelope = Vec::with_capacity(size);
    envelope.extend_from_slice(&enc.to_bytes());
    envelope.extend_from_slice(&body);
    Ok(envelope)
}

/// Opens an envelope that came to `mailbox`.
///
/// # Errors
/// [`OpenError`] if it is of another size, for another key or mailbox, or changed.
pub fn open(key: &SealingKey, mailbox: &MailboxId, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if !ENVELOPE_SIZES.contains(&envelope.len()) {
        return Err(OpenError);
    }
    let (enc, body) = envelope.split_at_checked(ENC).ok_or(OpenError)?;
    let enc = EncappedKey::from_bytes(enc).map_err(|_| OpenError)?;
    let mut context = setup_receiver::<Aead, HkdfSha256, XWing>(&OpModeR::Base, &key.private()?, &enc, INFO)
        .map_err(|_| OpenError)?;
    let plain = Zeroizing::new(context.open(body, mailbox.as_bytes()).map_err(|_| OpenError)?);
    unpad(&plain).ok_or(OpenError)
}

/// `u32 length ‖ inner ‖ zeros`, for an envelope of `size` bytes.
fn pad(inner: &[u8], size: usize) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let length = u32::try_from(inner.len()).map_err(|_| SealError::TooLarge)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(size));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(inner);
    plain.resize(capacity(size).saturating_add(LENGTH), 0);
    Ok(plain)
}

/// Only zeros may follow: one padding per message, and no room for marks.
fn unpad(plain: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = plain.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (inner, padding) = rest.split_at_checked(length)?;
    padding.iter().all(|b| *b == 0).then(|| Zeroizing::new(inner.to_vec()))
}

#[cfg(test)]
#[path = "envelope/tests.rs"]
mod tests;
