//! The log (design §2, §5): an append-only tree (RFC 6962) of every manifest and every token key that the issuer ever showed to
//! anybody. A client that sees its head grow, and finds in it what it was shown, was shown what everybody is shown.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader};
use crate::ids::{Base64, OprfPublicKey, Sha256Digest, Signature};
use crate::lookup::WindowKey;

/// `GET` → [`LogHead`].
pub const LOG_PATH: &str = "/v1/log";
/// `GET ?from=&to=` → [`ConsistencyProof`]: that the first `from` leaves of the log of size `to` are those of size `from`.
pub const CONSISTENCY_PATH: &str = "/v1/log/consistency";
/// `GET ?leaf=&size=` → [`InclusionProof`]: where in the log of that size a leaf is; `leaf` is its hash (RFC 6962 §2.1), base64url.
pub const INCLUSION_PATH: &str = "/v1/log/inclusion";
/// `GET ?from=&to=` → [`LogEntries`]: leaves `from` up to, not including, `to`; at most [`MAX_ENTRIES`].
pub const ENTRIES_PATH: &str = "/v1/log/entries";

/// The most leaves in one [`LogEntries`].
pub const MAX_ENTRIES: u64 = 256;

/// A leaf: `kind u8 ‖ bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLeaf {
    /// Kind 1: a [`crate::directory::SignedManifest`], encoded.
    Manifest(Vec<u8>),
    /// Kind 2: a [`crate::tokens::Directory`] of token keys, as served.
    TokenKeys(Vec<u8>),
    /// Kind 3: the look-up key of a window, `window u64 ‖ key (32)`.
    LookupKey(WindowKey),
}

impl LogLeaf {
    /// `kind u8 ‖ bytes`.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Manifest(bytes) => [&[1], bytes.as_slice()].concat(),
            Self::TokenKeys(bytes) => [&[2], bytes.as_slice()].concat(),
            Self::LookupKey(key) => [&[3], key.window.to_be_bytes().as_slice(), key.key.as_bytes()].concat(),
        }
    }

    /// Reads [`Self::encode`]'s form; says nothing about manifest or directory inside.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown kind, or another length of a look-up key.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            1 => Ok(Self::Manifest(r.rest().to_vec())),
            2 => Ok(Self::TokenKeys(r.rest().to_vec())),
            3 => {
                let key = WindowKey { window: r.u64()?, key: OprfPublicKey(r.array()?) };
                r.finish()?;
                Ok(Self::LookupKey(key))
            }
            _ => Err(DecodeError::Invalid("kind of leaf")),
        }
    }
}

/// The signed state of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// How many leaves it has.
    pub size: u64,
    /// Root of the RFC 6962 tree over them.
    pub root: Sha256Digest,
    /// When it was signed, Unix seconds.
    pub time: u64,
    /// By the issuer's key over [`Self::signed_part`].
    pub signature: Signature,
}

impl LogHead {
    /// `size u64 ‖ root (32) ‖ time u64`: 48 bytes.
    pub fn signed_part(&self) -> Vec<u8> {
        [self.size.to_be_bytes().as_slice(), self.root.as_bytes(), &self.time.to_be_bytes()].concat()
    }
}

/// `PROOF(from, D[to])` of RFC 6962 §2.1.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyProof {
    /// Hashes of nodes.
    pub hashes: Vec<Sha256Digest>,
}

/// `PATH(index, D[size])` of RFC 6962 §2.1.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// The leaf's place, from 0.
    pub index: u64,
    /// Hashes of nodes, from the leaf up.
    pub hashes: Vec<Sha256Digest>,
}

/// Some leaves, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntries {
    /// The place of the first, from 0.
    pub from: u64,
    /// [`LogLeaf`]s, encoded.
    pub entries: Vec<Base64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_reads_back_and_an_unknown_kind_is_refused() {
        let key = WindowKey { window: 20_000, key: OprfPublicKey([7; 32]) };
        for leaf in [LogLeaf::Manifest(vec![1, 2]), LogLeaf::TokenKeys(Vec::new()), LogLeaf::LookupKey(key)] {
            assert_eq!(LogLeaf::decode(&leaf.encode()), Ok(leaf));
        }
        let bytes = LogLeaf::LookupKey(key).encode();
        assert!(LogLeaf::decode(&bytes[..40]).is_err());
        assert!(LogLeaf::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        for bad in [&[][..], &[0], &[4, 1]] {
            assert!(LogLeaf::decode(bad).is_err(), "{bad:?}");
        }
    }
}
