//! Floods against real servers on real sockets: whoever has nothing to show gets little, and keeps nobody out. See docs/operating.md.

use std::net::SocketAddr;
use std::time::Duration;

use postern_listen::raise_file_handles;
use postern_load::usage::Snapshot;
use postern_protocol::login::JwtAudience;
use postern_protocol::register::ISSUER_INFO_PATH;
use postern_protocol::send::{EVENTS_PATH, RELAY_INFO_PATH};
use postern_tests::junk::{self, Sender};
use postern_tests::world::Server;
use postern_tests::{Actor, Reply, World, programs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const MIB: u64 = 1 << 20;

fn at(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

/// Resident memory, bytes.
fn resident(process: u32) -> u64 {
    let now = Snapshot::of(&[process]).unwrap();
    now.until(&now).rss_bytes
}

async fn both_answer(http: &reqwest::Client, world: &World) {
    for url in [format!("{}{ISSUER_INFO_PATH}", world.issuer_url), format!("{}{RELAY_INFO_PATH}", world.relay_url)] {
        assert_eq!(Reply::to(http.get(url)).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_sent_slowly_are_cut_in_time_and_others_are_served_meanwhile() {
    let settings = "idle_connection_seconds = 2";
    let mut world = World::start_with(programs!(), settings, settings);
    let drip = |at: SocketAddr| async move {
        let (mut stream, began) = (TcpStream::connect(at).await.unwrap(), Instant::now());
        stream.write_all(b"POST /v1/exchange HTTP/1.1\r\nx: ").await.unwrap();
        while stream.write_all(b"y").await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is never cut");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        began.elapsed()
    };
    let dripping: Vec<_> =
        [at(&world.issuer), at(&world.relay)].into_iter().cycle().take(400).map(|at| tokio::spawn(drip(at))).collect();
    let http = reqwest::Client::new();
    for _ in 0..20 {
        both_answer(&http, &world).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for slow in dripping {
        let lasted = slow.await.unwrap();
        assert!(lasted > Duration::from_secs(1), "{lasted:?}");
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_connections_that_do_nothing_keep_nobody_out() {
    raise_file_handles();
    let settings = "connections = 1000";
    let mut world = World::start_with(programs!(), settings, settings);
    let mut idle = Vec::new();
    for n in 0..4400 {
        idle.push(TcpStream::connect(at(if n % 2 == 0 { &world.issuer } else { &world.relay })).await.unwrap());
    }
    let mut alice = Actor::ready(&world, "+41791238001").await;
    let mut bob = Actor::ready(&world, "+41791238002").await;
    let (to, token) = (bob.mailbox(), alice.tokens[0].token);
    let envelope = alice.envelope(&to, "through the crowd");
    assert_eq!(alice.send(&to, &token, &envelope).await.status, 201);
    assert_eq!(bob.inbox().await.messages.len(), 1);
    // Those that gave their places up were hung up on.
    let mut byte = [0];
    assert_eq!(timeout(Duration::from_secs(5), idle[0].read(&mut byte)).await.unwrap().unwrap_or(0), 0);
    for server in [&world.issuer, &world.relay] {
        assert!(resident(server.id()) < 256 * MIB, "{} bytes", resident(server.id()));
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_are_too_long_are_refused_and_cost_no_memory() {
    let mut world = World::start(programs!());
    let long_head = format!("GET /v1/relay HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(18_000));
    let long_body = "POST /v1/exchange HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000000\r\n\r\n{";
    let long_code = long_body.replace("/v1/exchange", "/v1/registration/code");
    let ask = |at: SocketAddr, request: String| async move {
        let (mut stream, mut answer) = (TcpStream::connect(at).await.unwrap(), Vec::new());
        stream.write_all(request.as_bytes()).await.unwrap();
        // The server may wait for the body that it has refused: what it says is read until it has said a problem.
        while stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {
            if answer.windows(15).any(|part| part == b"postern:problem") {
                break;
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (issuer, relay) = (at(&world.issuer), at(&world.relay));
    let before = [resident(world.issuer.id()), resident(world.relay.id())];
    for _ in 0..500 {
        let asked = [(issuer, &long_head, "431"), (relay, &long_head, "431"), (issuer, &long_code, "413")];
        for (at, request, status) in asked.into_iter().chain([(relay, &long_body.to_owned(), "413")]) {
            let answer = ask(at, request.clone()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
    }
    for (server, before) in [&world.issuer, &world.relay].into_iter().zip(before) {
        let grown = resident(server.id()).saturating_sub(before);
        assert!(grown < 32 * MIB, "a thousand requests that were refused cost {grown} bytes");
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_junk_writes_nothing() {
    let mut world = World::start(programs!());
    let alice = Actor::ready(&world, "+41791238003").await;
    let before = junk::stored(&world);
    for junk in junk::all(&alice) {
        let mut sender = Sender::to(at(if junk.relay { &world.relay } else { &world.issuer })).await;
        for _ in 0..50 {
            let (status, _) = sender.send(&junk.bytes).await;
            assert_eq!(status, junk.status, "{}", junk.name);
        }
        assert!(junk::stored(&world) == before, "{} wrote something", junk.name);
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_waiting_readers_than_there_is_room_for_are_refused_and_take_no_memory() {
    let mut world = World::start_with(programs!(), "", "waiting_readers = 12\nwaiting_readers_per_mailbox = 8");
    let (mut alice, mut bob) = (Actor::ready(&world, "+41791238004").await, Actor::ready(&world, "+41791238005").await);
    let mut open = Vec::new();
    let mut refused = 0;
    let before = resident(world.relay.id());
    for actor in [&mut alice, &mut bob] {
        let jwt = actor.jwt(JwtAudience::Relay).await;
        for _ in 0..200 {
            let stream = actor.http.get(actor.relay(EVENTS_PATH)).bearer_auth(&jwt).send().await.unwrap();
            match stream.status().as_u16() {
                200 => open.push(stream),
                status => {
                    assert!([429, 503].contains(&status), "{status}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((open.len(), refused), (12, 388));
    let grown = resident(world.relay.id()).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes");
    world.assert_healthy();
}
