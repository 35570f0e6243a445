//! The owner's group secrets. The newest one issues; an older one stays at the relay while credentials of it are out, and here while a
//! message that came in by it may still wait in the mailbox.

use postern_credentials::reply_credential::GroupSecret;
use postern_protocol::ids::GroupSecretBytes;
use postern_protocol::reply::{MAX_REPLY_KEYS, REPLY_KEYS_PATH, ReplyKey, ReplyKeys};
use postern_protocol::time::{Clock, Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::issue::AHEAD;
use crate::channel::{JSON, Request};
use crate::client::{Account, Client};
use crate::error::{Error, Result};
use crate::profile::Record;
use crate::secret::SecretBytes;

/// A secret that the relay dropped is kept here for so long beyond the relay's retention, seconds.
const KEEP_DROPPED: u64 = 7 * 24 * 3600;

/// All group secrets, oldest first: one row.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    keys: Vec<GroupKey>,
}

impl Record for GroupRecord {
    const KIND: &'static str = "reply-group";
}

#[derive(Clone, Serialize, Deserialize)]
struct GroupKey {
    version: u32,
    secret: SecretBytes,
    state: KeyState,
    /// The relay has it.
    at_relay: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum KeyState {
    /// Issues.
    Active,
    /// Another has taken its place; the last credential of it ends then, Unix seconds.
    Retiring { ends: u64 },
    /// The relay is to have it no more, or has it no more, since then, Unix seconds.
    Dropped { since: u64 },
}

impl GroupKey {
    fn fresh(version: u32, rng: &mut impl CryptoRng) -> Self {
        let secret = SecretBytes::new(GroupSecret::generate(rng).to_stored().as_slice());
        Self { version, secret, state: KeyState::Active, at_relay: false }
    }

    fn is_live(&self) -> bool {
        !matches!(self.state, KeyState::Dropped { .. })
    }

    fn secret(&self) -> Result<GroupSecret> {
        GroupSecret::from_stored(self.secret.expose()).map_err(|_| Error::ProfileDamaged("a group secret"))
    }
}

impl GroupRecord {
    /// The first secret of an account, version 1.
    pub(crate) fn first(rng: &mut impl CryptoRng) -> Self {
        Self { keys: vec![GroupKey::fresh(1, rng)] }
    }

    fn is_dirty(&self) -> bool {
        self.keys.iter().any(|key| key.is_live() != key.at_relay)
    }

    /// The secret to issue with; `None` while the relay has it not, for credentials of it would be refused.
    pub(super) fn issuing(&self) -> Result<Option<(u32, GroupSecret)>> {
        let newest = self.keys.last().filter(|key| key.at_relay && key.state == KeyState::Active);
        newest.map(|key| Ok((key.version, key.secret()?))).transpose()
    }

    /// The secret of this version, and until when (Unix seconds) the relay may have let in by it.
    pub(super) fn of_version(&self, version: u32) -> Result<Option<(GroupSecret, Option<u64>)>> {
        let Some(key) = self.keys.iter().find(|key| key.version == version) else { return Ok(None) };
        let until = match key.state {
            KeyState::Dropped { since } if !key.at_relay => Some(since),
            _ => None,
        };
        Ok(Some((key.secret()?, until)))
    }

    /// Whether the relay lets in by this version, or soon will.
    pub(super) fn is_live(&self, version: u32) -> bool {
        self.keys.iter().any(|key| key.version == version && key.is_live())
    }

    /// A new secret in place of the newest, which ends then, or now.
    fn rotate(&mut self, rng: &mut impl CryptoRng, now: u64, ends: Option<u64>) -> u32 {
        let version = self.keys.last().map_or(0, |key| key.version).saturating_add(1);
        for key in &mut self.keys {
            key.state = match (key.state, ends) {
                (KeyState::Active, Some(ends)) => KeyState::Retiring { ends },
                (KeyState::Active | KeyState::Retiring { .. }, None) => KeyState::Dropped { since: now },
                (state, _) => state,
            };
        }
        self.keys.push(GroupKey::fresh(version, rng));
        let live: Vec<usize> =
            (0..self.keys.len()).filter(|at| self.keys.get(*at).is_some_and(GroupKey::is_live)).collect();
        let too_many = live.len().saturating_sub(MAX_REPLY_KEYS);
        for at in live.into_iter().take(too_many) {
            if let Some(key) = self.keys.get_mut(at) {
                key.state = KeyState::Dropped { since: now };
            }
        }
        version
    }

    /// Drops what has ended, and erases what no message can have come in by; whether anything changed.
    fn prune(&mut self, now: u64, retention: u64) -> bool {
        let keep = retention.saturating_add(KEEP_DROPPED);
        let before = self.keys.len();
        self.keys.retain(|key| match key.state {
            KeyState::Dropped { since } => key.at_relay || since.saturating_add(keep) > now,
            _ => true,
        });
        let mut changed = self.keys.len() != before;
        for key in &mut self.keys {
            if matches!(key.state, KeyState::Retiring { ends } if ends <= now) {
                key.state = KeyState::Dropped { since: now };
                changed = true;
            }
        }
        changed
    }

    /// What the relay shall have.
    fn live(&self) -> Result<ReplyKeys> {
        let key = |key: &GroupKey| {
            let secret = GroupSecretBytes::from_slice(key.secret.expose());
            let secret = secret.map_err(|_| Error::ProfileDamaged("a group secret"))?;
            Ok(ReplyKey { key_version: key.version, secret })
        };
        Ok(ReplyKeys { keys: self.keys.iter().filter(|key| key.is_live()).map(key).collect::<Result<_>>()? })
    }

    fn uploaded(&mut self, now: u64) {
        for key in &mut self.keys {
            if let (KeyState::Dropped { .. }, true) = (key.state, key.at_relay) {
                key.state = KeyState::Dropped { since: now };
            }
            key.at_relay = key.is_live();
        }
    }
}

/// A new group secret is in force.
#[derive(Debug)]
pub struct Rotated {
    /// Its version.
    pub key_version: u32,
    /// Why the relay has it not yet; the next `sync` uploads it.
    pub failure: Option<Error>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Replaces the group secret; everybody is handed new credentials with the next message. Without `at_once` the relay keeps the old
    /// one until its last credential has ended (of two old ones, the newer); with it, old credentials are void as soon as the relay
    /// hears of it, and who holds them pays a token until they hear from us.
    ///
    /// # Errors
    /// [`Error::NotRegistered`], a damaged profile. That the relay could not be told is in the answer.
    pub async fn rotate_reply_key(&mut self, at_once: bool) -> Result<Rotated> {
        self.profile.verify()?;
        let account = self.account()?;
        let now = self.now();
        let ends = account.replies.filter(|_| !at_once).map(|policy| {
            let last = policy.period_of(policy.epoch_at(now)).saturating_add(AHEAD);
            let over = policy.epoch_start(policy.first_epoch(last.saturating_add(1)));
            over.plus_seconds(u64::from(policy.grace_seconds)).seconds()
        });
        let mut group = self.group()?;
        let key_version = group.rotate(&mut self.rng, now.seconds(), ends);
        self.profile.tx(&mut self.rng, |t| t.put("", &group))?;
        let failure = self.publish_reply_keys(&account).await.err();
        Ok(Rotated { key_version, failure })
    }

    /// Uploads the group secrets if the relay has another set; a profile from before replies gets its first one. Whether it was needed.
    pub(crate) async fn publish_reply_keys(&mut self, account: &Account) -> Result<bool> {
        let now = self.now().seconds();
        let mut group = self.group()?;
        let pruned = group.prune(now, account.retention_seconds);
        let dirty = group.is_dirty();
        if pruned || dirty {
            // On disk before the relay has it: a version never changes its secret.
            self.profile.tx(&mut self.rng, |t| t.put("", &group))?;
        }
        if !dirty {
            return Ok(false);
        }
        let body = serde_json::to_vec(&group.live()?).map_err(|_| Error::Internal("a request does not encode"))?;
        let request = Request::new(http::Method::PUT, &account.relay.url, REPLY_KEYS_PATH)?.body(JSON, body);
        self.at_mailbox(request).await?.success()?;
        group.uploaded(now);
        self.profile.tx(&mut self.rng, |t| t.put("", &group))?;
        Ok(true)
    }

    /// The group secrets; a first one, not stored yet, if there is none.
    pub(super) fn group(&mut self) -> Result<GroupRecord> {
        let known = self.profile.get::<GroupRecord>("")?;
        Ok(known.unwrap_or_else(|| GroupRecord::first(&mut self.rng)))
    }
}

/// Whether a relay that had a secret until `until` may have let something in for an epoch that began then.
pub(super) fn was_live(until: Option<u64>, epoch_began: Timestamp) -> bool {
    until.is_none_or(|until| epoch_began.seconds() <= until)
}
