//! A relay in memory, as honest as a test needs it. A mailbox's bearer token is its id.

use std::collections::{HashMap, HashSet};

use postern_credentials::blind_token::nullifier;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::{Base64, MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, MessageList, Outcome, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::{
    Accepted, Admission, MAILBOXES_PATH, MESSAGES_PATH, MailboxOpened, Messages, OWN_CARD_PATH, QueuedMessage,
    RELAY_INFO_PATH, RelayInfo,
};
use postern_protocol::tokens::{Token, TokenChallenge, parse_authorization};

use super::http::{Asked, Told};
use super::{ISSUER_NAME, Issuer, NOW, RELAY_NAME};

/// What a relay remembers.
#[derive(Default)]
pub(crate) struct Relay {
    pub(crate) cards: HashMap<MailboxId, Vec<u8>>,
    pub(crate) queue: HashMap<MailboxId, Vec<QueuedMessage>>,
    spent: HashMap<Vec<u8>, Vec<u8>>,
    pub(crate) released: HashSet<MessageId>,
    burnt: HashSet<MessageId>,
    exchanged: HashMap<Vec<u8>, Vec<u8>>,
    /// The next cold send is refused with this.
    pub(crate) refuse_send: Option<ProblemKind>,
}

impl Relay {
    /// Answers; `None` if the path is not a relay's.
    pub(crate) fn answer(&mut self, asked: &Asked, issuer: &mut Issuer) -> Option<Told> {
        let path = asked.path.split('?').next().unwrap();
        Some(match (asked.method.as_str(), path) {
            ("GET", RELAY_INFO_PATH) => Told::json(200, &info(issuer)),
            ("POST", MAILBOXES_PATH) => Told::json(201, &MailboxOpened { mailbox: bearer(asked) }),
            ("PUT", OWN_CARD_PATH) => {
                self.cards.insert(bearer(asked), asked.body.clone());
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
            ("POST", "messages") => self.send(mailbox, asked),
            _ => Told::problem(ProblemKind::NotFound),
        }
    }

    fn send(&mut self, mailbox: MailboxId, asked: &Asked) -> Told {
        if let Some(kind) = self.refuse_send.take() {
            return Told::problem(kind);
        }
        let token = parse_authorization(&asked.authorization).unwrap();
        let message = MessageId(nullifier(&token.input).0);
        match self.spent.get(&token.encode()) {
            Some(envelope) if *envelope == asked.body => return Told::json(201, &Accepted { message }),
            Some(_) => return Told::problem(ProblemKind::TokenAttached),
            None => {}
        }
        self.spent.insert(token.encode(), asked.body.clone());
        self.queue.entry(mailbox).or_default().push(QueuedMessage {
            message,
            arrived: NOW,
            admission: Admission::Token,
            envelope: Base64(asked.body.clone()),
        });
        Told::json(201, &Accepted { message })
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

fn info(issuer: &Issuer) -> RelayInfo {
    RelayInfo {
        name: RELAY_NAME.into(),
        issuer_name: ISSUER_NAME.into(),
        issuer_public_key: issuer.identity.public(),
        challenge: Base64(TokenChallenge::for_relay(ISSUER_NAME, RELAY_NAME).encode().unwrap()),
        envelope_sizes: postern_protocol::send::ENVELOPE_SIZES.to_vec(),
        retention_seconds: 30 * 24 * 3600,
        quota_messages: 1000,
        quota_bytes: 1 << 24,
        version: "test".into(),
    }
}

fn bearer(asked: &Asked) -> MailboxId {
    asked.authorization.strip_prefix("Bearer ").unwrap().parse().unwrap()
}
