//! Replies: for a contact's credential in place of a token, once per slot and epoch.

use postern_credentials::reply_credential::GroupSecret;
use postern_protocol::ids::{Base64, MailboxId};
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::send::{Accepted, Admission, RELAY_INFO_PATH, RelayInfo};
use postern_test_database::{Engine, TestDatabase, Value};

use crate::contacts::{Contact, EPOCH, Owner, reply_key};
use crate::world::{Mailbox, Reply, START, World, envelope, random, rng};

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_writes_without_a_token_and_the_owner_gets_what_it_traces_by() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let reply = bob.send(&world, &shown, &envelope).await;
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    world.sent(&bob.mailbox.id).await;

    let inbox = world.inbox(&bob.mailbox).await.messages;
    assert_eq!(inbox.len(), 2);
    assert_eq!(inbox[0].message, reply.json::<Accepted>().message);
    assert!(inbox[0].envelope.0 == envelope);
    let presentation = Base64(shown.presentation.to_vec());
    assert_eq!(inbox[0].admission, Admission::Reply { key_version: 1, epoch: EPOCH, presentation });
    assert_eq!(inbox[1].admission, Admission::Token);
    assert_eq!(world.count("select count(*) from ledger"), 1, "the cold send's alone");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_says_how_it_counts_time() {
    let mut world = World::start().await;
    let info: RelayInfo = Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.json();
    assert_eq!(info.replies, ReplyPolicy::default());

    // And counts as it says: hours of the default are nothing among minutes.
    let other = TestDatabase::of_this_run(world.dir.path().join("other.db"));
    world.config.database = other.url();
    world.config.replies = ReplyPolicy { epoch_seconds: 60, period_seconds: 600, grace_seconds: 10 };
    world.restart().await;
    world.app.refresh_keys().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let info: RelayInfo = Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.json();
    assert_eq!(info.replies, world.config.replies);
    assert_eq!(bob.send(&world, &shown, &envelope).await.refusal(), ProblemKind::ReplyEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_replies_keeps_its_messages_and_takes_replies() {
    let mailbox = MailboxId(random());
    let world = World::start_on(
        |_| {},
        |database| {
            let (schema, integer) = match database.engine() {
                Engine::Sqlite => (include_str!("../../../migrations/relay/sqlite/0001_initial.sql"), "INTEGER"),
                Engine::Postgres => (include_str!("../../../migrations/relay/postgres/0001_initial.sql"), "BIGINT"),
            };
            database.script(schema);
            database.script(&format!(
                "create table schema_history (version {integer} not null primary key, name TEXT not null);
                 insert into schema_history values (1, 'initial')"
            ));
            let (name, envelope) = (Value::Blob(mailbox.0.to_vec()), Value::Blob(vec![0; 4096]));
            database.execute("insert into mailboxes values ($1, 1, 4096, 1)", std::slice::from_ref(&name));
            let message = "insert into messages values ($1, $1, 1, 1800000000, 4096, $2)";
            database.execute(message, &[name, envelope]);
        },
    )
    .await;
    let jwt = World::jwt(&world.claims(&mailbox, Purpose::Mailbox));
    let bob = Owner { mailbox: Mailbox { id: mailbox, jwt }, group: GroupSecret::generate(&mut rng()) };
    bob.declare(&world, &[reply_key(1, &bob.group)]).await.done();
    let (alice, envelope) = (Contact::new(), envelope());
    assert_eq!(bob.send(&world, &bob.shown(&alice, EPOCH, 0, &envelope), &envelope).await.status, 201);
    let admissions: Vec<_> =
        world.inbox(&bob.mailbox).await.messages.into_iter().map(|queued| queued.admission).collect();
    assert!(matches!(admissions[..], [Admission::Token, Admission::Reply { .. }]), "{admissions:?}");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_has_sixteen_replies_an_epoch_and_sixteen_more_in_the_next() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    for epoch in [EPOCH, EPOCH + 1] {
        for slot in 0..16 {
            let envelope = envelope();
            let shown = bob.shown(&alice, epoch, slot, &envelope);
            assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201, "{slot}");
        }
        // There is no seventeenth credential; every slot shown again is refused.
        for slot in 0..16 {
            let envelope = envelope();
            let shown = bob.shown(&alice, epoch, slot, &envelope);
            assert_eq!(bob.send(&world, &shown, &envelope).await.refusal(), ProblemKind::ReplyUsed, "{slot}");
        }
        world.clock.advance_seconds(3600);
    }
    assert_eq!(world.count("select count(*) from messages"), 32);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identical_reply_gets_the_identical_answer_even_after_it_was_read_and_acknowledged() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let first = bob.send(&world, &shown, &envelope).await;
    let message = first.json::<Accepted>().message;
    let again = bob.send(&world, &shown, &envelope).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(bob.inbox(&world).await, [message]);

    assert_eq!(world.verdict(&bob.mailbox, ACK_PATH, &[message]).await.done, [message]);
    let after = bob.send(&world, &shown, &envelope).await;
    assert_eq!((after.status, &after.body), (first.status, &first.body));
    assert!(bob.inbox(&world).await.is_empty(), "a retry delivers nothing twice");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_acknowledged_as_often_as_one_likes_and_has_no_token_to_judge() {
    let world = World::start().await;
    let (bob, carol, alice) = (Owner::new(&world).await, Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let message = bob.send(&world, &shown, &envelope).await.json::<Accepted>().message;
    for path in [RELEASE_PATH, DECLINE_PATH, SPAM_PATH] {
        assert_eq!(world.verdict(&bob.mailbox, path, &[message]).await.refused, [message], "{path}");
    }
    assert_eq!(world.verdict(&carol.mailbox, ACK_PATH, &[message]).await.refused, [message]);
    assert_eq!(bob.inbox(&world).await, [message]);
    for _ in 0..2 {
        assert_eq!(world.verdict(&bob.mailbox, ACK_PATH, &[message]).await.done, [message]);
    }
    assert_eq!(world.verdict(&carol.mailbox, ACK_PATH, &[message]).await.refused, [message]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_accepted_from_its_first_second_to_the_last_of_its_grace() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let mut slots = 0..16;
    let mut send = async |epoch| {
        let envelope = envelope();
        let shown = bob.shown(&alice, epoch, slots.next().unwrap(), &envelope);
        bob.send(&world, &shown, &envelope).await
    };
    // The world begins with the epoch; the one before is in its grace.
    assert_eq!(send(EPOCH).await.status, 201);
    assert_eq!(send(EPOCH - 1).await.status, 201);
    let early = send(EPOCH + 1).await;
    assert_eq!(early.refusal(), ProblemKind::ReplyEpoch);
    assert_eq!(early.headers["retry-after"], "3600");
    let past = send(EPOCH - 2).await;
    assert_eq!(past.refusal(), ProblemKind::ReplyEpoch);
    assert!(!past.headers.contains_key("retry-after"), "the past does not come again");

    world.clock.advance_seconds(599);
    assert_eq!(send(EPOCH - 1).await.status, 201);
    world.clock.advance_seconds(1);
    assert_eq!(send(EPOCH - 1).await.refusal(), ProblemKind::ReplyEpoch);

    world.clock.advance_seconds(3599 - 600);
    assert_eq!(send(EPOCH + 1).await.headers["retry-after"], "1");
    world.clock.advance_seconds(1);
    assert_eq!(world.now(), START + 3600);
    assert_eq!(send(EPOCH + 1).await.status, 201);
    assert_eq!(send(EPOCH).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_a_reply_and_the_slot_stays_good() {
    let world = World::start_with(|limits| {
        limits.quota_messages = 1;
        limits.quota_retry_seconds = 77;
    })
    .await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let (_, first) = world.sent(&bob.mailbox.id).await;
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let full = bob.send(&world, &shown, &envelope).await;
    assert_eq!(full.refusal(), ProblemKind::MailboxFull);
    assert_eq!(full.headers["retry-after"], "77");
    assert_eq!(world.count("select count(*) from reply_nullifiers"), 0);
    world.verdict(&bob.mailbox, ACK_PATH, &[first]).await;
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn past_epochs_are_dropped_and_never_accepted_again_whatever_the_clock_says() {
    let mut world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let unused = bob.shown(&alice, EPOCH, 1, &envelope);
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
    bob.strike(&world, &Contact::new(), EPOCH).await;
    let kept = |world: &World| {
        world.count("select (select count(*) from reply_nullifiers) * 100 + (select count(*) from reply_strikes)")
    };

    world.clock.advance_seconds(3600 + 599);
    world.app.sweep().await.unwrap();
    assert_eq!(kept(&world), 116, "still in its grace");
    world.clock.advance_seconds(1);
    world.app.sweep().await.unwrap();
    assert_eq!(kept(&world), 0);
    assert_eq!(world.count("select count(*) from messages"), 1, "messages stay");
    let next = bob.shown(&alice, EPOCH + 1, 0, &envelope);
    assert_eq!(bob.send(&world, &next, &envelope).await.status, 201, "the same slot, an epoch later");

    world.restart_at(START).await;
    for old in [&shown, &unused] {
        let refused = bob.send(&world, old, &envelope).await;
        assert_eq!(refused.refusal(), ProblemKind::ReplyEpoch);
        assert!(!refused.headers.contains_key("retry-after"));
    }
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select epoch from reply_fence"), i64::from(EPOCH), "the fence never goes back");
    assert_eq!(world.count("select count(*) from messages"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_a_year_ahead_for_a_moment_shuts_out_no_more_than_what_was_used() {
    let mut world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
    world.clock.advance_seconds(365 * 86_400);
    world.app.sweep().await.unwrap();
    world.restart_at(START + 3600).await;
    assert_eq!(
        bob.send(&world, &shown, &envelope).await.refusal(),
        ProblemKind::ReplyEpoch,
        "what it was shown for is forgotten"
    );
    let next = bob.shown(&alice, EPOCH + 1, 0, &envelope);
    assert_eq!(bob.send(&world, &next, &envelope).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_holds_even_before_the_rows_are_dropped() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    // The first step of a sweep, as another process did it.
    world.database.execute("update reply_fence set epoch = $1", &[Value::Integer(EPOCH.into())]);
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &shown, &envelope).await.refusal(), ProblemKind::ReplyEpoch);
    assert_eq!(world.count("select count(*) from reply_nullifiers"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_drops_more_than_one_batch() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    for _ in 0..80 {
        bob.strike(&world, &Contact::new(), EPOCH).await;
    }
    assert_eq!(world.count("select count(*) from reply_strikes"), 1280);
    world.clock.advance_seconds(3600 + 600);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from reply_strikes"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_keys_nullifiers_and_strikes() {
    let mut world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let first = bob.send(&world, &shown, &envelope).await;
    bob.strike(&world, &mallory, EPOCH).await;
    world.restart().await;

    assert_eq!(bob.send(&world, &shown, &envelope).await.body, first.body);
    let other = bob.shown(&alice, EPOCH, 0, &[7; 4096]);
    assert_eq!(bob.send(&world, &other, &[7; 4096]).await.refusal(), ProblemKind::ReplyUsed);
    let fresh = bob.shown(&alice, EPOCH, 1, &envelope);
    assert_eq!(bob.send(&world, &fresh, &envelope).await.status, 201);
    let struck = bob.shown(&mallory, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &struck, &envelope).await.status, 201);
    assert_eq!(bob.inbox(&world).await.len(), 2, "Mallory's is not there");
    world.assert_consistent();
}
