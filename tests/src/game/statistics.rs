//! What the ranks of the secret among the candidates say.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Normal};

/// The ranks of one distinguisher over the rounds of one game.
#[derive(Debug)]
pub struct Tally {
    /// How many candidates there are.
    pub candidates: usize,
    /// Of each round: 0 if the secret was scored highest, 1 if lowest; in the middle of those with an equal score.
    ranks: Vec<f64>,
    /// How often it was picked, equal scores being decided by lot.
    hits: u64,
    lots: StdRng,
}

/// An estimate with its confidence interval.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Half the width of the interval.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether a value lies in the interval.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

impl Tally {
    /// Nothing yet.
    pub fn new(candidates: usize, seed: u64) -> Self {
        Self { candidates, ranks: Vec::new(), hits: 0, lots: StdRng::seed_from_u64(seed) }
    }

    /// One more round: the scores of all candidates, and which one was the secret.
    pub fn add(&mut self, scores: &[f64], secret: usize) {
        assert_eq!(scores.len(), self.candidates);
        let (better, equal) = standing(scores, scores[secret]);
        self.ranks.push((better as f64 + (equal - 1) as f64 / 2.0) / (self.candidates - 1) as f64);
        if better == 0 && self.lots.random_range(0..equal) == 0 {
            self.hits += 1;
        }
    }

    /// How many rounds.
    pub fn rounds(&self) -> usize {
        self.ranks.len()
    }

    /// How often the secret was picked.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Mean of the normalised ranks: 0 is always the first, 1/2 is chance.
    pub fn mean_rank(&self) -> f64 {
        self.ranks.iter().sum::<f64>() / self.ranks.len() as f64
    }

    /// `1 − 2 · mean rank`: 1 if the secret always comes first, 0 for chance. It is also how much more often than not the secret is told
    /// from another candidate drawn at random. The interval is the normal one of the ranks' own spread; ranks are bounded and there are
    /// hundreds of them.
    pub fn advantage(&self, confidence: f64) -> Estimate {
        let (n, mean) = (self.ranks.len() as f64, self.mean_rank());
        let variance = self.ranks.iter().map(|rank| (rank - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let z = Normal::standard().inverse_cdf(1.0 - (1.0 - confidence) / 2.0);
        let (value, half) = (1.0 - 2.0 * mean, 2.0 * z * (variance / n).sqrt());
        Estimate { value, low: value - half, high: value + half }
    }

    /// The share of rounds in which the secret was picked, with the interval of Clopper and Pearson.
    pub fn hit_rate(&self, confidence: f64) -> Estimate {
        let (n, k, tail) = (self.ranks.len() as f64, self.hits as f64, (1.0 - confidence) / 2.0);
        let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).unwrap().inverse_cdf(p);
        let low = if self.hits == 0 { 0.0 } else { quantile(k, n - k + 1.0, tail) };
        let high = if k == n { 1.0 } else { quantile(k + 1.0, n - k, 1.0 - tail) };
        Estimate { value: k / n, low, high }
    }

    /// How likely so many picks, or more, are by chance: exact, one-sided.
    pub fn hits_by_chance(&self) -> f64 {
        match self.hits.checked_sub(1) {
            None => 1.0,
            Some(below) => Binomial::new(1.0 / self.candidates as f64, self.ranks.len() as u64).unwrap().sf(below),
        }
    }
}

/// How many scores are higher than this one, and how many are equal, itself included.
fn standing(scores: &[f64], score: f64) -> (usize, usize) {
    let better = scores.iter().filter(|other| **other > score).count();
    let equal = scores.iter().filter(|other| **other == score).count();
    (better, equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(rounds: usize, candidates: usize, tell: impl Fn(usize, usize) -> f64) -> Tally {
        let (mut rng, mut tally) = (StdRng::seed_from_u64(5), Tally::new(candidates, 6));
        for _ in 0..rounds {
            let secret = rng.random_range(0..candidates);
            let scores: Vec<f64> = (0..candidates).map(|i| tell(i, secret) + rng.random::<f64>()).collect();
            tally.add(&scores, secret);
        }
        tally
    }

    #[test]
    fn who_guesses_has_no_advantage_and_who_knows_has_all_of_it() {
        let guess = uniform(1000, 1000, |_, _| 0.0);
        let advantage = guess.advantage(0.999);
        assert!(advantage.covers(0.0) && advantage.half_width() < 0.07, "{advantage:?}");
        assert!(guess.hit_rate(0.999).covers(0.001) && guess.hits_by_chance() > 0.001);
        let knows = uniform(60, 1000, |i, secret| f64::from(u8::from(i == secret)));
        assert!(
            knows.advantage(0.999).low > 0.99 && knows.hit_rate(0.999).low > 0.8 && knows.hits_by_chance() < 1e-100
        );
    }

    #[test]
    fn one_in_ten_that_is_told_shows() {
        let some = uniform(1000, 1000, |i, secret| f64::from(u8::from(i == secret && secret % 10 == 0)));
        assert!(!some.advantage(0.999).covers(0.0), "{:?}", some.advantage(0.999));
        assert!(some.hits_by_chance() < 1e-9);
    }

    #[test]
    fn scores_that_are_all_equal_say_nothing() {
        let mut tally = Tally::new(2, 1);
        (0..400).for_each(|n| tally.add(&[3.0, 3.0], n % 2));
        let advantage = tally.advantage(0.999);
        assert_eq!((advantage.value, advantage.half_width()), (0.0, 0.0));
        assert!(tally.hit_rate(0.999).covers(0.5));
    }

    #[test]
    fn the_interval_of_clopper_and_pearson_is_theirs() {
        let mut tally = Tally::new(2, 1);
        for n in 0..10 {
            tally.add(&[1.0, 0.0], usize::from(n >= 3));
        }
        // 3 of 10 at 95%: 0.0667 to 0.6525.
        let rate = tally.hit_rate(0.95);
        assert!((rate.low - 0.0667).abs() < 1e-3 && (rate.high - 0.6525).abs() < 1e-3, "{rate:?}");
    }
}
