//! The linkability game (design §10.3), short; `cargo run --release --bin linkability` plays it in full.

use std::path::Path;
use std::sync::Arc;

use postern_client::Client;
use postern_client::read::Folder;
use postern_client::send::Target;
use postern_protocol::time::MockClock;
use postern_tests::game::capture::Exchange;
use postern_tests::game::events::{Kind, Slip};
use postern_tests::game::linkability::{BITES, Game, INTERVALS, confidence};
use postern_tests::game::linking::{Link, WAYS};
use postern_tests::game::players;
use postern_tests::game::report::{bites, line};
use postern_tests::game::servers::Servers;
use rand::rngs::StdRng;

/// A request but for what is drawn: method, path without names, names of headers in order with those values that are no secrets, and the
/// length of the body.
fn shape(exchange: &Exchange) -> String {
    let path: Vec<&str> = exchange.path.split('/').map(|part| if part.len() > 40 { "*" } else { part }).collect();
    let known = |name: &str| !["host", "authorization"].contains(&name);
    let value = |name: &str, value: &[u8]| match name {
        name if known(name) => String::from_utf8_lossy(value).into_owned(),
        _ => String::from_utf8_lossy(value)
            .split(' ')
            .next()
            .filter(|word| word.starts_with('P'))
            .unwrap_or_default()
            .to_owned(),
    };
    let headers: Vec<_> = exchange.headers.iter().map(|(name, it)| format!("{name}: {}", value(name, it))).collect();
    format!("{:?} {} {} {headers:?} {}", exchange.server, exchange.method, path.join("/"), exchange.body.len())
}

/// A client as people have it, with an account, who tells verdicts and asks for tokens at once.
async fn client(servers: &Servers, dir: &Path, name: &str, phone: &str) -> Client<Arc<MockClock>, StdRng> {
    let mut client = servers.client(dir, name, phone).await;
    client
        .change_settings(|settings| {
            (settings.release_delay_seconds, settings.exchange_interval_seconds) = (0, 0);
        })
        .unwrap();
    client
}

/// What a real client sends anonymously when it writes, exchanges and replies.
async fn of_the_client(servers: &Servers, dir: &Path) -> [Vec<String>; 3] {
    let mut alice = client(servers, dir, "alice", "+41791230001").await;
    let mut bob = client(servers, dir, "bob", "+41791230002").await;
    let anonymous = |path: &str| !["/.well-known", "/v1/log", "/internal"].iter().any(|start| path.starts_with(start));
    let seen = || -> Vec<String> {
        let seen = servers.recorder.take();
        seen.iter().filter(|exchange| anonymous(&exchange.path)).map(shape).collect()
    };
    seen();
    alice.send(&Target::Link(bob.card_link().unwrap()), "hello").await.unwrap();
    let sent = seen();
    bob.sync().await.unwrap();
    let id = bob.messages(&[Folder::Requests]).unwrap().remove(0).id.to_string();
    bob.accept(&id).unwrap();
    bob.sync().await.unwrap();
    seen();
    alice.run_exchanges().await.unwrap();
    let exchanged = seen();
    bob.send(&"+41791230001".parse().unwrap(), "hello too").await.unwrap();
    [sent, exchanged, seen()]
}

#[test]
fn what_the_game_sends_anonymously_is_what_the_client_sends() {
    let (servers, dir) = (Servers::reachable(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let real = runtime.block_on(of_the_client(&servers, dir.path()));
    drop(servers);
    let (events, _) = players::play(4, 7, Slip::None);
    let mut different = Vec::new();
    for (kind, real) in [Kind::ColdSend, Kind::Exchange, Kind::Reply].into_iter().zip(real) {
        let event = events.iter().find(|event| event.kind == kind && event.player == 0).unwrap();
        let ours = event.exchanges.iter().filter(|exchange| !exchange.path.starts_with("/internal"));
        let ours: Vec<String> = ours.map(shape).collect();
        if ours != real {
            different.push(format!("{kind:?}: {ours:#?} and {real:#?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// People of a world here.
const PEOPLE: usize = 40;
/// Worlds of the client of this version.
const WORLDS: usize = 2;

#[test]
fn everything_that_both_servers_ever_saw_does_not_tell_who_did_what() {
    let game = Game::play(Slip::None, &Link::ALL, PEOPLE, WORLDS * PEOPLE / 2, |_| {});
    let findings = game.findings(confidence(INTERVALS));
    assert_eq!(findings.len(), INTERVALS);
    let told: Vec<_> = findings.iter().filter(|f| f.link.is_promised() && !f.advantage.covers(0.0)).map(line).collect();
    assert!(told.is_empty(), "{told:#?}");
    // Which spend is exchanged is what the relay must know: the same program sees it.
    let known = findings.iter().find(|f| f.link == Link::SendExchange && f.way == "equal bytes").unwrap();
    assert!(known.advantage.value > 0.9 && known.advantage.low > 0.5, "{}", line(known));
}

#[test]
fn each_way_to_tell_finds_the_slip_that_it_is_for() {
    for way in WAYS {
        assert!(BITES.iter().any(|bite| bite.2 == way), "{way} is not shown to tell anything");
    }
    let found = bites(&BITES, 24);
    found.iter().for_each(|(slip, finding)| println!("{slip:?}: {}", line(finding)));
    let missed: Vec<_> = found.iter().filter(|(_, finding)| finding.advantage.value <= 0.9).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
