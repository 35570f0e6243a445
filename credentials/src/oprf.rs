//! VOPRF(ristretto255, SHA-512), RFC 9497 verifiable mode, over `voprf-ng`: what turns a phone number into `y`, and a token's input
//! into its authenticator.
//!
//! # Roles and steps
//!
//! 1. The **issuer** holds a [`SecretKey`] and publishes its key.
//! 2. The **client** blinds each input with [`blind`], stores the [`Blinding`], and sends the blinded elements.
//! 3. The issuer answers with [`SecretKey::evaluate`]: the same bytes for the same batch, so a retry is safe.
//! 4. The client checks the proof and takes the outputs with [`finish`].
//!
//! # What each party cannot learn
//!
//! - The issuer sees uniformly random group elements: nothing of the inputs, whatever it computes.
//! - The client learns the outputs for its inputs and nothing about the key; and by the proof, that the key is the one that everybody
//!   else is shown.

use std::convert::Infallible;
use std::fmt;

use postern_protocol::ids::{OprfElement, OprfOutput, OprfProof, OprfPublicKey};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use voprf_ng::{
    BlindedElement, EvaluationElement, Group, Proof, Ristretto255, VoprfClient, VoprfServer,
    VoprfServerBatchEvaluateResult,
};
use zeroize::{Zeroize, Zeroizing};

use crate::secrets::RootSecret;
use crate::transcript::{Transcript, hmac_sha256};

/// Names the use of the root secret that the directory's keys come from.
const EPOCH_LABEL: &str = "oprf";
/// Names the key that the proofs' nonces come from.
const NONCE_LABEL: &str = "postern/oprf-nonce/v1";

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OprfError {
    /// An empty batch, one of more than 65,535, or lists of different lengths.
    #[error("not a batch")]
    Batch,
    /// Not the canonical encoding of a group element other than the identity.
    #[error("not a group element")]
    Element,
    /// Not a public key, or a secret key that cannot be derived.
    #[error("not a key")]
    Key,
    /// Not a proof, or not one for this batch and key: the answer must be thrown away.
    #[error("the proof does not verify")]
    Proof,
    /// An input that is longer than 65,535 bytes, or that hashes to the identity.
    #[error("this input cannot be evaluated")]
    Input,
}

/// A secret key. Zeroised on drop, silent in `Debug`.
pub struct SecretKey {
    server: VoprfServer<Ristretto255>,
    public: OprfPublicKey,
    nonce_key: Zeroizing<[u8; 32]>,
}

/// Checks that a batch can be evaluated, before anything is paid for it.
///
/// # Errors
/// [`OprfError::Batch`] or [`OprfError::Element`], exactly when [`SecretKey::evaluate`] has it.
pub fn check_batch(blinded: &[OprfElement]) -> Result<(), OprfError> {
    decode_batch(blinded).map(drop)
}

fn decode_batch(blinded: &[OprfElement]) -> Result<Vec<BlindedElement<Ristretto255>>, OprfError> {
    // Before anything is decoded, so that a long list costs nothing.
    if blinded.is_empty() || blinded.len() > usize::from(u16::MAX) {
        return Err(OprfError::Batch);
    }
    let decode =
        |element: &OprfElement| BlindedElement::deserialize(element.as_bytes()).map_err(|_| OprfError::Element);
    blinded.iter().map(decode).collect()
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// One per blinded element, in order.
    pub evaluated: Vec<OprfElement>,
    /// That all of them were evaluated under one key.
    pub proof: OprfProof,
}

impl SecretKey {
    /// `DeriveKeyPair` of RFC 9497 §3.2.1.
    ///
    /// # Errors
    /// [`OprfError::Key`] for an `info` of more than 65,000 bytes.
    pub fn derive(seed: &[u8; 32], info: &[u8]) -> Result<Self, OprfError> {
        Self::from_server(VoprfServer::new_from_seed(seed, info).map_err(|_| OprfError::Key)?)
    }

    fn from_server(server: VoprfServer<Ristretto255>) -> Result<Self, OprfError> {
        let public = OprfPublicKey(Ristretto255::serialize_elem(server.get_public_key()).into());
        let mut pair = server.serialize();
        let scalar = pair.first_chunk::<32>().map(|scalar| Zeroizing::new(*scalar)).ok_or(OprfError::Key)?;
        pair.zeroize();
        let nonce_key = Zeroizing::new(hmac_sha256(&scalar, &[NONCE_LABEL.as_bytes()]));
        Ok(Self { server, public, nonce_key })
    }

    /// The key of published vectors that do not say the seed.
    #[cfg(test)]
    pub(crate) fn from_scalar(scalar: &[u8; 32]) -> Self {
        Self::from_server(VoprfServer::new_with_key(scalar).unwrap()).unwrap()
    }

    /// The key that the directory is made with in an epoch (design §5): the seed is derived from the root secret, and the info is the
    /// epoch as 4 bytes, so that any number of processes have the same.
    ///
    /// # Errors
    /// As [`Self::derive`]; does not happen.
    pub fn for_epoch(root: &RootSecret, epoch: u32) -> Result<Self, OprfError> {
        Self::derive(&root.derive(EPOCH_LABEL), &epoch.to_be_bytes())
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> OprfPublicKey {
        self.public
    }

    /// Evaluates a batch and proves it (RFC 9497 §3.3.2). The same batch gets the same bytes: the proof's nonce is a function of key and
    /// batch, so it cannot repeat for another batch, which would give the key away.
    ///
    /// # Errors
    /// [`OprfError::Batch`] or [`OprfError::Element`]; then nothing is evaluated.
    pub fn evaluate(&self, blinded: &[OprfElement]) -> Result<Evaluation, OprfError> {
        let mut transcript = Transcript::new(NONCE_LABEL);
        for element in blinded {
            transcript = transcript.fixed(element.as_bytes());
        }
        let mut nonce = NonceRng { key: Zeroizing::new(transcript.hmac(&self.nonce_key)), counter: 0 };
        self.evaluate_with(&mut nonce, blinded)
    }

    /// As [`Self::evaluate`], with the proof's nonce from `rng`: for published vectors, which fix it.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_with(&self, rng: &mut impl CryptoRng, blinded: &[OprfElement]) -> Result<Evaluation, OprfError> {
        let blinded = decode_batch(blinded)?;
        let VoprfServerBatchEvaluateResult { messages, proof } =
            self.server.batch_blind_evaluate(rng, &blinded).map_err(|_| OprfError::Batch)?;
        Ok(Evaluation {
            evaluated: messages.iter().map(|element| OprfElement(element.serialize().into())).collect(),
            proof: OprfProof(proof.serialize().into()),
        })
    }

    /// The output for an input that the key's owner knows (RFC 9497 §3.3.1, `Evaluate`), 64 bytes.
    ///
    /// # Errors
    /// [`OprfError::Input`].
    pub fn output(&self, input: &[u8]) -> Result<OprfOutput, OprfError> {
        let mut output = self.server.evaluate(input).map_err(|_| OprfError::Input)?;
        let kept = OprfOutput::new(output.into());
        output.zeroize();
        Ok(kept)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(secret)")
    }
}

/// `HMAC-SHA-256(key, counter)` one after the other: what a proof's nonce is drawn from.
struct NonceRng {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl NonceRng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = Zeroizing::new(hmac_sha256(&self.key, &[&self.counter.to_be_bytes()]));
            self.counter = self.counter.wrapping_add(1);
            for (to, from) in chunk.iter_mut().zip(block.iter()) {
                *to = *from;
            }
        }
    }
}

impl TryRng for NonceRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for NonceRng {}

/// What the client keeps of a blinded input. Whoever has it and the blinded element can test guesses of the input.
///
/// Zeroised on drop, silent in `Debug`.
#[derive(Clone)]
pub struct Blinding(VoprfClient<Ristretto255>);

impl Blinding {
    /// Length of the stored form.
    pub const LEN: usize = 64;

    /// The stored form: blinding scalar (32) ‖ blinded element (32).
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut bytes = self.0.serialize();
        let kept = Zeroizing::new(bytes.into());
        bytes.zeroize();
        kept
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`OprfError::Element`] if it is anything else.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, OprfError> {
        VoprfClient::deserialize(bytes).map(Self).map_err(|_| OprfError::Element)
    }

    /// The blinded element, as it was sent.
    pub fn element(&self) -> OprfElement {
        let [_, element] = halves(&self.to_bytes());
        OprfElement(element)
    }
}

fn halves(bytes: &[u8; 64]) -> [[u8; 32]; 2] {
    let mut out = [[0; 32]; 2];
    for (to, from) in out.as_flattened_mut().iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

impl fmt::Debug for Blinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blinding(secret)")
    }
}

/// Blinds an input (RFC 9497 §3.3.1). Blind each input anew: an element that is sent twice links the two.
///
/// # Errors
/// [`OprfError::Input`].
pub fn blind(rng: &mut impl CryptoRng, input: &[u8]) -> Result<(OprfElement, Blinding), OprfError> {
    let blinded = VoprfClient::blind(input, rng).map_err(|_| OprfError::Input)?;
    Ok((OprfElement(blinded.message.serialize().into()), Blinding(blinded.state)))
}

/// Verifies the proof of a batch and takes the outputs (RFC 9497 §3.3.2), in its order. May be tried again with another answer.
///
/// `batch` has each input with what [`blind`] kept of it, in the order in which the elements were sent.
///
/// # Errors
/// [`OprfError`]; then no output is to be believed.
pub fn finish(
    key: &OprfPublicKey,
    batch: &[(&[u8], &Blinding)],
    evaluated: &[OprfElement],
    proof: &OprfProof,
) -> Result<Vec<OprfOutput>, OprfError> {
    if batch.is_empty() || batch.len() != evaluated.len() {
        return Err(OprfError::Batch);
    }
    let key = Ristretto255::deserialize_elem(key.as_bytes()).map_err(|_| OprfError::Key)?;
    let proof = Proof::deserialize(proof.as_bytes()).map_err(|_| OprfError::Proof)?;
    let (inputs, clients): (Vec<&[u8]>, Vec<_>) =
        batch.iter().map(|(input, blinding)| (*input, blinding.0.clone())).unzip();
    let evaluated: Vec<EvaluationElement<Ristretto255>> = evaluated
        .iter()
        .map(|element| EvaluationElement::deserialize(element.as_bytes()).map_err(|_| OprfError::Element))
        .collect::<Result<_, _>>()?;
    let outputs =
        VoprfClient::batch_finalize(&inputs, &clients, &evaluated, &proof, key).map_err(|error| match error {
            voprf_ng::Error::Batch => OprfError::Batch,
            _ => OprfError::Proof,
        })?;
    outputs.map(|output| output.map(|y| OprfOutput::new(y.into())).map_err(|_| OprfError::Input)).collect()
}

#[cfg(test)]
#[path = "oprf/tests.rs"]
mod tests;
