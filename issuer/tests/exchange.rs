//! Calls of relays: who may call, what is signed, how often, and under which key.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use postern_credentials::identity::IdentityKey;
use postern_issuer::service::{housekeeping, keys};
use postern_protocol::ids::{RsaElement, TokenKeyId};
use postern_protocol::internal::{KEYS_PATH, Keys, KeysRequest, SIGN_PATH, SignRequest, SignResponse};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{COUNTERS_PATH, Counters};
use postern_protocol::tokens::KeyState;
use world::people::finish;
use world::{OTHER_RELAY, Person, RELAY, World};

fn ask(token_key_id: TokenKeyId, blinded: RsaElement) -> SignRequest {
    SignRequest { token_key_id, blinded }
}

#[tokio::test]
async fn an_exchange_is_signed_once_per_blinded_message_and_every_answer_is_signed() {
    let world = World::new().await;
    let key = world.active_key().await;
    let blinded = Person::new(&world, 1).blind(&world, &key, 1);
    let request = ask(key.key_id(), blinded[0].message);
    let (reply, signed) = world.relay_call(SIGN_PATH, &request).await;
    assert!(signed);
    let first: SignResponse = reply.json();
    finish(&key, &blinded, &[first.blind_signature]);
    let (reply, _) = world.relay_call(SIGN_PATH, &request).await;
    assert_eq!(reply.json::<SignResponse>(), first);
    let counters: Counters = world.get(COUNTERS_PATH).await.json();
    assert_eq!(
        counters.keys[0].exchanged.iter().map(|c| (c.relay.as_str(), c.count)).collect::<Vec<_>>(),
        [(RELAY, 1)]
    );
    assert_eq!(counters.keys[0].issued, 0);

    for bad in [ask(TokenKeyId([0; 32]), blinded[0].message), ask(key.key_id(), RsaElement([0xff; 256]))] {
        let (reply, signed) = world.relay_call(SIGN_PATH, &bad).await;
        assert!(signed && reply.status >= 400, "{reply:?}");
    }
}

#[tokio::test]
async fn a_stranger_another_relay_and_an_old_call_get_nothing() {
    let world = World::new().await;
    let key = world.active_key().await;
    let request = ask(key.key_id(), Person::new(&world, 1).blind(&world, &key, 1)[0].message);
    let stranger = IdentityKey::generate(&mut world.rng());
    for (name, key) in [(RELAY, &stranger), (OTHER_RELAY, &world.relay_key), ("unknown", &world.relay_key)] {
        let (reply, signed) = world.relay_call_as(name, key, SIGN_PATH, &request).await;
        assert_eq!(reply.problem(), ProblemKind::Unauthorized);
        assert_eq!(reply.header("www-authenticate"), Some("PosternRelay"));
        assert!(!signed, "nothing is signed for a stranger");
    }
    assert_eq!(world.post(SIGN_PATH, &request).await.problem(), ProblemKind::Unauthorized);
    assert_eq!(world.query("select count(*) from relay_exchanges"), 0);
}

#[tokio::test]
async fn a_relay_that_is_cut_off_is_told_so_under_signature() {
    let world = World::new().await.restart(|config| config.relays[0].enabled = false).await;
    let (reply, signed) = world.relay_call(KEYS_PATH, &KeysRequest {}).await;
    assert_eq!(reply.problem(), ProblemKind::Unauthorized);
    assert!(signed);
    let key = world.active_key().await;
    let request = ask(key.key_id(), Person::new(&world, 1).blind(&world, &key, 1)[0].message);
    assert_eq!(world.relay_call(SIGN_PATH, &request).await.0.problem(), ProblemKind::Unauthorized);
    let (reply, _) = world.relay_call_as(OTHER_RELAY, &world.other_relay_key, KEYS_PATH, &KeysRequest {}).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_relay_gets_a_bounded_number_of_exchanges_per_key_that_grows_with_the_tokens_issued() {
    let world = World::with(|limits| {
        limits.exchange_base = 1;
        limits.exchange_multiple = 2;
    })
    .await;
    let key = world.active_key().await;
    let alice = Person::new(&world, 1);
    let blinded: Vec<_> = alice.blind(&world, &key, 5).iter().map(|token| token.message).collect();
    let sign = async |n: usize| world.relay_call(SIGN_PATH, &ask(key.key_id(), blinded[n])).await;
    assert_eq!(sign(0).await.0.status, 200);
    let (reply, signed) = sign(1).await;
    assert_eq!(reply.problem(), ProblemKind::ExchangeBudget);
    assert!(signed && reply.header("retry-after").is_some());
    assert_eq!(sign(0).await.0.status, 200, "what was signed is answered again");
    // Another relay has a budget of its own.
    let other = ask(key.key_id(), blinded[2]);
    let (reply, _) = world.relay_call_as(OTHER_RELAY, &world.other_relay_key, SIGN_PATH, &other).await;
    assert_eq!(reply.status, 200);

    alice.register(&world, 1).await;
    assert_eq!(sign(1).await.0.status, 200);
    assert_eq!(sign(3).await.0.status, 200);
    assert_eq!(sign(4).await.0.problem(), ProblemKind::ExchangeBudget);
    // A new key is a new epoch.
    keys::rotate(&world.issuer, 86_400).await.unwrap();
    let next = world.active_key().await;
    let fresh = alice.blind(&world, &next, 1)[0].message;
    assert_eq!(world.relay_call(SIGN_PATH, &ask(next.key_id(), fresh)).await.0.status, 200);
}

#[tokio::test]
async fn after_a_rotation_the_old_key_answers_what_it_signed_and_signs_nothing_new() {
    let world = World::new().await;
    let old = world.active_key().await;
    let blinded = Person::new(&world, 1).blind(&world, &old, 2);
    let (before, never) = (ask(old.key_id(), blinded[0].message), ask(old.key_id(), blinded[1].message));
    let first: SignResponse = world.relay_call(SIGN_PATH, &before).await.0.json();
    keys::rotate(&world.issuer, 1000).await.unwrap();

    let (reply, signed) = world.relay_call(KEYS_PATH, &KeysRequest {}).await;
    assert!(signed);
    let listed: Keys = reply.json();
    assert_eq!(
        listed.token_keys.iter().map(|key| key.state).collect::<Vec<_>>(),
        [Some(KeyState::Active), Some(KeyState::Retiring)]
    );
    assert_eq!(listed.token_keys[1].not_after, Some(world.now().seconds() + 1000));
    assert_eq!(listed.token_keys[1].token_key.0, old.spki());
    assert_eq!(world.directory().await.token_keys, listed.token_keys);

    assert_eq!(world.relay_call(SIGN_PATH, &before).await.0.json::<SignResponse>(), first);
    for _ in 0..2 {
        let (reply, signed) = world.relay_call(SIGN_PATH, &never).await;
        assert_eq!(reply.problem(), ProblemKind::KeyNotActive);
        assert!(signed, "final, so it must be the issuer who says so");
    }
}

#[tokio::test]
async fn a_retired_key_vanishes_at_once_is_erased_soon_and_its_counters_stay() {
    let world = World::new().await;
    let old = world.active_key().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 5).await;
    let request = ask(old.key_id(), alice.blind(&world, &old, 1)[0].message);
    world.relay_call(SIGN_PATH, &request).await;
    keys::rotate(&world.issuer, 1000).await.unwrap();

    world.clock.advance_seconds(1000);
    assert_eq!(world.directory().await.token_keys.len(), 1, "not listed any more, before anything was erased");
    assert_eq!(world.query("select count(*) from token_keys"), 2);
    housekeeping::once(&world.issuer).await.unwrap();
    for table in ["issuances", "relay_exchanges"] {
        assert_eq!(world.query(&format!("select count(*) from {table}")), 0, "{table}");
    }
    assert_eq!(world.query("select count(*) from token_keys"), 1);
    assert_eq!(world.relay_call(SIGN_PATH, &request).await.0.problem(), ProblemKind::KeyNotActive);
    assert_eq!(world.issued(old.key_id()).await, 5);
    // The account has had its five, whatever became of the key.
    assert_eq!(world.query("select tokens_issued from accounts"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keys_rotate_no_refusal_that_is_final_is_ever_taken_back() {
    let world = Arc::new(World::with(|limits| limits.exchange_base = 1000).await);
    let rotating = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for _ in 0..4 {
                keys::rotate(&world.issuer, 86_400).await.unwrap();
            }
        })
    };
    let alice = Person::new(&world, 1);
    let mut refused = Vec::new();
    let mut signed = 0;
    while !rotating.is_finished() || signed == 0 {
        let key = world.active_key().await;
        let requests: Vec<_> =
            alice.blind(&world, &key, 4).iter().map(|token| ask(key.key_id(), token.message)).collect();
        for request in requests {
            let (reply, _) = world.relay_call(SIGN_PATH, &request).await;
            if reply.status == 200 {
                signed += 1;
            } else {
                assert_eq!(reply.problem(), ProblemKind::KeyNotActive);
                refused.push(request);
            }
        }
    }
    rotating.await.unwrap();
    for request in &refused {
        let (reply, _) = world.relay_call(SIGN_PATH, request).await;
        assert_eq!(reply.problem(), ProblemKind::KeyNotActive);
    }
    assert_eq!(world.query("select count(*) from relay_exchanges"), signed);
    assert_eq!(world.query("select sum(count) from key_counts"), signed);
    assert_eq!(world.query("select count(*) from token_keys where state = 'active'"), 1);
    let mut last_bytes: Vec<u8> = world
        .directory()
        .await
        .token_keys
        .iter()
        .map(|key| {
            let key = postern_credentials::blind_token::VerifyingKey::from_spki(&key.token_key.0).unwrap();
            key.truncated_key_id()
        })
        .collect();
    last_bytes.sort_unstable();
    last_bytes.dedup();
    assert_eq!(last_bytes.len(), 5, "live keys differ in their truncated ids");
}
