//! Reading: in order, bounded, waited for, and never lost before it is acknowledged.

use std::time::Duration;

use futures::StreamExt;
use postern_protocol::ids::MailboxId;
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::ACK_PATH;
use postern_protocol::send::{EVENTS_PATH, Messages};
use postern_test_database::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Mailbox, Reply, World, envelope, token};

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_oldest_first_until_they_are_acknowledged() {
    let world = World::start().await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(world.sent(&bob.id).await.1);
        world.sent(&carol.id).await;
        world.clock.advance_seconds(1);
    }
    let ids = |messages: &Messages| messages.messages.iter().map(|m| m.message).collect::<Vec<_>>();
    let all = world.inbox(&bob).await;
    assert_eq!(ids(&all), sent);
    assert!(!all.more && all.messages[0].arrived + 3 == all.messages[3].arrived);
    assert_eq!(ids(&world.inbox(&bob).await), sent, "again until acknowledged");
    let two: Messages = world.read(&bob, "?limit=2").await.json();
    assert!(two.more && ids(&two) == sent[..2]);
    world.verdict(&bob, ACK_PATH, &sent[..2]).await;
    assert_eq!(ids(&world.inbox(&bob).await), sent[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_about_a_mebibyte() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for _ in 0..18 {
        assert_eq!(world.send(&bob.id, &token(0).token, &[3; 65_536]).await.status, 201);
    }
    let page = world.inbox(&bob).await;
    assert!(page.more && page.messages.len() == 16, "{}", page.messages.len());
    let ids: Vec<_> = page.messages.iter().map(|m| m.message).collect();
    world.verdict(&bob, ACK_PATH, &ids).await;
    let rest = world.inbox(&bob).await;
    assert!(!rest.more && rest.messages.len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_out_of_bounds_are_refused() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for query in ["?limit=0", "?limit=101", "?wait=61", "?wait=-1", "?limit=x", "?surprise=1", "?wait=1&wait=2"] {
        assert_eq!(world.read(&bob, query).await.refusal(), ProblemKind::BadRequest, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_a_message_arrives_and_not_before() {
    // Only the wake-up can be that fast: the look for other processes' writes comes much later.
    let world = World::start_with(|limits| limits.recheck_milliseconds = 60_000).await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let begun = Instant::now();
    let poll = world.read(&bob, "?wait=30");
    let send = async {
        sleep(Duration::from_millis(200)).await;
        world.sent(&carol.id).await;
        sleep(Duration::from_millis(200)).await;
        world.sent(&bob.id).await
    };
    let (reply, (_, message)) = tokio::join!(poll, send);
    assert_eq!(reply.json::<Messages>().messages[0].message, message);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(400) && waited < Duration::from_secs(20), "{waited:?}");

    let begun = Instant::now();
    assert!(
        world.read(&carol, "?wait=30").await.json::<Messages>().messages.len() == 1,
        "what is there is not waited for"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_long_poll_ends_after_its_time() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let begun = Instant::now();
    assert!(world.read(&bob, "?wait=1").await.json::<Messages>().messages.is_empty());
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

/// A message that another process takes a moment from now; it rings `bell`, if any.
async fn taken_elsewhere(world: &World, bob: &Mailbox, bell: Option<[u8; 16]>) {
    sleep(Duration::from_millis(300)).await;
    world.database.execute(
        "insert into messages (mailbox, message, position, arrived_at, size, envelope) values ($1, $2, 1, 1, 4096, $3)",
        &[bob.id.0.to_vec(), vec![5; 32], vec![6; 4096]].map(Value::Blob),
    );
    world.database.execute(
        "update mailboxes set queued_messages = 1, queued_bytes = 4096, arrivals = 1 where mailbox = $1",
        &[Value::Blob(bob.id.0.to_vec())],
    );
    if let Some(process) = bell {
        world
            .database
            .execute("insert into bells (process, rung, rung_at) values ($1, 1, 1)", &[Value::Blob(process.to_vec())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_took_is_seen_within_the_recheck() {
    let world = World::start_with(|limits| limits.heartbeat_seconds = 3600).await;
    let bob = world.mailbox().await;
    let (reply, ()) = tokio::join!(world.read(&bob, "?wait=30"), taken_elsewhere(&world, &bob, Some([7; 16])));
    assert_eq!(reply.json::<Messages>().messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_bell_rang_for_is_seen_within_a_heartbeat() {
    let world = World::start_with(|limits| limits.heartbeat_seconds = 1).await;
    let bob = world.mailbox().await;
    let (reply, ()) = tokio::join!(world.read(&bob, "?wait=30"), taken_elsewhere(&world, &bob, None));
    assert_eq!(reply.json::<Messages>().messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_rings_for_messages_and_not_for_what_it_refuses_and_its_bell_is_dropped_a_day_later() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    world.sent(&bob.id).await;
    let rung = "select rung from bells";
    assert_eq!(world.count(rung), 1);
    assert_eq!(world.send(&MailboxId([9; 32]), &token(0).token, &envelope()).await.status, 404);
    assert_eq!(world.count(rung), 1);
    world.sent(&bob.id).await;
    assert_eq!(world.count(rung), 2);
    world.clock.advance_seconds(86_400);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(rung), 2);
    world.clock.advance_seconds(1);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from bells"), 0);
}

/// Reads the stream until it holds `text`.
async fn until(
    stream: &mut (impl futures::Stream<Item = reqwest::Result<axum::body::Bytes>> + Unpin),
    seen: &mut String,
    text: &str,
) {
    while !seen.contains(text) {
        let chunk = timeout(Duration::from_secs(20), stream.next()).await.unwrap_or_else(|_| panic!("{seen:?}"));
        seen.push_str(std::str::from_utf8(&chunk.expect("the stream goes on").unwrap()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_speaks_of_each_arrival_and_keeps_alive() {
    let world = World::start_with(|limits| limits.heartbeat_seconds = 1).await;
    let bob = world.mailbox().await;
    let response = world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = Box::pin(response.bytes_stream());
    let mut seen = String::new();
    until(&mut stream, &mut seen, ": still here").await;
    assert!(!seen.contains("event: message"), "nothing has arrived");
    for _ in 0..2 {
        seen.clear();
        world.sent(&bob.id).await;
        until(&mut stream, &mut seen, "event: message\ndata: {}\n\n").await;
    }

    // Somebody who comes later is told at once of what waits.
    let response = world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt).send().await.unwrap();
    let mut seen = String::new();
    until(&mut Box::pin(response.bytes_stream()), &mut seen, "event: message").await;

    // The JWT expires, and the stream ends.
    world.clock.advance_seconds(600);
    let end = timeout(Duration::from_secs(20), async { while stream.next().await.is_some() {} }).await;
    assert!(end.is_ok());
    let refused = Reply::to(world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt)).await;
    assert_eq!(refused.refusal(), ProblemKind::Unauthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_are_counted_and_sent_home_when_the_relay_stops() {
    let mut world = World::start_with(|limits| limits.waiting_readers_per_mailbox = 1).await;
    let bob = world.mailbox().await;
    let stream = world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt).send().await.unwrap();
    let second = Reply::to(world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt)).await;
    assert_eq!(second.refusal(), ProblemKind::RateLimited);
    let begun = Instant::now();
    assert!(
        world.read(&bob, "?wait=30").await.json::<Messages>().messages.is_empty(),
        "no room to wait: answered at once"
    );
    world.restart().await;
    drop(stream.bytes().await);
    assert!(begun.elapsed() < Duration::from_secs(9), "nobody holds the relay up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_mailbox_that_is_replaced_ends() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let response = world.http.get(world.at(EVENTS_PATH)).bearer_auth(&bob.jwt).send().await.unwrap();
    let new = Mailbox { id: postern_protocol::ids::MailboxId([8; 32]), jwt: String::new() };
    let mut grant = world.claims(&new.id, Purpose::Grant);
    grant.replaces = Some(bob.id);
    assert_eq!(world.open(&grant).await.status, 201);
    assert!(timeout(Duration::from_secs(20), response.bytes()).await.is_ok());
}
