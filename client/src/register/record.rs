//! The rows of a registration, and what can be said about them without a server.

use postern_credentials::blind_token::{PendingToken, VerifyingKey};
use postern_credentials::identity::IdentityKey;
use postern_protocol::ids::{Base64, MailboxId, PhoneNumber, RefundSecret, RsaElement, SigningPublicKey};
use postern_protocol::register::{IssuerInfo, RegistrationRequest, RegistrationResponse, RelayEntry};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::send::RelayInfo;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::profile::Record;
use crate::secret::{SecretBytes, SecretText};
use crate::tokens::TokenRecord;

/// The issuer as it was when the account was made. Whatever it says later is held against this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// Base URL, without a trailing slash.
    pub issuer_url: String,
    /// Name in challenges and transcripts.
    pub issuer_name: String,
    /// Signs login challenges.
    pub issuer_key: SigningPublicKey,
    /// The CA certificate, DER.
    pub ca_certificate: Base64,
}

impl Record for Pins {
    const KIND: &'static str = "pins";
}

/// How far the registration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A code was asked for.
    CodeRequested,
    /// The request is on disk and may have been sent.
    RequestBuilt,
    /// There is an account.
    Registered,
    /// The mailbox is open.
    MailboxOpened,
    /// Sealing key and Olm account are made.
    KeysMade,
    /// The card is published.
    Complete,
}

/// The account's row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    pub(crate) stage: Stage,
    pub(crate) phone: PhoneNumber,
    pub(crate) identity_seed: SecretBytes,
    pub(crate) certificate: Option<Base64>,
    pub(crate) relay: Option<RelayEntry>,
    pub(crate) mailbox: Option<MailboxId>,
    pub(crate) retention_seconds: u64,
    /// How the relay counts time for replies; `None` until it was asked.
    #[serde(default)]
    pub(crate) replies: Option<ReplyPolicy>,
}

impl Record for AccountRecord {
    const KIND: &'static str = "account";
}

impl AccountRecord {
    pub(crate) fn identity(&self) -> Result<IdentityKey> {
        let seed = self.identity_seed.array().ok_or(Error::ProfileDamaged("the identity key has another length"))?;
        Ok(IdentityKey::from_seed(*seed))
    }

    /// With what the relay says now about how long it keeps things, and what it said first about how it counts time for replies: contacts
    /// who were told different lengths would name their epochs differently, and the relay could tell them apart.
    pub(crate) fn with_times_of(self, info: &RelayInfo) -> Self {
        Self { retention_seconds: info.retention_seconds, replies: self.replies.or(Some(info.replies)), ..self }
    }
}

/// What is needed until the registration is complete; removed then.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) cookie: Base64,
    pub(super) relay: RelayEntry,
    pub(super) tokens_wanted: u32,
    /// The exact bytes of the request.
    pub(super) request: Option<SecretBytes>,
    /// It was sent, and no answer has come.
    pub(super) outcome_unknown: bool,
    pub(super) blinds: Vec<Blind>,
    /// SubjectPublicKeyInfo of the key that shall sign.
    pub(super) token_key: Base64,
    pub(super) grant: Option<SecretText>,
}

impl Record for Registration {
    const KIND: &'static str = "registration";
}

/// One token on its way.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Blind {
    pub(super) refund: RefundSecret,
    pub(super) pending: SecretBytes,
}

pub(super) fn pins_of(issuer_url: &str, info: &IssuerInfo) -> Pins {
    Pins {
        issuer_url: issuer_url.to_owned(),
        issuer_name: info.name.clone(),
        issuer_key: info.public_key,
        ca_certificate: info.ca_certificate.clone(),
    }
}

impl Pins {
    /// Whether the issuer still is who it was.
    ///
    /// # Errors
    /// [`Error::PinChanged`].
    pub fn hold(&self, info: &IssuerInfo) -> Result<()> {
        let same = *self == pins_of(&self.issuer_url, info);
        if same {
            Ok(())
        } else {
            Err(Error::PinChanged("the issuer's name or keys are not those of your registration"))
        }
    }
}

impl Registration {
    pub(super) fn set_request(&mut self, request: &RegistrationRequest) -> Result<()> {
        let bytes = serde_json::to_vec(request).map_err(|_| Error::Internal("a request does not encode"))?;
        self.request = Some(SecretBytes::new(bytes));
        self.outcome_unknown = false;
        Ok(())
    }

    pub(super) fn parsed(&self) -> Result<RegistrationRequest> {
        let bytes = self.request.as_ref().ok_or(Error::NotRegistered)?;
        serde_json::from_slice(bytes.expose()).map_err(|_| Error::ProfileDamaged("the registration request"))
    }

    /// Whether this code, or a newer cookie, is not yet in the request.
    pub(super) fn is_other(&self, code: Option<&str>) -> Result<bool> {
        let Some(code) = code else { return Ok(false) };
        let request = self.parsed()?;
        Ok(request.code != code || request.cookie != self.cookie)
    }

    /// The same request with the latest cookie and another code.
    pub(super) fn renew(&mut self, code: Option<&str>) -> Result<()> {
        let mut request = self.parsed()?;
        request.cookie = self.cookie.clone();
        if let Some(code) = code {
            code.clone_into(&mut request.code);
        }
        self.set_request(&request)
    }

    pub(super) fn finish_tokens(
        &self,
        response: &RegistrationResponse,
        relay_url: &str,
        now: u64,
    ) -> Result<Vec<TokenRecord>> {
        const BAD: Error = Error::Misbehaved("it has signed something other than your tokens");
        // A number that registers again gets a new identity and no new tokens.
        if !response.blind_signatures.is_empty() && response.blind_signatures.len() != self.blinds.len() {
            return Err(BAD);
        }
        let key = VerifyingKey::from_spki(&self.token_key.0).map_err(|_| BAD)?;
        let finish = |(blind, signature): (&Blind, &RsaElement)| {
            let pending = PendingToken::from_bytes(blind.pending.expose()).map_err(|_| BAD)?;
            let token = pending.finish(&key, signature).map_err(|_| BAD)?;
            Ok(TokenRecord::fresh(&token, blind.refund.clone(), relay_url, now))
        };
        self.blinds.iter().zip(&response.blind_signatures).map(finish).collect()
    }
}
