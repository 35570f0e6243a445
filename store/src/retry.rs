//! When a transaction is tried again, and after how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Failure;

/// After this long no further try begins: whoever waits for the answer gives up soon.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Tries in all, by what was in the way.
const fn most_tries(failure: Failure) -> u32 {
    match failure {
        Failure::Busy | Failure::Lost => 250,
        Failure::Duplicate => 4,
        Failure::Final => 1,
    }
}

/// The tries of one transaction.
pub(crate) struct Tries {
    began: Instant,
    made: u32,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), made: 0 }
    }

    /// Waits until it is time for another try; false if there is none.
    pub(crate) async fn another(&mut self, failure: Failure) -> bool {
        self.made = self.made.saturating_add(1);
        if self.made >= most_tries(failure) || self.began.elapsed() >= PATIENCE {
            return false;
        }
        tokio::time::sleep(pause(self.made, next_place())).await;
        true
    }

    /// How many tries failed so far.
    pub(crate) const fn made(&self) -> u32 {
        self.made
    }
}

/// Up to 2 ms after the first try, twice as much after each further one. `place`, of 2^64, says where in that span.
fn pause(made: u32, place: u64) -> Duration {
    let span = 1u64.checked_shl(made.min(10)).unwrap_or(u64::MAX).saturating_mul(1_000_000);
    let span = span.min(u64::try_from(LONGEST_PAUSE.as_nanos()).unwrap_or(u64::MAX));
    // The upper 32 bits are plenty.
    Duration::from_nanos((span * (place >> 32)) >> 32)
}

/// Multiples of the golden ratio: successive pauses in one process lie as far from each other as they can, which is what is
/// wanted of jitter, and takes no randomness. Processes begin at different places.
fn next_place() -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = u64::from(std::process::id()).wrapping_mul(0xd134_2543_de82_ef95);
    COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN).wrapping_add(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_spread() {
        assert_eq!(pause(1, 0), Duration::ZERO);
        assert!(pause(1, u64::MAX) < Duration::from_millis(2) && pause(1, u64::MAX) > Duration::from_micros(1999));
        assert!(pause(3, u64::MAX) > Duration::from_micros(7999));
        for made in 6..300 {
            assert!(pause(made, u64::MAX) < LONGEST_PAUSE);
        }
        let mut pauses: Vec<_> = (0..8).map(|_| pause(10, next_place())).collect();
        pauses.sort();
        let closest = pauses.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
        assert!(closest > LONGEST_PAUSE / 32, "{pauses:?}");
    }
}
