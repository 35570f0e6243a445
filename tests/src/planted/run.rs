//! The run: the main flow and all that goes wrong, on real processes at log level trace.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postern_protocol::ids::decode_base64;
use postern_test_database::{Engine, Server, TestDatabase, free_port};
use tempfile::TempDir;

use super::Places;
use super::forms::Secret;
use super::harvest::Harvest;
use super::traffic::{Exchange, Message, exchanges};
use crate::balancer::Balancer;
use crate::http::Reply;
use crate::person::Person;
use crate::tables;
use crate::world::{Programs, World};

/// Who takes part, with the number.
const PEOPLE: [(&str, &str); 4] =
    [("alice", "+41795550101"), ("bob", "+41795550202"), ("carol", "+41795550303"), ("dave", "+41795550404")];

/// The run and all that it left.
pub struct Run {
    /// Everything that it can be asked for.
    pub world: World,
    /// Every value.
    pub harvest: Harvest,
    people: Vec<Person>,
    taps: [Balancer; 2],
    /// PostgreSQL's, issuer's and relay's; they outlive the world.
    servers: Vec<Server>,
    written: u32,
    /// What the programs wrote to standard output and error.
    output: TempDir,
    /// Where issuer and relay show their metrics.
    metrics: [String; 2],
}

/// A header by which requests of the vandal are known: what they say is not the product's doing.
const VANDAL: &str = "x-vandal";

/// A script that runs a program at log level trace and writes down what it prints.
fn wrapped(program: &Path, into: &Path) -> PathBuf {
    let name = program.file_name().unwrap().to_str().unwrap();
    let (script, out) = (into.join(format!("{name}.sh")), into.join(name));
    // One of the servers in either form.
    let form = if name.contains("relay") { "json" } else { "text" };
    let text = format!(
        "#!/bin/bash\nexport POSTERN_LOG=trace POSTERN_LOG_FORMAT={form}\nexec '{}' \"$@\" > >(tee -p -a '{out}.out') 2> >(tee -p -a '{out}.err' >&2)\n",
        program.display(),
        out = out.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    script
}

impl Run {
    /// Starts the servers on the engine of this run.
    pub fn start(programs: &Programs) -> Self {
        let output = TempDir::new().unwrap();
        let wrap = |program: &Path| wrapped(program, output.path());
        let wrapped =
            Programs { issuer: wrap(&programs.issuer), relay: wrap(&programs.relay), postern: wrap(&programs.postern) };
        let taps = [Balancer::start_tapped(), Balancer::start_tapped()];
        let metrics = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let look_in = metrics.each_ref().map(|at| format!("metrics = \"{at}\"\nmetrics_seconds = 1\n"));
        let settings = [&*format!("{}texts_per_number_per_day = 100", look_in[0]), &*look_in[1]];
        let (servers, world) = match Engine::of_this_run() {
            Engine::Sqlite => (Vec::new(), World::start_behind(Engine::Sqlite, wrapped, settings, &taps)),
            Engine::Postgres => {
                let both = std::thread::scope(|scope| {
                    [(); 2].map(|()| scope.spawn(Server::with_log)).map(|server| server.join().unwrap())
                });
                let databases = [both[0].database("issuer"), both[1].database("relay")];
                (both.into(), World::start_on(databases, wrapped, settings, &taps))
            }
        };
        let people = PEOPLE.map(|(name, phone)| Person::new(&world.programs, world.dir.path(), name, phone));
        Self { world, harvest: Harvest::default(), people: people.into(), taps, servers, written: 0, output, metrics }
    }

    /// Everything that people do.
    pub fn live(&mut self) {
        for (name, phone) in PEOPLE {
            self.harvest.add("phone number", Secret::Phone(phone.to_owned()));
            self.harvest.add("password", Secret::Text(password(name)));
        }
        for n in 0..PEOPLE.len() {
            self.register(n);
        }
        self.world.issuer.command(&["build-directory"]);
        let [alice, bob, carol, dave] = [0, 1, 2, 3];
        let card = self.people[bob].card();
        // A request that is accepted, a token that comes back, replies both ways.
        let id = self.write(alice, &card, bob);
        self.ok(bob, &["accept", &id]);
        assert_eq!(self.ok(alice, &["sync"])["returned"], 1);
        self.write(bob, PEOPLE[alice].1, alice);
        let id = self.write(alice, PEOPLE[bob].1, bob);
        self.ok(bob, &["who", &id]);
        // One that is declined, and spam.
        let id = self.write(carol, &card, bob);
        self.ok(bob, &["decline", &id]);
        self.ok(bob, &["sync"]);
        let id = self.write(carol, &card, bob);
        self.ok(bob, &["spam", &id]);
        self.ok(bob, &["sync"]);
        self.ok(carol, &["sync"]);
        // Looked up, hit and miss, and written to.
        let absent = "+41795550909";
        self.harvest.add("number looked up", Secret::Phone(absent.to_owned()));
        self.ok(dave, &["find", PEOPLE[bob].1, absent]);
        let book = self.world.dir.path().join("book.csv");
        std::fs::write(&book, format!("name,phone\nCarol,{}\n", PEOPLE[carol].1)).unwrap();
        self.ok(dave, &["contacts", "import", book.to_str().unwrap()]);
        std::fs::remove_file(book).unwrap();
        self.write(dave, PEOPLE[bob].1, bob);
        // Struck, revealed, let in again; keys replaced.
        self.ok(bob, &["block", PEOPLE[alice].1, "--reveal"]);
        let text = self.text();
        self.ok(alice, &["send", PEOPLE[bob].1, &text]);
        self.ok(bob, &["unblock", PEOPLE[alice].1]);
        self.ok(bob, &["rotate-reply-key"]);
        self.ok(bob, &["sync"]);
        for command in ["tokens", "sessions", "contacts", "login", "doctor"] {
            self.ok(alice, &[command]);
        }
        // One that nobody reads, by a token that was exchanged for.
        let text = self.text();
        for _ in 0..5 {
            self.ok(alice, &["send", PEOPLE[dave].1, &text]);
        }
        self.world.issuer.command(&["rotate-keys"]);
        self.ok(alice, &["sync"]);
        self.world.issuer.command(&["revoke", "--phone", PEOPLE[carol].1]);
    }

    fn register(&mut self, n: usize) {
        let phone = PEOPLE[n].1;
        let url = self.world.issuer_url.clone();
        self.ok(n, &["register", phone, "--issuer", &url, "--cheap-kdf"]);
        let code = self.world.code_for(phone).unwrap();
        self.harvest.add("text code", Secret::Code(code.clone()));
        self.people[n].run(&["verify", "000000"]);
        self.ok(n, &["verify", &code]);
        self.ok(n, &["settings", "--release-delay", "0", "--exchange-interval", "0"]);
    }

    /// A text that occurs nowhere else, with characters that are written in many ways.
    fn text(&mut self) -> String {
        self.written += 1;
        let text = format!("\"planted\" Grüße 👋 text number {:x}", 0x7a31_95c4_e682_u64 * u64::from(self.written));
        self.harvest.add("text of a message", Secret::Text(text.clone()));
        text
    }

    /// Writes and reads; the message's id.
    fn write(&mut self, from: usize, to: &str, reader: usize) -> String {
        let text = self.text();
        self.ok(from, &["send", to, &text]);
        let messages = self.ok(reader, &["inbox"])["messages"].as_array().unwrap().clone();
        let message = messages.into_iter().find(|message| message["text"] == *text).unwrap();
        message["id"].as_str().unwrap().to_owned()
    }

    fn ok(&mut self, n: usize, args: &[&str]) -> serde_json::Value {
        let answer = self.people[n].ok(args);
        let (name, _) = PEOPLE[n];
        let file = self.world.dir.path().join(format!("people/profiles/{name}.db"));
        self.harvest.add_profile(&file, &password(name));
        answer
    }

    /// Repeats every kind of request, once as it was and damaged in each of many ways: a refusal must not say what it was given.
    pub async fn vandalise(&self) -> usize {
        let http = reqwest::Client::new();
        let urls = [&self.world.issuer_url, &self.world.relay_url];
        let mut sent = 0;
        for (url, exchanges) in urls.into_iter().zip(self.exchanges()) {
            let mut seen = std::collections::BTreeMap::new();
            for exchange in exchanges.iter().filter(|exchange| !exchange.route.contains("/internal/")) {
                let times: &mut usize = seen.entry((&exchange.route, exchange.status)).or_default();
                *times += 1;
                if *times > 2 {
                    continue;
                }
                for (first, headers, body) in damaged(exchange) {
                    let (method, path) = (first.split(' ').next().unwrap(), first.split(' ').nth(1).unwrap());
                    let mut request = http.request(method.parse().unwrap(), format!("{url}{path}"));
                    request = request.header(VANDAL, "1");
                    for (name, value) in &headers {
                        request = request.header(name, value);
                    }
                    Reply::to(request.body(body)).await.unwrap();
                    sent += 1;
                }
            }
        }
        sent
    }

    /// Writes down what Prometheus would.
    pub async fn scrape(&self) {
        for (server, at) in ["issuer", "relay"].into_iter().zip(&self.metrics) {
            let answer = Reply::to(reqwest::Client::new().get(format!("http://{at}/metrics"))).await.unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body.starts_with(b"# HELP") && answer.body.ends_with(b"# EOF\n"));
            std::fs::write(self.output().join(format!("{server}-metrics")), answer.body).unwrap();
        }
    }

    /// What passed the taps: issuer's and relay's.
    pub fn exchanges(&self) -> [Vec<Exchange>; 2] {
        self.taps.each_ref().map(|tap| exchanges(&tap.passed()))
    }

    /// Harvests what passed until now.
    pub fn harvest_traffic(&mut self) {
        for (server, exchanges) in ["issuer", "relay"].into_iter().zip(self.exchanges()) {
            exchanges.iter().for_each(|exchange| self.harvest.add_exchange(server, exchange));
        }
        for (server, file) in [("issuer", "issuer/secret.key"), ("relay", "relay/secret.key")] {
            let text = std::fs::read_to_string(self.world.dir.path().join(file)).unwrap();
            let root = decode_base64(text.trim()).unwrap();
            self.harvest.add(&format!("root secret of the {server}"), Secret::Bytes(root));
        }
    }

    /// Where programs' output is written down.
    pub fn output(&self) -> &Path {
        self.output.path()
    }

    /// PostgreSQL's of the issuer and of the relay, if that is the engine.
    pub fn database_servers(&self) -> &[Server] {
        &self.servers
    }

    /// Lets another server answer behind the relay's tap, which must be stopped.
    pub fn answer_from(&self, address: String) {
        self.taps[1].add(address);
    }

    /// Both servers are stopped, without goodbye, and everything that is written anywhere is collected.
    pub fn places(&mut self) -> Places {
        let mut places = Places::new();
        let mut put = |place: &str, bytes: Vec<u8>| places.entry(place.to_owned()).or_default().push(bytes);
        for (server, exchanges) in ["issuer", "relay"].into_iter().zip(self.exchanges()) {
            for exchange in exchanges {
                if exchange.request.header(VANDAL).is_none() {
                    put(&format!("to {server}: {}", exchange.route), exchange.request.bytes());
                    jwts(&exchange.request).into_iter().for_each(|jwt| put(&format!("to {server}: JWT"), jwt));
                }
                if let Some(answer) = &exchange.answer {
                    let route = if exchange.status >= 400 { "problem" } else { exchange.route.as_str() };
                    put(&format!("from {server}: {route}"), answer.bytes());
                }
            }
        }
        // SQLite's log is folded into its file by whoever closes it last: so nobody may close it, and files come before tables.
        for server in [&mut self.world.issuer, &mut self.world.relay] {
            if server.is_alive() {
                server.kill();
            }
        }
        let engine = self.world.issuer_db.engine();
        for (server, name) in self.servers.iter().zip(["issuer", "relay"]) {
            checkpoint([&self.world.issuer_db, &self.world.relay_db][usize::from(name == "relay")]);
            put(&format!("{name} database log"), server.read_log());
            files(&server.directory().join("data"), &mut |_, bytes| put(&format!("{name} disk"), bytes));
        }
        files(self.world.dir.path(), &mut |file, bytes| {
            let name = file.strip_prefix(self.world.dir.path()).unwrap().to_str().unwrap();
            match name.split_once(".db") {
                Some((server @ ("issuer/issuer" | "relay/relay"), _)) => {
                    assert_eq!(engine, Engine::Sqlite);
                    put(&format!("{} disk", server.split('/').next().unwrap()), bytes);
                }
                _ if name.starts_with("people/") => put("profiles", bytes),
                _ => put(name, bytes),
            }
        });
        for (name, database) in [("issuer", &self.world.issuer_db), ("relay", &self.world.relay_db)] {
            for table in database.tables() {
                put(&format!("{name} table {}", table.name), tables::dump(std::slice::from_ref(&table)).into_bytes());
                let cells = table.rows.iter().flatten().map(|value| tables::bytes(value).to_vec());
                put(&format!("{name} table {}", table.name), cells.collect::<Vec<_>>().join(&[0; 8][..]));
            }
        }
        files(self.output.path(), &mut |file, bytes| {
            let name = file.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".sh") {
                put(&format!("output {}", name.trim_start_matches("world-")), bytes);
            }
        });
        places
    }
}

/// What JWTs of a request say.
fn jwts(request: &Message) -> Vec<Vec<u8>> {
    let right = request.header("authorization").and_then(|right| right.strip_prefix("Bearer ")).unwrap_or_default();
    right.split('.').filter_map(|part| decode_base64(part).ok()).collect()
}

fn password(name: &str) -> String {
    format!("password of {name}")
}

fn checkpoint(database: &TestDatabase) {
    database.script("checkpoint");
}

fn files(directory: &Path, found: &mut impl FnMut(&Path, Vec<u8>)) {
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files(&entry, found);
        } else if entry.is_file() {
            found(&entry, std::fs::read(&entry).unwrap());
        }
    }
}

type Damaged = (String, Vec<(String, String)>, Vec<u8>);

/// A request as it was, and damaged.
fn damaged(exchange: &Exchange) -> Vec<Damaged> {
    let request = &exchange.request;
    let kept = |name: &str| ["authorization", "content-type", "accept"].contains(&name);
    let headers: Vec<_> = request.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
    let (first, body) = (&request.first, &request.body);
    let mut all = vec![(first.clone(), headers.clone(), body.clone())];
    if !body.is_empty() {
        all.push((first.clone(), headers.clone(), body[..body.len() - 1].to_vec()));
        all.push((first.clone(), headers.clone(), [body.as_slice(), b"!"].concat()));
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        let mut places = 0;
        count(&value, &mut places);
        for place in 0..places.min(8) {
            for wrong in [wronger, as_a_list] {
                let mut value = value.clone();
                change(&mut value, &mut place.clone(), wrong);
                all.push((first.clone(), headers.clone(), serde_json::to_vec(&value).unwrap()));
            }
        }
    }
    let mut parts = first.split(' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    all.push((format!("{method} {path}!"), headers.clone(), body.clone()));
    all.push((format!("PATCH {path}"), headers.clone(), body.clone()));
    let mut wrong_right = headers;
    if let Some((_, right)) = wrong_right.iter_mut().find(|(name, _)| name == "authorization") {
        right.push('!');
        all.push((first.clone(), wrong_right.clone(), body.clone()));
        wrong_right.iter_mut().for_each(|(_, value)| *value = value.replacen('a', "b", 2));
        all.push((first.clone(), wrong_right, body.clone()));
    }
    all
}

fn wronger(text: &str) -> serde_json::Value {
    format!("{text}!").into()
}

fn as_a_list(text: &str) -> serde_json::Value {
    vec![text].into()
}

fn count(value: &serde_json::Value, places: &mut usize) {
    match value {
        serde_json::Value::Object(fields) => fields.values().for_each(|value| count(value, places)),
        serde_json::Value::Array(values) => values.iter().for_each(|value| count(value, places)),
        serde_json::Value::String(_) => *places += 1,
        _ => {}
    }
}

fn change(value: &mut serde_json::Value, place: &mut usize, to: fn(&str) -> serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| change(value, place, to)),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| change(value, place, to)),
        serde_json::Value::String(text) => {
            if *place == 0 {
                *value = to(text);
            }
            *place = place.wrapping_sub(1);
        }
        _ => {}
    }
}
