//! Reading: fetch, open, store, and only then acknowledge. A message that came twice is dropped, also if it came in twice by different
//! rights; one that cannot be believed is shown as junk with the reason, not lost.

use postern_protocol::ids::{MessageId, SigningPublicKey};
use postern_protocol::release::{ACK_PATH, MessageList};
use postern_protocol::send::{Admission, MESSAGES_PATH, Messages, QueuedMessage};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::channel::Request;
use crate::client::{Account, Client};
use crate::contact::Standing;
use crate::error::{Error, Result};
use crate::names::{hex, of_message, short};
use crate::open::{Opened, Opener};
use crate::outbox::{OutboxJob, Verdict};
use crate::profile::Record;
use crate::reply::{Arrival, By, Traced};
use crate::secret::SecretText;

/// Messages in one answer: 20 of the largest size make about 1.8 MB of JSON.
const BATCH: usize = 20;
const LARGEST_BATCH: usize = 4 * 1024 * 1024;
/// Junk is kept so long, seconds.
const KEEP_JUNK: u64 = 30 * 24 * 3600;
/// An envelope is remembered for so long beyond the relay's retention, seconds.
const KEEP_SEEN: u64 = 7 * 24 * 3600;

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// From contacts.
    Inbox,
    /// From people who wait for a decision.
    Requests,
    /// Not to be believed, or reported.
    Junk,
}

/// A message's row; its key is its id in hex.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    pub(crate) id: MessageId,
    pub(crate) folder: Folder,
    pub(crate) from: Option<SigningPublicKey>,
    pub(crate) phone: Option<String>,
    pub(crate) sent_at: Option<u64>,
    pub(crate) arrived: u64,
    pub(crate) fetched: u64,
    pub(crate) text: Option<SecretText>,
    /// Why it is junk.
    pub(crate) reason: Option<String>,
    /// What the reader should know beside the text.
    pub(crate) warning: Option<String>,
    pub(crate) verdict: Option<Verdict>,
    /// The relay has the verdict, or need not hear of it.
    pub(crate) verdict_sent: bool,
    pub(crate) read: bool,
    /// By what right it came in.
    #[serde(default = "by_token")]
    pub(crate) admission: Admission,
    /// Whose reply credential that was.
    #[serde(default)]
    pub(crate) traced: Option<Traced>,
}

const fn by_token() -> Admission {
    Admission::Token
}

/// An envelope that came; the key is its SHA-256 in hex.
#[derive(Serialize, Deserialize)]
struct SeenRecord {
    /// When, Unix seconds.
    at: u64,
}

impl Record for SeenRecord {
    const KIND: &'static str = "seen";
}

impl Record for MessageRecord {
    const KIND: &'static str = "message";
}

impl MessageRecord {
    pub(crate) fn new(queued: &QueuedMessage, now: Timestamp, folder: Folder) -> Self {
        Self {
            id: queued.message,
            folder,
            from: None,
            phone: None,
            sent_at: None,
            arrived: queued.arrived,
            fetched: now.seconds(),
            text: None,
            reason: None,
            warning: None,
            verdict: None,
            verdict_sent: false,
            read: false,
            admission: queued.admission.clone(),
            traced: None,
        }
    }

    /// Junk, for this reason.
    pub(crate) fn junk(queued: &QueuedMessage, now: Timestamp, reason: String) -> Self {
        Self { reason: Some(reason), ..Self::new(queued, now, Folder::Junk) }
    }

    /// One more thing that the reader should know.
    pub(crate) fn warn(&mut self, words: &str) {
        add(&mut self.warning, words);
    }

    /// One more reason why it is junk.
    pub(crate) fn because(&mut self, words: &str) {
        add(&mut self.reason, words);
    }
}

fn add(text: &mut Option<String>, words: &str) {
    *text = Some(match text.take() {
        Some(before) => format!("{before}; {words}"),
        None => words.to_owned(),
    });
}

/// A message, for the screen. `Debug` shows no text and no number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its id at the relay, hex; the first letters name it.
    pub id: String,
    /// Where it lies.
    pub folder: Folder,
    /// The number that the sender's certificate says; absent in junk.
    pub from: Option<String>,
    /// The first letters of the sender's identity key.
    pub sender: Option<String>,
    /// When it was written, Unix seconds, by the sender's clock.
    pub sent_at: Option<u64>,
    /// When it came to the relay, Unix seconds.
    pub arrived: u64,
    /// What it says, if it could be read.
    pub text: Option<String>,
    /// Why it is junk.
    pub reason: Option<String>,
    /// What the reader should know beside the text.
    pub warning: Option<String>,
    /// What was decided about it.
    pub verdict: Option<Verdict>,
    /// The relay knows the verdict, or need not: of a reply. Else it goes at a random time.
    pub verdict_sent: bool,
    /// It was opened.
    pub read: bool,
    /// By what right it came in.
    pub by: By,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("folder", &self.folder).field("read", &self.read).finish_non_exhaustive()
    }
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// From contacts.
    pub inbox: usize,
    /// From others.
    pub requests: usize,
    /// Not to be believed.
    pub junk: usize,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Empties the mailbox into the profile. Nothing is acknowledged before it is on disk.
    ///
    /// # Errors
    /// [`Error::NeedsLogin`], and what the channel, the servers and the profile say; what was fetched before stays.
    pub async fn fetch(&mut self) -> Result<Fetched> {
        self.profile.verify()?;
        let account = self.account()?;
        let mut fetched = Fetched::default();
        loop {
            let path = format!("{MESSAGES_PATH}?wait=0&limit={BATCH}");
            let request = Request::get(&account.relay.url, &path)?.max_answer(LARGEST_BATCH);
            let batch: Messages = self.at_mailbox(request).await?.json()?;
            if batch.messages.is_empty() {
                break;
            }
            for queued in &batch.messages {
                match self.take_in(&account, queued)? {
                    Some(Folder::Inbox) => fetched.inbox += 1,
                    Some(Folder::Requests) => fetched.requests += 1,
                    Some(Folder::Junk) => fetched.junk += 1,
                    None => {}
                }
            }
            self.acknowledge(&account, &batch).await?;
            if !batch.more {
                break;
            }
        }
        self.prune_junk()?;
        self.prune_seen(account.retention_seconds)?;
        Ok(fetched)
    }

    /// Stores one message with everything that follows from it, in one transaction; `None` if there is nothing to show: it came before,
    /// is a hello, or is from somebody blocked.
    fn take_in(&mut self, account: &Account, queued: &QueuedMessage) -> Result<Option<Folder>> {
        let name = of_message(&queued.message);
        let seen = hex(&Sha256::digest(&queued.envelope.0));
        if self.profile.get::<MessageRecord>(&name)?.is_some() || self.profile.get::<SeenRecord>(&seen)?.is_some() {
            return Ok(None);
        }
        let now = self.clock.now();
        let mut arrival = Arrival::check(&self.profile, account, now, queued)?;
        if !arrival.is_lawful() {
            // Not opened, nor remembered as seen: the same envelope may still come by a right of its own.
            let message = MessageRecord::junk(queued, now, "the relay let it in without a right".to_owned());
            self.profile.tx(&mut self.rng, |t| t.put(&name, &message))?;
            return Ok(Some(Folder::Junk));
        }
        let keys = self.sealing_keys()?;
        let mut opened = Opener { profile: &self.profile, account, keys: &keys, now }.open(queued)?;
        arrival.settle(&mut opened)?;
        let changes = arrival.into_changes();
        let job = self.release_job(queued, &opened)?;
        if let Some(message) = &mut opened.message {
            message.verdict = job.as_ref().map(|job| job.verdict);
        }
        self.profile.tx(&mut self.rng, |t| {
            t.put(&seen, &SeenRecord { at: now.seconds() })?;
            if let Some(message) = &opened.message {
                t.put(&name, message)?;
            }
            if let Some((session, record)) = &opened.session {
                t.put(session, record)?;
            }
            if let Some(account) = &opened.account {
                t.put("", account)?;
            }
            if let Some((peer, contact)) = &opened.contact {
                t.put(&peer.to_string(), contact)?;
            }
            changes.put(t)?;
            job.map_or(Ok(()), |job: OutboxJob| t.put(&name, &job))
        })?;
        Ok(opened.message.map(|message| message.folder))
    }

    /// Who is a contact has been judged already: the token, if there is one, goes back by itself, at a random time (M18).
    fn release_job(&mut self, queued: &QueuedMessage, opened: &Opened) -> Result<Option<OutboxJob>> {
        let known = opened.said.as_ref().is_some_and(|said| said.standing == Standing::Contact);
        if !known || queued.admission != Admission::Token {
            return Ok(None);
        }
        self.outbox_job(queued.message, Verdict::Accepted).map(Some)
    }

    async fn acknowledge(&mut self, account: &Account, batch: &Messages) -> Result<()> {
        let list = MessageList { messages: batch.messages.iter().map(|queued| queued.message).collect() };
        let request = Request::post_json(&account.relay.url, ACK_PATH, &list)?;
        self.at_mailbox(request).await?.success().map(drop)
    }

    fn prune_junk(&mut self) -> Result<()> {
        let before = self.now().seconds().saturating_sub(KEEP_JUNK);
        let old: Vec<String> = self
            .profile
            .list::<MessageRecord>()?
            .into_iter()
            .filter(|(_, message)| message.folder == Folder::Junk && message.fetched < before)
            .map(|(name, _)| name)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        self.profile.tx(&mut self.rng, |t| old.iter().try_for_each(|name| t.delete::<MessageRecord>(name).map(drop)))
    }

    /// Forgets envelopes that cannot come again: the relay has let go of them.
    fn prune_seen(&mut self, retention_seconds: u64) -> Result<()> {
        let before = self.now().seconds().saturating_sub(retention_seconds.saturating_add(KEEP_SEEN));
        let mut old = self.profile.list::<SeenRecord>()?;
        old.retain(|(_, seen)| seen.at < before);
        if old.is_empty() {
            return Ok(());
        }
        self.profile.tx(&mut self.rng, |t| old.iter().try_for_each(|(name, _)| t.delete::<SeenRecord>(name).map(drop)))
    }

    /// The messages of some folders, newest last.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn messages(&self, folders: &[Folder]) -> Result<Vec<Message>> {
        let all = self.profile.list::<MessageRecord>()?;
        let mut chosen: Vec<_> = all.into_iter().filter(|(_, message)| folders.contains(&message.folder)).collect();
        chosen.sort_by_key(|(_, message)| (message.arrived, message.fetched));
        Ok(chosen.into_iter().map(|(name, message)| shown(name, message)).collect())
    }

    /// Opens a message, given by the first letters of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn read_message(&mut self, prefix: &str) -> Result<Message> {
        let (name, mut message) = self.find_message(prefix)?;
        if !message.read {
            message.read = true;
            self.profile.tx(&mut self.rng, |t| t.put(&name, &message))?;
        }
        Ok(shown(name, message))
    }

    pub(crate) fn find_message(&self, prefix: &str) -> Result<(String, MessageRecord)> {
        let prefix = prefix.to_lowercase();
        let all = self.profile.list::<MessageRecord>()?;
        let mut found: Vec<_> = all.into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        let one = found.pop().filter(|_| !prefix.is_empty()).ok_or(Error::NotFound("message"))?;
        if found.is_empty() { Ok(one) } else { Err(Error::Ambiguous("message")) }
    }
}

fn shown(name: String, message: MessageRecord) -> Message {
    Message {
        id: name,
        folder: message.folder,
        from: message.phone,
        sender: message.from.map(|key| short(&key.0)),
        sent_at: message.sent_at,
        arrived: message.arrived,
        text: message.text.map(|text| text.expose().to_owned()),
        reason: message.reason,
        warning: message.warning,
        verdict: message.verdict,
        verdict_sent: message.verdict_sent,
        read: message.read,
        by: By::of(&message.admission),
    }
}
