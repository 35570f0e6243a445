//! What each contact was handed, and handing over what is missing (M10, M16).
//!
//! A contact's member secret moves on with the periods. The one kept is as old as the oldest message that may still have to be traced:
//! who steals the profile recognises replies from then on, and none before.

use postern_credentials::reply_credential::{KeyPeriod, MemberSecret, Params, relay_id};
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::reply::{Handover, ReplyPolicy};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::group::GroupRecord;
use crate::client::{Account, Client};
use crate::error::{Error, Result};
use crate::payload::Held;
use crate::profile::Record;
use crate::secret::SecretBytes;

/// Periods handed over beyond the current one: four weeks with it, so that three weeks of absence are no matter.
pub(super) const AHEAD: u32 = 3;
/// No period is further than this from the secret at hand, unless the relay makes epochs up.
const MOST_STEPS: u32 = 10_000;

const DAMAGED: Error = Error::ProfileDamaged("a member secret");

/// What a contact was handed; the key is their identity key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssuedRecord {
    /// The member secret of [`Self::period`], the oldest that is still needed.
    seed: SecretBytes,
    period: u32,
    /// Slots per epoch.
    k: u16,
    /// What they say they hold.
    confirmed: Option<Held>,
    /// What they may hold: key version, last period.
    handed: Vec<(u32, u32)>,
    /// Epochs and slots that they used and that are not long over: those need not be struck, and a list must not name them.
    used: Vec<(u32, u16)>,
    /// The seed is a new one after a reveal: what they say they hold may be of the old one, until they show otherwise.
    reissued: bool,
}

impl Record for IssuedRecord {
    const KIND: &'static str = "reply-issued";
}

impl IssuedRecord {
    fn fresh(rng: &mut impl CryptoRng, period: u32, reissued: bool) -> Self {
        let seed = SecretBytes::new(MemberSecret::generate(rng).to_stored().as_slice());
        let k = Params::default().k();
        Self { seed, period, k, confirmed: None, handed: Vec::new(), used: Vec::new(), reissued }
    }

    /// Slots per epoch.
    pub(super) fn params(&self) -> Result<Params> {
        Params::new(self.k).ok_or(DAMAGED)
    }

    /// The member secret of a period; `None` if it is erased, or too far ahead to be meant.
    pub(super) fn secret_at(&self, period: u32) -> Result<Option<MemberSecret>> {
        let mut secret = MemberSecret::from_stored(self.seed.expose()).map_err(|_| DAMAGED)?;
        let Some(steps) = period.checked_sub(self.period).filter(|steps| *steps <= MOST_STEPS) else {
            return Ok(None);
        };
        for _ in 0..steps {
            secret = secret.next();
        }
        Ok(Some(secret))
    }

    /// Erases the secrets of periods before `oldest`; whether there were any.
    fn advance(&mut self, oldest: u32) -> Result<bool> {
        if oldest <= self.period {
            return Ok(false);
        }
        let mut secret = MemberSecret::from_stored(self.seed.expose()).map_err(|_| DAMAGED)?;
        while self.period < oldest {
            secret = secret.next();
            self.period = self.period.saturating_add(1);
        }
        self.seed = SecretBytes::new(secret.to_stored().as_slice());
        Ok(true)
    }

    /// Key versions that they may hold, with the last period of each.
    pub(super) fn handed(&self) -> &[(u32, u32)] {
        &self.handed
    }

    /// Epochs and slots used lately.
    pub(super) fn used(&self) -> &[(u32, u16)] {
        &self.used
    }

    /// They wrote by this slot in this epoch.
    pub(super) fn note_use(&mut self, epoch: u32, slot: u16, now_epoch: u32) {
        self.reissued = false;
        self.used.retain(|(old, _)| old.saturating_add(1) >= now_epoch);
        if epoch.saturating_add(1) >= now_epoch && !self.used.contains(&(epoch, slot)) {
            self.used.push((epoch, slot));
        }
    }

    /// They say what they hold. Only what is theirs depends on it, so it need not be true.
    pub(super) fn note_held(&mut self, held: Option<Held>) {
        if !self.reissued {
            self.confirmed = held;
        }
    }

    /// The first period that they need, and the last.
    fn missing(&self, key_version: u32, current: u32) -> std::ops::RangeInclusive<u32> {
        let confirmed = self.confirmed.filter(|held| held.key_version == key_version);
        let first = confirmed.map_or(current, |held| current.max(held.through.saturating_add(1)));
        first.max(self.period)..=current.saturating_add(AHEAD)
    }

    fn note_handed(&mut self, key_version: u32, through: u32) {
        match self.handed.iter_mut().find(|(version, _)| *version == key_version) {
            Some((_, last)) => *last = through.max(*last),
            None => self.handed.push((key_version, through)),
        }
    }
}

/// What goes into a message, and what to write down if it does.
pub(crate) struct Offer {
    pub(crate) issued: IssuedRecord,
    /// An encoded [`Handover`].
    pub(crate) handover: Zeroizing<Vec<u8>>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// What this contact is to be handed now; `None` if they have everything, or nothing can be issued yet.
    pub(crate) fn offer(&mut self, account: &Account, peer: &SigningPublicKey) -> Result<Option<Offer>> {
        let Some(policy) = account.replies else { return Ok(None) };
        let Some(group) = self.profile.get::<GroupRecord>("")? else { return Ok(None) };
        let Some((key_version, secret)) = group.issuing()? else { return Ok(None) };
        let current = current_period(&policy, self.now());
        let known = self.profile.get::<IssuedRecord>(&peer.to_string())?;
        let mut issued = known.unwrap_or_else(|| IssuedRecord::fresh(&mut self.rng, current, false));
        issued.handed.retain(|(version, _)| group.is_live(*version));
        let periods = issued.missing(key_version, current);
        if periods.is_empty() {
            return Ok(None);
        }
        issued.note_handed(key_version, *periods.end());
        let params = issued.params()?;
        let mut credentials = Vec::new();
        for period in periods {
            let Some(member) = issued.secret_at(period)? else { continue };
            let of = KeyPeriod { mailbox: account.mailbox, key_version, period };
            credentials.push((period, secret.issue(params, &of, &member).encode()));
        }
        let handover = Handover { relay: relay_id(&account.relay.name), policy, key_version, credentials };
        let handover = handover.encode().map_err(|_| Error::Internal("a handover does not encode"))?;
        Ok(Some(Offer { issued, handover }))
    }

    /// A new seed for somebody whose old one the relay knows.
    pub(super) fn reissue(&mut self, account: &Account) -> Option<IssuedRecord> {
        let current = current_period(&account.replies?, self.now());
        Some(IssuedRecord::fresh(&mut self.rng, current, true))
    }

    /// Erases member secrets of periods that nothing can come from any more: retention, and one period for what came late.
    pub(crate) fn prune_issued(&mut self, account: &Account) -> Result<()> {
        let Some(policy) = account.replies else { return Ok(()) };
        let oldest = current_period(&policy, self.now().minus_seconds(account.retention_seconds)).saturating_sub(1);
        let mut old = Vec::new();
        for (key, mut issued) in self.profile.list::<IssuedRecord>()? {
            if issued.advance(oldest)? {
                old.push((key, issued));
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        self.profile.tx(&mut self.rng, |t| old.iter().try_for_each(|(key, issued)| t.put(key, issued)))
    }
}

pub(super) fn current_period(policy: &ReplyPolicy, now: Timestamp) -> u32 {
    policy.period_of(policy.epoch_at(now))
}

#[cfg(test)]
impl IssuedRecord {
    /// As somebody makes it who does not keep to our sizes.
    pub(super) fn with_slots(self, k: u16) -> Self {
        Self { k, ..self }
    }
}
