//! Verdicts: accept, decline, spam. They count here at once; the relay hears of them at a random time (`outbox`).

use postern_protocol::time::Clock;
use rand_core::CryptoRng;

use crate::client::Client;
use crate::contact::{ContactRecord, Standing};
use crate::error::{Error, Result};
use crate::outbox::{OutboxJob, Verdict};
use crate::read::{Folder, Message, MessageRecord};
use crate::reply::{By, HeldRecord, HelloJob};

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Takes the sender up as a contact, with all that they wrote so far, releases the tokens (M18), and hands over reply credentials:
    /// with the next message, or by a hello at a random time.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::VerdictDone`] after spam, [`Error::Invalid`] for junk,
    /// [`Error::Blocked`].
    pub fn accept(&mut self, prefix: &str) -> Result<Message> {
        let (name, message) = self.find_message(prefix)?;
        let from = message.from.ok_or_else(|| Error::Invalid("nobody is certified as its sender".to_owned()))?;
        let contact = self.profile.get::<ContactRecord>(&from.to_string())?;
        if contact.is_some_and(|contact| contact.standing == Standing::Blocked) {
            return Err(Error::Blocked);
        }
        self.judge(&name, message, Verdict::Accepted)?;
        let hello = self.hello_job()?;
        self.set_standing(&from.to_string(), Standing::Contact, Some(hello))?;
        for (other, message) in self.profile.list::<MessageRecord>()? {
            if message.from == Some(from) && message.folder == Folder::Requests {
                self.judge(&other, message, Verdict::Accepted)?;
            }
        }
        self.read_message(&name)
    }

    /// Releases the token without taking the sender up (M37): they are handed no reply credentials.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::VerdictDone`] after spam.
    pub fn decline(&mut self, prefix: &str) -> Result<Message> {
        let (name, message) = self.find_message(prefix)?;
        let from = message.from;
        self.judge(&name, message, Verdict::Declined)?;
        if let Some(from) = from {
            self.set_standing(&from.to_string(), Standing::Declined, None)?;
        }
        self.read_message(&name)
    }

    /// Burns the token for ever, and makes junk of what the sender writes later.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::VerdictDone`] if the token was released already.
    pub fn spam(&mut self, prefix: &str) -> Result<Message> {
        let (name, message) = self.find_message(prefix)?;
        let from = message.from;
        self.judge(&name, message, Verdict::Spam)?;
        if let Some(from) = from {
            self.set_standing(&from.to_string(), Standing::Spam, None)?;
        }
        self.read_message(&name)
    }

    /// Notes the verdict and schedules what the relay must hear; a verdict that it has not heard yet can be turned round. Of a message
    /// that came by a reply credential it need not hear anything: there is no token.
    fn judge(&mut self, name: &str, message: MessageRecord, verdict: Verdict) -> Result<()> {
        let by_token = By::of(&message.admission) == By::Token;
        let heard_same = message.verdict.is_some_and(|earlier| earlier.same_to_relay(verdict));
        if by_token && message.verdict_sent && !heard_same {
            return Err(Error::VerdictDone);
        }
        let pending = self.profile.get::<OutboxJob>(name)?.filter(|job| job.verdict.same_to_relay(verdict));
        // A second thought to the same effect does not get a second draw of the time.
        let job = match pending {
            Some(job) => OutboxJob { verdict, ..job },
            None => self.outbox_job(message.id, verdict)?,
        };
        let folder = match (verdict, message.folder) {
            (Verdict::Accepted, _) => Folder::Inbox,
            (Verdict::Declined, folder) => folder,
            (Verdict::Spam, _) => Folder::Junk,
        };
        let reason = match verdict {
            Verdict::Accepted => None,
            Verdict::Declined => message.reason.clone(),
            Verdict::Spam => message.reason.clone().or_else(|| Some("you reported it as spam".to_owned())),
        };
        let verdict_sent = message.verdict_sent || !by_token;
        let record = MessageRecord { folder, reason, verdict: Some(verdict), verdict_sent, ..message };
        self.profile.tx(&mut self.rng, |t| {
            t.put(name, &record)?;
            if record.verdict_sent { Ok(()) } else { t.put(name, &job) }
        })
    }

    fn set_standing(&mut self, key: &str, standing: Standing, hello: Option<HelloJob>) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            // Who is blocked stays so: only `unblock` tells the relay.
            let contact = t.get::<ContactRecord>(key)?.filter(|contact| contact.standing != Standing::Blocked);
            if let Some(contact) = contact {
                t.put(key, &ContactRecord { standing, ..contact })?;
            }
            match hello {
                Some(hello) if t.get::<HelloJob>(key)?.is_none() => t.put(key, &hello),
                Some(_) => Ok(()),
                None => {
                    t.delete::<HelloJob>(key)?;
                    t.delete::<HeldRecord>(key).map(drop)
                }
            }
        })
    }
}
