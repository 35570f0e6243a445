//! Random sequences of sends, verdicts and exchanges against a model of the ledger and the queues that knows neither cryptography nor SQL: the
//! same answer at every step. A sequence that differs is shrunk to the shortest that still does.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::Method;
use postern_credentials::blind_token::{PendingToken, nullifier};
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeResponse};
use postern_protocol::ids::{MessageId, RefundSecret, RsaElement};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::release::{ACK_PATH, MessageList, Outcome, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::{Accepted, MESSAGES_PATH, Messages, send_path};
use postern_protocol::tokens::authorization;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use crate::issuer::key;
use crate::world::{Mailbox, Spendable, World, blinded, call, envelope, exchange_request, random, token};

const TOKENS: usize = 4;
const MAILBOXES: usize = 2;
const ENVELOPES: usize = 2;
const BLINDED: usize = 2;
/// Room of a mailbox, messages.
const ROOM: usize = 3;
/// Sequences of a run.
const SEQUENCES: u32 = 300;
/// Operations of a sequence, at most.
const LONGEST: usize = 24;

/// What an owner says of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Ack,
    Release,
    Spam,
}

/// One request. Tokens, mailboxes, envelopes and blinded messages go by number.
#[derive(Clone, Debug)]
enum Op {
    Send { token: usize, mailbox: usize, envelope: usize },
    Judge { mailbox: usize, word: Word, tokens: BTreeSet<usize> },
    Exchange { token: usize, blinded: usize, knows_secret: bool },
    Read { mailbox: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let word = prop_oneof![Just(Word::Ack), Just(Word::Release), Just(Word::Spam)];
    let tokens = proptest::collection::btree_set(0..TOKENS, 1..=TOKENS);
    prop_oneof![
        6 => (0..TOKENS, 0..MAILBOXES, 0..ENVELOPES)
            .prop_map(|(token, mailbox, envelope)| Op::Send { token, mailbox, envelope }),
        4 => (0..MAILBOXES, word, tokens).prop_map(|(mailbox, word, tokens)| Op::Judge { mailbox, word, tokens }),
        4 => (0..TOKENS, 0..BLINDED, prop::bool::weighted(0.9))
            .prop_map(|(token, blinded, knows_secret)| Op::Exchange { token, blinded, knows_secret }),
        2 => (0..MAILBOXES).prop_map(|mailbox| Op::Read { mailbox }),
    ]
}

/// What must be answered. Tokens stand for the messages that they paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Accepted(usize),
    Judged { done: BTreeSet<usize>, refused: BTreeSet<usize> },
    Signed(usize),
    Queue(Vec<usize>),
    Refused(ProblemKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Attached,
    Released,
    Burnt,
    Exchanged { blinded: usize },
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    mailbox: usize,
    envelope: usize,
    state: State,
}

/// The ledger and the queues (design §2.1).
#[derive(Default)]
struct Model {
    ledger: BTreeMap<usize, Spent>,
    queues: [Vec<usize>; MAILBOXES],
    /// What this model gets wrong on purpose.
    mistake: Option<Mistake>,
}

/// Each is something that a reader of the design might believe.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    RepeatedSendsAreRefused,
    TheLastVerdictCounts,
    AcknowledgingGivesBack,
    AFullMailboxKeepsTheToken,
    AnExchangeMayBeMadeTwice,
}

impl Model {
    fn answer(&mut self, op: &Op) -> Answer {
        match op {
            Op::Send { token, mailbox, envelope } => self.send(*token, *mailbox, *envelope),
            Op::Judge { mailbox, word, tokens } => {
                let (done, refused) = tokens.iter().partition(|token| self.judge(**token, *mailbox, *word));
                Answer::Judged { done, refused }
            }
            Op::Exchange { knows_secret: false, .. } => Answer::Refused(ProblemKind::RefundSecretWrong),
            Op::Exchange { token, blinded, .. } => self.exchange(*token, *blinded),
            Op::Read { mailbox } => Answer::Queue(self.queues[*mailbox].clone()),
        }
    }

    fn send(&mut self, token: usize, mailbox: usize, envelope: usize) -> Answer {
        match self.ledger.get(&token) {
            Some(spent) if (spent.mailbox, spent.envelope) == (mailbox, envelope) => match self.mistake {
                Some(Mistake::RepeatedSendsAreRefused) => Answer::Refused(ProblemKind::TokenAttached),
                _ => Answer::Accepted(token),
            },
            Some(_) => Answer::Refused(ProblemKind::TokenAttached),
            None if self.queues[mailbox].len() >= ROOM => {
                if matches!(self.mistake, Some(Mistake::AFullMailboxKeepsTheToken)) {
                    self.ledger.insert(token, Spent { mailbox, envelope, state: State::Attached });
                }
                Answer::Refused(ProblemKind::MailboxFull)
            }
            None => {
                self.ledger.insert(token, Spent { mailbox, envelope, state: State::Attached });
                self.queues[mailbox].push(token);
                Answer::Accepted(token)
            }
        }
    }

    fn judge(&mut self, token: usize, mailbox: usize, word: Word) -> bool {
        let Some(spent) = self.ledger.get_mut(&token).filter(|spent| spent.mailbox == mailbox) else { return false };
        let last_counts = matches!(self.mistake, Some(Mistake::TheLastVerdictCounts));
        match (word, spent.state) {
            (Word::Ack, state) => {
                self.queues[mailbox].retain(|queued| *queued != token);
                if state == State::Attached && matches!(self.mistake, Some(Mistake::AcknowledgingGivesBack)) {
                    spent.state = State::Released;
                }
                true
            }
            (Word::Release, State::Attached) => {
                spent.state = State::Released;
                true
            }
            (Word::Spam, State::Attached) => {
                spent.state = State::Burnt;
                true
            }
            (Word::Release, state) => state != State::Burnt || last_counts,
            (Word::Spam, state) => state == State::Burnt || last_counts,
        }
    }

    fn exchange(&mut self, token: usize, blinded: usize) -> Answer {
        let twice = matches!(self.mistake, Some(Mistake::AnExchangeMayBeMadeTwice));
        match self.ledger.get_mut(&token) {
            Some(Spent { state: State::Exchanged { blinded: before }, .. }) if *before != blinded && !twice => {
                Answer::Refused(ProblemKind::AlreadyExchanged)
            }
            Some(Spent { state: state @ (State::Released | State::Exchanged { .. }), .. }) => {
                *state = State::Exchanged { blinded };
                Answer::Signed(blinded)
            }
            _ => Answer::Refused(ProblemKind::NotReleased),
        }
    }
}

/// What the numbers of one sequence stand for, at the relay.
struct Play<'a> {
    router: &'a Router,
    tokens: Vec<Spendable>,
    names: Vec<MessageId>,
    mailboxes: Vec<Mailbox>,
    envelopes: Vec<Vec<u8>>,
    blinded: Vec<(RsaElement, PendingToken)>,
}

impl<'a> Play<'a> {
    async fn new(world: &World, router: &'a Router) -> Self {
        let tokens: Vec<_> = (0..TOKENS).map(|_| token(0)).collect();
        let names = tokens.iter().map(|token| MessageId(nullifier(&token.token.input).0)).collect();
        let mut mailboxes = Vec::new();
        for _ in 0..MAILBOXES {
            mailboxes.push(world.mailbox().await);
        }
        let envelopes = (0..ENVELOPES).map(|_| envelope()).collect();
        Self { router, tokens, names, mailboxes, envelopes, blinded: (0..BLINDED).map(|_| blinded(0)).collect() }
    }

    fn number(&self, name: &MessageId) -> usize {
        self.names.iter().position(|known| known == name).expect("a message of this sequence")
    }

    fn numbers(&self, names: &[MessageId]) -> BTreeSet<usize> {
        names.iter().map(|name| self.number(name)).collect()
    }

    async fn answer(&self, op: &Op) -> Answer {
        let (status, body) = match op {
            Op::Send { token, mailbox, envelope } => {
                let (right, body) = (authorization(&self.tokens[*token].token), self.envelopes[*envelope].clone());
                let path = send_path(&self.mailboxes[*mailbox].id);
                call(self.router, Method::POST, &path, &right, body).await
            }
            Op::Judge { mailbox, word, tokens } => {
                let path = match word {
                    Word::Ack => ACK_PATH,
                    Word::Release => RELEASE_PATH,
                    Word::Spam => SPAM_PATH,
                };
                let list = MessageList { messages: tokens.iter().map(|token| self.names[*token]).collect() };
                let right = format!("Bearer {}", self.mailboxes[*mailbox].jwt);
                call(self.router, Method::POST, path, &right, serde_json::to_vec(&list).unwrap()).await
            }
            Op::Exchange { token, blinded, knows_secret } => {
                let mut old = self.tokens[*token].clone();
                if !knows_secret {
                    old.refund = RefundSecret::new(random());
                }
                let request = exchange_request(&old, 0, self.blinded[*blinded].0);
                call(self.router, Method::POST, EXCHANGE_PATH, "", serde_json::to_vec(&request).unwrap()).await
            }
            Op::Read { mailbox } => {
                let right = format!("Bearer {}", self.mailboxes[*mailbox].jwt);
                call(self.router, Method::GET, MESSAGES_PATH, &right, Vec::new()).await
            }
        };
        if status >= 300 {
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.status, status);
            return Answer::Refused(problem.known_kind().unwrap());
        }
        match op {
            Op::Send { .. } => {
                Answer::Accepted(self.number(&serde_json::from_slice::<Accepted>(&body).unwrap().message))
            }
            Op::Judge { .. } => {
                let outcome: Outcome = serde_json::from_slice(&body).unwrap();
                Answer::Judged { done: self.numbers(&outcome.done), refused: self.numbers(&outcome.refused) }
            }
            Op::Exchange { .. } => {
                let signature = serde_json::from_slice::<ExchangeResponse>(&body).unwrap().blind_signature;
                let of = |(_, pending): &(_, PendingToken)| pending.finish(key(0).public(), &signature).is_ok();
                Answer::Signed(self.blinded.iter().position(of).expect("a signature of a message of this sequence"))
            }
            Op::Read { .. } => {
                let page: Messages = serde_json::from_slice(&body).unwrap();
                Answer::Queue(page.messages.iter().map(|queued| self.number(&queued.message)).collect())
            }
        }
    }
}

/// Plays random sequences; the shortest that differs from the model, if one does.
fn play(mistake: Option<Mistake>, sequences: u32) -> Result<(), TestError<Vec<Op>>> {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::start_with(|limits| limits.quota_messages = ROOM as u64));
    let router = world.app.router();
    let config = Config { cases: sequences, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&proptest::collection::vec(op(), 1..LONGEST), |ops| {
        runtime.block_on(async {
            let play = Play::new(&world, &router).await;
            let mut model = Model { mistake, ..Model::default() };
            for (step, op) in ops.iter().enumerate() {
                let (real, expected) = (play.answer(op).await, model.answer(op));
                if real != expected {
                    return Err(TestCaseError::fail(format!("step {step}: {real:?}, not {expected:?}")));
                }
            }
            Ok(())
        })
    });
    world.assert_consistent();
    result
}

#[test]
fn random_sequences_of_sends_verdicts_and_exchanges_are_answered_as_the_model_says() {
    play(None, SEQUENCES).unwrap();
}

#[test]
fn a_model_that_is_wrong_is_found_out_by_a_sequence_of_a_few_steps() {
    for (mistake, shortest) in [
        (Mistake::RepeatedSendsAreRefused, 2),
        (Mistake::TheLastVerdictCounts, 3),
        (Mistake::AcknowledgingGivesBack, 3),
        (Mistake::AFullMailboxKeepsTheToken, 5),
        (Mistake::AnExchangeMayBeMadeTwice, 4),
    ] {
        match play(Some(mistake), SEQUENCES) {
            Err(TestError::Fail(_, ops)) => assert!(ops.len() <= shortest, "{mistake:?}: {ops:?}"),
            other => panic!("{mistake:?}: {other:?}"),
        }
    }
}
