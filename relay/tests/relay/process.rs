//! The program itself: `init`, `check-config`, `serve`, its end by signal and by force, and what its log says.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::ids::encode_base64;
use postern_protocol::release::RELEASE_PATH;
use postern_protocol::send::Accepted;
use postern_protocol::time::{Clock, MockClock};
use postern_store::SystemClock;
use postern_test_database::TestDatabase;
use tempfile::TempDir;

use crate::contacts::{Contact, Owner, policy, revealed};
use crate::issuer::{ISSUER, Issuer};
use crate::world::{RELAY, Reply, World, blinded, envelope, exchange_request, token};

fn relay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-relay"));
    command.stdin(Stdio::null());
    command
}

fn init(dir: &Path, issuer_url: &str, database: Option<&str>) -> std::process::Output {
    let key = Issuer::identity().public().to_string();
    let args = ["--name", RELAY, "--listen", "127.0.0.1:0", "--url", "http://127.0.0.1:1/", "--issuer-name", ISSUER];
    let dir = dir.to_str().unwrap();
    relay()
        .args(["init", "--dir", dir])
        .args(args)
        .args(["--issuer-url", issuer_url, "--issuer-public-key", &key])
        .args(database.iter().flat_map(|url| ["--database", *url]))
        .output()
        .unwrap()
}

struct Served {
    child: Child,
    url: String,
}

fn serve(config: &str) -> Served {
    let mut command = relay();
    command
        .args(["serve", "--config", config])
        .env("POSTERN_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
    Served { child, url }
}

impl Served {
    /// Ends it by a signal; returns whether it ended well, and its log.
    fn end(mut self, signal: &str) -> (bool, String) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().success(), log)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_survives_a_kill_stops_on_demand_and_logs_no_identifier() {
    let mut world = World::start().await;
    // The program has the real clock.
    world.clock = Arc::new(MockClock::new(SystemClock.now()));
    let dir = TempDir::new().unwrap();
    let database = TestDatabase::of_this_run(dir.path().join("relay.db"));
    let printed = init(dir.path(), &world.issuer.url, Some(&database.url()));
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let line: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!((line["name"].as_str(), line["url"].as_str()), (Some(RELAY), Some("http://127.0.0.1:1")));
    world.issuer.know_relay(line["public_key"].as_str().unwrap().parse().unwrap());
    let config = line["config"].as_str().unwrap();

    let first = serve(config);
    world.url.clone_from(&first.url);
    let bob = world.mailbox().await;
    let (spendable, message) = (token(0), envelope());
    let accepted = world.send(&bob.id, &spendable.token, &message).await;
    assert_eq!(accepted.status, 201);
    let (carol, alice) = (Owner::new(&world).await, Contact::new());
    let epoch = policy().epoch_at(SystemClock.now());
    let shown = carol.shown(&alice, epoch, 0, &message);
    let replied = carol.send(&world, &shown, &message).await;
    assert_eq!(replied.status, 201);
    carol.strike(&world, &alice, epoch).await;
    carol.reveal(&world, &revealed(&alice, epoch)).await.done();
    let (well, mut log) = first.end("-KILL");
    assert!(!well);

    let second = serve(config);
    world.url.clone_from(&second.url);
    assert_eq!(world.inbox(&bob).await.messages.len(), 1, "201 means durable");
    assert_eq!(world.send(&bob.id, &spendable.token, &message).await.body, accepted.body);
    assert_eq!(carol.inbox(&world).await, [replied.json::<Accepted>().message], "201 means durable");
    assert_eq!(carol.send(&world, &shown, &message).await.body, replied.body);
    let id = world.inbox(&bob).await.messages[0].message;
    world.verdict(&bob, RELEASE_PATH, &[id]).await;
    let request = exchange_request(&spendable, 0, blinded(0).0);
    assert_eq!(Reply::to(world.post_json(EXCHANGE_PATH, &request)).await.status, 200);
    let reader = world.http.get(world.at("/v1/mailbox/events")).bearer_auth(&bob.jwt).send().await.unwrap();
    let (well, rest) = second.end("-TERM");
    assert!(well, "{rest}");
    drop(reader.bytes().await);

    log.push_str(&rest);
    assert!(log.contains("request") && log.contains("/v1/mailboxes/{mailbox}/messages"), "{log}");
    let input = spendable.token.input;
    let planted = [
        bob.id.to_string(),
        id.to_string(),
        bob.jwt.clone(),
        encode_base64(&input.nonce),
        encode_base64(spendable.refund.expose()),
        encode_base64(request.blinded.as_bytes()),
        encode_base64(&shown.presentation),
        hex::encode(&shown.presentation[64..72]),
        replied.json::<Accepted>().message.to_string(),
        encode_base64(&carol.group.to_stored()),
        encode_base64(&alice.0.to_stored()),
        bob.id.0.iter().map(|byte| format!("{byte:02x}")).collect(),
        id.0.iter().map(|byte| format!("{byte:02x}")).collect(),
        "127.0.0.1:".to_owned() + world.issuer.url.rsplit(':').next().unwrap() + "/v1",
    ];
    for secret in planted {
        let tail = &secret[..secret.len().min(24)];
        assert!(!log.to_lowercase().contains(&tail.to_lowercase()), "{tail} is in the log:\n{log}");
    }
}

#[test]
fn init_makes_private_files_once_and_check_config_shows_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("a relay");
    assert!(init(&place, "http://127.0.0.1:2", None).status.success());
    let key = std::fs::read_to_string(place.join("secret.key")).unwrap();
    assert_eq!(key.len(), 43);
    assert_eq!(place.join("secret.key").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let again = init(&place, "http://127.0.0.1:2", None);
    assert!(!again.status.success() && again.stdout.is_empty());
    assert_eq!(std::fs::read_to_string(place.join("secret.key")).unwrap(), key, "no key is ever overwritten");

    let config = place.join("relay.toml");
    let check = || relay().args(["check-config", "--config", config.to_str().unwrap()]).output().unwrap();
    let shown = check();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.contains("quota_messages = 1000") && !text.contains(&key), "{text}");

    // The flag takes the place of the variable, and the variable of the file; a password is shown by neither.
    let in_force = |args: &[&str]| {
        let mut command = relay();
        command.args(["check-config", "--config", config.to_str().unwrap()]).args(args);
        let output = command.env("POSTERN_RELAY_DATABASE", "postgres://r:hunter2@variable.example/x").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (variable, flag) = (in_force(&[]), in_force(&["--database", "postgres://r:hunter2@flag.example/x"]));
    assert!(variable.contains("@variable.example/x") && flag.contains("@flag.example/x"), "{variable} {flag}");
    assert!(!variable.contains("hunter2") && !flag.contains("hunter2"));

    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{good}\nsurprise = 1\n")).unwrap();
    let refused = check();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("surprise"));
    std::fs::write(&config, good).unwrap();
    std::fs::write(place.join("secret.key"), "short").unwrap();
    assert!(!check().status.success());
}
