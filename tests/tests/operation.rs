//! What an operator does: settings from file, environment and flags; migrate, doctor, version; logs in either form.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_tests::{Reply, World, programs};
use serde_json::Value;

fn run(world: &World, of_issuer: bool, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let server = if of_issuer { &world.issuer } else { &world.relay };
    server.prepare(args).envs(environment.iter().copied()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_doctor_finds_what_is_broken_and_says_what_to_do_and_nothing_else() {
    let mut world = World::start(programs!());
    for of_issuer in [true, false] {
        let found = run(&world, of_issuer, &["doctor"], &[]);
        assert!(found.status.success() && !text(&found).contains("BAD"), "{}", text(&found));
        assert!(text(&found).contains("ok    schema"), "{}", text(&found));
        assert!(text(&found).contains("ok    url"), "{}", text(&found));
    }
    // The relay's key lies open: the doctor says so, and the relay does not start with it.
    let key = world.dir.path().join("relay/secret.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    for verb in ["doctor", "check-config", "serve"] {
        let found = run(&world, false, &[verb], &[]);
        assert!(!found.status.success() && text(&found).contains("chmod 600"), "{verb}: {}", text(&found));
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Nobody is at the issuer's.
    world.issuer.kill();
    let found = run(&world, false, &["doctor"], &[]);
    assert!(!found.status.success() && text(&found).contains("BAD   issuer"), "{}", text(&found));
    // An issuer that does not know the relay.
    let config = world.dir.path().join("issuer/issuer.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.split("[[relay]]").next().unwrap()).unwrap();
    world.issuer.start();
    let found = run(&world, false, &["doctor"], &[]);
    assert!(!found.status.success() && text(&found).contains("add-relay"), "{}", text(&found));
}

#[test]
fn settings_are_the_files_then_the_environments_then_the_command_lines() {
    let mut world = World::start(programs!());
    let shown = |environment: &[(&str, &str)], args: &[&str]| {
        let all: Vec<&str> = ["check-config"].iter().chain(args).copied().collect();
        let output = run(&world, false, &all, environment);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let in_file = shown(&[], &[]);
    assert!(in_file.contains(&format!("listen = \"{}\"", world.relay.address())));
    let in_environment = [("POSTERN_RELAY_LISTEN", "127.0.0.1:7001")];
    assert!(shown(&in_environment, &[]).contains("listen = \"127.0.0.1:7001\""));
    assert!(shown(&in_environment, &["--listen", "127.0.0.1:7002"]).contains("listen = \"127.0.0.1:7002\""));

    // The database by a file that its owner alone may read.
    let file = world.dir.path().join("relay/database.url");
    std::fs::write(&file, world.relay_db.url()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let by_file = [("POSTERN_RELAY_DATABASE", "file:database.url")];
    assert_eq!(shown(&by_file, &[]), in_file);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&world, false, &["check-config"], &by_file);
    assert!(!refused.status.success() && text(&refused).contains("chmod 600"), "{}", text(&refused));

    // A filter that is none, and logs in JSON.
    let refused = run(&world, false, &["migrate", "--log", "postern=loud"], &[]);
    assert!(!refused.status.success() && text(&refused).contains("postern=loud"), "{}", text(&refused));
    world.relay.kill();
    let before = world.relay.read_log().len();
    world.relay.environment = vec![
        ("POSTERN_LOG".to_owned(), "debug,hyper=off,h2=off".to_owned()),
        ("POSTERN_LOG_FORMAT".to_owned(), "json".to_owned()),
    ];
    world.relay.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for path in [HEALTH_PATH, READY_PATH] {
        let asked = reqwest::Client::new().get(format!("{}{path}", world.relay_url));
        assert!(runtime.block_on(Reply::to(asked)).is_ok());
    }
    let log = world.relay.read_log().split_off(before);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let route = |line: &Value| line["fields"]["route"].as_str().map(str::to_owned);
    assert!(lines.iter().any(|line| route(line).as_deref() == Some(HEALTH_PATH)), "{log}");
}

#[test]
fn migrate_brings_a_database_to_the_version_that_the_program_says() {
    let world = World::start(programs!());
    for (of_issuer, database) in [(true, &world.issuer_db), (false, &world.relay_db)] {
        let server = if of_issuer { &world.programs.issuer } else { &world.programs.relay };
        let told = std::process::Command::new(server).arg("version").output().unwrap();
        let version: Value = serde_json::from_slice(&told.stdout).unwrap();
        let applied = database.int("select max(version) from schema_history");
        assert_eq!(version["schema"], applied);
        let migrated = run(&world, of_issuer, &["migrate"], &[]);
        let said: Value = serde_json::from_slice(&migrated.stdout).unwrap();
        assert_eq!(said["schema"], applied, "{}", text(&migrated));
    }
}
