//! An issuer and a relay of its own, on loopback, for one command that shows a whole run: synthetic accounts, and none of the limits that
//! a single machine with one address would run into.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ISSUER_NAME: &str = "issuer.load";
const RELAY_NAME: &str = "relay.load";

/// The servers could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct SpawnError {
    what: &'static str,
    why: String,
}

impl SpawnError {
    fn new(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |why| Self { what, why: why.to_string() }
    }
}

/// How they are to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Where `postern-issuer` and `postern-relay` are; beside this program if nothing is said.
    pub programs: Option<PathBuf>,
    /// Where their files go, and stay; a temporary directory if nothing is said.
    pub dir: Option<PathBuf>,
    /// The issuer's database; a SQLite file if nothing is said.
    pub issuer_database: Option<String>,
    /// The relay's.
    pub relay_database: Option<String>,
    /// Tokens of an account.
    pub tokens_per_account: u32,
}

/// Both, running; stopped when dropped.
#[derive(Debug)]
pub struct Servers {
    /// Base URL of the issuer.
    pub issuer_url: String,
    /// Base URL of the relay.
    pub relay_url: String,
    issuer: Server,
    relay: Server,
    _dir: Option<tempfile::TempDir>,
}

#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done about a process that is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Servers {
    /// Initialises and starts both.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn start(wanted: &Wanted) -> Result<Self, SpawnError> {
        let (issuer_program, relay_program) = programs(wanted.programs.as_deref())?;
        let (dir, temporary) = directory(wanted.dir.as_deref())?;
        let [issuer_at, relay_at] = free_addresses()?;
        let (issuer_url, relay_url) = (format!("http://{issuer_at}"), format!("http://{relay_at}"));
        let (issuer_dir, relay_dir) = (dir.join("issuer"), dir.join("relay"));

        let mut args = vec!["--name", ISSUER_NAME, "--listen", &issuer_at, "--url", &issuer_url];
        let issuer_key = init(&issuer_program, &issuer_dir, &args, wanted.issuer_database.as_deref())?;
        args = vec!["--name", RELAY_NAME, "--listen", &relay_at, "--url", &relay_url, "--issuer-name", ISSUER_NAME];
        args.extend(["--issuer-url", &issuer_url, "--issuer-public-key", &issuer_key]);
        let relay_key = init(&relay_program, &relay_dir, &args, wanted.relay_database.as_deref())?;
        let mut add = Command::new(&issuer_program);
        add.arg("add-relay").arg("--config").arg(issuer_dir.join("issuer.toml"));
        add.args(["--name", RELAY_NAME, "--url", &relay_url, "--public-key", &relay_key]);
        finish(&mut add)?;
        change(&issuer_dir.join("issuer.toml"), wanted.tokens_per_account)?;

        let issuer = serve(&issuer_program, &issuer_dir, "issuer.toml")?;
        let relay = serve(&relay_program, &relay_dir, "relay.toml")?;
        Ok(Self { issuer_url, relay_url, issuer, relay, _dir: temporary })
    }

    /// Their process ids.
    pub fn pids(&self) -> [u32; 2] {
        [self.issuer.0.id(), self.relay.0.id()]
    }
}

fn directory(wanted: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), SpawnError> {
    let failed = SpawnError::new("making a directory");
    match wanted {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
            Ok((dir.to_owned(), None))
        }
        None => {
            let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

/// As told; else beside this program, and in a source checkout (`cargo run`) built first, so that they are never stale.
fn programs(given: Option<&Path>) -> Result<(PathBuf, PathBuf), SpawnError> {
    let failed = SpawnError::new("finding postern-issuer and postern-relay");
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => {
            let here = std::env::current_exe().map_err(|error| failed(&error))?;
            let dir = here.parent().ok_or_else(|| failed(&"this program has no directory"))?.to_owned();
            if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
                build(&cargo, &manifest, dir.file_name() == Some(OsStr::new("release")))?;
            }
            dir
        }
    };
    let (issuer, relay) = (dir.join("postern-issuer"), dir.join("postern-relay"));
    if issuer.exists() && relay.exists() {
        return Ok((issuer, relay));
    }
    Err(failed(&format!("not in {}; say where with --programs", dir.display())))
}

fn build(cargo: &OsStr, manifest: &OsString, release: bool) -> Result<(), SpawnError> {
    let mut command = Command::new(cargo);
    command.current_dir(manifest).args(["build", "--quiet", "--workspace"]);
    command.args(["--bin", "postern-issuer", "--bin", "postern-relay"]);
    if release {
        command.arg("--release");
    }
    finish(&mut command).map(drop)
}

/// Two addresses that nobody listens on, below the range that outgoing connections take their ports from, and above those that tests and
/// the demo use, which may be about to listen.
fn free_addresses() -> Result<[String; 2], SpawnError> {
    let start = std::process::id().wrapping_mul(61);
    let addresses = (0..1000).map(|n| format!("127.0.0.1:{}", 31_300 + start.wrapping_add(n) % 1_300));
    let mut free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    match (free.next(), free.next()) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err(SpawnError::new("finding free ports")(&"all are taken")),
    }
}

/// Runs `init`; the public key that it prints.
fn init(program: &Path, dir: &Path, args: &[&str], database: Option<&str>) -> Result<String, SpawnError> {
    let mut command = Command::new(program);
    command.arg("init").arg("--dir").arg(dir).args(args);
    if let Some(database) = database {
        command.args(["--database", database]);
    }
    let printed: serde_json::Value = serde_json::from_str(finish(&mut command)?.trim()).unwrap_or_default();
    let key = printed.get("public_key").and_then(serde_json::Value::as_str);
    key.map(str::to_owned).ok_or_else(|| SpawnError::new("initialising a server")(&"it printed no public key"))
}

fn finish(command: &mut Command) -> Result<String, SpawnError> {
    let failed = SpawnError::new("running a command of a server");
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(&error))?;
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(failed(&error)) }
}

/// Switches the issuer's texts off, and the limits that stand in the way of a load that comes from one place.
fn change(config: &Path, tokens_per_account: u32) -> Result<(), SpawnError> {
    let failed = SpawnError::new("configuring the issuer");
    let mut text = std::fs::read_to_string(config).map_err(|error| failed(&error))?;
    let tokens = format!("tokens_per_account = {tokens_per_account}");
    for (before, after) in [
        ("kind = \"console\"", "kind = \"synthetic\""),
        ("# tokens_per_account = 5 ", tokens.as_str()),
        // A round trip exchanges each token again and again.
        ("# exchange_multiple = 4 ", "exchange_multiple = 1000000000"),
        ("# login_guesses_per_minute = 600 ", "login_guesses_per_minute = 1000000"),
    ] {
        if !text.contains(before) {
            return Err(failed(&"the configuration has other words for it"));
        }
        text = text.replace(before, after);
    }
    std::fs::write(config, text).map_err(|error| failed(&error))
}

/// Starts one and waits for the line that says that it listens.
fn serve(program: &Path, dir: &Path, config: &str) -> Result<Server, SpawnError> {
    let failed = SpawnError::new("starting a server");
    let log = std::fs::File::create(dir.join("log")).map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(dir.join(config));
    // In a group of its own: Ctrl-C ends the load, and the servers answer what is under way.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut server = Server(command.spawn().map_err(|error| failed(&error))?);
    let mut line = String::new();
    if let Some(stdout) = server.0.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|error| failed(&error))?;
    }
    if line.starts_with("listening on ") {
        return Ok(server);
    }
    Err(failed(&std::fs::read_to_string(dir.join("log")).unwrap_or_default()))
}
