//! People: whom one wrote to, who wrote, and what was decided about them. The name of a contact is the certified identity key; the number
//! is what is shown.

use postern_protocol::card::{Card, CardLink};
use postern_protocol::ids::{Base64, PhoneNumber, SigningPublicKey};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::{hex, short};
use crate::profile::Record;

/// What was decided about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Accepted, or written to.
    Contact,
    /// Has written, and waits for a decision.
    Request,
    /// Declined: the token went back, nothing else.
    Declined,
    /// Reported as spam: what comes is junk.
    Spam,
    /// Blocked: what comes is dropped silently, here and at the relay.
    Blocked,
}

/// Somebody's row; its key is the identity key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ContactRecord {
    pub(crate) phone: PhoneNumber,
    pub(crate) card: Base64,
    pub(crate) standing: Standing,
    pub(crate) since: u64,
}

impl Record for ContactRecord {
    const KIND: &'static str = "contact";
}

impl ContactRecord {
    pub(crate) fn new(phone: PhoneNumber, card: &Card, standing: Standing, since: u64) -> Result<Self> {
        let card = card.encode().map_err(|_| Error::CardInvalid("it is too long".to_owned()))?;
        Ok(Self { phone, card: Base64(card), standing, since })
    }

    pub(crate) fn card(&self) -> Result<Card> {
        Card::decode(&self.card.0).map_err(|_| Error::ProfileDamaged("a contact's card"))
    }

    /// Where to write to them.
    pub(crate) fn link(&self, identity: SigningPublicKey) -> Result<CardLink> {
        let card = self.card()?;
        Ok(CardLink { relay_url: card.relay_url, mailbox: card.mailbox, identity })
    }

    /// Keeps the newer of the two cards.
    pub(crate) fn refresh(&mut self, card: &Card) -> Result<()> {
        if self.card()?.signed_at < card.signed_at {
            self.card = Base64(card.encode().map_err(|_| Error::CardInvalid("it is too long".to_owned()))?);
        }
        Ok(())
    }
}

/// Somebody, for the screen. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// The first letters of the identity key, hex.
    pub id: String,
    /// The certified number.
    pub phone: String,
    /// The name that was imported with the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was decided.
    pub standing: Standing,
    /// Known since, Unix seconds.
    pub since: u64,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Everybody, by number.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn contacts(&self) -> Result<Vec<Contact>> {
        let mut all: Vec<Contact> = self.people()?.into_iter().map(|(key, record)| shown(&key, &record)).collect();
        for contact in &mut all {
            contact.name = self.name_of(&contact.phone)?;
        }
        all.sort_by(|a, b| (&a.phone, a.since).cmp(&(&b.phone, b.since)));
        Ok(all)
    }

    pub(crate) fn people(&self) -> Result<Vec<(SigningPublicKey, ContactRecord)>> {
        let all = self.profile.list::<ContactRecord>()?;
        let parsed = all.into_iter().map(|(key, record)| Some((key.parse().ok()?, record)));
        parsed.collect::<Option<_>>().ok_or(Error::ProfileDamaged("a contact"))
    }

    /// The card link of a contact, by number or by the first letters of the id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Blocked`].
    pub fn contact_link(&self, name: &str) -> Result<CardLink> {
        let mut named = self.named(name)?;
        let blocked = named.iter().any(|(_, record)| record.standing == Standing::Blocked);
        named.retain(|(_, record)| record.standing == Standing::Contact);
        match only(named) {
            Ok((identity, record)) => record.link(identity),
            Err(Error::NotFound(_)) if blocked => Err(Error::Blocked),
            Err(error) => Err(error),
        }
    }

    /// Somebody of any standing, by number or by the first letters of the id.
    pub(crate) fn find_person(&self, name: &str) -> Result<(SigningPublicKey, ContactRecord)> {
        only(self.named(name)?)
    }

    fn named(&self, name: &str) -> Result<Vec<(SigningPublicKey, ContactRecord)>> {
        let mut people = self.people()?;
        people.retain(|(key, record)| {
            record.phone.as_str() == name || (name.len() >= 4 && hex(&key.0).starts_with(&name.to_lowercase()))
        });
        Ok(people)
    }
}

fn only<T>(mut found: Vec<T>) -> Result<T> {
    let one = found.pop().ok_or(Error::NotFound("contact"))?;
    if found.is_empty() { Ok(one) } else { Err(Error::Ambiguous("contact")) }
}

pub(crate) fn shown(key: &SigningPublicKey, record: &ContactRecord) -> Contact {
    Contact {
        id: short(&key.0),
        phone: record.phone.as_str().to_owned(),
        name: None,
        standing: record.standing,
        since: record.since,
    }
}
