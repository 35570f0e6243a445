//! Issuer and relay as processes that can be killed at any moment and started again on the same files and ports.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_protocol::time::Timestamp;
use postern_test_database::{Engine, TestDatabase, free_port};
use tempfile::TempDir;

use crate::balancer::Balancer;

/// The issuer's name in the test world.
pub const ISSUER: &str = "issuer.test";
/// The relay's name in the test world.
pub const RELAY: &str = "relay.test";

/// The moment that the servers think it is.
#[expect(clippy::disallowed_methods, reason = "the servers are real processes with the real clock")]
pub fn now() -> Timestamp {
    Timestamp::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// Where the programs are; see [`crate::programs`].
#[derive(Clone, Debug)]
pub struct Programs {
    /// `postern-issuer`.
    pub issuer: PathBuf,
    /// `postern-relay`.
    pub relay: PathBuf,
    /// `postern`.
    pub postern: PathBuf,
}

/// One server.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Gets the line that says that it listens; empty once that has come.
    starting: Option<Receiver<String>>,
    /// Variables that it is started with.
    pub environment: Vec<(String, String)>,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, and does not listen yet.
    Starting,
    /// Listens.
    Listens,
    /// Ended before it listened, as it does without a database.
    GaveUp,
    /// Listened, and ended by itself.
    Died,
    /// Not started, or killed.
    Down,
}

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(120);

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        self.launch();
        let state = self.state_within(START);
        assert_eq!(state, State::Listens, "{}", self.read_log());
    }

    /// Starts it.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut child = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(&self.config)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, starting) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nothing to be done about one that is killed meanwhile.
            drop(out.read_line(&mut line));
            drop(sender.send(line));
        });
        (self.child, self.starting) = (Some(child), Some(starting));
    }

    /// How it is, now.
    pub fn state(&mut self) -> State {
        self.state_within(Duration::ZERO)
    }

    /// How it is as soon as that is known, at most after so long.
    fn state_within(&mut self, patience: Duration) -> State {
        let Some(child) = &mut self.child else { return State::Down };
        let Some(starting) = &self.starting else {
            return if child.try_wait().unwrap().is_none() { State::Listens } else { State::Died };
        };
        match starting.recv_timeout(patience) {
            Ok(line) if line.starts_with("listening on ") => {
                self.starting = None;
                State::Listens
            }
            Err(RecvTimeoutError::Timeout) => State::Starting,
            _ => State::GaveUp,
        }
    }

    /// The number of its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(killed.unwrap().success(), "the server is gone: {}", self.read_log());
    }

    /// Asks it to stop, and waits until it has; it says that all is well.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.starting = None;
        let ended = self.child.take().expect("runs").wait().unwrap();
        assert!(ended.success(), "{ended}: {}", self.read_log());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.starting = None;
        let mut child = self.child.take().expect("runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What it wrote to stderr so far.
    pub fn read_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the process is still there: a server that died by itself has panicked or worse.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
        line.trim_matches('"').to_owned()
    }

    /// Another process with the same configuration, but that it listens elsewhere; not started.
    pub fn twin(&self, name: &str) -> Self {
        let config = self.config.with_file_name(format!("{name}.toml"));
        std::fs::copy(&self.config, &config).unwrap();
        change_settings(&config, &format!("listen = \"{}\"", free_address()));
        let log = self.log.with_file_name(format!("{name}.log"));
        let (program, environment) = (self.program.clone(), self.environment.clone());
        Self { program, config, log, child: None, starting: None, environment }
    }

    /// Runs another command of the same program on the same configuration, to its end.
    pub fn command(&self, args: &[&str]) -> String {
        run(&mut self.prepare(args))
    }

    /// As [`Self::command`], not run yet.
    pub fn prepare(&self, args: &[&str]) -> Command {
        let (verb, rest) = args.split_first().unwrap();
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--config").arg(&self.config).args(rest).envs(self.environment.iter().cloned());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Where the servers are, for those who only use them.
#[derive(Clone, Debug)]
pub struct Place {
    /// Base URL of the issuer.
    pub issuer_url: String,
    /// Base URL of the relay.
    pub relay_url: String,
    /// Where the console gateway writes.
    pub texts_file: PathBuf,
}

impl Place {
    /// The code of the last text to this number, from the console gateway's file.
    pub fn code_for(&self, phone: &str) -> Option<String> {
        let texts = std::fs::read_to_string(&self.texts_file).unwrap_or_default();
        let text = texts.lines().rev().find(|line| line.contains(phone))?;
        let digits: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|part| part.len() == 6).collect();
        digits.last().map(|code| (*code).to_owned())
    }
}

impl std::ops::Deref for World {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Both servers and their files.
#[derive(Debug)]
pub struct World {
    /// All files of this world; removed at the end.
    pub dir: TempDir,
    /// The programs it runs.
    pub programs: Programs,
    /// The issuer.
    pub issuer: Server,
    /// The relay.
    pub relay: Server,
    /// What the issuer writes, past the issuer.
    pub issuer_db: TestDatabase,
    /// What the relay writes, past the relay.
    pub relay_db: TestDatabase,
    /// Where they are.
    pub place: Place,
}

impl World {
    /// Fresh servers with default settings.
    pub fn start(programs: Programs) -> Self {
        Self::start_with(programs, "", "")
    }

    /// Fresh servers; the texts replace settings in their configuration files, one `key = value` a line.
    pub fn start_with(programs: Programs, issuer_settings: &str, relay_settings: &str) -> Self {
        let at = [free_address(), free_address()];
        Self::start_at(of_engine(Engine::of_this_run()), programs, [issuer_settings, relay_settings], &at, &at, &[])
    }

    /// Fresh servers that speak TLS, with certificates of their own making, and are known by their keys.
    pub fn start_tls(programs: Programs, issuer_settings: &str, relay_settings: &str) -> Self {
        let (at, tls) = ([free_address(), free_address()], ["--tls", "self-signed"]);
        Self::start_at(of_engine(Engine::of_this_run()), programs, [issuer_settings, relay_settings], &at, &at, &tls)
    }

    /// Fresh servers that are known to everybody by the addresses of these balancers, issuer's and relay's.
    pub fn start_behind(engine: Engine, programs: Programs, settings: [&str; 2], balancers: &[Balancer; 2]) -> Self {
        Self::start_balanced(of_engine(engine), programs, settings, balancers)
    }

    /// As [`Self::start_behind`], on these databases, issuer's and relay's.
    pub fn start_on(
        databases: [TestDatabase; 2],
        programs: Programs,
        settings: [&str; 2],
        balancers: &[Balancer; 2],
    ) -> Self {
        Self::start_balanced(|_| databases, programs, settings, balancers)
    }

    fn start_balanced(
        databases: impl FnOnce([PathBuf; 2]) -> [TestDatabase; 2],
        programs: Programs,
        settings: [&str; 2],
        balancers: &[Balancer; 2],
    ) -> Self {
        let at = [free_address(), free_address()];
        balancers.iter().zip(&at).for_each(|(balancer, at)| balancer.add(at.clone()));
        let known = balancers.each_ref().map(|balancer| balancer.address.clone());
        Self::start_at(databases, programs, settings, &at, &known, &[])
    }

    /// Fresh servers on SQLite that listen at the first addresses and are known to everybody by the second, issuer's and relay's.
    pub fn start_known_as(programs: Programs, at: &[String; 2], known: &[String; 2]) -> Self {
        Self::start_at(of_engine(Engine::Sqlite), programs, ["", ""], at, known, &[])
    }

    fn start_at(
        databases: impl FnOnce([PathBuf; 2]) -> [TestDatabase; 2],
        programs: Programs,
        [issuer_settings, relay_settings]: [&str; 2],
        [issuer_at, relay_at]: &[String; 2],
        known: &[String; 2],
        tls: &[&str],
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let (issuer_dir, relay_dir) = (dir.path().join("issuer"), dir.path().join("relay"));
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let [issuer_url, relay_url] = known.each_ref().map(|address| format!("{scheme}://{address}"));

        let init = |program: &Path, dir: &Path, args: &[&str]| {
            let printed = run(Command::new(program).arg("init").arg("--dir").arg(dir).args(args).args(tls));
            let json: serde_json::Value = serde_json::from_str(printed.trim()).unwrap();
            ["public_key", "url"].map(|what| json[what].as_str().unwrap().to_owned())
        };
        let [issuer_db, relay_db] = databases([issuer_dir.join("issuer.db"), relay_dir.join("relay.db")]);
        let (issuer_db_url, relay_db_url) = (issuer_db.url(), relay_db.url());
        let mut issuer_args =
            vec!["--name", ISSUER, "--listen", issuer_at, "--url", &issuer_url, "--texts", "texts.log"];
        issuer_args.extend(["--database", &issuer_db_url]);
        let [issuer_key, issuer_url] = init(&programs.issuer, &issuer_dir, &issuer_args);
        let mut relay_args = vec!["--name", RELAY, "--listen", relay_at, "--url", &relay_url];
        // A relay has no proxy: of an onion service it asks what is behind it.
        let asked_at = if issuer_url.ends_with(".onion") { format!("http://{issuer_at}") } else { issuer_url.clone() };
        relay_args.extend(["--issuer-name", ISSUER, "--issuer-url", &asked_at, "--issuer-public-key", &issuer_key]);
        relay_args.extend(["--database", &relay_db_url]);
        let [relay_key, relay_url] = init(&programs.relay, &relay_dir, &relay_args);

        let server = |program: &Path, dir: &Path, name: &str, settings: &str| {
            let config = dir.join(format!("{name}.toml"));
            change_settings(&config, settings);
            let (program, log, environment) = (program.to_owned(), dir.join("log"), Vec::new());
            Server { program, config, log, child: None, starting: None, environment }
        };
        let mut issuer = server(&programs.issuer, &issuer_dir, "issuer", issuer_settings);
        issuer.command(&["add-relay", "--name", RELAY, "--url", &relay_url, "--public-key", &relay_key]);
        let mut relay = server(&programs.relay, &relay_dir, "relay", relay_settings);
        issuer.start();
        relay.start();
        let texts_file = issuer_dir.join("texts.log");
        Self { dir, programs, issuer, relay, issuer_db, relay_db, place: Place { issuer_url, relay_url, texts_file } }
    }

    /// Fails unless both servers still run and none of them has ever panicked.
    pub fn assert_healthy(&mut self) {
        for server in [&mut self.issuer, &mut self.relay] {
            assert!(server.is_alive(), "a server died: {}", server.read_log());
            assert!(!server.read_log().contains("panicked"), "{}", server.read_log());
        }
    }
}

/// Fresh databases of an engine; where files lie, if they are files.
fn of_engine(engine: Engine) -> impl FnOnce([PathBuf; 2]) -> [TestDatabase; 2] {
    move |files| files.map(|file| TestDatabase::new(engine, file))
}

/// See [`free_port`].
fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Replaces `key = …` lines of a configuration file. A key that is not in the file is an error of the test.
fn change_settings(config: &Path, settings: &str) {
    let mut text = std::fs::read_to_string(config).unwrap();
    for setting in settings.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let key = setting.split('=').next().unwrap().trim();
        let is_key = |line: &&str| line.trim_start_matches(['#', ' ']).split('=').next().unwrap().trim() == key;
        let old =
            text.lines().find(is_key).unwrap_or_else(|| panic!("{key} is not in {}", config.display())).to_owned();
        text = text.replacen(&old, setting, 1);
    }
    std::fs::write(config, text).unwrap();
}
