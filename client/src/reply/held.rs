//! What a contact holds: credentials for somebody's mailbox, and which of their slots are used (M15).

use postern_credentials::reply_credential::{Context, KeyPeriod, MemberCredential, Presentation};
use postern_protocol::ids::MailboxId;
use postern_protocol::reply::{Handover, ReplyPolicy};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::issue::current_period;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::payload::Held;
use crate::profile::Record;
use crate::secret::SecretBytes;

/// The most slots of a credential that is taken.
const MOST_SLOTS: usize = 256;
/// How far ahead of the current period a credential may be.
const MOST_AHEAD: u32 = 8;
/// Used slots are remembered for so many epochs: a clock that was put back must not use one twice.
const REMEMBERED_EPOCHS: u32 = 48;

/// What one contact has handed us; the key is their identity key. It stays when all credentials have ended, to tell that from never
/// having had any.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct HeldRecord {
    relay: [u8; 32],
    policy: ReplyPolicy,
    key_version: u32,
    credentials: Vec<HeldCredential>,
    /// Epochs and slots.
    used: Vec<(u32, u16)>,
}

impl Record for HeldRecord {
    const KIND: &'static str = "reply-held";
}

/// One period's.
#[derive(Clone, Serialize, Deserialize)]
struct HeldCredential {
    period: u32,
    credential: SecretBytes,
    /// When its owner wrote the message that it came in, Unix seconds.
    since: u64,
}

/// What can be written with.
pub(crate) enum Right {
    /// A slot, taken: to be stored before anything is sent.
    Slot(Box<TakenSlot>),
    /// All slots of this epoch are used; the next one begins then, Unix seconds.
    Used { until: u64 },
    /// The last credential has ended.
    Over,
}

/// A slot that nothing else uses.
pub(crate) struct TakenSlot {
    relay: [u8; 32],
    pub(crate) key_version: u32,
    period: u32,
    pub(crate) epoch: u32,
    pub(crate) slot: u16,
    credential: MemberCredential,
    /// How many are left in this epoch.
    pub(crate) left: usize,
}

impl TakenSlot {
    /// Authorises the envelope with this SHA-512 for this mailbox.
    pub(crate) fn present(
        &self,
        rng: &mut impl CryptoRng,
        mailbox: MailboxId,
        envelope: &[u8; 64],
    ) -> Result<(Context, Presentation)> {
        let of = KeyPeriod { mailbox, key_version: self.key_version, period: self.period };
        let ctx = Context { relay: self.relay, of, epoch: self.epoch };
        let shown = self.credential.present(rng, &ctx, self.slot, envelope);
        Ok((ctx, shown.map_err(|_| Error::Internal("no such slot"))?))
    }
}

impl HeldRecord {
    /// With what was handed over in a message written at `sent_at`; `None` if nothing of it is new or fit to be taken.
    ///
    /// A newer key version takes the place of an older one. Of two credentials for one period the later written one counts.
    pub(super) fn taking(known: Option<Self>, handover: &Handover, sent_at: u64, now: Timestamp) -> Option<Self> {
        let Handover { relay, policy, key_version, ref credentials } = *handover;
        let known = known.filter(|held| held.key_version >= key_version && held.relay == relay);
        let mut held = match known {
            Some(held) if held.key_version > key_version => return None,
            Some(held) => Self { policy, ..held },
            None => Self { relay, policy, key_version, credentials: Vec::new(), used: Vec::new() },
        };
        let current = current_period(&policy, now);
        let mut changed = false;
        for (period, credential) in credentials {
            if (current..=current.saturating_add(MOST_AHEAD)).contains(period) && is_fit(credential) {
                changed |= held.take(*period, credential, sent_at);
            }
        }
        changed.then_some(held)
    }

    fn take(&mut self, period: u32, credential: &[u8], since: u64) -> bool {
        let known = self.credentials.iter().find(|known| known.period == period);
        if known.is_some_and(|known| known.since >= since || known.credential.expose() == credential) {
            return false;
        }
        self.credentials.retain(|known| known.period != period);
        self.credentials.push(HeldCredential { period, credential: SecretBytes::new(credential), since });
        true
    }

    /// What to tell the owner: every period from the current one on, without a gap.
    pub(crate) fn says(&self, now: Timestamp) -> Option<Held> {
        let current = current_period(&self.policy, now);
        let held = |period: &u32| self.credentials.iter().any(|credential| credential.period == *period);
        let through = (current..=current.saturating_add(MOST_AHEAD)).take_while(held).last()?;
        Some(Held { key_version: self.key_version, through })
    }

    pub(crate) const fn key_version(&self) -> u32 {
        self.key_version
    }

    pub(crate) fn epoch_at(&self, now: Timestamp) -> u32 {
        self.policy.epoch_at(now)
    }

    /// Takes the next free slot of the current epoch, and erases what is over.
    pub(crate) fn take_slot(&mut self, now: Timestamp) -> Result<Right> {
        self.prune(now);
        let epoch = self.policy.epoch_at(now);
        let period = self.policy.period_of(epoch);
        let Some(credential) = self.credentials.iter().find(|credential| credential.period == period) else {
            return Ok(Right::Over);
        };
        let credential = MemberCredential::decode(credential.credential.expose())
            .map_err(|_| Error::ProfileDamaged("a reply credential"))?;
        let slots = u16::try_from(credential.slots()).unwrap_or(u16::MAX);
        let mut free = (0..slots).filter(|slot| !self.used.contains(&(epoch, *slot)));
        let (first, left) = (free.next(), free.count());
        let Some(slot) = first else {
            return Ok(Right::Used { until: self.policy.epoch_start(epoch.saturating_add(1)).seconds() });
        };
        self.used.push((epoch, slot));
        let (relay, key_version) = (self.relay, self.key_version);
        Ok(Right::Slot(Box::new(TakenSlot { relay, key_version, period, epoch, slot, credential, left })))
    }

    /// Erases credentials of past periods, and forgets slots of long past epochs; whether there were any.
    fn prune(&mut self, now: Timestamp) -> bool {
        let epoch = self.policy.epoch_at(now);
        let period = self.policy.period_of(epoch);
        let before = (self.credentials.len(), self.used.len());
        self.credentials.retain(|credential| credential.period >= period);
        self.used.retain(|(used, _)| used.saturating_add(REMEMBERED_EPOCHS) > epoch);
        before != (self.credentials.len(), self.used.len())
    }
}

/// Whether everything in it is fit to be taken, now or in its time; what is not is left out.
pub(super) fn is_sound(handover: &Handover, now: Timestamp) -> bool {
    let current = current_period(&handover.policy, now);
    let timely = current.saturating_sub(1)..=current.saturating_add(MOST_AHEAD);
    handover.credentials.iter().all(|(period, credential)| timely.contains(period) && is_fit(credential))
}

/// Whether it is a credential at all, of a size that makes sense.
fn is_fit(credential: &[u8]) -> bool {
    credential.len() <= 33 + 32 * MOST_SLOTS && MemberCredential::decode(credential).is_ok()
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Erases credentials whose time is over.
    pub(crate) fn prune_held(&mut self) -> Result<()> {
        let now = self.now();
        let mut old = self.profile.list::<HeldRecord>()?;
        old.retain_mut(|(_, held)| held.prune(now));
        if old.is_empty() {
            return Ok(());
        }
        self.profile.tx(&mut self.rng, |t| old.iter().try_for_each(|(key, held)| t.put(key, held)))
    }
}

#[cfg(test)]
impl HeldRecord {
    /// As in an older copy of the profile.
    pub(super) fn with_all_slots_free(self) -> Self {
        Self { used: Vec::new(), ..self }
    }

    pub(super) fn used_slots(&self) -> usize {
        self.used.len()
    }
}
