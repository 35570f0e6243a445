//! Queueing (design §2.1): a right is used and its message queued in one transaction, which messages that come in at the same time share.
//!
//! What recipients do with their messages shares it as well: a verdict costs a sync of the disk like a send, and there are as many.
//!
//! Here everything is checked that must hold at the moment of the commit: that the mailbox is open and has room, that the token's key or
//! the reply's epoch and key are still in force, and that the right is unused. What is refused leaves nothing, and the others of its
//! group are none the worse for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use postern_protocol::ids::{MailboxId, MessageId, Nullifier};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release;
use postern_protocol::reply::ReplyAuthorization;
use postern_store::{Db, Dropped, Group, Holder, StoreError, Tx, Work};

use crate::config::Limits;
use crate::db::queue::{self, Arrival, Quota, Room};
use crate::db::read;
use crate::db::reply::{self, Slot, Taken};
use crate::db::rollout::{self, Name};
use crate::db::send::{self, LedgerRow, Spend};
use crate::db::strike;
use crate::error::Refusal;
use crate::metrics::Counters;
use crate::service::verdicts::{self, Act, Tally};

/// Messages and lists that are taken at a time.
const MOST: usize = 256;
/// Messages that one transaction names, in sends and in lists: senders wait no longer than for that.
const MOST_NAMED: usize = 1024;
/// Parts of the sums of messages without a right.
const PARTS: u8 = 64;
/// What a sender is told to wait when too much is queued, seconds.
const BUSY_RETRY: u64 = 1;

/// What admits a message.
pub(crate) enum Right {
    /// A token.
    Token(Box<Spend>),
    /// A slot of a contact.
    Slot {
        /// Which.
        slot: Slot,
        /// What it is used for.
        taken: Taken,
        /// As it was shown.
        shown: Box<ReplyAuthorization>,
    },
    /// None, in rollout.
    None {
        /// Where it goes.
        mailbox: MailboxId,
        /// What it is known by.
        message: MessageId,
        /// Why it would have been refused.
        reason: ProblemKind,
        /// How long it is known, Unix seconds.
        kept_until: u64,
    },
}

/// A message that was admitted but for the last checks.
pub(crate) struct Job {
    pub(crate) right: Right,
    /// Unix seconds.
    pub(crate) at: u64,
    pub(crate) envelope: Bytes,
}

impl Job {
    fn mailbox(&self) -> MailboxId {
        match &self.right {
            Right::Token(spend) => spend.mailbox,
            Right::Slot { slot, .. } => slot.mailbox,
            Right::None { mailbox, .. } => *mailbox,
        }
    }

    fn message(&self) -> MessageId {
        match &self.right {
            Right::Token(spend) => MessageId(spend.nullifier.0),
            Right::Slot { taken, .. } => taken.message,
            Right::None { message, .. } => *message,
        }
    }

    fn size(&self) -> u64 {
        u64::try_from(self.envelope.len()).unwrap_or(u64::MAX)
    }
}

/// What became of it.
pub(crate) enum Outcome {
    /// It is on disk; or, of a struck contact, on no disk: the answer is the same.
    Queued,
    /// The identical one was taken before, without a right.
    Again,
    /// The token has a row.
    Spent(Box<LedgerRow>),
    /// The slot is used.
    Used(Taken),
    /// The right is not in force any more.
    Over,
    /// The reply's epoch is not accepted any more.
    Fenced,
    /// The mailbox is full.
    Full,
    /// There is no such mailbox (any more).
    NoMailbox,
}

/// What waits for the writer.
enum Entry {
    Put(Job),
    Act(Act),
}

impl Entry {
    /// How many messages it names.
    fn weight(&self) -> usize {
        match self {
            Self::Put(_) => 1,
            Self::Act(act) => act.messages.len().max(1),
        }
    }
}

/// What became of it.
enum Answer {
    Put(Outcome),
    Act(release::Outcome),
}

/// The queues of all mailboxes.
#[derive(Debug)]
pub(crate) struct Queue(Group<Entry, Result<Answer, StoreError>>);

impl Queue {
    /// Starts the writer; it ends with the queue.
    pub(crate) fn start(db: &Db, limits: &Limits, process: Holder, counters: &Counters) -> Self {
        let quota = Quota { messages: limits.quota_messages, bytes: limits.quota_bytes };
        let writer = Arc::new(Writer { db: db.clone(), quota, process, counters: counters.clone() });
        let work: Work<Entry, _> = Arc::new(move |entries| {
            let writer = Arc::clone(&writer);
            Box::pin(async move {
                let mut answers = Vec::with_capacity(entries.len());
                for part in parts(entries) {
                    answers.extend(writer.write(part).await);
                }
                answers
            })
        });
        Self(Group::start(MOST, limits.queued_sends, work))
    }

    /// Uses the right and queues the message, or neither.
    ///
    /// # Errors
    /// `unavailable` with a retry time if too many wait; what the database says.
    pub(crate) async fn put(&self, job: Job) -> Result<Outcome, Refusal> {
        match self.run(Entry::Put(job)).await? {
            Answer::Put(outcome) => Ok(outcome),
            Answer::Act(_) => Err(StoreError::GivenUp.into()),
        }
    }

    /// Does with messages what their recipient says.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) async fn act(&self, act: Act) -> Result<release::Outcome, Refusal> {
        match self.run(Entry::Act(act)).await? {
            Answer::Act(outcome) => Ok(outcome),
            Answer::Put(_) => Err(StoreError::GivenUp.into()),
        }
    }

    async fn run(&self, entry: Entry) -> Result<Answer, Refusal> {
        match self.0.run(entry).await {
            Ok(answer) => Ok(answer?),
            Err(Dropped::Full) => Err(Refusal::retry_after(ProblemKind::Unavailable, BUSY_RETRY)),
            Err(Dropped::Closed) => Err(StoreError::Lost.into()),
        }
    }
}

/// The entries in the same order, in parts that each fit into a transaction.
fn parts(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let mut named = 0_usize;
    for entry in entries {
        let more = named.saturating_add(entry.weight());
        match parts.last_mut() {
            Some(part) if more <= MOST_NAMED => {
                named = more;
                part.push(entry);
            }
            _ => {
                named = entry.weight();
                parts.push(vec![entry]);
            }
        }
    }
    parts
}

/// What it takes to write.
struct Writer {
    db: Db,
    quota: Quota,
    process: Holder,
    counters: Counters,
}

impl Writer {
    /// All in one transaction. If it is refused, each in its own, so that what is wrong with one is not the others' affair; a database that
    /// is busy or away is so for all of them, and the next ones are not kept waiting.
    async fn write(&self, entries: Vec<Entry>) -> Vec<Result<Answer, StoreError>> {
        match self.write_once(&entries).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(StoreError::Busy) => entries.iter().map(|_| Err(StoreError::Busy)).collect(),
            Err(StoreError::Lost) => entries.iter().map(|_| Err(StoreError::Lost)).collect(),
            Err(error) if entries.len() == 1 => vec![Err(error)],
            Err(_) => {
                let mut answers = Vec::with_capacity(entries.len());
                for entry in &entries {
                    let alone = self.write_once(std::slice::from_ref(entry)).await;
                    answers.push(alone.and_then(|mut answers| answers.pop().ok_or(StoreError::GivenUp)));
                }
                answers
            }
        }
    }

    /// What recipients say first: it makes room.
    async fn write_once(&self, entries: &[Entry]) -> Result<Vec<Answer>, StoreError> {
        let (mut jobs, mut acts) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Put(job) => jobs.push(job),
                Entry::Act(act) => acts.push(act),
            }
        }
        let (jobs, acts, quota, process) = (&jobs, &acts, self.quota, &self.process);
        let ((acted, tally), queued) = self
            .db
            .run("queue", |tx| {
                Box::pin(async move {
                    let acted = verdicts::decide(tx, acts).await?;
                    let queued = if jobs.is_empty() {
                        Vec::new()
                    } else {
                        Batch::begin(tx, jobs).await?.decide(tx, quota, process).await?
                    };
                    Ok::<_, StoreError>((acted, queued))
                })
            })
            .await?;
        self.count(jobs, &queued, tally);
        let size = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.counters.groups.observe(size.into());
        let (mut acted, mut queued) = (acted.into_iter().map(Answer::Act), queued.into_iter().map(Answer::Put));
        let answer = |entry: &Entry| match entry {
            Entry::Put(_) => queued.next(),
            Entry::Act(_) => acted.next(),
        };
        entries.iter().map(answer).collect::<Option<_>>().ok_or(StoreError::GivenUp)
    }

    /// Counts what is committed.
    fn count(&self, jobs: &[&Job], queued: &[Outcome], tally: Tally) {
        for (job, _) in jobs.iter().zip(queued).filter(|(_, outcome)| matches!(outcome, Outcome::Queued)) {
            match &job.right {
                Right::Token(_) => self.counters.spent.inc(),
                Right::Slot { .. } => self.counters.replies.inc(),
                Right::None { reason, .. } => self.counters.unenforced(*reason),
            };
        }
        self.counters.acknowledged.inc_by(tally.removed);
        self.counters.released.inc_by(tally.released);
        self.counters.burnt.inc_by(tally.burnt);
    }
}

/// A group of jobs, and what was found out about them in the transaction.
struct Batch<'a> {
    jobs: &'a [&'a Job],
    rooms: HashMap<MailboxId, Room>,
    retired: HashSet<[u8; 32]>,
    /// Versions of group secrets.
    keys: HashSet<(MailboxId, u32)>,
    /// Epochs up to this one are over.
    fence: Option<u32>,
    /// Tokens that have just been spent, and slots that have just been used, for the first job that names them.
    spent: HashSet<Nullifier>,
    used: HashSet<[u8; 44]>,
    /// The same of messages without a right.
    fresh: HashSet<Name>,
    /// Tokens that had a row before this group came.
    rows: HashMap<Nullifier, LedgerRow>,
}

impl<'a> Batch<'a> {
    async fn begin(tx: &mut Tx<'_>, jobs: &'a [&'a Job]) -> Result<Self, StoreError> {
        let spends =
            || jobs.iter().filter_map(|job| if let Right::Token(spend) = &job.right { Some(spend) } else { None });
        let mailboxes: HashSet<_> = jobs.iter().map(|job| job.mailbox()).collect();
        let rooms = queue::rooms(tx, mailboxes.into_iter()).await?;
        let key_ids: HashSet<_> = spends().map(|spend| spend.key_id.0).collect();
        let retired = send::retired(tx, key_ids).await?;
        let mut batch = Self {
            jobs,
            rooms,
            retired,
            keys: HashSet::new(),
            fence: None,
            spent: HashSet::new(),
            used: HashSet::new(),
            fresh: HashSet::new(),
            rows: HashMap::new(),
        };
        let of_replies: HashSet<_> =
            jobs.iter().filter(|job| matches!(job.right, Right::Slot { .. })).map(|job| job.mailbox()).collect();
        if !of_replies.is_empty() {
            batch.fence = reply::fence(tx).await?;
            batch.keys = reply::versions(tx, of_replies).await?;
        }
        let good = jobs.iter().filter(|job| batch.objection(job).is_none()).map(|job| &job.right);
        let (mut tokens, mut slots, mut without) = (Vec::new(), Vec::new(), HashMap::new());
        for right in good {
            match right {
                Right::Token(spend) => tokens.push(spend.as_ref()),
                Right::Slot { slot, taken, .. } => slots.push((slot, taken)),
                Right::None { mailbox, message, kept_until, .. } => {
                    without.insert((*mailbox, *message), *kept_until);
                }
            }
        }
        let named: HashSet<_> = tokens.iter().map(|spend| spend.nullifier).collect();
        batch.spent = send::attach(tx, tokens).await?;
        if batch.spent.len() < named.len() {
            batch.rows = send::rows(tx, named.difference(&batch.spent).copied()).await?;
        }
        batch.used = reply::take(tx, slots).await?;
        if !without.is_empty() {
            batch.fresh = rollout::take(tx, without).await?;
        }
        Ok(batch)
    }

    /// What stands against a job, whatever has become of its right.
    fn objection(&self, job: &Job) -> Option<Outcome> {
        if !self.rooms.contains_key(&job.mailbox()) {
            return Some(Outcome::NoMailbox);
        }
        match &job.right {
            Right::Token(spend) => self.retired.contains(&spend.key_id.0).then_some(Outcome::Over),
            Right::Slot { slot, .. } if self.fence.is_some_and(|fence| slot.epoch <= fence) => Some(Outcome::Fenced),
            Right::Slot { slot, shown, .. } => {
                (!self.keys.contains(&(slot.mailbox, shown.key_version))).then_some(Outcome::Over)
            }
            Right::None { .. } => None,
        }
    }

    /// Whether this job is the one that its right was used for just now.
    fn is_first(&mut self, job: &Job) -> bool {
        match &job.right {
            Right::Token(spend) => self.spent.remove(&spend.nullifier),
            Right::Slot { slot, .. } => self.used.remove(&slot.name()),
            Right::None { mailbox, message, .. } => self.fresh.remove(&(*mailbox, *message)),
        }
    }

    /// What a right was used for before.
    async fn before(&self, tx: &mut Tx<'_>, job: &Job) -> Result<Outcome, StoreError> {
        let before = match &job.right {
            Right::Token(spend) => {
                let row = match self.rows.get(&spend.nullifier) {
                    Some(row) => Some(row.clone()),
                    // Another job of this group has spent it; unless that one was refused.
                    None => send::find(tx, &spend.nullifier).await?,
                };
                row.map(|row| Outcome::Spent(Box::new(row)))
            }
            Right::Slot { slot, .. } => reply::find(tx, slot).await?.map(Outcome::Used),
            Right::None { mailbox, message, .. } => {
                let name = (*mailbox, *message);
                rollout::known(tx, HashSet::from([name])).await?.contains(&name).then_some(Outcome::Again)
            }
        };
        // The other was refused.
        Ok(before.unwrap_or(Outcome::Full))
    }

    async fn decide(mut self, tx: &mut Tx<'_>, quota: Quota, process: &Holder) -> Result<Vec<Outcome>, StoreError> {
        let (mut outcomes, mut arrivals) = (Vec::with_capacity(self.jobs.len()), Vec::new());
        let mut reasons = BTreeMap::new();
        for job in self.jobs {
            if let Some(objection) = self.objection(job) {
                outcomes.push(objection);
                continue;
            }
            if !self.is_first(job) {
                outcomes.push(self.before(tx, job).await?);
                continue;
            }
            let Some(room) = self.rooms.get_mut(&job.mailbox()).filter(|room| room.has_room(job.size(), quota)) else {
                give_back(tx, job).await?;
                outcomes.push(Outcome::Full);
                continue;
            };
            let shown = match &job.right {
                // Not queued, after the same checks, so that quota and answer are those of any other reply.
                Right::Slot { slot, .. } if strike::is_struck(tx, slot).await? => {
                    outcomes.push(Outcome::Queued);
                    continue;
                }
                Right::Slot { shown, .. } => Some(shown.as_ref()),
                Right::Token(_) => None,
                Right::None { reason, .. } => {
                    let counted: &mut u64 = reasons.entry(reason.slug()).or_default();
                    *counted = counted.saturating_add(1);
                    None
                }
            };
            arrivals.push(Arrival {
                mailbox: job.mailbox(),
                message: job.message(),
                position: room.take(job.size()),
                at: job.at,
                envelope: &job.envelope,
                reply: shown,
            });
            outcomes.push(Outcome::Queued);
        }
        queue::enqueue(tx, &self.rooms, &arrivals).await?;
        let [part, ..] = process;
        rollout::count(tx, part % PARTS, &reasons).await?;
        // For a struck contact's as well, which this must not tell apart.
        let queued = outcomes.iter().zip(self.jobs).filter(|(outcome, _)| matches!(outcome, Outcome::Queued));
        if let Some(latest) = queued.map(|(_, job)| job.at).max() {
            read::ring(tx, process, latest).await?;
        }
        Ok(outcomes)
    }
}

async fn give_back(tx: &mut Tx<'_>, job: &Job) -> Result<(), StoreError> {
    match &job.right {
        Right::Token(spend) => send::detach(tx, &spend.nullifier).await,
        Right::Slot { slot, .. } => reply::untake(tx, slot).await,
        Right::None { mailbox, message, .. } => rollout::untake(tx, (*mailbox, *message)).await,
    }
}
