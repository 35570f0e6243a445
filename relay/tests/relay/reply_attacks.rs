//! Replies that are not what they say, and what senders try at the same time.

use futures::future::join_all;
use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::{
    REPLY_KEYS_PATH, REPLY_SCHEME, REVEALS_PATH, ReplyAuthorization, ReplyKeys, STRIKES_PATH, Strikes,
};
use postern_protocol::send::Accepted;
use postern_protocol::tokens::{TokenChallenge, authorization, parse_www_authenticate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attacks::stored;
use crate::contacts::{Contact, EPOCH, For, Owner, reply_key, revealed};
use crate::issuer::{ISSUER, key};
use crate::world::{RELAY, Reply, World, envelope, random, token};

/// Replies and messages in the database.
fn arrived(world: &World) -> (i64, i64) {
    (world.count("select count(*) from reply_nullifiers"), world.count("select count(*) from messages"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presentation_holds_for_its_envelope_mailbox_relay_version_and_epoch_alone() {
    let world = World::start().await;
    let (bob, carol, alice) = (Owner::new(&world).await, Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let right = bob.at(EPOCH);
    let mut relabelled = alice.present(&bob.group, For { epoch: EPOCH - 1, ..right }, 0, &envelope);
    relabelled.epoch = EPOCH;
    let mut of_version_2 = alice.present(&bob.group, For { version: 2, ..right }, 0, &envelope);
    let unknown_version = of_version_2.clone();
    of_version_2.key_version = 1;
    for (what, shown) in [
        ("another envelope", bob.shown(&alice, EPOCH, 0, &[7; 4096])),
        ("another mailbox", alice.present(&bob.group, carol.at(EPOCH), 0, &envelope)),
        ("another relay", alice.present(&bob.group, For { relay: "other.test", ..right }, 0, &envelope)),
        ("another group", alice.present(&carol.group, right, 0, &envelope)),
        ("another epoch's as this one's", relabelled),
        ("another version's as this one's", of_version_2),
        ("a version that the relay has not", unknown_version),
    ] {
        let reply = bob.send(&world, &shown, &envelope).await;
        assert_eq!(reply.refusal(), ProblemKind::ReplyInvalid, "{what}");
        let challenge = parse_www_authenticate(reply.headers["www-authenticate"].to_str().unwrap()).unwrap();
        assert_eq!(challenge, (TokenChallenge::for_relay(ISSUER, RELAY), key(0).public().spki().to_vec()), "{what}");
    }
    let bobs = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(carol.send(&world, &bobs, &envelope).await.refusal(), ProblemKind::ReplyInvalid);
    assert_eq!(arrived(&world), (0, 0));
    assert_eq!(bob.send(&world, &bobs, &envelope).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_corrupted_byte_of_a_presentation_is_refused_and_leaves_no_trace() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let good = bob.shown(&alice, EPOCH, 0, &envelope);
    for position in 0..160 {
        for flip in [1, 0x80] {
            let mut bad = good.clone();
            bad.presentation[position] ^= flip;
            let refusal = bob.send(&world, &bad, &envelope).await.refusal();
            assert_eq!(refusal, ProblemKind::ReplyInvalid, "{position}");
        }
    }
    for part in 0..5 {
        for fill in [0, 0xff] {
            let mut bad = good.clone();
            bad.presentation[32 * part..32 * (part + 1)].fill(fill);
            assert_eq!(bob.send(&world, &bad, &envelope).await.refusal(), ProblemKind::ReplyInvalid, "{part}");
        }
    }
    assert_eq!(arrived(&world), (0, 0));
    assert_eq!(bob.send(&world, &good, &envelope).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_any_other_form_is_refused() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let good = bob.shown(&alice, EPOCH, 0, &envelope).to_string();
    for bad in [
        REPLY_SCHEME.to_owned(),
        format!("{REPLY_SCHEME} "),
        format!("{REPLY_SCHEME} key=1"),
        good.replace(", epoch", ",epoch"),
        good.replace("key=1", "key=01"),
        good.replace("key=1", "key=-1"),
        good.replace("epoch=", "epoch=99999999999"),
        good.replace("key=1, ", ""),
        good.to_lowercase(),
        format!("{good}A"),
        format!("{good}=="),
        format!("{good}, extra=1"),
        good[..good.len() - 1].to_owned(),
    ] {
        assert_eq!(world.reply(&bob.mailbox.id, &bad, &envelope).await.refusal(), ProblemKind::ReplyInvalid, "{bad}");
    }
    // Two credentials are as good as none, whichever comes first.
    let token = authorization(&token(0).token);
    for (first, second) in [(&good, &token), (&token, &good), (&good, &good)] {
        let request = world.reply_request(&bob.mailbox.id, first, &envelope).header("authorization", second);
        assert_eq!(Reply::to(request).await.refusal(), ProblemKind::TokenRequired);
    }
    assert_eq!(arrived(&world), (0, 0));
    assert_eq!(world.reply(&bob.mailbox.id, &good, &envelope).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_come_in_their_order() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let used = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &used, &envelope).await.status, 201);
    let with = |key_version, epoch| ReplyAuthorization { key_version, epoch, presentation: [0xff; 160] };
    let nobody = MailboxId(random());
    let (future, unknown) = (with(1, EPOCH + 5), with(9, EPOCH + 5));
    for (to, header, body, expected) in [
        (nobody, "PosternReply x".to_owned(), &envelope[1..], ProblemKind::EnvelopeSize),
        (nobody, "PosternReply x".to_owned(), &envelope[..], ProblemKind::MailboxUnknown),
        (bob.mailbox.id, "PosternReply x".to_owned(), &envelope[..], ProblemKind::ReplyInvalid),
        (bob.mailbox.id, unknown.to_string(), &envelope[..], ProblemKind::ReplyInvalid),
        (bob.mailbox.id, future.to_string(), &envelope[..], ProblemKind::ReplyEpoch),
        (bob.mailbox.id, with(1, EPOCH).to_string(), &envelope[..], ProblemKind::ReplyInvalid),
    ] {
        assert_eq!(world.reply(&to, &header, body).await.refusal(), expected);
    }
    world.clock.advance_seconds(3600 + 600);
    assert_eq!(bob.send(&world, &used, &envelope).await.refusal(), ProblemKind::ReplyEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_nullifier_is_refused_before_any_group_arithmetic() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let good = bob.shown(&alice, EPOCH, 0, &envelope);
    let mut garbage = good.clone();
    garbage.presentation = [0xff; 160];
    garbage.presentation[64..72].copy_from_slice(&good.presentation[64..72]);
    assert_eq!(bob.send(&world, &garbage, &envelope).await.refusal(), ProblemKind::ReplyInvalid, "not yet known");
    assert_eq!(bob.send(&world, &good, &envelope).await.status, 201);
    // What cannot even be decoded gets the answer that stands in the table.
    assert_eq!(bob.send(&world, &garbage, &envelope).await.refusal(), ProblemKind::ReplyUsed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_shown_for_another_message_is_refused_and_stores_nothing() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let good = bob.shown(&alice, EPOCH, 0, &envelope);
    assert_eq!(bob.send(&world, &good, &envelope).await.status, 201);
    let before = stored(&world);
    // The same presentation with another envelope, a fresh one for another envelope, a fresh one for the same envelope.
    let (other, again) = (bob.shown(&alice, EPOCH, 0, &[7; 4096]), bob.shown(&alice, EPOCH, 0, &envelope));
    assert!(again != good);
    for (shown, body) in [(&good, &[7; 4096][..]), (&other, &[7; 4096]), (&again, &envelope)] {
        assert_eq!(bob.send(&world, shown, body).await.refusal(), ProblemKind::ReplyUsed);
    }
    assert_eq!(stored(&world), before);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_identical_replies_all_get_one_answer_and_one_is_delivered() {
    let world = World::start().await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let replies = join_all((0..64).map(|_| bob.send(&world, &shown, &envelope))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.body == replies[0].body));
    assert_eq!(arrived(&world), (1, 1));
    assert_eq!(bob.inbox(&world).await, [replies[0].json::<Accepted>().message]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_replies_with_one_slot_exactly_one_is_accepted() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let letters: Vec<_> = (0..64)
        .map(|_| {
            let envelope = envelope();
            (bob.shown(&alice, EPOCH, 0, &envelope), envelope)
        })
        .collect();
    let replies = join_all(letters.iter().map(|(shown, envelope)| bob.send(&world, shown, envelope))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    for refused in replies.iter().filter(|reply| reply.status != 201) {
        assert_eq!(refused.refusal(), ProblemKind::ReplyUsed);
    }
    assert_eq!(arrived(&world), (1, 1));
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_first_replies_of_an_epoch_no_revealed_one_slips_through() {
    let world = World::start().await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    world.clock.advance_seconds(3600);
    let others: Vec<_> = (0..3).map(|_| Contact::new()).collect();
    let envelope = envelope();
    let letters: Vec<_> = (0..64u16)
        .map(|n| bob.shown(others.get(usize::from(n % 4)).unwrap_or(&mallory), EPOCH + 1, n / 4, &envelope))
        .collect();
    let replies = join_all(letters.iter().map(|shown| bob.send(&world, shown, &envelope))).await;
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert_eq!(arrived(&world), (64, 48));
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_under_parallel_replies_and_refused_slots_stay_good() {
    let world = World::start_with(|limits| limits.quota_messages = 5).await;
    let (bob, alice, envelope) = (Owner::new(&world).await, Contact::new(), envelope());
    let letters: Vec<_> = (0..16).map(|slot| bob.shown(&alice, EPOCH, slot, &envelope)).collect();
    let replies = join_all(letters.iter().map(|shown| bob.send(&world, shown, &envelope))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 5);
    assert_eq!(arrived(&world), (5, 5));
    world.assert_consistent();
}

/// The answer to a body that is only announced: so nobody is cut off while still writing.
async fn announced(world: &World, owner: &Owner, path: &str, length: usize) -> String {
    let method = if path == REPLY_KEYS_PATH { "PUT" } else { "POST" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n",
        owner.mailbox.jwt
    );
    let mut stream = TcpStream::connect(world.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_cut_oversized_mistyped_or_has_more_in_it_is_refused() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let before = stored(&world);
    let keys = serde_json::to_vec(&ReplyKeys { keys: vec![reply_key(1, &bob.group)] }).unwrap();
    let lists = Strikes { strike: vec![alice.nullifiers(bob.at(EPOCH), &[])], lift: Vec::new() };
    let endpoints = [
        (REPLY_KEYS_PATH, keys, 16 * 1024),
        (STRIKES_PATH, serde_json::to_vec(&lists).unwrap(), 64 * 1024),
        (REVEALS_PATH, serde_json::to_vec(&revealed(&alice, EPOCH)).unwrap(), 16 * 1024),
    ];
    for (path, good, longest) in endpoints {
        let call = |body: Vec<u8>, kind: &str| {
            let method = if path == REPLY_KEYS_PATH { reqwest::Method::PUT } else { reqwest::Method::POST };
            let request = world.http.request(method, world.at(path)).bearer_auth(&bob.mailbox.jwt);
            Reply::to(request.header("content-type", kind).body(body))
        };
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            let refusal = call(good[..cut].to_vec(), "application/json").await.refusal();
            assert_eq!(refusal, ProblemKind::BadRequest, "{path} {cut}");
        }
        let text = String::from_utf8(good.clone()).unwrap();
        for more in [text.replacen('{', "{\"surprise\":1,", 1), text.replace('"', ""), "[".repeat(10_000)] {
            assert_eq!(call(more.into(), "application/json").await.refusal(), ProblemKind::BadRequest, "{path}");
        }
        assert_eq!(call(good.clone(), "text/plain").await.refusal(), ProblemKind::UnsupportedMediaType, "{path}");
        assert_eq!(announced(&world, &bob, path, longest + 1).await, "HTTP/1.1 413", "{path}");
        assert_eq!(stored(&world), before, "{path}");
    }
}
