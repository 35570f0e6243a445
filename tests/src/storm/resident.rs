//! Somebody who lives through the storm: an [`Actor`] who keeps a history, who repeats what gets no answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use postern_credentials::blind_token::nullifier;
use postern_credentials::identity::IdentityKey;
use postern_credentials::reply_credential::Params;
use postern_protocol::ids::{MailboxId, MessageId, PrekeyClaim, TokenKeyId};
use postern_protocol::login::JwtAudience;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CodeResponse, RegistrationResponse};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::send::MAILBOXES_PATH;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::history::{Act, Event, Id, Moment, Outcome, Right};
use crate::actor::{Actor, Minted};
use crate::http::Reply;
use crate::replies::Issued;
use crate::world::Place;

/// How long a request is repeated.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long one answer is waited for: longer than a server takes.
const LONGEST: Duration = Duration::from_secs(40);
/// How many operations one JWT serves.
const OPERATIONS_PER_JWT: u32 = 12;
/// Who registers at a time: the password costs a quarter of a second where nothing is optimised.
const REGISTERING: usize = 4;

/// What people share that is no server: the clock on the wall, whom they know, and what is inside sealed envelopes.
pub struct Street {
    /// Where the servers are.
    pub place: Place,
    began: Instant,
    /// Nobody begins anything any more.
    calm: AtomicBool,
    /// The mailbox of each, once it is open.
    mailboxes: RwLock<Vec<Option<MailboxId>>>,
    /// Who wrote which envelope.
    pub(super) letters: Mutex<HashMap<Id, u32>>,
    /// What each did; it outlives whoever gives up.
    logs: Vec<Mutex<Vec<Event>>>,
    /// Reply credentials that each was handed.
    pub(super) handed: Vec<Mutex<Vec<Issued>>>,
    registering: Semaphore,
}

impl Street {
    /// For so many people.
    pub fn new(place: Place, people: usize) -> Self {
        Self {
            place,
            began: Instant::now(),
            calm: AtomicBool::new(false),
            mailboxes: RwLock::new(vec![None; people]),
            letters: Mutex::default(),
            logs: (0..people).map(|_| Mutex::default()).collect(),
            handed: (0..people).map(|_| Mutex::default()).collect(),
            registering: Semaphore::new(REGISTERING),
        }
    }

    /// Everybody finishes what is under way.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    /// How many operations were done so far.
    pub fn operations(&self) -> usize {
        self.logs.iter().map(|log| log.lock().unwrap().len()).sum()
    }

    /// What everybody did, in order of the beginnings.
    pub fn history(&self) -> Vec<Event> {
        let all = self.logs.iter().flat_map(|log| log.lock().unwrap().clone());
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|event| event.began);
        all
    }

    fn now(&self) -> Moment {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }
}

/// A token, and what it is signed with.
#[derive(Clone)]
pub(super) struct Coin {
    pub(super) minted: Minted,
    pub(super) key: TokenKeyId,
    pub(super) id: Id,
}

impl Coin {
    pub(super) fn new(minted: Minted) -> Self {
        Self { key: minted.token.input.token_key_id, id: Id::of(&nullifier(&minted.token.input).0), minted }
    }
}

/// A message that was confirmed, to be sent again byte for byte.
#[derive(Clone)]
pub(super) struct Posted {
    pub(super) to: MailboxId,
    pub(super) right: Right,
    pub(super) authorization: String,
    pub(super) envelope: Vec<u8>,
}

/// An answer, and when.
pub(super) struct Answer {
    pub(super) reply: Option<Reply>,
    pub(super) unanswered: u32,
    pub(super) began: Moment,
}

impl Answer {
    pub(super) fn outcome(&self) -> Outcome {
        match &self.reply {
            None => Outcome::Unknown,
            Some(reply) if reply.status < 300 => Outcome::Done,
            Some(reply) => Outcome::Refused(reply.refusal()),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.outcome() == Outcome::Done
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        self.reply.as_ref().filter(|_| self.is_done()).map(Reply::json)
    }
}

/// One account.
pub struct Resident {
    /// Which.
    pub index: u32,
    pub(super) actor: Actor,
    pub(super) street: Arc<Street>,
    policy: Option<ReplyPolicy>,
    /// The JWT of the mailbox, and for how many operations more.
    jwt: Option<(String, u32)>,
    /// Unspent tokens.
    pub(super) purse: Vec<Coin>,
    /// Spent ones.
    pub(super) out: Vec<Coin>,
    /// Some that came back, or were exchanged unspent.
    pub(super) worn: Vec<Coin>,
    /// Messages that were read.
    pub(super) seen: HashSet<MessageId>,
    /// Those of them that are not acknowledged.
    pub(super) unacked: Vec<MessageId>,
    /// Those that a token paid for, without a verdict; and who wrote them.
    pub(super) undecided: Vec<(MessageId, Option<u32>)>,
    /// Messages with a verdict: whether it was that the token comes back.
    pub(super) decided: BTreeMap<MessageId, bool>,
    /// To whom the own mailbox has issued.
    pub(super) members: Vec<Issued>,
    /// What others have issued, and the next slot.
    pub(super) held: Vec<(Issued, u16)>,
    pub(super) posted: Vec<Posted>,
    pub(super) batch: u64,
    pub(super) claims: Vec<(MailboxId, PrekeyClaim)>,
}

impl Resident {
    /// Somebody who has no account yet.
    pub async fn new(street: Arc<Street>, index: u32, seed: u64) -> Self {
        // The block of Swiss mobile numbers that the other tests use as well.
        let phone = format!("+417913{index:05}");
        let mut actor = Actor::new(&street.place, &phone).await;
        actor.rng = StdRng::seed_from_u64(seed);
        actor.identity = IdentityKey::generate(&mut actor.rng);
        actor.patient = true;
        actor.http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(LONGEST).build().unwrap();
        Self {
            index,
            actor,
            street,
            policy: None,
            jwt: None,
            purse: Vec::new(),
            out: Vec::new(),
            worn: Vec::new(),
            seen: HashSet::new(),
            unacked: Vec::new(),
            undecided: Vec::new(),
            decided: BTreeMap::new(),
            members: Vec::new(),
            held: Vec::new(),
            posted: Vec::new(),
            batch: 0,
            claims: Vec::new(),
        }
    }

    /// Repeats a request until it is answered.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Answer {
        let began = self.street.now();
        let (reply, unanswered) = match Reply::within(PATIENCE, request).await {
            Ok(reply) => {
                let repeated = reply.repeated;
                (Some(reply), repeated)
            }
            Err((unanswered, last)) => {
                eprintln!("account {}: no answer, at last {last}", self.index);
                (None, unanswered)
            }
        };
        Answer { reply, unanswered, began }
    }

    /// As the owner of the mailbox. A JWT that a server with another clock finds too old or too new is replaced.
    pub(super) async fn ask_as_owner(&mut self, request: impl Fn(&Actor) -> RequestBuilder) -> Answer {
        let (began, since) = (self.street.now(), Instant::now());
        let mut unanswered = 0;
        loop {
            let jwt = self.jwt().await;
            let answer = self.ask(request(&self.actor).bearer_auth(jwt)).await;
            let refused = answer.outcome() == Outcome::Refused(ProblemKind::Unauthorized);
            unanswered += answer.unanswered;
            if !refused || since.elapsed() > PATIENCE {
                return Answer { began, unanswered, ..answer };
            }
            self.jwt = None;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn jwt(&mut self) -> String {
        if let Some((jwt, left @ 1..)) = &mut self.jwt {
            *left -= 1;
            return jwt.clone();
        }
        let jwt = self.actor.jwt(JwtAudience::Relay).await;
        self.jwt = Some((jwt.clone(), OPERATIONS_PER_JWT));
        jwt
    }

    /// Writes down what was asked and answered.
    pub(super) fn note(&mut self, answer: &Answer, act: Act) {
        self.note_as(answer, act, answer.outcome());
    }

    pub(super) fn note_as(&mut self, answer: &Answer, act: Act, outcome: Outcome) {
        let (who, ended) = (self.index, self.street.now());
        let event = Event { who, began: answer.began, ended, unanswered: answer.unanswered, act, outcome };
        self.street.logs[who as usize].lock().unwrap().push(event);
    }

    /// Gets an account with its tokens, a mailbox and a session.
    pub async fn settle(&mut self) {
        self.register().await;
        self.move_in(None).await;
    }

    /// Registers the number; the first time with five tokens.
    async fn register(&mut self) {
        let street = Arc::clone(&self.street);
        let _turn = street.registering.acquire().await.unwrap();
        loop {
            let asked = self.actor.ask_code().await;
            let Some(code) = self.street.place.code_for(self.actor.phone.as_str()) else { continue };
            let cookie: CodeResponse = asked.json();
            let blinded = self.actor.blind(5);
            let request = self.actor.registration(cookie.cookie, code, &blinded);
            let url = self.actor.issuer(postern_protocol::register::REGISTRATION_PATH);
            let answer = self.ask(crate::http::post_json(&self.actor.http, &url, &request)).await;
            match answer.outcome() {
                // A text that came twice has another code; a clock that jumped has made the code too old; a try is counted, though the
                // server then had no answer.
                Outcome::Refused(ProblemKind::CodeWrong | ProblemKind::CookieExpired | ProblemKind::RateLimited) => {
                    continue;
                }
                Outcome::Refused(ProblemKind::KeyNotActive) => {
                    self.actor.refresh_key().await;
                    continue;
                }
                outcome => assert_eq!(outcome, Outcome::Done, "account {} is not to be had", self.index),
            }
            let account: RegistrationResponse = answer.json().unwrap();
            let first = self.actor.account.is_none();
            let signed = blinded.iter().zip(&account.blind_signatures);
            let coins: Vec<_> = signed.map(|(b, s)| Coin::new(self.actor.unblind(b, s))).collect();
            // Whoever gets none the first time has lost them.
            let complete = coins.len() == if first { 5 } else { 0 };
            let outcome = if complete { Outcome::Done } else { Outcome::Refused(ProblemKind::RegistrationConflict) };
            self.note_as(&answer, Act::Issue { tokens: coins.iter().map(|coin| coin.id).collect() }, outcome);
            self.purse.extend(coins);
            self.actor.account = Some(account);
            return;
        }
    }

    /// Opens the mailbox that the account has now, logs in and declares a group.
    async fn move_in(&mut self, old: Option<MailboxId>) {
        let (mailbox, grant) = (self.actor.mailbox(), self.actor.account.as_ref().unwrap().mailbox_grant.clone());
        // A relay whose clock is behind that of the issuer, when all jump, finds that a grant has not begun.
        let open = |actor: &Actor| actor.http.post(actor.relay(MAILBOXES_PATH)).bearer_auth(&grant);
        let (since, began) = (Instant::now(), self.street.now());
        let mut answer = self.ask(open(&self.actor)).await;
        while answer.outcome() == Outcome::Refused(ProblemKind::Unauthorized) && since.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer = self.ask(open(&self.actor)).await;
        }
        answer.began = began;
        let act = Act::Open { mailbox: Id::of(&mailbox.0), closes: old.map(|old| Id::of(&old.0)) };
        self.note(&answer, act);
        assert!(answer.is_done(), "account {} has no mailbox: {:?}", self.index, answer.outcome());
        self.actor.login().await;
        self.jwt = None;
        let group = self.actor.draw_group(1);
        let body = crate::replies::declaration(&[&group]);
        let path = postern_protocol::reply::REPLY_KEYS_PATH;
        let answer = self.ask_as_owner(|actor| crate::http::put_json(&actor.http, &actor.relay(path), &body)).await;
        // Which mailbox the issuer thinks it is, and what came before.
        let says = |jwt: &str| postern_protocol::ids::decode_base64(jwt.split('.').nth(1)?).ok();
        let claims = self.jwt.as_ref().and_then(|(jwt, _)| says(jwt)).unwrap_or_default();
        let (claims, log) = (String::from_utf8_lossy(&claims), self.street.logs[self.index as usize].lock().unwrap());
        let last: Vec<_> = log.iter().rev().take(4).map(Event::to_string).collect();
        let outcome = answer.outcome();
        assert!(answer.is_done(), "account {}, {mailbox}: no group, {outcome:?}; {claims}; {last:#?}", self.index);
        drop(log);
        self.actor.group = Some(group);
        self.street.mailboxes.write().unwrap()[self.index as usize] = Some(mailbox);
    }

    /// Registers the number again: a new identity and a new mailbox in place of the old one, which closes.
    pub(super) async fn move_house(&mut self) {
        let old = self.actor.mailbox();
        self.actor.identity = IdentityKey::generate(&mut self.actor.rng);
        self.register().await;
        self.move_in(Some(old)).await;
        self.batch = 0;
        self.members.clear();
        self.seen.clear();
        self.unacked.clear();
        self.undecided.clear();
        self.decided.clear();
    }

    /// Somebody else who has a mailbox.
    pub(super) fn somebody(&mut self) -> Option<MailboxId> {
        let mailboxes = self.street.mailboxes.read().unwrap();
        let (people, own) = (mailboxes.len(), self.index as usize);
        // Neighbours, mostly, so that conversations come about.
        let step = if self.actor.rng.random_bool(0.8) { 3.min(people - 1) } else { people - 1 };
        let other = (own + self.actor.rng.random_range(1..=step)) % people;
        mailboxes[other]
    }

    /// A message for somebody, sealed.
    pub(super) fn write(&mut self, to: &MailboxId) -> (Vec<u8>, Id) {
        let envelope = self.actor.envelope(to, "");
        let id = Id::of(&Sha256::digest(&envelope));
        self.street.letters.lock().unwrap().insert(id, self.index);
        (envelope, id)
    }

    /// Issues a reply credential to whoever wrote, inside of a message as it were.
    pub(super) async fn issue_to(&mut self, contact: u32) {
        let policy = match self.policy {
            Some(policy) => policy,
            None => *self.policy.insert(self.actor.reply_policy().await),
        };
        let issued = self.actor.issue_under(&policy);
        self.members.push(issued.clone());
        self.street.handed[contact as usize].lock().unwrap().push(issued);
    }

    /// How many slots a credential has.
    pub(super) fn slots() -> u16 {
        Params::default().k()
    }
}
