//! Everything that waits for its time: unconfirmed messages, hellos, verdicts, questions after tokens, new mail, new keys, strikes,
//! one-time prekeys, look-up tokens.
//! `postern inbox` and `postern sync` run it; `postern sync --watch` runs it until stopped.
//!
//! One round uses both channels within seconds, so servers that compare their clocks can guess who asked for a token. `--watch` is the
//! better way: the mailbox is listened to all the time there, and questions come at random moments of their own. `postern send` uses
//! the anonymous channel alone for that reason, unless it must ask for look-up tokens.

use std::time::Duration;

use postern_protocol::send::MESSAGES_PATH;
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;

use crate::channel::{Authenticated, Network, Request, parse_url};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::exchange::{ExchangeJob, Exchanged};
use crate::outbox::OutboxJob;
use crate::read::Fetched;
use crate::reply::HelloJob;
use crate::secret::SecretText;

/// How long a poll of the relay waits, seconds; it allows 60. Always as long: a shorter one would tell the relay when this client has
/// something to do, and the anonymous request that comes then would be the account's.
const POLL: u64 = 50;

/// What a round brought. Failures of one part do not keep the others from being tried.
#[derive(Debug, Default)]
pub struct SyncReport {
    /// New messages.
    pub fetched: Fetched,
    /// Messages of ours that the relay has now confirmed.
    pub delivered: usize,
    /// Verdicts that the relay took.
    pub verdicts: usize,
    /// Tokens that came back.
    pub returned: usize,
    /// Unspent tokens of a retiring key that were exchanged.
    pub renewed: usize,
    /// Tokens that are lost.
    pub lost: usize,
    /// A card with new keys was published.
    pub card_published: bool,
    /// The relay was given the group secrets that replies are checked with.
    pub reply_keys_published: bool,
    /// Messages without text that handed reply credentials to people who were accepted.
    pub hellos: usize,
    /// People about whom the relay was told what to refuse, or to take again.
    pub strikes: usize,
    /// One-time prekeys that the relay was given.
    pub prekeys: usize,
    /// Look-up tokens that were added to the stock.
    pub lookup_tokens: usize,
    /// What failed.
    pub failures: Vec<Error>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// One round of everything that is due.
    ///
    /// # Errors
    /// [`Error::NotRegistered`], or a damaged profile; what the network and the servers say is in the report.
    pub async fn sync(&mut self) -> Result<SyncReport> {
        self.profile.verify()?;
        let account = self.account()?;
        let mut report = SyncReport::default();
        self.send_due(&mut report).await?;
        self.exchange_due(&mut report).await?;
        match self.fetch().await {
            Ok(fetched) => {
                report.fetched = fetched;
                // Only now: what waited in the mailbox may have needed the oldest fallback key.
                if (self.rotate_keys(&account)? || account.replies.is_none())
                    && let Err(error) = self.refresh_relay_times(&account).await
                {
                    report.note(error)?;
                }
                match self.publish_card(&account).await {
                    Ok(published) => report.card_published = published,
                    Err(error) => report.note(error)?,
                }
                self.tend_replies(&mut report).await?;
                // The relay counts what is left; what was used has just been read.
                match self.refill_prekeys(&account).await {
                    Ok(given) => report.prekeys = given,
                    Err(error) => report.note(error)?,
                }
            }
            Err(error) => report.note(error)?,
        }
        // Verdicts on what has just come may be due at once.
        self.tell_due(&mut report).await?;
        self.refill_due(&mut report).await?;
        Ok(report)
    }

    /// Look-up tokens, if the stock is low and its time has come: in `sync`, so that nobody asks for them just before a look-up.
    async fn refill_due(&mut self, report: &mut SyncReport) -> Result<()> {
        if !self.has_anonymous_way()? {
            return Ok(());
        }
        match Box::pin(self.run_refill()).await {
            Ok(added) => report.lookup_tokens = added,
            Err(error) => report.note(error)?,
        }
        Ok(())
    }

    /// What must go out: messages, hellos, then verdicts.
    async fn send_due(&mut self, report: &mut SyncReport) -> Result<()> {
        self.write_due(report).await?;
        self.tell_due(report).await
    }

    async fn write_due(&mut self, report: &mut SyncReport) -> Result<()> {
        let (delivered, failed) = self.retry_outgoing().await?;
        report.delivered = delivered;
        let (hellos, failed_hellos) = self.run_hellos().await?;
        report.hellos = hellos;
        for error in failed.into_iter().chain(failed_hellos) {
            report.note(error)?;
        }
        Ok(())
    }

    /// Group secrets and strikes that the relay must have, and what is over erased. After fetching: what was written by a slot must be
    /// known before the slots that are left are struck.
    async fn tend_replies(&mut self, report: &mut SyncReport) -> Result<()> {
        let account = self.account()?;
        match self.publish_reply_keys(&account).await {
            Ok(published) => report.reply_keys_published = published,
            Err(error) => report.note(error)?,
        }
        let run = self.run_strikes().await?;
        report.strikes = run.told;
        for error in run.failed {
            report.note(error)?;
        }
        self.prune_held()?;
        self.prune_issued(&account)
    }

    async fn tell_due(&mut self, report: &mut SyncReport) -> Result<()> {
        match self.run_outbox().await {
            Ok(told) => report.verdicts += told,
            Err(error) => report.note(error)?,
        }
        Ok(())
    }

    async fn exchange_due(&mut self, report: &mut SyncReport) -> Result<()> {
        if !self.has_anonymous_way()? {
            // Who only reads needs no anonymous way; who waits for tokens is told.
            if self.next_question()?.is_some_and(|at| at <= self.now()) {
                report.note(Error::NotAnonymous { host: "the relay".to_owned() })?;
            }
            return Ok(());
        }
        if self.keys_due()?
            && let Err(error) = self.refresh_keys().await
        {
            report.note(error)?;
        }
        let run = self.run_exchanges().await?;
        let count = |what: Exchanged| run.done.iter().filter(|done| **done == what).count();
        report.returned = count(Exchanged::Returned);
        report.renewed = count(Exchanged::Renewed);
        report.lost = count(Exchanged::Lost);
        if let Some(error) = run.failed {
            report.note(error)?;
        }
        Ok(())
    }

    /// Asks for the tokens that are due, and nothing else: all anonymous, so that no login at the same moment names who asks.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn ask_for_tokens(&mut self) -> Result<SyncReport> {
        self.account()?;
        let mut report = SyncReport::default();
        self.exchange_due(&mut report).await?;
        Ok(report)
    }

    /// What is due and anonymous, and nothing else: messages, hellos, questions after tokens. No request of the account goes with it, so
    /// the time of it names nobody.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn sync_anonymously(&mut self) -> Result<SyncReport> {
        let mut report = SyncReport::default();
        self.write_due(&mut report).await?;
        self.exchange_due(&mut report).await?;
        Ok(report)
    }

    /// When the next hello or question is due: what [`Self::sync_anonymously`] does.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn next_anonymous(&self) -> Result<Option<Timestamp>> {
        let hellos = self.profile.list::<HelloJob>()?.into_iter().map(|(_, job)| job.not_before);
        Ok(hellos.chain(self.next_question()?).min())
    }

    /// When the next verdict, hello, question or request for look-up tokens is due; `None` if nothing waits.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn next_due(&self) -> Result<Option<Timestamp>> {
        let verdicts = self.profile.list::<OutboxJob>()?.into_iter().map(|(_, job)| job.not_before);
        let hellos = self.profile.list::<HelloJob>()?.into_iter().map(|(_, job)| job.not_before);
        // Without an anonymous way nothing is asked for, and waiting for it would have no end.
        let refill = if self.has_anonymous_way()? { self.next_refill()? } else { None };
        Ok(verdicts.chain(hellos).chain(self.next_question()?).chain(refill).min())
    }

    fn next_question(&self) -> Result<Option<Timestamp>> {
        Ok(self.profile.list::<ExchangeJob>()?.into_iter().map(|(_, job)| job.not_before).min())
    }

    fn has_anonymous_way(&self) -> Result<bool> {
        let account = self.account()?;
        let anonymous = self.anonymous()?;
        Ok(anonymous.check(&parse_url(&account.relay.url)?).is_ok()
            && anonymous.check(&parse_url(&account.pins.issuer_url)?).is_ok())
    }

    /// Something that can wait for mail while the profile is free for other commands.
    ///
    /// # Errors
    /// [`Error::NeedsLogin`], and what the channel and the issuer say.
    pub async fn waiter(&mut self) -> Result<Waiter> {
        let relay_url = self.account()?.relay.url;
        let jwt = self.mailbox_jwt().await?;
        // One attempt: who waits in a loop need not be persistent here.
        let network = Network { attempts: 1, ..self.network };
        Ok(Waiter { relay_url, jwt, channel: self.authenticated()?.beside(network) })
    }
}

impl SyncReport {
    /// Notes a failure, each once; what no other part of the round can mend is handed up instead.
    fn note(&mut self, error: Error) -> Result<()> {
        match error {
            Error::ProfileDamaged(_) | Error::ProfileRolledBack | Error::Storage(_) | Error::PinChanged(_) => {
                Err(error)
            }
            other => {
                if !self.failures.iter().any(|known| known.to_string() == other.to_string()) {
                    self.failures.push(other);
                }
                Ok(())
            }
        }
    }
}

/// Waits for mail by long polls; holds a JWT and no profile. Debug is silent.
pub struct Waiter {
    relay_url: String,
    jwt: SecretText,
    channel: Authenticated,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiter(..)")
    }
}

impl Waiter {
    /// Waits for one poll; whether something is there.
    ///
    /// # Errors
    /// What the channel and the relay say; a JWT that has ended is [`Error::Refused`].
    pub async fn wait(&self) -> Result<bool> {
        let request = Request::get(&self.relay_url, &format!("{MESSAGES_PATH}?wait={POLL}&limit=1"))?
            .authorization(format!("Bearer {}", self.jwt.expose()))
            .timeout(Duration::from_secs(POLL + 15));
        let found: postern_protocol::send::Messages = self.channel.send_protected(&request).await?.json()?;
        Ok(!found.messages.is_empty())
    }
}
