//! The command: arguments in, one call into the library, one answer out. Thin on purpose.

mod answer;
mod args;
mod ask;
mod commands;
mod lookup;
mod people;
mod progress;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use postern_protocol::time::{Clock, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use serde_json::json;

use self::answer::print_error;
use self::args::{Cli, Command};
use crate::error::{Error, Result};

/// The real clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the command hands the real clock in, here and nowhere else")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A generator seeded by the operating system.
fn system_rng() -> Result<StdRng> {
    StdRng::try_from_rng(&mut SysRng).map_err(|_| Error::Internal("the operating system gives no randomness"))
}

/// What can be written on the command line, for manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command `postern`.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Command::Demo(args) = &cli.command {
        return crate::demo::run(args);
    }
    let json = cli.global.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => Err(Error::Storage(error.to_string())),
    };
    match outcome {
        Ok(answer) => answer.print(json),
        Err(error) => print_error(&error, json),
    }
}

/// Help and version are answers; everything else is wrong usage, exit code 2.
fn usage(error: &clap::Error) -> ExitCode {
    let wrong = error.use_stderr();
    if wrong && std::env::args_os().any(|arg| arg == "--json") {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let document = json!({ "error": { "code": "usage", "message": first, "hint": "see postern --help" } });
        drop(writeln!(std::io::stdout(), "{document}"));
    } else {
        drop(error.print());
    }
    if wrong { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
