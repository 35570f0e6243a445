//! The log: what is shown is in it, it only grows, and who rewrites it is found out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use axum::body::Body;
use axum::http::Request;
use postern_credentials::key_log::{LogError, leaf_hash, verify_contains, verify_extends, verify_head};
use postern_issuer::service::{directory, housekeeping, keys};
use postern_protocol::directory::MANIFEST_PATH;
use postern_protocol::log::{
    CONSISTENCY_PATH, ConsistencyProof, ENTRIES_PATH, INCLUSION_PATH, InclusionProof, LOG_PATH, LogEntries, LogHead,
    LogLeaf,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::tokens::DIRECTORY_PATH;
use world::{World, send};

async fn head(world: &World) -> LogHead {
    let reply = world.get(LOG_PATH).await;
    assert_eq!(reply.header("cache-control"), Some("no-cache"), "an old head would lack what is shown now");
    let head = reply.json();
    verify_head(&head, &world.info().await.public_key).unwrap();
    head
}

async fn extends(world: &World, seen: &LogHead, new: &LogHead) -> Result<(), LogError> {
    let path = format!("{CONSISTENCY_PATH}?from={}&to={}", seen.size, new.size);
    let proof: ConsistencyProof = world.get(&path).await.json();
    verify_extends(seen, new, &proof)
}

async fn contains(world: &World, head: &LogHead, leaf: &LogLeaf) -> bool {
    let leaf = leaf.encode();
    let reply = world.get(&format!("{INCLUSION_PATH}?leaf={}&size={}", leaf_hash(&leaf), head.size)).await;
    if reply.status == 404 {
        return false;
    }
    let proof: InclusionProof = reply.json();
    verify_contains(head, &leaf, &proof).unwrap();
    true
}

async fn leaves(world: &World) -> Vec<LogLeaf> {
    let path = format!("{ENTRIES_PATH}?from=0&to={}", head(world).await.size);
    let entries: LogEntries = world.get(&path).await.json();
    entries.entries.iter().map(|leaf| LogLeaf::decode(&leaf.0).unwrap()).collect()
}

#[tokio::test]
async fn manifests_token_keys_and_window_keys_are_in_the_log_as_they_were_shown() {
    let world = World::new().await;
    directory::build(&world.issuer).await.unwrap().unwrap();
    let shown = [
        LogLeaf::Manifest(world.get(MANIFEST_PATH).await.body),
        LogLeaf::TokenKeys(world.get(DIRECTORY_PATH).await.body),
        LogLeaf::LookupKey(world.lookup_info().await.keys[0]),
    ];
    let head = head(&world).await;
    for leaf in &shown {
        assert!(contains(&world, &head, leaf).await, "{leaf:?}");
    }
    assert!(!contains(&world, &head, &LogLeaf::Manifest(vec![1])).await);
    assert_eq!(head.size, 3);
    // Showing it again logs nothing, and costs no write.
    let watch = world.database.watch();
    let version = || watch.version();
    let before = version();
    for path in [MANIFEST_PATH, DIRECTORY_PATH, postern_protocol::lookup::LOOKUP_PATH, LOG_PATH] {
        assert_eq!(world.get(path).await.status, 200);
    }
    assert_eq!(version(), before);
}

#[tokio::test]
async fn what_comes_into_force_is_logged_even_if_nobody_asks() {
    let world = World::new().await;
    let first = leaves(&world).await;
    assert!(matches!(first.as_slice(), [LogLeaf::TokenKeys(_)]), "{first:?}");
    keys::rotate(&world.issuer, 1000).await.unwrap();
    world.clock.advance_seconds(1000);
    housekeeping::once(&world.issuer).await.unwrap();
    directory::build(&world.issuer).await.unwrap();
    world.clock.advance_seconds(86_400);
    housekeeping::once(&world.issuer).await.unwrap();
    let kinds: Vec<_> = leaves(&world).await.iter().map(|leaf| leaf.encode()[0]).collect();
    // Two directories of the rotation and one of the key's retirement; a window; a build; the next window.
    assert_eq!(kinds, [2, 2, 2, 3, 1, 3]);
}

#[tokio::test]
async fn every_head_extends_every_head_before_across_restarts_and_processes() {
    let mut world = World::new().await;
    let mut heads = vec![head(&world).await];
    for round in 0..4 {
        directory::build(&world.issuer).await.unwrap().unwrap();
        heads.push(head(&world).await);
        let other = world.second_process().await;
        directory::build(&other).await.unwrap().unwrap();
        heads.push(head(&world).await);
        let theirs = send(&other, Request::get(LOG_PATH).body(Body::empty()).unwrap()).await;
        let theirs: LogHead = theirs.json();
        assert_eq!(theirs, *heads.last().unwrap(), "all processes show one log");
        world.clock.advance_seconds(1);
        if round % 2 == 0 {
            world = world.restart(|_| {}).await;
        }
        heads.push(head(&world).await);
    }
    for (i, seen) in heads.iter().enumerate() {
        for new in &heads[i..] {
            assert_eq!(extends(&world, seen, new).await, Ok(()));
        }
    }
    assert_eq!(heads.last().unwrap().size, 9);
    let seen = &heads[0];
    let cut = LogHead { size: 0, ..seen.clone() };
    assert_eq!(verify_extends(seen, &cut, &ConsistencyProof { hashes: Vec::new() }), Err(LogError::Cut));
}

#[tokio::test]
async fn a_log_that_is_rewritten_or_cut_does_not_extend_what_was_seen() {
    let world = World::new().await;
    for _ in 0..3 {
        directory::build(&world.issuer).await.unwrap().unwrap();
    }
    let seen = head(&world).await;
    world.database.execute("update key_log set leaf = x'0101' where place = 1", &[]);
    let world = world.restart(|_| {}).await;
    directory::build(&world.issuer).await.unwrap().unwrap();
    let new = head(&world).await;
    assert_eq!(extends(&world, &seen, &new).await, Err(LogError::Rewritten));
    world.database.execute("delete from key_log where place > 1", &[]);
    let world = world.restart(|_| {}).await;
    assert!(head(&world).await.size < seen.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_processes_that_show_a_new_key_at_once_one_logs_it() {
    let world = World::new().await;
    let second = world.second_process().await;
    let tasks: Vec<_> = (0..32)
        .map(|i| {
            let issuer = std::sync::Arc::clone(if i % 2 == 0 { &world.issuer } else { &second });
            let request = Request::get(postern_protocol::lookup::LOOKUP_PATH).body(Body::empty()).unwrap();
            tokio::spawn(async move { send(&issuer, request).await.status })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(world.query("select count(*) from key_log"), 2);
    assert_eq!(world.query("select max(place) from key_log"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_by_many_at_once_reads_every_leaf_once() {
    let world = World::new().await;
    for _ in 0..5 {
        directory::build(&world.issuer).await.unwrap().unwrap();
    }
    let expected = head(&world).await;
    for _ in 0..5 {
        let fresh = world.second_process().await;
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let issuer = std::sync::Arc::clone(&fresh);
                let request = Request::get(LOG_PATH).body(Body::empty()).unwrap();
                tokio::spawn(async move { send(&issuer, request).await.json::<LogHead>() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn leaves_are_read_in_pieces_and_anything_else_is_refused() {
    let world = World::new().await;
    for _ in 0..3 {
        directory::build(&world.issuer).await.unwrap().unwrap();
    }
    let entries = async |query: &str| world.get(&format!("{ENTRIES_PATH}?{query}")).await;
    let all: LogEntries = entries("from=0&to=4").await.json();
    let some: LogEntries = entries("to=3&from=1").await.json();
    assert_eq!((some.from, some.entries.as_slice()), (1, &all.entries[1..3]));
    assert_eq!(entries("from=4&to=4").await.json::<LogEntries>().entries.len(), 0);
    let cached = entries("from=0&to=4").await;
    assert_eq!(cached.header("cache-control"), Some("public, max-age=31536000, immutable"));

    for query in [
        "",
        "from=0",
        "from=0&to=4&x=1",
        "from=0&from=1&to=4",
        "from=3&to=1",
        "from=0&to=5",
        "from=a&to=1",
        "from=-1&to=1",
        "from=0&to=18446744073709551616",
        "from=0&to=18446744073709551615",
    ] {
        for path in [ENTRIES_PATH, CONSISTENCY_PATH] {
            assert_eq!(
                world.get(&format!("{path}?{query}")).await.problem(),
                ProblemKind::BadRequest,
                "{path} {query}"
            );
        }
    }
    let known = leaf_hash(&all.entries[0].0);
    for query in ["leaf=x&size=1".to_owned(), format!("leaf={known}&size=5"), format!("leaf={known}")] {
        assert_eq!(world.get(&format!("{INCLUSION_PATH}?{query}")).await.problem(), ProblemKind::BadRequest, "{query}");
    }
    let later = leaf_hash(&all.entries[3].0);
    let early = world.get(&format!("{INCLUSION_PATH}?leaf={later}&size=3")).await;
    assert_eq!(early.problem(), ProblemKind::NotFound);
}
