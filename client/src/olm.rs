//! Olm accounts and sessions (vodozemac) as rows of the profile. A session is written back in the transaction that stores what it
//! encrypted or decrypted, so that no message key is ever used twice and none is lost.

use postern_credentials::identity::IdentityKey;
use postern_protocol::card::Card;
use postern_protocol::ids::{DhPublicKey, SigningPublicKey};
use postern_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::{
    Account, AccountPickle, InboundCreationResult, OlmMessage, PreKeyMessage, Session, SessionConfig, SessionPickle,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::names::hex;
use crate::payload::SessionHint;
use crate::profile::{Profile, Record};
use crate::secret::SecretText;

/// A one-time key that was claimed is good for first messages for so long, seconds. Its owner keeps it at least as much longer as the relay
/// keeps messages.
const ONE_TIME_GOOD_FOR: u64 = 7 * 24 * 3600;

const BAD_PICKLE: Error = Error::ProfileDamaged("an Olm session");

/// The Olm account's row.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OlmAccountRecord {
    pickle: SecretText,
}

impl Record for OlmAccountRecord {
    const KIND: &'static str = "olm-account";
}

impl OlmAccountRecord {
    pub(crate) fn of(account: &Account) -> Result<Self> {
        Ok(Self { pickle: pickled(&account.pickle())? })
    }

    pub(crate) fn account(&self) -> Result<Account> {
        let pickle: AccountPickle = serde_json::from_str(self.pickle.expose()).map_err(|_| BAD_PICKLE)?;
        Ok(Account::from_pickle(pickle))
    }
}

/// A session's row; its key is [`name`] of its hint.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OlmSessionRecord {
    /// The certified identity key at the other end; `None` until somebody who is certified has written through it.
    pub(crate) peer: Option<SigningPublicKey>,
    pickle: SecretText,
    /// When the one-time key that it began with was claimed, Unix seconds; `None` if they began it, or a fallback key did.
    #[serde(default)]
    one_time_since: Option<u64>,
    /// When it was last of use, Unix milliseconds.
    pub(crate) last_used: u64,
    /// When something last came through it, Unix milliseconds; 0 if nothing has.
    pub(crate) last_received: u64,
}

impl Record for OlmSessionRecord {
    const KIND: &'static str = "olm-session";
}

impl OlmSessionRecord {
    pub(crate) fn of(peer: Option<SigningPublicKey>, session: &Session) -> Result<Self> {
        let pickle = pickled(&session.pickle())?;
        Ok(Self { peer, pickle, one_time_since: None, last_used: 0, last_received: 0 })
    }

    pub(crate) fn session(&self) -> Result<Session> {
        let pickle: SessionPickle = serde_json::from_str(self.pickle.expose()).map_err(|_| BAD_PICKLE)?;
        Ok(Session::from_pickle(pickle))
    }

    pub(crate) fn update(&mut self, session: &Session) -> Result<()> {
        self.pickle = pickled(&session.pickle())?;
        Ok(())
    }
}

fn pickled(pickle: &impl Serialize) -> Result<SecretText> {
    Ok(SecretText::new(serde_json::to_string(pickle).map_err(|_| Error::Internal("a session does not encode"))?))
}

/// The name of a session's row.
pub(crate) fn name(hint: SessionHint) -> String {
    hex(&hint.0)
}

/// The hint of a session: both ends come to the same.
pub(crate) fn hint(session_id: &str) -> SessionHint {
    let digest = Sha256::new_with_prefix(b"postern/olm-hint/v1").chain_update(session_id).finalize();
    SessionHint(digest.first_chunk().copied().unwrap_or_default())
}

/// The session to write to this peer through: the one that something came through last. One that nothing came through is given up when
/// they may have erased the key that it began with: a fallback key that is no more in their card, which has been checked, or a one-time
/// key that was claimed long ago.
pub(crate) fn session_with(
    profile: &Profile,
    peer: &SigningPublicKey,
    card: &Card,
    now: Timestamp,
) -> Result<Option<(OlmSessionRecord, Session)>> {
    let all = profile.list::<OlmSessionRecord>()?;
    let theirs = all.into_iter().map(|(_, record)| record).filter(|record| record.peer.as_ref() == Some(peer));
    let Some(record) = theirs.max_by_key(|record| (record.last_received, record.last_used)) else { return Ok(None) };
    let session = record.session()?;
    let current = match record.one_time_since {
        Some(since) => since.saturating_add(ONE_TIME_GOOD_FOR) > now.seconds(),
        None => session.session_keys().one_time_key.to_bytes() == card.olm_fallback.0,
    };
    Ok((session.has_received_message() || current).then_some((record, session)))
}

/// A new session with this peer, to a one-time key that was claimed just now, or else to the fallback key in their card.
pub(crate) fn begin(
    profile: &Profile,
    peer: &SigningPublicKey,
    card: &Card,
    one_time: Option<&DhPublicKey>,
    now: Timestamp,
) -> Result<(OlmSessionRecord, Session)> {
    let account = own_account(profile)?;
    let identity = Curve25519PublicKey::from_bytes(card.olm_identity.0);
    let key = Curve25519PublicKey::from_bytes(one_time.unwrap_or(&card.olm_fallback).0);
    let session = account
        .create_outbound_session(SessionConfig::version_1(), identity, key)
        .map_err(|_| Error::CardInvalid("its Olm keys are not sound".to_owned()))?;
    let record = OlmSessionRecord::of(Some(*peer), &session)?;
    Ok((OlmSessionRecord { one_time_since: one_time.map(|_| now.seconds()), ..record }, session))
}

/// A session that somebody has begun with us.
pub(crate) struct Inbound {
    pub(crate) session: Session,
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// The account without the one-time key that this used; `None` if it was a fallback key, which stays.
    pub(crate) account: Option<OlmAccountRecord>,
}

/// A new session from a pre-key message; `None` if it is not for our keys or does not decrypt.
pub(crate) fn inbound(profile: &Profile, message: &PreKeyMessage) -> Result<Option<Inbound>> {
    let mut account = own_account(profile)?;
    let before = account.stored_one_time_key_count();
    let config = SessionConfig::version_1();
    let Ok(made) = account.create_inbound_session(config, message.identity_key(), message) else { return Ok(None) };
    let InboundCreationResult { session, plaintext } = made;
    let used = account.stored_one_time_key_count() < before;
    let account = used.then(|| OlmAccountRecord::of(&account)).transpose()?;
    Ok(Some(Inbound { session, plain: Zeroizing::new(plaintext), account }))
}

/// Makes one-time keys, to be published at once, and says which.
pub(crate) fn new_one_time_keys(account: &mut Account, n: usize) -> Vec<DhPublicKey> {
    let made = account.generate_one_time_keys(n).created;
    account.mark_keys_as_published();
    made.into_iter().map(|key| DhPublicKey(key.to_bytes())).collect()
}

/// The identity key that a pre-key message was made with.
pub(crate) fn sender_of(message: &OlmMessage) -> Option<DhPublicKey> {
    match message {
        OlmMessage::PreKey(message) => Some(DhPublicKey(message.identity_key().to_bytes())),
        OlmMessage::Normal(_) => None,
    }
}

pub(crate) fn own_account(profile: &Profile) -> Result<Account> {
    profile.get::<OlmAccountRecord>("")?.ok_or(Error::NotRegistered)?.account()
}

/// Makes a new fallback key, keeping the one before it, and says what it is.
pub(crate) fn next_fallback(account: &mut Account) -> Result<DhPublicKey> {
    account.generate_fallback_key();
    let keys = account.fallback_key();
    let key = keys.values().next().ok_or(Error::Internal("Olm made no fallback key"))?;
    account.mark_keys_as_published();
    Ok(DhPublicKey(key.to_bytes()))
}

/// Signs a card over the current keys.
pub(crate) fn sign_card(identity: &IdentityKey, card: Card) -> Result<Card> {
    postern_credentials::card::sign(identity, card).map_err(|_| Error::Internal("the card is too long"))
}
