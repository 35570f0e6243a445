//! What time says: two things that one client does, and the delay that its policy puts between them.
//!
//! No servers are needed for that. The adversary has all times of a day and the policy; of each second thing it picks the first thing that
//! the policy makes most likely, and of those that are equally likely any.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::statistics::{Estimate, Tally};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// How long after the first thing the second one comes.
#[derive(Clone, Copy, Debug)]
pub enum Delay {
    /// In the same command.
    AtOnce,
    /// At a random time within so many seconds: the client's `some_time_within`.
    Within(f64),
    /// At a random time about so many seconds later, from half to one and a half of it: the client's `some_time_about`.
    About(f64),
    /// As [`Self::About`], asked for again, half as long again each time, until something else has come to pass at a random time within so
    /// many seconds: an exchange, while the recipient has not yet released.
    AskedFor(f64, f64),
    /// When a person likes, within so many seconds.
    Person(f64),
}

impl Delay {
    fn draw(self, rng: &mut StdRng) -> f64 {
        match self {
            // Requests follow each other within a second.
            Self::AtOnce => rng.random_range(0.1..1.0),
            Self::Within(most) | Self::Person(most) => rng.random_range(0.0..most),
            Self::About(about) => rng.random_range(0.5..1.5) * about,
            Self::AskedFor(about, released) => {
                let released = rng.random_range(0.0..released);
                let (mut at, mut gap) = (0.0, about);
                loop {
                    at += rng.random_range(0.5..1.5) * gap;
                    if at >= released {
                        return at;
                    }
                    gap *= 1.5;
                }
            }
        }
    }

    /// How likely each delay is, as far as it matters for comparing: by a histogram of drawn ones.
    fn likelihood(self, rng: &mut StdRng) -> Likelihood {
        let drawn: Vec<f64> = (0..200_000).map(|_| self.draw(rng)).collect();
        let most = drawn.iter().copied().fold(0.0, f64::max);
        let mut counts = vec![0_u32; 400];
        drawn.iter().for_each(|delay| counts[((delay / most) * 399.0) as usize] += 1);
        Likelihood { most, counts }
    }
}

struct Likelihood {
    most: f64,
    counts: Vec<u32>,
}

impl Likelihood {
    fn of(&self, delay: f64) -> f64 {
        if (0.0..=self.most).contains(&delay) {
            self.counts[((delay / self.most) * 399.0) as usize].into()
        } else {
            0.0
        }
    }
}

/// A policy by name, and what the two things are.
pub type Policy = (&'static str, &'static str, Delay);

const HOUR: f64 = 3600.0;

/// What is measured: pairs of things with what the client does by default, and with what it must not do.
pub const POLICIES: &[Policy] = &[
    ("register → first message", "written in the same minute", Delay::Person(60.0)),
    ("register → first message", "written within a day", Delay::Person(DAY)),
    ("read → release", "`--release-delay 0`", Delay::AtOnce),
    ("read → release", "default: within 6 h", Delay::Within(6.0 * HOUR)),
    ("release → exchange", "`--exchange-interval 0`, every minute", Delay::AskedFor(60.0, 60.0)),
    ("release → exchange", "default: about every 12 h", Delay::Within(18.0 * HOUR)),
    ("message → exchange", "default: about every 12 h", Delay::AskedFor(12.0 * HOUR, 6.0 * HOUR)),
    ("exchange → next message", "written in the same minute", Delay::Person(60.0)),
    ("exchange → next message", "written within a day", Delay::Person(DAY)),
    ("look-up tokens → look-up", "no stock: asked for as needed", Delay::AtOnce),
    ("look-up tokens → look-up", "default: refilled within 12 h", Delay::Within(12.0 * HOUR)),
    ("session → anonymous request", "one-shot `sync`", Delay::AtOnce),
];

/// What the adversary gets from time alone.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Against one other: `2 · share picked right − 1`.
    pub against_one: Estimate,
    /// The share picked right among all who are active.
    pub among_all: Estimate,
    /// How many candidates remain on average, weighed by likelihood: the reciprocal of the summed squares.
    pub remaining: f64,
}

/// Plays so many rounds with so many people who do the first thing some time in a day.
pub fn told(delay: Delay, people: usize, rounds: usize, seed: u64, confidence: f64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let likelihood = delay.likelihood(&mut rng);
    let (mut one, mut all, mut remaining) = (Tally::new(2, seed), Tally::new(people.max(2), seed), 0.0);
    for _ in 0..rounds {
        let first: Vec<f64> = (0..people.max(2)).map(|_| rng.random_range(0.0..DAY)).collect();
        let secret = rng.random_range(0..first.len());
        // The day goes round: at its beginning come those whose delay began the day before.
        let second = (first[secret] + delay.draw(&mut rng)).rem_euclid(DAY);
        let score = |first: &f64| -> f64 {
            let days = (likelihood.most / DAY).ceil() as u32;
            (0..=days).map(|days| likelihood.of(second - first + DAY * f64::from(days))).sum()
        };
        let scores: Vec<f64> = first.iter().map(score).collect();
        let other = (secret + 1 + rng.random_range(0..first.len() - 1)) % first.len();
        one.add(&[scores[secret], scores[other]], 0);
        all.add(&scores, secret);
        let sum: f64 = scores.iter().sum();
        let squares: f64 = scores.iter().map(|score| score * score).sum();
        // A delay longer than any that was drawn for the histogram says nothing.
        remaining += if squares > 0.0 { sum * sum / squares } else { people as f64 };
    }
    let rate = one.hit_rate(confidence);
    let twice = |share: f64| 2.0 * share - 1.0;
    let against_one = Estimate { value: twice(rate.value), low: twice(rate.low), high: twice(rate.high) };
    Told { against_one, among_all: all.hit_rate(confidence), remaining: remaining / rounds as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_both_at_once_is_told_and_who_waits_long_among_many_is_not() {
        let at_once = told(Delay::AtOnce, 100, 500, 1, 0.99);
        assert!(at_once.among_all.low > 0.9 && at_once.against_one.low > 0.9 && at_once.remaining < 1.1, "{at_once:?}");
        let day = told(Delay::Within(DAY), 100, 2000, 2, 0.99);
        assert!(day.against_one.covers(0.0) && day.among_all.covers(0.01), "{day:?}");
        assert!(day.remaining > 90.0, "{day:?}");
        // A quarter of a day: a quarter of the people remain.
        let quarter = told(Delay::Within(6.0 * HOUR), 100, 2000, 3, 0.99);
        assert!((20.0..30.0).contains(&quarter.remaining) && quarter.against_one.low > 0.6, "{quarter:?}");
    }
}
