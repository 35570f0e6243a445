//! The client itself: a profile, a clock, randomness and the two channels. Its deeds are in the files of their words.

use std::fmt;

use postern_credentials::identity::IdentityKey;
use postern_protocol::ids::{MailboxId, PhoneNumber, SigningPublicKey};
use postern_protocol::register::RelayEntry;
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::time::{Clock, Timestamp};
use rand::RngExt;
use rand_core::CryptoRng;

use crate::channel::{Anonymous, Authenticated, Network, Reply, Request, Route};
use crate::error::{Error, Result};
use crate::profile::{Patience, Profile};
use crate::register::{AccountRecord, Pins, Stage};

/// One account on one machine. Clock and randomness are handed in, so that tests are exact.
///
/// (vodozemac draws the randomness of Olm keys itself; nothing else here does.)
pub struct Client<C, R> {
    pub(crate) profile: Profile,
    pub(crate) clock: C,
    pub(crate) rng: R,
    /// Made when it is first needed, and again when the route changes.
    authenticated: Option<Authenticated>,
    pub(crate) network: Network,
    /// For this run only; else the settings say.
    route: Option<Route>,
}

impl<C, R> fmt::Debug for Client<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(..)")
    }
}

/// An account that is complete: what most deeds need of it.
#[derive(Clone)]
pub struct Account {
    /// The number.
    pub phone: PhoneNumber,
    /// The certified key.
    pub identity: IdentityKey,
    /// Its certificate, X.509 DER.
    pub certificate: Vec<u8>,
    /// Where the mailbox is.
    pub relay: RelayEntry,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// How long the relay keeps messages, seconds.
    pub retention_seconds: u64,
    /// How the relay counts time for replies; `None` until it was asked.
    pub replies: Option<ReplyPolicy>,
    /// The issuer, as pinned at registration.
    pub pins: Pins,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(..)")
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Puts a client together.
    pub fn new(profile: Profile, clock: C, rng: R, network: Network) -> Self {
        Self { profile, clock, rng, authenticated: None, network, route: None }
    }

    /// Requests of this run travel this way, whatever the settings say.
    pub fn set_route(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// The profile.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Lets other commands at the profile until [`Self::resume`].
    pub fn pause(&mut self) {
        self.profile.pause();
    }

    /// Takes the profile again.
    ///
    /// # Errors
    /// As [`Profile::resume`].
    pub fn resume(&mut self, patience: &Patience<'_>) -> Result<()> {
        self.profile.resume(patience)
    }

    /// The account, once registration is complete.
    ///
    /// # Errors
    /// [`Error::NotRegistered`] before that.
    pub fn account(&self) -> Result<Account> {
        let record = self.profile.get::<AccountRecord>("")?.ok_or(Error::NotRegistered)?;
        if record.stage != Stage::Complete {
            return Err(Error::NotRegistered);
        }
        self.unfinished_account(record)
    }

    /// The account as soon as it has a certificate.
    pub(crate) fn unfinished_account(&self, record: AccountRecord) -> Result<Account> {
        let identity = record.identity()?;
        Ok(Account {
            phone: record.phone,
            identity,
            certificate: record.certificate.ok_or(Error::NotRegistered)?.0,
            relay: record.relay.ok_or(Error::NotRegistered)?,
            mailbox: record.mailbox.ok_or(Error::NotRegistered)?,
            retention_seconds: record.retention_seconds,
            replies: record.replies,
            pins: self.pins()?,
        })
    }

    /// The issuer, as pinned.
    pub(crate) fn pins(&self) -> Result<Pins> {
        self.profile.get::<Pins>("")?.ok_or(Error::NotRegistered)
    }

    /// Own identity key, public.
    pub(crate) fn own_key(&self) -> Result<SigningPublicKey> {
        Ok(self.account()?.identity.public())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How requests travel now.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn route(&self) -> Result<Route> {
        match &self.route {
            Some(route) => Ok(route.clone()),
            None => Ok(self.settings()?.route),
        }
    }

    /// The anonymous channel as it is set.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn anonymous(&self) -> Result<Anonymous> {
        Ok(Anonymous::new(self.route()?, self.network))
    }

    /// The channel of what names the account anyway, as it is set.
    ///
    /// # Errors
    /// A damaged profile.
    pub(crate) fn authenticated(&mut self) -> Result<&Authenticated> {
        let route = self.route()?;
        let channel = match self.authenticated.take() {
            Some(channel) if *channel.route() == route => channel,
            _ => Authenticated::over(route, self.network, &mut self.rng),
        };
        Ok(self.authenticated.insert(channel))
    }

    /// Sends a request that nothing may connect with the account.
    pub(crate) async fn send_anonymously(&mut self, request: &Request) -> Result<Reply> {
        self.anonymous()?.send(&mut self.rng, request).await
    }

    /// A moment within the next `seconds`, uniformly; now for 0.
    pub(crate) fn some_time_within(&mut self, seconds: u64) -> Timestamp {
        let now = self.now();
        Timestamp(now.0.saturating_add(self.rng.random_range(0..=seconds.saturating_mul(1000))))
    }

    /// A moment about `seconds` from now: between half and one and a half of it.
    pub(crate) fn some_time_about(&mut self, seconds: u64) -> Timestamp {
        self.some_time_within(seconds).plus_seconds(seconds / 2)
    }

    /// Fresh random bytes.
    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.rng.fill_bytes(&mut out);
        out
    }
}
