//! The load generator against real servers: what it reports is what the databases say, and what it did not expect is no success.

use std::path::Path;
use std::process::{Command, Output};

use postern_load::report::Document;
use postern_test_database::TestDatabase;
use postern_tests::World;
use tempfile::TempDir;

fn load(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_world-load")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Servers that the generator starts itself, and their databases.
struct Spawned {
    dir: TempDir,
    issuer: TestDatabase,
    relay: TestDatabase,
}

impl Spawned {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = TestDatabase::of_this_run(dir.path().join("servers/issuer/issuer.db"));
        let relay = TestDatabase::of_this_run(dir.path().join("servers/relay/relay.db"));
        let link = |program: &str, name: &str| std::os::unix::fs::symlink(program, dir.path().join(name)).unwrap();
        link(env!("CARGO_BIN_EXE_world-issuer"), "postern-issuer");
        link(env!("CARGO_BIN_EXE_world-relay"), "postern-relay");
        Self { dir, issuer, relay }
    }

    fn run(&self, args: &[&str]) -> Document {
        let path = |path: &Path| path.display().to_string();
        let (programs, servers) = (path(self.dir.path()), path(&self.dir.path().join("servers")));
        let (issuer, relay) = (self.issuer.url(), self.relay.url());
        let mut all = vec!["--spawn", "--programs", &programs, "--dir", &servers, "--json", "-"];
        all.extend(["--issuer-database", &issuer, "--relay-database", &relay]);
        all.extend(args);
        let output = load(&all);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn round_trips_are_reported_as_the_tables_of_both_servers_have_them() {
    let world = Spawned::new();
    let report = world.run(&["round-trip", "--accounts", "20", "--in-flight", "8", "--count", "200"]);
    assert_eq!((report.started, report.work.done, report.unexpected), (200, 200, 0));
    for request in ["send", "fetch", "release", "acknowledge", "exchange"] {
        assert_eq!(report.requests[request].done, 200, "{request}");
    }
    assert_eq!(world.issuer.int("select count(*) from accounts"), 20);
    assert_eq!(world.issuer.int("select count(*) from issuances"), 100);
    assert_eq!(world.issuer.int("select count(*) from relay_exchanges"), 200);
    assert_eq!(world.relay.int("select count(*) from ledger"), 200);
    assert_eq!(world.relay.int("select count(*) from messages"), 0);
    let (servers, latency) = (&report.servers, report.work.latency_us);
    assert!(
        servers.len() == 2 && servers.iter().all(|s| s.rss_bytes > 1 << 20 && s.user_seconds + s.system_seconds > 0.0)
    );
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max * 1.001);
}

#[test]
fn an_open_loop_of_cold_sends_ends_with_the_tokens_and_each_is_in_the_ledger() {
    let world = Spawned::new();
    let report = world.run(&["cold-sends", "--accounts", "6", "--mailboxes", "3", "--rate", "100", "--duration", "60"]);
    assert_eq!((report.work.done + report.not_started, report.used_up, report.interrupted), (30, true, false));
    assert_eq!(world.relay.int("select count(*) from ledger"), report.work.done as i64);
    assert_eq!(world.relay.int("select count(distinct mailbox) from messages"), 3);
}

#[test]
fn a_chat_uses_a_slot_a_message_and_leaves_nothing_behind() {
    let world = Spawned::new();
    let report = world.run(&["chat", "--mailboxes", "4", "--in-flight", "8", "--count", "100"]);
    assert_eq!((report.work.done, report.unexpected), (100, 0));
    for request in ["reply", "fetch", "acknowledge"] {
        assert_eq!(report.requests[request].done, 100, "{request}");
    }
    assert_eq!(world.relay.int("select count(*) from reply_nullifiers"), 100);
    assert_eq!(world.relay.int("select count(*) from messages"), 0);
}

#[test]
fn cards_and_jwts_are_asked_for_as_often_as_it_says() {
    let world = Spawned::new();
    let report = world.run(&["cards", "--mailboxes", "3", "--in-flight", "4", "--count", "60"]);
    assert_eq!((report.requests["card"].done, report.unexpected), (60, 0));
    assert_eq!(world.relay.int("select count(*) from cards"), 3);

    let world = Spawned::new();
    let report = world.run(&["jwts", "--accounts", "5", "--in-flight", "8", "--count", "60"]);
    assert_eq!((report.requests["jwt"].done, report.unexpected), (60, 0));
    // Each has asked once before.
    assert_eq!(world.issuer.int("select sum(seq) from sessions"), 65);
}

#[test]
fn it_aims_at_this_machine_alone() {
    for (issuer, relay) in
        [("http://192.0.2.1:80", "http://127.0.0.1:9"), ("http://127.0.0.1:9", "http://relay.example")]
    {
        let output = load(&["round-trip", "--issuer", issuer, "--relay", relay]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("is not this machine"), "{}", said(&output));
    }
}

#[test]
fn an_issuer_that_texts_its_codes_makes_it_fail_and_say_why() {
    let world = World::start(postern_tests::programs!());
    let args = ["--issuer", &world.issuer_url, "--relay", &world.relay_url];
    // In the run itself, by its count; before the run, by the first refusal.
    let output = load(&[&["register", "--accounts", "3", "--in-flight", "1", "--json", "-"][..], &args].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report: Document = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.unexpected, report.work.done), (3, 0));
    assert_eq!(report.work.outcomes["403 code-wrong"], 3);
    assert_eq!(report.requests["code"].outcomes["200"], 3);
    let output = load(&[&["round-trip", "--accounts", "1"][..], &args].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("403 code-wrong"), "{}", said(&output));
}
