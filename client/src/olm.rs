//! Olm accounts and sessions (vodozemac) as rows of the profile. A session is written back in the transaction that stores what it
//! encrypted or decrypted, so that no message key is ever used twice and none is lost.

use postern_credentials::identity::IdentityKey;
use postern_protocol::card::Card;
use postern_protocol::ids::{DhPublicKey, SigningPublicKey};
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
    /// The certified identity key at the other end.
    pub(crate) peer: SigningPublicKey,
    pickle: SecretText,
    /// When it was last of use, Unix milliseconds.
    pub(crate) last_used: u64,
    /// When something last came through it, Unix milliseconds; 0 if nothing has.
    pub(crate) last_received: u64,
}

impl Record for OlmSessionRecord {
    const KIND: &'static str = "olm-session";
}

impl OlmSessionRecord {
    pub(crate) fn of(peer: SigningPublicKey, session: &Session) -> Result<Self> {
        Ok(Self { peer, pickle: pickled(&session.pickle())?, last_used: 0, last_received: 0 })
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

/// The session to write to this peer through: the one that something came through last, or a new one to their card, which has been
/// checked. A session that nothing came through is given up when their fallback key has changed since: they may have erased it.
pub(crate) fn session_for(
    profile: &Profile,
    peer: &SigningPublicKey,
    card: &Card,
) -> Result<(OlmSessionRecord, Session)> {
    let all = profile.list::<OlmSessionRecord>()?;
    let theirs = all.into_iter().map(|(_, record)| record).filter(|record| record.peer == *peer);
    if let Some(record) = theirs.max_by_key(|record| (record.last_received, record.last_used)) {
        let session = record.session()?;
        let current = session.session_keys().one_time_key.to_bytes() == card.olm_fallback.0;
        if session.has_received_message() || current {
            return Ok((record, session));
        }
    }
    let session = outbound(profile, card)?;
    Ok((OlmSessionRecord::of(*peer, &session)?, session))
}

fn outbound(profile: &Profile, card: &Card) -> Result<Session> {
    let account = own_account(profile)?;
    let identity = Curve25519PublicKey::from_bytes(card.olm_identity.0);
    let fallback = Curve25519PublicKey::from_bytes(card.olm_fallback.0);
    account
        .create_outbound_session(SessionConfig::version_1(), identity, fallback)
        .map_err(|_| Error::CardInvalid("its Olm keys are not sound".to_owned()))
}

/// A new session from a pre-key message; `None` if it is not for our keys or does not decrypt.
pub(crate) fn inbound(profile: &Profile, message: &PreKeyMessage) -> Result<Option<(Session, Zeroizing<Vec<u8>>)>> {
    let mut account = own_account(profile)?;
    let config = SessionConfig::version_1();
    // Fallback keys stay when they are used, so the account need not be written back.
    let made = account.create_inbound_session(config, message.identity_key(), message).ok();
    Ok(made.map(|InboundCreationResult { session, plaintext }| (session, Zeroizing::new(plaintext))))
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
