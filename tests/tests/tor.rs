//! Postern through a real Tor: the main flow over onion services, who connects to the relay, what shares a circuit, and what `doctor` makes of it.
//!
//! Needs root and Debian's `tor`, `tcpdump` and `iproute2`. Where they are not, the tests of a network say `NOT RUN`; with
//! `POSTERN_REQUIRE_TOR` they fail.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use postern_tests::socks::{Socks, is_of_an_account};
use postern_tests::tor::{Lab, ONION_HOST, PROXY, Stream, servers_alone};
use postern_tests::{Person, World, invariants, programs};
use serde_json::Value;

#[test]
fn the_main_flow_passes_through_tor_and_no_client_connects_to_the_relay() {
    let Some(lab) = Lab::start(&programs!()) else { return };
    let person = |name: &str, phone: &str| Person::new(&lab.programs, lab.world.dir.path(), name, phone);
    let (mut alice, mut bob) = (person("alice", "+41791237101"), person("bob", "+41791237102"));
    for person in [&mut alice, &mut bob] {
        // Said once, at the registration.
        person.options = vec!["--proxy".into(), PROXY.into()];
        person.register(&lab.world);
        person.options.clear();
    }
    println!("two people are registered");
    let before = lab.control.streams().len();
    assert_eq!(alice.ok(&["send", &bob.card(), "hello"])["status"], "delivered");
    let sent = &lab.control.streams()[before..];
    assert!(sent.len() >= 3 && sent.iter().all(|stream| !is_of_an_account(&stream.credentials)), "{sent:?}");

    let message = bob.messages().remove(0);
    assert_eq!((&message["text"], &message["from"]), (&"hello".into(), &alice.phone.clone().into()));
    bob.ok(&["accept", message["id"].as_str().unwrap()]);
    assert_eq!(alice.ok(&["sync"])["returned"], 1);
    assert_eq!(alice.ok(&["tokens"])["left"], 5);
    let reply = bob.ok(&["send", &alice.phone, "hello yourself"]);
    assert_eq!((&reply["status"], &reply["paid"]["by"]), (&"delivered".into(), &"reply".into()));
    assert_eq!(alice.messages().remove(0)["text"], "hello yourself");

    let checks = alice.ok(&["doctor"])["checks"].clone();
    assert_eq!((health(&checks, "proxy"), health(&checks, "anonymous channel")), ("ok", "ok"), "{checks}");
    assert!(checks.to_string().contains("onion service was reached"), "{checks}");

    check_circuits(&lab.control.streams());
    assert!(!lab.user_reaches_servers(), "from the user's machine there is no way but Tor's");
    let beside: BTreeSet<_> = lab.beside_the_onion_host().into_iter().collect();
    assert_eq!(beside, BTreeSet::from(["tor".to_owned()]), "no client is where the relay's connections come from");
    let (mut world, seen) = lab.stop();
    println!("{} connections to the relay, all from Tor's machine", seen.len());
    assert!(seen.len() >= 10, "the capture sees what happens: {seen:?}");
    assert!(strangers(&seen).is_empty(), "{seen:?}");
    invariants::assert_hold(&world);
    world.assert_healthy();
}

/// Each anonymous request has a circuit that nothing else was on.
fn check_circuits(streams: &[Stream]) {
    let (of_accounts, anonymous): (Vec<_>, Vec<_>) = streams
        .iter()
        .filter(|stream| !stream.circuits.is_empty())
        .partition(|stream| is_of_an_account(&stream.credentials));
    println!("{} anonymous requests, {} connections of accounts", anonymous.len(), of_accounts.len());
    assert!(anonymous.len() >= 10 && of_accounts.len() >= 10, "{streams:?}");
    let circuits = |streams: &[&Stream]| -> Vec<u64> { streams.iter().flat_map(|s| s.circuits.clone()).collect() };
    let (all, account) = (circuits(&anonymous), BTreeSet::from_iter(circuits(&of_accounts)));
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "two anonymous requests shared a circuit: {anonymous:?}");
    assert!(distinct.is_disjoint(&account), "an anonymous request was on a circuit of an account");
}

/// Who connected and is not the onion host.
fn strangers(seen: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    seen.iter().copied().filter(|address| *address != ONION_HOST).collect()
}

#[test]
fn a_client_that_goes_directly_is_seen_by_the_capture() {
    let programs = programs!();
    let Some((world, capture, machine)) = servers_alone(&programs) else { return };
    let mut carol = Person::new(&machine.programs(&programs), world.dir.path(), "carol", "+41791237103");
    carol.options = vec!["--direct".into()];
    carol.register(&world);
    let seen = capture.stop();
    assert!(!strangers(&seen).is_empty(), "{seen:?}");
}

#[test]
fn doctor_does_not_take_another_proxy_for_tor_and_says_when_there_is_none() {
    let world = World::start(programs!());
    let socks = Socks::start();
    let mut dave = Person::new(&world.programs, world.dir.path(), "dave", "+41791237104");
    dave.register(&world);
    let doctor = |dave: &Person| dave.run(&["doctor"]).json["checks"].clone();
    let checks = doctor(&dave);
    assert_eq!((health(&checks, "anonymous channel"), health(&checks, "proxy")), ("ok", "absent"), "{checks}");

    dave.options = vec!["--proxy".into(), socks.url.clone()];
    let checks = doctor(&dave);
    assert_eq!((health(&checks, "proxy"), health(&checks, "anonymous channel")), ("warn", "warn"), "{checks}");
    assert!(checks.to_string().contains("not Tor"), "{checks}");

    // A server, but none that speaks SOCKS.
    dave.options = vec!["--proxy".into(), world.relay_url.replace("http", "socks5h")];
    assert_eq!(health(&doctor(&dave), "proxy"), "fail");
    dave.options = vec!["--direct".into()];
    assert_eq!(health(&doctor(&dave), "anonymous channel"), "warn");
}

#[test]
fn an_onion_address_without_a_proxy_is_asked_nowhere_and_the_command_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut erin = Person::new(&programs!(), dir.path(), "erin", "+41791237105");
    let onion = format!("http://{}.onion", "a".repeat(56));
    for options in [vec![], vec!["--direct".to_owned()]] {
        erin.options = options;
        let ran = erin.run(&["register", &erin.phone, "--issuer", &onion, "--cheap-kdf"]);
        assert_eq!((ran.exit, &ran.json["error"]["code"]), (Some(8), &"onion-without-proxy".into()), "{}", ran.json);
        assert!(ran.json["error"]["hint"].as_str().unwrap().contains("--proxy"), "{}", ran.json);
    }
    // Names that this machine would look up itself are refused as they are written.
    erin.options = vec!["--proxy".into(), "socks5://127.0.0.1:9050".into()];
    let ran = erin.run(&["register", &erin.phone, "--issuer", &onion, "--cheap-kdf"]);
    assert_eq!(ran.exit, Some(2), "{}", ran.json);
    assert!(ran.json["error"]["message"].as_str().unwrap().contains("socks5h"), "{}", ran.json);
}

fn health<'a>(checks: &'a Value, name: &str) -> &'a str {
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    check.map_or("absent", |check| check["health"].as_str().unwrap())
}
