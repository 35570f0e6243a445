//! The directory of accounts (design §5, M34, M38): who has the VOPRF's output `y` of a number finds and opens its record; to everybody else
//! the files are noise.
//!
//! # Roles and steps
//!
//! 1. The **issuer** computes `y` of every listed account's number, makes the files with [`build()`], signs the manifest with [`sign_manifest`], and
//!    lets anybody fetch and cache them.
//! 2. The **client** checks the manifest with [`verify_manifest`]; while there is a filter it asks that first ([`Filter`]), and is done if the number
//!    is not in it.
//! 3. Else it fetches the fingerprints of [`bucket_of`]`(y)`, and on a hit the records of that bucket, and opens the one of its `y`
//!    ([`Fingerprints`], [`Records`]).
//! 4. At the next build it reads the delta ([`Delta`]) for the numbers that it did not find before.
//!
//! # Where the bytes of `y` go
//!
//! `y[0..4]` names the bucket, `y[4..8]` is the fingerprint in it, `y[8..16]` is the filter's key, and `y[16..64]` is what the record's key
//! is derived from. So nothing that is published says anything about the record's key.
//!
//! # What each party cannot learn
//!
//! - Who fetches files learns no number and no mailbox, without asking the issuer about every number, for a token each.
//! - Who serves files learns which bucket somebody is interested in, never which record; and of a miss nothing, while there is a filter.
//! - Nobody can be shown another directory unnoticed: every byte hangs from the manifest, and the manifest is in the log.

use postern_protocol::card::CardLink;
use postern_protocol::codec::{DecodeError, TooLong};
use postern_protocol::directory::{Manifest, Record, SignedManifest};
use postern_protocol::ids::{OprfOutput, Sha256Digest, SigningPublicKey};

use crate::identity::{self, IdentityKey};
use crate::seal::{OVERHEAD, SealKey};
use crate::transcript::{hkdf_expand, hkdf_extract, sha256};

mod build;
mod filter;
mod read;

pub use build::{Account, Build, BuildError, BuildParams, Previous, build};
pub use filter::Filter;
pub use read::{Delta, Fingerprints, Records};

const MANIFEST_LABEL: &str = "postern/directory-manifest/v1";
const RECORD_LABEL: &str = "postern/directory-record/v1";

/// A sealed record is a plain one and the overhead of the seal.
const _: () = assert!(Record::SEALED_LEN == Record::LEN + OVERHEAD);

/// Why a manifest or a file of the directory is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not of the form that it should have.
    #[error("not a file of a directory")]
    Malformed,
    /// The manifest is not signed by the issuer.
    #[error("the manifest is not signed by the issuer")]
    BadSignature,
    /// The file is not the one that the manifest pins: of another build or bucket, or changed.
    #[error("the file does not belong to this build")]
    NotInBuild,
    /// The manifest names no such file.
    #[error("this build has no such file")]
    NoSuchFile,
}

impl From<DecodeError> for DirectoryError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// Signs a manifest; deterministic.
///
/// # Errors
/// [`TooLong`] if it does not encode.
pub fn sign_manifest(issuer: &IdentityKey, manifest: Manifest) -> Result<SignedManifest, TooLong> {
    let signature = issuer.sign(MANIFEST_LABEL, &manifest.encode()?);
    Ok(SignedManifest { manifest, signature })
}

/// Reads a manifest as served and checks its signature. That it is in the log, follows the one seen before, and has the key that the log
/// says, is for the caller to see to.
///
/// # Errors
/// [`DirectoryError::Malformed`] or [`DirectoryError::BadSignature`].
pub fn verify_manifest(served: &[u8], issuer: &SigningPublicKey) -> Result<Manifest, DirectoryError> {
    let SignedManifest { manifest, signature } = SignedManifest::decode(served)?;
    let signed = manifest.encode().map_err(|_| DirectoryError::Malformed)?;
    identity::verify(issuer, MANIFEST_LABEL, &signed, &signature).map_err(|_| DirectoryError::BadSignature)?;
    Ok(manifest)
}

/// What the next manifest names this one by: SHA-256 of the bytes as served.
pub fn manifest_digest(served: &[u8]) -> Sha256Digest {
    Sha256Digest(sha256(served))
}

/// The bucket of an account: the top `bits` bits of `y`.
pub fn bucket_of(y: &OprfOutput, bits: u8) -> u32 {
    let top = u32::from_be_bytes(part(y, 0));
    top.checked_shr(32 - u32::from(bits)).unwrap_or(0)
}

/// The link to the card that a record is about; `None` if it names a relay that the manifest does not have.
///
/// The card must then turn out to be certified for the very number that was looked up: the record does not say it.
pub fn card_link(manifest: &Manifest, record: &Record) -> Option<CardLink> {
    let relay = manifest.relays.get(usize::from(record.relay))?;
    Some(CardLink { relay_url: relay.url.clone(), mailbox: record.mailbox, identity: record.identity })
}

/// `y[from..from + N]`; zeros beyond the end.
fn part<const N: usize>(y: &OprfOutput, from: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, byte) in out.iter_mut().zip(y.expose().iter().skip(from)) {
        *to = *byte;
    }
    out
}

fn fingerprint(y: &OprfOutput) -> u32 {
    u32::from_be_bytes(part(y, 4))
}

fn filter_key(y: &OprfOutput) -> u64 {
    u64::from_be_bytes(part(y, 8))
}

/// HKDF-SHA-256 of `y[16..64]`, info = label ‖ epoch.
fn record_key(y: &OprfOutput, oprf_epoch: u32) -> SealKey {
    let secret = y.expose().split_at(16).1;
    let prk = hkdf_extract(&[0; 32], &[secret]);
    SealKey::new(*hkdf_expand(&prk, &[RECORD_LABEL.as_bytes(), &oprf_epoch.to_be_bytes()]))
}

fn record_context(y: &OprfOutput) -> Vec<u8> {
    [RECORD_LABEL.as_bytes(), &fingerprint(y).to_be_bytes()].concat()
}

/// The leaf of a bucket: `SHA-256(fingerprints) ‖ SHA-256(records)`.
fn leaf(fingerprints: &Sha256Digest, records: &Sha256Digest) -> [u8; 64] {
    let mut out = [0; 64];
    for (to, from) in out.iter_mut().zip(fingerprints.0.iter().chain(&records.0)) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests;
