//! Blind tokens: RSABSSA-SHA384-PSS-Deterministic with 2048 bits (RFC 9474), as Privacy Pass token type 0x0002 (RFC 9578 §6).
//!
//! # Roles and steps
//!
//! 1. The **issuer** holds an [`IssuerKey`] per token kind and publishes its [`VerifyingKey`].
//! 2. The **client** draws a secret `r`, takes [`refund_nonce`]`(r)` as the token's nonce, blinds the token input with
//!    [`PendingToken::begin`], stores the pending token, and sends the blinded message.
//! 3. The issuer answers with [`IssuerKey::blind_sign`]: the same bytes for the same blinded message, so a retry is safe.
//! 4. The client unblinds and verifies with [`PendingToken::finish`].
//! 5. Later the client shows the token to a **relay**, which checks it with [`VerifyingKey::verify`] and records its
//!    [`nullifier`] so that it can be spent once.
//!
//! # What each party cannot learn
//!
//! - The issuer sees a blinded message: a uniformly random group element, whichever token is inside. Even together with
//!   the relay, and with the private key, it cannot tell which issuance a spent token came from, nor whose it was,
//!   within the set of all tokens of the same key and challenge.
//! - The relay sees the token but not `r`, so it cannot exchange the token in its holder's place.
//! - The client learns nothing about the private key, and cannot make more tokens than it was given signatures.
//!
//! A client must therefore use only keys that everybody else is shown too: a key of its own would mark its tokens.
//!
//! # What makes a token good for something
//!
//! Key, type *and* challenge together. [`VerifyingKey::verify`] wants the expected challenge for this reason: without
//! that comparison a token for one relay or purpose would pass for another.

use std::fmt;
use std::sync::Arc;

use blind_rsa_signatures::{Deterministic, PSS, PublicKey as ClientKey, Sha384};
use postern_protocol::codec::TooLong;
use postern_protocol::ids::{ChallengeDigest, Nullifier, RefundSecret, RsaElement, TokenKeyId};
use postern_protocol::tokens::{TOKEN_TYPE, Token, TokenChallenge, TokenInput};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::aws_lc;

mod pending;
#[cfg(test)]
mod tests;

pub use pending::{BeginError, FinishError, PendingError, PendingToken};

/// Modulus length: 256 bytes. Every element, signature and blinding value has it.
const ELEMENT_LEN: usize = RsaElement::LEN;

/// Everything before the modulus in a token key's SubjectPublicKeyInfo (RFC 9578 §6.5). With 2048 bits and e = 65537
/// all lengths are fixed, so the one valid encoding of a key is these bytes, the modulus and [`SPKI_END`]: comparing
/// them *is* parsing and re-encoding.
const SPKI_START: [u8; 81] = [
    0x30, 0x82, 0x01, 0x52, // SubjectPublicKeyInfo
    0x30, 0x3d, // AlgorithmIdentifier
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, // id-RSASSA-PSS
    0x30, 0x30, // RSASSA-PSS-params
    0xa0, 0x0d, 0x30, 0x0b, // [0] hashAlgorithm
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, // id-sha384
    0xa1, 0x1a, 0x30, 0x18, // [1] maskGenAlgorithm
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, // id-mgf1
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, // id-sha384
    0xa2, 0x03, 0x02, 0x01, 0x30, // [2] saltLength 48
    0x03, 0x82, 0x01, 0x0f, 0x00, // BIT STRING
    0x30, 0x82, 0x01, 0x0a, // RSAPublicKey
    0x02, 0x82, 0x01, 0x01, 0x00, // modulus: 257 bytes, the first 0 because its top bit is set
];
/// The public exponent 65537, at the end of the SubjectPublicKeyInfo.
const SPKI_END: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
/// Length of a token key's SubjectPublicKeyInfo.
const SPKI_LEN: usize = SPKI_START.len() + ELEMENT_LEN + SPKI_END.len();
/// Where in it the PKCS#1 `RSAPublicKey` begins.
const SPKI_PKCS1_AT: usize = SPKI_START.len() - 9;

/// `AlgorithmIdentifier` rsaEncryption with NULL parameters, after the version, in a PKCS#8 `PrivateKeyInfo` (RFC 5208).
const PKCS8_ALGORITHM: [u8; 18] =
    [0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Names the nullifier's hash, so that it is the hash of nothing else.
const NULLIFIER_LABEL: &[u8] = b"postern/nullifier/v1";
/// Names the refund nonce's hash. Changing it would make every token out there impossible to exchange.
const REFUND_LABEL: &[u8] = b"postern/refund";

/// Why bytes are not a key for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the one encoding of an RSASSA-PSS key with SHA-384, MGF1-SHA-384, salt 48, 2048 bits and e = 65537.
    #[error("not the SubjectPublicKeyInfo of a Blind RSA 2048 token key")]
    PublicKey,
    /// Not PKCS#8 of an RSA key, not 2048 bits with e = 65537, or numbers that do not belong together.
    #[error("not the PKCS#8 encoding of a sound RSA key with 2048 bits and e = 65537")]
    PrivateKey,
    /// AWS-LC could not make or encode a key.
    #[error("the cryptographic library failed")]
    Library,
}

/// Why a blinded message was not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlindSignError {
    /// The blinded message is 0, 1, n − 1 or not less than the modulus: no honest client sends it.
    #[error("the blinded message is out of range")]
    OutOfRange,
    /// AWS-LC failed, or found by its own check that the result is wrong; nothing was let out.
    #[error("the private-key operation failed")]
    Failed,
}

/// The token does not hold here. It says no more: why a token fails is no business of who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid token")]
pub struct InvalidToken;

/// The issuer's secret half of a token key: RSA, 2048 bits, e = 65537, held and used by AWS-LC only.
///
/// `Debug` prints the public key id alone; the memory is overwritten on drop. Share it behind an `Arc`: signing takes
/// `&self` and runs on any number of threads.
pub struct IssuerKey {
    secret: aws_lc::PrivateKey,
    public: VerifyingKey,
}

impl IssuerKey {
    /// Makes a fresh key.
    ///
    /// AWS-LC draws the primes from its own generator: its interface takes no other.
    ///
    /// # Errors
    /// [`KeyError::Library`] when AWS-LC fails.
    pub fn generate() -> Result<Self, KeyError> {
        let secret = aws_lc::PrivateKey::generate_2048().map_err(|_| KeyError::Library)?;
        Self::from_secret(secret)
    }

    /// Reads a PKCS#8 `PrivateKeyInfo` (RFC 5208, version 0, rsaEncryption, no attributes), DER.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] for any other encoding or trailing bytes, another size or exponent, or a key whose
    /// numbers do not fit together (checked: `n = p·q`, `d`, the CRT values, and a trial signature).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pkcs1 = unwrap_pkcs8(der).ok_or(KeyError::PrivateKey)?;
        let secret = aws_lc::PrivateKey::from_pkcs1(pkcs1).map_err(|_| KeyError::PrivateKey)?;
        Self::from_secret(secret)
    }

    fn from_secret(secret: aws_lc::PrivateKey) -> Result<Self, KeyError> {
        let pkcs1 = secret.public_to_pkcs1().map_err(|_| KeyError::Library)?;
        let mut spki = SPKI_START.to_vec();
        spki.truncate(SPKI_PKCS1_AT);
        spki.extend_from_slice(&pkcs1);
        let public = VerifyingKey::from_spki(&spki).map_err(|_| KeyError::PrivateKey)?;
        Ok(Self { secret, public })
    }

    /// The key as PKCS#8 `PrivateKeyInfo`, DER, about 1,218 bytes; what [`Self::from_pkcs8`] reads.
    ///
    /// # Errors
    /// [`KeyError::Library`] when AWS-LC cannot encode it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let pkcs1 = self.secret.to_pkcs1().map_err(|_| KeyError::Library)?;
        wrap_pkcs8(&pkcs1).ok_or(KeyError::Library)
    }

    /// The public half.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// `BlindSign` of RFC 9474 §4.3: 256 bytes in, 256 bytes out, always the same for the same input.
    ///
    /// AWS-LC blinds the operation against timing and checks the result before it is let out.
    ///
    /// # Errors
    /// [`BlindSignError::OutOfRange`] for a message that is not between 2 and n − 2; [`BlindSignError::Failed`] when
    /// AWS-LC fails or the result does not check.
    pub fn blind_sign(&self, blinded: &RsaElement) -> Result<RsaElement, BlindSignError> {
        if !self.public.is_signable(blinded) {
            return Err(BlindSignError::OutOfRange);
        }
        let mut out = RsaElement([0; ELEMENT_LEN]);
        self.secret.sign_raw(&blinded.0, &mut out.0).map_err(|_| BlindSignError::Failed)?;
        Ok(out)
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKey").field("key_id", &self.public.key_id().to_string()).finish_non_exhaustive()
    }
}

/// The `RSAPrivateKey` inside a PKCS#8 `PrivateKeyInfo` whose lengths all need two bytes, as those of RSA keys do.
fn unwrap_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let body = strip_header(der, 0x30)?;
    strip_header(body.strip_prefix(&PKCS8_ALGORITHM)?, 0x04)
}

/// What follows a DER tag and a two-byte length, if it has exactly that length.
fn strip_header(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (header, body) = der.split_first_chunk::<4>()?;
    (Some(*header) == der_header(tag, body.len())).then_some(body)
}

fn wrap_pkcs8(pkcs1: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let body_len = PKCS8_ALGORITHM.len() + 4 + pkcs1.len();
    // Reserved in full, so that the secret is not left behind in a buffer outgrown.
    let mut der = Zeroizing::new(Vec::with_capacity(4 + body_len));
    der.extend_from_slice(&der_header(0x30, body_len)?);
    der.extend_from_slice(&PKCS8_ALGORITHM);
    der.extend_from_slice(&der_header(0x04, pkcs1.len())?);
    der.extend_from_slice(pkcs1);
    Some(der)
}

/// A DER tag with a length from 256 to 65,535.
fn der_header(tag: u8, len: usize) -> Option<[u8; 4]> {
    let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
    (high != 0).then_some([tag, 0x82, high, low])
}

/// The public half of a token key. Cloning shares it; it is parsed once and verifies on any number of threads.
#[derive(Clone)]
pub struct VerifyingKey(Arc<VerifyingKeyInner>);

struct VerifyingKeyInner {
    spki: [u8; SPKI_LEN],
    modulus: [u8; ELEMENT_LEN],
    key_id: TokenKeyId,
    rsa: aws_lc::PublicKey,
}

impl VerifyingKey {
    /// Length of the encoding: 342 bytes.
    pub const SPKI_LEN: usize = SPKI_LEN;

    /// Reads a SubjectPublicKeyInfo as RFC 9578 §6.5 prescribes it: id-RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt
    /// of 48 bytes; 2048 bits; e = 65537. There is exactly one such encoding of a key, 342 bytes, and no other is taken:
    /// two encodings of one key would have two key ids.
    ///
    /// # Errors
    /// [`KeyError::PublicKey`] for anything else, rsaEncryption, other parameters, sizes and trailing bytes included.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let spki: [u8; SPKI_LEN] = spki.try_into().map_err(|_| KeyError::PublicKey)?;
        let modulus = spki
            .strip_prefix(&SPKI_START)
            .and_then(|rest| rest.strip_suffix(&SPKI_END))
            .and_then(|modulus| <[u8; ELEMENT_LEN]>::try_from(modulus).ok())
            .filter(|modulus| modulus.first().is_some_and(|top| top & 0x80 != 0))
            .ok_or(KeyError::PublicKey)?;
        let pkcs1 = spki.get(SPKI_PKCS1_AT..).ok_or(KeyError::PublicKey)?;
        let rsa = aws_lc::PublicKey::from_pkcs1(pkcs1).map_err(|_| KeyError::PublicKey)?;
        let key_id = TokenKeyId(Sha256::digest(spki).into());
        Ok(Self(Arc::new(VerifyingKeyInner { spki, modulus, key_id, rsa })))
    }

    /// The SubjectPublicKeyInfo, 342 bytes.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// `SHA-256` of the SubjectPublicKeyInfo (RFC 9578 §6.5), 32 bytes.
    pub fn key_id(&self) -> TokenKeyId {
        self.0.key_id
    }

    /// The last byte of the key id, which is all a token request carries (RFC 9578 §6.1). Live keys must differ in it.
    pub fn truncated_key_id(&self) -> u8 {
        let [.., last] = self.0.key_id.0;
        last
    }

    /// Verifies a token (RFC 9578 §6.3): its type, that it names this key and the expected challenge, and its
    /// RSASSA-PSS signature (SHA-384, salt 48) over the 98 bytes of its input.
    ///
    /// That the token was not spent before, and that the key is in force, is for the caller to see to.
    ///
    /// # Errors
    /// [`InvalidToken`], whatever is wrong.
    pub fn verify(&self, token: &Token, expected: &ChallengeDigest) -> Result<(), InvalidToken> {
        let input = &token.input;
        let ours = input.token_type.ct_eq(&TOKEN_TYPE)
            & input.token_key_id.0.ct_eq(&self.0.key_id.0)
            & input.challenge_digest.0.ct_eq(&expected.0);
        if !bool::from(ours) {
            return Err(InvalidToken);
        }
        self.verify_signature(input, &token.authenticator).map_err(|_| InvalidToken)
    }

    fn verify_signature(&self, input: &TokenInput, signature: &RsaElement) -> Result<(), aws_lc::Refused> {
        self.0.rsa.verify_pss_sha384(&input.encode(), &signature.0)
    }

    /// Whether a blinded message lies from 2 to n − 2: 0, 1 and n − 1 are their own signatures, and
    /// [`IssuerKey::blind_sign`] refuses them.
    pub fn is_signable(&self, element: &RsaElement) -> bool {
        let mut one = [0; ELEMENT_LEN];
        let mut top = self.0.modulus;
        if let (Some(one), Some(top)) = (one.last_mut(), top.last_mut()) {
            *one = 1;
            *top &= 0xfe; // n is odd
        }
        // Big-endian bytes of one length compare as numbers do. All of them are public.
        element.0 > one && element.0 < top
    }

    /// The same key, as the client's library wants it.
    fn client_key(&self) -> Option<ClientKey<Sha384, PSS, Deterministic>> {
        ClientKey::from_spki(&self.0.spki).ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("key_id", &self.0.key_id.to_string()).finish_non_exhaustive()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}
impl Eq for VerifyingKey {}

/// `SHA-256` of an encoded challenge (RFC 9577 §2.1), 32 bytes: what a token is bound to.
///
/// # Errors
/// [`TooLong`] when a name of the challenge does not fit its length prefix.
pub fn challenge_digest(challenge: &TokenChallenge) -> Result<ChallengeDigest, TooLong> {
    Ok(ChallengeDigest(Sha256::digest(challenge.encode()?).into()))
}

/// What a ledger of spent tokens is keyed on: `SHA-256("postern/nullifier/v1" ‖ token input)`, 32 bytes.
///
/// It does not depend on the signature, so that two valid signatures of one input are still one token.
pub fn nullifier(input: &TokenInput) -> Nullifier {
    Nullifier(Sha256::new_with_prefix(NULLIFIER_LABEL).chain_update(input.encode()).finalize().into())
}

/// The nonce of the token whose holder knows `r`: `SHA-256("postern/refund" ‖ r)`, 32 bytes.
///
/// Who sees a spent token sees the nonce, but only its holder can show the `r` that an exchange asks for.
pub fn refund_nonce(refund: &RefundSecret) -> [u8; 32] {
    Sha256::new_with_prefix(REFUND_LABEL).chain_update(refund.expose()).finalize().into()
}
