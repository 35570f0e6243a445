//! What is done again and again, with what has to be there before.
//!
//! How to add one: a file here with what it needs and one round of it, a variant of [`Kind`] and [`Scenario`], an arm in each `match`.

mod cards;
mod chat;
mod cold_sends;
mod jwts;
mod prepare;
mod register;
mod replies;
mod round_trip;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use postern_protocol::time::Clock;
use rand_core::Rng;

use self::cards::Cards;
use self::chat::Chat;
use self::cold_sends::ColdSends;
use self::jwts::Jwts;
use self::register::Register;
use self::replies::Replies;
use self::round_trip::RoundTrip;
use crate::measure::Outcome;
use crate::pace::Stop;
use crate::wire::{Called, Seeds, Terms, Wire, nonsense};

/// Which scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Accounts: a code is asked for, the account made with its tokens, the mailbox opened.
    Register,
    /// First messages for a token each, until the tokens are spent.
    ColdSends,
    /// A token's whole life: sent, fetched, released, acknowledged, exchanged for a fresh one.
    RoundTrip,
    /// Messages by reply credential.
    Replies,
    /// Messages by reply credential that are fetched and acknowledged.
    Chat,
    /// Cards that strangers ask for.
    Cards,
    /// JWTs that sessions ask for.
    Jwts,
}

impl Kind {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::ColdSends => "cold-sends",
            Self::RoundTrip => "round-trip",
            Self::Replies => "replies",
            Self::Chat => "chat",
            Self::Cards => "cards",
            Self::Jwts => "jwts",
        }
    }
}

/// What every scenario is made from.
pub struct Setup {
    /// The servers; measured by the recorder of the preparations.
    pub wire: Wire,
    /// What they say of themselves.
    pub terms: Terms,
    /// Randomness.
    pub seeds: Seeds,
    /// The present, for reply epochs and JWTs.
    pub clock: Arc<dyn Clock>,
    /// The first synthetic number.
    pub first_number: u32,
    /// How many accounts.
    pub accounts: u32,
    /// How many of them, the first ones, have a mailbox that is written to.
    pub mailboxes: u32,
    /// How many will be at work at a time.
    pub at_once: usize,
    /// Bytes of an envelope.
    pub envelope_bytes: usize,
    /// Ends preparations early.
    pub stop: Stop,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl Setup {
    /// What the relay sees of any message: bytes without a pattern. One for all: the relay does not look into it.
    fn envelope(&self) -> Bytes {
        let mut bytes = vec![0; self.envelope_bytes];
        self.seeds.generator().fill_bytes(&mut bytes);
        bytes.into()
    }

    /// How many messages fit into all mailboxes while nobody reads.
    fn room(&self, mailboxes: usize) -> u64 {
        let (relay, bytes) = (&self.terms.relay, u64::try_from(self.envelope_bytes).unwrap_or(u64::MAX));
        let each = relay.quota_messages.min(relay.quota_bytes / bytes.max(1));
        each.saturating_mul(u64::try_from(mailboxes).unwrap_or(u64::MAX))
    }
}

/// A scenario that is ready to be run.
#[derive(Debug)]
pub enum Scenario {
    /// See [`Kind::Register`].
    Register(Register),
    /// See [`Kind::ColdSends`].
    ColdSends(ColdSends),
    /// See [`Kind::RoundTrip`].
    RoundTrip(RoundTrip),
    /// See [`Kind::Replies`].
    Replies(Replies),
    /// See [`Kind::Chat`].
    Chat(Chat),
    /// See [`Kind::Cards`].
    Cards(Cards),
    /// See [`Kind::Jwts`].
    Jwts(Jwts),
}

impl Scenario {
    /// Makes everything that it needs.
    ///
    /// # Errors
    /// The first unexpected answer, or that it was stopped.
    pub async fn prepare(kind: Kind, setup: Arc<Setup>) -> Called<Self> {
        Ok(match kind {
            Kind::Register => Self::Register(Register::prepare(setup)),
            Kind::ColdSends => Self::ColdSends(ColdSends::prepare(&setup).await?),
            Kind::RoundTrip => Self::RoundTrip(RoundTrip::prepare(setup).await?),
            Kind::Replies => Self::Replies(Replies::prepare(setup).await?),
            Kind::Chat => Self::Chat(Chat::prepare(setup).await?),
            Kind::Cards => Self::Cards(Cards::prepare(&setup).await?),
            Kind::Jwts => Self::Jwts(Jwts::prepare(&setup).await?),
        })
    }

    /// How many times it can be done; `None` for ever.
    pub fn most(&self) -> Option<u64> {
        match self {
            Self::Register(register) => Some(register.most()),
            Self::ColdSends(sends) => Some(sends.most()),
            Self::RoundTrip(_) | Self::Chat(_) | Self::Cards(_) | Self::Jwts(_) => None,
            Self::Replies(replies) => Some(replies.most()),
        }
    }

    /// How many can be at it at a time; `None` any number.
    pub fn most_at_once(&self) -> Option<usize> {
        match self {
            Self::Register(_) | Self::ColdSends(_) | Self::Cards(_) => None,
            Self::RoundTrip(trips) => Some(trips.most_at_once()),
            Self::Replies(replies) => Some(replies.most_at_once()),
            Self::Chat(chat) => Some(chat.most_at_once()),
            Self::Jwts(jwts) => Some(jwts.most_at_once()),
        }
    }

    /// Does it once.
    pub async fn once(&self, wire: &Wire, number: u64) -> Outcome {
        let done = match self {
            Self::Register(register) => register.once(wire, number).await,
            Self::ColdSends(sends) => sends.once(wire, number).await,
            Self::RoundTrip(trips) => trips.once(wire).await,
            Self::Replies(replies) => replies.once(wire).await,
            Self::Chat(chat) => chat.once(wire).await,
            Self::Cards(cards) => cards.once(wire, number).await,
            Self::Jwts(jwts) => jwts.once(wire).await,
        };
        match done {
            Ok(status) => Outcome::Done(status),
            Err(outcome) => outcome,
        }
    }
}

/// Things that one at a time works with, and gives back.
#[derive(Debug)]
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    fn new(things: Vec<T>) -> Self {
        Self(Mutex::new(things))
    }

    fn take(&self) -> Called<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .ok_or_else(|| nonsense("nothing is left to work with"))
    }

    fn give_back(&self, thing: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
