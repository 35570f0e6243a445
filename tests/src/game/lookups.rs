//! One look-up, as the client does it, or with one leak.

use std::ops::Range;

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;
use postern_client::channel::{JSON, Reply, Request};
use postern_credentials::blind_token::challenge_digest;
use postern_credentials::directory::{Filter, Fingerprints, Records, bucket_of};
use postern_credentials::lookup_token::{self, PendingTokens};
use postern_credentials::oprf::{self, Blinding, SecretKey};
use postern_protocol::directory::{
    MANIFEST_PATH, Manifest, SignedManifest, filter_path, fingerprints_path, records_path,
};
use postern_protocol::ids::{OprfOutput, PhoneNumber};
use postern_protocol::log::{CONSISTENCY_PATH, ENTRIES_PATH, LOG_PATH, LogHead, MAX_ENTRIES};
use postern_protocol::lookup::{
    LOOKUP_PATH, LOOKUP_TOKEN_TYPE, LookupInfo, LookupRequest, LookupResponse, LookupToken, lookup_challenge,
};
use postern_protocol::send::card_path;
use postern_protocol::time::Clock;
use postern_protocol::tokens::TokenInput;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

use super::capture::{Change, Exchange, Rows, changes};
use super::people::{CANDIDATES, Person, Prepared, bytes, pause};
use super::servers::{Servers, root};
use crate::world::ISSUER;

/// What a client does wrong. Each is a switch of these tests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leak {
    /// Nothing: the client of this version.
    None,
    /// No tokens: the look-up carries the account's JWT.
    Jwt,
    /// The number is hashed to the group and not blinded.
    Hashed,
    /// Tokens are not blinded: their nonces are what was sent when they were asked for.
    NotBlinded,
    /// Tokens are asked for just before they are used.
    AsksFirst,
    /// They are used a fixed time after they were asked for.
    FixedDelay,
    /// Who asked first looks up first.
    InOrder,
    /// Hardly anybody else asks in that window.
    SmallWindow,
    /// A batch is filled up with what is left, and not with what it should be.
    WhatIsLeft,
    /// The stock is filled up by as many as were used.
    TopUp,
    /// Over the connection that the account asked over.
    SameConnection,
    /// The log is asked for what came after the head that this client saw last.
    LogSeen,
    /// A lost answer is fetched again after signing in again.
    SignsIn,
    /// A lost answer is fetched again over another connection, with a header that the token request had too.
    SameHeader,
    /// Files are fetched when somebody is found, and the card then.
    FetchesHits,
    /// The same of somebody who is listed.
    FetchesCard,
    /// An address book is looked up in its own order.
    Ascending,
    /// Nothing that the client could help: the directory has many buckets, and somebody who is listed is looked up.
    LargeDirectory,
}

/// A fixed time after asking, seconds: what [`Leak::FixedDelay`] waits.
pub const FIXED_DELAY: u64 = 900;
/// How many blinded numbers [`Leak::WhatIsLeft`] and [`Leak::TopUp`] send.
pub const FILLED_UP: usize = 8;

/// So many strangers are listed in [`Leak::LargeDirectory`]: 32 buckets.
const MANY: u32 = 20_000;

/// One round, with the secret.
#[derive(Debug)]
pub struct Played {
    /// Who looked a number up.
    pub account: usize,
    /// Which.
    pub number: usize,
    /// Whether it is listed.
    pub listed: bool,
    /// All that was recorded since the round before.
    pub exchanges: Vec<Exchange>,
    /// The look-up's part of it.
    pub during: Range<usize>,
    /// What the look-up changed in the databases.
    pub changes: Vec<Change>,
}

/// A game under way.
pub struct Game<'a> {
    /// What it began with.
    pub prepared: &'a Prepared,
    /// Its own servers.
    pub servers: Servers,
    /// How many rounds there will be.
    pub rounds: usize,
    people: Vec<Person>,
    leak: Leak,
    rng: StdRng,
    rows: Rows,
    numbers: Vec<usize>,
}

impl<'a> Game<'a> {
    /// On copies of the prepared servers.
    pub fn new(prepared: &'a Prepared, leak: Leak, rounds: usize) -> Self {
        Self::nth(prepared, leak, rounds, 0)
    }

    /// The same with other draws: people have tokens for so many rounds only.
    pub fn nth(prepared: &'a Prepared, leak: Leak, rounds: usize, n: u64) -> Self {
        let seed = 100 + leak as u64 + 1000 * n;
        let servers = prepared.servers.copy(seed);
        if leak == Leak::LargeDirectory {
            list_strangers(&servers, MANY);
        }
        let mut numbers: Vec<usize> = (0..CANDIDATES).collect();
        numbers.sort_by_key(|n| &prepared.numbers[*n]);
        let rows = servers.rows();
        let (people, rng) = (prepared.people.clone(), StdRng::seed_from_u64(seed));
        Self { prepared, servers, rounds, people, leak, rng, rows, numbers }
    }

    fn draw(&mut self, round: usize) -> (usize, usize) {
        let account = match self.leak {
            Leak::InOrder => self.prepared.askers[round],
            _ => self.rng.random_range(0..CANDIDATES),
        };
        loop {
            let number = match self.leak {
                Leak::Ascending => self.numbers[round * CANDIDATES / self.rounds],
                _ => self.rng.random_range(0..CANDIDATES),
            };
            let wants_listed = matches!(self.leak, Leak::FetchesCard | Leak::LargeDirectory);
            if !wants_listed || self.owner(number).is_some_and(|owner| owner < super::people::LISTED) {
                return (account, number);
            }
        }
    }

    /// Whose number it is.
    fn owner(&self, number: usize) -> Option<usize> {
        self.people.iter().position(|person| person.phone == self.prepared.numbers[number])
    }

    /// Plays a round.
    pub async fn play(&mut self, round: usize) -> Played {
        let (account, number) = self.draw(round);
        pause(&self.servers, &mut self.rng, 20_000);
        self.before(account).await;
        let mut exchanges = self.servers.recorder.take();
        let from = exchanges.len();
        let listed = self.look_up(account, number).await;
        exchanges.extend(self.servers.recorder.take());
        let during = from..exchanges.len();
        let rows = self.servers.rows();
        let changes = changes(&self.rows, &rows);
        self.after(account).await;
        exchanges.extend(self.servers.recorder.take());
        self.rows = if during.end == exchanges.len() { rows } else { self.servers.rows() };
        Played { account, number, listed, exchanges, during, changes }
    }

    /// What leaky clients do before.
    async fn before(&mut self, account: usize) {
        match self.leak {
            Leak::AsksFirst => self.ask(account, 1).await,
            Leak::FixedDelay => {
                let others: [usize; 3] = std::array::from_fn(|_| self.rng.random_range(0..CANDIDATES));
                let from = self.servers.clock.now();
                self.ask(account, 1).await;
                for other in others {
                    pause(&self.servers, &mut self.rng, 200_000);
                    self.ask(other, 1).await;
                }
                self.servers.clock.set(from.plus_seconds(FIXED_DELAY));
            }
            Leak::SmallWindow => {
                self.servers.clock.advance_seconds(86_400);
                let other = self.rng.random_range(0..CANDIDATES);
                self.ask(account, 1).await;
                self.ask(other, 1).await;
            }
            Leak::WhatIsLeft => {
                let left = self.rng.random_range(1..FILLED_UP);
                self.people[account].tokens.clear();
                self.ask(account, left).await;
                // Others ask for as much as they always do.
                let other = self.rng.random_range(0..CANDIDATES);
                self.ask(other, FILLED_UP).await;
            }
            Leak::NotBlinded => self.ask_unblinded(account).await,
            Leak::SameHeader => {
                let person = &mut self.people[account];
                let key = person.lookup_info(&self.servers).await.keys[0];
                let challenge = challenge_digest(&lookup_challenge(ISSUER)).unwrap();
                let pending = PendingTokens::begin(&mut self.rng, &key.key, challenge, 1).unwrap();
                let value = idempotency_key(person);
                person.ask_for(&self.servers, &pending, key, |_| Some(value)).await;
                let other = self.rng.random_range(0..CANDIDATES);
                self.ask(other, 1).await;
            }
            _ => {}
        }
        // Time passes; somebody else is seen.
        if !matches!(self.leak, Leak::None | Leak::AsksFirst | Leak::FixedDelay) {
            let other = self.rng.random_range(0..CANDIDATES);
            let channel = self.servers.authenticated();
            self.people[other].jwt(&self.servers, &channel).await;
            pause(&self.servers, &mut self.rng, 20_000);
        }
    }

    async fn ask(&mut self, account: usize, count: usize) {
        self.people[account].ask_for_tokens(&self.servers, &mut self.rng, count).await;
    }

    /// Tokens whose nonces are the elements that were sent for the tokens before.
    async fn ask_unblinded(&mut self, account: usize) {
        let person = &mut self.people[account];
        let key = person.lookup_info(&self.servers).await.keys[0];
        let digest = challenge_digest(&lookup_challenge(ISSUER)).unwrap();
        let key_id = lookup_token::key_id(&key.key);
        let nonce = person.sent[0];
        let input = TokenInput { token_type: LOOKUP_TOKEN_TYPE, nonce, challenge_digest: digest, token_key_id: key_id };
        let (_, blinding) = oprf::blind(&mut self.rng, &input.encode()).unwrap();
        let stored = [&[1], &key_id.0[..], &digest.0, &nonce, blinding.to_bytes().as_slice()].concat();
        let pending = PendingTokens::from_bytes(&stored).unwrap();
        person.ask_for(&self.servers, &pending, key, |_| None).await;
    }

    /// What leaky clients do afterwards.
    async fn after(&mut self, account: usize) {
        if self.leak == Leak::TopUp {
            pause(&self.servers, &mut self.rng, 20_000);
            self.ask(account, FILLED_UP).await;
        }
    }

    /// The look-up itself; whether the number is listed.
    async fn look_up(&mut self, account: usize, number: usize) -> bool {
        let phone = self.prepared.numbers[number].clone();
        let (info, manifest) = self.view(account).await;
        let y = self.evaluate(account, &phone, &info).await;
        self.resolve(&manifest, &y).await
    }

    /// Policy, manifest, the log's head and its last page: as everybody is shown them.
    async fn view(&mut self, account: usize) -> (LookupInfo, Manifest) {
        let info = self.get(LOOKUP_PATH).await.json().unwrap();
        let manifest = SignedManifest::decode(&self.get(MANIFEST_PATH).await.body).unwrap().manifest;
        let head: LogHead = self.get(LOG_PATH).await.json().unwrap();
        if self.leak == Leak::LogSeen {
            let from = self.people[account].seen_log;
            self.get(&format!("{CONSISTENCY_PATH}?from={from}&to={}", head.size)).await;
        }
        // The last page, whole, whatever this client has seen of it.
        let page = head.size.saturating_sub(1) / MAX_ENTRIES * MAX_ENTRIES;
        self.get(&format!("{ENTRIES_PATH}?from={page}&to={}", head.size)).await;
        (info, manifest)
    }

    async fn get(&mut self, path: &str) -> Reply {
        let request = Request::get(&self.servers.issuer_url, path).unwrap().max_answer(16 << 20);
        self.send(&request).await
    }

    async fn send(&mut self, request: &Request) -> Reply {
        pause(&self.servers, &mut self.rng, 300);
        self.servers.anonymous().send(&mut self.rng, request).await.unwrap()
    }

    async fn evaluate(&mut self, account: usize, phone: &PhoneNumber, info: &LookupInfo) -> OprfOutput {
        let mut inputs = vec![phone.as_str().to_owned()];
        let many = match self.leak {
            Leak::WhatIsLeft => self.people[account].tokens.len(),
            Leak::TopUp => FILLED_UP,
            _ => 1,
        };
        while inputs.len() < many {
            inputs.push(format!("{:016x}", self.rng.random::<u64>()));
        }
        let at = self.rng.random_range(0..inputs.len());
        inputs.swap(0, at);
        let blindings: Vec<Blinding> = inputs.iter().map(|input| self.blind(input)).collect();
        let tokens: Vec<LookupToken> = self.people[account].tokens.drain(..many).collect();
        let request = LookupRequest {
            window: self.people[account].window,
            tokens: tokens.iter().map(LookupToken::encode).collect(),
            blinded: blindings.iter().map(Blinding::element).collect(),
        };
        if self.leak == Leak::Jwt {
            return self.evaluate_by_jwt(account, phone, request, info).await;
        }
        let request = serde_json::to_vec(&request).unwrap();
        let request =
            Request::new(reqwest::Method::POST, &self.servers.issuer_url, LOOKUP_PATH).unwrap().body(JSON, request);
        let response: LookupResponse = self.post(account, &request).await.json().unwrap();
        let batch: Vec<(&[u8], &Blinding)> = inputs.iter().map(|input| input.as_bytes()).zip(&blindings).collect();
        let outputs = oprf::finish(&info.oprf_key, &batch, &response.evaluated, &response.proof).unwrap();
        outputs.into_iter().nth(at).unwrap()
    }

    fn blind(&mut self, input: &str) -> Blinding {
        if self.leak != Leak::Hashed {
            return oprf::blind(&mut self.rng, input.as_bytes()).unwrap().1;
        }
        // The blinding scalar is 1.
        let stored = [Scalar::ONE.to_bytes(), hashed_to_group(input)].concat();
        Blinding::from_bytes(&stored.try_into().unwrap()).unwrap()
    }

    /// The issuer of this version refuses such a request, so `y` is computed for the client by whoever has the key.
    async fn evaluate_by_jwt(
        &mut self,
        account: usize,
        phone: &PhoneNumber,
        request: LookupRequest,
        info: &LookupInfo,
    ) -> OprfOutput {
        let channel = self.servers.authenticated();
        let jwt = self.people[account].jwt(&self.servers, &channel).await;
        // Others sign in as well: the time of it is not what gives the account away here.
        for _ in 0..3 {
            let other = self.rng.random_range(0..CANDIDATES);
            self.people[other].jwt(&self.servers, &channel).await;
        }
        let body = serde_json::to_vec(&LookupRequest { tokens: Vec::new(), ..request }).unwrap();
        let request = Request::new(reqwest::Method::POST, &self.servers.issuer_url, LOOKUP_PATH).unwrap();
        let reply = self.send(&request.body(JSON, body).authorization(format!("Bearer {jwt}"))).await;
        assert_eq!(reply.status, 400, "a look-up with credentials is refused");
        SecretKey::for_epoch(&root().0, info.oprf_epoch).unwrap().output(phone.as_str().as_bytes()).unwrap()
    }

    /// Sends the blinded numbers, in the way of the leak.
    async fn post(&mut self, account: usize, request: &Request) -> Reply {
        match self.leak {
            Leak::SameConnection => {
                let channel = self.servers.authenticated();
                self.people[account].jwt(&self.servers, &channel).await;
                channel.send(request).await.unwrap()
            }
            Leak::SignsIn => {
                self.send(request).await;
                let channel = self.servers.authenticated();
                self.people[account].jwt(&self.servers, &channel).await;
                self.send(request).await
            }
            Leak::SameHeader => {
                let value = idempotency_key(&self.people[account]);
                let url = format!("{}{LOOKUP_PATH}", self.servers.issuer_url);
                let again = reqwest::Client::new().post(url).header("idempotency-key", value);
                let body = self.sent_body(request).await;
                let again = again.header("content-type", JSON).body(body);
                let answer = crate::http::Reply::to(again).await.unwrap();
                Reply { status: answer.status, headers: answer.headers, body: answer.body }
            }
            _ => self.send(request).await,
        }
    }

    /// Sends a request, loses its answer, and returns what was sent.
    async fn sent_body(&mut self, request: &Request) -> Vec<u8> {
        self.send(request).await;
        let seen = self.servers.recorder.take();
        let body = seen.last().unwrap().body.clone();
        self.servers.recorder.put_back(seen);
        body
    }

    /// One bucket for one number, whoever is found; an earlier client fetched only what it needed, and the card.
    async fn resolve(&mut self, manifest: &Manifest, y: &OprfOutput) -> bool {
        let filter = self.get(&filter_path(manifest.build)).await.body;
        let listed = Filter::read(manifest, &filter).unwrap().contains(y);
        let fetches_hits = matches!(self.leak, Leak::FetchesHits | Leak::FetchesCard);
        if fetches_hits && !listed {
            return false;
        }
        let bucket = if listed { bucket_of(y, manifest.bits) } else { self.rng.random_range(0..manifest.buckets()) };
        let fingerprints = self.get(&fingerprints_path(manifest.build, bucket)).await.body;
        let records = self.get(&records_path(manifest.build, bucket)).await.body;
        let places = Fingerprints::read(manifest, bucket, &fingerprints).unwrap().find(y);
        let record = Records::read(manifest, bucket, &records).unwrap().open(y, places);
        assert_eq!(record.is_some(), listed, "the filter and the bucket agree");
        if let (true, Some(record)) = (fetches_hits, &record) {
            let request = Request::get(&self.servers.relay_url, &card_path(&record.mailbox)).unwrap();
            assert_eq!(self.send(&request).await.status, 200);
        }
        listed
    }
}

fn idempotency_key(person: &Person) -> String {
    let mut rng = StdRng::seed_from_u64(u64::from_be_bytes(*person.session.0.first_chunk().unwrap()));
    postern_protocol::ids::encode_base64(&bytes::<16>(&mut rng))
}

/// The point that an input is hashed to: its blinded element, unblinded.
pub fn hashed_to_group(input: &str) -> [u8; 32] {
    let (element, blinding) = oprf::blind(&mut StdRng::seed_from_u64(9), input.as_bytes()).unwrap();
    let scalar = *blinding.to_bytes().first_chunk::<32>().unwrap();
    let scalar = Scalar::from_canonical_bytes(scalar).unwrap();
    let point = CompressedRistretto(element.0).decompress().unwrap();
    (point * scalar.invert()).compress().to_bytes()
}

/// Lists so many accounts more, past the issuer, and builds the directory anew.
fn list_strangers(servers: &Servers, many: u32) {
    const INSERT: &str =
        "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
        login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
        select ?1, ?2, ?1, x'', certificate_expires, x'', x'', ?1, relay, 0, setup_until, created, registered
        from accounts limit 1";
    let (mut db, mut rng) = (Connection::open(servers.issuer_db()).unwrap(), StdRng::seed_from_u64(4));
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let tx = db.transaction().unwrap();
    for n in 0..many {
        let phone = format!("+4178{:07}", 1_000_000 + n);
        tx.prepare_cached(INSERT).unwrap().execute(rusqlite::params![bytes::<32>(&mut rng), phone]).unwrap();
    }
    tx.commit().unwrap();
    servers.build_directory_now();
}

/// Whether a request belongs to a look-up and not to an account.
pub fn is_anonymous(exchange: &Exchange) -> bool {
    let path = exchange.path.as_str();
    [LOOKUP_PATH, MANIFEST_PATH, LOG_PATH].iter().any(|prefix| path.starts_with(prefix)) || path.ends_with("/card")
}
