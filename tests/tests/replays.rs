//! Every request is sent twice: it gets the same answer, or a refusal because it is good once, and nothing happens twice.

use postern_test_database::TestDatabase;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::requests::{self, Again};
use postern_tests::{World, invariants, programs};

#[tokio::test(flavor = "multi_thread")]
async fn every_request_sent_again_gets_the_same_answer_or_is_refused() {
    let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    assert!(requests.len() >= 27);
    for request in &requests {
        let first = request.send(&alice.http).await.unwrap();
        assert_eq!(first.status / 100, 2, "{}: {}", request.url, String::from_utf8_lossy(&first.body));
        let counted = counts(&world);
        let second = request.send(&alice.http).await.unwrap();
        match request.again {
            // A mailbox that is open already says so by its status: 200 instead of 201.
            Again::Same => assert_eq!((second.status / 100, &second.body), (2, &first.body), "{}", request.url),
            Again::Refused(kind) => assert_eq!(second.refusal(), kind, "{}", request.url),
            Again::Other => assert_eq!(second.status, first.status, "{}", request.url),
        }
        assert_eq!(counts(&world), counted, "{} did something twice", request.url);
    }
    // Among them was a signature that a relay asked for without a token that pays for it: that is what counting finds.
    let broken = invariants::violations(&invariants::copy(&world));
    let names: Vec<&str> = broken.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("no signature for an exchange without a ledger row"), "{names:?}");
    world.assert_healthy();
}

/// How many rows there are of everything that must not happen twice.
fn counts(world: &World) -> Vec<i64> {
    let issuer = ["accounts", "issuances", "relay_exchanges", "sessions", "login_nonces", "registrations"];
    let lookups = ["lookup_allowance", "lookup_issuances", "lookup_spent", "key_log"];
    let replies = ["reply_keys", "reply_nullifiers", "reply_strikes", "reply_reveals"];
    let prekeys = ["prekey_supplies", "prekeys", "prekey_claims"];
    let relay = [&["mailboxes", "messages", "ledger"], &replies[..], &prekeys].concat();
    let of = |database: &TestDatabase, table: &&str| database.int(&format!("select count(*) from {table}"));
    let issuer = issuer.iter().chain(&lookups).map(|t| of(&world.issuer_db, t));
    issuer.chain(relay.iter().map(|t| of(&world.relay_db, t))).collect()
}
