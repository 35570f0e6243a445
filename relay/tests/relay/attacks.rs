//! Malformed everything: refused with a problem document, and nothing stored.

use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, MessageList, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, REVEALS_PATH, STRIKES_PATH};
use postern_protocol::send::{EVENTS_PATH, MAILBOXES_PATH, MESSAGES_PATH, OWN_CARD_PATH, RELAY_INFO_PATH, send_path};
use postern_protocol::tokens::{Token, authorization};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Mailbox, Reply, World, blinded, envelope, exchange_request, token};

pub(crate) fn stored(world: &World) -> Vec<i64> {
    ["ledger", "messages", "mailboxes", "cards", "closed_mailboxes", "token_keys", "retired_keys", "reply_keys"]
        .into_iter()
        .chain(["reply_nullifiers", "reply_strikes", "reply_reveals", "prekey_supplies", "prekeys", "prekey_claims"])
        .map(|table| world.count(&format!("select count(*) from {table}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_wrong_methods_are_problem_documents() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for path in ["/", "/v1", "/v1/%00", "/v1/mailboxes/x", "/v2/relay"] {
        assert_eq!(Reply::to(world.http.get(world.at(path))).await.refusal(), ProblemKind::NotFound, "{path}");
    }
    let card = world.http.get(world.at("/v1/mailboxes/%ff/card"));
    assert_eq!(Reply::to(card).await.refusal(), ProblemKind::MailboxUnknown);
    let own = [RELAY_INFO_PATH, MAILBOXES_PATH, MESSAGES_PATH, EVENTS_PATH, OWN_CARD_PATH, ACK_PATH, EXCHANGE_PATH];
    let replies = [REPLY_KEYS_PATH, STRIKES_PATH, REVEALS_PATH].map(str::to_owned);
    for path in own.map(str::to_owned).into_iter().chain(replies).chain([send_path(&bob.id)]) {
        let reply = Reply::to(world.http.delete(world.at(&path))).await;
        assert_eq!(reply.refusal(), ProblemKind::MethodNotAllowed, "{path}");
        assert!(reply.headers.contains_key("allow"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_and_every_flipped_bit_of_a_token_is_refused() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let good = token(0).token;
    let (header, envelope) = (authorization(&good), envelope());
    for cut in (13..header.len() - 3).step_by(9) {
        let mut request = world.send_request(&bob.id, &good, &envelope).build().unwrap();
        request.headers_mut().insert("authorization", header[..cut].parse().unwrap());
        assert_eq!(world.http.execute(request).await.unwrap().status(), 401, "{cut}");
    }
    let bytes = good.encode();
    for position in (2..Token::LEN).step_by(5) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        let reply = world.send(&bob.id, &Token::decode(&flipped).unwrap(), &envelope).await;
        assert_eq!(reply.refusal(), ProblemKind::TokenInvalid, "{position}");
    }
    assert_eq!(world.count("select count(*) from ledger"), 0);
    assert_eq!(world.send(&bob.id, &good, &envelope).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_cut_oversized_mistyped_or_has_more_in_it_is_refused() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (old, _) = world.sent(&bob.id).await;
    let before = stored(&world);
    let list = serde_json::to_vec(&MessageList { messages: vec![postern_protocol::ids::MessageId([1; 32])] }).unwrap();
    let exchange = serde_json::to_vec(&exchange_request(&old, 0, blinded(0).0)).unwrap();
    let endpoints = [
        (ACK_PATH, &list),
        (RELEASE_PATH, &list),
        (DECLINE_PATH, &list),
        (SPAM_PATH, &list),
        (EXCHANGE_PATH, &exchange),
    ];
    for (path, good) in endpoints {
        let post = |body: Vec<u8>, kind: &str| {
            Reply::to(world.http.post(world.at(path)).bearer_auth(&bob.jwt).header("content-type", kind).body(body))
        };
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            let reply = post(good[..cut].to_vec(), "application/json").await;
            assert_eq!(reply.refusal(), ProblemKind::BadRequest, "{path} {cut}");
        }
        let more = String::from_utf8(good.clone()).unwrap().replacen('{', "{\"surprise\":1,", 1);
        assert_eq!(post(more.into(), "application/json").await.refusal(), ProblemKind::BadRequest, "{path}");
        let deep = vec![b'['; 10_000];
        assert_eq!(post(deep, "application/json").await.refusal(), ProblemKind::BadRequest, "{path}");
        assert_eq!(post(good.clone(), "text/plain").await.refusal(), ProblemKind::UnsupportedMediaType, "{path}");
        let mut long = good.clone();
        long.resize(20_000, b' ');
        assert_eq!(post(long, "application/json").await.refusal(), ProblemKind::TooLarge, "{path}");
        assert!(post(good.clone(), "Application/JSON; charset=utf-8").await.status != 415, "{path}");
    }
    assert_eq!(stored(&world), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_jwt_opens_nothing() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for position in (0..bob.jwt.len()).step_by(7) {
        let mut bytes = bob.jwt.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = Mailbox { id: bob.id, jwt: String::from_utf8(bytes).unwrap() };
        if changed.jwt != bob.jwt {
            assert_eq!(world.read(&changed, "").await.refusal(), ProblemKind::Unauthorized, "{position}");
        }
    }
    for header in ["Bearer", "Bearer ", "Basic x", "bearer a.b.c", "PosternSession id=1"] {
        let reply = Reply::to(world.http.get(world.at(MESSAGES_PATH)).header("authorization", header)).await;
        assert_eq!(reply.refusal(), ProblemKind::Unauthorized, "{header}");
    }
    let twice = world.http.get(world.at(MESSAGES_PATH)).bearer_auth(&bob.jwt).bearer_auth(&bob.jwt);
    assert_eq!(Reply::to(twice).await.refusal(), ProblemKind::Unauthorized);
    let grant = World::jwt(&world.claims(&bob.id, Purpose::Mailbox));
    assert_eq!(
        Reply::to(world.http.post(world.at(MAILBOXES_PATH)).bearer_auth(grant)).await.refusal(),
        ProblemKind::Unauthorized
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_or_never_comes_is_cut_off() {
    // Long enough for the test's own first request on a busy machine.
    let world = World::start_with(|limits| limits.request_timeout_seconds = 4).await;
    let bob = world.mailbox().await;
    let address = world.url.strip_prefix("http://").unwrap().to_owned();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        send_path(&bob.id)
    );
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = slow.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer[..n]));

    let mut endless = tokio::net::TcpStream::connect(&address).await.unwrap();
    endless.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    for _ in 0..5 {
        endless.write_all(&chunk).await.unwrap();
    }
    let n = endless.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer[..n]));
    assert_eq!(world.count("select count(*) from messages"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_places_are_taken_is_told_to_come_back() {
    let world = World::start_with(|limits| {
        limits.concurrent_requests = 1;
        limits.request_timeout_seconds = 5;
    })
    .await;
    let head = format!(
        "PUT {OWN_CARD_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/octet-stream\r\n\
         content-length: 10\r\n\r\n",
        world.mailbox().await.jwt
    );
    let mut slow = tokio::net::TcpStream::connect(world.url.strip_prefix("http://").unwrap()).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let reply = Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await;
    assert_eq!(reply.refusal(), ProblemKind::Unavailable);
    slow.write_all(&[7; 10]).await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert_eq!(Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.status, 200);
}
