//! Look-up tokens: Privacy Pass type 0x0005, VOPRF(ristretto255, SHA-512), issued in batches with one proof
//! (draft-ietf-privacypass-batched-tokens, amortized); M26, M27, design §5.
//!
//! # Roles and steps
//!
//! 1. The **issuer** has a [`WindowSecret`] for each time window, derived, so that all its processes have the same and none is stored.
//! 2. The **client** draws a nonce per token and blinds the token inputs with [`PendingTokens::begin`], stores that, and sends the request.
//! 3. The issuer checks the account's quota and answers with [`WindowSecret::issue`]: the same bytes for the same request.
//! 4. The client verifies the proof and has its tokens with [`PendingTokens::finish`].
//! 5. Later, anonymously, it shows one per number. The issuer recomputes the authenticator with [`WindowSecret::verify`] and records the
//!    [`nullifier`].
//!
//! # What each party cannot learn
//!
//! The issuer cannot tell which request a token came from, within all tokens of the same window. A client that was shown a key of its own
//! would be told apart: it must take only window keys that are in the log ([`crate::key_log`]).

use std::fmt;

use postern_protocol::ids::{ChallengeDigest, LookupNullifier, OprfElement, OprfPublicKey, TokenKeyId};
use postern_protocol::lookup::{
    LOOKUP_TOKEN_TYPE, LookupToken, LookupTokenRequest, LookupTokenResponse, MAX_TOKEN_BATCH,
};
use postern_protocol::tokens::TokenInput;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::blind_token::InvalidToken;
use crate::oprf::{self, Blinding, OprfError, SecretKey};
use crate::secrets::RootSecret;

/// Names the use of the root secret.
const WINDOW_LABEL: &str = "lookup-window";
/// Names the nullifier's hash, so that it is the hash of nothing else.
const NULLIFIER_LABEL: &[u8] = b"postern/lookup-nullifier/v1";
/// First byte of stored [`PendingTokens`].
const PENDING_VERSION: u8 = 1;

/// Why a batch of tokens was not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is for another window's key.
    #[error("the request is for another key")]
    OtherKey,
    /// Empty, too long, or with something in it that is not a group element.
    #[error(transparent)]
    Batch(#[from] OprfError),
}

/// The issuer's key of one window. Silent in `Debug`, zeroised on drop.
#[derive(Debug)]
pub struct WindowSecret {
    key: SecretKey,
    key_id: TokenKeyId,
}

impl WindowSecret {
    /// The key of a window: `DeriveKeyPair` with a seed from the root secret and the window as 8 bytes.
    ///
    /// # Errors
    /// [`OprfError::Key`]; does not happen.
    pub fn derive(root: &RootSecret, window: u64) -> Result<Self, OprfError> {
        let key = SecretKey::derive(&root.derive(WINDOW_LABEL), &window.to_be_bytes())?;
        let key_id = key_id(&key.public());
        Ok(Self { key, key_id })
    }

    /// The public key, 32 bytes: what the log says about this window.
    pub fn public(&self) -> OprfPublicKey {
        self.key.public()
    }

    /// What tokens name the key by.
    pub fn key_id(&self) -> TokenKeyId {
        self.key_id
    }

    /// What requests name the key by. Neighbouring windows may share it: ask the clock first.
    pub fn truncated_key_id(&self) -> u8 {
        truncated(&self.key_id)
    }

    /// Issues a batch (draft §5.2). The quota is the caller's business. The same request gets the same bytes.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, request: &LookupTokenRequest) -> Result<LookupTokenResponse, IssueError> {
        if request.truncated_token_key_id != self.truncated_key_id() {
            return Err(IssueError::OtherKey);
        }
        let oprf::Evaluation { evaluated, proof } = self.key.evaluate(&request.blinded)?;
        Ok(LookupTokenResponse { evaluated, proof })
    }

    /// Verifies a token by recomputing it: type, key, challenge and authenticator, in constant time. That it is its window's time, and that it
    /// was not spent, is for the caller to see to.
    ///
    /// # Errors
    /// [`InvalidToken`], whatever is wrong.
    pub fn verify(&self, token: &LookupToken, expected: &ChallengeDigest) -> Result<(), InvalidToken> {
        let input = &token.input;
        let ours = input.token_type.ct_eq(&LOOKUP_TOKEN_TYPE)
            & input.token_key_id.0.ct_eq(&self.key_id.0)
            & input.challenge_digest.0.ct_eq(&expected.0);
        if !bool::from(ours) {
            return Err(InvalidToken);
        }
        let authenticator = self.key.output(&input.encode()).map_err(|_| InvalidToken)?;
        if authenticator == token.authenticator { Ok(()) } else { Err(InvalidToken) }
    }
}

/// `SHA-256` of the serialised public key (draft §8, RFC 9578 §5.5), 32 bytes.
pub fn key_id(key: &OprfPublicKey) -> TokenKeyId {
    TokenKeyId(Sha256::digest(key.as_bytes()).into())
}

/// What the ledger of spent look-up tokens is keyed on: `SHA-256("postern/lookup-nullifier/v1" ‖ token input)`, 32 bytes.
pub fn nullifier(input: &TokenInput) -> LookupNullifier {
    LookupNullifier(Sha256::new_with_prefix(NULLIFIER_LABEL).chain_update(input.encode()).finalize().into())
}

fn truncated(key_id: &TokenKeyId) -> u8 {
    let [.., last] = key_id.0;
    last
}

/// Why tokens could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// They were begun for another key.
    #[error("the pending tokens belong to another key")]
    OtherKey,
    /// The issuer's answer does not verify. The pending tokens stay good for another answer.
    #[error(transparent)]
    Answer(#[from] OprfError),
}

/// Stored bytes are not [`PendingTokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not stored look-up tokens")]
pub struct PendingError;

/// Tokens on their way: blinded and not yet evaluated.
///
/// Store them ([`Self::to_bytes`]) before the request is sent, and repeat [`Self::request`] until there is an answer: a lost answer has been
/// counted. Zeroised on drop, silent in `Debug`: whoever has them can link the finished tokens to their issuance.
pub struct PendingTokens {
    key_id: TokenKeyId,
    challenge: ChallengeDigest,
    tokens: Vec<Pending>,
}

struct Pending {
    nonce: Zeroizing<[u8; 32]>,
    blinding: Blinding,
}

impl PendingTokens {
    /// Begins `count` tokens, from 1 to [`MAX_TOKEN_BATCH`], for a window's key (draft §5.1).
    ///
    /// # Errors
    /// [`OprfError::Batch`] for another count.
    pub fn begin(
        rng: &mut impl CryptoRng,
        key: &OprfPublicKey,
        challenge: ChallengeDigest,
        count: usize,
    ) -> Result<Self, OprfError> {
        if count == 0 || count > MAX_TOKEN_BATCH {
            return Err(OprfError::Batch);
        }
        let mut pending = Self { key_id: key_id(key), challenge, tokens: Vec::with_capacity(count) };
        for _ in 0..count {
            let mut nonce = Zeroizing::new([0; 32]);
            rng.fill_bytes(nonce.as_mut_slice());
            let (_, blinding) = oprf::blind(rng, &pending.input(&nonce).encode())?;
            pending.tokens.push(Pending { nonce, blinding });
        }
        Ok(pending)
    }

    /// What to send: always the same.
    pub fn request(&self) -> LookupTokenRequest {
        let blinded: Vec<OprfElement> = self.tokens.iter().map(|token| token.blinding.element()).collect();
        LookupTokenRequest { truncated_token_key_id: truncated(&self.key_id), blinded }
    }

    /// Verifies the issuer's answer and gives the tokens (draft §5.3). May be tried again with another answer.
    ///
    /// # Errors
    /// [`FinishError`]; the pending tokens are not used up.
    pub fn finish(&self, key: &OprfPublicKey, answer: &LookupTokenResponse) -> Result<Vec<LookupToken>, FinishError> {
        if key_id(key) != self.key_id {
            return Err(FinishError::OtherKey);
        }
        let inputs: Vec<_> = self.tokens.iter().map(|token| self.input(&token.nonce)).collect();
        let encoded: Vec<_> = inputs.iter().map(TokenInput::encode).collect();
        let batch: Vec<(&[u8], &Blinding)> =
            encoded.iter().zip(&self.tokens).map(|(input, token)| (input.as_slice(), &token.blinding)).collect();
        let outputs = oprf::finish(key, &batch, &answer.evaluated, &answer.proof)?;
        Ok(inputs.into_iter().zip(outputs).map(|(input, authenticator)| LookupToken { input, authenticator }).collect())
    }

    fn input(&self, nonce: &[u8; 32]) -> TokenInput {
        TokenInput {
            token_type: LOOKUP_TOKEN_TYPE,
            nonce: *nonce,
            challenge_digest: self.challenge,
            token_key_id: self.key_id,
        }
    }

    /// The stored form: `version u8 = 1 ‖ key id (32) ‖ challenge digest (32)`, then 96 bytes a token.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(65 + 96 * self.tokens.len()));
        bytes.push(PENDING_VERSION);
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(self.challenge.as_bytes());
        for token in &self.tokens {
            bytes.extend_from_slice(token.nonce.as_slice());
            bytes.extend_from_slice(token.blinding.to_bytes().as_slice());
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PendingError`] if it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PendingError> {
        let mut r = postern_protocol::codec::Reader::new(bytes);
        let mut read = || {
            if r.u8().ok()? != PENDING_VERSION {
                return None;
            }
            let key_id = TokenKeyId(r.array().ok()?);
            let challenge = ChallengeDigest(r.array().ok()?);
            let mut tokens = Vec::with_capacity(r.rest().len() / 96);
            while !r.is_empty() && tokens.len() < MAX_TOKEN_BATCH {
                let nonce = Zeroizing::new(r.array().ok()?);
                let blinding = Blinding::from_bytes(&Zeroizing::new(r.array().ok()?)).ok()?;
                tokens.push(Pending { nonce, blinding });
            }
            (r.is_empty() && !tokens.is_empty()).then_some(Self { key_id, challenge, tokens })
        };
        read().ok_or(PendingError)
    }
}

impl fmt::Debug for PendingTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingTokens({}, secret)", self.tokens.len())
    }
}

#[cfg(test)]
#[path = "lookup_token/tests.rs"]
mod tests;
