//! The issuer's token keys: fetched over the internal API, held parsed in memory, written down for a start without the issuer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use postern_credentials::blind_token::VerifyingKey;
use postern_protocol::ids::TokenKeyId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::RelayKey;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::{DirectoryKey, KeyState, TOKEN_TYPE};
use postern_store::{Db, StoreError};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::issuer::{CallError, IssuerCalls};
use crate::app::SharedClock;
use crate::db::keys::{self, ListedKey};
use crate::error::Refusal;

/// Between two questions to the issuer caused by unknown key ids: anybody can make up such an id.
const PAUSE: Duration = Duration::from_millis(100);
/// While the issuer is silent it is not asked more often than this for anybody's sake.
const PAUSE_WHEN_SILENT: Duration = Duration::from_secs(1);
/// Requests that may wait for the answer at a time.
const MAX_WAITING: usize = 32;

/// What a key is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Signs; its tokens are accepted.
    Active,
    /// Its tokens are accepted, and unspent ones exchanged.
    Retiring,
    /// Over. Its rows still answer retries of what was done before.
    Expired,
}

/// A key and what the issuer says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    pub(crate) verifying: VerifyingKey,
    listed: ListedKey,
}

impl KnownKey {
    /// None before its time has come.
    pub(crate) fn standing(&self, now: Timestamp) -> Option<Standing> {
        let now = now.seconds();
        if self.listed.not_before.is_some_and(|from| now < from) {
            return None;
        }
        let over = self.listed.not_after.is_some_and(|until| now >= until);
        Some(match self.listed.state {
            _ if over => Standing::Expired,
            KeyState::Active => Standing::Active,
            KeyState::Retiring => Standing::Retiring,
        })
    }
}

/// All keys at a moment, active first. Replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KeySet(Vec<KnownKey>);

impl KeySet {
    fn find(&self, id: &TokenKeyId) -> Option<&KnownKey> {
        self.0.iter().find(|key| key.verifying.key_id() == *id)
    }
}

/// The last question to the issuer.
#[derive(Clone, Copy)]
struct Attempt {
    started: Instant,
    answered: bool,
}

/// The keys of the issuer.
pub(crate) struct KeyRing {
    current: RwLock<Arc<KeySet>>,
    retired: RwLock<HashSet<TokenKeyId>>,
    last: Mutex<Option<Attempt>>,
    waiting: Semaphore,
    db: Db,
    clock: SharedClock,
}

impl KeyRing {
    /// The keys as they were written down last.
    pub(crate) async fn load(db: Db, clock: SharedClock) -> Result<Self, StoreError> {
        let (listed, retired) = db
            .read("keys_load", |tx| {
                Box::pin(async move { Ok::<_, StoreError>((keys::all(tx).await?, keys::retired(tx).await?)) })
            })
            .await?;
        let known = listed
            .into_iter()
            .filter_map(|listed| Some(KnownKey { verifying: VerifyingKey::from_spki(&listed.spki).ok()?, listed }));
        Ok(Self {
            current: RwLock::new(Arc::new(KeySet(known.collect()))),
            retired: RwLock::new(retired.into_iter().collect()),
            last: Mutex::new(None),
            waiting: Semaphore::new(MAX_WAITING),
            db,
            clock,
        })
    }

    fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that signs now.
    pub(crate) fn active(&self, now: Timestamp) -> Option<VerifyingKey> {
        let keys = self.current();
        keys.0.iter().find(|key| key.standing(now) == Some(Standing::Active)).map(|key| key.verifying.clone())
    }

    /// The keys whose tokens are taken, the active one first.
    pub(crate) fn listed(&self, now: Timestamp) -> Vec<RelayKey> {
        let state = |key: &KnownKey| match key.standing(now)? {
            Standing::Active => Some(KeyState::Active),
            Standing::Retiring => Some(KeyState::Retiring),
            Standing::Expired => None,
        };
        let keys = self.current();
        let listed = |key: &KnownKey| Some(RelayKey { token_key_id: key.verifying.key_id(), state: state(key)? });
        let mut listed: Vec<_> = keys.0.iter().filter_map(listed).collect();
        listed.sort_unstable_by_key(|key| (key.state != KeyState::Active, key.token_key_id.0));
        listed
    }

    /// The key of this id. One never heard of is asked for: it may be younger than the last refresh, and a token must
    /// not be called invalid for that.
    ///
    /// # Errors
    /// `unavailable` when the key is unknown here and the issuer does not answer.
    pub(crate) async fn find(&self, id: &TokenKeyId, issuer: &IssuerCalls) -> Result<Option<KnownKey>, Refusal> {
        if let Some(key) = self.current().find(id) {
            return Ok(Some(key.clone()));
        }
        if self.retired.read().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Ok(None);
        }
        let arrived = Instant::now();
        let _place = self.waiting.try_acquire().map_err(|_| Refusal::retry_after(ProblemKind::Unavailable, 1))?;
        let mut last = self.last.lock().await;
        let answered = match *last {
            // Somebody asked while this request waited for the lock.
            Some(attempt) if attempt.started >= arrived => attempt.answered,
            Some(attempt) if !attempt.answered && attempt.started.elapsed() < PAUSE_WHEN_SILENT => false,
            Some(attempt) => {
                tokio::time::sleep_until(attempt.started + PAUSE).await;
                self.ask(&mut last, issuer).await
            }
            None => self.ask(&mut last, issuer).await,
        };
        match self.current().find(id) {
            Some(key) => Ok(Some(key.clone())),
            None if answered => Ok(None),
            None => Err(Refusal::retry_after(ProblemKind::Unavailable, 1)),
        }
    }

    /// Asks the issuer now. Keeps what is known if it does not answer.
    pub(crate) async fn refresh(&self, issuer: &IssuerCalls) {
        let mut last = self.last.lock().await;
        self.ask(&mut last, issuer).await;
    }

    /// Under the lock, so that answers are taken in the order of the questions.
    async fn ask(&self, last: &mut Option<Attempt>, issuer: &IssuerCalls) -> bool {
        let started = Instant::now();
        let outcome = self.fetch(issuer).await;
        let was_silent = last.is_some_and(|attempt| !attempt.answered);
        match &outcome {
            Err(error) if !was_silent => tracing::warn!(%error, "token keys cannot be refreshed"),
            Ok(()) if was_silent => tracing::info!("token keys are refreshed again"),
            _ => {}
        }
        *last = Some(Attempt { started, answered: outcome.is_ok() });
        outcome.is_ok()
    }

    async fn fetch(&self, issuer: &IssuerCalls) -> Result<(), RefreshError> {
        let listed = issuer.keys().await?;
        let before = self.current();
        let next = {
            let retired = self.retired.read().unwrap_or_else(PoisonError::into_inner);
            merge(&before, &listed, &retired, self.clock.now())
        };
        if next == *before {
            return Ok(());
        }
        self.write_down(&next).await?;
        tracing::info!(keys = next.0.len(), "the issuer's token keys have changed");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    async fn write_down(&self, set: &KeySet) -> Result<(), StoreError> {
        self.db
            .run("keys_save", |tx| {
                Box::pin(async move {
                    for key in &set.0 {
                        keys::put(tx, &key.verifying.key_id(), &key.listed).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Forgets for ever the keys of which the database says so: of those, whoever did it, tokens are refused.
    ///
    /// # Errors
    /// [`StoreError`]; then it is known by the transactions alone.
    pub(crate) async fn forget_retired(&self) -> Result<(), StoreError> {
        let gone = self.db.read("keys_retired", |tx| Box::pin(async move { keys::retired(tx).await })).await?;
        let mut retired = self.retired.write().unwrap_or_else(PoisonError::into_inner);
        retired.extend(gone);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let left = current.0.iter().filter(|key| !retired.contains(&key.verifying.key_id())).cloned();
        *current = Arc::new(KeySet(left.collect()));
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known after the issuer's answer: its keys in its order, then those that it has dropped, as ended.
fn merge(before: &KeySet, listed: &[DirectoryKey], retired: &HashSet<TokenKeyId>, now: Timestamp) -> KeySet {
    let parsed: HashMap<&[u8], &KnownKey> = before.0.iter().map(|key| (key.verifying.spki(), key)).collect();
    let mut next: Vec<KnownKey> = Vec::new();
    for entry in listed {
        let (TOKEN_TYPE, Some(state)) = (entry.token_type, entry.state) else { continue };
        let spki = entry.token_key.0.as_slice();
        let verifying = match parsed.get(spki) {
            Some(known) => known.verifying.clone(),
            None => match VerifyingKey::from_spki(spki) {
                Ok(key) => key,
                Err(error) => {
                    tracing::warn!(%error, "the issuer lists a key that cannot be read");
                    continue;
                }
            },
        };
        let twice = next.iter().any(|key| key.verifying == verifying);
        if !twice && !retired.contains(&verifying.key_id()) {
            let listed =
                ListedKey { spki: spki.to_vec(), state, not_before: entry.not_before, not_after: entry.not_after };
            next.push(KnownKey { verifying, listed });
        }
    }
    for old in &before.0 {
        if !next.iter().any(|key| key.verifying == old.verifying) {
            let mut ended = old.clone();
            let until = ended.listed.not_after.unwrap_or(u64::MAX).min(now.seconds());
            ended.listed.state = KeyState::Retiring;
            ended.listed.not_after = Some(until);
            next.push(ended);
        }
    }
    KeySet(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_credentials::blind_token::IssuerKey;
    use postern_protocol::ids::Base64;

    fn entry(key: &VerifyingKey, state: KeyState, not_after: Option<u64>) -> DirectoryKey {
        DirectoryKey {
            token_type: TOKEN_TYPE,
            token_key: Base64(key.spki().to_vec()),
            not_before: None,
            not_after,
            state: Some(state),
        }
    }

    fn standing(set: &KeySet, key: &VerifyingKey, seconds: u64) -> Option<Standing> {
        set.find(&key.key_id())?.standing(Timestamp::from_seconds(seconds))
    }

    #[test]
    fn a_key_goes_from_active_over_retiring_to_its_end_and_a_dropped_one_ends_at_once() {
        let (old, new) = (IssuerKey::generate().unwrap(), IssuerKey::generate().unwrap());
        let (old, new) = (old.public().clone(), new.public().clone());
        let nothing = HashSet::new();
        let now = Timestamp::from_seconds(100);
        let first = merge(&KeySet::default(), &[entry(&old, KeyState::Active, None)], &nothing, now);
        assert_eq!(standing(&first, &old, 100), Some(Standing::Active));

        let rotated = [entry(&new, KeyState::Active, None), entry(&old, KeyState::Retiring, Some(200))];
        let second = merge(&first, &rotated, &nothing, now);
        assert_eq!(standing(&second, &old, 199), Some(Standing::Retiring));
        assert_eq!(standing(&second, &old, 200), Some(Standing::Expired));
        assert_eq!(standing(&second, &new, 200), Some(Standing::Active));

        let third = merge(&second, &rotated[..1], &nothing, Timestamp::from_seconds(150));
        assert_eq!(standing(&third, &old, 150), Some(Standing::Expired));
        assert_eq!(third.find(&old.key_id()).unwrap().listed.not_after, Some(150));
    }

    #[test]
    fn a_retired_key_does_not_come_back_whatever_the_issuer_lists() {
        let key = IssuerKey::generate().unwrap().public().clone();
        let retired = HashSet::from([key.key_id()]);
        let listed = [entry(&key, KeyState::Active, None)];
        assert_eq!(merge(&KeySet::default(), &listed, &retired, Timestamp::from_seconds(1)), KeySet::default());
    }
}
