//! People with the `postern` command against real servers: the demo, the main flow, and the main flow while everything falls over.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_protocol::card::CardLink;
use postern_tests::socks::{Circuit, Socks};
use postern_tests::{Actor, Person, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[test]
fn the_demo_holds_all_its_expectations() {
    let programs = programs!();
    let output = Command::new(&programs.postern)
        .arg("demo")
        .env("POSTERN_ISSUER_BIN", &programs.issuer)
        .env("POSTERN_RELAY_BIN", &programs.relay)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("expectations held.") && !stdout.contains("FAILED"), "{stdout}");
}

#[test]
fn a_request_becomes_a_contact_and_a_token_comes_back() {
    let mut world = World::start(programs!());
    let alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236001");
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236002");
    alice.register(&world);
    bob.register(&world);

    let sent = alice.ok(&["send", &bob.card(), "Grüezi 👋"]);
    assert_eq!((&sent["status"], &sent["tokens_left"]), (&"delivered".into(), &4.into()));
    let message = bob.messages().remove(0);
    assert_eq!(message["folder"], "requests");
    assert_eq!((&message["text"], &message["from"]), (&"Grüezi 👋".into(), &alice.phone.clone().into()));
    bob.ok(&["accept", message["id"].as_str().unwrap()]);
    assert_eq!(alice.ok(&["sync"])["returned"], 1);
    let screen = alice.ok(&["tokens"]);
    assert_eq!((&screen["left"], screen["answered"].as_array().unwrap().len()), (&5.into(), 1));

    // Bob answers the contact: no card needed, no token, and Alice finds it in her inbox.
    let reply = bob.ok(&["send", &alice.phone, "Hello Alice"]);
    assert_eq!((&reply["paid"]["by"], &reply["tokens_left"]), (&"reply".into(), &5.into()));
    let message = alice.messages().remove(0);
    assert_eq!((&message["from"], &message["folder"]), (&bob.phone.clone().into(), &"inbox".into()));
    let who = alice.ok(&["who", message["id"].as_str().unwrap()]);
    assert_eq!((&who["who"]["by"], &who["who"]["contact"]["phone"]), (&"reply".into(), &bob.phone.clone().into()));

    // Whom Bob has blocked can write to him no more, and is not told.
    bob.ok(&["block", &alice.phone]);
    assert_eq!(alice.ok(&["send", &bob.phone, "Hello?"])["status"], "delivered");
    assert_eq!(bob.messages().len(), 1, "only the first message is there");
    assert_eq!(bob.run(&["send", &alice.phone, "…"]).exit, Some(2));
    bob.ok(&["unblock", &alice.phone]);
    assert_eq!(alice.ok(&["send", &bob.phone, "Hello again"])["status"], "delivered");
    assert!(bob.messages().iter().any(|message| message["text"] == "Hello again"));
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[test]
fn a_text_of_every_size_class_arrives_whole_and_a_longer_one_is_refused_before_a_token_is_spent() {
    let world = World::start(programs!());
    let alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236003");
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236004");
    alice.register(&world);
    bob.register(&world);
    let card = bob.card();
    for length in [1, 5_000, 40_000] {
        let text = "x".repeat(length);
        alice.ok(&["send", &card, &text]);
        assert!(bob.messages().iter().any(|m| m["text"] == text), "{length}");
    }
    let refused = alice.run(&["send", &card, &"x".repeat(70_000)]);
    assert_eq!(refused.exit, Some(2), "{}", refused.json);
    assert_eq!(alice.ok(&["tokens"])["left"], 2);
}

#[test]
fn a_profile_opens_with_its_password_alone_and_shows_nothing_on_disk() {
    let world = World::start(programs!());
    let alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236005");
    alice.register(&world);
    let mut thief = alice.clone();
    let wrong = world.dir.path().join("wrong");
    std::fs::write(&wrong, "guess\n").unwrap();
    thief.options = vec!["--password-file".into(), wrong.to_str().unwrap().into()];
    assert_eq!(thief.run(&["card"]).exit, Some(4));
    for entry in std::fs::read_dir(world.dir.path().join("people/profiles")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [alice.phone.as_bytes(), b"password of alice".as_slice(), world.relay_url.as_bytes()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// Kills issuer or relay at random moments until told to stop; gives the world back.
fn storm(mut world: World, stop: Arc<AtomicBool>) -> (World, usize) {
    let mut rng = StdRng::seed_from_u64(7);
    let mut kills = 0;
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(rng.random_range(50..600)));
        let server = if rng.random_bool(0.5) { &mut world.issuer } else { &mut world.relay };
        server.kill();
        server.start();
        kills += 1;
    }
    (world, kills)
}

#[test]
fn the_client_finishes_the_main_flow_though_servers_and_the_client_itself_are_killed() {
    let world = World::start_with(programs!(), "texts_per_number_per_day = 1000\nexchange_multiple = 1000", "");
    let place = world.place.clone();
    let alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236006");
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236007");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let storm = std::thread::spawn(move || storm(world, stopped));
    let mut rng = StdRng::seed_from_u64(8);

    for person in [&alice, &bob] {
        person.until_ok(&["register", &person.phone, "--issuer", &place.issuer_url, "--cheap-kdf"]);
        let code = place.code_for(&person.phone).unwrap();
        // Registration is where most could be lost: it is cut short again and again.
        for _ in 0..6 {
            person.run_and_kill(&["verify", &code], Duration::from_millis(rng.random_range(20..300)));
        }
        person.until_ok(&["verify", &code]);
        person.ok(&["settings", "--release-delay", "0", "--exchange-interval", "0"]);
        assert_eq!(person.ok(&["tokens"])["left"], 5, "no token was lost in registration");
    }
    let card = bob.card();
    for i in 0..8 {
        let text = format!("message {i}");
        alice.until_ok(&["send", &card, &text]);
        for _ in 0..3 {
            alice.run_and_kill(&["sync"], Duration::from_millis(rng.random_range(20..200)));
            bob.run_and_kill(&["inbox"], Duration::from_millis(rng.random_range(20..200)));
        }
        let message = loop {
            alice.until_ok(&["sync"]);
            if let Some(found) = bob.messages().into_iter().find(|m| m["text"] == *text) {
                break found;
            }
        };
        bob.until_ok(&["accept", message["id"].as_str().unwrap()]);
    }
    stop.store(true, Ordering::SeqCst);
    let (mut world, kills) = storm.join().unwrap();
    println!("{kills} kills of servers");
    assert!(kills >= 10, "only {kills} kills: that proves nothing");

    bob.ok(&["sync"]);
    alice.ok(&["sync"]);
    let texts: Vec<_> = bob.messages().iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect();
    for i in 0..8 {
        let text = format!("message {i}");
        assert_eq!(texts.iter().filter(|t| **t == text).count(), 1, "{text} is there once");
    }
    let screen = alice.ok(&["tokens"]);
    assert_eq!((&screen["left"], &screen["sending"]), (&5.into(), &0.into()), "{screen}");
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[test]
fn anonymous_requests_take_a_circuit_each_and_share_none_with_the_account() {
    let world = World::start(programs!());
    let socks = Socks::start();
    let mut alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236008");
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236009");
    alice.options = vec!["--proxy".into(), socks.url.clone()];
    alice.register(&world);
    bob.register(&world);
    let issuer = world.issuer_url.trim_start_matches("http://");
    let relay = world.relay_url.trim_start_matches("http://");
    // The keys are asked for by nobody, or they could be marked for somebody.
    let registered = socks.anonymous();
    assert!(registered.len() == 1 && registered[0].to == issuer, "{registered:?}");

    let card = bob.card();
    let before = socks.circuits().len();
    alice.ok(&["send", &card, "hello"]);
    let sent = socks.anonymous();
    assert_eq!(sent.len() - registered.len(), 3, "the card, a prekey, and the message: {sent:?}");
    assert_eq!(socks.circuits().len() - before, 3, "and nothing of the account's");
    bob.ok(&["accept", bob.messages()[0]["id"].as_str().unwrap()]);
    assert_eq!(alice.ok(&["sync"])["returned"], 1);
    let anonymous = socks.anonymous();
    let later: Vec<_> = anonymous[sent.len()..].iter().map(|c| c.to.as_str()).collect();
    assert_eq!(later, [issuer, relay], "the keys again, and the exchange");
    // Reading her own mail shows the mailbox: no request of that kind is anonymous.
    alice.messages();
    let anonymous = socks.anonymous();
    assert!(anonymous[sent.len() + 2..].iter().all(|c| c.to == issuer), "only the keys, again");
    let names: BTreeSet<_> = anonymous.iter().map(|c| &c.credentials).collect();
    assert_eq!(names.len(), anonymous.len(), "two requests shared a circuit");

    // What names the account goes through the proxy as well: no server sees the address. Each server has circuits of its own.
    let of_account = socks.of_accounts();
    for server in [issuer, relay] {
        assert!(of_account.iter().any(|c| c.to == server), "{server}: {of_account:?}");
    }
    let (at_issuer, at_relay): (BTreeSet<_>, BTreeSet<_>) =
        (names_to(&of_account, issuer), names_to(&of_account, relay));
    assert!(
        at_issuer.is_disjoint(&at_relay)
            && names.iter().all(|name| !at_issuer.contains(name) && !at_relay.contains(name))
    );
}

fn names_to<'a>(circuits: &'a [Circuit], server: &str) -> BTreeSet<&'a (String, String)> {
    circuits.iter().filter(|circuit| circuit.to == server).map(|circuit| &circuit.credentials).collect()
}

#[test]
fn what_cannot_be_read_is_shown_as_junk_and_its_token_can_be_burnt() {
    let world = World::start(programs!());
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236010");
    bob.register(&world);
    let link: CardLink = bob.card().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut mallory = Actor::ready(&world, "+41791236011").await;
        // Well-formed for the relay, but sealed to a key that is not Bob's.
        let envelope = mallory.envelope(&link.mailbox, "not for Bob");
        assert_eq!(mallory.send(&link.mailbox, &mallory.tokens[0].token, &envelope).await.status, 201);
    });
    assert!(bob.messages().is_empty());
    let junk = bob.ok(&["inbox", "--junk"])["messages"].as_array().unwrap().clone();
    assert_eq!((junk.len(), &junk[0]["folder"]), (1, &"junk".into()));
    assert!(junk[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    bob.ok(&["spam", junk[0]["id"].as_str().unwrap()]);
    assert_eq!(world.relay_db.int("select count(*) from ledger where state = 'burnt'"), 1);
}
