//! The client's side: a token between blinding and finishing. Public operations only, through `blind-rsa-signatures`.

use std::fmt;

use blind_rsa_signatures::{BlindMessage, BlindSignature, BlindingResult, Secret};
use postern_protocol::ids::{ChallengeDigest, RefundSecret, RsaElement, TokenKeyId};
use postern_protocol::tokens::{TOKEN_TYPE, Token, TokenInput};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{ELEMENT_LEN, VerifyingKey, refund_nonce};

/// First byte of a stored [`PendingToken`].
const PENDING_VERSION: u8 = 1;

/// A token could not be begun: the key is unfit for blinding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blinding failed")]
pub struct BeginError;

/// Why a token could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// The pending token was begun for another key.
    #[error("the pending token belongs to another key")]
    OtherKey,
    /// The issuer's answer does not give a valid token. The pending token stays good for another answer.
    #[error("the blind signature does not verify")]
    InvalidSignature,
}

/// Why stored bytes are not a [`PendingToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PendingError {
    /// Not of [`PendingToken::STORED_LEN`] bytes.
    #[error("wrong length")]
    Length,
    /// A version byte, or a token type, that this program does not know.
    #[error("unknown version")]
    Version,
}

/// A token on its way: blinded and not yet signed.
///
/// Store it ([`Self::to_bytes`]) before the blinded message is sent: with the answer but without this, the token is
/// lost. The refund secret is not inside; keep it beside. Zeroised on drop, silent in `Debug`: whoever has it can link
/// the finished token to its issuance.
pub struct PendingToken {
    input: TokenInput,
    pub(super) inverse: BlindingInverse,
}

/// The inverse of the blinding factor, 256 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct BlindingInverse(pub(super) [u8; ELEMENT_LEN]);

impl PendingToken {
    /// Length of the stored form: version byte, token input (98), inverse of the blinding factor (256).
    pub const STORED_LEN: usize = 1 + TokenInput::LEN + ELEMENT_LEN;

    /// Begins a token whose nonce is [`refund_nonce`]`(refund)`: `Blind` of RFC 9474 §4.2 on the token input of
    /// RFC 9578 §6.1. Returns the blinded message, 256 bytes, to be sent to the issuer.
    ///
    /// `rng` gives the salt (48 bytes) and the blinding factor. Never begin twice with one `refund`: both tokens would
    /// have one nullifier, and only one could be spent.
    ///
    /// # Errors
    /// [`BeginError`] when the key is unfit (its modulus shares a factor with the message: not a sound key).
    pub fn begin(
        rng: &mut impl CryptoRng,
        key: &VerifyingKey,
        challenge: ChallengeDigest,
        refund: &RefundSecret,
    ) -> Result<(RsaElement, Self), BeginError> {
        Self::begin_with_nonce(rng, key, challenge, refund_nonce(refund))
    }

    pub(super) fn begin_with_nonce(
        rng: &mut impl CryptoRng,
        key: &VerifyingKey,
        challenge_digest: ChallengeDigest,
        nonce: [u8; 32],
    ) -> Result<(RsaElement, Self), BeginError> {
        let input = TokenInput { token_type: TOKEN_TYPE, nonce, challenge_digest, token_key_id: key.key_id() };
        let client_key = key.client_key().ok_or(BeginError)?;
        let blinding = client_key.blind(rng, input.encode()).map_err(|_| BeginError)?;
        let secret = Zeroizing::new(blinding.secret.0);
        let inverse = secret.as_slice().try_into().map(BlindingInverse).map_err(|_| BeginError)?;
        let blinded = RsaElement::from_slice(&blinding.blind_message.0).map_err(|_| BeginError)?;
        Ok((blinded, Self { input, inverse }))
    }

    /// The token input: what will be signed, without the signature.
    pub fn input(&self) -> &TokenInput {
        &self.input
    }

    /// Unblinds and verifies the issuer's answer: `Finalize` of RFC 9474 §4.4. May be tried again with another answer.
    ///
    /// # Errors
    /// [`FinishError::OtherKey`] when `key` is not the one it was begun for; [`FinishError::InvalidSignature`] when the
    /// result does not verify. Neither uses the pending token up.
    pub fn finish(&self, key: &VerifyingKey, blind_signature: &RsaElement) -> Result<Token, FinishError> {
        if self.input.token_key_id != key.key_id() {
            return Err(FinishError::OtherKey);
        }
        if blind_signature.0 >= key.0.modulus || self.inverse.0 >= key.0.modulus {
            return Err(FinishError::InvalidSignature);
        }
        let client_key = key.client_key().ok_or(FinishError::InvalidSignature)?;
        let mut blinding = BlindingResult {
            blind_message: BlindMessage(Vec::new()),
            secret: Secret(self.inverse.0.to_vec()),
            msg_randomizer: None,
        };
        let answer = BlindSignature(blind_signature.0.to_vec());
        let signature = client_key.finalize(&answer, &blinding, self.input.encode());
        blinding.secret.0.zeroize();
        let authenticator = signature
            .ok()
            .and_then(|signature| RsaElement::from_slice(&signature.0).ok())
            .ok_or(FinishError::InvalidSignature)?;
        Ok(Token { input: self.input, authenticator })
    }

    /// The stored form, [`Self::STORED_LEN`] bytes, the first of which is the version.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::STORED_LEN));
        bytes.push(PENDING_VERSION);
        bytes.extend_from_slice(&self.input.encode());
        bytes.extend_from_slice(&self.inverse.0);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PendingError::Length`] or [`PendingError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PendingError> {
        let bytes: &[u8; Self::STORED_LEN] = bytes.try_into().map_err(|_| PendingError::Length)?;
        let (version, rest) = take::<1>(bytes)?;
        let (token_type, rest) = take::<2>(rest)?;
        if version != [PENDING_VERSION] || token_type != TOKEN_TYPE.to_be_bytes() {
            return Err(PendingError::Version);
        }
        let (nonce, rest) = take::<32>(rest)?;
        let (challenge, rest) = take::<32>(rest)?;
        let (key_id, rest) = take::<32>(rest)?;
        let input = TokenInput {
            token_type: TOKEN_TYPE,
            nonce,
            challenge_digest: ChallengeDigest(challenge),
            token_key_id: TokenKeyId(key_id),
        };
        let inverse = rest.try_into().map(BlindingInverse).map_err(|_| PendingError::Length)?;
        Ok(Self { input, inverse })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), PendingError> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or(PendingError::Length)
}

impl Drop for PendingToken {
    fn drop(&mut self) {
        // The inverse zeroises itself; the nonce is what would tell which token this was.
        self.input.nonce.zeroize();
    }
}

impl fmt::Debug for PendingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingToken(secret)")
    }
}
