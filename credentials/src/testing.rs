//! Seeded randomness for the tests of this crate.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Always the same stream: tests are exact.
pub(crate) fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}
