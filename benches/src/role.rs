//! Servers in processes of their own: the benchmark runs itself again, and an environment variable says what it is to be.
//!
//! So what a server uses can be told from what the client uses, and `cargo bench` builds all there is to run.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use crate::peer;

const ROLE: &str = "POSTERN_BENCH_ROLE";

/// What a process can be.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// `postern-relay`, with its usual arguments.
    Relay,
    /// [`peer::hello`].
    Hello,
    /// [`peer::events`].
    Events,
}

impl Role {
    const ALL: [(Self, &'static str); 3] = [(Self::Relay, "relay"), (Self::Hello, "hello"), (Self::Events, "events")];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Hello => "hello",
            Self::Events => "events",
        }
    }
}

/// To be called first of all: plays the part that this process was started for, if it was.
pub fn play() -> Option<ExitCode> {
    let name = std::env::var(ROLE).ok()?;
    let (role, _) = Role::ALL.into_iter().find(|(_, known)| *known == name)?;
    Some(match role {
        Role::Relay => postern_relay::main(),
        Role::Hello => peer::serve(peer::hello()),
        Role::Events => peer::serve(peer::events()),
    })
}

/// Whether this run is to measure: `cargo test --benches` runs the same programs without `--bench`.
pub fn is_bench(name: &str) -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("{name}: run by `cargo bench`");
    }
    asked
}

/// A server; ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens, without a trailing slash.
    pub url: String,
}

impl Process {
    /// Starts it, and waits until it listens.
    pub fn start(role: Role, arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .env(ROLE, role.name())
            .env("POSTERN_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("a server that listens").to_owned();
        Self { child, url }
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success(), "{name}");
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
