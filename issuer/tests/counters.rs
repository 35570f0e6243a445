//! What everybody adds to is counted in parts, so that nobody waits for all others; the sums are exact, and so are the limits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use postern_issuer::Issuer;
use postern_protocol::internal::{SIGN_PATH, SignRequest};
use postern_protocol::login::LOGIN_PATH;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, REGISTRATION_PATH};
use serde::Serialize;
use world::{Person, RELAY, Reply, World, send};

fn posted(path: &str, body: &impl Serialize) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(serde_json::to_vec(body).unwrap())).unwrap()
}

/// All at once, half of them at another process; the answers in the same order.
async fn at_once(world: &World, requests: Vec<Request<Body>>) -> Vec<Reply> {
    at_once_at([&world.issuer, &world.second_process().await], requests).await
}

async fn at_once_at(issuers: [&Arc<Issuer>; 2], requests: Vec<Request<Body>>) -> Vec<Reply> {
    let tasks: Vec<_> = requests
        .into_iter()
        .enumerate()
        .map(|(i, request)| {
            let issuer = Arc::clone(issuers[i % 2]);
            tokio::spawn(async move { send(&issuer, request).await })
        })
        .collect();
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    replies
}

fn people(world: &World, n: u32) -> Vec<Person> {
    // Ten thousand numbers have a limit of their own.
    (0..n).map(|n| Person::new(world, n * 10_000)).collect()
}

/// How many succeeded; the others were refused for this reason.
#[track_caller]
fn succeeded(replies: &[Reply], refused: ProblemKind) -> usize {
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(replies.iter().all(|reply| reply.status == 200 || reply.problem() == refused));
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_people_who_register_at_once_each_one_s_five_tokens_are_counted() {
    let world = World::new().await;
    let key = world.active_key().await;
    let mut requests = Vec::new();
    for person in people(&world, 40) {
        let code = person.ask_code(&world).await;
        let blinded = person.blind(&world, &key, 5);
        requests.push(posted(REGISTRATION_PATH, &person.registration(&world, &code, &key, &blinded)));
    }
    let replies = at_once(&world, requests).await;
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert_eq!(world.issued(key.key_id()).await, 200, "what is published");
    let parts = world.query("select count(*) from key_counts");
    assert!(parts > 8, "they did not all wait for one row, but for {parts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_eight_exchanges_at_once_exactly_as_many_are_signed_as_the_budget_has_room_for() {
    for budget in [1, 20, 33] {
        let world = World::with(|limits| limits.exchange_base = budget).await;
        let key = world.active_key().await;
        let blinded = Person::new(&world, 1).blind(&world, &key, 48);
        let requests: Vec<_> = blinded
            .iter()
            .map(|token| SignRequest { token_key_id: key.key_id(), blinded: token.message })
            .map(|request| world.relay_request(RELAY, &world.relay_key, SIGN_PATH, &request).0)
            .collect();
        let replies = at_once(&world, requests).await;
        let signed = succeeded(&replies, ProblemKind::ExchangeBudget);
        assert_eq!(u64::try_from(signed).unwrap(), budget);
        assert_eq!(world.query("select sum(count) from key_counts"), i64::try_from(budget).unwrap());
        assert_eq!(world.query("select count(*) from relay_exchanges"), i64::try_from(budget).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_exchange_that_is_asked_for_sixteen_times_at_once_is_counted_once() {
    let world = World::new().await;
    let key = world.active_key().await;
    let token = Person::new(&world, 1).blind(&world, &key, 1).remove(0);
    let request = SignRequest { token_key_id: key.key_id(), blinded: token.message };
    let requests = (0..16).map(|_| world.relay_request(RELAY, &world.relay_key, SIGN_PATH, &request).0).collect();
    let replies = at_once(&world, requests).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == replies[0].body));
    assert_eq!(world.query("select sum(count) from key_counts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_eight_guesses_at_once_exactly_as_many_are_looked_at_as_all_users_have_together() {
    for limit in [5, 20] {
        let world = World::with(|limits| limits.login_guesses_per_minute = limit).await;
        let mut requests = Vec::new();
        for person in people(&world, 48) {
            requests.push(posted(LOGIN_PATH, &person.proof(&world, "wrong").await));
        }
        let replies = at_once(&world, requests).await;
        let looked_at = replies.iter().filter(|reply| reply.problem() == ProblemKind::LoginRefused).count();
        let turned_away = replies.iter().filter(|reply| reply.problem() == ProblemKind::RateLimited).count();
        assert_eq!((u64::try_from(looked_at).unwrap(), looked_at + turned_away), (limit, 48));
        let counted = "select sum(count) from attempts where scope = 'login-all'";
        assert_eq!(world.query(counted), i64::try_from(limit).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_are_given_back_wherever_they_were_counted() {
    // As many as there are, so that most find the part full that they have drawn.
    let world = World::with(|limits| limits.login_guesses_per_minute = 12).await;
    let people = people(&world, 12);
    for person in &people {
        person.register(&world, 0).await;
    }
    let other = world.second_process().await;
    for _ in 0..2 {
        let mut requests = Vec::new();
        for person in &people {
            requests.push(posted(LOGIN_PATH, &person.proof(&world, &person.password).await));
        }
        let replies = at_once_at([&world.issuer, &other], requests).await;
        assert_eq!(succeeded(&replies, ProblemKind::RateLimited), 12);
        assert_eq!(world.query("select sum(count) from attempts where scope = 'login-all'"), 0);
        assert_eq!(world.query("select count(*) from attempts where count < 0"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_for_a_text_at_once_exactly_the_day_s_budget_gets_one() {
    let world = World::with(|limits| limits.texts_per_day = 10).await;
    let requests = people(&world, 32).iter().map(|person| posted(CODE_PATH, &person.code_request())).collect();
    let replies = at_once(&world, requests).await;
    assert_eq!(succeeded(&replies, ProblemKind::TextBudget), 10);
    assert_eq!(world.texts.all().len(), 10);
}
