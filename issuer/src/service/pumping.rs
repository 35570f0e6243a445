//! Against text pumping: somebody asks for codes to numbers whose operator pays him for every text that arrives. Nobody reads these texts,
//! or few do; and the numbers lie close together, in blocks that one operator has.
//!
//! Beside the caps of a day ([`super::attempts`]), which are exact and stored, each process keeps two tables of bounded size: of numbers that
//! differ in their last four digits alone (a *prefix*), and of those that differ in their last six (a *range*). Each counts
//!
//! - velocity: texts in this hour;
//! - conversion: texts that went unanswered. A text adds one, a code that came back takes `texts_per_answer` away, and each hour half is
//!   forgotten. Where one in `texts_per_answer` codes comes back it stays near zero, and where none does it soon is full.
//!
//! A place in a table is chosen by a keyed hash. Two prefixes may share one: then they share a limit, which is the side to fail on.

use std::sync::{Mutex, PoisonError};

use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;

use crate::config::Limits;
use crate::error::Refusal;
use crate::secrets::Secrets;

const HOUR: u64 = 3600;
/// Places of a table. 16 bytes each.
const PLACES: usize = 1 << 14;

/// What a process remembers of the texts that it sent.
pub(crate) struct Pumping {
    prefixes: Table,
    ranges: Table,
}

/// How far a table counts.
#[derive(Clone, Copy)]
struct Bounds {
    per_hour: u32,
    unanswered: u32,
}

struct Table(Mutex<Vec<Place>>);

#[derive(Clone, Copy, Default)]
struct Place {
    hour: u64,
    texts: u32,
    unanswered: u32,
}

impl Default for Pumping {
    fn default() -> Self {
        Self { prefixes: Table::new(), ranges: Table::new() }
    }
}

/// Which places a number has, in the table of prefixes and in that of ranges.
#[derive(Clone, Copy)]
pub(crate) struct Places([usize; 2]);

impl Places {
    pub(crate) fn of(secrets: &Secrets, phone: &PhoneNumber) -> Self {
        let place = |scope, digits| {
            let number = phone.as_str().as_bytes();
            let head = number.get(..number.len().saturating_sub(digits)).unwrap_or_default();
            usize::try_from(secrets.bucket(scope, head)).unwrap_or_default() % PLACES
        };
        Self([place("pumping-prefix", 4), place("pumping-range", 6)])
    }
}

impl Pumping {
    /// Counts a text, or refuses it and counts nothing.
    ///
    /// # Errors
    /// `text-limit`, until the hour is over.
    pub(crate) fn count(&self, limits: &Limits, places: Places, now: Timestamp) -> Result<(), Refusal> {
        let Places([prefix, range]) = places;
        let of_prefix =
            Bounds { per_hour: limits.texts_per_prefix_per_hour, unanswered: limits.unanswered_texts_per_prefix };
        let of_range =
            Bounds { per_hour: limits.texts_per_range_per_hour, unanswered: limits.unanswered_texts_per_range };
        self.prefixes.count(prefix, of_prefix, now)?;
        self.ranges.count(range, of_range, now).inspect_err(|_| self.prefixes.take_back(prefix, now))
    }

    /// A text was not sent after all.
    pub(crate) fn take_back(&self, places: Places, now: Timestamp) {
        let Places([prefix, range]) = places;
        self.prefixes.take_back(prefix, now);
        self.ranges.take_back(range, now);
    }

    /// A code came back.
    pub(crate) fn answered(&self, limits: &Limits, places: Places, now: Timestamp) {
        let Places([prefix, range]) = places;
        self.prefixes.answered(prefix, limits.texts_per_answer, now);
        self.ranges.answered(range, limits.texts_per_answer, now);
    }
}

impl Table {
    fn new() -> Self {
        Self(Mutex::new(vec![Place::default(); PLACES]))
    }

    /// Calls `change` with a place as it is in this hour.
    fn at<T>(&self, place: usize, now: Timestamp, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.get_mut(place)?;
        let hour = now.seconds() / HOUR;
        let passed = u32::try_from(hour.saturating_sub(place.hour)).unwrap_or(u32::MAX);
        if passed > 0 {
            let unanswered = place.unanswered.checked_shr(passed).unwrap_or(0);
            *place = Place { hour, texts: 0, unanswered };
        }
        Some(change(place))
    }

    fn count(&self, place: usize, bounds: Bounds, now: Timestamp) -> Result<(), Refusal> {
        let verdict = self.at(place, now, |place| {
            if place.texts >= bounds.per_hour {
                return Err("numbers like this one have had their texts of this hour");
            }
            if place.unanswered >= bounds.unanswered {
                return Err("too few of the codes sent to numbers like this one came back");
            }
            place.texts = place.texts.saturating_add(1);
            place.unanswered = place.unanswered.saturating_add(1);
            Ok(())
        });
        verdict.unwrap_or(Ok(())).map_err(|why| Refusal::Problem(Box::new(refusal(why, now))))
    }

    fn take_back(&self, place: usize, now: Timestamp) {
        self.at(place, now, |place| {
            place.texts = place.texts.saturating_sub(1);
            place.unanswered = place.unanswered.saturating_sub(1);
        });
    }

    fn answered(&self, place: usize, texts: u32, now: Timestamp) {
        self.at(place, now, |place| place.unanswered = place.unanswered.saturating_sub(texts));
    }
}

fn refusal(why: &'static str, now: Timestamp) -> postern_protocol::problem::Problem {
    let left = HOUR - now.seconds() % HOUR;
    postern_protocol::problem::Problem::new(ProblemKind::TextLimit).detail(why).retry_after(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(3600 * 1000);
    const HERE: Places = Places([1, 2]);
    const NEAR: Places = Places([3, 2]);

    fn limits() -> Limits {
        Limits {
            texts_per_prefix_per_hour: 100,
            texts_per_range_per_hour: 150,
            unanswered_texts_per_prefix: 10,
            unanswered_texts_per_range: 15,
            texts_per_answer: 4,
            ..Limits::default()
        }
    }

    /// How many texts go out of so many that are asked for; every `answers`th is answered.
    fn sent(pumping: &Pumping, places: Places, asked: u32, answers: u32, now: Timestamp) -> u32 {
        let mut sent = 0;
        for _ in 0..asked {
            if pumping.count(&limits(), places, now).is_ok() {
                sent += 1;
                if answers > 0 && sent % answers == 0 {
                    pumping.answered(&limits(), places, now);
                }
            }
        }
        sent
    }

    #[test]
    fn where_one_code_in_four_comes_back_velocity_is_the_limit_and_where_none_does_it_is_over_soon() {
        assert_eq!(sent(&Pumping::default(), HERE, 1000, 4, START), 100);
        assert_eq!(sent(&Pumping::default(), HERE, 1000, 0, START), 10);
        assert!(sent(&Pumping::default(), HERE, 1000, 20, START) < 15, "one in twenty is too few");
    }

    #[test]
    fn a_pumper_who_goes_from_prefix_to_prefix_meets_the_range() {
        let pumping = Pumping::default();
        assert_eq!(sent(&pumping, HERE, 1000, 0, START), 10);
        assert_eq!(sent(&pumping, NEAR, 1000, 0, START), 5);
        assert_eq!(sent(&pumping, Places([4, 5]), 1000, 0, START), 10, "elsewhere nobody notices");
        let mut refused = false;
        for _ in 0..200 {
            refused |= pumping.count(&limits(), NEAR, START).is_err();
        }
        assert!(refused);
        assert_eq!(sent(&pumping, Places([3, 6]), 1000, 0, START), 5, "what a range refuses counts on no prefix");
    }

    #[test]
    fn each_hour_half_of_it_is_forgotten_and_the_refusal_says_when_that_is() {
        let pumping = Pumping::default();
        assert_eq!(sent(&pumping, HERE, 1000, 0, START.plus_seconds(600)), 10);
        let Err(Refusal::Problem(problem)) = pumping.count(&limits(), HERE, START.plus_seconds(600)) else { panic!() };
        assert_eq!((problem.known_kind(), problem.retry_after), (Some(ProblemKind::TextLimit), Some(3000)));
        assert_eq!(sent(&pumping, HERE, 1000, 0, START.plus_seconds(3600)), 5);
        assert_eq!(sent(&pumping, HERE, 1000, 0, START.plus_seconds(3600 * 100)), 10);
    }

    #[test]
    fn a_text_that_was_not_sent_counts_nowhere() {
        let pumping = Pumping::default();
        for _ in 0..1000 {
            pumping.count(&limits(), HERE, START).unwrap();
            pumping.take_back(HERE, START);
        }
    }
}
