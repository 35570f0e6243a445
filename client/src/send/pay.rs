//! What pays for a message: a reply credential if there is one, else a token.

use postern_protocol::card::CardLink;
use postern_protocol::ids::{Base64, ChallengeDigest};
use postern_protocol::send::{RELAY_INFO_PATH, RelayInfo};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SendOptions;
use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::reply::{HeldRecord, Right, TakenSlot};
use crate::tokens::TokenRecord;

/// What a message was paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Paid {
    /// A reply credential: free of charge.
    Reply {
        /// How many replies to this contact are left in this epoch.
        left_in_epoch: usize,
    },
    /// A token.
    Token {
        /// Why not a reply; `None` for somebody who never answered.
        reason: Option<NoReply>,
    },
}

/// Why a token paid for a message to somebody who has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoReply {
    /// They have not handed over reply credentials, or theirs turned out to be void.
    NeverHad,
    /// The last credential has ended: we were away for too long.
    RanOut,
    /// The replies of this epoch are used, and a token was asked for.
    AskedFor,
}

/// What will pay.
pub(crate) enum Means {
    /// A slot, and the row that says that it is taken.
    Reply { held: HeldRecord, slot: Box<TakenSlot> },
    /// A token.
    Token { token: TokenRecord, reason: Option<NoReply> },
}

/// How a message on its way is paid.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub(super) enum Payment {
    /// By the token whose serial is the message's id.
    #[default]
    Token,
    /// By this presentation.
    Reply(Presented),
}

/// A presentation over the exact envelope.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Presented {
    pub(super) key_version: u32,
    pub(super) epoch: u32,
    pub(super) presentation: Base64,
    /// It is in place of one whose slot was lost.
    pub(super) second: bool,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// A reply if there is a free slot, else a token.
    ///
    /// # Errors
    /// [`Error::ReplyLimit`] if all slots of this epoch are used and no token was asked for, [`Error::NoToken`].
    pub(super) async fn choose_means(&mut self, link: &CardLink, options: SendOptions) -> Result<Means> {
        let reason = match self.profile.get::<HeldRecord>(&link.identity.to_string())? {
            None => None,
            Some(mut held) => match held.take_slot(self.now())? {
                Right::Slot(slot) => return Ok(Means::Reply { held, slot }),
                Right::Used { .. } if options.spend_token => Some(NoReply::AskedFor),
                Right::Used { until } => return Err(Error::ReplyLimit { until }),
                Right::Over => Some(NoReply::RanOut),
            },
        };
        let challenge = self.challenge_at(&link.relay_url).await?;
        Ok(Means::Token { token: self.pick_token(&challenge, &link.mailbox)?, reason })
    }

    /// What a token must answer at this relay: known for the own one, asked anonymously of others.
    async fn challenge_at(&mut self, relay_url: &str) -> Result<ChallengeDigest> {
        if relay_url == self.account()?.relay.url {
            return self.own_challenge();
        }
        let reply = self.send_anonymously(&Request::get(relay_url, RELAY_INFO_PATH)?).await?;
        let info: RelayInfo = reply.json()?;
        Ok(ChallengeDigest(Sha256::digest(&info.challenge.0).into()))
    }
}
