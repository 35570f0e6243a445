//! Blocking (M17). Locally it counts at once: what a blocked person writes is opened, so that the conversation stays in step, and
//! dropped. The relay is told the nullifiers of their unused slots, for two days ahead and again and again, and refuses them silently:
//! the blocked person sees success.
//!
//! The alternative, for an owner who is seldom there, is to reveal the member secret: the relay then strikes by itself until the last
//! credential has ended, but can tell which replies of the current period were theirs.

use std::ops::RangeInclusive;

use postern_credentials::reply_credential::{Context, KeyPeriod, relay_id, strike};
use postern_protocol::ids::{Base64, MemberSecretBytes};
use postern_protocol::reply::{
    EpochNullifiers, MAX_STRIKES, REPLY_NULLIFIER_LEN, REVEALS_PATH, ReplyPolicy, Reveal, STRIKES_PATH, Strikes,
};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::issue::current_period;
use super::{GroupRecord, IssuedRecord};
use crate::channel::Request;
use crate::client::{Account, Client};
use crate::contact::{Contact, ContactRecord, Standing, shown};
use crate::error::{Error, Result};
use crate::profile::Record;

/// Lists reach so far ahead, seconds.
const AHEAD: u64 = 48 * 3600;
/// They are continued when less than this is left, seconds.
const TOP_UP: u64 = 24 * 3600;
/// Nor further than so many epochs, where epochs are short.
const MOST_EPOCHS: u32 = 64;

/// What the relay was told of somebody blocked; the key is their identity key.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct StrikeRecord {
    /// The last epoch that the relay may have a list for.
    listed: Option<u32>,
    /// The last epoch that it is sure to have one for.
    told: Option<u32>,
    /// Epochs and slots that the lists left out: the same lists must come out again when they are taken back, and no others, which
    /// would tell the relay what was written by the slots that were used.
    used: Vec<(u32, u16)>,
    /// The secret is to be revealed.
    reveal: Reveals,
    /// Not blocked any more: what is listed is to be taken back.
    lifting: bool,
}

impl Record for StrikeRecord {
    const KIND: &'static str = "reply-strike";
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reveals {
    #[default]
    No,
    Wanted,
    /// It was sent; the relay may have it.
    Sent,
    Done,
}

/// Somebody was blocked, or is not any more.
#[derive(Debug)]
pub struct BlockChange {
    /// Who.
    pub contact: Contact,
    /// Why the relay does not know yet; the next `sync` tells it.
    pub failure: Option<Error>,
}

/// What a round of telling the relay brought.
#[derive(Debug, Default)]
pub struct StrikeRun {
    /// For how many people the relay was told something.
    pub told: usize,
    /// What failed.
    pub failed: Vec<Error>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Drops silently whatever this person writes from now on, here at once and at the relay as soon as it can be told; given by number
    /// or the first letters of the id, whatever their standing. With `reveal` the relay gets their member secret instead of lists.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], a damaged profile. That the relay could not be told is in the answer.
    pub async fn block(&mut self, name: &str, reveal: bool) -> Result<BlockChange> {
        self.profile.verify()?;
        let (peer, contact) = self.find_person(name)?;
        let key = peer.to_string();
        let known = self.profile.get::<StrikeRecord>(&key)?.unwrap_or_default();
        // A list that is being taken back may be gone by half: it is made again.
        let told = known.told.filter(|_| !known.lifting);
        let mut strikes = StrikeRecord { lifting: false, told, ..known };
        if reveal && strikes.reveal == Reveals::No {
            strikes.reveal = Reveals::Wanted;
        }
        let contact = ContactRecord { standing: Standing::Blocked, ..contact };
        self.profile.tx(&mut self.rng, |t| {
            t.put(&key, &contact)?;
            t.put(&key, &strikes)?;
            t.delete::<super::HelloJob>(&key).map(drop)
        })?;
        let failure = self.tell_strikes(&key).await.err();
        Ok(BlockChange { contact: shown(&peer, &contact), failure })
    }

    /// Makes a contact of somebody who was blocked; what the relay was told is taken back. A revealed secret cannot be: they are handed
    /// new credentials with the next message, and until then what they write by the old ones is still dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Invalid`] if they are not blocked, a damaged profile. That the relay could
    /// not be told is in the answer.
    pub async fn unblock(&mut self, name: &str) -> Result<BlockChange> {
        self.profile.verify()?;
        let account = self.account()?;
        let (peer, contact) = self.find_person(name)?;
        if contact.standing != Standing::Blocked {
            return Err(Error::Invalid("this contact is not blocked".to_owned()));
        }
        let key = peer.to_string();
        let strikes = self.profile.get::<StrikeRecord>(&key)?.unwrap_or_default();
        let revealed = matches!(strikes.reveal, Reveals::Sent | Reveals::Done);
        let fresh = if revealed { self.reissue(&account) } else { None };
        let contact = ContactRecord { standing: Standing::Contact, ..contact };
        let lift = !revealed && strikes.listed.is_some();
        self.profile.tx(&mut self.rng, |t| {
            t.put(&key, &contact)?;
            if let Some(fresh) = &fresh {
                t.put(&key, fresh)?;
            }
            if lift {
                t.put(&key, &StrikeRecord { lifting: true, reveal: Reveals::No, ..strikes })
            } else {
                t.delete::<StrikeRecord>(&key).map(drop)
            }
        })?;
        let failure = if lift { self.tell_strikes(&key).await.err() } else { None };
        Ok(BlockChange { contact: shown(&peer, &contact), failure })
    }

    /// Continues the lists that end soon, and tells what could not be told before.
    pub(crate) async fn run_strikes(&mut self) -> Result<StrikeRun> {
        let mut run = StrikeRun::default();
        for (key, _) in self.profile.list::<StrikeRecord>()? {
            match self.tell_strikes(&key).await {
                Ok(told) => run.told += usize::from(told),
                Err(error) => run.failed.push(error),
            }
        }
        Ok(run)
    }

    /// Tells the relay what it does not know yet of one person; whether there was anything.
    async fn tell_strikes(&mut self, key: &str) -> Result<bool> {
        let account = self.account()?;
        let Some(record) = self.profile.get::<StrikeRecord>(key)? else { return Ok(false) };
        if record.lifting {
            return self.lift(&account, key, &record).await;
        }
        match record.reveal {
            Reveals::No => self.list(&account, key, record).await,
            Reveals::Done => Ok(false),
            Reveals::Wanted | Reveals::Sent => self.reveal(&account, key, record).await,
        }
    }

    /// Strikes the epochs from the end of the last list, or from now, to two days ahead.
    async fn list(&mut self, account: &Account, key: &str, mut record: StrikeRecord) -> Result<bool> {
        let (Some(policy), Some(issued)) = (account.replies, self.profile.get::<IssuedRecord>(key)?) else {
            return Ok(false);
        };
        let now = self.now();
        let current = policy.epoch_at(now);
        let most = current.saturating_add(MOST_EPOCHS);
        if record.told.is_some_and(|told| told >= policy.epoch_at(now.plus_seconds(TOP_UP)).min(most / 2 + current / 2))
        {
            return Ok(false);
        }
        let live = first_live(&policy, now);
        let from = record.told.map_or(live, |told| live.max(told.saturating_add(1)));
        let through = policy.epoch_at(now.plus_seconds(AHEAD)).min(current.saturating_add(MOST_EPOCHS));
        record.used.retain(|(epoch, _)| *epoch >= live);
        let later = issued.used().iter().filter(|(epoch, _)| *epoch >= from);
        let fresh: Vec<_> = later.filter(|used| !record.used.contains(used)).copied().collect();
        record.used.extend(fresh);
        let strike = self.nullifiers(account, &issued, from..=through, &record.used)?;
        let any = !strike.is_empty();
        record.listed = record.listed.max(Some(through));
        self.profile.tx(&mut self.rng, |t| t.put(key, &record))?;
        for strike in in_chunks(strike) {
            self.post_strikes(account, &Strikes { strike, lift: Vec::new() }).await?;
        }
        record.told = Some(through);
        self.profile.tx(&mut self.rng, |t| t.put(key, &record))?;
        Ok(any)
    }

    /// Takes back what is listed and not over; the row goes with it.
    async fn lift(&mut self, account: &Account, key: &str, record: &StrikeRecord) -> Result<bool> {
        let issued = self.profile.get::<IssuedRecord>(key)?;
        if let (Some(policy), Some(issued), Some(through)) = (account.replies, issued, record.listed) {
            let from = first_live(&policy, self.now());
            let lift = self.nullifiers(account, &issued, from..=through, &record.used)?;
            for lift in in_chunks(lift) {
                self.post_strikes(account, &Strikes { strike: Vec::new(), lift }).await?;
            }
        }
        self.profile.tx(&mut self.rng, |t| t.delete::<StrikeRecord>(key))?;
        Ok(true)
    }

    async fn post_strikes(&mut self, account: &Account, strikes: &Strikes) -> Result<()> {
        let request = Request::post_json(&account.relay.url, STRIKES_PATH, strikes)?;
        self.at_mailbox(request).await?.success().map(drop)
    }

    /// The nullifiers of somebody's slots, epoch by epoch, for every key version that they may hold; without those of used slots.
    fn nullifiers(
        &self,
        account: &Account,
        issued: &IssuedRecord,
        epochs: RangeInclusive<u32>,
        used: &[(u32, u16)],
    ) -> Result<Vec<EpochNullifiers>> {
        let (Some(policy), Some(group)) = (account.replies, self.profile.get::<GroupRecord>("")?) else {
            return Ok(Vec::new());
        };
        let (params, relay) = (issued.params()?, relay_id(&account.relay.name));
        let mut lists = Vec::new();
        for epoch in epochs {
            let period = policy.period_of(epoch);
            let Some(member) = issued.secret_at(period)? else { continue };
            let used: Vec<u16> = used.iter().filter(|(at, _)| *at == epoch).map(|(_, slot)| *slot).collect();
            let mut nullifiers = Vec::new();
            for (key_version, last) in issued.handed() {
                if *last >= period && group.is_live(*key_version) {
                    let of = KeyPeriod { mailbox: account.mailbox, key_version: *key_version, period };
                    nullifiers.extend(strike(params, &Context { relay, of, epoch }, &member, &used));
                }
            }
            // Sorted all together: nobody needs to know which version is whose.
            nullifiers.sort_unstable();
            if !nullifiers.is_empty() {
                lists
                    .push(EpochNullifiers { epoch, nullifiers: Base64(nullifiers.iter().flat_map(|n| n.0).collect()) });
            }
        }
        Ok(lists)
    }

    async fn reveal(&mut self, account: &Account, key: &str, record: StrikeRecord) -> Result<bool> {
        let (Some(policy), Some(issued)) = (account.replies, self.profile.get::<IssuedRecord>(key)?) else {
            return Ok(false);
        };
        let period = current_period(&policy, self.now());
        let group = self.profile.get::<GroupRecord>("")?;
        let live = issued
            .handed()
            .iter()
            .filter(|(version, last)| *last >= period && group.as_ref().is_some_and(|group| group.is_live(*version)));
        let sent = StrikeRecord { reveal: Reveals::Sent, ..record };
        self.profile.tx(&mut self.rng, |t| t.put(key, &sent))?;
        for (key_version, last_period) in live {
            let Some(secret) = issued.secret_at(period)? else { continue };
            let secret = MemberSecretBytes::from_slice(&secret.to_stored())
                .map_err(|_| Error::ProfileDamaged("a member secret"))?;
            let reveal = Reveal {
                key_version: *key_version,
                period,
                last_period: *last_period,
                slots: issued.params()?.k(),
                secret,
            };
            let request = Request::post_json(&account.relay.url, REVEALS_PATH, &reveal)?;
            self.at_mailbox(request).await?.success()?;
        }
        self.profile.tx(&mut self.rng, |t| t.put(key, &StrikeRecord { reveal: Reveals::Done, ..sent }))?;
        Ok(true)
    }
}

/// The first epoch that the relay may still take something for.
fn first_live(policy: &ReplyPolicy, now: Timestamp) -> u32 {
    let before = policy.epoch_at(now).saturating_sub(1);
    if policy.accepts(before, now) { before } else { policy.epoch_at(now) }
}

/// As many epochs in one request as it may have nullifiers.
fn in_chunks(lists: Vec<EpochNullifiers>) -> Vec<Vec<EpochNullifiers>> {
    let mut chunks: Vec<Vec<EpochNullifiers>> = Vec::new();
    let mut room = 0;
    for list in lists {
        let many = list.nullifiers.0.len() / REPLY_NULLIFIER_LEN;
        match chunks.last_mut().filter(|_| many <= room) {
            Some(chunk) => {
                chunk.push(list);
                room -= many;
            }
            None => {
                chunks.push(vec![list]);
                room = MAX_STRIKES.saturating_sub(many);
            }
        }
    }
    chunks
}
