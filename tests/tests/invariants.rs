//! The checker itself: each invariant is broken by hand, and must be found by name.

use std::path::Path;

use postern_protocol::release::RELEASE_PATH;
use postern_protocol::send::Accepted;
use postern_tests::{Actor, World, invariants, programs};
use rusqlite::Connection;

fn break_it(file: &Path, sql: &str) {
    let db = Connection::open(file).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    db.execute_batch("pragma ignore_check_constraints = on").unwrap();
    db.execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_violation_is_found_by_its_name() {
    let mut world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791235001").await;
    let mut bob = Actor::ready(&world, "+41791235002").await;
    let spent = alice.tokens.remove(0);
    for token in [spent.token, alice.tokens[0].token] {
        let envelope = alice.envelope(&bob.mailbox(), "hello");
        let accepted: Accepted = alice.send(&bob.mailbox(), &token, &envelope).await.json();
        if token == spent.token {
            bob.verdict(RELEASE_PATH, &[accepted.message]).await;
        }
    }
    alice.exchange(&spent).await;
    invariants::assert_hold(&world);
    world.issuer.kill();
    world.relay.kill();

    let (issuer, relay) = (world.issuer_db_file(), world.relay_db_file());
    let saved: Vec<_> = [&issuer, &relay]
        .map(|file| {
            Connection::open(file).unwrap().execute_batch("pragma wal_checkpoint(truncate)").unwrap();
            std::fs::read(file).unwrap()
        })
        .into();
    let planted = [
        (&issuer, "update accounts set tokens_issued = 6", "no account has more"),
        (&issuer, "update accounts set tokens_issued = 4", "every signature for an account"),
        (&issuer, "update key_counters set count = count + 1 where relay = ''", "the public counters"),
        (&issuer, "update key_counters set count = count + 1 where relay <> ''", "every signature for an exchange"),
        (&relay, "delete from ledger where state = 'exchanged'", "no signature for an exchange"),
        (
            &relay,
            "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 20)
             select randomblob(32), key_id, token_digest, 'attached', x'00', x'00' from ledger, n where state = 'attached'",
            "no ledger row for a token",
        ),
        (&relay, "update ledger set state = 'released'", "conservation"),
        (&relay, "update messages set mailbox = randomblob(32)", "every queued message"),
        (
            &relay,
            "update ledger set mailbox = null, envelope_digest = null, state = 'exchanging', blinded_digest = x'00',
             new_key_id = key_id",
            "no message was queued",
        ),
        (&relay, "update mailboxes set queued_messages = 7", "the quota counters"),
    ];
    assert_eq!(planted.len(), invariants::queries().len(), "one planted violation for each invariant");
    for (file, sql, name) in planted {
        break_it(file, sql);
        let found = invariants::violations(&issuer, &relay);
        assert!(found.iter().any(|(broken, _)| broken.starts_with(name)), "{name}: found only {found:?}");
        for (file, bytes) in [&issuer, &relay].into_iter().zip(&saved) {
            Connection::open(file).unwrap().execute_batch("pragma wal_checkpoint(truncate)").unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        assert!(invariants::violations(&issuer, &relay).is_empty());
    }
}
