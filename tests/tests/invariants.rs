//! The checker itself: each invariant is broken by hand, and must be found by name.

use postern_protocol::lookup::LOOKUP_PATH;
use postern_protocol::release::{ACK_PATH, RELEASE_PATH};
use postern_protocol::reply::Strikes;
use postern_protocol::send::Accepted;
use postern_tests::http::post_json;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::{Actor, Reply, World, invariants, programs};

/// Both servers' databases, at rest, with something in every table that an invariant is about.
struct Rest(World);

impl Rest {
    async fn new(phones: [&str; 2]) -> Self {
        let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
        let mut alice = Actor::ready(&world, phones[0]).await;
        let mut bob = Actor::ready(&world, phones[1]).await;
        let spent = alice.tokens.remove(0);
        for token in [spent.token, alice.tokens[0].token] {
            let envelope = alice.envelope(&bob.mailbox(), "hello");
            let accepted: Accepted = alice.send(&bob.mailbox(), &token, &envelope).await.json();
            if token == spent.token {
                bob.verdict(RELEASE_PATH, &[accepted.message]).await;
            }
        }
        alice.exchange(&spent).await;
        let window = alice.lookup_window().await;
        let tokens = alice.lookup_tokens(&window, 3).await;
        let lookup = alice.lookup(&window, &tokens[..2], &[phones[1], "+41791235999"]);
        let reply = Reply::to(post_json(&alice.http, &alice.issuer(LOOKUP_PATH), &lookup)).await.unwrap();
        assert_eq!(reply.status, 200);
        world.issuer.command(&["build-directory"]);
        replies(&mut alice, &mut bob).await;
        let prekeys = bob.draw_prekeys(1, 3);
        assert_eq!(bob.upload_prekeys(&prekeys).await.status, 200);
        for claim in [alice.draw_claim(), alice.draw_claim()] {
            assert!(alice.claim_prekey(&bob.mailbox(), &claim).await.is_some());
        }
        invariants::assert_hold(&world);
        world.issuer.kill();
        world.relay.kill();
        Self(world)
    }

    /// Breaks a copy by hand; returns what was found in it.
    fn broken_by(&self, sql: &str) -> Vec<String> {
        let copy = invariants::copy(&self.0);
        assert!(invariants::violations(&copy).is_empty());
        copy.execute_batch(sql).unwrap();
        invariants::violations(&copy).into_iter().map(|(name, _)| name).collect()
    }
}

/// One reply that waits, one that was acknowledged, one that was struck, and a revealed seed.
async fn replies(alice: &mut Actor, bob: &mut Actor) {
    bob.open_group().await;
    let (to, friend, struck, given_up) = (bob.mailbox(), bob.issue().await, bob.issue().await, bob.issue().await);
    let strikes = Strikes { strike: vec![struck.nullifiers(&[])], lift: vec![] };
    assert_eq!(bob.strike(&strikes).await.status, 204);
    assert_eq!(bob.reveal(&given_up.reveal()).await.status, 204);
    let mut sent = Vec::new();
    for (issued, slot) in [(&friend, 0), (&friend, 1), (&struck, 0)] {
        let envelope = alice.envelope(&to, "a reply");
        let shown = alice.present(issued, slot, &envelope);
        sent.push(alice.reply(&to, &shown, &envelope).await.json::<Accepted>().message);
    }
    assert_eq!(bob.verdict(ACK_PATH, &sent[..1]).await.done, sent[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_violation_is_found_by_its_name() {
    let rest = Rest::new(["+41791235001", "+41791235002"]).await;
    let planted = [
        ("update accounts set tokens_issued = 6", "no account has more"),
        ("update accounts set tokens_issued = 4", "every signature for an account"),
        ("update key_counts set count = count + 1 where relay = ''", "the public counters"),
        ("update key_counts set count = count + 1 where relay <> ''", "every signature for an exchange"),
        ("delete from ledger where state = 'exchanged'", "no signature for an exchange"),
        (
            "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 20)
             select randomblob(32), key_id, token_digest, 'attached', x'00', x'00' from ledger, n where state = 'attached'",
            "no ledger row for a token",
        ),
        ("update ledger set state = 'released'", "conservation"),
        (
            "update ledger set mailbox = null, envelope_digest = null, state = 'exchanging', blinded_digest = x'00',
             new_key_id = key_id",
            "no message was queued",
        ),
        ("update mailboxes set queued_messages = 7", "the quota counters"),
    ];
    let others = about_replies().into_iter().chain(about_prekeys()).chain(about_lookups()).chain(about_rollout());
    let planted: Vec<_> = planted.into_iter().chain(others).collect();
    for (sql, name) in planted.iter().copied() {
        let found = rest.broken_by(sql);
        assert!(found.iter().any(|broken| broken.starts_with(name)), "{name}: {sql}: found only {found:?}");
    }
    for (name, _) in invariants::queries() {
        let mut names = planted.iter().map(|plant| plant.1);
        assert!(names.any(|planted| name.starts_with(planted)), "no violation of {name} is planted");
    }
}

/// Violations of what is said about messages that were taken without a token.
fn about_rollout() -> [(&'static str, &'static str); 4] {
    let name = "every message that was taken without a token";
    [
        ("insert into unenforced select mailbox, randomblob(32), 0 from mailboxes", name),
        (
            "insert into unenforced_counts values ('token-required', 0, 1000);
             insert into unenforced select mailbox, message, 0 from messages where presentation is not null",
            name,
        ),
        (
            "insert into unenforced_counts values ('token-required', 0, 1000);
             insert into unenforced select mailbox, nullifier, 0 from ledger where mailbox is not null",
            name,
        ),
        (
            "insert into unenforced_counts values ('token-required', 0, 1000);
             insert into unenforced values (randomblob(32), randomblob(32), 0)",
            name,
        ),
    ]
}

/// Violations of what is said about look-ups.
fn about_lookups() -> [(&'static str, &'static str); 6] {
    let (spent, counted, gaps, logged) =
        ("no look-up without", "look-up tokens are counted", "the log has no gaps", "every manifest that was shown");
    [
        (
            "insert into lookup_spent select randomblob(32), time_window, request_digest, oprf_epoch from lookup_spent",
            spent,
        ),
        ("update lookup_issuances set count = count - 2", spent),
        ("update lookup_allowance set issued = issued - 1", counted),
        ("delete from key_log where place = 0", gaps),
        ("delete from key_log where place = (select max(place) from key_log)", logged),
        ("update directory_builds set manifest = randomblob(200)", logged),
    ]
}

/// Violations of what is said about messages, by whichever right they came in.
fn about_replies() -> [(&'static str, &'static str); 19] {
    let (cold, reply, slots) = ("every queued cold message", "every queued reply", "no two slots");
    let (ledger, open, quota, place) =
        ("no reply has a ledger row", "rows about replies", "the quota counters", "every place in a queue");
    [
        ("update messages set mailbox = randomblob(32) where presentation is null", cold),
        ("delete from ledger where state = 'attached'", cold),
        ("update messages set presentation = null, reply_epoch = null, reply_key_version = null", cold),
        ("update messages set mailbox = randomblob(32) where presentation is not null", reply),
        ("delete from reply_nullifiers", reply),
        ("delete from reply_nullifiers; delete from reply_fence", reply),
        ("update reply_nullifiers set epoch = epoch + 1", reply),
        ("update reply_nullifiers set nullifier = randomblob(8)", reply),
        ("update reply_nullifiers set message = randomblob(32)", reply),
        (
            "update messages set presentation = randomblob(160), reply_epoch = 1, reply_key_version = 1
             where presentation is null",
            reply,
        ),
        (
            "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
             select m.message, l.key_id, l.token_digest, l.state, m.mailbox, l.envelope_digest from messages m, ledger l
             where m.presentation is not null and l.state = 'attached'",
            ledger,
        ),
        (
            "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
             select n.message, l.key_id, l.token_digest, l.state, n.mailbox, l.envelope_digest
             from reply_nullifiers n, ledger l
             where l.state = 'attached' and not exists (select 1 from messages m where m.message = n.message)",
            ledger,
        ),
        (
            "insert into reply_nullifiers (mailbox, epoch, nullifier, request_digest, message)
             select mailbox, epoch, randomblob(8), request_digest, message from reply_nullifiers limit 1",
            slots,
        ),
        ("update reply_keys set mailbox = randomblob(32)", open),
        ("update reply_nullifiers set mailbox = randomblob(32)", open),
        ("update reply_strikes set mailbox = randomblob(32)", open),
        ("update reply_reveals set mailbox = randomblob(32)", open),
        ("delete from messages where presentation is not null", quota),
        ("update mailboxes set arrivals = arrivals - 1 where queued_messages > 0", place),
    ]
}

/// Violations of what is said about prekeys.
fn about_prekeys() -> [(&'static str, &'static str); 8] {
    let (twice, batch, open) = ("no prekey is there twice", "no prekey is of a later batch", "prekeys are of open");
    [
        ("update prekey_claims set sealed = (select sealed from prekey_claims limit 1)", twice),
        ("update prekeys set sealed = (select sealed from prekey_claims limit 1)", twice),
        ("insert into prekeys (mailbox, batch, position, sealed) select mailbox, batch, 0, sealed from prekeys", twice),
        ("update prekeys set batch = batch + 1", batch),
        ("delete from prekey_supplies", batch),
        ("update prekey_supplies set mailbox = randomblob(32)", open),
        ("update prekeys set mailbox = randomblob(32)", open),
        ("update prekey_claims set mailbox = randomblob(32)", open),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_behind_the_fence_needs_its_nullifier_no_more_and_one_before_it_does() {
    let rest = Rest::new(["+41791235003", "+41791235004"]).await;
    let dropped = |epoch: &str| {
        format!("update reply_fence set epoch = (select {epoch} from messages); delete from reply_nullifiers")
    };
    assert_eq!(rest.broken_by(&dropped("max(reply_epoch)")), Vec::<String>::new());
    let found = rest.broken_by(&dropped("max(reply_epoch) - 1"));
    assert!(found.len() == 1 && found[0].starts_with("every queued reply"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_taken_twice_is_found() {
    let rest = Rest::new(["+41791235005", "+41791235006"]).await;
    let found = rest.broken_by("update messages set position = 1");
    assert!(found.len() == 1 && found[0].starts_with("every place in a queue"), "{found:?}");
}
