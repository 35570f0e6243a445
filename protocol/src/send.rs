//! The relay's public face: mailboxes, cold sends, and reading.

use serde::{Deserialize, Serialize};

use crate::ids::{Base64, MailboxId, MessageId, SigningPublicKey, TokenKeyId};
use crate::reply::ReplyPolicy;
use crate::tokens::KeyState;

/// `GET` → [`RelayInfo`].
pub const RELAY_INFO_PATH: &str = "/v1/relay";
/// `GET`, at both servers → their endpoints as an OpenAPI document, JSON.
pub const OPENAPI_PATH: &str = "/openapi.json";
/// `POST` with a grant as bearer, empty body → 201 (or 200 if it was open) [`MailboxOpened`].
pub const MAILBOXES_PATH: &str = "/v1/mailboxes";
/// `PUT` with a mailbox JWT: replaces the sealed card. Body `application/octet-stream`, at most [`MAX_SEALED_CARD`] bytes → 204.
pub const OWN_CARD_PATH: &str = "/v1/mailbox/card";
/// `GET` with a mailbox JWT, `?wait=<seconds, at most 60>&limit=<1..=100>` → [`Messages`].
pub const MESSAGES_PATH: &str = "/v1/mailbox/messages";
/// `GET` with a mailbox JWT: server-sent events; each `event: message` says that there is something to fetch.
pub const EVENTS_PATH: &str = "/v1/mailbox/events";

/// `POST`: body is the envelope, `application/octet-stream`, with `Authorization: PrivateToken …` (cold send) or
/// [`PosternReply …`](crate::reply::ReplyAuthorization) → 201 [`Accepted`].
pub fn send_path(mailbox: &MailboxId) -> String {
    format!("{MAILBOXES_PATH}/{mailbox}/messages")
}

/// `GET`, anonymous → the sealed card, `application/octet-stream`.
pub fn card_path(mailbox: &MailboxId) -> String {
    format!("{MAILBOXES_PATH}/{mailbox}/card")
}

/// The sizes an envelope can have, bytes: 4, 16 and 64 KiB (design §6).
pub const ENVELOPE_SIZES: [usize; 3] = [4 * 1024, 16 * 1024, 64 * 1024];
/// The greatest size of a sealed card, bytes.
pub const MAX_SEALED_CARD: usize = 8 * 1024;

/// The relay's public face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInfo {
    /// Its name: the origin of its challenge.
    pub name: String,
    /// Whose tokens it accepts.
    pub issuer_name: String,
    /// Whose JWTs it accepts.
    pub issuer_public_key: SigningPublicKey,
    /// The encoded `TokenChallenge` that a token must answer.
    pub challenge: Base64,
    /// Accepted envelope sizes, bytes.
    pub envelope_sizes: Vec<usize>,
    /// How long a message waits to be read, seconds.
    pub retention_seconds: u64,
    /// How many messages a mailbox holds.
    pub quota_messages: u64,
    /// How many bytes of envelopes a mailbox holds.
    pub quota_bytes: u64,
    /// How it counts time for replies.
    pub replies: ReplyPolicy,
    /// How many one-time prekeys it keeps for a mailbox; 0: it has no place for them.
    #[serde(default)]
    pub prekeys_per_mailbox: u64,
    /// How long an identical claim of a prekey gets the identical answer, seconds.
    #[serde(default)]
    pub prekey_claim_seconds: u64,
    /// The issuer's keys whose tokens it takes; the active one first.
    #[serde(default)]
    pub token_keys: Vec<RelayKey>,
    /// Whether it refuses messages without a good token. `false`: it takes and counts them, while tokens are being introduced.
    #[serde(default = "yes")]
    pub enforce: bool,
    /// How many messages it has ever taken without a good token.
    #[serde(default)]
    pub unenforced: Unenforced,
    /// Version of the server program.
    pub version: String,
}

const fn yes() -> bool {
    true
}

/// A key of the issuer, as a relay knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayKey {
    /// Which.
    pub token_key_id: TokenKeyId,
    /// Whether it signs, or its tokens are accepted for a while longer.
    pub state: KeyState,
}

/// Messages that a relay has taken without a good token, by why it would have refused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// There was no token.
    pub token_required: u64,
    /// It was not valid.
    pub token_invalid: u64,
    /// It was spent on another message.
    pub token_attached: u64,
}

/// A mailbox is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxOpened {
    /// Which.
    pub mailbox: MailboxId,
}

/// The message is on disk (201 means durable). The same token or presentation with the same message again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its name; of a cold send, the token's nullifier.
    pub message: MessageId,
}

/// By what right a message came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// A `send` token, which the recipient can release.
    Token,
    /// A reply credential, which the recipient can trace.
    Reply {
        /// The version of the recipient's group secret.
        key_version: u32,
        /// The epoch that it was shown for.
        epoch: u32,
        /// The presentation, 160 bytes.
        presentation: Base64,
    },
}

/// A message as its recipient gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its name, for acknowledging and releasing.
    pub message: MessageId,
    /// When it came in, Unix seconds.
    pub arrived: u64,
    /// By what right.
    pub admission: Admission,
    /// The sealed envelope.
    pub envelope: Base64,
}

/// The oldest messages that are not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Oldest first.
    pub messages: Vec<QueuedMessage>,
    /// Whether more wait behind these.
    pub more: bool,
}
