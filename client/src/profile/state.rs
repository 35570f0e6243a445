//! The hash of the state that is stored with the state (H47): one sealed row that says which set of rows is the right one.
//!
//! The set hash is the exclusive or of `HMAC(k, id ‖ sealed)` over all rows, so that a change of one row costs one tag and not all of
//! them. Nobody without the key can find rows that cancel out, and the count and generation are sealed with it. A removed, swapped or
//! older row gives another hash. A whole file put back is caught by the generation beside it (see `lock`), on this machine.

use postern_credentials::seal::SealKey;
use postern_protocol::codec::Reader;
use rand_core::CryptoRng;

use crate::error::{Error, Result};

const CONTEXT: &[u8] = b"postern/profile-state/v1";

/// Which rows the profile has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    /// Rises with every transaction.
    pub(super) generation: u64,
    /// How many rows.
    pub(super) count: u64,
    /// The set hash.
    pub(super) set: [u8; 32],
}

impl State {
    /// Puts a row's tag into the set, or takes it out again.
    pub(super) fn toggle(&mut self, tag: &[u8; 32]) {
        for (a, b) in self.set.iter_mut().zip(tag) {
            *a ^= b;
        }
    }

    pub(super) fn seal(&self, key: &SealKey, mut rng: &mut dyn CryptoRng) -> Vec<u8> {
        let mut out = self.generation.to_be_bytes().to_vec();
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.set);
        key.seal(&mut rng, CONTEXT, &out)
    }

    pub(super) fn open(key: &SealKey, sealed: &[u8]) -> Result<Self> {
        let bad = |_| Error::ProfileDamaged("the hash of its state was changed");
        let plain =
            key.open(CONTEXT, sealed).map_err(|_| Error::ProfileDamaged("the hash of its state was changed"))?;
        let mut r = Reader::new(&plain);
        let state =
            Self { generation: r.u64().map_err(bad)?, count: r.u64().map_err(bad)?, set: r.array().map_err(bad)? };
        r.finish().map_err(bad)?;
        Ok(state)
    }
}
