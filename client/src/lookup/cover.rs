//! Which buckets are fetched: those of the hits, among others that stand for the misses, so that what is fetched does not say whether
//! anybody was found.
//!
//! How many is said by [`buckets_to_fetch`](postern_protocol::lookup::buckets_to_fetch). Those that stand in are drawn by a keyed hash of
//! what is looked up: a look-up that failed half-way and is tried again asks for the same ones, for what two tries have in common would be
//! the hits.

use std::collections::{BTreeMap, BTreeSet};

use postern_credentials::secrets::hmac_sha256;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;
use crate::secret::SecretBytes;

/// The key of the hash, 32 random bytes; never leaves the profile.
#[derive(Clone, Serialize, Deserialize)]
struct CoverKey {
    key: SecretBytes,
}

impl Record for CoverKey {
    const KIND: &'static str = "lookup-cover";
}

/// The buckets that stand in: without end, the same for the same look-up.
pub(super) struct Cover {
    seed: [u8; 32],
    bits: u8,
    drawn: u32,
}

impl Cover {
    /// Adds so many draws to `buckets`; as with hits, one may come twice.
    pub(super) fn draw(&mut self, many: usize, buckets: &mut BTreeSet<u32>) {
        buckets.extend(self.by_ref().take(many));
    }

    /// These buckets in an order that is the same for the same look-up and says nothing.
    pub(super) fn order(&self, buckets: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let place = |bucket: u32| hmac_sha256(&self.seed, &[b"order", &bucket.to_be_bytes()]);
        buckets.map(|bucket| (place(bucket), bucket)).collect::<BTreeMap<_, _>>().into_values()
    }
}

impl Iterator for Cover {
    type Item = u32;

    /// Uniform, as the buckets of numbers are.
    fn next(&mut self) -> Option<u32> {
        let drawn = hmac_sha256(&self.seed, &[&self.drawn.to_be_bytes()]);
        self.drawn = self.drawn.wrapping_add(1);
        let (word, _) = drawn.split_first_chunk()?;
        let shift = 32_u32.saturating_sub(self.bits.into());
        Some(u32::from_be_bytes(*word).checked_shr(shift).unwrap_or(0))
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// What stands in for a look-up that is told from others by `parts`, in a directory with 2^`bits` buckets.
    pub(super) fn cover(&mut self, bits: u8, parts: &[&[u8]]) -> Result<Cover> {
        let key = self.cover_key()?;
        Ok(Cover { seed: hmac_sha256(&key, parts), bits, drawn: 0 })
    }

    /// The place of a number in the order in which numbers are resolved: the same at every try, and no order of the address book.
    pub(super) fn cover_order(&mut self, phone: &str) -> Result<[u8; 32]> {
        let key = self.cover_key()?;
        Ok(hmac_sha256(&key, &[b"order", phone.as_bytes()]))
    }

    fn cover_key(&mut self) -> Result<zeroize::Zeroizing<[u8; 32]>> {
        if let Some(known) = self.profile.get::<CoverKey>("")? {
            return known.key.array().ok_or(Error::ProfileDamaged("the key of look-ups' cover"));
        }
        let key = zeroize::Zeroizing::new(self.random::<32>());
        let record = CoverKey { key: SecretBytes::new(*key) };
        self.profile.tx(&mut self.rng, |t| t.put("", &record))?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_is_spread_over_all_buckets_and_the_same_when_drawn_again() {
        let draw = |seed, bits| Cover { seed: [seed; 32], bits, drawn: 0 }.take(4096).collect::<Vec<_>>();
        assert_eq!(draw(1, 5), draw(1, 5));
        assert_ne!(draw(1, 5), draw(2, 5));
        assert_eq!(draw(1, 0), [0; 4096]);
        for bucket in 0..32 {
            let often = draw(3, 5).iter().filter(|drawn| **drawn == bucket).count();
            assert!((64..=192).contains(&often), "{bucket}: {often} of 4096");
        }
    }
}
