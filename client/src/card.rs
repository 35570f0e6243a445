//! Cards: one's own (made, sealed, published, its keys rotated weekly) and other people's (fetched, opened, checked).

use postern_credentials::card::{open_card, seal_card, verify};
use postern_credentials::certificate::CertifiedSubject;
use postern_credentials::envelope::SealingKey;
use postern_protocol::card::{Card, CardLink};
use postern_protocol::ids::{Base64, DhPublicKey, Signature};
use postern_protocol::send::{MAX_SEALED_CARD, OWN_CARD_PATH, card_path};
use postern_protocol::server::ServerUrl;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::{OCTETS, Request};
use crate::client::{Account, Client};
use crate::contact::ContactRecord;
use crate::error::{Error, Result};
use crate::olm::{self, OlmAccountRecord, next_fallback, sign_card};
use crate::profile::Record;
use crate::register::AccountRecord;
use crate::reply::GroupRecord;
use crate::secret::SecretBytes;

/// Sealing key and fallback key are replaced after so long, seconds (design §6).
pub(crate) const ROTATE_AFTER: u64 = 7 * 24 * 3600;
/// A card at hand is good for writing without asking for a newer one up to this age, seconds. The owner keeps its key at least
/// this much longer than the relay keeps messages.
const CARD_GOOD_FOR: u64 = 7 * 24 * 3600;

/// A sealing key's row; its key is the time of its making.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SealingKeyRecord {
    seed: SecretBytes,
    created: u64,
    /// Since when another has taken its place, Unix seconds.
    retired: Option<u64>,
}

impl Record for SealingKeyRecord {
    const KIND: &'static str = "sealing-key";
}

impl SealingKeyRecord {
    fn new(key: &SealingKey, created: u64) -> Self {
        Self { seed: SecretBytes::new(*key.seed()), created, retired: None }
    }

    fn key(&self) -> Result<SealingKey> {
        let seed = self.seed.array().ok_or(Error::ProfileDamaged("a sealing key has another length"))?;
        Ok(SealingKey::from_seed(*seed))
    }
}

/// The own card's row.
#[derive(Clone, Serialize, Deserialize)]
struct OwnCard {
    card: Base64,
    /// The relay has an older one.
    dirty: bool,
}

impl Record for OwnCard {
    const KIND: &'static str = "own-card";
}

impl OwnCard {
    fn new(card: &Card) -> Result<Self> {
        let bytes = card.encode().map_err(|_| Error::Internal("the card is too long"))?;
        Ok(Self { card: Base64(bytes), dirty: true })
    }

    fn card(&self) -> Result<Card> {
        Card::decode(&self.card.0).map_err(|_| Error::ProfileDamaged("the own card"))
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// What people paste or scan to write to this account.
    ///
    /// # Errors
    /// [`Error::NotRegistered`].
    pub fn card_link(&self) -> Result<CardLink> {
        let account = self.account()?;
        Ok(CardLink { relay_url: account.relay.url, mailbox: account.mailbox, identity: account.identity.public() })
    }

    /// The own card as it is now.
    pub(crate) fn own_card(&self) -> Result<Card> {
        self.profile.get::<OwnCard>("")?.ok_or(Error::NotRegistered)?.card()
    }

    /// The first sealing key, the Olm account, the group secret and the card, in one transaction with the account's next stage.
    pub(crate) fn make_first_keys(&mut self, account: &Account, next: AccountRecord) -> Result<()> {
        let now = self.now().seconds();
        let key = SealingKey::generate(&mut self.rng);
        let mut olm = vodozemac::olm::Account::new();
        let fallback = next_fallback(&mut olm)?;
        let identity = DhPublicKey(olm.curve25519_key().to_bytes());
        let card = draw_card(account, &key, identity, fallback, now)?;
        let group = GroupRecord::first(&mut self.rng);
        self.profile.tx(&mut self.rng, |t| {
            t.put(&now.to_string(), &SealingKeyRecord::new(&key, now))?;
            t.put("", &OlmAccountRecord::of(&olm)?)?;
            t.put("", &group)?;
            t.put("", &OwnCard::new(&card)?)?;
            t.put("", &next)
        })
    }

    /// Uploads the sealed card if the relay has not this one.
    pub(crate) async fn publish_card(&mut self, account: &Account) -> Result<bool> {
        let own = self.profile.get::<OwnCard>("")?.ok_or(Error::NotRegistered)?;
        if !own.dirty {
            return Ok(false);
        }
        let sealed =
            seal_card(&mut self.rng, &own.card()?).map_err(|_| Error::Internal("the card does not fit its seal"))?;
        let request = Request::new(http::Method::PUT, &account.relay.url, OWN_CARD_PATH)?.body(OCTETS, sealed);
        self.at_mailbox(request).await?.success()?;
        self.profile.tx(&mut self.rng, |t| t.put("", &OwnCard { dirty: false, ..own }))?;
        Ok(true)
    }

    /// Replaces sealing key and fallback key when their week is over, and erases those that no message can be sealed to any more.
    /// To be called when the mailbox is empty: what waits in it may be for the oldest fallback key, which is given up here.
    pub(crate) fn rotate_keys(&mut self, account: &Account) -> Result<bool> {
        let now = self.now().seconds();
        let keys = self.profile.list::<SealingKeyRecord>()?;
        let keep = ROTATE_AFTER.saturating_add(account.retention_seconds);
        let over: Vec<_> = keys
            .iter()
            .filter(|(_, key)| key.retired.is_some_and(|at| at.saturating_add(keep) <= now))
            .map(|(name, _)| name.clone())
            .collect();
        let current = keys.into_iter().find(|(_, key)| key.retired.is_none());
        let due = current.as_ref().is_none_or(|(_, key)| key.created.saturating_add(ROTATE_AFTER) <= now);
        if over.is_empty() && !due {
            return Ok(false);
        }
        let key = SealingKey::generate(&mut self.rng);
        let mut olm = olm::own_account(&self.profile)?;
        let fallback = if due { next_fallback(&mut olm)? } else { self.own_card()?.olm_fallback };
        let identity = DhPublicKey(olm.curve25519_key().to_bytes());
        let card = draw_card(account, &key, identity, fallback, now)?;
        self.profile.tx(&mut self.rng, |t| {
            for name in &over {
                t.delete::<SealingKeyRecord>(name)?;
            }
            if !due {
                return Ok(false);
            }
            if let Some((name, old)) = current {
                t.put(&name, &SealingKeyRecord { retired: Some(now), ..old })?;
            }
            t.put(&now.to_string(), &SealingKeyRecord::new(&key, now))?;
            t.put("", &OlmAccountRecord::of(&olm)?)?;
            t.put("", &OwnCard::new(&card)?)?;
            Ok(true)
        })
    }

    /// Learns how long the relay keeps messages now, since sealing keys must outlive it.
    pub(crate) async fn refresh_relay_times(&mut self, account: &Account) -> Result<()> {
        let info = self.own_relay_info(&account.relay).await?;
        let counts_otherwise = account.replies.is_some_and(|known| {
            (known.epoch_seconds, known.period_seconds) != (info.replies.epoch_seconds, info.replies.period_seconds)
        });
        self.profile.tx(&mut self.rng, |t| match t.get::<AccountRecord>("")? {
            Some(record) => t.put("", &record.with_times_of(&info)),
            None => Ok(()),
        })?;
        if counts_otherwise {
            Err(Error::Misbehaved("it counts time for replies otherwise than before"))
        } else {
            Ok(())
        }
    }

    /// All sealing keys that a message may be sealed to, the current one first.
    pub(crate) fn sealing_keys(&self) -> Result<Vec<SealingKey>> {
        let mut keys = self.profile.list::<SealingKeyRecord>()?;
        keys.sort_by_key(|(_, key)| (key.retired.is_some(), std::cmp::Reverse(key.created)));
        keys.iter().map(|(_, key)| key.key()).collect()
    }

    /// The card behind a link, fetched anonymously and checked whole. An older one than what is at hand is not believed; when the relay
    /// cannot be reached, the one at hand serves while its keys are sure to be kept.
    pub(crate) async fn fetch_card(&mut self, link: &CardLink) -> Result<(Card, CertifiedSubject)> {
        let known = self.profile.get::<ContactRecord>(&link.identity.to_string())?;
        let known = known.and_then(|contact| contact.card().ok()).filter(|card| card.mailbox == link.mailbox);
        let request = Request::get(&link.relay_url, &card_path(&link.mailbox))?.max_answer(MAX_SEALED_CARD);
        let fetched = match self.send_anonymously(&request).await {
            Ok(reply) => Some(reply.success()?),
            Err(error) if error.is_passing() && self.is_fresh(known.as_ref()) => None,
            Err(error) => return Err(error),
        };
        let (now, ca) = (self.now(), self.pins()?.ca_certificate.0);
        let invalid = |error: postern_credentials::card::CardError| Error::CardInvalid(error.to_string());
        let opened = fetched.map(|sealed| open_card(link, &sealed, &ca, now).map_err(invalid)).transpose()?;
        match (opened, known) {
            (Some((card, _)), Some(known)) if card.signed_at < known.signed_at => {
                let subject = verify(&known, &ca, now).map_err(invalid)?;
                Ok((known, subject))
            }
            (Some(opened), _) => Ok(opened),
            (None, Some(known)) => {
                let subject = verify(&known, &ca, now).map_err(invalid)?;
                Ok((known, subject))
            }
            (None, None) => Err(Error::Internal("no card")),
        }
    }

    fn is_fresh(&self, card: Option<&Card>) -> bool {
        let now = self.now().seconds();
        card.is_some_and(|card| card.signed_at.saturating_add(CARD_GOOD_FOR) > now)
    }
}

/// The link, with the relay's address as its owner signed it if that says whose key the relay has: whoever handed a link on may have
/// taken the fingerprint out of it, or put another relay in.
pub(crate) fn as_signed(link: &CardLink, card: &Card) -> CardLink {
    let is_pinned = card.relay_url.parse::<ServerUrl>().is_ok_and(|relay| !relay.pins().is_empty());
    let relay_url = if is_pinned { &card.relay_url } else { &link.relay_url };
    CardLink { relay_url: relay_url.clone(), ..link.clone() }
}

fn draw_card(
    account: &Account,
    key: &SealingKey,
    olm_identity: DhPublicKey,
    olm_fallback: DhPublicKey,
    now: u64,
) -> Result<Card> {
    let card = Card {
        certificate: account.certificate.clone(),
        relay_url: account.relay.url.clone(),
        mailbox: account.mailbox,
        sealing_key: key.public(),
        olm_identity,
        olm_fallback,
        signed_at: now,
        signature: Signature([0; 64]),
    };
    sign_card(&account.identity, card)
}

/// Cards as forgers make them.
#[cfg(test)]
impl crate::testing::Person {
    pub(crate) fn replace_card(&mut self, change: impl FnOnce(Card) -> Card) -> Result<()> {
        let identity = self.account()?.identity;
        let card = sign_card(&identity, change(self.own_card()?))?;
        self.profile.tx(&mut self.rng, |t| t.put("", &OwnCard::new(&card)?))
    }

    pub(crate) fn replace_certificate(&mut self, certificate: Vec<u8>) -> Result<()> {
        self.replace_card(|card| Card { certificate, ..card })
    }

    pub(crate) fn sealed_card(&mut self) -> Result<Vec<u8>> {
        let card = self.own_card()?;
        seal_card(&mut self.rng, &card).map_err(|_| Error::Internal("the card does not fit its seal"))
    }
}
