//! Codes by a real Kannel (Debian's `kannel` and `kannel-extras`), read off its fake SMS centre, with the `postern` command.

use std::path::PathBuf;

use postern_tests::kannel::{Kannel, PASSWORD, wait};
use postern_tests::{Person, World, programs};

/// A world whose issuer has these gateways instead of the console, and logs everything.
fn world_with(gateways: impl FnOnce(&std::path::Path) -> String) -> World {
    let mut world = World::start(programs!());
    world.issuer.kill();
    configure(&mut world, gateways);
    world
}

fn config(world: &World) -> PathBuf {
    world.dir.path().join("issuer/issuer.toml")
}

/// Starts the issuer with these gateways.
fn configure(world: &mut World, gateways: impl FnOnce(&std::path::Path) -> String) {
    let path = config(world);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("[[gateway]]").unwrap();
    let (_, after) = rest.split_once("\n# Relays are added by").unwrap();
    let gateways = gateways(path.parent().unwrap());
    std::fs::write(&path, format!("{before}{gateways}\n# Relays are added by{after}")).unwrap();
    world.issuer.environment = vec![("POSTERN_LOG".to_owned(), "trace".to_owned())];
    world.issuer.start();
}

const CONSOLE: &str = "[[gateway]]\nkind = \"console\"\nfile = \"texts.log\"\n";

fn person(world: &World, name: &str, phone: &str) -> Person {
    Person::new(&world.programs, world.dir.path(), name, phone)
}

fn ask<'a>(world: &'a World, person: &'a Person) -> [&'a str; 5] {
    ["register", &person.phone, "--issuer", &world.issuer_url, "--cheap-kdf"]
}

#[test]
fn people_register_by_kannel_s_texts_and_by_another_gateway_when_kannel_dies() {
    let mut kannel = Kannel::start();
    let mut world = world_with(|dir| kannel.gateway(dir) + CONSOLE);
    let alice = person(&world, "alice", "+41791239001");
    assert_eq!(alice.ok(&ask(&world, &alice))["channel"], "text");
    let code = kannel.code_for(&alice.phone);
    assert_eq!(alice.ok(&["verify", &code])["status"], "registered");
    assert_eq!(world.code_for(&alice.phone), None, "Kannel came first, and took it");
    // Kannel reports that it was delivered.
    let has_come = |log: &str| log.lines().any(|line| line.contains("a report came") && line.contains("Arrived"));
    wait(|| has_come(&world.issuer.read_log()), || "no report came".to_owned());

    // It has no route to some numbers: the next gateway gets them.
    let bob = person(&world, "bob", "+41771239002");
    bob.ok(&ask(&world, &bob));
    assert_eq!(kannel.texts_to(&bob.phone), [""; 0]);
    bob.ok(&["verify", &world.code_for(&bob.phone).unwrap()]);

    kannel.kill_bearerbox();
    let carol = person(&world, "carol", "+41791239003");
    carol.ok(&ask(&world, &carol));
    carol.ok(&["verify", &world.code_for(&carol.phone).unwrap()]);

    // Nothing of it is in the log, at trace level.
    let log = world.issuer.read_log();
    assert!(log.contains("was not accepted") && log.contains("was refused"), "{log}");
    for secret in [PASSWORD, &code, "791239001", "771239002", "791239003"] {
        assert!(!log.contains(secret), "{secret}");
    }
    world.assert_healthy();
}

#[test]
fn who_cannot_be_texted_is_told_why_and_when_to_try_again() {
    let mut kannel = Kannel::start();
    let mut world = world_with(|dir| kannel.gateway(dir));
    // The operator has tried it.
    let tried = world.issuer.command(&["test-text", "--to", "+41791239000"]);
    assert!(tried.contains("\"accepted\":true") && tried.contains("\"gateway\":\"kannel\""), "{tried}");
    let refused = |person: &Person, world: &World, more: &[&str]| {
        let ran = person.run(&[&ask(world, person), more].concat());
        assert_eq!(ran.exit, Some(6), "{}", ran.json);
        ran.json["error"].clone()
    };
    let kind = |error: &serde_json::Value| error["problem"]["type"].as_str().unwrap_or_default().to_owned();

    let bob = person(&world, "bob", "+41771239004");
    let error = refused(&bob, &world, &[]);
    assert!(kind(&error).ends_with(":text-undeliverable"), "{error}");
    let alice = person(&world, "alice", "+41791239005");
    let error = refused(&alice, &world, &["--voice"]);
    assert!(kind(&error).ends_with(":voice-unavailable"), "{error}");
    let error = refused(&person(&world, "mallory", "+41900123456"), &world, &[]);
    assert!(kind(&error).ends_with(":phone-refused"), "{error}");

    kannel.kill_bearerbox();
    let error = refused(&alice, &world, &[]);
    assert!(kind(&error).ends_with(":text-failed"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("in 30 seconds"), "{error}");

    // With a password that Kannel does not know nobody gets a text either, and the operator is told.
    let kannel = Kannel::start();
    world.issuer.kill();
    configure(&mut world, |dir| {
        std::fs::write(dir.join("kannel.password"), "another\n").unwrap();
        kannel.gateway(dir)
    });
    let error = refused(&alice, &world, &[]);
    assert!(kind(&error).ends_with(":text-failed"), "{error}");
    assert!(world.issuer.read_log().contains("user or password is wrong"));
    assert_eq!(kannel.texts_to(&alice.phone), [""; 0]);
    world.assert_healthy();
}
