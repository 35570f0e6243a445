//! Group secrets: declared by their owner, rotated, sealed, and gone with the mailbox.

use postern_credentials::reply_credential::GroupSecret;
use postern_protocol::ids::{GroupSecretBytes, MailboxId};
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::{REPLY_KEYS_PATH, REVEALS_PATH, ReplyKey, ReplyPolicy, STRIKES_PATH};
use postern_relay::app::StartError;
use postern_relay::config::{Config, ConfigError};
use postern_test_database::Value;

use crate::contacts::{Contact, EPOCH, For, Owner, reply_key, revealed};
use crate::world::{Reply, World, envelope, random, rng};

/// What the relay says to a reply under this version: `None` for yes.
async fn refused(world: &World, owner: &Owner, version: u32, group: &GroupSecret) -> Option<ProblemKind> {
    let (envelope, contact) = (envelope(), Contact::new());
    let shown = contact.present(group, For { version, ..owner.at(EPOCH) }, 0, &envelope);
    let reply = owner.send(world, &shown, &envelope).await;
    if reply.status == 201 { None } else { Some(reply.refusal()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rotation_both_versions_are_accepted_and_then_the_new_one_alone() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let (first, second) = (&bob.group, &GroupSecret::generate(&mut rng()));
    let invalid = Some(ProblemKind::ReplyInvalid);
    assert_eq!(refused(&world, &bob, 1, first).await, None);
    assert_eq!(refused(&world, &bob, 2, second).await, invalid);

    bob.declare(&world, &[reply_key(1, first), reply_key(2, second)]).await.done();
    assert_eq!(refused(&world, &bob, 1, first).await, None);
    assert_eq!(refused(&world, &bob, 2, second).await, None);
    assert_eq!(refused(&world, &bob, 1, second).await, invalid);
    assert_eq!(refused(&world, &bob, 2, first).await, invalid);

    bob.declare(&world, &[reply_key(2, second)]).await.done();
    assert_eq!(refused(&world, &bob, 1, first).await, invalid);
    assert_eq!(refused(&world, &bob, 2, second).await, None);
    bob.declare(&world, &[]).await.done();
    assert_eq!(refused(&world, &bob, 2, second).await, invalid, "nobody may reply");
    assert_eq!(world.count("select count(*) from reply_keys"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_never_changes_its_secret_and_a_conflict_changes_nothing() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let other = GroupSecret::generate(&mut rng());
    for keys in [
        vec![reply_key(1, &other)],
        vec![reply_key(2, &other), reply_key(1, &other)],
        vec![reply_key(1, &other), reply_key(2, &bob.group)],
    ] {
        assert_eq!(bob.declare(&world, &keys).await.refusal(), ProblemKind::ReplyKeyConflict);
        assert_eq!(refused(&world, &bob, 1, &bob.group).await, None);
        assert_eq!(world.count("select count(*) from reply_keys"), 1);
    }
    let rows = "select count(*) from reply_keys where key_version = 1 and length(sealed) = 74";
    bob.declare(&world, &[reply_key(1, &bob.group)]).await.done();
    assert_eq!(world.count(rows), 1, "the same again is harmless");
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_that_make_no_sense_are_refused_whole() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let (a, b) = (GroupSecret::generate(&mut rng()), GroupSecret::generate(&mut rng()));
    let other_version = ReplyKey { key_version: 3, secret: GroupSecretBytes::new([2; 33]) };
    for keys in [
        vec![reply_key(1, &bob.group), reply_key(2, &a), reply_key(3, &b)],
        vec![reply_key(2, &a), reply_key(2, &b)],
        vec![reply_key(2, &a), reply_key(2, &a)],
        vec![reply_key(2, &a), other_version],
    ] {
        assert_eq!(bob.declare(&world, &keys).await.refusal(), ProblemKind::BadRequest);
    }
    assert_eq!(world.count("select sum(key_version) from reply_keys"), 1);
    bob.declare(&world, &[reply_key(0, &a), reply_key(u32::MAX, &b)]).await.done();
    assert_eq!(refused(&world, &bob, u32::MAX, &b).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_its_version_is_gone_is_refused_and_delivers_nothing() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
    bob.declare(&world, &[]).await.done();
    assert_eq!(bob.send(&world, &shown, &envelope).await.refusal(), ProblemKind::ReplyInvalid);
    bob.declare(&world, &[reply_key(1, &bob.group)]).await.done();
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
    assert_eq!(bob.inbox(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_opens_in_its_own_row_alone() {
    let world = World::start().await;
    let (bob, carol) = (Owner::new(&world).await, Owner::new(&world).await);
    let [bobs, carols] = [&bob, &carol].map(|owner| Value::Blob(owner.mailbox.id.0.to_vec()));
    let swap = "update reply_keys set sealed = (select sealed from reply_keys where mailbox = $1) where mailbox = $2";
    world.database.execute(swap, &[carols.clone(), bobs]);
    assert_eq!(refused(&world, &bob, 1, &carol.group).await, Some(ProblemKind::Internal));
    world.database.execute("update reply_keys set key_version = 2 where mailbox = $1", &[carols]);
    assert_eq!(refused(&world, &carol, 2, &carol.group).await, Some(ProblemKind::Internal));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_mailbox_leaves_nothing_of_its_group_and_takes_nothing_more() {
    let world = World::start().await;
    let (bob, carol, mallory) = (Owner::new(&world).await, Owner::new(&world).await, Contact::new());
    for owner in [&bob, &carol] {
        owner.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
        assert_eq!(refused(&world, owner, 1, &owner.group).await, None);
    }
    let tables = ["reply_keys", "reply_nullifiers", "reply_strikes", "reply_reveals", "messages"];
    let of = |mailbox: MailboxId| {
        let id = hex::encode(mailbox.0);
        tables.map(|table| world.count(&format!("select count(*) from {table} where mailbox = x'{id}'")))
    };
    assert_eq!(of(bob.mailbox.id), [1, 1, 32, 1, 1]);
    let newer = MailboxId(random());
    let mut claims = world.claims(&newer, Purpose::Grant);
    claims.replaces = Some(bob.mailbox.id);
    assert_eq!(world.open(&claims).await.status, 201);
    assert_eq!(of(bob.mailbox.id), [0; 5]);
    assert_eq!(of(carol.mailbox.id), [1, 1, 32, 1, 1]);

    let unknown = ProblemKind::MailboxUnknown;
    assert_eq!(bob.declare(&world, &[reply_key(1, &bob.group)]).await.refusal(), unknown);
    assert_eq!(bob.strikes(&world, &[mallory.nullifiers(bob.at(EPOCH), &[])], &[]).await.refusal(), unknown);
    assert_eq!(bob.reveal(&world, &revealed(&mallory, EPOCH)).await.refusal(), unknown);
    assert_eq!(refused(&world, &bob, 1, &bob.group).await, Some(unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_reads_a_mailbox_says_who_may_write_to_it() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let grant = World::jwt(&world.claims(&bob.mailbox.id, Purpose::Grant));
    for path in [REPLY_KEYS_PATH, STRIKES_PATH, REVEALS_PATH] {
        for authorization in [None, Some(format!("Bearer {grant}")), Some("Bearer x".to_owned())] {
            let request =
                if path == REPLY_KEYS_PATH { world.http.put(world.at(path)) } else { world.http.post(world.at(path)) };
            let request = request.header("content-type", "application/json").body("{}");
            let request = authorization.into_iter().fold(request, |r, value| r.header("authorization", value));
            assert_eq!(Reply::to(request).await.refusal(), ProblemKind::Unauthorized, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_told_to_count_epochs_otherwise_does_not_start() {
    let world = World::start().await;
    let policy = world.config.replies;
    let other = [
        ReplyPolicy { epoch_seconds: 1800, ..policy },
        ReplyPolicy { period_seconds: 2 * policy.period_seconds, ..policy },
    ];
    for replies in other {
        let opened = World::open_app(&Config { replies, ..world.config.clone() }, &world.clock).await;
        assert!(matches!(opened.map(drop), Err(StartError::Config(ConfigError::Invalid(_)))), "{replies:?}");
    }
    // The grace has no part in names.
    let replies = ReplyPolicy { grace_seconds: 60, ..policy };
    assert!(World::open_app(&Config { replies, ..world.config.clone() }, &world.clock).await.is_ok());
}
