//! Exchange (design §2.2): asking, anonymously and at random times, whether a token came back.
//!
//! The fresh token is begun once and kept, so that a repetition is byte for byte the same and gets the same answer. Only the word that
//! its key signs no more (`key-not-active`, final for this blinded message) lets another take its place.

use postern_credentials::blind_token::{PendingToken, VerifyingKey};
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::{Base64, RefundSecret};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::{JSON, Request};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;
use crate::secret::SecretBytes;
use crate::tokens::{TokenOutcome, TokenRecord, TokenState, end_token};

/// The gaps grow by half with each answer "not released", up to this, seconds.
const LONGEST_GAP: u64 = 7 * 24 * 3600;
/// After a failure of the network the next attempt is at least so far off, seconds.
const AFTER_FAILURE: u64 = 60;

/// A question that is to be asked; its key is the token's serial.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ExchangeJob {
    /// Not before this.
    pub(crate) not_before: Timestamp,
    /// How often the relay said "not released".
    pub(crate) checks: u32,
    fresh: Option<Fresh>,
}

impl Record for ExchangeJob {
    const KIND: &'static str = "exchange";
}

/// The token that shall take the old one's place.
#[derive(Clone, Serialize, Deserialize)]
struct Fresh {
    refund: RefundSecret,
    pending: SecretBytes,
    token_key: Base64,
    /// The exact bytes of the request.
    request: SecretBytes,
}

impl ExchangeJob {
    pub(crate) const fn new(not_before: Timestamp) -> Self {
        Self { not_before, checks: 0, fresh: None }
    }
}

/// What one question brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// A fresh token for one that was released.
    Returned,
    /// A fresh token for an unspent one of a retiring key.
    Renewed,
    /// Nothing yet.
    NotYet,
    /// The token is lost; the signature screen says why.
    Lost,
}

/// What a round of questions brought.
#[derive(Debug, Default)]
pub struct ExchangeRun {
    /// Answers.
    pub done: Vec<Exchanged>,
    /// The last failure.
    pub failed: Option<Error>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Asks for the tokens whose time has come. With an interval set, for one of them in one go: asking for several at once would tell
    /// the relay that they have one owner.
    ///
    /// # Errors
    /// A damaged profile. What the channel and the relay say is in the outcome, beside what was done.
    pub async fn run_exchanges(&mut self) -> Result<ExchangeRun> {
        let (now, interval) = (self.now(), self.settings()?.exchange_interval_seconds);
        let mut due = self.profile.list::<ExchangeJob>()?;
        due.retain(|(_, job)| job.not_before <= now);
        due.sort_by_key(|(_, job)| job.not_before);
        let mut run = ExchangeRun::default();
        for (n, (serial, job)) in due.into_iter().enumerate() {
            if n > 0 && interval > 0 {
                let not_before = self.some_time_about(interval / 4);
                self.profile.tx(&mut self.rng, |t| t.put(&serial, &ExchangeJob { not_before, ..job }))?;
                continue;
            }
            match self.exchange(&serial).await {
                Ok(outcome) => run.done.push(outcome),
                Err(error) => {
                    let pointless = error.is_passing() || matches!(error, Error::NotAnonymous { .. });
                    run.failed = Some(error);
                    if pointless {
                        break;
                    }
                }
            }
        }
        Ok(run)
    }

    /// Asks for one token.
    async fn exchange(&mut self, serial: &str) -> Result<Exchanged> {
        match self.ask(serial).await {
            Err(error) if error.refusal() == Some(ProblemKind::KeyNotActive) => {
                self.refresh_keys().await?;
                let Some(job) = self.profile.get::<ExchangeJob>(serial)? else { return Ok(Exchanged::Lost) };
                self.profile.tx(&mut self.rng, |t| t.put(serial, &ExchangeJob { fresh: None, ..job }))?;
                self.ask(serial).await
            }
            other => other,
        }
    }

    async fn ask(&mut self, serial: &str) -> Result<Exchanged> {
        let fresh = self.prepare(serial)?;
        let token = self.exchanged_token(serial)?;
        let request = Request::new(http::Method::POST, &token.relay_url, EXCHANGE_PATH)?
            .body(JSON, fresh.request.expose().to_vec());
        let answer = match self.send_anonymously(&request).await {
            Ok(reply) => reply.json::<ExchangeResponse>(),
            Err(error) => Err(error),
        };
        match answer {
            Ok(response) => self.settle_exchange(serial, &token, &fresh, &response),
            Err(error) => self.settle_refusal(serial, &token, error),
        }
    }

    /// The request, on disk before it is sent; an unspent token is taken out of the reach of messages by it.
    fn prepare(&mut self, serial: &str) -> Result<Fresh> {
        let mut token = self.exchanged_token(serial)?;
        let job = self.profile.get::<ExchangeJob>(serial)?.ok_or(Error::NotFound("exchange"))?;
        let fresh = match job.fresh.clone() {
            Some(fresh) => fresh,
            None => self.begin_fresh(&token)?,
        };
        if token.is_unspent() {
            token.state = TokenState::Exchanging;
        }
        self.profile.tx(&mut self.rng, |t| {
            t.put(serial, &token)?;
            t.put(serial, &ExchangeJob { fresh: Some(fresh.clone()), ..job })
        })?;
        Ok(fresh)
    }

    fn begin_fresh(&mut self, old: &TokenRecord) -> Result<Fresh> {
        let key = self.active_key()?;
        let token = old.token()?;
        let refund = RefundSecret::new(self.random());
        let (blinded, pending) = PendingToken::begin(&mut self.rng, &key, token.input.challenge_digest, &refund)
            .map_err(|_| Error::Misbehaved("its token key is not sound"))?;
        let request = ExchangeRequest {
            token: Base64(token.encode()),
            refund_secret: old.refund.clone(),
            token_key_id: key.key_id(),
            blinded,
        };
        let request = serde_json::to_vec(&request).map_err(|_| Error::Internal("a request does not encode"))?;
        Ok(Fresh {
            refund,
            pending: SecretBytes::new(pending.to_bytes().as_slice()),
            token_key: Base64(key.spki().to_vec()),
            request: SecretBytes::new(request),
        })
    }

    fn settle_exchange(
        &mut self,
        serial: &str,
        old: &TokenRecord,
        fresh: &Fresh,
        response: &ExchangeResponse,
    ) -> Result<Exchanged> {
        const BAD: Error = Error::Misbehaved("the exchanged token is not signed by the issuer");
        let now = self.now().seconds();
        let key = VerifyingKey::from_spki(&fresh.token_key.0).map_err(|_| Error::ProfileDamaged("a token key"))?;
        let pending =
            PendingToken::from_bytes(fresh.pending.expose()).map_err(|_| Error::ProfileDamaged("a pending token"))?;
        let token = pending.finish(&key, &response.blind_signature).map_err(|_| BAD)?;
        let new = TokenRecord::fresh(&token, fresh.refund.clone(), &old.relay_url, now);
        let spent = matches!(old.state, TokenState::Out { .. });
        let outcome = if spent { TokenOutcome::Returned } else { TokenOutcome::Renewed };
        self.profile.tx(&mut self.rng, |t| {
            end_token(t, serial, old, outcome, now)?;
            t.put(&new.serial(), &new)
        })?;
        Ok(if spent { Exchanged::Returned } else { Exchanged::Renewed })
    }

    fn settle_refusal(&mut self, serial: &str, token: &TokenRecord, error: Error) -> Result<Exchanged> {
        let outcome = match error.refusal() {
            Some(ProblemKind::NotReleased) => return self.ask_later(serial, token),
            Some(ProblemKind::AlreadyExchanged) => TokenOutcome::ExchangedBefore,
            Some(ProblemKind::RefundSecretWrong) => TokenOutcome::NotAccepted,
            Some(ProblemKind::KeyNotActive) => return Err(error),
            // If its key is gone, the directory says so at the next look, and the token is written off there.
            Some(ProblemKind::TokenInvalid) => return self.ask_later(serial, token),
            _ => {
                self.postpone(serial, AFTER_FAILURE)?;
                return Err(error);
            }
        };
        let now = self.now().seconds();
        self.profile.tx(&mut self.rng, |t| end_token(t, serial, token, outcome, now))?;
        Ok(Exchanged::Lost)
    }

    /// "Not released": the next question comes at a random time, later and later.
    fn ask_later(&mut self, serial: &str, token: &TokenRecord) -> Result<Exchanged> {
        let mut job = self.profile.get::<ExchangeJob>(serial)?.ok_or(Error::NotFound("exchange"))?;
        job.checks = job.checks.saturating_add(1);
        let mut gap = self.settings()?.exchange_interval_seconds;
        for _ in 0..job.checks.min(16) {
            gap = gap.saturating_add(gap / 2).min(LONGEST_GAP);
        }
        job.not_before = self.some_time_about(gap);
        let mut token = token.clone();
        if token.state == TokenState::Exchanging {
            // The relay knows it as spent: an older copy of this profile has spent it.
            token.state = TokenState::Out { since: token.since, to: "?".to_owned() };
        }
        self.profile.tx(&mut self.rng, |t| {
            t.put(serial, &token)?;
            t.put(serial, &job)
        })?;
        Ok(Exchanged::NotYet)
    }

    fn postpone(&mut self, serial: &str, seconds: u64) -> Result<()> {
        let Some(job) = self.profile.get::<ExchangeJob>(serial)? else { return Ok(()) };
        let not_before = match self.settings()?.exchange_interval_seconds {
            0 => self.now(),
            _ => self.now().plus_seconds(seconds),
        };
        self.profile.tx(&mut self.rng, |t| t.put(serial, &ExchangeJob { not_before, ..job }))
    }

    fn exchanged_token(&self, serial: &str) -> Result<TokenRecord> {
        self.profile.get::<TokenRecord>(serial)?.ok_or(Error::NotFound("token"))
    }
}

#[cfg(test)]
#[path = "exchange/tests.rs"]
mod tests;
