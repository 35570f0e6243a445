//! What was measured: latencies in HDR histograms, and how the work ended, each kind of work by its name.
//!
//! Every latency is recorded, that of a refusal too. A run with unexpected outcomes is no measurement, and says so
//! ([`Report::unexpected`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// How a piece of work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should, with this status.
    Done(u16),
    /// With another answer: its status and, where it has one, its problem type.
    Refused {
        /// Status code.
        status: u16,
        /// Slug of the problem, or empty.
        problem: String,
    },
    /// Without an answer, or with one that makes no sense.
    Failed(String),
}

impl Outcome {
    /// Whether it is what was wanted.
    pub const fn is_expected(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// What it is counted under.
    pub fn label(&self) -> String {
        match self {
            Self::Done(status) => status.to_string(),
            Self::Refused { status, problem } if problem.is_empty() => status.to_string(),
            Self::Refused { status, problem } => format!("{status} {problem}"),
            Self::Failed(why) => why.clone(),
        }
    }
}

/// One kind of work.
struct Series {
    latencies: Histogram<u64>,
    done: BTreeMap<u16, u64>,
    unexpected: BTreeMap<String, u64>,
}

impl Series {
    fn new() -> Option<Self> {
        let longest = u64::try_from(LONGEST.as_nanos()).ok()?;
        // 1 µs to the longest, in nanoseconds, to three digits: some 200 KiB a series.
        let latencies = Histogram::new_with_bounds(1_000, longest, 3).ok()?;
        Some(Self { latencies, done: BTreeMap::new(), unexpected: BTreeMap::new() })
    }

    fn record(&mut self, latency: Duration, outcome: &Outcome) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        let count = match outcome {
            Outcome::Done(status) => self.done.entry(*status).or_default(),
            other => self.unexpected.entry(other.label()).or_default(),
        };
        *count += 1;
    }

    fn report(&self, elapsed: Duration) -> Report {
        let at = |quantile| microseconds(self.latencies.value_at_quantile(quantile));
        let done: u64 = self.done.values().sum();
        let statuses = self.done.iter().map(|(status, n)| (status.to_string(), *n));
        Report {
            done,
            unexpected: self.unexpected.values().sum(),
            per_second: if elapsed.is_zero() { 0.0 } else { done as f64 / elapsed.as_secs_f64() },
            latency_us: Latency {
                mean: (self.latencies.mean() / 1000.0 * 10.0).round() / 10.0,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: microseconds(self.latencies.max()),
            },
            outcomes: statuses.chain(self.unexpected.iter().map(|(label, n)| (label.clone(), *n))).collect(),
        }
    }
}

/// Nanoseconds as microseconds with one digit behind the point.
fn microseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

/// Takes what tasks measure. Shared by reference.
#[derive(Default)]
pub struct Recorder(Mutex<BTreeMap<&'static str, Series>>);

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder(..)")
    }
}

impl Recorder {
    /// One piece of work of the kind `name` took so long, and ended so.
    pub fn record(&self, name: &'static str, latency: Duration, outcome: &Outcome) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get_mut(name) {
            series.record(latency, outcome);
        } else if let Some(mut series) = Series::new() {
            series.record(latency, outcome);
            all.insert(name, series);
        }
    }

    /// How many of the kind were recorded, and their 99th percentile so far: for a progress bar.
    pub fn so_far(&self, name: &str) -> (u64, Duration) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(series) = all.get(name) else { return (0, Duration::ZERO) };
        (series.latencies.len(), Duration::from_nanos(series.latencies.value_at_quantile(0.99)))
    }

    /// Everything, by name. `elapsed` is what throughputs are over.
    pub fn report(&self, elapsed: Duration) -> BTreeMap<String, Report> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, series)| ((*name).to_owned(), series.report(elapsed))).collect()
    }
}

/// What one kind of work took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many ended as they should.
    pub done: u64,
    /// How many did not.
    pub unexpected: u64,
    /// `done` by the elapsed time.
    pub per_second: f64,
    /// Latencies of all.
    pub latency_us: Latency,
    /// How many by outcome: a status, a status and a problem's type, or what else happened.
    pub outcomes: BTreeMap<String, u64>,
}

/// Latencies in microseconds. Percentiles are exact to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Half were no longer.
    pub p50: f64,
    /// 90 in 100 were no longer.
    pub p90: f64,
    /// 99 in 100 were no longer.
    pub p99: f64,
    /// 999 in 1000 were no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let recorder = Recorder::default();
        for ms in 1..=1000 {
            recorder.record("send", Duration::from_millis(ms), &Outcome::Done(201));
        }
        let report = recorder.report(Duration::from_secs(10))["send"].clone();
        assert_eq!((report.done, report.unexpected, report.per_second), (1000, 0, 100.0));
        let near = |value: f64, ms: f64| assert!((value / 1000.0 - ms).abs() <= ms / 1000.0, "{value} µs, not {ms} ms");
        near(report.latency_us.p50, 500.0);
        near(report.latency_us.p90, 900.0);
        near(report.latency_us.p99, 990.0);
        near(report.latency_us.p999, 999.0);
        near(report.latency_us.max, 1000.0);
        near(report.latency_us.mean, 500.5);
    }

    #[test]
    fn outcomes_are_counted_apart_and_only_expected_ones_are_throughput() {
        let recorder = Recorder::default();
        let refused = Outcome::Refused { status: 409, problem: "token-attached".to_owned() };
        let other = Outcome::Refused { status: 502, problem: String::new() };
        let failed = Outcome::Failed("no answer in time".to_owned());
        for outcome in
            [Outcome::Done(200), Outcome::Done(201), Outcome::Done(201), refused.clone(), refused, other, failed]
        {
            recorder.record("send", Duration::from_micros(50), &outcome);
        }
        let report = recorder.report(Duration::from_secs(1))["send"].clone();
        assert_eq!((report.done, report.unexpected, report.per_second), (3, 4, 3.0));
        let expected = [("200", 1), ("201", 2), ("409 token-attached", 2), ("502", 1), ("no answer in time", 1)];
        assert_eq!(report.outcomes, expected.map(|(label, n)| (label.to_owned(), n)).into());
    }

    #[test]
    fn what_takes_longer_than_can_be_told_counts_as_the_longest() {
        let recorder = Recorder::default();
        recorder.record("send", Duration::MAX, &Outcome::Done(200));
        recorder.record("send", Duration::ZERO, &Outcome::Done(200));
        let (count, p99) = recorder.so_far("send");
        assert_eq!(count, 2);
        assert!(p99 >= LONGEST);
    }

    #[test]
    fn a_report_is_read_back_from_its_json() {
        let recorder = Recorder::default();
        recorder.record("send", Duration::from_micros(1234), &Outcome::Done(201));
        let report = recorder.report(Duration::from_secs(3));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<BTreeMap<String, Report>>(&json).unwrap(), report);
    }
}
