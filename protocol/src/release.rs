//! Acknowledging, and the verdicts that decide whether a token comes back (M18–M20, M37).

use serde::{Deserialize, Serialize};

use crate::ids::MessageId;

/// `POST` [`MessageList`] → [`Outcome`]: deletes messages from the queue. Their tokens stay attached.
pub const ACK_PATH: &str = "/v1/mailbox/ack";
/// `POST` [`MessageList`] → [`Outcome`]: "not spam"; the tokens can be exchanged.
pub const RELEASE_PATH: &str = "/v1/mailbox/release";
/// `POST` [`MessageList`] → [`Outcome`]: releases as well; for recipients who do not take the contact up (M37).
pub const DECLINE_PATH: &str = "/v1/mailbox/decline";
/// `POST` [`MessageList`] → [`Outcome`]: burns the tokens for ever.
pub const SPAM_PATH: &str = "/v1/mailbox/spam";

/// The most ids in one [`MessageList`].
pub const MAX_MESSAGES: usize = 256;

/// Which messages, at most [`MAX_MESSAGES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageList {
    /// Their ids.
    pub messages: Vec<MessageId>,
}

/// What became of each.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Done now or before: repeating is harmless.
    pub done: Vec<MessageId>,
    /// Refused: never came to this mailbox, or an opposite verdict stands.
    pub refused: Vec<MessageId>,
}
