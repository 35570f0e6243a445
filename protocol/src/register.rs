//! Registration (M1–M6, design §4): a code by text, then one request that makes the account.

use serde::{Deserialize, Serialize};

use crate::ids::{Base64, LoginSalt, LoginVerifier, MailboxId, PhoneNumber, RsaElement, SigningPublicKey, TokenKeyId};
use crate::texts::Channel;

/// `GET`: who the issuer is and what it serves. Body [`IssuerInfo`].
pub const ISSUER_INFO_PATH: &str = "/v1/issuer";
/// `GET`: how many tokens each key has signed, and for whom. Body [`Counters`].
pub const COUNTERS_PATH: &str = "/v1/issuer/counters";
/// `POST` [`CodeRequest`] → [`CodeResponse`].
pub const CODE_PATH: &str = "/v1/registration/code";
/// `POST` [`RegistrationRequest`] → 201 [`RegistrationResponse`].
pub const REGISTRATION_PATH: &str = "/v1/registration";

/// A relay that this issuer grants mailboxes at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayEntry {
    /// Its name: the origin of its token challenge and the audience of its JWTs.
    pub name: String,
    /// Its base URL, without a trailing slash.
    pub url: String,
}

/// The issuer's public face. Clients pin `public_key` and `ca_certificate` when they register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerInfo {
    /// Its name in token challenges, JWTs and login transcripts.
    pub name: String,
    /// Signs login challenges and JWTs.
    pub public_key: SigningPublicKey,
    /// The CA certificate, DER.
    pub ca_certificate: Base64,
    /// Where it grants mailboxes; the first is the default.
    pub relays: Vec<RelayEntry>,
    /// Tokens per account (M6).
    pub tokens_per_account: u32,
    /// How long after registration the rest of them can be asked for, seconds.
    pub setup_seconds: u64,
    /// Digits of a code.
    pub code_digits: u32,
    /// Version of the server program.
    pub version: String,
}

/// Asks for a code (M1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// The number to verify.
    pub phone: PhoneNumber,
    /// The client's new identity key: the cookie is good for a certificate of this key alone.
    pub client_key: SigningPublicKey,
    /// By which way it should come; without it by text, or by another way if texts have not arrived lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
}

/// The server keeps nothing: all it needs later is in the cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeResponse {
    /// Encrypted (expiry, client key, phone); opaque to the client.
    pub cookie: Base64,
    /// When cookie and code expire, Unix seconds.
    pub expires: u64,
    /// By which way the code went.
    #[serde(default)]
    pub channel: Channel,
}

/// What the login needs to know (K7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginEnrolment {
    /// Random, made by the client.
    pub salt: LoginSalt,
    /// `c_N` of the chain.
    pub verifier: LoginVerifier,
}

/// Blinded messages and the key that should sign them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlindedTokens {
    /// The active key when the messages were blinded.
    pub token_key_id: TokenKeyId,
    /// At most five, all different.
    pub blinded: Vec<RsaElement>,
}

/// Everything that makes an account, in one request (design §4). Repeating it byte for byte gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationRequest {
    /// As given to [`CODE_PATH`] (M2).
    pub phone: PhoneNumber,
    /// As answered by [`CODE_PATH`].
    pub cookie: Base64,
    /// The digits of the text.
    pub code: String,
    /// PKCS#10, DER, signed by the cookie's client key; only the key is taken from it.
    pub certificate_request: Base64,
    /// For later logins.
    pub login: LoginEnrolment,
    /// At which relay the mailbox shall be: a name from [`IssuerInfo::relays`].
    pub relay: String,
    /// The tokens to sign; may be fewer than five, the rest follows within the set-up time.
    pub tokens: BlindedTokens,
}

/// The account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationResponse {
    /// X.509, DER: CN = phone number (M4).
    pub certificate: Base64,
    /// The mailbox that the grant is for.
    pub mailbox: MailboxId,
    /// Where it is to be opened.
    pub relay: RelayEntry,
    /// JWT that opens the mailbox at the relay; good for a day.
    pub mailbox_grant: String,
    /// One per blinded message, in order. Empty if the number has had its tokens before: a number that registers again
    /// gets a new identity and no new tokens.
    pub blind_signatures: Vec<RsaElement>,
    /// Tokens signed for this number so far, these included.
    pub tokens_issued: u32,
    /// Until when the rest can be asked for, Unix seconds.
    pub setup_until: u64,
}

/// What the issuer signed under one key, counted in the open (design §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounters {
    /// The key.
    pub token_key_id: TokenKeyId,
    /// Tokens for accounts.
    pub issued: u64,
    /// Tokens for exchanges at each relay.
    pub exchanged: Vec<RelayCount>,
}

/// A count for one relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCount {
    /// The relay's name.
    pub relay: String,
    /// How many.
    pub count: u64,
}

/// Body of [`COUNTERS_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Per key, the active one first.
    pub keys: Vec<KeyCounters>,
}
