//! Accounts that are unlisted, deleted, or revoked by the operator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use postern_issuer::service::account;
use postern_protocol::directory::{LISTING_PATH, ListingRequest};
use postern_protocol::login::{ACCOUNT_PATH, Account, JwtAudience, LOGIN_PATH};
use postern_protocol::problem::ProblemKind;
use world::people::{Session, single_request, token_request};
use world::{Person, World};

async fn shown(session: &mut Session, world: &World) -> Account {
    session.call(world, "GET", ACCOUNT_PATH, Vec::new()).await.json()
}

async fn list(session: &mut Session, world: &World, listed: bool) {
    let body = serde_json::to_vec(&ListingRequest { listed }).unwrap();
    assert_eq!(session.call(world, "PUT", LISTING_PATH, body).await.status, 204);
}

#[tokio::test]
async fn an_account_is_listed_until_its_owner_says_otherwise_and_stays_so_when_the_number_registers_again() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    assert!(shown(&mut session, &world).await.listed);
    for _ in 0..2 {
        list(&mut session, &world, false).await;
        assert!(!shown(&mut session, &world).await.listed);
    }
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    assert!(!shown(&mut session, &world).await.listed);
    list(&mut session, &world, true).await;
    assert!(shown(&mut session, &world).await.listed);
    let reply = session.call(&world, "PUT", LISTING_PATH, b"{\"listed\":1}".to_vec()).await;
    assert_eq!(reply.problem(), ProblemKind::BadRequest);
}

#[tokio::test]
async fn a_deleted_account_is_a_stranger_and_its_number_registers_again_without_new_tokens() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 2).await;
    let mut session = alice.login(&world).await;
    let mut other = alice.login(&world).await;
    list(&mut session, &world, false).await;
    let jwt = session.jwt(&world, JwtAudience::Issuer).await;
    let proof = alice.proof(&world, &alice.password).await;
    assert_eq!(session.call(&world, "DELETE", ACCOUNT_PATH, Vec::new()).await.status, 204);

    for session in [&mut session, &mut other] {
        let (request, _) = session.sign("GET", ACCOUNT_PATH, Vec::new());
        assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);
    }
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused, "begun before");
    let proof = alice.proof(&world, &alice.password).await;
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
    let key = world.active_key().await;
    let blinded = alice.blind(&world, &key, 3);
    let request = single_request(&jwt, &token_request(&key, blinded[0].message));
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized, "the JWT speaks for nobody");
    let kept = world.query(
        "select count(*) from accounts where phone <> '' or length(identity_key) + length(certificate)
        + length(login_verifier) + length(login_salt) > 0",
    );
    assert_eq!(kept, 0, "what it held is erased");

    world.clock.advance_seconds(1);
    let code = alice.ask_code(&world).await;
    let registration = alice.registration(&world, &code, &key, &blinded);
    let again: postern_protocol::register::RegistrationResponse =
        world.post(postern_protocol::register::REGISTRATION_PATH, &registration).await.json();
    assert_eq!((again.tokens_issued, again.blind_signatures.len()), (2, 0));
    let mut session = alice.login(&world).await;
    let account = shown(&mut session, &world).await;
    assert_eq!((account.tokens_issued, account.listed), (2, true));
    assert_eq!(world.query("select count(*) from accounts where phone = '+41791000001' and state = 'active'"), 1);
}

#[tokio::test]
async fn deleting_an_account_touches_no_other() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;
    bob.register(&world, 0).await;
    let mut mine = alice.login(&world).await;
    let mut his = bob.login(&world).await;
    let (first, _) = mine.sign("DELETE", ACCOUNT_PATH, Vec::new());
    let call = first.headers()["authorization"].clone();
    assert_eq!(world.send(first).await.status, 204);
    shown(&mut his, &world).await;
    bob.login(&world).await;
    // A recorded call is worth nothing after the number has registered again.
    alice.register(&world, 0).await;
    let mut replay = axum::http::Request::delete(ACCOUNT_PATH).body(axum::body::Body::empty()).unwrap();
    replay.headers_mut().insert("authorization", call);
    assert_eq!(world.send(replay).await.problem(), ProblemKind::Unauthorized);
    alice.login(&world).await;
}

#[tokio::test]
async fn a_revoked_account_has_no_sessions_and_no_login_until_its_number_registers_again() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 1).await;
    bob.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    let mut his = bob.login(&world).await;
    let jwt = session.jwt(&world, JwtAudience::Issuer).await;
    assert!(account::revoke(&world.issuer, &alice.phone).await.unwrap());
    assert!(!account::revoke(&world.issuer, &alice.phone).await.unwrap(), "done already");
    assert!(!account::revoke(&world.issuer, &Person::new(&world, 3).phone).await.unwrap(), "nobody");

    let (request, _) = session.sign("GET", ACCOUNT_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);
    let proof = alice.proof(&world, &alice.password).await;
    assert_eq!(world.post(LOGIN_PATH, &proof).await.problem(), ProblemKind::LoginRefused);
    let pending = world.begin_tokens(1).await;
    assert_eq!(world.send(pending.request(&jwt)).await.problem(), ProblemKind::Unauthorized);
    shown(&mut his, &world).await;

    let (again, tokens) = alice.register(&world, 0).await;
    assert_eq!((again.tokens_issued, tokens.len()), (1, 0));
    alice.login(&world).await;
}
