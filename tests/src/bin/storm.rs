//! The storm as a command: see docs/storm.md. Under the names of the servers it is a server.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postern_test_database::Engine;
use postern_tests::Programs;
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
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("world-issuer") => return postern_issuer::main(),
        Some("world-relay") => return postern_relay::main(),
        _ => {}
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
    // This program again, under other names.
    let names = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let [issuer, relay] = ["world-issuer", "world-relay"].map(|name| {
        let link = names.path().join(name);
        std::os::unix::fs::symlink(&own, &link).unwrap();
        link
    });
    let programs = Programs { issuer, relay, postern: own };
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
