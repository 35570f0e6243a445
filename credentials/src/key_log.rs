//! The log of everything that must be the same for everybody (design §2, §5): manifests, token keys, look-up keys. A tree of RFC 6962, whose
//! head the issuer signs.
//!
//! # Roles and steps
//!
//! 1. The **issuer** appends each [`postern_protocol::log::LogLeaf`] *before* it shows anybody what is in it, and signs heads with [`sign_head`].
//! 2. The **client** remembers the last head it believed, and the hashes of all leaves. A new head must be signed ([`verify_head`]); with the leaves
//!    that it has brought, the tree must have the old root at the old size and the new one at the new; and what the client was shown must be among
//!    them. It asks for whole pages of leaves, so that nobody sees what it has seen before.
//! 3. **Anybody else** may ask for proofs: that one head extends another ([`verify_extends`]), that a leaf is in it ([`verify_contains`]).
//!
//! # What it is good for
//!
//! An issuer that shows one client a key or a directory of its own must either leave it out of the log, which that client sees, or keep two logs
//! for ever: each client's next head must extend its last. Two signed heads of one size with two roots are proof of it, for anybody.
//! It does not help a client that nobody ever compares notes with; heads are small enough to be passed on with messages.

use postern_protocol::ids::{Sha256Digest, SigningPublicKey};
use postern_protocol::log::{ConsistencyProof, InclusionProof, LogHead};

use crate::hash_tree::{self, HashTree};
use crate::identity::{self, IdentityKey};

const HEAD_LABEL: &str = "postern/log-head/v1";

/// The issuer's side of the log: the tree, without the leaves. Made again from the stored leaves when a process starts.
#[derive(Clone, Default)]
pub struct KeyLog(HashTree);

impl KeyLog {
    /// Appends a leaf, encoded.
    pub fn push(&mut self, leaf: &[u8]) {
        self.0.push(leaf);
    }

    /// Appends a leaf by its hash ([`leaf_hash`]), as a client does that keeps no leaves.
    pub fn push_hash(&mut self, hash: &Sha256Digest) {
        self.0.push_hash(hash.0);
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// The root when there were `size` leaves; `None` if there never were.
    pub fn root(&self, size: u64) -> Option<Sha256Digest> {
        self.0.root_at(size)
    }

    /// That the first `from` of `to` leaves are those of the log when it had `from`; `None` if `from` > `to` or there are not so many.
    pub fn consistency(&self, from: u64, to: u64) -> Option<ConsistencyProof> {
        self.0.consistency(from, to).map(|hashes| ConsistencyProof { hashes })
    }

    /// Where a leaf is, by [`leaf_hash`], among the first `size`; `None` if it is not among them, or there are not so many. Looks at every leaf.
    pub fn inclusion(&self, leaf_hash: &Sha256Digest, size: u64) -> Option<InclusionProof> {
        let index = self.0.find(leaf_hash)?;
        self.0.inclusion(index, size).map(|hashes| InclusionProof { index, hashes })
    }

    /// Signs the log as it is; `time` in Unix seconds.
    pub fn head(&self, issuer: &IdentityKey, time: u64) -> LogHead {
        sign_head(issuer, self.size(), self.0.root(), time)
    }
}

impl FromIterator<Vec<u8>> for KeyLog {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(leaves: I) -> Self {
        let mut log = Self::default();
        leaves.into_iter().for_each(|leaf| log.push(&leaf));
        log
    }
}

impl std::fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyLog({})", self.size())
    }
}

/// Why the log is not believed. Any of these from an honest transport means that the issuer shows different people different things: say so loudly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The head is not signed by the issuer.
    #[error("the head of the log is not signed by the issuer")]
    BadSignature,
    /// The log has become shorter.
    #[error("the log has become shorter")]
    Cut,
    /// The new log does not begin with the one seen before.
    #[error("the log has been rewritten")]
    Rewritten,
    /// What was shown is not in the log.
    #[error("what the issuer shows is not in its log")]
    NotLogged,
}

/// What a leaf is looked for by: `SHA-256(0 ‖ leaf)` (RFC 6962 §2.1).
pub fn leaf_hash(leaf: &[u8]) -> Sha256Digest {
    Sha256Digest(hash_tree::leaf_hash(leaf))
}

/// Signs a state of the log; deterministic.
pub fn sign_head(issuer: &IdentityKey, size: u64, root: Sha256Digest, time: u64) -> LogHead {
    let mut head = LogHead { size, root, time, signature: postern_protocol::ids::Signature([0; 64]) };
    head.signature = issuer.sign(HEAD_LABEL, &head.signed_part());
    head
}

/// Checks a head's signature.
///
/// # Errors
/// [`LogError::BadSignature`].
pub fn verify_head(head: &LogHead, issuer: &SigningPublicKey) -> Result<(), LogError> {
    identity::verify(issuer, HEAD_LABEL, &head.signed_part(), &head.signature).map_err(|_| LogError::BadSignature)
}

/// Checks that a log extends what was seen of it before. Both heads must have been verified.
///
/// # Errors
/// [`LogError::Cut`] or [`LogError::Rewritten`].
pub fn verify_extends(seen: &LogHead, new: &LogHead, proof: &ConsistencyProof) -> Result<(), LogError> {
    if new.size < seen.size {
        return Err(LogError::Cut);
    }
    let extends = hash_tree::is_extension((&seen.root, seen.size), (&new.root, new.size), &proof.hashes);
    if extends { Ok(()) } else { Err(LogError::Rewritten) }
}

/// Checks that a leaf, encoded, is in the log. The head must have been verified.
///
/// # Errors
/// [`LogError::NotLogged`].
pub fn verify_contains(head: &LogHead, leaf: &[u8], proof: &InclusionProof) -> Result<(), LogError> {
    let included = hash_tree::is_included(&head.root, head.size, leaf, proof.index, &proof.hashes);
    if included { Ok(()) } else { Err(LogError::NotLogged) }
}

#[cfg(test)]
#[path = "key_log/tests.rs"]
mod tests;
