//! Finding people by number, with the command against real servers.
use postern_tests::socks::Socks;
use postern_tests::{Person, World, programs};
use rusqlite::types::Value;

fn person(world: &World, name: &str, phone: &str) -> Person {
    let person = Person::new(&world.programs, world.dir.path(), name, phone);
    person.register(&world.place);
    person
}

fn outcomes(answer: &serde_json::Value) -> Vec<&str> {
    answer["found"].as_array().unwrap().iter().map(|found| found["outcome"].as_str().unwrap()).collect()
}

#[test]
fn a_number_is_enough_to_write_to_somebody_and_a_number_that_nobody_has_costs_no_sending_token() {
    let mut world = World::start(programs!());
    let alice = person(&world, "alice", "+41791239001");
    let bob = person(&world, "bob", "+41791239002");
    world.issuer.command(&["build-directory"]);

    let found = alice.ok(&["find", &bob.phone, "+41791239999"]);
    assert_eq!(outcomes(&found), ["listed", "not-listed"]);
    assert_eq!(found["found"][0]["card"], bob.card());
    let sent = alice.ok(&["send", &bob.phone, "found you"]);
    assert_eq!((&sent["status"], &sent["tokens_left"]), (&"delivered".into(), &4.into()));
    let message = bob.messages().remove(0);
    assert_eq!((&message["text"], &message["from"]), (&"found you".into(), &alice.phone.clone().into()));

    let nobody = alice.run(&["send", "+41791239998", "is anybody there?"]);
    assert_eq!((nobody.exit, &nobody.json["error"]["code"]), (Some(11), &"not-listed".into()));
    assert_eq!(alice.ok(&["tokens"])["left"], 4);

    // What the servers keep of it: spent look-up tokens, and nothing that is also in a row about an account but the window.
    assert!(world.issuer_db.int("select count(*) from lookup_spent") >= 3);
    let joined = "select count(*) from lookup_spent s join lookup_issuances i on s.request_digest = i.request_digest \
         or s.nullifier = i.request_digest";
    assert_eq!(world.issuer_db.int(joined), 0);
    world.assert_healthy();
}

#[test]
fn an_address_book_is_looked_up_once_and_the_second_time_costs_nothing() {
    let world = World::start(programs!());
    let alice = person(&world, "alice", "+41791239003");
    let bob = person(&world, "bob", "+41791239004");
    world.issuer.command(&["build-directory"]);
    let file = world.dir.path().join("book.vcf");
    let mut book = format!("BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Bob\r\nTEL:{}\r\nEND:VCARD\r\n", bob.phone);
    for n in 0..40 {
        book.push_str(&format!("BEGIN:VCARD\r\nVERSION:3.0\r\nFN:No {n}\r\nTEL:079 555 {n:02} 00\r\nEND:VCARD\r\n"));
    }
    std::fs::write(&file, book).unwrap();
    let import = ["contacts", "import", file.to_str().unwrap(), "--country", "CH"];
    let first = alice.ok(&import);
    assert_eq!(outcomes(&first).iter().filter(|outcome| **outcome == "listed").count(), 1);
    assert_eq!((outcomes(&first).len(), first["unread"].as_array().unwrap().len()), (41, 0));

    let spent = || world.issuer_db.int("select count(*) from lookup_spent");
    let before = spent();
    assert!(before >= 41);
    let second = alice.ok(&import);
    assert_eq!((&second["found"], spent()), (&first["found"], before));
}

/// Accounts that nobody has, `+4176` and seven digits, straight into the issuer's table.
fn populate(world: &World, accounts: u32) {
    let insert = "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
        login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
        select $1, $2, $3, x'', certificate_expires, x'', x'', $4, relay, 0, 0, 0, 0 from accounts limit 1";
    // Bytes that differ from account to account; which they are does not matter.
    let bytes = |kind: u8, n: u32| Value::Blob([[kind; 28].as_slice(), &n.to_be_bytes()].concat());
    let row = |n: u32| vec![bytes(1, n), Value::Text(format!("+4176{n:07}")), bytes(2, n), bytes(3, n)];
    world.issuer_db.execute_each(insert, &(0..accounts).map(row).collect::<Vec<_>>());
    assert_eq!(world.issuer_db.int("select count(*) from accounts"), i64::from(accounts) + 1);
}

#[test]
fn a_thousand_numbers_are_looked_up_among_a_hundred_thousand_accounts_by_one_command_that_shows_its_progress() {
    let world = World::start(programs!());
    let mut alice = person(&world, "alice", "+41791239005");
    populate(&world, 100_000);
    world.issuer.command(&["build-directory"]);
    // 300 of them are listed.
    let file = world.dir.path().join("book.csv");
    let number = |n: u32| if n < 300 { format!("+4176{:07}", n * 331) } else { format!("+4178{n:07}") };
    let lines: String = (0..1000).map(|n| format!("No {n},{}\n", number(n))).collect();
    std::fs::write(&file, format!("name,phone\n{lines}")).unwrap();
    let socks = Socks::start();
    alice.options = ["--proxy", socks.url.as_str()].map(str::to_owned).to_vec();
    let import = ["contacts", "import", file.to_str().unwrap()];

    let on_a_terminal = alice.on_a_terminal(&import);
    assert!(on_a_terminal.contains("300 of 1000 can be written to."), "{on_a_terminal}");
    for step in ["asking for the numbers, blinded", "fetching the directory"] {
        assert!(on_a_terminal.contains(step), "{on_a_terminal}");
    }
    assert!(on_a_terminal.contains("/1000"), "a bar that counts: {on_a_terminal}");

    let (spent, circuits) = (world.issuer_db.int("select count(*) from lookup_spent"), socks.anonymous());
    assert_eq!(spent, 1024, "eight batches of 128");
    assert!(circuits.len() > 100);
    let isolated: std::collections::BTreeSet<_> = circuits.iter().map(|circuit| &circuit.credentials).collect();
    assert_eq!(isolated.len(), circuits.len(), "a circuit a request");

    let again = alice.ok(&import);
    let listed = outcomes(&again).iter().filter(|outcome| **outcome == "listed").count();
    assert_eq!((outcomes(&again).len(), listed), (1000, 300));
    assert_eq!(socks.anonymous().len(), circuits.len(), "the second run asks nobody anonymously for anything");
    assert_eq!(world.issuer_db.int("select count(*) from lookup_spent"), spent);
}
