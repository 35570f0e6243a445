//! The command `postern-load`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use postern_protocol::send::ENVELOPE_SIZES;
use postern_protocol::time::{Clock, Timestamp};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tokio::time::Instant;

use crate::http::HttpError;
use crate::measure::{Outcome, Recorder};
use crate::pace::{self, Limit, Pace, Ran, Stop};
use crate::progress::Progress;
use crate::report::Document;
use crate::scenario::{Kind, Scenario, Setup};
use crate::spawn::{Servers, SpawnError, Wanted};
use crate::usage::{Snapshot, Usage, UsageError};
use crate::wire::{Seeds, Terms, Wire};

/// Puts load on an issuer and a relay and tells how they bore it. The issuer needs the gateway `synthetic`; see docs/load.md. Exit code: 0;
/// 1 if anything was unexpected; 2 for a command line that makes no sense.
#[derive(Debug, Parser)]
#[command(name = "postern-load", version)]
struct Arguments {
    /// What to do.
    #[arg(value_enum)]
    scenario: Kind,
    /// The issuer's base URL.
    #[arg(long, value_name = "URL", required_unless_present = "spawn", conflicts_with = "spawn")]
    issuer: Option<String>,
    /// The relay's base URL.
    #[arg(long, value_name = "URL", required_unless_present = "spawn", conflicts_with = "spawn")]
    relay: Option<String>,
    /// Aim at another machine. Never at one that is not yours.
    #[arg(long)]
    allow_remote: bool,
    /// How many synthetic accounts: to be registered, or to send from.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    accounts: u32,
    /// How many mailboxes are written to.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    mailboxes: u32,
    /// The first synthetic number; those of an earlier run against the same issuer have had their tokens.
    #[arg(long, default_value_t = 0)]
    first_number: u32,
    /// Closed loop: so many at a time, each followed at once by the next.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive, conflicts_with = "rate")]
    in_flight: usize,
    /// Open loop: so many a second, however long they take.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Open loop: how many may be outstanding; what is due beyond that is counted and not started.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive)]
    most_outstanding: usize,
    /// How long, seconds. Without this and --count: 10, or until all accounts are registered.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// How many times.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of an envelope: 4096, 16384 or 65536.
    #[arg(long, default_value_t = 4096, value_parser = envelope)]
    envelope_bytes: usize,
    /// A server to watch, with its descendants; PostgreSQL's is the first line of postmaster.pid. May be repeated.
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// Write the report as JSON to this file; `-` is standard output, and the table goes to standard error then.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Start an issuer and a relay for this run, and stop them afterwards.
    #[arg(long)]
    spawn: bool,
    #[command(flatten)]
    spawned: Spawned,
}

#[derive(Debug, clap::Args)]
struct Spawned {
    /// With --spawn: where the two programs are, if not beside this one.
    #[arg(long, value_name = "DIR", requires = "spawn", conflicts_with = "issuer")]
    programs: Option<PathBuf>,
    /// With --spawn: keep their files here.
    #[arg(long, value_name = "DIR", requires = "spawn", conflicts_with = "issuer")]
    dir: Option<PathBuf>,
    /// With --spawn: the issuer's database instead of a SQLite file; has to be there and empty.
    #[arg(long, value_name = "URL", requires = "spawn", conflicts_with = "issuer")]
    issuer_database: Option<String>,
    /// With --spawn: the relay's database.
    #[arg(long, value_name = "URL", requires = "spawn", conflicts_with = "issuer")]
    relay_database: Option<String>,
    /// With --spawn: tokens of each account, at most 40: a registration has to fit the issuer's limit of a request.
    #[arg(long, value_name = "N", requires = "spawn", conflicts_with = "issuer", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=40))]
    tokens_per_account: u32,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| "1 to 1000000".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "0.001 to 1000000".to_owned())
}

fn envelope(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| ENVELOPE_SIZES.contains(n)).ok_or_else(|| "4096, 16384 or 65536".to_owned())
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("{0} is not this machine; say --allow-remote if it is yours to load")]
    Remote(String),
    #[error("no servers are given")]
    NoServers,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("preparing: {0}")]
    Preparing(String),
    #[error("writing the report: {0}")]
    Report(#[from] std::io::Error),
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

impl LoadError {
    fn preparing(outcome: Outcome) -> Self {
        Self::Preparing(match outcome {
            Outcome::Failed(why) => why,
            other => format!("unexpected answer {}", other.label()),
        })
    }
}

/// The real clock.
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the command hands the real clock in, here and nowhere else")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = runtime.block_on(run(&arguments)).and_then(|document| {
        show(&document, arguments.json.as_deref())?;
        Ok(document.unexpected)
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &LoadError) -> ExitCode {
    eprintln!("postern-load: {error}");
    match error {
        LoadError::Remote(_) | LoadError::NoServers | LoadError::Http(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn show(document: &Document, json: Option<&std::path::Path>) -> Result<(), LoadError> {
    let Some(path) = json else {
        return Ok(write!(std::io::stdout().lock(), "{document}")?);
    };
    let text = serde_json::to_string_pretty(document).map_err(std::io::Error::from)?;
    if path.as_os_str() == "-" {
        eprint!("{document}");
        return Ok(writeln!(std::io::stdout().lock(), "{text}")?);
    }
    std::fs::write(path, text + "\n")?;
    Ok(write!(std::io::stdout().lock(), "{document}")?)
}

/// Whether a URL names this machine by an address of loopback, or as `localhost`.
fn is_here(url: &str) -> bool {
    match url::Url::parse(url).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

async fn run(arguments: &Arguments) -> Result<Document, LoadError> {
    let stop = Stop::default();
    let interrupt = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.stop();
        }
    });
    let servers = start(arguments)?;
    let given = (arguments.issuer.as_deref(), arguments.relay.as_deref());
    let (issuer, relay) = match (&servers, given) {
        (Some(servers), _) => (servers.issuer_url.as_str(), servers.relay_url.as_str()),
        (None, (Some(issuer), Some(relay))) => (issuer, relay),
        (None, _) => return Err(LoadError::NoServers),
    };
    if let Some(remote) = [issuer, relay].into_iter().find(|url| !arguments.allow_remote && !is_here(url)) {
        return Err(LoadError::Remote(remote.to_owned()));
    }
    let mut pids: Vec<u32> = servers.iter().flat_map(Servers::pids).collect();
    pids.extend(&arguments.server_pid);
    let wire = Wire::new(issuer, relay, arguments.at_once())?;

    let begin = Instant::now();
    let preparing = Progress::preparing("preparing accounts");
    let setup = Arc::new(arguments.setup(&wire, &stop).await?);
    let scenario = Scenario::prepare(arguments.scenario, Arc::clone(&setup)).await.map_err(LoadError::preparing)?;
    drop(preparing);
    let prepared = begin.elapsed();
    measure(arguments, Arc::new(scenario), &wire, &stop, &pids, prepared).await
}

fn start(arguments: &Arguments) -> Result<Option<Servers>, LoadError> {
    if !arguments.spawn {
        return Ok(None);
    }
    let Spawned { programs, dir, issuer_database, relay_database, tokens_per_account } = &arguments.spawned;
    let wanted = Wanted {
        programs: programs.clone(),
        dir: dir.clone(),
        issuer_database: issuer_database.clone(),
        relay_database: relay_database.clone(),
        tokens_per_account: *tokens_per_account,
    };
    Ok(Some(Servers::start(&wanted)?))
}

async fn measure(
    arguments: &Arguments,
    scenario: Arc<Scenario>,
    wire: &Wire,
    stop: &Stop,
    pids: &[u32],
    prepared: Duration,
) -> Result<Document, LoadError> {
    let (pace, limit, most) = (arguments.pace(&scenario), arguments.limit(&scenario), scenario.most());
    let (work, requests) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let name = arguments.scenario.name();
    let wire = wire.measured_by(&requests);
    let once = move |number| {
        let (scenario, wire) = (Arc::clone(&scenario), wire.clone());
        async move { scenario.once(&wire, number).await }
    };
    let before = snapshots(pids)?;
    let progress = Progress::of(&work, name, limit);
    let ran = pace::run(pace, limit, stop, &work, name, once).await;
    drop(progress);
    let used = before.iter().zip(&snapshots(pids)?).map(|(before, after)| before.until(after)).collect();
    let document = arguments.document(pace, ran, (&work, &requests), used, prepared);
    let is_all = most.is_some_and(|most| ran.started.saturating_add(ran.not_started) >= most);
    let used_up = is_all && arguments.count != most && arguments.scenario != Kind::Register;
    Ok(Document { interrupted: stop.is_stopped(), used_up, ..document })
}

/// Of each server, and of this program last.
fn snapshots(pids: &[u32]) -> Result<Vec<Snapshot>, UsageError> {
    pids.iter().map(|pid| Snapshot::of(&[*pid])).chain([Snapshot::of_self_alone()]).collect()
}

impl Arguments {
    const fn at_once(&self) -> usize {
        if self.rate.is_some() { self.most_outstanding } else { self.in_flight }
    }

    async fn setup(&self, wire: &Wire, stop: &Stop) -> Result<Setup, LoadError> {
        let terms = Terms::ask(wire).await.map_err(LoadError::preparing)?;
        let rng = StdRng::try_from_rng(&mut SysRng).map_err(|_| LoadError::NoRandomness)?;
        Ok(Setup {
            wire: wire.clone(),
            terms,
            seeds: Seeds::new(rng),
            clock: Arc::new(SystemClock),
            first_number: self.first_number,
            accounts: self.accounts,
            mailboxes: self.mailboxes,
            at_once: self.at_once(),
            envelope_bytes: self.envelope_bytes,
            stop: stop.clone(),
        })
    }

    fn pace(&self, scenario: &Scenario) -> Pace {
        let at_once = self.at_once().min(scenario.most_at_once().unwrap_or(usize::MAX));
        match self.rate {
            Some(per_second) => Pace::Open { per_second, most_outstanding: at_once },
            None => Pace::Closed { in_flight: at_once },
        }
    }

    fn limit(&self, scenario: &Scenario) -> Limit {
        let unlimited = self.duration.is_none() && self.count.is_none() && self.scenario != Kind::Register;
        let seconds = self.duration.or(unlimited.then_some(10));
        let counts = [self.count, scenario.most()];
        Limit { duration: seconds.map(Duration::from_secs), count: counts.into_iter().flatten().min() }
    }

    fn document(
        &self,
        pace: Pace,
        ran: Ran,
        (work, requests): (&Recorder, &Recorder),
        mut used: Vec<Usage>,
        prepared: Duration,
    ) -> Document {
        let name = self.scenario.name();
        let work = work.report(ran.elapsed).remove(name).unwrap_or_default();
        let generator = used.pop().unwrap_or_default();
        let (pace, at_once) = match pace {
            Pace::Closed { in_flight } => ("closed", in_flight),
            Pace::Open { most_outstanding, .. } => ("open", most_outstanding),
        };
        Document {
            scenario: name.to_owned(),
            pace: pace.to_owned(),
            at_once,
            rate: self.rate,
            accounts: self.accounts,
            mailboxes: self.mailboxes,
            envelope_bytes: self.envelope_bytes,
            prepare_seconds: prepared.as_secs_f64(),
            seconds: ran.elapsed.as_secs_f64(),
            started: ran.started,
            not_started: ran.not_started,
            latest_start_us: ran.latest_start.as_secs_f64() * 1e6,
            interrupted: false,
            used_up: false,
            unexpected: work.unexpected.saturating_add(ran.started.saturating_sub(ran.ended)),
            work,
            requests: requests.report(ran.elapsed),
            servers: used,
            generator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_by_its_own_names_is_here() {
        for url in ["http://127.0.0.1:80", "http://127.9.9.9", "http://[::1]:80", "http://localhost:80"] {
            assert!(is_here(url), "{url}");
        }
        for url in [
            "http://issuer.example",
            "http://10.0.0.1:80",
            "http://0.0.0.0:80",
            "http://[::]:80",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://localhost@issuer.example",
            "http://[::ffff:10.0.0.1]",
            "nonsense",
        ] {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn command_lines_that_make_no_sense_are_refused() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let parse = |line: &str| Arguments::try_parse_from(format!("postern-load {line}").split_whitespace());
        let servers = "--issuer http://127.0.0.1:1 --relay http://127.0.0.1:2";
        assert!(parse(&format!("round-trip {servers}")).is_ok());
        assert!(parse("round-trip --spawn --rate 5000 --duration 3").is_ok());
        for bad in [
            "round-trip".to_owned(),
            "round-trip --issuer http://127.0.0.1:1".to_owned(),
            format!("round-trip {servers} --spawn"),
            format!("round-trip {servers} --dir x"),
            format!("round-trip {servers} --rate 10 --in-flight 3"),
            format!("round-trip {servers} --rate NaN"),
            format!("round-trip {servers} --rate 0"),
            format!("round-trip {servers} --in-flight 0"),
            format!("round-trip {servers} --envelope-bytes 5000"),
            format!("dance {servers}"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
