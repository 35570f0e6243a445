//! By what right a message came in, and whose. The relay has checked the same, but it holds the group secret: what it lets in is
//! checked here once more, and only here it is known who it was.

use std::collections::BTreeMap;

use postern_credentials::reply_credential::{
    Context, KeyPeriod, MemberSecret, Params, Presentation, envelope_digest, relay_id, trace, verify,
};
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::reply::Handover;
use postern_protocol::send::{Admission, QueuedMessage};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::group::was_live;
use super::held::is_sound;
use super::{GroupRecord, HeldRecord, IssuedRecord};
use crate::client::{Account, Client};
use crate::contact::{Contact, ContactRecord, Standing, shown};
use crate::error::Result;
use crate::open::{Opened, Said};
use crate::profile::{Profile, Tx};

/// An epoch that begins so much later than now is made up, seconds.
const MOST_AHEAD: u64 = 24 * 3600;
/// So many people who are not contacts may leave credentials here; what more of them hand over is not kept.
const MOST_STRANGERS: usize = 256;

/// By what right a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A token.
    Token,
    /// A reply credential.
    Reply,
}

impl By {
    /// Of an admission.
    pub(crate) const fn of(admission: &Admission) -> Self {
        match admission {
            Admission::Token => Self::Token,
            Admission::Reply { .. } => Self::Reply,
        }
    }
}

/// Whose message it is. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Who {
    /// By a reply credential: whose it is. By a token: who is certified as the sender. `None`: nobody can be named.
    pub contact: Option<Contact>,
    /// The slot of the reply credential.
    pub slot: Option<u16>,
    /// By what right it came in.
    pub by: By,
}

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Who").field("by", &self.by).finish_non_exhaustive()
    }
}

/// The contact whose credential a message came by, and the slot.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traced {
    pub(crate) contact: SigningPublicKey,
    pub(crate) slot: u16,
}

/// A presentation that holds.
struct Valid {
    ctx: Context,
    shown: Presentation,
}

/// One message at the door: its right, and what follows from it for the rows of replies.
pub(crate) struct Arrival<'a> {
    profile: &'a Profile,
    account: &'a Account,
    now: Timestamp,
    right: Right,
    issued: BTreeMap<String, IssuedRecord>,
    held: Option<(String, HeldRecord)>,
}

enum Right {
    Token,
    Reply(Box<Valid>),
    None,
}

impl<'a> Arrival<'a> {
    /// Checks the right.
    pub(crate) fn check(
        profile: &'a Profile,
        account: &'a Account,
        now: Timestamp,
        queued: &QueuedMessage,
    ) -> Result<Self> {
        let mut arrival = Self { profile, account, now, right: Right::Token, issued: BTreeMap::new(), held: None };
        if let Admission::Reply { key_version, epoch, presentation } = &queued.admission {
            let valid = arrival.valid(*key_version, *epoch, &presentation.0, &queued.envelope.0)?;
            arrival.right = valid.map_or(Right::None, |valid| Right::Reply(Box::new(valid)));
        }
        Ok(arrival)
    }

    fn valid(&self, key_version: u32, epoch: u32, presentation: &[u8], envelope: &[u8]) -> Result<Option<Valid>> {
        let group = self.profile.get::<GroupRecord>("")?;
        let secret = group.map(|group| group.of_version(key_version)).transpose()?.flatten();
        let (Some(policy), Some((secret, until))) = (self.account.replies, secret) else { return Ok(None) };
        let began = policy.epoch_start(epoch);
        if began > self.now.plus_seconds(MOST_AHEAD) || !was_live(until, began) {
            return Ok(None);
        }
        let of = KeyPeriod { mailbox: self.account.mailbox, key_version, period: policy.period_of(epoch) };
        let ctx = Context { relay: relay_id(&self.account.relay.name), of, epoch };
        let decoded = presentation.try_into().ok().and_then(|bytes| Presentation::decode(bytes).ok());
        let valid = decoded
            .filter(|shown| verify(&secret.verification_key(&of), &ctx, shown, &envelope_digest(envelope)).is_ok());
        Ok(valid.map(|shown| Valid { ctx, shown }))
    }

    /// Whether the relay had any right to let it in.
    pub(crate) const fn is_lawful(&self) -> bool {
        !matches!(self.right, Right::None)
    }

    /// Traces the message, says what does not fit about it, and works out what changes.
    pub(crate) fn settle(&mut self, opened: &mut Opened) -> Result<()> {
        let hint = opened.said.as_ref().and_then(|said| said.slot);
        let traced = match &self.right {
            Right::Reply(valid) => Some(self.trace(valid, hint)?),
            Right::Token | Right::None => None,
        };
        if let (Some(traced), Some(message)) = (traced, &mut opened.message) {
            message.traced = traced;
            let from = opened.said.as_ref().map(|said| said.from);
            let words = self.contradiction(from, traced)?;
            match (words, from) {
                (Some(words), None) => message.because(&words),
                (Some(words), Some(_)) => message.warn(&words),
                (None, _) => {}
            }
        }
        if let Some(traced) = traced.flatten() {
            self.note_use(&traced)?;
        }
        if let Some(said) = &opened.said {
            self.note_held(said)?;
            if let Some(words) = self.take_handover(said)?
                && let Some(message) = &mut opened.message
            {
                message.warn(words);
            }
        }
        Ok(())
    }

    fn trace(&self, valid: &Valid, hint: Option<u16>) -> Result<Option<Traced>> {
        let mut contacts: Vec<(SigningPublicKey, MemberSecret)> = Vec::new();
        let mut params = Params::default();
        for (key, issued) in self.profile.list::<IssuedRecord>()? {
            if let (Ok(key), Some(secret)) = (key.parse(), issued.secret_at(valid.ctx.of.period)?) {
                contacts.push((key, secret));
                let theirs = issued.params()?;
                params = if theirs.k() > params.k() { theirs } else { params };
            }
        }
        let secrets = contacts.iter().map(|(key, secret)| (*key, secret));
        let found = trace(params, &valid.ctx, &valid.shown, hint, secrets);
        Ok(found.map(|found| Traced { contact: found.contact, slot: found.slot }))
    }

    /// What the reader must know: the credential is not the sender's. For what could not be opened it says whose it was.
    fn contradiction(&self, from: Option<SigningPublicKey>, traced: Option<Traced>) -> Result<Option<String>> {
        let Some(traced) = traced else {
            return Ok(
                from.map(|_| "it came by no contact's credential: somebody has your relay's reply key".to_owned())
            );
        };
        if from == Some(traced.contact) {
            return Ok(None);
        }
        let contact = self.profile.get::<ContactRecord>(&traced.contact.to_string())?;
        let whose = contact.map_or_else(|| "a former contact".to_owned(), |contact| contact.phone.as_str().to_owned());
        Ok(Some(format!("it came by the reply credential of {whose}")))
    }

    fn issued(&mut self, contact: &SigningPublicKey) -> Result<Option<&mut IssuedRecord>> {
        let name = contact.to_string();
        if !self.issued.contains_key(&name) {
            let Some(issued) = self.profile.get::<IssuedRecord>(&name)? else { return Ok(None) };
            self.issued.insert(name.clone(), issued);
        }
        Ok(self.issued.get_mut(&name))
    }

    fn note_use(&mut self, traced: &Traced) -> Result<()> {
        let (Right::Reply(valid), Some(policy)) = (&self.right, self.account.replies) else { return Ok(()) };
        let (epoch, now) = (valid.ctx.epoch, policy.epoch_at(self.now));
        if let Some(issued) = self.issued(&traced.contact)? {
            issued.note_use(epoch, traced.slot, now);
        }
        Ok(())
    }

    fn note_held(&mut self, said: &Said) -> Result<()> {
        let held = said.held;
        if let Some(issued) = self.issued(&said.from)? {
            issued.note_held(held);
        }
        Ok(())
    }

    /// Keeps what was handed over; the words of a warning if it could not be used.
    fn take_handover(&mut self, said: &Said) -> Result<Option<&'static str>> {
        const BAD: Option<&str> = Some("the reply credentials in it cannot be used");
        if said.handover.is_empty() || !matches!(said.standing, Standing::Contact | Standing::Request) {
            return Ok(None);
        }
        let Ok(handover) = Handover::decode(&said.handover) else { return Ok(BAD) };
        // At the own relay its name is known: another id would be refused there.
        if said.relay_url == self.account.relay.url && handover.relay != relay_id(&self.account.relay.name) {
            return Ok(BAD);
        }
        let name = said.from.to_string();
        let known = self.profile.get::<HeldRecord>(&name)?;
        if known.is_none() && said.standing == Standing::Request && self.strangers()? >= MOST_STRANGERS {
            return Ok(Some("too many requests wait here: the reply credentials in it were not kept"));
        }
        let sound = is_sound(&handover, self.now);
        let taken = HeldRecord::taking(known, &handover, said.sent_at, self.now);
        self.held = taken.map(|held| (name, held));
        Ok(if sound { None } else { BAD })
    }

    /// How many that are not contacts have left credentials.
    fn strangers(&self) -> Result<usize> {
        let mut count = 0;
        for (key, _) in self.profile.list::<HeldRecord>()? {
            let contact = self.profile.get::<ContactRecord>(&key)?;
            count += usize::from(contact.is_none_or(|contact| contact.standing != Standing::Contact));
        }
        Ok(count)
    }

    /// What is to be stored.
    pub(crate) fn into_changes(self) -> Changes {
        Changes { issued: self.issued, held: self.held }
    }
}

/// The rows that a message changes.
pub(crate) struct Changes {
    issued: BTreeMap<String, IssuedRecord>,
    held: Option<(String, HeldRecord)>,
}

impl Changes {
    /// Within the message's transaction.
    pub(crate) fn put(&self, t: &mut Tx<'_>) -> Result<()> {
        for (name, issued) in &self.issued {
            t.put(name, issued)?;
        }
        self.held.as_ref().map_or(Ok(()), |(name, held)| t.put(name, held))
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Whose message it is, given by the first letters of its id: for one that came by a reply credential, whose credential that was,
    /// also if it could not be opened (design §3, Trace).
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`].
    pub fn who(&self, prefix: &str) -> Result<Who> {
        let (_, message) = self.find_message(prefix)?;
        let by = By::of(&message.admission);
        let key = match by {
            By::Token => message.from,
            By::Reply => message.traced.map(|traced| traced.contact),
        };
        let record = key.map(|key| self.profile.get::<ContactRecord>(&key.to_string())).transpose()?.flatten();
        let contact = key.zip(record).map(|(key, record)| shown(&key, &record));
        Ok(Who { contact, slot: message.traced.map(|traced| traced.slot), by })
    }
}
