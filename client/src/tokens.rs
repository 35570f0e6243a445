//! Tokens as their owner keeps them.
//!
//! ```text
//! unspent ──send──▶ sending ──201──▶ out ──exchange──▶ a fresh unspent one (this one is deleted)
//!    ▲                 │ refused        │ key retired meanwhile
//!    └─────────────────┘                ▼ gone: written down, with the reason
//! unspent, of a retiring key ──exchange sent──▶ exchanging ──▶ a fresh unspent one
//! ```

use std::fmt;

use postern_credentials::blind_token::{challenge_digest, nullifier};
use postern_protocol::ids::{ChallengeDigest, MailboxId, Nullifier, RefundSecret};
use postern_protocol::time::Clock;
use postern_protocol::tokens::{Token, TokenChallenge};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::exchange::ExchangeJob;
use crate::names::hex;
use crate::profile::{Record, Tx};
use crate::secret::SecretBytes;

/// How many answered tokens are remembered for the screen.
const MOST_ANSWERED: usize = 100;

/// Where a token stands. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum TokenState {
    /// To be spent.
    Unspent {
        /// A relay has seen it, with a message for this mailbox that it refused. It could tell that the next send is by the same
        /// sender, so such a token goes to the same mailbox, or is taken last.
        #[serde(default)]
        shown_to: Option<MailboxId>,
    },
    /// An outgoing message holds it.
    Sending,
    /// Spent, and not answered yet.
    Out {
        /// Since when, Unix seconds.
        since: u64,
        /// On whom: the number.
        to: String,
    },
    /// Unspent, but its exchange has been sent: no message may have it any more.
    Exchanging,
}

impl fmt::Debug for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspent { .. } => "Unspent",
            Self::Sending => "Sending",
            Self::Out { .. } => "Out",
            Self::Exchanging => "Exchanging",
        })
    }
}

/// A token's row; its key is the serial.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenRecord {
    token: SecretBytes,
    pub(crate) refund: RefundSecret,
    /// The relay that it is bound to.
    pub(crate) relay_url: String,
    /// Since when it is here, Unix seconds.
    pub(crate) since: u64,
    pub(crate) state: TokenState,
}

impl Record for TokenRecord {
    const KIND: &'static str = "token";
}

impl TokenRecord {
    pub(crate) fn fresh(token: &Token, refund: RefundSecret, relay_url: &str, now: u64) -> Self {
        Self {
            token: SecretBytes::new(token.encode()),
            refund,
            relay_url: relay_url.to_owned(),
            since: now,
            state: TokenState::Unspent { shown_to: None },
        }
    }

    pub(crate) fn token(&self) -> Result<Token> {
        Token::decode(self.token.expose()).map_err(|_| Error::ProfileDamaged("a token"))
    }

    pub(crate) fn nullifier(&self) -> Result<Nullifier> {
        Ok(nullifier(&self.token()?.input))
    }

    /// Its name in the profile: the nullifier in hex, which is also the id of the message that it pays for.
    pub(crate) fn serial(&self) -> String {
        self.nullifier().map(|n| hex(&n.0)).unwrap_or_default()
    }

    pub(crate) fn is_unspent(&self) -> bool {
        matches!(self.state, TokenState::Unspent { .. })
    }
}

/// A token that is through, for the screen. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// On whom it was spent; absent if it was exchanged unspent.
    pub to: Option<String>,
    /// Since when it was out, Unix seconds.
    pub since: u64,
    /// When the answer came, Unix seconds.
    pub at: u64,
    /// What it was.
    pub outcome: TokenOutcome,
}

impl Record for Answered {
    const KIND: &'static str = "token-answered";
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenOutcome {
    /// Released, and exchanged for a fresh one.
    Returned,
    /// Exchanged unspent, because its key retires.
    Renewed,
    /// Its key was retired before an answer came.
    Expired,
    /// The relay says it was exchanged before: by an older copy of this profile.
    ExchangedBefore,
    /// The relay does not take it.
    NotAccepted,
}

/// A token that is out. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct OutToken {
    /// On whom it was spent.
    pub to: String,
    /// Waiting since, Unix seconds.
    pub since: u64,
    /// When the relay is asked next, Unix seconds.
    pub next_check: Option<u64>,
    /// How often it was asked.
    pub checks: u32,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl fmt::Debug for OutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutToken").field("checks", &self.checks).finish_non_exhaustive()
    }
}

/// The signature screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenScreen {
    /// How many messages to strangers can be sent now.
    pub left: usize,
    /// How many are in messages that are still being sent.
    pub sending: usize,
    /// How many are being exchanged because their key retires.
    pub renewing: usize,
    /// Those that wait for an answer, oldest first.
    pub out: Vec<OutToken>,
    /// Those that are through, newest first.
    pub answered: Vec<Answered>,
    /// When the next of those out is asked for, Unix seconds: the earliest that one can come back.
    pub next_refill: Option<u64>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The signature screen: left, out, answered.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn tokens(&self) -> Result<TokenScreen> {
        let mut screen = TokenScreen {
            left: 0,
            sending: 0,
            renewing: 0,
            out: Vec::new(),
            answered: self.profile.list::<Answered>()?.into_iter().map(|(_, answered)| answered).collect(),
            next_refill: None,
        };
        for (serial, token) in self.profile.list::<TokenRecord>()? {
            let job = self.profile.get::<ExchangeJob>(&serial)?;
            let next_check = job.as_ref().map(|job| job.not_before.seconds());
            match token.state {
                TokenState::Unspent { .. } => screen.left += 1,
                TokenState::Sending => screen.sending += 1,
                TokenState::Exchanging => screen.renewing += 1,
                TokenState::Out { since, to } => {
                    let checks = job.map_or(0, |job| job.checks);
                    screen.out.push(OutToken { to, since, next_check, checks });
                }
            }
        }
        screen.out.sort_by_key(|out| out.since);
        screen.answered.sort_by_key(|answered| std::cmp::Reverse(answered.at));
        screen.next_refill = screen.out.iter().filter_map(|out| out.next_check).min();
        Ok(screen)
    }

    /// The unspent token to take for a message to this mailbox at the relay with this challenge.
    pub(crate) fn pick_token(&self, challenge: &ChallengeDigest, mailbox: &MailboxId) -> Result<TokenRecord> {
        let all = self.profile.list::<TokenRecord>()?;
        let unspent: Vec<_> = all.into_iter().map(|(_, token)| token).filter(TokenRecord::is_unspent).collect();
        if unspent.is_empty() {
            return Err(Error::NoToken { next_check: self.tokens()?.next_refill });
        }
        let rank = |token: &TokenRecord| match &token.state {
            TokenState::Unspent { shown_to: Some(seen) } if seen == mailbox => 0,
            TokenState::Unspent { shown_to: None } => 1,
            _ => 2,
        };
        let here = |token: &TokenRecord| token.token().is_ok_and(|t| t.input.challenge_digest == *challenge);
        let best = unspent.into_iter().filter(here).min_by_key(|token| (rank(token), token.since));
        best.ok_or(Error::OtherRelay)
    }

    /// The digest that tokens for the own relay are bound to.
    pub(crate) fn own_challenge(&self) -> Result<ChallengeDigest> {
        let account = self.account()?;
        challenge_digest(&TokenChallenge::for_relay(&account.pins.issuer_name, &account.relay.name))
            .map_err(|_| Error::Misbehaved("a server's name is too long"))
    }
}

/// Removes a token and its exchange, and writes down what became of it.
pub(crate) fn end_token(
    t: &mut Tx<'_>,
    serial: &str,
    token: &TokenRecord,
    outcome: TokenOutcome,
    now: u64,
) -> Result<()> {
    let (to, since) = match &token.state {
        TokenState::Out { since, to } => (Some(to.clone()), *since),
        _ => (None, token.since),
    };
    t.delete::<TokenRecord>(serial)?;
    t.delete::<ExchangeJob>(serial)?;
    t.put(serial, &Answered { to, since, at: now, outcome })?;
    let mut answered = t.list::<Answered>()?;
    answered.sort_by_key(|(_, answered)| std::cmp::Reverse(answered.at));
    for (old, _) in answered.iter().skip(MOST_ANSWERED) {
        t.delete::<Answered>(old)?;
    }
    Ok(())
}
