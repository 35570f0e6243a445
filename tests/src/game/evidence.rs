//! What the adversary has of one look-up: it is the issuer and the relay, with all that they saw, logged and keep, and with the issuer's
//! root secret; so it computes whatever the issuer can about each candidate.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use postern_credentials::directory::bucket_of;
use postern_credentials::lookup_token::WindowSecret;
use postern_credentials::oprf::SecretKey;
use postern_protocol::directory::{Manifest, SignedManifest};
use postern_protocol::ids::{OprfElement, OprfOutput, PhoneNumber, decode_base64};
use postern_protocol::login::SessionCall;
use postern_protocol::lookup::{LOOKUP_PATH, LookupRequest, LookupTokenRequest};
use postern_protocol::register::{CODE_PATH, REGISTRATION_PATH};
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::TOKEN_REQUEST_PATH;
use rusqlite::types::Value;
use serde_json::Value as Json;
use sha2::{Digest, Sha256, Sha512};

use super::capture::{Exchange, Rows};
use super::lookups::{Game, Played, hashed_to_group, is_anonymous};
use super::people::{CANDIDATES, Prepared};
use super::servers::{START, issuer_secrets, root};
use crate::tables;

/// Strings are compared by pieces of so many bytes.
const PIECE: usize = 8;
/// A piece that so many candidates have names none of them.
const COMMON: usize = 64;
/// So deep things are decoded: base64 in JSON in base64 …
const DEEPEST: usize = 5;

/// All fields of something that was sent: itself, what its JSON or its words hold, and what those say in base64 or hexadecimal.
pub fn fields(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    collect(bytes, 0, &mut found);
    found
}

fn collect(bytes: &[u8], depth: usize, found: &mut BTreeSet<Vec<u8>>) {
    if bytes.len() < PIECE || depth > DEEPEST || !found.insert(bytes.to_vec()) {
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.starts_with(['{', '['])
        && let Ok(json) = serde_json::from_str::<Json>(text)
    {
        return collect_json(&json, depth + 1, found);
    }
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "+-_".contains(c))) {
        collect(word.as_bytes(), depth + 1, found);
        if let Ok(decoded) = decode_base64(word) {
            collect(&decoded, depth + 1, found);
        }
        if let Some(decoded) = decode_hex(word) {
            collect(&decoded, depth + 1, found);
        }
    }
}

fn collect_json(json: &Json, depth: usize, found: &mut BTreeSet<Vec<u8>>) {
    match json {
        Json::String(text) => collect(text.as_bytes(), depth, found),
        Json::Number(number) => collect(number.to_string().as_bytes(), depth, found),
        Json::Array(items) => items.iter().for_each(|item| collect_json(item, depth, found)),
        Json::Object(members) => members.values().for_each(|member| collect_json(member, depth, found)),
        Json::Null | Json::Bool(_) => {}
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Which candidates have a piece.
#[derive(Clone, Default)]
pub struct Index(HashMap<[u8; PIECE], Vec<u16>>);

impl Index {
    /// Adds fields of a candidate: every eighth piece and the last. So an equal field is found by its beginning or its end, and whatever
    /// 15 bytes are equal, wherever they stand.
    pub fn add<'f>(&mut self, candidate: usize, fields: impl IntoIterator<Item = &'f Vec<u8>>) {
        for field in fields.into_iter().filter(|field| field.len() >= PIECE) {
            let last = field.last_chunk::<PIECE>().unwrap();
            for piece in field.as_chunks::<PIECE>().0.iter().chain([last]) {
                let there = self.0.entry(*piece).or_default();
                if there.len() <= COMMON && there.last() != Some(&(candidate as u16)) {
                    there.push(candidate as u16);
                }
            }
        }
    }

    /// For each candidate how much of these fields it has, pieces that few have counting more.
    pub fn scores<'f>(&self, fields: impl IntoIterator<Item = &'f Vec<u8>>) -> Vec<f64> {
        let mut scores = vec![0.0; CANDIDATES];
        let pieces: BTreeSet<&[u8]> = fields.into_iter().flat_map(|field| field.windows(PIECE)).collect();
        for piece in pieces {
            let Some(there) = self.0.get(piece).filter(|there| there.len() <= COMMON) else { continue };
            let candidates: BTreeSet<u16> = there.iter().copied().collect();
            candidates.iter().for_each(|i| scores[usize::from(*i)] += 1.0 / candidates.len() as f64);
        }
        scores
    }
}

/// An account was seen.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    /// Whose.
    pub account: usize,
    /// Counts all exchanges.
    pub place: usize,
    /// When.
    pub at: Timestamp,
    /// Over which connection.
    pub connection: u64,
    /// Look-up tokens that were asked for.
    pub tokens: usize,
}

/// What is known before the first round, and of all rounds so far.
#[derive(Clone)]
pub struct Adversary {
    /// Of the accounts, from before the first round.
    pub accounts: Arc<Index>,
    /// Of the accounts, from the rounds.
    pub accounts_since: Index,
    /// Of the numbers.
    pub numbers: Arc<Index>,
    /// Whose numbers are listed.
    pub listed: Vec<bool>,
    /// The bucket of each number.
    pub buckets: Vec<u32>,
    outputs: Vec<OprfOutput>,
    /// The mailbox of each number's account, as its card's path has it.
    pub mailboxes: Vec<Option<String>>,
    /// The place of each number in their order.
    pub ascending: Vec<usize>,
    /// In which order accounts first asked for tokens: by time, and by rowid.
    pub asked: [Vec<usize>; 2],
    /// When builds were made: the log grew with each.
    pub builds: Vec<Timestamp>,
    /// All contacts.
    pub contacts: Vec<Contact>,
    /// How many rounds there are.
    pub rounds: usize,
    /// Means so far of what is measured.
    pub means: HashMap<&'static str, (f64, f64)>,
    log_before: u64,
    names: HashMap<Vec<u8>, usize>,
    places: usize,
}

/// One look-up.
pub struct View<'a> {
    /// Which round it is.
    pub round: usize,
    /// Its requests.
    pub requests: Vec<&'a Exchange>,
    /// The fields of its requests, of what it changed in the databases, and of what was logged.
    pub fields: BTreeSet<Vec<u8>>,
    /// The accounts in whose rows something changed.
    pub touched: BTreeSet<usize>,
    /// The look-up itself.
    pub asked: LookupRequest,
    /// From which place to which it went.
    pub places: std::ops::Range<usize>,
    /// When it began and ended.
    pub times: [Timestamp; 2],
}

impl Adversary {
    /// At the beginning of a game.
    pub fn new(game: &Game<'_>) -> Self {
        let prior = game.prepared.adversary.get_or_init(|| Self::before(game.prepared));
        let mut new = Self { rounds: game.rounds, ..prior.clone() };
        new.learn_builds(&game.servers.rows());
        new
    }

    /// All there is to know before the first round.
    fn before(prepared: &Prepared) -> Self {
        let rows = prepared.servers.rows();
        let mut new = Self {
            accounts: Arc::default(),
            accounts_since: Index::default(),
            numbers: Arc::default(),
            outputs: Vec::new(),
            listed: Vec::new(),
            buckets: Vec::new(),
            mailboxes: Vec::new(),
            ascending: Vec::new(),
            asked: [vec![usize::MAX; CANDIDATES], vec![usize::MAX; CANDIDATES]],
            builds: Vec::new(),
            contacts: Vec::new(),
            rounds: 0,
            means: HashMap::new(),
            log_before: 0,
            names: HashMap::new(),
            places: 0,
        };
        new.learn_names(prepared, &rows);
        let mut accounts = new.index_rows(&rows);
        for exchange in &prepared.exchanges {
            if let Some(account) = new.note(exchange) {
                accounts.add(account, &fields_of(exchange, true));
            }
        }
        new.accounts = Arc::new(accounts);
        new.learn_order(&rows);
        new.learn_numbers(&prepared.numbers, &rows);
        new
    }

    /// What names an account: number, id, session, identity key, mailbox.
    fn learn_names(&mut self, prepared: &Prepared, rows: &Rows) {
        let secrets = issuer_secrets();
        let sessions = of(rows, "sessions");
        for (n, person) in prepared.people.iter().enumerate() {
            let id = secrets.account_id(&person.phone).to_vec();
            let of_account = sessions.iter().filter(|row| tables::bytes(&row[1]) == id);
            self.names.extend(of_account.map(|row| (tables::bytes(&row[0]).to_vec(), n)));
            let phone = person.phone.as_str().as_bytes().to_vec();
            let names = [id, phone, person.identity.0.to_vec(), person.mailbox.0.to_vec()];
            self.names.extend(names.into_iter().map(|name| (name, n)));
        }
    }

    fn owner(&self, row: &[Value]) -> Option<usize> {
        row.iter().find_map(|value| self.names.get(tables::bytes(value)).copied())
    }

    fn index_rows(&self, rows: &Rows) -> Index {
        let mut index = Index::default();
        for row in rows.values() {
            if let Some(account) = self.owner(row) {
                index.add(account, &row.iter().map(|value| tables::bytes(value).to_vec()).collect::<Vec<_>>());
            }
        }
        index
    }

    /// When the directory was built, and in which buckets the numbers are now.
    fn learn_builds(&mut self, rows: &Rows) {
        let created = of(rows, "directory_builds").into_iter().map(|row| integer(&row[4]));
        self.builds = created.map(|at| Timestamp(at.unsigned_abs())).collect();
        self.log_before = of(rows, "key_log").len() as u64 - self.builds.len() as u64;
        let bits = manifest(rows).bits;
        self.buckets = self.outputs.iter().map(|y| bucket_of(y, bits)).collect();
    }

    fn learn_order(&mut self, rows: &Rows) {
        let mut by_time = 0;
        for contact in self.contacts.iter().filter(|contact| contact.tokens > 0) {
            if self.asked[0][contact.account] == usize::MAX {
                self.asked[0][contact.account] = by_time;
                by_time += 1;
            }
        }
        for (place, row) in of(rows, "lookup_issuances").into_iter().enumerate() {
            let account = self.owner(row).unwrap();
            self.asked[1][account] = self.asked[1][account].min(place);
        }
    }

    /// All that the issuer can compute of a number.
    fn learn_numbers(&mut self, numbers: &[PhoneNumber], rows: &Rows) {
        let points: Vec<OprfElement> = numbers.iter().map(|n| OprfElement(hashed_to_group(n.as_str()))).collect();
        let root = root().0;
        let key = SecretKey::for_epoch(&root, manifest(rows).oprf_epoch).unwrap();
        let evaluated = key.evaluate(&points).unwrap().evaluated;
        let window = WindowSecret::derive(&root, START.seconds() / 86_400).unwrap();
        let request = LookupTokenRequest { truncated_token_key_id: window.truncated_key_id(), blinded: points.clone() };
        let under_window = window.issue(&request).unwrap().evaluated;
        let (accounts, mut index) = (of(rows, "accounts"), Index::default());
        for (n, number) in numbers.iter().enumerate() {
            let text = number.as_str().as_bytes();
            let y = key.output(text).unwrap();
            let id = issuer_secrets().account_id(number);
            let account = accounts.iter().find(|row| tables::bytes(&row[0]) == id);
            let mut known: Vec<Vec<u8>> = vec![
                text.to_vec(),
                text[1..].to_vec(),
                text[3..].to_vec(),
                Sha256::digest(text).to_vec(),
                Sha256::digest(&text[1..]).to_vec(),
                Sha512::digest(text).to_vec(),
                points[n].0.to_vec(),
                evaluated[n].0.to_vec(),
                under_window[n].0.to_vec(),
                y.expose().to_vec(),
                y.expose()[..16].to_vec(),
                y.expose()[16..].to_vec(),
                id.to_vec(),
            ];
            known.extend(account.into_iter().flat_map(|row| row.iter()).map(|value| tables::bytes(value).to_vec()));
            index.add(n, &known);
            let is_listed = account.is_some_and(|row| integer(&row[13]) == 1);
            self.listed.push(is_listed);
            self.outputs.push(y);
            self.mailboxes.push(account.map(|row| postern_protocol::ids::encode_base64(tables::bytes(&row[7]))));
        }
        self.numbers = Arc::new(index);
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|n| &numbers[*n]);
        self.ascending = vec![0; numbers.len()];
        order.iter().enumerate().for_each(|(place, n)| self.ascending[*n] = place);
    }

    /// Counts an exchange; whose it is, if it says so.
    fn note(&mut self, exchange: &Exchange) -> Option<usize> {
        let place = self.places;
        self.places += 1;
        let account = self.account_of(exchange)?;
        if is_anonymous(exchange) {
            return Some(account);
        }
        let tokens = match exchange.path == TOKEN_REQUEST_PATH {
            true => LookupTokenRequest::decode(&exchange.body).map_or(0, |request| request.blinded.len()),
            false => 0,
        };
        self.contacts.push(Contact { account, place, at: exchange.at, connection: exchange.connection, tokens });
        Some(account)
    }

    /// Who is named by a session, by a JWT, or by registering.
    fn account_of(&self, exchange: &Exchange) -> Option<usize> {
        let authorization = exchange.header("authorization").unwrap_or_default();
        if let Some(call) = SessionCall::parse(authorization) {
            return self.names.get(&call.session.0[..]).copied();
        }
        if let Some(jwt) = authorization.strip_prefix("Bearer ") {
            return fields(jwt.as_bytes()).iter().find_map(|field| self.names.get(field).copied());
        }
        let registers = [CODE_PATH, REGISTRATION_PATH].contains(&exchange.path.as_str());
        let phone = registers.then(|| serde_json::from_slice::<Json>(&exchange.body).ok()).flatten()?["phone"].clone();
        self.names.get(phone.as_str()?.as_bytes()).copied()
    }

    /// Takes a round in.
    pub fn look_at<'a>(&mut self, round: usize, played: &'a Played) -> View<'a> {
        let begin = self.places;
        for exchange in &played.exchanges {
            if let Some(account) = self.note(exchange)
                && !is_anonymous(exchange)
            {
                self.accounts_since.add(account, &fields_of(exchange, false));
            }
        }
        let during = &played.exchanges[played.during.clone()];
        let requests: Vec<&Exchange> = during.iter().filter(|exchange| is_anonymous(exchange)).collect();
        let mut fields: BTreeSet<Vec<u8>> = requests.iter().flat_map(|request| fields_of(request, false)).collect();
        let mut touched = BTreeSet::new();
        for change in &played.changes {
            let rows = [&change.before, &change.after].into_iter().flatten();
            let owner = rows.clone().find_map(|row| self.owner(row));
            touched.extend(owner);
            // What names its account is seen by `touched`.
            if owner.is_none() {
                fields.extend(rows.flatten().map(|value| tables::bytes(value).to_vec()));
            }
        }
        let posted =
            requests.iter().rev().find(|request| request.path == LOOKUP_PATH && request.method == "POST").unwrap();
        let asked = serde_json::from_slice(&posted.body).unwrap();
        let places = begin + played.during.start..begin + played.during.end;
        let times = [during[0].at, during[during.len() - 1].at];
        View { round, requests, fields, touched, asked, places, times }
    }

    /// How long the log was at a moment.
    pub fn log_size(&self, at: Timestamp) -> u64 {
        self.log_before + self.builds.iter().filter(|build| **build <= at).count() as u64
    }

    /// By how much a measure differs from its mean so far; 0 the first time.
    pub fn deviation(&mut self, what: &'static str, measured: f64) -> f64 {
        let (sum, many) = self.means.entry(what).or_default();
        let deviation = if *many > 0.0 { measured - *sum / *many } else { 0.0 };
        *sum += measured;
        *many += 1.0;
        deviation
    }
}

/// The fields of a request, with what was logged of it; of an account also those of the answers that it got.
fn fields_of(exchange: &Exchange, with_answer: bool) -> BTreeSet<Vec<u8>> {
    let mut found = fields(exchange.path.as_bytes());
    exchange.headers.iter().for_each(|(_, value)| found.extend(fields(value)));
    found.extend(fields(&exchange.body));
    exchange.log.lines().for_each(|line| found.extend(fields(line.as_bytes())));
    if with_answer {
        exchange.answer_headers.iter().for_each(|(_, value)| found.extend(fields(value)));
        found.extend(fields(&exchange.answer));
    }
    found
}

fn of<'r>(rows: &'r Rows, table: &str) -> Vec<&'r Vec<Value>> {
    rows.range((table.to_owned(), i64::MIN)..=(table.to_owned(), i64::MAX)).map(|(_, row)| row).collect()
}

/// The latest.
fn manifest(rows: &Rows) -> Manifest {
    let build = of(rows, "directory_builds").into_iter().next_back().unwrap();
    SignedManifest::decode(tables::bytes(&build[5])).unwrap().manifest
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(n) => *n,
        _ => panic!("not an integer: {value:?}"),
    }
}
