//! What a run comes to: one document, as JSON or as a table. docs/load.md explains every member.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::measure::Report;
use crate::usage::Usage;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Which scenario.
    pub scenario: String,
    /// `closed` or `open`.
    pub pace: String,
    /// How many at a time: of a closed loop all the time, of an open loop at most.
    pub at_once: usize,
    /// Arrivals a second, of an open loop.
    pub rate: Option<f64>,
    /// Accounts that were asked for.
    pub accounts: u32,
    /// Mailboxes that were asked for.
    pub mailboxes: u32,
    /// Bytes of each envelope.
    pub envelope_bytes: usize,
    /// How long the preparations took.
    pub prepare_seconds: f64,
    /// How long the run took, from its begin to its last answer.
    pub seconds: f64,
    /// Pieces of work that were started.
    pub started: u64,
    /// Those of an open loop that were due and could not be started.
    pub not_started: u64,
    /// The most by which one was started late, in an open loop.
    pub latest_start_us: f64,
    /// Whether it was ended early, by Ctrl-C.
    pub interrupted: bool,
    /// Whether it ended because tokens, or room in the mailboxes, were used up.
    pub used_up: bool,
    /// How much was unexpected: answers, and work that never ended.
    pub unexpected: u64,
    /// The pieces of work.
    pub work: Report,
    /// The requests they are made of, by name.
    pub requests: BTreeMap<String, Report>,
    /// What the servers used during the run, each with all its descendants.
    pub servers: Vec<Usage>,
    /// What this program used.
    pub generator: Usage,
}

impl Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        writeln!(
            f,
            "\n{:<16}{:>9}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "done", "unexpected", "a second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
        )?;
        line(f, &self.scenario, &self.work)?;
        for (name, report) in &self.requests {
            line(f, &format!("  {name}"), report)?;
        }
        self.outcomes(f)?;
        self.usage(f)
    }
}

impl Document {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, at_once, seconds, prepare_seconds, envelope_bytes, .. } = self;
        let pace = match self.rate {
            Some(rate) => format!("{rate} a second, at most {at_once} outstanding"),
            None => format!("{at_once} in flight"),
        };
        writeln!(
            f,
            "{scenario}: {pace}, {seconds:.1} s (prepared in {prepare_seconds:.1} s), {envelope_bytes} bytes each"
        )?;
        if self.rate.is_some() {
            let late = self.latest_start_us / 1000.0;
            writeln!(f, "not started: {}; started late by {late:.2} ms at most, which counts", self.not_started)?;
        }
        if self.used_up {
            writeln!(f, "ended when tokens, or room in the mailboxes, were used up")?;
        }
        if self.interrupted { writeln!(f, "ended early") } else { Ok(()) }
    }

    /// Everything that went wrong, by what it was.
    fn outcomes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unexpected == 0 {
            return Ok(());
        }
        writeln!(f, "\nUNEXPECTED: {}; by outcome:", self.unexpected)?;
        let all = self.requests.iter().map(|(name, report)| (name.as_str(), report));
        for (name, report) in all.chain([(self.scenario.as_str(), &self.work)]).filter(|(_, r)| r.unexpected > 0) {
            for (outcome, count) in &report.outcomes {
                writeln!(f, "  {name}: {outcome}: {count}")?;
            }
        }
        Ok(())
    }

    fn usage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16}{:>9}{:>10}{:>13}{:>10}{:>10}{:>13}{:>14}{:>15}",
            "",
            "user s",
            "system s",
            "cpu µs each",
            "RSS MiB",
            "peak MiB",
            "written MiB",
            "B written ea",
            "switches ea"
        )?;
        let me = Usage { name: "(this program)".to_owned(), ..self.generator.clone() };
        for usage in self.servers.iter().chain([&me]) {
            let each = |amount: f64| if self.work.done == 0 { 0.0 } else { amount / self.work.done as f64 };
            let mebibytes = |bytes: u64| bytes as f64 / 1_048_576.0;
            writeln!(
                f,
                "{:<16}{:>9.2}{:>10.2}{:>13.0}{:>10.1}{:>10.1}{:>13.1}{:>14.0}{:>15.1}",
                usage.name,
                usage.user_seconds,
                usage.system_seconds,
                each(usage.cpu_seconds() * 1e6),
                mebibytes(usage.rss_bytes),
                mebibytes(usage.peak_rss_bytes),
                mebibytes(usage.written_bytes),
                each(usage.written_bytes as f64),
                each((usage.voluntary_switches + usage.involuntary_switches) as f64),
            )?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, report: &Report) -> fmt::Result {
    let Report { done, unexpected, per_second, latency_us, .. } = report;
    write!(f, "{name:<16}{done:>9}{unexpected:>12}{per_second:>10.1}")?;
    for us in [latency_us.p50, latency_us.p90, latency_us.p99, latency_us.p999, latency_us.max] {
        write!(f, "{:>10.2}", us / 1000.0)?;
    }
    writeln!(f)
}
