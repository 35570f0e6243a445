//! Seeded randomness for the tests of this crate.

use std::convert::Infallible;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_core::{TryCryptoRng, TryRng};

/// Always the same stream: tests are exact.
pub(crate) fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// Gives the bytes of published vectors, in their order, and ends the test when there are no more.
pub(crate) struct ListRng(std::collections::VecDeque<u8>);

impl ListRng {
    pub(crate) fn new<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(parts.into_iter().flatten().copied().collect())
    }
}

impl TryRng for ListRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.iter_mut().for_each(|byte| *byte = self.0.pop_front().expect("more randomness than the vector has"));
        Ok(())
    }
}

impl TryCryptoRng for ListRng {}
