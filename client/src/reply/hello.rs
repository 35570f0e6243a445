//! A hello: a message without text that hands credentials to somebody who was accepted, at a random time, so that they can go on writing
//! for free before they have an answer. It goes as a reply or not at all, and an ordinary message makes it needless.

use postern_protocol::ids::SigningPublicKey;
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::{HeldRecord, Right};
use crate::client::Client;
use crate::contact::{ContactRecord, Standing};
use crate::error::{Error, Result};
use crate::profile::Record;
use crate::send::Means;

/// After a failure the next attempt is so far off, seconds.
const AFTER_FAILURE: u64 = 60;

/// A hello that is to be sent; the key is their identity key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct HelloJob {
    /// Not before this.
    pub(crate) not_before: Timestamp,
}

impl Record for HelloJob {
    const KIND: &'static str = "reply-hello";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// A hello for some time within the delay of verdicts.
    pub(crate) fn hello_job(&mut self) -> Result<HelloJob> {
        let delay = self.settings()?.release_delay_seconds;
        Ok(HelloJob { not_before: self.some_time_within(delay) })
    }

    /// Sends the hellos whose time has come. With a delay set, one in one go, and the others at another time: several at once would tell
    /// that they are of one sender. How many went out, and what failed.
    ///
    /// # Errors
    /// A damaged profile.
    pub(crate) async fn run_hellos(&mut self) -> Result<(usize, Vec<Error>)> {
        let (now, delay) = (self.now(), self.settings()?.release_delay_seconds);
        let (mut sent, mut failed) = (0, Vec::new());
        for (name, job) in self.profile.list::<HelloJob>()? {
            if job.not_before > now {
                continue;
            }
            if sent > 0 && delay > 0 {
                let later = self.some_time_within(delay);
                self.postpone_hello(&name, later)?;
                continue;
            }
            match Box::pin(self.send_hello(&name)).await {
                Ok(true) => sent += 1,
                Ok(false) => {}
                Err(error) => {
                    self.postpone_hello(&name, now.plus_seconds(AFTER_FAILURE))?;
                    failed.push(error);
                }
            }
        }
        Ok((sent, failed))
    }

    /// Whether it went out; without a right to reply, or nothing to hand over, it is dropped.
    async fn send_hello(&mut self, name: &str) -> Result<bool> {
        let peer: SigningPublicKey = name.parse().map_err(|_| Error::ProfileDamaged("a hello"))?;
        let account = self.account()?;
        let contact = self.profile.get::<ContactRecord>(name)?.filter(|known| known.standing == Standing::Contact);
        let held = self.profile.get::<HeldRecord>(name)?;
        let wanted = self.offer(&account, &peer)?.is_some();
        let (Some(contact), Some(mut held), true) = (contact, held, wanted) else {
            return self.drop_hello(name);
        };
        match held.take_slot(self.now())? {
            Right::Over => self.drop_hello(name),
            Right::Used { until } => {
                self.postpone_hello(name, Timestamp::from_seconds(until))?;
                Ok(false)
            }
            Right::Slot(slot) => {
                self.write(&contact.link(peer)?, None, None, Means::Reply { held, slot }).await?;
                Ok(true)
            }
        }
    }

    /// If it is still to be sent at all.
    fn postpone_hello(&mut self, name: &str, not_before: Timestamp) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| match t.get::<HelloJob>(name)? {
            Some(_) => t.put(name, &HelloJob { not_before }),
            None => Ok(()),
        })
    }

    fn drop_hello(&mut self, name: &str) -> Result<bool> {
        self.profile.tx(&mut self.rng, |t| t.delete::<HelloJob>(name))?;
        Ok(false)
    }
}
