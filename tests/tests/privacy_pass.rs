//! Interoperation: a Privacy Pass client that we did not write gets tokens from our issuer and spends them at our relay.

use blind_rsa_signatures::{Deterministic, PSS, PublicKey, Sha384};
use postern_protocol::login::JwtAudience;
use postern_protocol::send::send_path;
use postern_protocol::tokens::{
    BATCH_REQUEST_MEDIA_TYPE, REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, TOKEN_REQUEST_PATH, Token,
    parse_www_authenticate,
};
use postern_tests::{Actor, Reply, World, invariants, programs};
use privacypass::auth::authenticate::parse_www_authenticate_header;
use privacypass::auth::authorize::build_authorization_header;
use privacypass::generic_tokens::{GenericBatchTokenRequest, GenericBatchTokenResponse, GenericToken};
use privacypass::public_tokens::{TokenRequest, TokenResponse};
use privacypass::{Deserialize, Serialize};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// What their client learns from our relay's 401: the challenge to answer and the key to use.
async fn challenged(
    actor: &Actor,
    envelope: &[u8],
) -> (privacypass::auth::authenticate::TokenChallenge, PublicKey<Sha384, PSS, Deterministic>) {
    let request = actor.http.post(actor.relay(&send_path(&actor.mailbox())));
    let request = request.header("content-type", "application/octet-stream").body(envelope.to_vec());
    let reply = Reply::to(request).await.unwrap();
    assert_eq!(reply.status, 401);
    let header = reply.headers.get("www-authenticate").unwrap();
    // Ours reads it as well, or the test below would prove less than it says.
    parse_www_authenticate(header.to_str().unwrap()).unwrap();
    // Their parser knows only the unquoted form of a parameter; RFC 9110 §11.2 has both, RFC 9577 prints the quoted one.
    let bare = header.to_str().unwrap().replace('"', "");
    let challenges = parse_www_authenticate_header(&bare.parse().unwrap()).unwrap();
    let key = PublicKey::from_spki(challenges[0].token_key()).unwrap();
    (challenges[0].token_challenge().clone(), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_answers_our_challenge_with_a_single_request_and_spends_the_token() {
    let world = World::start(programs!());
    let mut alice = Actor::new(&world, "+41791233001").await;
    alice.register(&world, 2).await;
    alice.open_mailbox().await;
    alice.login().await;
    let to = alice.mailbox();
    let envelope = alice.envelope(&to, "to myself");
    let (challenge, key) = challenged(&alice, &envelope).await;

    let (request, state) = TokenRequest::new(&mut StdRng::seed_from_u64(1), key, &challenge).unwrap();
    let jwt = alice.jwt(JwtAudience::Issuer).await;
    let http = alice.http.post(alice.issuer(TOKEN_REQUEST_PATH)).bearer_auth(jwt);
    let body = request.tls_serialize_detached().unwrap();
    let reply = Reply::to(http.header("content-type", REQUEST_MEDIA_TYPE).body(body)).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers.get("content-type").unwrap(), RESPONSE_MEDIA_TYPE);
    let response = TokenResponse::tls_deserialize(&mut reply.body.as_slice()).unwrap();
    let token = response.issue_token(&state).unwrap();

    let (name, value) = build_authorization_header(&token).unwrap();
    let send = alice.http.post(alice.relay(&send_path(&to))).header(name.as_str(), value.to_str().unwrap());
    let send = send.header("content-type", "application/octet-stream").body(envelope);
    assert_eq!(Reply::to(send).await.unwrap().status, 201);
    invariants::assert_hold(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_gets_its_five_in_one_generic_batch() {
    let world = World::start(programs!());
    let mut alice = Actor::new(&world, "+41791233002").await;
    alice.register(&world, 0).await;
    alice.open_mailbox().await;
    alice.login().await;
    let to = alice.mailbox();
    let envelope = alice.envelope(&to, "to myself");
    let (challenge, key) = challenged(&alice, &envelope).await;

    let mut builder = GenericBatchTokenRequest::builder();
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..5 {
        let (request, state) = TokenRequest::new(&mut rng, key.clone(), &challenge).unwrap();
        builder = builder.add_token_request(request.into(), state.into());
    }
    let (batch, states) = builder.build();
    let jwt = alice.jwt(JwtAudience::Issuer).await;
    let http = alice.http.post(alice.issuer(TOKEN_REQUEST_PATH)).bearer_auth(jwt);
    let body = batch.tls_serialize_detached().unwrap();
    let reply = Reply::to(http.header("content-type", BATCH_REQUEST_MEDIA_TYPE).body(body)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let response = GenericBatchTokenResponse::tls_deserialize(&mut reply.body.as_slice()).unwrap();
    assert_eq!(response.issued_count(), 5);
    for (i, token) in response.issue_tokens(&states).unwrap().into_iter().enumerate() {
        let GenericToken::Public(token) = token else { panic!("another type") };
        let token = Token::decode(&token.tls_serialize_detached().unwrap()).unwrap();
        let envelope = alice.envelope(&to, &format!("to myself {i}"));
        assert_eq!(alice.send(&to, &token, &envelope).await.status, 201);
    }
    invariants::assert_hold(&world);
}
