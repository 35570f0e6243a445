//! Counters that everybody adds to are cut into parts (ADR 19): each has its row, whoever counts draws one, and the counter is their sum.
//! A limit is cut as well, so that a transaction that looks at its own part alone keeps it.

use rand_core::Rng;

/// So many parts has a counter. A power of two: buckets of attempts lie side by side.
pub(crate) const PARTS: u32 = 64;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part(u32);

impl Part {
    /// Any.
    pub(crate) fn draw(rng: &mut impl Rng) -> Self {
        Self(rng.next_u32() % PARTS)
    }

    /// All, this one first.
    pub(crate) fn all_from(self) -> impl Iterator<Item = Self> {
        (0..PARTS).map(move |n| Self((self.0 + n) % PARTS))
    }

    /// Its number.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    /// What this part may count to if the counter may count to `limit`: together exactly that.
    pub(crate) fn share(self, limit: u64) -> u64 {
        let parts = u64::from(PARTS);
        limit / parts + u64::from(u64::from(self.0) < limit % parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_parts_are_the_limit() {
        for limit in [0, 1, 5, 63, 64, 65, 1000, 1 << 62] {
            let shares = Part(17).all_from().map(|part| part.share(limit));
            assert_eq!(shares.sum::<u64>(), limit);
        }
        let mut numbers: Vec<_> = Part(63).all_from().map(Part::number).collect();
        assert_eq!(numbers[..2], [63, 0]);
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..PARTS));
    }
}
