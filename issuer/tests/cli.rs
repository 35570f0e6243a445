//! The command itself: files, processes, signals.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use postern_issuer::secrets::Secrets;
use postern_protocol::log::{LOG_PATH, LogHead};
use postern_protocol::lookup::{LOOKUP_PATH, LookupInfo};
use postern_protocol::register::{CODE_PATH, ISSUER_INFO_PATH, IssuerInfo};
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, KeyState};
use postern_test_database::{Engine, TestDatabase, Value};

fn issuer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern-issuer")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Place {
    _dir: tempfile::TempDir,
    database: TestDatabase,
    path: PathBuf,
    config: String,
    made: serde_json::Value,
}

fn init() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuer");
    let name = ["--name", "issuer.test", "--listen", "127.0.0.1:0", "--url", "http://127.0.0.1:8080"];
    let database = TestDatabase::of_this_run(path.join("issuer.db"));
    let url = database.url();
    let mut args = [&["init", "--dir", path.to_str().unwrap(), "--texts", "texts.log"][..], &name].concat();
    if database.engine() == Engine::Postgres {
        args.extend(["--database", &url]);
    }
    let output = issuer(&args);
    assert!(output.status.success(), "{}", text(&output));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let config = made["config"].as_str().unwrap().to_owned();
    assert!(!issuer(&args).status.success(), "a second init overwrites nothing");
    Place { _dir: dir, database, path, config, made }
}

/// A running issuer, killed when dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(config: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern-issuer"))
            .args(["serve", "--config", config])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(body).unwrap()
    }

    fn terminate(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_makes_everything_that_serve_needs_and_keeps_the_secret_to_its_owner() {
    let place = init();
    for name in ["secret.key", "issuer.toml"] {
        assert_eq!(mode(&place.path.join(name)), 0o600, "{name}");
    }
    assert!(place.database.file().is_none_or(|file| mode(file) == 0o600));
    let pem = std::fs::read_to_string(place.made["ca_certificate"].as_str().unwrap()).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"));

    let running = Running::start(&place.config);
    let info: IssuerInfo = running.get(ISSUER_INFO_PATH);
    assert_eq!(info.name, "issuer.test");
    assert_eq!(place.made["public_key"], info.public_key.to_string());
    let directory: Directory = running.get(DIRECTORY_PATH);
    assert_eq!(directory.token_keys.len(), 1);
    assert!(running.terminate(), "SIGTERM is a success");
}

#[test]
fn a_rotation_by_another_process_is_noticed_at_once_and_survives_kill_9() {
    let place = init();
    let running = Running::start(&place.config);
    let before: Directory = running.get(DIRECTORY_PATH);
    let output = issuer(&["rotate-keys", "--config", &place.config, "--overlap", "1000"]);
    assert!(output.status.success(), "{}", text(&output));
    let after: Directory = running.get(DIRECTORY_PATH);
    assert_eq!(after.token_keys[0].state, Some(KeyState::Active));
    assert_eq!(after.token_keys[1].token_key, before.token_keys[0].token_key);
    drop(running); // kill -9
    let again: Directory = Running::start(&place.config).get(DIRECTORY_PATH);
    assert_eq!(again, after);

    assert!(issuer(&["rotate-keys", "--config", &place.config, "--overlap", "0"]).status.success());
    let output = issuer(&["retire-keys", "--config", &place.config]);
    assert!(output.status.success(), "{}", text(&output));
    let left: Directory = Running::start(&place.config).get(DIRECTORY_PATH);
    assert_eq!(left.token_keys.len(), 2, "the one without overlap is gone");
}

#[test]
fn a_text_goes_to_the_console_file_and_nowhere_else() {
    let place = init();
    let running = Running::start(&place.config);
    let body = format!("{{\"phone\":\"+41791234567\",\"client_key\":\"{}\"}}", "A".repeat(43));
    let length = body.len();
    let head =
        format!("POST {CODE_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n");
    let answer = running.exchange(&format!("{head}content-length: {length}\r\n\r\n{body}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let file = place.path.join("texts.log");
    let texts = std::fs::read_to_string(&file).unwrap();
    let code = texts.strip_prefix("TEXT to=+41791234567 body=\"Your Postern code is ").unwrap();
    assert_eq!(code.strip_suffix("\"\n").unwrap().len(), 6);
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn relays_are_added_to_the_file_without_losing_its_comments() {
    let place = init();
    let key = "A".repeat(43);
    let add = |name: &str, url: &str, key: &str| {
        let args = ["add-relay", "--config", &place.config, "--name", name, "--url", url, "--public-key", key];
        issuer(&args).status.success()
    };
    assert!(add("relay.test", "https://relay.test", &key));
    assert!(!add("relay.test", "https://other.test", &key), "the name is taken");
    assert!(!add("other.test", "not a url", &key));
    assert!(!add("other.test", "https://other.test", "short"));
    let file = std::fs::read_to_string(&place.config).unwrap();
    assert!(file.contains("# The name in tokens, JWTs and logins."));

    let output = issuer(&["check-config", "--config", &place.config]);
    assert!(output.status.success(), "{}", text(&output));
    let shown = text(&output);
    assert!(
        shown.contains("[[relay]]") && shown.contains("tokens_per_account = 5") && shown.contains("quota_first = 2000"),
        "{shown}"
    );
    let info: IssuerInfo = Running::start(&place.config).get(ISSUER_INFO_PATH);
    assert_eq!(info.relays[0].name, "relay.test");
}

#[test]
fn a_configuration_or_secret_that_is_not_in_order_is_refused_with_the_reason() {
    let place = init();
    let check = || issuer(&["check-config", "--config", &place.config]);
    let file = std::fs::read_to_string(&place.config).unwrap();
    std::fs::write(&place.config, format!("tokens = 6\n{file}")).unwrap();
    assert!(text(&check()).contains("tokens"), "{}", text(&check()));
    std::fs::write(&place.config, &file).unwrap();

    let secret = place.path.join("secret.key");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&check()).contains("chmod 600"));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&secret, "A".repeat(43)).unwrap();
    assert!(text(&check()).contains("does not belong"));
    assert!(!check().status.success());
}

#[test]
fn an_issuer_that_is_told_to_count_windows_otherwise_does_not_start() {
    let place = init();
    assert!(Running::start(&place.config).terminate());
    let file = std::fs::read_to_string(&place.config).unwrap();
    let changed = file.replace("# window_seconds = 86400", "window_seconds = 43200");
    assert_ne!(changed, file);
    std::fs::write(&place.config, changed).unwrap();
    for verb in ["serve", "build-directory"] {
        let output = issuer(&[verb, "--config", &place.config]);
        assert!(!output.status.success() && text(&output).contains("window_seconds"), "{}", text(&output));
    }
    std::fs::write(&place.config, file).unwrap();
    assert!(Running::start(&place.config).terminate());
}

#[test]
fn an_issuer_that_lost_its_database_does_not_start_counting_anew() {
    let place = init();
    place.database.lose();
    let output = issuer(&["serve", "--config", &place.config]);
    assert!(!output.status.success());
    assert!(text(&output).contains("no token key"), "{}", text(&output));
}

#[test]
fn the_directory_is_built_and_its_key_changed_by_another_process_without_a_restart() {
    let place = init();
    let number = |args: &[&str], member: &str| {
        let output = issuer(&[args, &["--config", &place.config]].concat());
        assert!(output.status.success(), "{}", text(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answer[member].as_u64().unwrap()
    };
    assert_eq!(number(&["build-directory"], "build"), 1);
    let running = Running::start(&place.config);
    let before: LookupInfo = running.get(LOOKUP_PATH);
    let head: LogHead = running.get(LOG_PATH);
    assert_eq!((before.oprf_epoch, head.size), (1, 3), "token keys, a manifest, the key of this window");
    assert_eq!(number(&["rotate-lookup-key"], "next_epoch"), 2);
    assert_eq!(running.get::<LookupInfo>(LOOKUP_PATH), before, "until the next build");
    assert_eq!(number(&["build-directory"], "build"), 2);
    assert_eq!(running.get::<LookupInfo>(LOOKUP_PATH).oprf_epoch, 2);
    assert_eq!(running.get::<LogHead>(LOG_PATH).size, 4);
}

#[test]
fn the_flag_for_the_database_beats_the_variable_and_that_the_file_and_no_password_is_shown() {
    let place = init();
    let in_force = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-issuer"));
        command.args(["check-config", "--config", &place.config]).args(args);
        text(&command.env("POSTERN_ISSUER_DATABASE", "postgres://i:hunter2@variable.example/x").output().unwrap())
    };
    let (variable, flag) = (in_force(&[]), in_force(&["--database", "postgres://i:hunter2@flag.example/x"]));
    assert!(variable.contains("@variable.example/x") && flag.contains("@flag.example/x"), "{variable} {flag}");
    assert!(!variable.contains("hunter2") && !flag.contains("hunter2"));
    // A server that is not there is said, without the password.
    let output = issuer(&[
        "retire-keys",
        "--config",
        &place.config,
        "--database",
        "postgres://i:hunter2@localhost/x?host=/none",
    ]);
    assert!(!output.status.success() && text(&output).contains("cannot be reached"), "{}", text(&output));
    assert!(!text(&output).contains("hunter2"));
}

#[test]
fn an_operator_revokes_an_account_by_its_number() {
    let place = init();
    let revoke = |phone: &str| issuer(&["revoke", "--config", &place.config, "--phone", phone]);
    assert!(text(&revoke("+41791234567")).contains("no account"));
    assert!(!revoke("0791234567").status.success());

    let secrets = Secrets::load(&place.path.join("secret.key"), &place.path.join("ca.pem")).unwrap();
    let account = secrets.account_id(&"+41791234567".parse().unwrap());
    place.database.execute(
        "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
        login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
        values ($1, '+41791234567', $1, x'', 0, x'', x'', $1, 'r', 0, 0, 0, 0)",
        &[Value::Blob(account.to_vec())],
    );
    let output = revoke("+41791234567");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.database.int("select count(*) from accounts where state = 'revoked'"), 1);
    assert!(!revoke("+41791234567").status.success());
}

/// What a serving issuer writes to standard error when its log is switched off.
fn said_at_start(config: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-issuer"));
    command.args(["serve", "--config", config]).env("POSTERN_LOG", "off").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running { child: command.spawn().unwrap(), address: String::new() };
    BufReader::new(running.child.stdout.as_mut().unwrap()).read_line(&mut running.address).unwrap();
    assert!(running.address.starts_with("listening"));
    let mut stderr = running.child.stderr.take().unwrap();
    assert!(running.terminate());
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn the_synthetic_gateway_is_announced_at_every_start_whatever_the_log_is_set_to() {
    let place = init();
    assert!(!said_at_start(&place.config).contains("synthetic"));
    let text = std::fs::read_to_string(&place.config).unwrap();
    let synthetic = text.replace("kind = \"console\"\nfile = \"texts.log\"", "kind = \"synthetic\"");
    std::fs::write(&place.config, synthetic).unwrap();
    for _ in 0..2 {
        assert!(said_at_start(&place.config).contains("THE GATEWAY IS `synthetic`"));
    }
}

#[test]
fn an_issuer_with_the_synthetic_gateway_does_not_start_where_others_could_reach_it() {
    let place = init();
    let text = std::fs::read_to_string(&place.config).unwrap();
    let synthetic = text.replace("kind = \"console\"\nfile = \"texts.log\"", "kind = \"synthetic\"");
    assert_ne!(text, synthetic);
    for (before, after) in
        [("127.0.0.1:0", "0.0.0.0:0"), ("http://127.0.0.1:8080", "https://issuer.example"), ("127.0.0.1:0", "[::]:0")]
    {
        assert!(synthetic.contains(before));
        std::fs::write(&place.config, synthetic.replace(before, after)).unwrap();
        let output = issuer(&["serve", "--config", &place.config]);
        assert!(!output.status.success());
        assert!(self::text(&output).contains("needs `listen` and `url` on loopback"), "{}", self::text(&output));
    }
}
