//! The life of sending tokens (design §2.1, §2.2) as a model, all of whose states are visited: two relays, an issuer, requests that are
//! repeated and come at once, processes that die between any two steps. Each guard is then taken away, and the fault must be found.
//!
//! A step is what a transaction or a message is in the real thing. Every request may be made again at any time, so that lost answers need
//! no step of their own; what a relay does with one is lost when it dies, and what is in a database stays.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Tokens that the issuer signed at registration.
const ISSUED: usize = 1;
/// Blinded messages that may be shown in exchanges; each is a token once it is signed.
const BLINDED: usize = 2;
/// Requests that a relay handles at a time.
const AT_ONCE: usize = 2;
/// Of these the first is the recipient's; the other one is the sender's own.
const MAILBOXES: u8 = 2;

type Token = usize;

/// Where a token is good.
const fn relay_of(token: Token) -> usize {
    token % 2
}

/// What keeps the promise; without one of them it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// A token has one row: that there is none yet is said by the statement that writes it.
    SpendOnce,
    /// The row and the message are one transaction.
    SpendWithMessage,
    /// An answer leaves after the commit.
    AnswerAfterCommit,
    /// A release names a message of the caller's own mailbox.
    RecipientReleases,
    /// What is released was attached.
    AttachedOnly,
    /// What is exchanged was released, or is unseen while its key retires.
    ReleasedOnly,
    /// An exchange that has begun goes on with the blinded message it began with.
    BlindedPinned,
    /// The old token is marked before the issuer signs.
    MarkBeforeSigning,
    /// The issuer answers a blinded message that it has signed with what it has, and counts it once.
    IssuerRemembers,
}

/// A token's row in its relay's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Row {
    Attached(u8),
    Released,
    Exchanging(Token),
    Exchanged(Token),
}

/// A request that a relay works at, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    /// Without [`Guard::SpendOnce`]: it was looked, and there was no row.
    Looked(Token, u8),
    /// Without [`Guard::SpendWithMessage`]: the row is there, the message is not.
    Spent(Token, u8),
    /// Without [`Guard::AnswerAfterCommit`]: it was answered.
    Answered(Token, u8),
    /// The old token is marked; the issuer is asked to sign the new one.
    Asking(Token, Token),
    /// The issuer has signed.
    Signed(Token, Token),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    ledger: BTreeMap<Token, Row>,
    /// By token and mailbox, on disk.
    messages: BTreeSet<(Token, u8)>,
    /// Of which the sender was told that it is.
    acknowledged: BTreeSet<(Token, u8)>,
    /// Tokens that their recipient has released.
    forgiven: BTreeSet<Token>,
    /// What the issuer has signed in exchanges.
    signed: BTreeSet<Token>,
    /// What it has counted of them, in the open.
    counted: u8,
    is_retiring: bool,
    work: BTreeMap<Work, u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Send(Token, u8),
    /// A mailbox's owner releases the token of a message.
    Release(Token, u8),
    Exchange(Token, Token),
    /// Whatever a relay does next with a request.
    GoOn(Work),
    /// The issuer signs, and its answer is lost.
    SignUnheard(Work),
    /// A relay dies.
    Die(usize),
    /// The key that all tokens are of begins to retire.
    Retire,
}

/// The system, with a guard less.
struct World {
    without: Option<Guard>,
}

impl World {
    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn send(&self, state: &mut State, token: Token, mailbox: u8) {
        if !self.has(Guard::AnswerAfterCommit) {
            state.acknowledged.insert((token, mailbox));
            return state.begin(Work::Answered(token, mailbox));
        }
        match state.ledger.get(&token) {
            Some(Row::Attached(at)) if *at == mailbox => {
                state.acknowledged.insert((token, mailbox));
            }
            Some(_) => {}
            None if !self.has(Guard::SpendOnce) => state.begin(Work::Looked(token, mailbox)),
            None => self.spend(state, token, mailbox),
        }
    }

    fn spend(&self, state: &mut State, token: Token, mailbox: u8) {
        state.ledger.insert(token, Row::Attached(mailbox));
        if self.has(Guard::SpendWithMessage) {
            state.messages.insert((token, mailbox));
            state.acknowledged.insert((token, mailbox));
        } else {
            state.begin(Work::Spent(token, mailbox));
        }
    }

    fn release(&self, state: &mut State, token: Token, mailbox: u8) {
        let may = match state.ledger.get(&token) {
            Some(Row::Attached(at)) => *at == mailbox || !self.has(Guard::RecipientReleases),
            Some(_) => !self.has(Guard::AttachedOnly) && state.messages.contains(&(token, mailbox)),
            None => false,
        };
        if may {
            if state.messages.contains(&(token, mailbox)) {
                state.forgiven.insert(token);
            }
            state.ledger.insert(token, Row::Released);
        }
    }

    fn exchange(&self, state: &mut State, old: Token, new: Token) {
        let may = match state.ledger.get(&old) {
            Some(Row::Released) => true,
            Some(Row::Attached(_)) => !self.has(Guard::ReleasedOnly),
            Some(Row::Exchanging(begun)) => *begun == new || !self.has(Guard::BlindedPinned),
            // The answer is kept: nothing is done again.
            Some(Row::Exchanged(_)) => false,
            None => state.is_retiring,
        };
        if may {
            if self.has(Guard::MarkBeforeSigning) {
                state.ledger.insert(old, Row::Exchanging(new));
            }
            state.begin(Work::Asking(old, new));
        }
    }

    fn sign(&self, state: &mut State, new: Token) {
        if state.signed.insert(new) || !self.has(Guard::IssuerRemembers) {
            state.counted = state.counted.saturating_add(1);
        }
    }

    fn go_on(&self, state: &mut State, work: Work) {
        state.end(work);
        match work {
            Work::Looked(token, mailbox) => self.spend(state, token, mailbox),
            Work::Spent(token, mailbox) => {
                state.messages.insert((token, mailbox));
                state.acknowledged.insert((token, mailbox));
            }
            Work::Answered(token, mailbox) => {
                if let Entry::Vacant(row) = state.ledger.entry(token) {
                    row.insert(Row::Attached(mailbox));
                    state.messages.insert((token, mailbox));
                }
            }
            Work::Asking(old, new) => {
                self.sign(state, new);
                state.begin(Work::Signed(old, new));
            }
            Work::Signed(old, new) => {
                state.ledger.insert(old, Row::Exchanged(new));
            }
        }
    }
}

impl State {
    fn begin(&mut self, work: Work) {
        *self.work.entry(work).or_default() += 1;
    }

    fn end(&mut self, work: Work) {
        if let Some(count) = self.work.get_mut(&work) {
            *count -= 1;
            if *count == 0 {
                self.work.remove(&work);
            }
        }
    }

    fn is_busy(&self, relay: usize) -> bool {
        let here = self.work.iter().filter(|(work, _)| work.relay() == relay);
        here.map(|(_, count)| usize::from(*count)).sum::<usize>() >= AT_ONCE
    }

    /// Tokens that somebody has or can have: those of the registration and those that were signed in exchanges.
    fn in_the_wild(&self) -> impl Iterator<Item = Token> + '_ {
        (0..ISSUED).chain(self.signed.iter().copied())
    }

    /// Those that a relay would take.
    fn spendable(&self) -> usize {
        self.in_the_wild().filter(|token| !self.ledger.contains_key(token)).count()
    }

    fn in_state(&self, is: impl Fn(&Row) -> bool) -> usize {
        self.ledger.values().filter(|row| is(row)).count()
    }
}

impl Work {
    fn relay(&self) -> usize {
        match self {
            Self::Looked(token, _) | Self::Spent(token, _) | Self::Answered(token, _) => relay_of(*token),
            Self::Asking(old, _) | Self::Signed(old, _) => relay_of(*old),
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for token in state.in_the_wild() {
            if state.is_busy(relay_of(token)) {
                continue;
            }
            for mailbox in 0..MAILBOXES {
                actions.push(Action::Send(token, mailbox));
                actions.push(Action::Release(token, mailbox));
            }
            actions
                .extend((ISSUED..ISSUED + BLINDED).filter(|new| *new != token).map(|new| Action::Exchange(token, new)));
        }
        for work in state.work.keys() {
            actions.push(Action::GoOn(*work));
            if matches!(work, Work::Asking(..)) {
                actions.push(Action::SignUnheard(*work));
            }
        }
        actions.extend((0..2).filter(|relay| state.work.keys().any(|work| work.relay() == *relay)).map(Action::Die));
        if !state.is_retiring {
            actions.push(Action::Retire);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Send(token, mailbox) => self.send(&mut state, token, mailbox),
            Action::Release(token, mailbox) => self.release(&mut state, token, mailbox),
            Action::Exchange(old, new) => self.exchange(&mut state, old, new),
            Action::GoOn(work) => self.go_on(&mut state, work),
            Action::SignUnheard(Work::Asking(_, new)) => self.sign(&mut state, new),
            Action::SignUnheard(_) => {}
            Action::Die(relay) => state.work.retain(|work, _| work.relay() != relay),
            Action::Retire => state.is_retiring = true,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(CONSERVED, |_, state: &State| {
                state.spendable() + state.in_state(|row| *row == Row::Released) <= ISSUED
            }),
            Property::always(ONE_MESSAGE, |_, state: &State| {
                let tokens: BTreeSet<_> = state.messages.iter().map(|(token, _)| token).collect();
                tokens.len() == state.messages.len()
            }),
            Property::always(NOTHING_LOST, |_, state: &State| state.acknowledged.is_subset(&state.messages)),
            Property::always(RECIPIENTS_WORD, |_, state: &State| {
                let given_back = |(token, row): (&Token, &Row)| match row {
                    Row::Attached(_) => true,
                    _ => state.forgiven.contains(token) || !state.messages.iter().any(|(of, _)| of == token),
                };
                state.ledger.iter().all(given_back)
            }),
            Property::always(COUNTED, |_, state: &State| {
                let paid = state.in_state(|row| matches!(row, Row::Exchanging(_) | Row::Exchanged(_)));
                usize::from(state.counted) <= paid
            }),
            Property::sometimes(RETURNS, |_, state: &State| {
                state.messages.len() == ISSUED + BLINDED
                    && state.in_state(|row| matches!(row, Row::Exchanged(_))) == BLINDED
            }),
        ]
    }
}

const CONSERVED: &str = "what can be spent or fetched back is never more than was issued";
const ONE_MESSAGE: &str = "a token buys one message";
const NOTHING_LOST: &str = "what was acknowledged is there";
const RECIPIENTS_WORD: &str = "a token that paid for a message comes back by its recipient's word alone";
const COUNTED: &str = "the issuer counts no exchange that no row has paid for";
const RETURNS: &str = "every token that comes back buys another message";

#[test]
fn in_no_state_that_can_be_reached_is_a_promise_broken() {
    let checker = World { without: None }.checker().spawn_bfs().join();
    println!(
        "{} states, {} of them different, up to {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() > 10_000);
}

#[test]
fn without_any_one_guard_the_promise_that_it_keeps_is_seen_to_break() {
    let kept_by = [
        (Guard::SpendOnce, ONE_MESSAGE),
        (Guard::SpendWithMessage, NOTHING_LOST),
        (Guard::AnswerAfterCommit, NOTHING_LOST),
        (Guard::RecipientReleases, RECIPIENTS_WORD),
        (Guard::AttachedOnly, CONSERVED),
        (Guard::ReleasedOnly, RECIPIENTS_WORD),
        (Guard::BlindedPinned, CONSERVED),
        (Guard::MarkBeforeSigning, CONSERVED),
        (Guard::IssuerRemembers, COUNTED),
    ];
    for (guard, promise) in kept_by {
        let checker =
            World { without: Some(guard) }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let path = checker.discovery(promise).unwrap_or_else(|| panic!("without {guard:?} nothing breaks"));
        println!("without {guard:?}: {promise}, not any more after {:?}", path.into_actions());
    }
}
