//! Look-up tokens: so many per account and window, under any concurrency, and a lost answer is given again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use postern_issuer::Issuer;
use postern_issuer::service::housekeeping;
use postern_protocol::ids::OprfElement;
use postern_protocol::login::{ACCOUNT_PATH, JwtAudience};
use postern_protocol::lookup::{AMORTIZED_REQUEST_MEDIA_TYPE, LookupTokenRequest};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::{REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH};
use world::lookups::{Pending, UNTIL_NEXT_WINDOW, logged_in};
use world::people::{single_request, token_request};
use world::{Person, START, World, send};

async fn world(first: u32, later: u32) -> World {
    World::configured(|config| {
        config.lookup.quota_first = first;
        config.lookup.quota_window = later;
    })
    .await
}

#[tokio::test]
async fn an_account_has_more_in_its_first_window_and_nothing_carries_over() {
    let world = world(4, 2).await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    assert_eq!(session.allowance(&world).await.quota, 4);
    world.lookup_tokens(&jwt, 1).await;
    let too_many = world.begin_tokens(4).await;
    let reply = world.send(too_many.request(&jwt)).await;
    assert_eq!(reply.problem(), ProblemKind::LookupQuota, "all or nothing");
    assert_eq!(reply.header("retry-after"), Some(UNTIL_NEXT_WINDOW.to_string().as_str()));
    assert_eq!(session.allowance(&world).await.issued, 1);

    world.clock.advance_seconds(UNTIL_NEXT_WINDOW);
    let jwt = session.jwt(&world, JwtAudience::Issuer).await;
    let allowance = session.allowance(&world).await;
    assert_eq!((allowance.quota, allowance.issued), (2, 0));
    let three = world.begin_tokens(3).await;
    assert_eq!(world.send(three.request(&jwt)).await.problem(), ProblemKind::LookupQuota);
    world.lookup_tokens(&jwt, 2).await;
    assert_eq!(session.allowance(&world).await.issued, 2);

    // Who asks for the first time in a later window has the larger quota in that one.
    let (_, jwt) = logged_in(&world, 2).await;
    world.lookup_tokens(&jwt, 4).await;
}

#[tokio::test]
async fn at_the_boundary_of_a_window_the_old_quota_ends_to_the_millisecond() {
    let world = world(2, 1).await;
    let (mut session, _) = logged_in(&world, 1).await;
    world.clock.advance_seconds(UNTIL_NEXT_WINDOW - 1);
    let jwt = session.jwt(&world, JwtAudience::Issuer).await;
    world.clock.set(Timestamp(world.now().0 + 999));
    world.lookup_tokens(&jwt, 1).await;
    let before = world.begin_tokens(1).await;
    world.clock.set(Timestamp(world.now().0 + 1));
    // A batch for the window that has just ended counts for neither.
    assert_eq!(world.send(before.request(&jwt)).await.problem(), ProblemKind::LookupWindow);
    world.lookup_tokens(&jwt, 1).await;
    let second = world.begin_tokens(1).await;
    let reply = world.send(second.request(&jwt)).await;
    assert_eq!(reply.problem(), ProblemKind::LookupQuota);
    assert_eq!(reply.header("retry-after"), Some("86400"));
}

#[tokio::test]
async fn a_lost_answer_is_given_again_uncounted_until_its_window_is_over() {
    let world = world(2, 1).await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    let pending = world.begin_tokens(2).await;
    let first = world.send(pending.request(&jwt)).await;
    pending.finish(&first);
    assert_eq!(world.send(pending.request(&jwt)).await.body, first.body);
    let world = world.restart(|_| {}).await;
    world.clock.advance_seconds(UNTIL_NEXT_WINDOW + 3599);
    housekeeping::once(&world.issuer).await.unwrap();
    let jwt = session.jwt(&world, JwtAudience::Issuer).await;
    assert_eq!(world.send(pending.request(&jwt)).await.body, first.body, "in the grace");
    assert_eq!(world.query("select issued from lookup_allowance"), 2);
    world.clock.advance_seconds(1);
    assert_eq!(world.send(pending.request(&jwt)).await.problem(), ProblemKind::LookupWindow);
    assert_eq!(session.allowance(&world).await.issued, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_requests_at_the_edge_of_the_quota_exactly_the_quota_comes_out() {
    let world = world(50, 5).await;
    let (_, jwt) = logged_in(&world, 1).await;
    world.lookup_tokens(&jwt, 20).await;
    let second = world.second_process().await;
    let mut tasks = Vec::new();
    for i in 0..64 {
        let issuer = Arc::clone(if i % 2 == 0 { &world.issuer } else { &second });
        let pending = world.begin_tokens(1 + i % 3).await;
        let request = pending.request(&jwt);
        tasks.push(tokio::spawn(async move { issued(&issuer, request, &pending).await }));
    }
    let mut tokens = 0;
    for task in tasks {
        tokens += task.await.unwrap();
    }
    assert_eq!(tokens, 30, "single tokens fill what batches leave");
    assert_eq!(world.query("select issued from lookup_allowance"), 50);
    assert_eq!(world.query("select sum(count) from lookup_issuances"), 50);
}

async fn issued(issuer: &Arc<Issuer>, request: Request<Body>, pending: &Pending) -> usize {
    let reply = send(issuer, request).await;
    if reply.status == 200 {
        return pending.finish(&reply).tokens.len();
    }
    assert_eq!(reply.problem(), ProblemKind::LookupQuota);
    0
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_sent_64_times_in_parallel_is_counted_once() {
    let world = world(10, 5).await;
    let (_, jwt) = logged_in(&world, 1).await;
    let pending = world.begin_tokens(7).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (issuer, request) = (Arc::clone(&world.issuer), pending.request(&jwt));
            tokio::spawn(async move { send(&issuer, request).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap().body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(world.query("select issued from lookup_allowance"), 7);
}

#[tokio::test]
async fn a_clock_that_goes_back_a_window_gives_nothing_out_again() {
    let world = world(2, 1).await;
    let (mut session, early) = logged_in(&world, 1).await;
    world.lookup_tokens(&early, 2).await;
    world.clock.advance_seconds(UNTIL_NEXT_WINDOW);
    let late = session.jwt(&world, JwtAudience::Issuer).await;
    world.lookup_tokens(&late, 1).await;
    world.clock.set(START);
    let pending = world.begin_tokens(1).await;
    assert_eq!(world.send(pending.request(&early)).await.problem(), ProblemKind::LookupQuota);
    assert_eq!(world.query("select issued from lookup_allowance"), 1);
}

#[tokio::test]
async fn registering_again_gets_no_new_quota() {
    let world = world(3, 1).await;
    let (_, jwt) = logged_in(&world, 1).await;
    world.lookup_tokens(&jwt, 3).await;
    world.clock.advance_seconds(1);
    let (mut session, new) = logged_in(&world, 1).await;
    let pending = world.begin_tokens(1).await;
    assert_eq!(world.send(pending.request(&jwt)).await.problem(), ProblemKind::Unauthorized, "the old identity's");
    assert_eq!(world.send(pending.request(&new)).await.problem(), ProblemKind::LookupQuota);
    assert_eq!(session.allowance(&world).await.issued, 3);
    // Nor does deleting the account first.
    session.call(&world, "DELETE", ACCOUNT_PATH, Vec::new()).await;
    world.clock.advance_seconds(1);
    let (_, jwt) = logged_in(&world, 1).await;
    assert_eq!(world.send(pending.request(&jwt)).await.problem(), ProblemKind::LookupQuota);
}

#[tokio::test]
async fn a_batch_that_cannot_be_evaluated_costs_nothing() {
    let world = World::new().await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    let good = world.begin_tokens(2).await.tokens.request();
    let mut bad = good.clone();
    bad.blinded[1] = OprfElement([0xff; 32]);
    let mut other_key = good.clone();
    other_key.truncated_token_key_id ^= 1;
    let encoded = |request: &LookupTokenRequest| request.encode().unwrap();
    let cut = encoded(&good)[..68].to_vec();
    for (body, problem) in [
        (encoded(&bad), ProblemKind::BadRequest),
        (cut, ProblemKind::BadRequest),
        (encoded(&other_key), ProblemKind::LookupWindow),
    ] {
        let request = Request::post(TOKEN_REQUEST_PATH)
            .header(header::AUTHORIZATION, format!("Bearer {jwt}"))
            .header(header::CONTENT_TYPE, AMORTIZED_REQUEST_MEDIA_TYPE)
            .body(Body::from(body))
            .unwrap();
        assert_eq!(world.send(request).await.problem(), problem);
    }
    assert_eq!(session.allowance(&world).await.issued, 0);
}

#[tokio::test]
async fn the_two_kinds_of_token_requests_are_not_mixed_up() {
    let world = World::new().await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    let pending = world.begin_tokens(1).await;
    let (mut parts, body) = pending.request(&jwt).into_parts();
    parts.headers.insert(header::CONTENT_TYPE, REQUEST_MEDIA_TYPE.parse().unwrap());
    assert_eq!(world.send(Request::from_parts(parts, body)).await.problem(), ProblemKind::BadRequest);

    let key = world.active_key().await;
    let sending = token_request(&key, Person::new(&world, 1).blind(&world, &key, 1)[0].message);
    let (mut parts, body) = single_request(&jwt, &sending).into_parts();
    parts.headers.insert(header::CONTENT_TYPE, AMORTIZED_REQUEST_MEDIA_TYPE.parse().unwrap());
    assert_eq!(world.send(Request::from_parts(parts, body)).await.problem(), ProblemKind::BadRequest);
    assert_eq!(world.query("select tokens_issued from accounts"), 0);
    assert_eq!(world.query("select count(*) from lookup_issuances"), 0);

    // A relay's JWT, or none, gets no look-up tokens either.
    let relay = session.jwt(&world, JwtAudience::Relay).await;
    for jwt in ["", "a.b.c", &relay] {
        assert_eq!(world.send(pending.request(jwt)).await.problem(), ProblemKind::Unauthorized);
    }
}
