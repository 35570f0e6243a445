//! Planted secrets (design §10.2): phone numbers, tokens, mailbox ids, texts, passwords and keys are nowhere but where they have business.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use postern_test_database::{Engine, Value};
use postern_tests::planted::forms::{Search, Secret};
use postern_tests::planted::harvest::KINDS;
use postern_tests::planted::run::Run;
use postern_tests::planted::{Leak, Places, look, rules};
use postern_tests::programs;

/// Puts something there.
type Plant = Box<dyn Fn(&Run, &[u8])>;

/// Where something can be written that is nobody's business there, and how it gets there.
struct Leaky {
    place: String,
    plant: Plant,
}

fn leaky(place: &str, plant: impl Fn(&Run, &[u8]) + 'static) -> Leaky {
    Leaky { place: place.to_owned(), plant: Box::new(plant) }
}

fn append(file: PathBuf) -> impl Fn(&Run, &[u8]) {
    move |_, form| {
        let old = std::fs::read(&file).unwrap_or_default();
        std::fs::write(&file, [&old, b" ".as_slice(), form, b" "].concat()).unwrap();
    }
}

/// As [`append`], far behind the end: PostgreSQL goes on where it was, over whatever stands there.
fn append_far(file: PathBuf) -> impl Fn(&Run, &[u8]) {
    move |run, form| {
        let mut old = std::fs::read(&file).unwrap();
        old.resize(old.len().max(1 << 20), b' ');
        std::fs::write(&file, old).unwrap();
        append(file.clone())(run, form);
    }
}

/// A server that says what it was told, as an answer of the relay's would.
async fn start_echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let echo = Router::new().fallback(|body: Bytes| async { (StatusCode::BAD_REQUEST, body) });
    tokio::spawn(async move { axum::serve(listener, echo).await });
    address
}

fn in_table(of_issuer: bool) -> impl Fn(&Run, &[u8]) {
    move |run, form| {
        let database = if of_issuer { &run.world.issuer_db } else { &run.world.relay_db };
        database.execute("insert into planted values ($1)", &[Value::Blob(form.to_vec())]);
    }
}

fn leaky_places(run: &Run) -> Vec<Leaky> {
    let dir = run.world.dir.path();
    let mut all = vec![
        leaky("issuer/log", append(dir.join("issuer/log"))),
        leaky("relay/log", append(dir.join("relay/log"))),
        leaky("output relay-metrics", append(run.output().join("relay-metrics"))),
        leaky("profiles", append(dir.join("people/profiles/notes"))),
        leaky("output postern.err", append(run.output().join("world-postern.err"))),
        leaky("issuer table planted", in_table(true)),
        leaky("relay table planted", in_table(false)),
    ];
    for (name, server) in ["issuer", "relay"].into_iter().zip(run.database_servers()) {
        all.push(leaky(&format!("{name} database log"), append_far(server.directory().join("log"))));
    }
    all
}

/// What is found in `places` that `before` had not.
fn news(run: &Run, places: &Places, before: &BTreeSet<Leak>) -> BTreeSet<Leak> {
    rules::broken(&look(&run.harvest, places)).difference(before).cloned().collect()
}

#[test]
fn no_secret_is_where_it_has_no_business_and_one_that_is_would_be_found() {
    let mut run = Run::start(&programs!());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    run.live();
    run.harvest_traffic();
    let damaged = runtime.block_on(run.vandalise());
    runtime.block_on(run.scrape());
    let places = run.places();
    let found = look(&run.harvest, &places);
    let (values, bytes) = (run.harvest.0.len(), places.values().flatten().map(Vec::len).sum::<usize>());
    println!("{values} values in {bytes} bytes of {} places; {damaged} requests were damaged", places.len());
    assert!(damaged > 300 && values > 500);

    let leaks = rules::broken(&found);
    assert!(leaks.is_empty(), "{leaks:#?}");
    let holes = rules::holes(run.harvest.0.values(), &found, &places);
    assert!(holes.is_empty(), "{holes:#?}");

    // The same search finds one form of one secret of each name in each of these places. The tables are new, and so is what echoes.
    for database in [&run.world.issuer_db, &run.world.relay_db] {
        database.script("create table planted (value bytea)");
    }
    let mut expected = BTreeSet::new();
    let mut turn = 0;
    let names: BTreeSet<String> = run.harvest.0.values().filter(|name| is_private(name)).cloned().collect();
    for leaky in leaky_places(&run) {
        for name in &names {
            let (secret, _) = run.harvest.0.iter().find(|(_, there)| *there == name).unwrap();
            let forms = secret.forms();
            let may = rules::rule_of(name).unwrap().may.iter().any(|place| leaky.place.starts_with(place));
            if let (false, Some((_, form))) = (may, forms.get(turn % forms.len().max(1))) {
                (leaky.plant)(&run, form);
                expected.insert((name.clone(), leaky.place.clone()));
            }
            turn += 1;
        }
    }
    let echo = runtime.block_on(start_echo());
    run.answer_from(echo);
    for (secret, name) in run.harvest.0.iter().filter(|(_, name)| names.contains(*name)) {
        let Some((_, form)) = secret.forms().into_iter().next() else { continue };
        let sent = reqwest::Client::new().post(&run.world.relay_url).body(form).send();
        assert_eq!(runtime.block_on(async { sent.await.unwrap().status() }), 400);
        expected.insert((name.clone(), "from relay: problem".to_owned()));
    }
    let places = run.places();
    let found = news(&run, &places, &leaks);
    let found: BTreeSet<_> = found.into_iter().map(|leak| (leak.secret, leak.place)).collect();
    let missed: Vec<_> = expected.difference(&found).collect();
    assert!(missed.is_empty(), "{} of {} were planted and not found: {missed:?}", missed.len(), expected.len());
    println!("{} planted and found", expected.len());
    if run.world.issuer_db.engine() == Engine::Postgres {
        assert_eq!(run.database_servers().len(), 2);
    }
    // What was written to a table is in the files as well.
    for disk in ["issuer disk", "relay disk"] {
        assert!(found.iter().any(|(name, place)| name == "password" && place == disk), "{disk}");
    }
}

/// Values that are somebody's, and may be in none of the places where they are planted.
fn is_private(name: &str) -> bool {
    rules::rule_of(name).is_some_and(|rule| !rule.is_public())
}

#[test]
fn every_form_of_every_kind_of_secret_is_found_in_the_midst_of_anything() {
    let bytes: Vec<u8> = (0..40_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let text = "\"so\" sagt Zoë: \\ 👋 und nichts weiter".to_owned();
    let secrets =
        [Secret::Bytes(bytes), Secret::Text(text), Secret::Phone("+41791234567".into()), Secret::Code("482913".into())];
    let search = Search::new(&secrets);
    let mut names = BTreeSet::new();
    for (n, secret) in secrets.iter().enumerate() {
        for (name, form) in secret.forms() {
            names.insert(name);
            for around in [b"".as_slice(), b" x=", &[0xff; 7]] {
                let hay = [around, &form, around].concat();
                assert!(search.find(&hay).iter().any(|found| found.secret == n), "{name}");
                // Not when a byte of it is another.
                let mut spoilt = form.clone();
                let middle = spoilt.len() / 2;
                spoilt[middle] ^= 0x15;
                let hay = [around, &spoilt, around].concat();
                assert!(!search.find(&hay).iter().any(|found| found.secret == n && found.at == around.len()), "{name}");
            }
        }
    }
    assert!(names.len() >= 19, "{names:?}");
    for number in ["1482913", "4829130", "12:00:01.482913Z"] {
        assert!(search.find(number.as_bytes()).is_empty(), "{number} is another number");
    }
}

#[test]
fn base64_is_found_at_whichever_place_in_a_text_the_secret_stands() {
    use base64::Engine as _;
    let secret = Secret::Bytes((0..16).map(|n| 255 - n * 3).collect());
    let search = Search::new([&secret]);
    let Secret::Bytes(bytes) = &secret else { unreachable!() };
    for before in 0..6 {
        for after in 0..4 {
            let text = [vec![7; before], bytes.clone(), vec![9; after]].concat();
            for encoded in [
                base64::engine::general_purpose::STANDARD.encode(&text),
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&text),
            ] {
                assert_eq!(search.find(encoded.as_bytes()).len(), 1, "{before} before, {after} behind");
            }
        }
    }
}

#[test]
fn every_kind_of_row_of_a_profile_is_read() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/src");
    let mut kinds = BTreeSet::new();
    let mut directories = vec![source];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(entry).unwrap();
            let named = text
                .split("const KIND: &'static str = \"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned());
            kinds.extend(named);
        }
    }
    assert_eq!(kinds, KINDS.iter().map(|kind| (*kind).to_owned()).collect());
}
