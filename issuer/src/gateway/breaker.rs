//! Leaves a broken gateway alone for a while, so that not every text waits for it; then tries it again with one.

use std::sync::{Mutex, PoisonError};

use postern_protocol::time::Timestamp;

/// So many failures in a row break it.
const FAILURES: u32 = 3;
/// How long it is left alone at first, seconds; twice as long after each trial that failed …
const FIRST_PAUSE: u64 = 15;
/// … up to this.
const LONGEST_PAUSE: u64 = 600;

/// What is known of a gateway. Of this process; nothing of it is stored.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When it is tried again; of no meaning before it is broken.
    again: Timestamp,
}

impl Breaker {
    /// Whether it may be tried now. A broken one, once its pause is over, may by the first who asks; the others go on for another pause.
    ///
    /// # Errors
    /// In how many seconds, at least 1.
    pub fn ask(&self, now: Timestamp) -> Result<(), u64> {
        let mut state = self.lock();
        if state.failures < FAILURES {
            return Ok(());
        }
        if now < state.again {
            return Err(now.seconds_until(state.again).max(1));
        }
        state.again = now.plus_seconds(pause(state.failures));
        Ok(())
    }

    /// It works. Returns whether it had been broken.
    pub fn worked(&self) -> bool {
        let mut state = self.lock();
        let was_broken = state.failures >= FAILURES;
        *state = State::default();
        was_broken
    }

    /// It did not. Returns whether it is broken from now on.
    pub fn failed(&self, now: Timestamp) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        state.again = now.plus_seconds(pause(state.failures));
        state.failures == FAILURES
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it is left alone after so many failures, seconds.
fn pause(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(FAILURES).min(16);
    (FIRST_PAUSE << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000_000);

    #[test]
    fn after_three_failures_in_a_row_it_is_left_alone_and_then_tried_by_one() {
        let breaker = Breaker::default();
        for _ in 0..2 {
            assert!(!breaker.failed(START));
            assert_eq!(breaker.ask(START), Ok(()));
        }
        assert!(breaker.failed(START));
        assert_eq!(breaker.ask(START), Err(15));
        let later = START.plus_seconds(15);
        assert_eq!(breaker.ask(later), Ok(()));
        assert_eq!(breaker.ask(later), Err(15), "one tries, the others wait for what comes of it");
        assert!(!breaker.failed(later));
        assert_eq!(breaker.ask(later.plus_seconds(15)), Err(15), "twice as long the second time");
        assert!(breaker.worked());
        assert_eq!(breaker.ask(later), Ok(()));
    }

    #[test]
    fn a_success_in_between_counts_and_no_pause_is_longer_than_ten_minutes() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(START);
            breaker.failed(START);
            assert!(!breaker.worked());
        }
        for _ in 0..100 {
            breaker.failed(START);
        }
        assert_eq!(breaker.ask(START), Err(600));
    }
}
