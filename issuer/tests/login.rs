//! Login (K1–K18): single use, bounded guessing, and the same for numbers without an account.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::login_chain::ClientLogin;
use postern_protocol::ids::Mac;
use postern_protocol::login::{CHALLENGE_PATH, LOGIN_PATH, LoginRequest, LoginResponse};
use postern_protocol::problem::ProblemKind;
use world::{ISSUER, Person, Reply, World, send};

/// What a stranger on the wire can tell two answers apart by.
fn appearance(reply: &Reply) -> (u16, BTreeSet<String>, Vec<u8>) {
    let names = reply.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    (reply.status, names.collect(), reply.body.clone())
}

#[tokio::test]
async fn the_right_password_opens_a_session_and_both_sides_have_its_key() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    assert_eq!(session.expires, world.now().seconds() + 90 * 86_400);
    let reply = session.call(&world, "GET", postern_protocol::login::ACCOUNT_PATH, Vec::new()).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_number_without_an_account_looks_the_same_at_every_step() {
    let world = World::new().await;
    let (alice, nobody) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;

    let mut known = Vec::new();
    for person in [&alice, &nobody] {
        let reply = world.post(CHALLENGE_PATH, &person.challenge_request(&world)).await;
        let json: serde_json::Value = reply.json();
        let fields: Vec<_> =
            json.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_str().map(str::len))).collect();
        let (status, headers, body) = appearance(&reply);
        known.push((status, headers, body.len(), fields));
    }
    assert_eq!(known[0], known[1]);

    let (_, first) = nobody.challenge(&world).await;
    let (_, second) = nobody.challenge(&world).await;
    assert_eq!(first.salt, second.salt, "a stranger's salt does not change either");

    // Wrong passwords: the same refusal, until both are locked out by the same count.
    for n in 0..12 {
        let proof = alice.proof(&world, "wrong").await;
        let refused = world.post(LOGIN_PATH, &proof).await;
        let proof = nobody.proof(&world, "wrong").await;
        let stranger = world.post(LOGIN_PATH, &proof).await;
        assert_eq!(appearance(&refused), appearance(&stranger));
        let expected = if n < 10 { ProblemKind::LoginRefused } else { ProblemKind::RateLimited };
        assert_eq!(refused.problem(), expected, "{n}");
    }
    assert_eq!(world.query("select count(*) from sessions"), 0);
}

#[tokio::test]
async fn after_ten_wrong_guesses_the_right_password_waits_for_the_window_to_end() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;
    bob.register(&world, 0).await;
    for _ in 0..10 {
        let proof = alice.proof(&world, "wrong").await;
        assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
    }
    let proof = alice.proof(&world, &alice.password).await;
    let reply = world.post(LOGIN_PATH, &proof).await;
    assert_eq!(reply.problem(), ProblemKind::RateLimited);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    bob.login(&world).await;
    world.clock.advance_seconds(wait);
    alice.login(&world).await;
}

#[tokio::test]
async fn a_right_password_does_not_count_as_a_guess() {
    let world = World::with(|limits| limits.login_guesses_per_user = 1).await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    for _ in 0..3 {
        alice.login(&world).await;
    }
}

#[tokio::test]
async fn guessing_is_bounded_for_all_users_together() {
    let world = World::with(|limits| limits.login_guesses_per_minute = 3).await;
    for n in 0..4 {
        let person = Person::new(&world, n);
        let proof = person.proof(&world, "wrong").await;
        let expected = if n < 3 { ProblemKind::LoginRefused } else { ProblemKind::RateLimited };
        assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), expected);
    }
    world.clock.advance_seconds(60);
    let proof = Person::new(&world, 9).proof(&world, "wrong").await;
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_proof_sent_64_times_in_parallel_opens_one_session() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let proof = serde_json::to_vec(&alice.proof(&world, &alice.password).await).unwrap();
    let second = world.second_process().await;
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let issuer = Arc::clone(if i % 2 == 0 { &world.issuer } else { &second });
            let request = Request::post(LOGIN_PATH).header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(proof.clone())).unwrap();
            tokio::spawn(async move { send(&issuer, request).await })
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        let reply = task.await.unwrap();
        if reply.status == 200 {
            opened += 1;
        } else {
            assert_eq!(reply.problem(), ProblemKind::LoginRefused);
        }
    }
    assert_eq!(opened, 1);
    assert_eq!(world.query("select count(*) from sessions"), 1);
    alice.login(&world).await;
}

#[tokio::test]
async fn a_nonce_that_is_used_stale_changed_or_another_users_is_refused() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;
    bob.register(&world, 0).await;
    let refused = async |request: &LoginRequest| {
        assert_eq!(world.post(LOGIN_PATH, request).await.problem(), ProblemKind::LoginRefused);
    };

    let proof = alice.proof(&world, &alice.password).await;
    assert_eq!(world.post(LOGIN_PATH, &proof).await.status, 200);
    refused(&proof).await;

    let wrong_first = alice.proof(&world, &alice.password).await;
    refused(&LoginRequest { proof: Mac([1; 32]), ..wrong_first.clone() }).await;
    refused(&wrong_first).await; // The wrong try used the nonce up.

    let stale = alice.proof(&world, &alice.password).await;
    world.clock.advance_seconds(121);
    refused(&stale).await;

    let fresh = alice.proof(&world, &alice.password).await;
    refused(&LoginRequest { user: bob.phone.clone(), ..fresh.clone() }).await;
    let mut changed = fresh.clone();
    changed.nonce.0[40] ^= 1;
    refused(&changed).await;
    changed.nonce.0.clear();
    refused(&changed).await;
    refused(&LoginRequest { label: "another label".into(), ..fresh.clone() }).await;
}

#[tokio::test]
async fn a_challenge_costs_no_write() {
    let world = World::new().await;
    let watch = world.database.watch();
    let version = || watch.version();
    let before = version();
    for n in 0..5 {
        Person::new(&world, n).challenge(&world).await;
    }
    assert_eq!(version(), before);
    let proof = Person::new(&world, 1).proof(&world, "wrong").await;
    world.post(LOGIN_PATH, &proof).await;
    assert_ne!(version(), before, "a guess is counted");
}

#[tokio::test]
async fn a_password_of_before_registering_again_opens_nothing() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let proof = alice.proof(&world, &alice.password).await;
    let again = Person { password: "new".into(), ..Person::new(&world, 1) };
    again.register(&world, 0).await;
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
    again.login(&world).await;
}

#[tokio::test]
async fn a_number_that_registers_again_while_its_old_password_is_checked_gets_no_session_for_it() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let proof = alice.proof(&world, &alice.password).await;
    // Plays another process that registers the number between the proof and the session.
    world.database.plant_before_insert("sessions", "update accounts set registered = registered + 1");
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
    assert_eq!(world.query("select count(*) from sessions"), 0);
}

#[tokio::test]
async fn a_label_is_up_to_64_bytes_of_printable_text() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let public_key = world.info().await.public_key;
    for (label, good) in [("é".repeat(32), true), (String::new(), true), ("two\nlines".into(), false)] {
        let (login, challenge) = alice.challenge(&world).await;
        let (request, _) = login.answer(ISSUER, &public_key, &alice.password, &challenge, &label).unwrap();
        let reply = world.post(LOGIN_PATH, &request).await;
        assert_eq!(reply.status == 200, good, "{label}");
    }
    let long = LoginRequest { label: "x".repeat(65), ..alice.proof(&world, &alice.password).await };
    assert_eq!(world.post(LOGIN_PATH, &long).await.problem(), ProblemKind::BadRequest);
}

#[tokio::test]
async fn an_account_keeps_its_most_recently_used_sessions_up_to_the_limit() {
    let world = World::with(|limits| limits.sessions_per_account = 2).await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(alice.login(&world).await);
        world.clock.advance_seconds(1);
    }
    let (request, _) = sessions[0].sign("GET", postern_protocol::login::SESSIONS_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);
    sessions[1].call(&world, "GET", postern_protocol::login::SESSIONS_PATH, Vec::new()).await;
    assert_eq!(world.query("select count(*) from sessions"), 2);
}

#[tokio::test]
async fn the_server_proves_itself_to_the_client_that_asked() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let (request, login) = ClientLogin::begin(&mut world.rng(), alice.phone.clone());
    let challenge = world.post(CHALLENGE_PATH, &request).await.json();
    let public_key = world.info().await.public_key;
    let (proof, pending) = login.answer(ISSUER, &public_key, &alice.password, &challenge, "x").unwrap();
    let mut response: LoginResponse = world.post(LOGIN_PATH, &proof).await.json();
    response.session.0[0] ^= 1;
    assert!(pending.finish(&response).is_err());
}
