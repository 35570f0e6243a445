//! Every endpoint refuses junk with a problem document, and keeps nothing of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::session::call_mac;
use postern_protocol::directory::LISTING_PATH;
use postern_protocol::internal::{KEYS_PATH, SIGN_PATH};
use postern_protocol::login::{
    ACCOUNT_PATH, CHALLENGE_PATH, JWT_PATH, JwtAudience, LOGIN_PATH, REVOKE_PATH, SESSIONS_PATH, SessionCall,
};
use postern_protocol::lookup::ALLOWANCE_PATH;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, COUNTERS_PATH, ISSUER_INFO_PATH, REGISTRATION_PATH};
use postern_protocol::tokens::{DIRECTORY_PATH, TOKEN_REQUEST_PATH};
use world::people::{batch_request, single_request, token_request};
use world::{Person, World};

const GETS: [&str; 3] = [ISSUER_INFO_PATH, COUNTERS_PATH, DIRECTORY_PATH];
const JSON_POSTS: [&str; 4] = [CODE_PATH, REGISTRATION_PATH, CHALLENGE_PATH, LOGIN_PATH];
const SIGNED_GETS: [&str; 3] = [SESSIONS_PATH, ACCOUNT_PATH, ALLOWANCE_PATH];
const OTHER_POSTS: [&str; 5] = [TOKEN_REQUEST_PATH, JWT_PATH, REVOKE_PATH, KEYS_PATH, SIGN_PATH];

#[tokio::test]
async fn other_paths_and_methods_are_refused_with_a_problem() {
    let world = World::new().await;
    for path in ["/", "/v1", "/v1/issuer/", "/v2/issuer", "/v1/sessions/token/x", "//v1/issuer"] {
        assert_eq!(world.get(path).await.problem(), ProblemKind::NotFound, "{path}");
    }
    for path in GETS.into_iter().chain(SIGNED_GETS) {
        let reply = world.post_bytes(path, "application/json", "{}").await;
        assert_eq!(reply.problem(), ProblemKind::MethodNotAllowed, "{path}");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{path}");
    }
    for path in JSON_POSTS.into_iter().chain(OTHER_POSTS).chain([LISTING_PATH]) {
        assert_eq!(world.get(path).await.problem(), ProblemKind::MethodNotAllowed, "{path}");
    }
}

#[tokio::test]
async fn other_media_types_and_bodies_that_are_not_of_the_shape_are_refused() {
    let world = World::new().await;
    for path in JSON_POSTS {
        for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            let reply = world.post_bytes(path, media_type, "{}").await;
            assert_eq!(reply.problem(), ProblemKind::UnsupportedMediaType, "{path}");
        }
        for body in ["", "{", "{}", "[]", "null", "\"x\"", "{\"phone\":1}", "{\"x\":1}", "\u{feff}{}", "1e999"] {
            let reply = world.post_bytes(path, "application/json; charset=utf-8", body).await;
            assert_eq!(reply.problem(), ProblemKind::BadRequest, "{path} {body}");
        }
        let nested = "[".repeat(1000);
        assert_eq!(world.post_bytes(path, "application/json", nested).await.problem(), ProblemKind::BadRequest);
    }
    let reply = world.post_bytes(TOKEN_REQUEST_PATH, "application/json", "{}").await;
    assert_eq!(reply.problem(), ProblemKind::UnsupportedMediaType);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_or_not_it_says_so() {
    let world = World::new().await;
    for path in JSON_POSTS.into_iter().chain(OTHER_POSTS) {
        let announced = world.post_bytes(path, "application/json", vec![b' '; 40_000]).await;
        assert_eq!(announced.problem(), ProblemKind::TooLarge, "{path}");
        let chunks = futures::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000])));
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let reply = world.send(request.body(Body::from_stream(chunks)).unwrap()).await;
        assert_eq!(reply.problem(), ProblemKind::TooLarge, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let world = World::new().await;
    let broken = futures::stream::iter([Ok(b"{".to_vec()), Err(std::io::Error::other("gone"))]);
    let request = Request::post(CODE_PATH).header(header::CONTENT_TYPE, "application/json");
    let reply = world.send(request.body(Body::from_stream(broken)).unwrap()).await;
    assert_eq!(reply.problem(), ProblemKind::BadRequest);
}

#[tokio::test]
async fn a_refusal_does_not_repeat_what_was_sent() {
    let world = World::new().await;
    let body = "{\"phone\":\"079-planted\",\"client_key\":\"planted\",\"planted\":1}";
    for path in JSON_POSTS {
        let reply = world.post_bytes(path, "application/json", body).await;
        assert!(!String::from_utf8_lossy(&reply.body).contains("planted"), "{path}");
    }
}

#[tokio::test]
async fn a_registration_that_is_cut_or_changed_at_any_byte_makes_no_account() {
    let world = World::with(|limits| limits.code_tries = 100).await;
    let alice = Person::new(&world, 1);
    let key = world.active_key().await;
    let code = alice.ask_code(&world).await;
    let request = alice.registration(&world, &code, &key, &[]);
    let body = serde_json::to_vec(&request).unwrap();
    for n in (0..body.len()).step_by(7) {
        let reply = world.post_bytes(REGISTRATION_PATH, "application/json", &body[..n]).await;
        assert_eq!(reply.problem(), ProblemKind::BadRequest);
    }
    assert_eq!(world.query("select count(*) from accounts"), 0);
    // Every 64th bit, so that the tries of the code last.
    for n in (0..body.len()).step_by(8) {
        let mut changed = body.clone();
        changed[n] ^= 1;
        // Only what the client alone decides may differ and still be a registration: its own login and its choice of key id.
        let still_valid =
            serde_json::from_slice(&changed).is_ok_and(|other: postern_protocol::register::RegistrationRequest| {
                other.login != request.login || other.tokens != request.tokens
            });
        if !still_valid {
            let reply = world.post_bytes(REGISTRATION_PATH, "application/json", changed).await;
            assert!((400..500).contains(&reply.status), "{}", reply.status);
            reply.problem();
        }
    }
    assert_eq!(world.query("select count(*) from accounts"), 0);
}

#[tokio::test]
async fn a_token_request_that_is_cut_or_lengthened_is_refused() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let jwt = alice.issuance_jwt(&world).await;
    let key = world.active_key().await;
    let request = token_request(&key, alice.blind(&world, &key, 1)[0].message);
    for whole in [single_request(&jwt, &request), batch_request(&jwt, vec![request])] {
        let (parts, body) = whole.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        for n in [0, 1, 2, 3, 100, body.len() - 1] {
            let cut = Request::from_parts(parts.clone(), Body::from(body.slice(..n)));
            assert_eq!(world.send(cut).await.problem(), ProblemKind::BadRequest);
        }
        let mut long = body.to_vec();
        long.push(0);
        let long = Request::from_parts(parts, Body::from(long));
        assert_eq!(world.send(long).await.problem(), ProblemKind::BadRequest);
    }
    assert_eq!(world.query("select tokens_issued from accounts"), 0);
}

#[tokio::test]
async fn every_bit_of_a_session_call_and_of_its_header_counts() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let session = alice.login(&world).await;
    let body = serde_json::to_vec(&postern_protocol::login::JwtRequest { audience: JwtAudience::Relay }).unwrap();
    let mac = call_mac(&session.key, "POST", JWT_PATH, 1, &body);
    let header_value = SessionCall { session: session.id, seq: 1, mac }.to_string();
    let send = async |authorization: &[u8], body: &[u8]| {
        let value = axum::http::HeaderValue::from_bytes(authorization).ok()?;
        let request = Request::post(JWT_PATH)
            .header(header::AUTHORIZATION, value)
            .header(header::CONTENT_TYPE, "application/json");
        Some(world.send(request.body(Body::from(body.to_vec())).unwrap()).await)
    };
    for n in 0..header_value.len() {
        let mut changed = header_value.clone().into_bytes();
        changed[n] ^= 1;
        if let Some(reply) = send(&changed, &body).await {
            assert_eq!(reply.problem(), ProblemKind::Unauthorized, "{n}");
        }
    }
    for n in 0..body.len() {
        let mut changed = body.clone();
        changed[n] ^= 1;
        let reply = send(header_value.as_bytes(), &changed).await.unwrap();
        assert_eq!(reply.problem(), ProblemKind::Unauthorized, "{n}");
    }
    assert_eq!(send(header_value.as_bytes(), &body).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_with_a_problem() {
    let world = World::with(|limits| limits.request_timeout_seconds = 1).await;
    let silent = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post(CODE_PATH).header(header::CONTENT_TYPE, "application/json").body(silent).unwrap();
    assert_eq!(world.send(request).await.problem(), ProblemKind::Timeout);
}

#[tokio::test]
async fn answers_are_not_to_be_kept_by_caches() {
    let world = World::new().await;
    let reply = world.get(ISSUER_INFO_PATH).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}
