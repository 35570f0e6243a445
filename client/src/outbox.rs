//! What is to be told the relay at a random later time (M18, M33): verdicts. The jobs are rows, so they survive a restart; those that are
//! due go in one request, so that the relay does not even see how many times the user decided.

use postern_protocol::ids::MessageId;
use postern_protocol::release::{MAX_MESSAGES, MessageList, Outcome, RELEASE_PATH, SPAM_PATH};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::{Account, Client};
use crate::error::Result;
use crate::names::of_message;
use crate::profile::Record;
use crate::read::MessageRecord;

/// What was decided about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The sender is a contact; the token goes back.
    Accepted,
    /// The sender is none; the token goes back (M37). The relay cannot tell this from the first.
    Declined,
    /// The token burns.
    Spam,
}

impl Verdict {
    /// Where the relay is told.
    const fn path(self) -> &'static str {
        match self {
            // Not the relay's own path for it: whether a contact was made is none of its business.
            Self::Accepted | Self::Declined => RELEASE_PATH,
            Self::Spam => SPAM_PATH,
        }
    }

    /// Whether the relay hears the same.
    pub(crate) fn same_to_relay(self, other: Self) -> bool {
        self.path() == other.path()
    }
}

/// A verdict on its way; its key is the message's name.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OutboxJob {
    pub(crate) verdict: Verdict,
    pub(crate) not_before: Timestamp,
    pub(crate) message: MessageId,
}

impl Record for OutboxJob {
    const KIND: &'static str = "outbox";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// A job for some time within the set delay.
    pub(crate) fn outbox_job(&mut self, message: MessageId, verdict: Verdict) -> Result<OutboxJob> {
        let delay = self.settings()?.release_delay_seconds;
        Ok(OutboxJob { verdict, not_before: self.some_time_within(delay), message })
    }

    /// How many verdicts wait.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn outbox_len(&self) -> Result<usize> {
        Ok(self.profile.list::<OutboxJob>()?.len())
    }

    /// Tells the relay the verdicts whose time has come; how many it took.
    ///
    /// # Errors
    /// What the channel and the servers say; what is not told stays to be told.
    pub async fn run_outbox(&mut self) -> Result<usize> {
        let now = self.now();
        let mut due = self.profile.list::<OutboxJob>()?;
        due.retain(|(_, job)| job.not_before <= now);
        if due.is_empty() {
            return Ok(0);
        }
        let account = self.account()?;
        let mut told = 0;
        for path in [RELEASE_PATH, SPAM_PATH] {
            let of_path: Vec<MessageId> =
                due.iter().filter(|(_, job)| job.verdict.path() == path).map(|(_, job)| job.message).collect();
            for messages in of_path.chunks(MAX_MESSAGES) {
                told += self.tell(&account, path, messages).await?;
            }
        }
        Ok(told)
    }

    async fn tell(&mut self, account: &Account, path: &str, messages: &[MessageId]) -> Result<usize> {
        let list = MessageList { messages: messages.to_vec() };
        let request = Request::post_json(&account.relay.url, path, &list)?;
        let outcome: Outcome = self.at_mailbox(request).await?.json()?;
        self.profile.tx(&mut self.rng, |t| {
            // A refusal is final as well: an opposite verdict stands, or the relay never had the message.
            for id in messages.iter().filter(|id| outcome.done.contains(id) || outcome.refused.contains(id)) {
                let name = of_message(id);
                t.delete::<OutboxJob>(&name)?;
                if let Some(message) = t.get::<MessageRecord>(&name)? {
                    t.put(&name, &MessageRecord { verdict_sent: true, ..message })?;
                }
            }
            Ok(())
        })?;
        Ok(outcome.done.len())
    }
}
