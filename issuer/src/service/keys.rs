//! Token keys: which one signs, which are still accepted, what each has signed; rotation and retirement.
//!
//! A key's life only moves forward: *active* (one at a time) → *retiring* (accepted, signs nothing new) → gone. Which key is
//! active is read in the transaction that records a signature, so that any number of processes agree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postern_credentials::blind_token::{BlindSignError, IssuerKey};
use postern_protocol::ids::{Base64, RsaElement, TokenKeyId};
use postern_protocol::internal::Keys;
use postern_protocol::log::LogLeaf;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{Counters, IssuerInfo, KeyCounters, RelayCount};
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::{Directory, DirectoryKey, KeyState, TOKEN_REQUEST_PATH, TOKEN_TYPE};
use postern_store::{Lease, Tx};

use super::{blocking, log};
use crate::app::Issuer;
use crate::db;
use crate::db::keys::{ACCOUNTS, KeyRow};
use crate::error::Refusal;

/// Live keys differ in one byte; beyond this many a new one would be long in the finding.
const MAX_LIVE_KEYS: usize = 64;

/// Parsed private keys, by id. At most as many as there are live keys.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(Mutex<HashMap<TokenKeyId, Arc<IssuerKey>>>);

impl KeyCache {
    fn get(&self, id: &TokenKeyId) -> Option<Arc<IssuerKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn put(&self, key: &Arc<IssuerKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.public().key_id(), Arc::clone(key));
    }

    fn retain(&self, live: &[KeyRow]) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|id, _| live.iter().any(|row| row.key_id == *id));
    }
}

/// The issuer's public face.
pub fn info(issuer: &Issuer) -> IssuerInfo {
    let Issuer { config, secrets, .. } = issuer;
    IssuerInfo {
        name: config.name.clone(),
        public_key: secrets.identity.public(),
        ca_certificate: Base64(secrets.ca.certificate_der().to_vec()),
        relays: config.relays.iter().filter(|relay| relay.enabled).map(crate::config::RelayConfig::entry).collect(),
        tokens_per_account: config.limits.tokens_per_account,
        setup_seconds: config.limits.setup_seconds,
        code_digits: postern_credentials::phone_code::CODE_DIGITS,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The directory of RFC 9578 §4, as it is served: JSON, and logged before anybody sees it.
///
/// # Errors
/// If the database fails.
pub async fn directory(issuer: &Issuer) -> Result<Vec<u8>, Refusal> {
    let token_keys = live_keys(issuer).await?.token_keys;
    let directory = Directory { issuer_request_uri: TOKEN_REQUEST_PATH.to_owned(), token_keys };
    let served = serde_json::to_vec(&directory).map_err(|_| Refusal::Failed("an answer does not encode"))?;
    log::ensure(issuer, &LogLeaf::TokenKeys(served.clone())).await?;
    Ok(served)
}

/// The live keys, active first, as relays and the directory list them.
///
/// # Errors
/// If the database fails.
pub async fn live_keys(issuer: &Issuer) -> Result<Keys, Refusal> {
    let rows = read_live(issuer, issuer.now()).await?;
    Ok(Keys { token_keys: rows.into_iter().map(entry).collect() })
}

fn entry(row: KeyRow) -> DirectoryKey {
    DirectoryKey {
        token_type: TOKEN_TYPE,
        token_key: Base64(row.spki),
        // A key is usable at once, and a client whose clock is behind must not refuse it.
        not_before: None,
        not_after: row.not_after.map(Timestamp::seconds),
        state: Some(row.state),
    }
}

async fn read_live(issuer: &Issuer, now: Timestamp) -> Result<Vec<KeyRow>, Refusal> {
    issuer.db.read("live keys", |tx| Box::pin(async move { Ok(db::keys::live(tx, now).await?) })).await
}

/// What was signed under each key, retired ones included, in the open.
///
/// # Errors
/// If the database fails.
pub async fn counters(issuer: &Issuer) -> Result<Counters, Refusal> {
    let now = issuer.now();
    let (live, counted): (Vec<KeyRow>, _) = issuer
        .db
        .read("counters", |tx| {
            Box::pin(async move { Ok::<_, Refusal>((db::keys::live(tx, now).await?, db::keys::counters(tx).await?)) })
        })
        .await?;
    let empty = |token_key_id| KeyCounters { token_key_id, issued: 0, exchanged: Vec::new() };
    let mut keys: Vec<_> = live.into_iter().map(|row| empty(row.key_id)).collect();
    for (key_id, relay, count) in counted {
        if !keys.iter().any(|key| key.token_key_id == key_id) {
            keys.push(empty(key_id));
        }
        let Some(key) = keys.iter_mut().find(|key| key.token_key_id == key_id) else { continue };
        if relay == ACCOUNTS {
            key.issued = count;
        } else {
            key.exchanged.push(RelayCount { relay, count });
        }
    }
    Ok(Counters { keys })
}

/// The private half of a live key.
///
/// # Errors
/// `key-not-active` if it is gone.
pub(crate) async fn signing_key(issuer: &Arc<Issuer>, id: TokenKeyId) -> Result<Arc<IssuerKey>, Refusal> {
    if let Some(key) = issuer.signing_keys.get(&id) {
        return Ok(key);
    }
    let sealed: Option<Vec<u8>> = issuer
        .db
        .read("load a key", |tx| Box::pin(async move { Ok::<_, Refusal>(db::keys::sealed_private(tx, &id).await?) }))
        .await?;
    let sealed = sealed.filter(|sealed| !sealed.is_empty()).ok_or(ProblemKind::KeyNotActive)?;
    let secrets = Arc::clone(issuer);
    let key = blocking(move || {
        let pkcs8 = secrets.secrets.token_keys.open(&id.0, &sealed);
        let pkcs8 = pkcs8.map_err(|_| Refusal::Failed("the secret key does not open this database's token keys"))?;
        IssuerKey::from_pkcs8(&pkcs8).map(Arc::new).map_err(|_| Refusal::Failed("a token key cannot be read"))
    })
    .await?;
    issuer.signing_keys.put(&key);
    Ok(key)
}

/// Blind-signs each, where it holds nobody up.
///
/// # Errors
/// `bad-request` for a message that is not in the group.
pub(crate) async fn blind_sign(key: Arc<IssuerKey>, blinded: Vec<RsaElement>) -> Result<Vec<RsaElement>, Refusal> {
    blocking(move || {
        let sign = |message| {
            key.blind_sign(message).map_err(|error| match error {
                BlindSignError::OutOfRange => {
                    Refusal::detailed(ProblemKind::BadRequest, "a blinded message is out of range")
                }
                BlindSignError::Failed => Refusal::Failed("a blind signature failed its check"),
            })
        };
        blinded.iter().map(sign).collect()
    })
    .await
}

/// Refuses unless this key signs, as of this transaction. Nothing becomes active again: the refusal is final.
pub(crate) async fn require_active(tx: &mut Tx<'_>, id: &TokenKeyId) -> Result<(), Refusal> {
    if db::keys::is_active(tx, id).await? { Ok(()) } else { Err(ProblemKind::KeyNotActive.into()) }
}

/// Makes a new active key, the first or the next. The old one's tokens are accepted for `overlap_seconds` more.
///
/// # Errors
/// If the database or the key generation fails, or too many keys are live.
pub async fn rotate(issuer: &Arc<Issuer>, overlap_seconds: u64) -> Result<TokenKeyId, Refusal> {
    loop {
        let key = blocking(|| IssuerKey::generate().map_err(|_| Refusal::Failed("no token key could be made"))).await?;
        let id = key.public().key_id();
        let pkcs8 = key.to_pkcs8().map_err(|_| Refusal::Failed("a token key cannot be encoded"))?;
        let sealed = &issuer.secrets.token_keys.seal(&mut issuer.random.generator(), &id.0, &pkcs8);
        let (key, now) = (&key, issuer.now());
        let not_after = now.plus_seconds(overlap_seconds);
        let placed: bool = issuer
            .db
            .run("rotate keys", |tx| {
                Box::pin(async move {
                    let live = db::keys::live(tx, now).await?;
                    if live.iter().any(|row| row.key_id == id) {
                        // Committed before, and nobody heard of it.
                        return Ok(true);
                    }
                    if live.len() >= MAX_LIVE_KEYS {
                        return Err(Refusal::Failed("too many token keys are live: wait for some to retire"));
                    }
                    if is_taken(&live, &id) {
                        return Ok(false);
                    }
                    db::keys::succeed(tx, &id, sealed, key.public().spki(), now, not_after).await?;
                    Ok(true)
                })
            })
            .await?;
        if placed {
            directory(issuer).await?;
            return Ok(id);
        }
    }
}

/// Whether a live key has the same truncated id, which is all that a token request carries (RFC 9578 §6.1).
fn is_taken(live: &[KeyRow], id: &TokenKeyId) -> bool {
    live.iter().any(|row| row.key_id.0.last() == id.0.last())
}

/// Erases keys whose time is over and what they signed; the counters stay. They were refused from that moment on anyway. An operator
/// need not hold the lease of housekeeping for that.
///
/// # Errors
/// If the database fails, or the lease is another's; what was done stays done, and the rest is done next time.
pub async fn retire(issuer: &Issuer, mut lease: Option<&mut Lease>) -> Result<(), Refusal> {
    let now = issuer.now();
    let expired: Vec<KeyRow> = issuer
        .db
        .read("expired keys", |tx| Box::pin(async move { Ok::<_, Refusal>(db::keys::expired(tx, now).await?) }))
        .await?;
    for row in expired {
        let id = &row.key_id;
        let erase = issuer
            .db
            .run("erase a key", |tx| Box::pin(async move { Ok::<_, Refusal>(db::keys::erase_private(tx, id).await?) }));
        erase.await?;
        while drop_some(issuer, id).await? > 0 {
            if let Some(lease) = &mut lease {
                lease.keep(issuer.now()).await?;
            }
        }
        let delete = issuer
            .db
            .run("delete a key", |tx| Box::pin(async move { Ok::<_, Refusal>(db::keys::delete(tx, id).await?) }));
        delete.await?;
        tracing::info!(key = %id, "a token key has retired");
    }
    Ok(())
}

/// Erases from memory the keys whose time is over.
///
/// # Errors
/// If the database fails.
pub(crate) async fn forget_retired(issuer: &Issuer) -> Result<(), Refusal> {
    issuer.signing_keys.retain(&read_live(issuer, issuer.now()).await?);
    Ok(())
}

async fn drop_some(issuer: &Issuer, id: &TokenKeyId) -> Result<u64, Refusal> {
    let dropping = issuer.db.run("drop what a key signed", |tx| {
        Box::pin(async move { Ok(db::tokens::drop_of_key(tx, id).await? + db::exchange::drop_of_key(tx, id).await?) })
    });
    dropping.await
}

/// Whether there is a key that signs and that our secret opens.
///
/// # Errors
/// If the database fails, or the secret is another one.
pub async fn can_sign(issuer: &Arc<Issuer>) -> Result<bool, Refusal> {
    let live = read_live(issuer, issuer.now()).await?;
    let Some(row) = live.iter().find(|row| row.state == KeyState::Active) else { return Ok(false) };
    signing_key(issuer, row.key_id).await.map(|_| true)
}

/// The key that signs.
pub(crate) async fn active(tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<KeyRow>, Refusal> {
    Ok(db::keys::live(tx, now).await?.into_iter().find(|row| row.state == KeyState::Active))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_id_is_taken_by_any_live_key_that_ends_in_the_same_byte() {
        let row = |last: u8, state| {
            let mut key_id = TokenKeyId([7; 32]);
            key_id.0[31] = last;
            KeyRow { key_id, state, spki: Vec::new(), not_after: None }
        };
        let live = [row(1, KeyState::Active), row(2, KeyState::Retiring)];
        let id = |last: u8| TokenKeyId([last; 32]);
        assert!(is_taken(&live, &id(1)) && is_taken(&live, &id(2)));
        assert!(!is_taken(&live, &id(7)) && !is_taken(&[], &id(1)));
    }
}
