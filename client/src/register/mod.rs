//! Registration (M1–M6, design §4), in steps that each can be cut short and repeated.
//!
//! | stage | what has happened | what `verify` does next |
//! |---|---|---|
//! | `CodeRequested` | identity key made, code asked for | builds the one request: five blinded tokens, login, certificate request |
//! | `RequestBuilt` | its exact bytes are on disk | sends them; the identical bytes as often as it takes |
//! | `Registered` | certificate checked, tokens finished | opens the mailbox with the grant |
//! | `MailboxOpened` | – | makes sealing key, Olm account and group secret |
//! | `KeysMade` | – | logs in, uploads the sealed card, the group secret and one-time prekeys |
//! | `Complete` | – | – |
//!
//! A wrong code is answered by the same request with another code: the blinded tokens, the salt and the key stay what they
//! were, so a registration whose answer was lost is never made twice.

mod record;

use postern_credentials::blind_token::{PendingToken, challenge_digest};
use postern_credentials::certificate;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::client_enrol;
use postern_protocol::ids::{Base64, PhoneNumber, RefundSecret, RsaElement, SigningPublicKey};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, ISSUER_INFO_PATH, IssuerInfo, REGISTRATION_PATH,
    RegistrationRequest, RegistrationResponse, RelayEntry,
};
use postern_protocol::send::{MAILBOXES_PATH, MailboxOpened, RELAY_INFO_PATH, RelayInfo};
use postern_protocol::texts::Channel;
use postern_protocol::time::Clock;
use postern_protocol::tokens::TokenChallenge;
use rand_core::CryptoRng;

use crate::channel::{JSON, Request, parse_url};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::secret::{SecretBytes, SecretText};

pub(crate) use self::record::AccountRecord;
use self::record::{Blind, Registration, pins_of};
pub use self::record::{Pins, Stage};

/// The most tokens that one request asks for (M6).
const MOST_TOKENS: u32 = 5;

/// What [`Client::start_registration`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The code is on its way; it is good until then, Unix seconds.
    CodeSent {
        /// When it expires.
        expires: u64,
        /// How many digits it has.
        digits: u32,
        /// As a text or by a call.
        channel: Channel,
    },
    /// An earlier registration had gone through after all: [`Client::verify_code`] without a code completes it.
    AlreadyThrough,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Asks the issuer for a code, by text unless `channel` says otherwise. `issuer_key`, if given, must be the issuer's: else its own word is pinned (trust on first use).
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`], [`Error::PinChanged`] if the key is another, and what the channel and the issuer say.
    pub async fn start_registration(
        &mut self,
        issuer_url: &str,
        phone: PhoneNumber,
        issuer_key: Option<SigningPublicKey>,
        channel: Option<Channel>,
    ) -> Result<Started> {
        let issuer_url = issuer_url.trim_end_matches('/');
        parse_url(issuer_url)?;
        let earlier = self.profile.get::<AccountRecord>("")?;
        match earlier.as_ref().map(|account| account.stage) {
            Some(Stage::Complete) => return Err(Error::AlreadyRegistered),
            Some(stage) if stage >= Stage::Registered => return Ok(Started::AlreadyThrough),
            Some(Stage::RequestBuilt) if self.retry_unanswered().await? => return Ok(Started::AlreadyThrough),
            _ => {}
        }
        let info = self.issuer_info(issuer_url).await?;
        if issuer_key.is_some_and(|key| key != info.public_key) {
            return Err(Error::PinChanged("the issuer's key is not the one that you gave"));
        }
        let relay = info.relays.first().cloned().ok_or(Error::Misbehaved("it grants mailboxes at no relay"))?;
        let pins = pins_of(issuer_url, &info);
        let account = self.pending_account(earlier, phone, &pins)?;
        let request = CodeRequest { phone: account.phone.clone(), client_key: account.identity()?.public(), channel };
        let request = Request::post_json(issuer_url, CODE_PATH, &request)?;
        let code: CodeResponse = self.authenticated()?.send_protected(&request).await?.json()?;
        self.profile.tx(&mut self.rng, |t| {
            let mut registration = t.get::<Registration>("")?.unwrap_or_else(|| Registration {
                cookie: Base64::default(),
                relay: relay.clone(),
                tokens_wanted: info.tokens_per_account.min(MOST_TOKENS),
                request: None,
                outcome_unknown: false,
                blinds: Vec::new(),
                token_key: Base64::default(),
                grant: None,
            });
            registration.cookie = code.cookie.clone();
            t.put("", &registration)
        })?;
        Ok(Started::CodeSent { expires: code.expires, digits: info.code_digits, channel: code.channel })
    }

    /// Makes the account with the code, or goes on where it was cut short (then without a code). `password` is the one for logins.
    ///
    /// # Errors
    /// [`Error::CodeNeeded`], [`Error::NotRegistered`] before a code was asked for, [`Error::Misbehaved`] if the issuer's answer
    /// does not hold, and what the channel and the servers say.
    pub async fn verify_code(&mut self, code: Option<&str>, password: &str) -> Result<()> {
        loop {
            let account = self.profile.get::<AccountRecord>("")?.ok_or(Error::NotRegistered)?;
            match account.stage {
                Stage::CodeRequested => {
                    let code = code.ok_or(Error::CodeNeeded)?;
                    self.build_request(account, code, password).await?;
                }
                Stage::RequestBuilt => self.send_registration(account, code).await?,
                Stage::Registered => self.open_mailbox(account).await?,
                Stage::MailboxOpened => self.make_keys(account)?,
                Stage::KeysMade => self.complete(account, password).await?,
                Stage::Complete => return Ok(()),
            }
        }
    }

    /// What the issuer says of itself, asked directly.
    pub(crate) async fn issuer_info(&mut self, issuer_url: &str) -> Result<IssuerInfo> {
        self.authenticated()?.send_protected(&Request::get(issuer_url, ISSUER_INFO_PATH)?).await?.json()
    }

    /// What the relay says of itself, asked directly: for the own relay, which knows the address anyway.
    pub(crate) async fn own_relay_info(&mut self, relay: &RelayEntry) -> Result<RelayInfo> {
        let info: RelayInfo =
            self.authenticated()?.send_protected(&Request::get(&relay.url, RELAY_INFO_PATH)?).await?.json()?;
        let pins = self.pins()?;
        let challenge = TokenChallenge::for_relay(&pins.issuer_name, &relay.name).encode().unwrap_or_default();
        if info.issuer_name != pins.issuer_name || info.issuer_public_key != pins.issuer_key {
            return Err(Error::PinChanged("the relay trusts another issuer than yours"));
        }
        if info.challenge.0 != challenge {
            return Err(Error::Misbehaved("the relay asks for tokens other than its issuer makes"));
        }
        if !info.replies.is_sound() {
            return Err(Error::Misbehaved("the relay counts no sensible epochs for replies"));
        }
        Ok(info)
    }

    /// The account under way: the earlier one if it is for this number and issuer, else a new one with a new key.
    fn pending_account(
        &mut self,
        earlier: Option<AccountRecord>,
        phone: PhoneNumber,
        pins: &Pins,
    ) -> Result<AccountRecord> {
        if let Some(account) = earlier.filter(|account| account.phone == phone)
            && let Some(pinned) = self.profile.get::<Pins>("")?
            && pinned.issuer_url == pins.issuer_url
        {
            return if pinned == *pins { Ok(account) } else { Err(Error::PinChanged("the issuer has other keys")) };
        }
        let identity = IdentityKey::generate(&mut self.rng);
        let account = AccountRecord {
            stage: Stage::CodeRequested,
            phone,
            identity_seed: SecretBytes::new(*identity.seed()),
            certificate: None,
            relay: None,
            mailbox: None,
            retention_seconds: 30 * 24 * 3600,
            replies: None,
        };
        self.profile.tx(&mut self.rng, |t| {
            t.delete::<Registration>("")?;
            t.put("", pins)?;
            t.put("", &account)
        })?;
        Ok(account)
    }

    fn registration(&self) -> Result<Registration> {
        self.profile.get("")?.ok_or(Error::NotRegistered)
    }

    /// Builds the request, complete, and puts its bytes on disk before anything is sent.
    async fn build_request(&mut self, account: AccountRecord, code: &str, password: &str) -> Result<()> {
        let pins = self.pins()?;
        let mut registration = self.registration()?;
        let tokens = self.blind_tokens(&pins, &mut registration).await?;
        let identity = account.identity()?;
        let request = RegistrationRequest {
            phone: account.phone.clone(),
            cookie: registration.cookie.clone(),
            code: code.to_owned(),
            certificate_request: Base64(
                certificate::request(&identity).map_err(|_| Error::Internal("no certificate request"))?,
            ),
            login: client_enrol(&mut self.rng, &pins.issuer_name, &account.phone, password)
                .map_err(|_| Error::Internal("the password cannot be hashed"))?,
            relay: registration.relay.name.clone(),
            tokens,
        };
        registration.set_request(&request)?;
        self.store(AccountRecord { stage: Stage::RequestBuilt, ..account }, registration)
    }

    /// Blinds fresh tokens under the active key.
    async fn blind_tokens(&mut self, pins: &Pins, registration: &mut Registration) -> Result<BlindedTokens> {
        let key = self.active_key_for_registration(pins).await?;
        let challenge = challenge_digest(&TokenChallenge::for_relay(&pins.issuer_name, &registration.relay.name))
            .map_err(|_| Error::Misbehaved("a server's name is too long"))?;
        registration.token_key = Base64(key.spki().to_vec());
        registration.blinds.clear();
        let mut blinded: Vec<RsaElement> = Vec::new();
        for _ in 0..registration.tokens_wanted {
            let refund = RefundSecret::new(self.random());
            let (message, pending) = PendingToken::begin(&mut self.rng, &key, challenge, &refund)
                .map_err(|_| Error::Misbehaved("its token key is not sound"))?;
            blinded.push(message);
            registration.blinds.push(Blind { refund, pending: SecretBytes::new(pending.to_bytes().as_slice()) });
        }
        Ok(BlindedTokens { token_key_id: key.key_id(), blinded })
    }

    /// Sends the stored request. `code`, if it is another than the one in it, takes its place first, but never while an answer to
    /// the stored bytes may have been lost.
    async fn send_registration(&mut self, account: AccountRecord, code: Option<&str>) -> Result<()> {
        let mut registration = self.registration()?;
        if registration.is_other(code)? {
            if registration.outcome_unknown && self.retry_unanswered().await? {
                return Ok(());
            }
            registration = self.registration()?;
            registration.renew(code)?;
            self.store(account.clone(), registration.clone())?;
        } else if code.is_none() && !registration.outcome_unknown {
            return Err(Error::CodeNeeded);
        }
        match self.send_stored(&account).await {
            Err(error) if error.refusal() == Some(ProblemKind::KeyNotActive) => {
                // The key was rotated since: nothing was signed, so the tokens may be blinded anew.
                let mut registration = self.registration()?;
                let mut request = registration.parsed()?;
                request.tokens = self.blind_tokens(&self.pins()?, &mut registration).await?;
                registration.set_request(&request)?;
                self.store(account.clone(), registration)?;
                self.send_stored(&account).await
            }
            other => other,
        }
    }

    /// Repeats a request whose answer may have been lost; whether it has gone through. A refusal means that it has not.
    async fn retry_unanswered(&mut self) -> Result<bool> {
        let account = self.profile.get::<AccountRecord>("")?.ok_or(Error::NotRegistered)?;
        if !self.registration()?.outcome_unknown {
            return Ok(false);
        }
        match self.send_stored(&account).await {
            Ok(()) => Ok(true),
            Err(Error::Refused(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Sends the exact bytes that are on disk, and settles the answer.
    async fn send_stored(&mut self, account: &AccountRecord) -> Result<()> {
        let mut registration = self.registration()?;
        let pins = self.pins()?;
        let bytes = registration.request.as_ref().ok_or(Error::NotRegistered)?.expose().to_vec();
        registration.outcome_unknown = true;
        self.store(account.clone(), registration.clone())?;
        let request = Request::new(http::Method::POST, &pins.issuer_url, REGISTRATION_PATH)?.body(JSON, bytes);
        match self.authenticated()?.send_protected(&request).await?.json::<RegistrationResponse>() {
            Ok(response) => self.settle(account.clone(), registration, response),
            Err(error) => {
                registration.outcome_unknown = !matches!(error, Error::Refused(_));
                self.store(account.clone(), registration)?;
                Err(error)
            }
        }
    }

    /// Checks everything in the answer before anything of it is kept.
    fn settle(
        &mut self,
        account: AccountRecord,
        mut registration: Registration,
        response: RegistrationResponse,
    ) -> Result<()> {
        let pins = self.pins()?;
        let now = self.now();
        let subject = certificate::verify(&response.certificate.0, &pins.ca_certificate.0, now)
            .map_err(|_| Error::Misbehaved("the certificate is not good"))?;
        if subject.phone != account.phone || subject.key != account.identity()?.public() {
            return Err(Error::Misbehaved("the certificate is for somebody else"));
        }
        if response.relay.name != registration.relay.name {
            return Err(Error::Misbehaved("the mailbox is at another relay than asked for"));
        }
        let url = response.relay.url.trim_end_matches('/').to_owned();
        parse_url(&url).map_err(|_| Error::Misbehaved("the relay has no usable URL"))?;
        let tokens = registration.finish_tokens(&response, &url, now.seconds())?;
        registration.grant = Some(SecretText::new(response.mailbox_grant));
        let account = AccountRecord {
            stage: Stage::Registered,
            certificate: Some(response.certificate),
            relay: Some(RelayEntry { name: response.relay.name, url }),
            mailbox: Some(response.mailbox),
            ..account
        };
        self.profile.tx(&mut self.rng, |t| {
            for token in &tokens {
                t.put(&token.serial(), token)?;
            }
            t.put("", &registration)?;
            t.put("", &account)
        })
    }

    async fn open_mailbox(&mut self, account: AccountRecord) -> Result<()> {
        let relay = account.relay.clone().ok_or(Error::NotRegistered)?;
        if let Err(error) = self.present_grant(&relay).await {
            if error.refusal() != Some(ProblemKind::Unauthorized) {
                return Err(error);
            }
            // The grant is good for a day; the identical registration request gets the answer, and a grant, again.
            self.send_stored(&account).await?;
            self.present_grant(&relay).await?;
        }
        let info = self.own_relay_info(&relay).await?;
        let account = AccountRecord { stage: Stage::MailboxOpened, ..account.with_times_of(&info) };
        self.profile.tx(&mut self.rng, |t| t.put("", &account))
    }

    async fn present_grant(&mut self, relay: &RelayEntry) -> Result<()> {
        let grant = self.registration()?.grant.ok_or(Error::NotRegistered)?;
        let request = Request::new(http::Method::POST, &relay.url, MAILBOXES_PATH)?
            .authorization(format!("Bearer {}", grant.expose()));
        let _: MailboxOpened = self.authenticated()?.send_protected(&request).await?.json()?;
        Ok(())
    }

    fn make_keys(&mut self, account: AccountRecord) -> Result<()> {
        let ready = self.unfinished_account(account.clone())?;
        self.make_first_keys(&ready, AccountRecord { stage: Stage::KeysMade, ..account })
    }

    async fn complete(&mut self, account: AccountRecord, password: &str) -> Result<()> {
        let ready = self.unfinished_account(account.clone())?;
        if !self.has_session()? {
            self.log_in_as(&ready.phone, password).await?;
        }
        self.publish_card(&ready).await?;
        self.publish_reply_keys(&ready).await?;
        self.refill_prekeys(&ready).await?;
        self.profile.tx(&mut self.rng, |t| {
            t.delete::<Registration>("")?;
            t.put("", &AccountRecord { stage: Stage::Complete, ..account })
        })
    }

    fn store(&mut self, account: AccountRecord, registration: Registration) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            t.put("", &registration)?;
            t.put("", &account)
        })
    }
}

#[cfg(test)]
mod tests;
