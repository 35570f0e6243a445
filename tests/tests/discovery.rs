//! Finding people by number, with the command against real servers.
use postern_tests::{Person, World, programs};
use serde_json::Value;

fn person(world: &World, name: &str, phone: &str) -> Person {
    let person = Person::new(&world.programs, world.dir.path(), name, phone);
    person.register(&world.place);
    person
}

fn outcomes(answer: &Value) -> Vec<&str> {
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
