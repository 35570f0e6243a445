//! Issuer and relay as real processes on loopback, with fresh SQLite files in a directory of the demo's own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Failure;

const ISSUER_NAME: &str = "issuer.demo";
const RELAY_NAME: &str = "relay.demo";

/// A running server; killed when dropped.
pub(super) struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done about a process that is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Both servers and where their files are.
pub(super) struct Servers {
    /// Base URL of the issuer.
    pub(super) issuer_url: String,
    /// The issuer's directory.
    pub(super) issuer_dir: PathBuf,
    /// The relay's directory.
    pub(super) relay_dir: PathBuf,
    issuer_program: PathBuf,
    _issuer: Server,
    _relay: Server,
}

/// Where the two programs are.
pub(super) struct Programs {
    issuer: PathBuf,
    relay: PathBuf,
}

impl Programs {
    /// Beside this executable; in a source checkout (`cargo run`) they are built first, so that they are never stale.
    pub(super) fn find() -> Result<Self, Failure> {
        let given = |name| std::env::var_os(name).map(PathBuf::from);
        if let (Some(issuer), Some(relay)) = (given("POSTERN_ISSUER_BIN"), given("POSTERN_RELAY_BIN")) {
            return Ok(Self { issuer, relay });
        }
        let here = std::env::current_exe().map_err(|e| Failure::new("finding this program", e))?;
        let dir = here.parent().ok_or_else(|| Failure::new("finding this program", "it has no directory"))?;
        if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
            build(&cargo, Path::new(&manifest), dir)?;
        }
        let programs = Self { issuer: dir.join("postern-issuer"), relay: dir.join("postern-relay") };
        for program in [&programs.issuer, &programs.relay] {
            if !program.exists() {
                let hint = "install postern-issuer and postern-relay beside postern, or run the demo with cargo";
                return Err(Failure::new("finding the servers", hint));
            }
        }
        Ok(programs)
    }
}

fn build(cargo: &OsStr, manifest: &Path, dir: &Path) -> Result<(), Failure> {
    let mut command = Command::new(cargo);
    command.current_dir(manifest).args(["build", "--quiet", "--workspace"]);
    command.args(["--bin", "postern-issuer", "--bin", "postern-relay"]);
    if dir.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    eprintln!("building the two servers (once) ...");
    let status = command.stdin(Stdio::null()).status().map_err(|e| Failure::new("building the servers", e))?;
    if status.success() { Ok(()) } else { Err(Failure::new("building the servers", status)) }
}

impl Servers {
    /// The code of the last text to this number: the console gateway writes texts to a file.
    pub(super) fn code_for(&self, phone: &str) -> Result<String, Failure> {
        let what = "reading the text with the code";
        let texts = std::fs::read_to_string(self.issuer_dir.join("texts.log")).map_err(|e| Failure::new(what, e))?;
        let text = texts.lines().rev().find(|line| line.contains(phone));
        let mut parts = text.into_iter().flat_map(|line| line.split(|c: char| !c.is_ascii_digit()));
        let code = parts.rfind(|part| part.len() == 6);
        code.map(str::to_owned).ok_or_else(|| Failure::new(what, "no code in it"))
    }

    /// Initialises and starts both in `dir`.
    pub(super) fn start(programs: &Programs, dir: &Path) -> Result<Self, Failure> {
        let [issuer_port, relay_port] = free_ports()?;
        let issuer_url = format!("http://127.0.0.1:{issuer_port}");
        let relay_url = format!("http://127.0.0.1:{relay_port}");
        let (issuer_dir, relay_dir) = (dir.join("issuer"), dir.join("relay"));
        let listen = |port: u16| format!("127.0.0.1:{port}");

        let issuer_key = init(
            &programs.issuer,
            &issuer_dir,
            &["--name", ISSUER_NAME, "--listen", &listen(issuer_port), "--url", &issuer_url, "--texts", "texts.log"],
        )?;
        let relay_key = init(
            &programs.relay,
            &relay_dir,
            &[
                "--name",
                RELAY_NAME,
                "--listen",
                &listen(relay_port),
                "--url",
                &relay_url,
                "--issuer-name",
                ISSUER_NAME,
                "--issuer-url",
                &issuer_url,
                "--issuer-public-key",
                &issuer_key,
            ],
        )?;
        let issuer_config = issuer_dir.join("issuer.toml");
        let mut add = Command::new(&programs.issuer);
        add.arg("add-relay").arg("--config").arg(&issuer_config);
        add.args(["--name", RELAY_NAME, "--url", &relay_url, "--public-key", &relay_key]);
        finish("adding the relay to the issuer", &mut add)?;

        change(&issuer_config, "giving out fewer look-ups", &[("# quota_first = 2000", "quota_first = 40")])?;
        let issuer = serve(&programs.issuer, &issuer_config, &issuer_dir)?;
        let relay_config = relay_dir.join("relay.toml");
        // Nobody wants to watch for an hour.
        let minutes =
            [("# epoch_seconds = 3600", "epoch_seconds = 60"), ("# grace_seconds = 600", "grace_seconds = 10")];
        change(&relay_config, "counting replies by the minute", &minutes)?;
        let relay = serve(&programs.relay, &relay_config, &relay_dir)?;
        let issuer_program = programs.issuer.clone();
        Ok(Self { issuer_url, issuer_dir, relay_dir, issuer_program, _issuer: issuer, _relay: relay })
    }

    /// Builds the directory now; by itself the issuer does it once a day.
    pub(super) fn build_directory(&self) -> Result<(), Failure> {
        println!("issuer$ postern-issuer build-directory");
        let mut command = Command::new(&self.issuer_program);
        command.arg("build-directory").arg("--config").arg(self.issuer_dir.join("issuer.toml"));
        finish("building the directory", &mut command).map(drop)
    }
}

/// Changes settings that `init` has written down.
fn change(config: &Path, what: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let mut text = std::fs::read_to_string(config).map_err(|e| Failure::new(what, e))?;
    for (before, after) in settings {
        if !text.contains(before) {
            return Err(Failure::new(what, "the configuration has other words for it"));
        }
        text = text.replace(before, after);
    }
    std::fs::write(config, text).map_err(|e| Failure::new(what, e))
}

/// Two ports that nobody listens on, below the range that outgoing connections take theirs from, and above those that tests use, which
/// may be about to listen.
fn free_ports() -> Result<[u16; 2], Failure> {
    let start = std::process::id().wrapping_mul(61);
    let ports = (0..1000).filter_map(|n| u16::try_from(30_000 + start.wrapping_add(n) % 1_300).ok());
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    match (free.next(), free.next()) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err(Failure::new("finding free ports", "all are taken")),
    }
}

/// Runs `init` and returns the public key that it prints as JSON.
fn init(program: &Path, dir: &Path, args: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.arg("init").arg("--dir").arg(dir).args(args);
    let stdout = finish("initialising a server", &mut command)?;
    let printed: serde_json::Value =
        serde_json::from_str(stdout.trim()).map_err(|e| Failure::new("initialising a server", e))?;
    let key = printed.get("public_key").and_then(serde_json::Value::as_str);
    Ok(key.ok_or_else(|| Failure::new("initialising a server", "it printed no public key"))?.to_owned())
}

/// Runs a command to its end; its stdout if it succeeded.
fn finish(what: &str, command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| Failure::new(what, e))?;
    if !output.status.success() {
        return Err(Failure::new(what, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|e| Failure::new(what, e))
}

/// Starts a server and waits for the line that says that it listens.
fn serve(program: &Path, config: &Path, dir: &Path) -> Result<Server, Failure> {
    let what = "starting a server";
    let log = std::fs::File::create(dir.join("log")).map_err(|e| Failure::new(what, e))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(|e| Failure::new(what, e))?;
    let stdout = child.stdout.take();
    let server = Server { child };
    let mut line = String::new();
    let mut reader = BufReader::new(stdout.ok_or_else(|| Failure::new(what, "no output"))?);
    reader.read_line(&mut line).map_err(|e| Failure::new(what, e))?;
    if line.starts_with("listening on ") {
        return Ok(server);
    }
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    Err(Failure::new(what, log))
}
