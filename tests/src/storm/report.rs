//! What a storm did, and what the checker says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Options;
use super::check::{check, shortest};
use super::history::{Event, Finale, Outcome};
use super::town::Town;

/// How many violations are shown with their histories.
const SHOWN: usize = 10;

/// The figures of a storm.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which engine.
    pub engine: String,
    /// The seed.
    pub seed: u64,
    /// How many people.
    pub accounts: u32,
    /// How long faults were injected, seconds.
    pub seconds: f64,
    /// Operations by kind and outcome.
    pub operations: BTreeMap<String, BTreeMap<String, u64>>,
    /// Requests that were sent and got no answer that counts, so that they were sent again.
    pub unanswered: u64,
    /// Operations without an answer in the end.
    pub unknown: u64,
    /// kill -9, by victim.
    pub kills: BTreeMap<&'static str, u64>,
    /// Other faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Trouble on the way to the servers, by kind.
    pub troubles: BTreeMap<&'static str, u64>,
    /// Questions that the checker asked, by rule.
    pub checks: BTreeMap<String, u64>,
    /// Servers that ended by themselves or panicked, and people who gave up.
    pub failures: Vec<String>,
    /// How many promises were broken.
    pub violations: usize,
    /// The first of them, each with the shortest history that shows it.
    pub shown: Vec<Shown>,
}

/// A broken promise.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Which.
    pub violation: String,
    /// The shortest history.
    pub history: Vec<String>,
}

impl Report {
    pub(super) fn of(
        options: &Options,
        raged: Duration,
        town: &Town,
        failures: Vec<String>,
        events: &[Event],
        finale: &Finale,
    ) -> Self {
        let mut operations: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for event in events {
            let outcome = match event.outcome {
                Outcome::Done => "done",
                Outcome::Refused(kind) => kind.slug(),
                Outcome::Unknown => "unknown",
            };
            *operations.entry(event.act.name().to_owned()).or_default().entry(outcome.to_owned()).or_default() += 1;
        }
        let checked = check(events, finale);
        let shown = checked.violations.iter().take(SHOWN).map(|violation| {
            let history = shortest(events, finale, violation).iter().map(Event::to_string).collect();
            Shown { violation: violation.to_string(), history }
        });
        Self {
            engine: format!("{:?}", options.engine),
            seed: options.seed,
            accounts: options.accounts,
            seconds: raged.as_secs_f64(),
            operations,
            unanswered: events.iter().map(|event| u64::from(event.unanswered)).sum(),
            unknown: events.iter().filter(|event| event.outcome == Outcome::Unknown).count() as u64,
            kills: town.kills.clone(),
            faults: town.faults.clone(),
            troubles: town.troubles(),
            checks: checked.asked.iter().map(|(rule, asked)| (format!("{rule:?}"), *asked)).collect(),
            failures,
            violations: checked.violations.len(),
            shown: shown.collect(),
        }
    }

    /// How many kills there were.
    pub fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// How many operations were confirmed, of one kind.
    pub fn done(&self, kind: &str) -> u64 {
        self.operations.get(kind).and_then(|outcomes| outcomes.get("done")).copied().unwrap_or_default()
    }

    /// Whether all promises were kept, and everything was answered.
    pub fn is_clean(&self) -> bool {
        self.violations == 0 && self.failures.is_empty() && self.unknown == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let Self { engine, seed, accounts, seconds, .. } = self;
        writeln!(f, "storm on {engine}, seed {seed}, {accounts} accounts, {seconds:.0} s of faults")?;
        let total: u64 = self.operations.values().flat_map(BTreeMap::values).sum();
        writeln!(f, "operations: {total}; sent again for want of an answer: {}", self.unanswered)?;
        for (kind, outcomes) in &self.operations {
            let outcomes: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
            writeln!(f, "  {kind:9} {}", outcomes.join(", "))?;
        }
        writeln!(f, "kills: {} ({})", self.killed(), list(&self.kills))?;
        writeln!(f, "faults: {}", list(&self.faults))?;
        writeln!(f, "on the way: {}", list(&self.troubles))?;
        let checks: Vec<_> = self.checks.iter().map(|(rule, asked)| format!("{rule} {asked}")).collect();
        writeln!(f, "checks: {} ({})", self.checks.values().sum::<u64>(), checks.join(", "))?;
        for failure in &self.failures {
            writeln!(f, "FAILURE: {failure}")?;
        }
        for shown in &self.shown {
            writeln!(f, "VIOLATION: {}", shown.violation)?;
            shown.history.iter().try_for_each(|event| writeln!(f, "  {event}"))?;
        }
        write!(
            f,
            "violations: {}, failures: {}, without an answer: {}",
            self.violations,
            self.failures.len(),
            self.unknown
        )
    }
}
