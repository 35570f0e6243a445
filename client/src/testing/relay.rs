//! A relay in memory, as honest as a test needs it. A mailbox's bearer token is its id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postern_credentials::blind_token::nullifier;
use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberSecret, Params, Presentation, ReplyNullifier, envelope_digest,
    peek_nullifier, relay_id, strike, verify,
};
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::{Base64, MailboxId, MessageId};
use postern_protocol::prekeys::OWN_PREKEYS_PATH;
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::release::{ACK_PATH, MessageList, Outcome, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{
    EpochNullifiers, REPLY_KEYS_PATH, REVEALS_PATH, ReplyAuthorization, ReplyKeys, ReplyPolicy, Reveal, STRIKES_PATH,
    Strikes,
};
use postern_protocol::send::{
    Accepted, Admission, MAILBOXES_PATH, MESSAGES_PATH, MailboxOpened, Messages, OWN_CARD_PATH, QueuedMessage,
    RELAY_INFO_PATH, RelayInfo,
};
use postern_protocol::time::{Clock, MockClock};
use postern_protocol::tokens::{Token, TokenChallenge, parse_authorization};

use super::http::{Asked, Told};
use super::{ISSUER_NAME, Issuer, RELAY_NAME, Supply};

/// A slot in one epoch of one mailbox.
type Place = (MailboxId, u32, ReplyNullifier);

/// What a relay remembers.
pub(crate) struct Relay {
    clock: Arc<MockClock>,
    pub(crate) policy: ReplyPolicy,
    /// Group secrets by version, as last put.
    pub(crate) reply_keys: HashMap<MailboxId, Vec<(u32, GroupSecret)>>,
    /// What came by a slot: the request, whole.
    pub(crate) replied: HashMap<Place, Vec<u8>>,
    pub(crate) struck: HashSet<Place>,
    pub(crate) reveals: Vec<(MailboxId, Reveal)>,
    pub(crate) cards: HashMap<MailboxId, Vec<u8>>,
    pub(crate) prekeys: HashMap<MailboxId, Supply>,
    pub(crate) queue: HashMap<MailboxId, Vec<QueuedMessage>>,
    spent: HashMap<Vec<u8>, Vec<u8>>,
    pub(crate) released: HashSet<MessageId>,
    burnt: HashSet<MessageId>,
    exchanged: HashMap<Vec<u8>, Vec<u8>>,
    /// The next send is refused with this.
    pub(crate) refuse_send: Option<ProblemKind>,
    /// It lets in whatever shows a presentation.
    pub(crate) lax: bool,
}

impl Relay {
    pub(crate) fn new(clock: Arc<MockClock>) -> Self {
        Self {
            clock,
            policy: ReplyPolicy::default(),
            reply_keys: HashMap::new(),
            replied: HashMap::new(),
            struck: HashSet::new(),
            reveals: Vec::new(),
            cards: HashMap::new(),
            prekeys: HashMap::new(),
            queue: HashMap::new(),
            spent: HashMap::new(),
            released: HashSet::new(),
            burnt: HashSet::new(),
            exchanged: HashMap::new(),
            refuse_send: None,
            lax: false,
        }
    }

    /// Answers; `None` if the path is not a relay's.
    pub(crate) fn answer(&mut self, asked: &Asked, issuer: &mut Issuer) -> Option<Told> {
        let path = asked.path.split('?').next().unwrap();
        Some(match (asked.method.as_str(), path) {
            ("GET", RELAY_INFO_PATH) => Told::json(200, &info(issuer, self.policy)),
            ("POST", MAILBOXES_PATH) => Told::json(201, &MailboxOpened { mailbox: bearer(asked) }),
            ("PUT", OWN_CARD_PATH) => {
                self.cards.insert(bearer(asked), asked.body.clone());
                Told::bytes(204, Vec::new())
            }
            ("PUT" | "GET", OWN_PREKEYS_PATH) => self.prekeys.entry(bearer(asked)).or_default().answer(asked),
            ("PUT", REPLY_KEYS_PATH) => self.put_reply_keys(bearer(asked), &asked.json()),
            ("POST", STRIKES_PATH) => self.strike(bearer(asked), &asked.json()),
            ("POST", REVEALS_PATH) => {
                self.reveals.push((bearer(asked), asked.json()));
                Told::bytes(204, Vec::new())
            }
            ("GET", MESSAGES_PATH) => self.messages(&bearer(asked)),
            ("POST", ACK_PATH | RELEASE_PATH | SPAM_PATH) => self.verdict(asked),
            ("POST", EXCHANGE_PATH) => self.exchange(asked, issuer),
            (method, path) => self.at_mailbox(method, path.strip_prefix(MAILBOXES_PATH)?, asked),
        })
    }

    fn at_mailbox(&mut self, method: &str, rest: &str, asked: &Asked) -> Told {
        let (id, what) = rest.trim_start_matches('/').split_once('/').unwrap();
        let mailbox: MailboxId = id.parse().unwrap();
        match (method, what) {
            ("GET", "card") => match self.cards.get(&mailbox) {
                Some(card) => Told::bytes(200, card.clone()),
                None => Told::problem(ProblemKind::CardUnknown),
            },
            ("POST", "prekey") => self.prekeys.entry(mailbox).or_default().answer(asked),
            ("POST", "messages") => self.send(mailbox, asked),
            _ => Told::problem(ProblemKind::NotFound),
        }
    }

    fn send(&mut self, mailbox: MailboxId, asked: &Asked) -> Told {
        if let Some(kind) = self.refuse_send.take() {
            return Told::problem(kind);
        }
        if let Some(shown) = ReplyAuthorization::parse(&asked.authorization) {
            return self.reply(mailbox, asked, &shown);
        }
        let token = parse_authorization(&asked.authorization).unwrap();
        let message = MessageId(nullifier(&token.input).0);
        match self.spent.get(&token.encode()) {
            Some(envelope) if *envelope == asked.body => return Told::json(201, &Accepted { message }),
            Some(_) => return Told::problem(ProblemKind::TokenAttached),
            None => {}
        }
        self.spent.insert(token.encode(), asked.body.clone());
        self.enqueue(mailbox, message, Admission::Token, asked);
        Told::json(201, &Accepted { message })
    }

    fn enqueue(&mut self, mailbox: MailboxId, message: MessageId, admission: Admission, asked: &Asked) {
        let (arrived, envelope) = (self.clock.now().seconds(), Base64(asked.body.clone()));
        self.queue.entry(mailbox).or_default().push(QueuedMessage { message, arrived, admission, envelope });
    }

    /// In the order that the real one checks in.
    fn reply(&mut self, mailbox: MailboxId, asked: &Asked, shown: &ReplyAuthorization) -> Told {
        let (now, epoch) = (self.clock.now(), shown.epoch);
        let keys = self.reply_keys.get(&mailbox);
        let key = keys.and_then(|keys| keys.iter().find(|(version, _)| *version == shown.key_version));
        let Some((_, key)) = key else { return Told::problem(ProblemKind::ReplyInvalid) };
        if !self.policy.accepts(epoch, now) {
            let begins = self.policy.epoch_start(epoch);
            let problem = Problem::new(ProblemKind::ReplyEpoch);
            return Told::problem_document(if begins > now {
                problem.retry_after(now.seconds_until(begins))
            } else {
                problem
            });
        }
        let of = KeyPeriod { mailbox, key_version: shown.key_version, period: self.policy.period_of(epoch) };
        let ctx = Context { relay: relay_id(RELAY_NAME), of, epoch };
        let nullifier = peek_nullifier(&shown.presentation);
        let message = ctx.message_id(nullifier);
        let request = [shown.presentation.as_slice(), &envelope_digest(&asked.body)].concat();
        match self.replied.get(&(mailbox, epoch, nullifier)) {
            Some(before) if *before == request => return Told::json(201, &Accepted { message }),
            Some(_) => return Told::problem(ProblemKind::ReplyUsed),
            None => {}
        }
        let valid = Presentation::decode(&shown.presentation).is_ok_and(|decoded| {
            verify(&key.verification_key(&of), &ctx, &decoded, &envelope_digest(&asked.body)).is_ok()
        });
        if !valid && !self.lax {
            return Told::problem(ProblemKind::ReplyInvalid);
        }
        let refused = self.struck.contains(&(mailbox, epoch, nullifier)) || self.is_revealed(&ctx, nullifier);
        self.replied.insert((mailbox, epoch, nullifier), request);
        if !refused {
            let presentation = Base64(shown.presentation.to_vec());
            let admission = Admission::Reply { key_version: shown.key_version, epoch, presentation };
            self.enqueue(mailbox, message, admission, asked);
        }
        Told::json(201, &Accepted { message })
    }

    fn is_revealed(&self, ctx: &Context, nullifier: ReplyNullifier) -> bool {
        self.reveals.iter().filter(|(mailbox, _)| *mailbox == ctx.of.mailbox).any(|(_, reveal)| {
            let steps = ctx.of.period.checked_sub(reveal.period);
            let Some(steps) = steps.filter(|_| ctx.of.period <= reveal.last_period) else { return false };
            let seed = MemberSecret::from_stored(reveal.secret.expose()).unwrap();
            let seed = (0..steps).fold(seed, |seed, _| seed.next());
            strike(Params::new(reveal.slots).unwrap(), ctx, &seed, &[]).contains(&nullifier)
        })
    }

    fn put_reply_keys(&mut self, mailbox: MailboxId, keys: &ReplyKeys) -> Told {
        let known = self.reply_keys.entry(mailbox).or_default();
        let same = |a: &GroupSecret, b: &[u8]| a.to_stored().as_slice() == b;
        let conflicts = keys.keys.iter().any(|key| {
            known.iter().any(|(version, old)| *version == key.key_version && !same(old, key.secret.expose()))
        });
        if conflicts {
            return Told::problem(ProblemKind::ReplyKeyConflict);
        }
        let parse = |bytes: &[u8]| GroupSecret::from_stored(bytes).unwrap();
        *known = keys.keys.iter().map(|key| (key.key_version, parse(key.secret.expose()))).collect();
        Told::bytes(204, Vec::new())
    }

    fn strike(&mut self, mailbox: MailboxId, strikes: &Strikes) -> Told {
        let count = |lists: &[EpochNullifiers]| lists.iter().map(|list| list.nullifiers.0.len() / 8).sum::<usize>();
        assert!(count(&strikes.strike) + count(&strikes.lift) <= postern_protocol::reply::MAX_STRIKES);
        let places = |list: &EpochNullifiers| -> Vec<Place> {
            let (chunks, rest) = list.nullifiers.0.as_chunks::<8>();
            assert!(rest.is_empty());
            chunks.iter().map(|nullifier| (mailbox, list.epoch, ReplyNullifier(*nullifier))).collect()
        };
        self.struck.extend(strikes.strike.iter().flat_map(places));
        for place in strikes.lift.iter().flat_map(places) {
            self.struck.remove(&place);
        }
        Told::bytes(204, Vec::new())
    }

    fn messages(&self, mailbox: &MailboxId) -> Told {
        let all = self.queue.get(mailbox).cloned().unwrap_or_default();
        let more = all.len() > 2;
        // Two at a time, so that `more` is used.
        Told::json(200, &Messages { messages: all.into_iter().take(2).collect(), more })
    }

    fn verdict(&mut self, asked: &Asked) -> Told {
        let list: MessageList = asked.json();
        let mut outcome = Outcome::default();
        for id in list.messages {
            let done = match asked.path.as_str() {
                ACK_PATH => {
                    self.queue.entry(bearer(asked)).or_default().retain(|queued| queued.message != id);
                    true
                }
                RELEASE_PATH if self.burnt.contains(&id) => false,
                RELEASE_PATH => {
                    self.released.insert(id);
                    true
                }
                _ if self.released.contains(&id) => false,
                _ => {
                    self.burnt.insert(id);
                    true
                }
            };
            if done { outcome.done.push(id) } else { outcome.refused.push(id) }
        }
        Told::json(200, &outcome)
    }

    fn exchange(&mut self, asked: &Asked, issuer: &mut Issuer) -> Told {
        let request: ExchangeRequest = asked.json();
        let token = Token::decode(&request.token.0).unwrap();
        let id = MessageId(nullifier(&token.input).0);
        let retiring = token.input.token_key_id != issuer.token_key.public().key_id();
        let unspent = !self.spent.contains_key(&request.token.0);
        if !(self.released.contains(&id) || (unspent && retiring)) {
            return Told::problem(ProblemKind::NotReleased);
        }
        if self.exchanged.get(&request.token.0).is_some_and(|blinded| *blinded != request.blinded.0) {
            return Told::problem(ProblemKind::AlreadyExchanged);
        }
        if request.token_key_id != issuer.token_key.public().key_id() {
            return Told::problem(ProblemKind::KeyNotActive);
        }
        self.exchanged.insert(request.token.0.clone(), request.blinded.0.to_vec());
        Told::json(200, &ExchangeResponse { blind_signature: issuer.token_key.blind_sign(&request.blinded).unwrap() })
    }
}

fn info(issuer: &Issuer, replies: ReplyPolicy) -> RelayInfo {
    RelayInfo {
        name: RELAY_NAME.into(),
        issuer_name: ISSUER_NAME.into(),
        issuer_public_key: issuer.identity.public(),
        challenge: Base64(TokenChallenge::for_relay(ISSUER_NAME, RELAY_NAME).encode().unwrap()),
        envelope_sizes: postern_protocol::send::ENVELOPE_SIZES.to_vec(),
        retention_seconds: 30 * 24 * 3600,
        quota_messages: 1000,
        quota_bytes: 1 << 24,
        replies,
        prekeys_per_mailbox: super::prekeys::LIMIT as u64,
        prekey_claim_seconds: 86_400,
        token_keys: Vec::new(),
        enforce: true,
        unenforced: Default::default(),
        version: "test".into(),
    }
}

fn bearer(asked: &Asked) -> MailboxId {
    asked.authorization.strip_prefix("Bearer ").unwrap().parse().unwrap()
}
