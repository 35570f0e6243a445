//! Who looked up whom? A program that has all tables, logs and requests of both servers, and the issuer's root secret, cannot tell which of
//! a thousand accounts looked a number up, nor which of a thousand numbers, nor whether it was listed; and with a leak, it can.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::sync::{LazyLock, Mutex, MutexGuard};

use postern_client::lookup::Outcome;
use postern_protocol::lookup::{LOOKUP_PATH, LookupRequest};
use postern_tests::game::capture::{Exchange, Server};
use postern_tests::game::distinguishers::{ALL, BEST, Question, Tallies};
use postern_tests::game::lookups::{Game, Leak};
use postern_tests::game::people::Prepared;
use postern_tests::game::report::play_lookups;
use postern_tests::game::servers::Servers;
use postern_tests::game::statistics::Tally;

/// Rounds of the honest game: half an interval's width is less than 0.08.
const ROUNDS: usize = 600;
/// Rounds of a leaky one.
const FEW: usize = 40;
/// Of each interval.
const CONFIDENCE: f64 = 0.999;

/// One game at a time: logs are the process's.
static PREPARED: LazyLock<Mutex<Prepared>> = LazyLock::new(|| {
    let servers = Servers::fresh();
    Mutex::new(runtime().block_on(Prepared::new(servers)))
});

fn prepared() -> MutexGuard<'static, Prepared> {
    PREPARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn play(prepared: &Prepared, leak: Leak, rounds: usize) -> Tallies {
    play_lookups(prepared, leak, rounds, |_| {})
}

fn print(question: Question, name: &str, tally: &Tally) {
    let (advantage, hits) = (tally.advantage(CONFIDENCE), tally.hit_rate(CONFIDENCE));
    println!(
        "{question:?} by {name:24} mean rank {:.3}  advantage {:+.3} [{:+.3}, {:+.3}]  picked {:4}/{} [{:.4}, {:.4}]",
        tally.mean_rank(),
        advantage.value,
        advantage.low,
        advantage.high,
        tally.hits(),
        tally.rounds(),
        hits.low,
        hits.high,
    );
}

#[test]
fn both_servers_with_all_that_they_have_cannot_tell_who_looked_a_number_up_nor_which_nor_whether_it_was_listed() {
    let tallies = play(&prepared(), Leak::None, ROUNDS);
    // So many statements are made at once, that none of them may fail by chance.
    let corrected = 1.0 - (1.0 - CONFIDENCE) / tallies.results().len() as f64;
    for (question, name, tally) in tallies.results() {
        print(*question, name, tally);
    }
    for (question, name, tally) in tallies.results() {
        let (advantage, what) = (tally.advantage(corrected), format!("{question:?} by {name}"));
        assert!(advantage.covers(0.0), "{what}: {advantage:?}");
        assert!(tally.advantage(CONFIDENCE).half_width() <= 0.1, "{what}: {advantage:?}");
        assert!(tally.hits_by_chance() >= 1.0 - corrected, "{what}: {} picked", tally.hits());
    }
}

/// A request but for what is drawn: method, path without build and bucket, headers, and the shape of its JSON.
fn shape(exchange: &Exchange) -> String {
    let path: Vec<&str> =
        exchange.path.split('/').map(|part| if part.parse::<u32>().is_ok() { "n" } else { part }).collect();
    let mut headers = exchange.headers.clone();
    headers.retain(|(name, _)| name != "host");
    let body: Option<LookupRequest> = serde_json::from_slice(&exchange.body).ok();
    let counts = body.map(|body| (body.tokens.len(), body.blinded.len()));
    let headers: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v))).collect();
    format!("{} {} {headers:?} {counts:?}", exchange.method, path.join("/"))
}

/// What belongs to the look-up itself, from the evaluation on.
fn shapes(exchanges: &[Exchange]) -> Vec<String> {
    let begin =
        exchanges.iter().position(|exchange| exchange.method == "POST" && exchange.path == LOOKUP_PATH).unwrap();
    exchanges[begin..].iter().map(shape).collect()
}

#[test]
fn the_game_s_look_up_is_the_client_s() {
    let (prepared, runtime, dir) = (prepared(), runtime(), tempfile::tempdir().unwrap());
    let servers = Servers::reachable();
    let mut alice = runtime.block_on(servers.client(dir.path(), "alice", "+41791230001"));
    let mut carol = runtime.block_on(servers.client(dir.path(), "carol1", "+41791230002"));
    servers.build_directory_now();
    let mut played = Vec::new();
    for (who, whom, is_listed) in [(&mut alice, "+41791230002", true), (&mut carol, "+41791230009", false)] {
        servers.recorder.take();
        let found = runtime.block_on(who.find(&[whom.parse().unwrap()], &mut |_| {})).unwrap();
        assert_eq!(matches!(found[0].outcome, Outcome::Listed { .. }), is_listed);
        let seen = servers.recorder.take();
        assert!(seen.iter().all(|exchange| exchange.server == Server::Issuer), "the relay has no part in it");
        played.push(shapes(&seen));
    }
    assert_eq!(played[0], played[1], "found or not");
    let mut game = Game::new(&prepared, Leak::None, 1);
    let round = runtime.block_on(game.play(0));
    assert_eq!(shapes(&round.exchanges[round.during.clone()]), played[0]);
}

/// A leak, and what it lets be told, by which of the adversary's ways.
type Bite = (Leak, Question, &'static str);

const WITHOUT_TOKENS: [Bite; 3] = [
    (Leak::Jwt, Question::Who, "equal bytes"),
    (Leak::NotBlinded, Question::Who, "equal bytes"),
    (Leak::Hashed, Question::Which, "equal bytes"),
];

const LEAKS: [Bite; 23] = [
    (Leak::AsksFirst, Question::Who, "asked last"),
    (Leak::AsksFirst, Question::Who, "seen before"),
    (Leak::FixedDelay, Question::Who, "asked so long ago"),
    (Leak::InOrder, Question::Who, "order of asking"),
    (Leak::InOrder, Question::Who, "order of rows"),
    (Leak::SmallWindow, Question::Who, "asked in the window"),
    (Leak::WhatIsLeft, Question::Who, "as many as are left"),
    (Leak::TopUp, Question::Who, "as many asked for next"),
    (Leak::TopUp, Question::Who, "seen next"),
    (Leak::SameConnection, Question::Who, "connection"),
    (Leak::LogSeen, Question::Who, "size of the log"),
    (Leak::SignsIn, Question::Who, "seen meanwhile"),
    (Leak::SignsIn, Question::Who, "rows touched"),
    (Leak::SameHeader, Question::Who, "equal bytes"),
    (Leak::FetchesHits, Question::Whether, "records fetched"),
    (Leak::FetchesHits, Question::Whether, "number of requests"),
    (Leak::FetchesHits, Question::Whether, "bytes answered"),
    (Leak::FetchesHits, Question::Whether, "card"),
    (Leak::FetchesHits, Question::Whether, BEST),
    (Leak::FetchesCard, Question::Which, "equal bytes"),
    (Leak::FetchesCard, Question::Which, "card"),
    (Leak::Ascending, Question::Which, "ascending"),
    (Leak::LargeDirectory, Question::Which, "bucket"),
];

/// Plays each leak once, and wants the adversary to know.
fn assert_bite(bites: &[Bite]) {
    let prepared = prepared();
    let mut played: Option<(Leak, Tallies)> = None;
    for (leak, question, name) in bites {
        if played.as_ref().is_none_or(|(last, _)| last != leak) {
            played = Some((*leak, play(&prepared, *leak, FEW)));
        }
        let tally = played.as_ref().unwrap().1.of(*question, name);
        print!("{leak:?}: ");
        print(*question, name, tally);
        assert!(tally.advantage(CONFIDENCE).value > 0.9, "{leak:?} is not seen: {question:?} by {name}");
    }
}

#[test]
fn without_tokens_or_blinding_they_can() {
    assert_bite(&WITHOUT_TOKENS);
}

#[test]
fn each_way_to_tell_finds_the_leak_that_it_is_for() {
    for way in ALL {
        let is_tried = LEAKS.iter().any(|(_, question, name)| (*question, *name) == (way.question, way.name));
        assert!(is_tried, "{:?} by {} is not shown to tell anything", way.question, way.name);
    }
    assert_bite(&LEAKS);
}
