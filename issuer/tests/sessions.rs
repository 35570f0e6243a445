//! Session-signed calls: good without TLS, once, in order, until revoked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::jwt;
use postern_protocol::ids::SessionId;
use postern_protocol::login::{
    ACCOUNT_PATH, Account, JWT_PATH, JwtAudience, Purpose, REVOKE_PATH, RevokeRequest, SESSIONS_PATH, SessionCall,
    Sessions,
};
use postern_protocol::problem::ProblemKind;
use world::people::session_request;
use world::{ISSUER, Person, RELAY, World};

#[tokio::test]
async fn a_replayed_or_reordered_call_is_refused_and_the_refusal_is_tagged() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    let (first, _) = session.sign("GET", SESSIONS_PATH, Vec::new());
    let (second, second_mac) = session.sign("GET", SESSIONS_PATH, Vec::new());
    let replay = session_request(
        "GET",
        SESSIONS_PATH,
        &SessionCall { session: session.id, seq: session.seq, mac: second_mac },
        Vec::new(),
    );
    assert_eq!(world.send(second).await.status, 200);
    let reply = world.send(replay).await;
    assert_eq!(reply.problem(), ProblemKind::CallReplayed);
    assert!(session.has_tagged(&second_mac, &reply));
    assert_eq!(world.send(first).await.problem(), ProblemKind::CallReplayed);
    session.seq += 1_000_000;
    session.call(&world, "GET", SESSIONS_PATH, Vec::new()).await;
}

#[tokio::test]
async fn a_call_is_good_for_its_method_path_and_body_alone() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    let body = serde_json::to_vec(&RevokeRequest { session: SessionId([1; 16]) }).unwrap();
    let (_, mac) = session.sign("POST", REVOKE_PATH, body.clone());
    let call = |seq| SessionCall { session: session.id, seq, mac };
    let stolen = serde_json::to_vec(&RevokeRequest { session: session.id }).unwrap();
    for request in [
        session_request("POST", REVOKE_PATH, &call(1), stolen),
        session_request("POST", "/v1/sessions/revoke?x=1", &call(1), body.clone()),
        session_request("POST", JWT_PATH, &call(1), body.clone()),
        session_request("POST", REVOKE_PATH, &call(2), body.clone()),
        session_request("POST", REVOKE_PATH, &SessionCall { session: SessionId([9; 16]), ..call(1) }, body.clone()),
        session_request("POST", REVOKE_PATH, &SessionCall { seq: u64::MAX, ..call(1) }, body.clone()),
        Request::post(REVOKE_PATH).header(header::CONTENT_TYPE, "application/json").body(Body::empty()).unwrap(),
    ] {
        let reply = world.send(request).await;
        assert_eq!(reply.problem(), ProblemKind::Unauthorized);
        assert_eq!(reply.header("www-authenticate"), Some("PosternSession"));
        assert_eq!(reply.header("postern-session-mac"), None);
    }
    let mut two = session_request("POST", REVOKE_PATH, &call(1), body.clone());
    two.headers_mut().append(header::AUTHORIZATION, call(1).to_string().parse().unwrap());
    assert_eq!(world.send(two).await.problem(), ProblemKind::Unauthorized, "two credentials are none");
    assert_eq!(world.send(session_request("POST", REVOKE_PATH, &call(1), body)).await.status, 204);
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_the_own_one_included() {
    let world = World::new().await;
    let (alice, mallory) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;
    mallory.register(&world, 0).await;
    let mut laptop = alice.login(&world).await;
    world.clock.advance_seconds(10);
    let mut phone = alice.login(&world).await;
    let mut others = mallory.login(&world).await;

    let list: Sessions = phone.call(&world, "GET", SESSIONS_PATH, Vec::new()).await.json();
    assert_eq!(list.sessions.iter().map(|entry| entry.session).collect::<Vec<_>>(), [phone.id, laptop.id]);
    assert_eq!(list.sessions.iter().map(|entry| entry.current).collect::<Vec<_>>(), [true, false]);
    assert_eq!(list.sessions[0].label, "laptop");

    let revoke = |session| serde_json::to_vec(&RevokeRequest { session }).unwrap();
    // Somebody else's session cannot be ended, and nobody learns whether it was there.
    assert_eq!(others.call(&world, "POST", REVOKE_PATH, revoke(laptop.id)).await.status, 204);
    laptop.call(&world, "GET", ACCOUNT_PATH, Vec::new()).await;

    assert_eq!(phone.call(&world, "POST", REVOKE_PATH, revoke(laptop.id)).await.status, 204);
    let (request, _) = laptop.sign("GET", ACCOUNT_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);

    assert_eq!(phone.call(&world, "POST", REVOKE_PATH, revoke(phone.id)).await.status, 204);
    let (request, _) = phone.sign("GET", ACCOUNT_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    world.clock.advance_seconds(session.expires - world.now().seconds() - 5);
    let jwt = session.jwt(&world, JwtAudience::Relay).await;
    let key = world.info().await.public_key;
    let claims = jwt::verify(&key, &jwt, ISSUER, RELAY, Purpose::Mailbox, world.now()).unwrap();
    assert_eq!(claims.exp, session.expires, "a JWT does not outlive its session");
    world.clock.advance_seconds(5);
    let (request, _) = session.sign("GET", ACCOUNT_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized);
}

#[tokio::test]
async fn a_jwt_for_the_relay_names_the_mailbox_and_nothing_of_the_account() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let (registered, _) = alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    let jwt = session.jwt(&world, JwtAudience::Relay).await;
    let key = world.info().await.public_key;
    let claims = jwt::verify(&key, &jwt, ISSUER, RELAY, Purpose::Mailbox, world.now()).unwrap();
    assert_eq!(claims.sub, registered.mailbox.to_string());
    assert_eq!(claims.exp - claims.iat, 600);
    let issuer_jwt = session.jwt(&world, JwtAudience::Issuer).await;
    let own = jwt::verify(&key, &issuer_jwt, ISSUER, ISSUER, Purpose::Issuance, world.now()).unwrap();
    assert_ne!(own.sub, claims.sub);
    assert!(jwt::verify(&key, &jwt, ISSUER, ISSUER, Purpose::Issuance, world.now()).is_err());
}

#[tokio::test]
async fn the_account_shows_tokens_and_dates() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let (registered, _) = alice.register(&world, 3).await;
    let mut session = alice.login(&world).await;
    let account: Account = session.call(&world, "GET", ACCOUNT_PATH, Vec::new()).await.json();
    assert_eq!((account.tokens_issued, account.tokens_per_account), (3, 5));
    assert_eq!(account.setup_until, registered.setup_until);
    assert_eq!(account.certificate_expires, world.now().seconds() + 730 * 86_400);
}

#[tokio::test]
async fn a_refusal_of_an_authenticated_call_is_tagged_too() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut session = alice.login(&world).await;
    let reply = session.call(&world, "POST", JWT_PATH, b"{\"audience\":\"board\"}".to_vec()).await;
    assert_eq!(reply.problem(), ProblemKind::BadRequest);
}
