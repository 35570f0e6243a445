//! `sync --watch` does not tell the servers whose an anonymous request is.

use std::time::Duration;

use postern_test_database::Engine;
use postern_tests::balancer::Balancer;
use postern_tests::planted::traffic::exchanges;
use postern_tests::{Person, World, programs};

#[test]
fn a_question_after_a_token_comes_while_the_poll_goes_on_and_with_no_request_of_the_account() {
    let taps = [Balancer::start_tapped(), Balancer::start_tapped()];
    let world = World::start_behind(Engine::of_this_run(), programs!(), ["", ""], &taps);
    let alice = Person::new(&world.programs, world.dir.path(), "alice", "+41791236501");
    let bob = Person::new(&world.programs, world.dir.path(), "bob", "+41791236502");
    alice.register(&world);
    bob.register(&world);
    let card = bob.card();
    alice.ok(&["settings", "--exchange-interval", "20"]);
    alice.ok(&["send", &card, "hello"]);
    bob.ok(&["accept", bob.messages()[0]["id"].as_str().unwrap()]);

    let before = taps[1].passed().len();
    // The question is due 10 to 30 seconds after the message: later than the verdict takes, on a slow machine as well.
    alice.run_and_kill(&["sync", "--watch"], Duration::from_secs(33));
    let seen: Vec<String> =
        taps[1].passed()[before..].iter().map(|passed| String::from_utf8_lossy(&passed[0]).into_owned()).collect();
    let question = seen.iter().position(|said| said.starts_with("POST /v1/exchange")).expect("the question was asked");
    assert!(question > 0, "what is due when it begins is asked then");
    let polls: Vec<&str> =
        seen.iter().flat_map(|said| said.lines()).filter(|line| line.contains("&limit=1 ")).collect();
    assert!(!polls.is_empty() && polls.iter().all(|line| line.contains("?wait=50&")), "{polls:?}");
    // Connections are in order: none of the account's was made after it, and the poll was not broken off for it.
    assert_eq!(seen.len(), question + 1, "{:?}", seen.iter().map(|said| said.lines().next()).collect::<Vec<_>>());
    assert_eq!(polls.len(), 1, "one poll, which went on: {polls:?}");
    assert_eq!(exchanges(&taps[1].passed()[before + question..])[0].status, 200);
}
