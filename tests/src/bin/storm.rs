//! The storm as a command: see docs/storm.md. Under the names of the servers it is a server.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postern_test_database::Engine;
use postern_tests::own;
use postern_tests::storm::{Options, run};

/// Hundreds of accounts use real servers while these are killed, cut off and filled up; then it is checked that nothing was lost or doubled.
#[derive(Parser)]
#[command(name = "storm")]
struct Cli {
    /// How long faults are injected.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// `sqlite` or `postgres`; as `POSTERN_TEST_ENGINE` says if nothing is said.
    #[arg(long)]
    engine: Option<String>,
    /// What operations and faults are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many people.
    #[arg(long, default_value_t = 200)]
    accounts: u32,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(code) = own::play() {
        return code;
    }
    let cli = Cli::parse();
    let engine = match cli.engine.as_deref() {
        None => Engine::of_this_run(),
        Some("sqlite") => Engine::Sqlite,
        Some("postgres") => Engine::Postgres,
        Some(other) => {
            eprintln!("storm: {other} is neither sqlite nor postgres");
            return ExitCode::FAILURE;
        }
    };
    let (programs, _names) = own::programs();
    let length = Duration::from_secs_f64(cli.minutes * 60.0);
    let report =
        run(&Options { engine, seed: cli.seed, accounts: cli.accounts.max(2), length, least: (0, 0), programs });
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    } else {
        println!("{report}");
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
