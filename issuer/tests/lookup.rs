//! Look-ups: a token per number, spent once, by nobody in particular.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::oprf::SecretKey;
use postern_issuer::service::housekeeping;
use postern_protocol::ids::{LookupTokenBytes, OprfElement};
use postern_protocol::lookup::{AMORTIZED_RESPONSE_MEDIA_TYPE, LOOKUP_PATH, LookupRequest, MAX_LOOKUPS};
use postern_protocol::problem::ProblemKind;
use world::lookups::{UNTIL_NEXT_WINDOW, logged_in, number};
use world::{START, World, send};

fn posted(request: &LookupRequest) -> Request<Body> {
    let body = serde_json::to_vec(request).unwrap();
    Request::post(LOOKUP_PATH).header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()
}

fn spent(world: &World) -> i64 {
    world.query("select count(*) from lookup_spent")
}

#[tokio::test]
async fn a_number_is_looked_up_with_a_token_and_everybody_gets_the_same_for_it() {
    let world = World::new().await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    let pending = world.begin_tokens(3).await;
    let reply = world.send(pending.request(&jwt)).await;
    assert_eq!(reply.header("content-type"), Some(AMORTIZED_RESPONSE_MEDIA_TYPE));
    let mut tokens = pending.finish(&reply);

    let key = world.lookup_info().await.oprf_key;
    let first = world.ask(&tokens.take(2), &[number(7), number(8)]);
    let second = world.ask(&tokens.take(1), &[number(8)]);
    let [seven, eight] = first.finish(&key, &world.look_up(&first.request).await).try_into().unwrap();
    let [again] = second.finish(&key, &world.look_up(&second.request).await).try_into().unwrap();
    assert_eq!(eight, again);
    assert_ne!(seven, eight);
    assert_eq!(spent(&world), 3);
    let allowance = session.allowance(&world).await;
    assert_eq!((allowance.quota, allowance.issued), (2000, 3));
}

#[tokio::test]
async fn the_largest_batch_passes() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let mut tokens = world.lookup_tokens(&jwt, 1024).await;
    let numbers: Vec<_> = (0..128).map(number).collect();
    let asked = world.ask(&tokens.take(MAX_LOOKUPS), &numbers);
    asked.finish(&world.lookup_info().await.oprf_key, &world.look_up(&asked.request).await);
    let numbers: Vec<_> = (0..129).map(number).collect();
    let asked = world.ask(&tokens.take(MAX_LOOKUPS + 1), &numbers);
    assert_eq!(world.look_up(&asked.request).await.problem(), ProblemKind::BadRequest);
    assert_eq!(spent(&world), 128);
}

#[tokio::test]
async fn an_identical_look_up_gets_the_identical_answer_also_after_a_restart() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let asked = world.ask(&world.lookup_tokens(&jwt, 2).await, &[number(1), number(2)]);
    let first = world.look_up(&asked.request).await;
    assert_eq!(world.look_up(&asked.request).await.body, first.body);
    let world = world.restart(|_| {}).await;
    assert_eq!(world.look_up(&asked.request).await.body, first.body);
    assert_eq!(spent(&world), 2);
}

#[tokio::test]
async fn a_spent_token_buys_nothing_else_and_takes_no_other_token_along() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let mut tokens = world.lookup_tokens(&jwt, 3).await;
    let used = tokens.take(1);
    assert_eq!(world.look_up(&world.ask(&used, &[number(1)]).request).await.status, 200);
    for other in [number(1), number(2)] {
        let again = world.ask(&used, &[other]);
        assert_eq!(world.look_up(&again.request).await.problem(), ProblemKind::LookupTokenUsed, "blinded anew");
    }
    // Last, so that the tokens before it were about to be spent.
    tokens.tokens.extend(used.tokens);
    let numbers = [number(2), number(3), number(4)];
    assert_eq!(world.look_up(&world.ask(&tokens, &numbers).request).await.problem(), ProblemKind::LookupTokenUsed);
    assert_eq!(spent(&world), 1);
    tokens.tokens.pop();
    assert_eq!(world.look_up(&world.ask(&tokens, &numbers[..2]).request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_overlapping_batches_in_parallel_one_wins_whole() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let tokens = world.lookup_tokens(&jwt, 17).await;
    let second = world.second_process().await;
    // All of them share the first token; each has one of its own.
    let mut tasks = Vec::new();
    for i in 1..17 {
        let issuer = Arc::clone(if i % 2 == 0 { &world.issuer } else { &second });
        let mut batch = world::lookups::Tokens { window: tokens.window, tokens: tokens.tokens[..1].to_vec() };
        batch.tokens.insert(i % 2, tokens.tokens[i].clone());
        let asked = world.ask(&batch, &[number(1), number(2)]);
        let request = posted(&asked.request);
        tasks.push(tokio::spawn(async move { send(&issuer, request).await }));
    }
    let mut won = 0;
    for task in tasks {
        let reply = task.await.unwrap();
        if reply.status == 200 {
            won += 1;
        } else {
            assert_eq!(reply.problem(), ProblemKind::LookupTokenUsed);
        }
    }
    assert_eq!((won, spent(&world)), (1, 2));
}

#[tokio::test]
async fn a_batch_with_one_bad_token_or_number_spends_nothing() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let good = world.ask(&world.lookup_tokens(&jwt, 2).await, &[number(1), number(2)]).request;
    let watch = world.database.watch();
    let version = || watch.version();
    let changed = |change: &dyn Fn(&mut LookupRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (request, problem) in [
        (changed(&|r| r.tokens[1].0[161] ^= 1), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.tokens[1].0[2] ^= 1), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.tokens[1].0[34] ^= 1), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.tokens[1].0[66] ^= 1), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.tokens[1].0[1] = 2), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.tokens[1] = LookupTokenBytes([0; 162])), ProblemKind::LookupTokenInvalid),
        (changed(&|r| r.blinded[1] = OprfElement([0xff; 32])), ProblemKind::BadRequest),
        (changed(&|r| r.blinded[1] = OprfElement([0; 32])), ProblemKind::BadRequest),
        (changed(&|r| r.tokens[1] = r.tokens[0]), ProblemKind::BadRequest),
        (changed(&|r| r.tokens.truncate(1)), ProblemKind::BadRequest),
        (changed(&|r| r.blinded.truncate(1)), ProblemKind::BadRequest),
        (changed(&|r| (r.tokens, r.blinded) = Default::default()), ProblemKind::BadRequest),
        (changed(&|r| r.window += 1), ProblemKind::LookupWindow),
        (changed(&|r| r.window -= 1), ProblemKind::LookupWindow),
        (changed(&|r| r.window = u64::MAX), ProblemKind::LookupWindow),
    ] {
        let before = version();
        assert_eq!(world.look_up(&request).await.problem(), problem);
        assert_eq!(version(), before, "junk costs no write");
    }
    assert_eq!(spent(&world), 0);
    let before = version();
    assert_eq!(world.look_up(&good).await.status, 200);
    assert_ne!(version(), before);
}

#[tokio::test]
async fn a_token_is_good_in_its_window_and_the_grace_and_as_no_other_kind() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let mut tokens = world.lookup_tokens(&jwt, 3).await;
    let [early, late, never] = [0, 1, 2].map(|n| world.ask(&tokens.take(1), &[number(n)]).request);
    world.clock.advance_seconds(UNTIL_NEXT_WINDOW);
    let info = world.lookup_info().await;
    assert_eq!(info.keys.iter().map(|key| key.window).collect::<Vec<_>>(), [early.window + 1, early.window]);
    // As a token of the next window.
    let moved = LookupRequest { window: early.window + 1, ..early.clone() };
    assert_eq!(world.look_up(&moved).await.problem(), ProblemKind::LookupTokenInvalid);
    let first = world.look_up(&early).await;
    assert_eq!(first.status, 200);
    world.clock.advance_seconds(3599);
    assert_eq!(world.look_up(&late).await.status, 200);
    world.clock.advance_seconds(1);
    assert_eq!(world.look_up(&never).await.problem(), ProblemKind::LookupWindow);
    assert_eq!(world.lookup_info().await.keys.len(), 1);
}

#[tokio::test]
async fn what_was_spent_in_a_window_is_dropped_behind_a_fence_that_no_clock_puts_back() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let mut tokens = world.lookup_tokens(&jwt, 2).await;
    let [spent_one, kept] = [0, 1].map(|n| world.ask(&tokens.take(1), &[number(n)]).request);
    assert_eq!(world.look_up(&spent_one).await.status, 200);
    world.clock.advance_seconds(UNTIL_NEXT_WINDOW + 3599);
    housekeeping::once(&world.issuer).await.unwrap();
    assert_eq!(spent(&world), 1, "in the grace");
    world.clock.advance_seconds(1);
    housekeeping::once(&world.issuer).await.unwrap();
    assert_eq!(spent(&world), 0);
    assert_eq!(world.query("select count(*) from lookup_issuances"), 0);

    world.clock.set(START);
    let again = LookupRequest { blinded: kept.blinded.clone(), ..spent_one };
    assert_eq!(world.look_up(&again).await.problem(), ProblemKind::LookupWindow, "the token was spent");
    assert_eq!(world.look_up(&kept).await.problem(), ProblemKind::LookupWindow);
}

#[tokio::test]
async fn a_look_up_with_credentials_is_refused_before_anything_is_spent() {
    let world = World::new().await;
    let (mut session, jwt) = logged_in(&world, 1).await;
    let asked = world.ask(&world.lookup_tokens(&jwt, 1).await, &[number(1)]);
    let mut with_jwt = posted(&asked.request);
    with_jwt.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {jwt}").parse().unwrap());
    assert_eq!(world.send(with_jwt).await.problem(), ProblemKind::BadRequest);
    let (signed, _) = session.sign("POST", LOOKUP_PATH, serde_json::to_vec(&asked.request).unwrap());
    assert_eq!(world.send(signed).await.problem(), ProblemKind::BadRequest);
    assert_eq!(spent(&world), 0);
    assert_eq!(world.look_up(&asked.request).await.status, 200);
}

#[tokio::test]
async fn no_row_says_which_account_or_number_a_look_up_was_of() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let phone = number(77);
    let asked = world.ask(&world.lookup_tokens(&jwt, 1).await, std::slice::from_ref(&phone));
    let key = world.lookup_info().await.oprf_key;
    let [y] = asked.finish(&key, &world.look_up(&asked.request).await).try_into().unwrap();
    let account = world.database.blobs("select account from accounts").remove(0);
    let file = world.database.stored();
    let contains = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    assert!(contains(&account), "the test can see rows");
    assert!(!contains(phone.as_str().as_bytes()) && !contains(y.expose()));
    assert!(!contains(asked.request.blinded[0].as_bytes()) && !contains(&asked.request.tokens[0].0[2..34]));
    let tables = world.database.tables();
    let spent = tables.iter().find(|table| table.name == "lookup_spent").unwrap();
    assert!(!spent.columns.iter().any(|name| ["account", "created", "time"].contains(&name.as_str())));
    // The same key in the hands of whoever holds the root secret gives the same output: there is one function.
    let epoch = world.lookup_info().await.oprf_epoch;
    let derived = SecretKey::for_epoch(&world.root(), epoch).unwrap();
    assert_eq!(derived.output(phone.as_str().as_bytes()).unwrap(), y);
}
