//! Writing: by a reply credential if the recipient has handed one over, else for a token; no name on it either way.
//!
//! 1. What pays is chosen (`pay`); the recipient's card is fetched anonymously and checked against the link (`card`); for a
//!    new Olm session a one-time prekey is claimed, anonymously (`prekeys`).
//! 2. The text goes into an Olm message, that into an envelope sealed to the card's key (`payload`, `olm`), with reply credentials for the
//!    recipient beside it as far as they have none (`reply`).
//! 3. The exact envelope, and the token or the slot that it takes, are on disk before anything is sent.
//! 4. It is sent anonymously (`deliver`). 201: it is there, and the token is out. Lost on the way: the identical bytes go again, now or at
//!    the next `sync`. Refused: the token is back, and the user is told why; a slot stays used.
//!
//! The relay learns that somebody wrote to this mailbox, and by which kind of right.

mod deliver;
mod pay;

use std::fmt;

use postern_credentials::envelope;
use postern_protocol::card::{Card, CardLink};
use postern_protocol::ids::{Base64, MailboxId, PhoneNumber, SigningPublicKey};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::ENVELOPE_SIZES;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use vodozemac::olm::Session;
use zeroize::Zeroizing;

pub(crate) use self::pay::Means;
use self::pay::Payment;
pub use self::pay::{NoReply, Paid};
use crate::card::as_signed;
use crate::client::Client;
use crate::contact::{ContactRecord, Standing};
use crate::error::{Error, Result};
use crate::olm::{self, OlmSessionRecord};
use crate::payload::{Inner, Kind, MAX_TEXT, Payload};
use crate::prekeys::FirstKey;
use crate::profile::Record;
use crate::reply::{HeldRecord, HelloJob, IssuedRecord};
use crate::secret::SecretText;
use crate::tokens::{TokenRecord, TokenState};

/// What an Olm message and its header add to a payload, at most, bytes.
const OLM_ADDS: usize = 256;

/// To whom. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// Whoever the link names.
    Link(CardLink),
    /// A contact, by the first letters of the id.
    Contact(String),
    /// A contact by number; whoever is listed under it, if it is none's.
    Phone(PhoneNumber),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link(_) => "Target::Link(..)",
            Self::Contact(_) => "Target::Contact(..)",
            Self::Phone(_) => "Target::Phone(..)",
        })
    }
}

impl std::str::FromStr for Target {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.trim_start().starts_with("postern:") {
            let link =
                text.parse().map_err(|_| Error::Invalid("this card link is incomplete or changed".to_owned()))?;
            return Ok(Self::Link(link));
        }
        Ok(text.parse().map_or_else(|_| Self::Contact(text.to_owned()), Self::Phone))
    }
}

/// How to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// When the replies of this epoch are used, pay with a token instead of refusing.
    pub spend_token: bool,
}

/// A message on its way; its key is its id at the relay: the serial of its token, or what its presentation makes it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    to: SigningPublicKey,
    phone: String,
    relay_url: String,
    mailbox: MailboxId,
    /// The exact envelope; empty when nothing is to be sent any more.
    envelope: Base64,
    text: SecretText,
    written: u64,
    #[serde(default)]
    payment: Payment,
    pub(crate) state: OutgoingState,
}

impl Record for Outgoing {
    const KIND: &'static str = "outgoing";
}

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum OutgoingState {
    Queued,
    Delivered { at: u64 },
    Failed { code: String },
}

/// What became of a message for now.
#[derive(Debug)]
pub enum Delivery {
    /// The relay has it on disk.
    Delivered,
    /// Not confirmed; the identical bytes are sent again at the next `sync`.
    Queued(Error),
}

/// A message that was taken on. `Debug` shows no number.
pub struct Sent {
    /// Its id, hex; the recipient's relay calls it the same.
    pub id: String,
    /// The number that the recipient's certificate says.
    pub phone: String,
    /// How far it has come.
    pub delivery: Delivery,
    /// How many tokens are left.
    pub tokens_left: usize,
    /// What it was paid with.
    pub paid: Paid,
    /// What it was made with, if it is the first of an Olm session.
    pub first_key: Option<FirstKey>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivery, tokens_left, paid, first_key, .. } = self;
        f.debug_struct("Sent")
            .field("delivery", delivery)
            .field("tokens_left", tokens_left)
            .field("paid", paid)
            .field("first_key", first_key)
            .finish_non_exhaustive()
    }
}

/// Everything that was decided about a message before it is stored.
struct Draft {
    id: String,
    outgoing: Outgoing,
    session: (String, OlmSessionRecord),
    contact: ContactRecord,
    token: Option<TokenRecord>,
    held: Option<HeldRecord>,
    /// They are handed credentials in it.
    issued: Option<IssuedRecord>,
    paid: Paid,
}

/// An envelope, and what making it has changed.
struct Sealed {
    envelope: Vec<u8>,
    session: (String, OlmSessionRecord),
    issued: Option<IssuedRecord>,
    /// Something came back before.
    is_answered: bool,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// [`Self::send_with`] the usual options: never more than one token, and none if there is a reply credential.
    ///
    /// # Errors
    /// As [`Self::send_with`].
    pub async fn send(&mut self, target: &Target, text: &str) -> Result<Sent> {
        self.send_with(target, text, SendOptions::default()).await
    }

    /// Writes to somebody. When it returns, the message is at the relay, or on disk and sent again by itself.
    ///
    /// # Errors
    /// [`Error::ReplyLimit`], [`Error::NoToken`], [`Error::Blocked`], [`Error::NotAnonymous`], [`Error::CardInvalid`],
    /// [`Error::OwnCard`], [`Error::TextTooLong`], [`Error::NotFound`], for a number what [`Self::find`] says, and
    /// [`Error::NotListed`]; [`Error::Refused`] if the relay does not take it: nothing was
    /// sent then, and the token is back.
    pub async fn send_with(&mut self, target: &Target, text: &str, options: SendOptions) -> Result<Sent> {
        self.profile.verify()?;
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { max: MAX_TEXT });
        }
        match self.send_once(target, text, options).await {
            // Whoever was found by number may have registered anew since.
            Err(error) if is_gone(&error) => {
                let Target::Phone(phone) = target else { return Err(error) };
                if !Box::pin(self.look_again(phone)).await? {
                    return Err(error);
                }
                let again = Box::pin(self.send_once(target, text, options)).await;
                if again.as_ref().is_err_and(is_gone) { Err(Error::NotListed) } else { again }
            }
            other => other,
        }
    }

    async fn send_once(&mut self, target: &Target, text: &str, options: SendOptions) -> Result<Sent> {
        let link = match target {
            Target::Link(link) => link.clone(),
            Target::Contact(name) => self.contact_link(name)?,
            Target::Phone(phone) => Box::pin(self.link_of(phone)).await?,
        };
        if link.identity == self.own_key()? {
            return Err(Error::OwnCard);
        }
        let known = self.profile.get::<ContactRecord>(&link.identity.to_string())?;
        if known.is_some_and(|known| known.standing == Standing::Blocked) {
            return Err(Error::Blocked);
        }
        let addressed = if let Target::Phone(phone) = target { Some(phone) } else { None };
        let means = self.choose_means(&link, options).await?;
        self.write(&link, addressed, Some(text), means).await
    }

    /// Writes a text, or a hello, with what was chosen to pay for it. The card of somebody who is addressed by number must be
    /// certified for it.
    pub(crate) async fn write(
        &mut self,
        link: &CardLink,
        addressed: Option<&PhoneNumber>,
        text: Option<&str>,
        means: Means,
    ) -> Result<Sent> {
        let (card, subject) = self.fetch_card(link).await?;
        let link = &as_signed(link, &card);
        if addressed.is_some_and(|phone| *phone != subject.phone) {
            return Err(Error::CardInvalid("it is not certified for the number that was written to".to_owned()));
        }
        let known = self.profile.get::<ContactRecord>(&link.identity.to_string())?;
        let now = self.now().seconds();
        let mut contact = match known {
            Some(known) => known,
            None => ContactRecord::new(subject.phone.clone(), &card, Standing::Contact, now)?,
        };
        contact.standing = Standing::Contact;
        contact.refresh(&card)?;
        let (session, first_key) = self.session_for(link, &card).await?;
        let draft = self.draft(link, &card, contact, means, text, session)?;
        let (id, paid, phone) = (draft.id.clone(), draft.paid, subject.phone.as_str().to_owned());
        self.store_draft(draft)?;
        let (id, delivery) = self.deliver(&id).await?;
        Ok(Sent { id, phone, delivery, tokens_left: self.tokens()?.left, paid, first_key })
    }

    /// The Olm session to write through. A new one takes a one-time prekey of theirs, or the fallback key of their card.
    async fn session_for(
        &mut self,
        link: &CardLink,
        card: &Card,
    ) -> Result<((OlmSessionRecord, Session), Option<FirstKey>)> {
        let (peer, now) = (&link.identity, self.now());
        if let Some(known) = olm::session_with(&self.profile, peer, card, now)? {
            return Ok((known, None));
        }
        let (prekey, first_key) = self.claim_prekey(link).await?;
        let Some(prekey) = prekey else {
            return Ok((olm::begin(&self.profile, peer, card, None, now)?, Some(first_key)));
        };
        match olm::begin(&self.profile, peer, card, Some(&prekey), now) {
            // They have signed something that is no sound key.
            Err(Error::CardInvalid(_)) => {
                Ok((olm::begin(&self.profile, peer, card, None, now)?, Some(FirstKey::NotTheirs)))
            }
            begun => Ok((begun?, Some(first_key))),
        }
    }

    /// Encrypts and presents, in memory only.
    fn draft(
        &mut self,
        link: &CardLink,
        card: &Card,
        contact: ContactRecord,
        means: Means,
        text: Option<&str>,
        session: (OlmSessionRecord, Session),
    ) -> Result<Draft> {
        let sealed = self.seal(link, card, &means, text, session)?;
        let mut outgoing = Outgoing {
            to: link.identity,
            phone: contact.phone.as_str().to_owned(),
            relay_url: link.relay_url.clone(),
            mailbox: link.mailbox,
            envelope: Base64(sealed.envelope),
            text: SecretText::new(text.unwrap_or_default()),
            written: self.now().seconds(),
            payment: Payment::Token,
            state: OutgoingState::Queued,
        };
        let (id, token, held, paid) = match means {
            Means::Token { mut token, reason } => {
                token.state = TokenState::Sending;
                let reason = reason.or(sealed.is_answered.then_some(NoReply::NeverHad));
                (token.serial(), Some(token), None, Paid::Token { reason })
            }
            Means::Reply { held, slot } => {
                let (id, presented) = self.presented(&outgoing, &slot, false)?;
                outgoing.payment = Payment::Reply(presented);
                (id, None, Some(held), Paid::Reply { left_in_epoch: slot.left })
            }
        };
        Ok(Draft { id, outgoing, session: sealed.session, contact, token, held, issued: sealed.issued, paid })
    }

    fn seal(
        &mut self,
        link: &CardLink,
        card: &Card,
        means: &Means,
        text: Option<&str>,
        (mut record, mut session): (OlmSessionRecord, Session),
    ) -> Result<Sealed> {
        let now = self.now();
        // Until something came back they may not know us yet: every pre-key message says who we are.
        let is_answered = session.has_received_message();
        let own_card = if is_answered { None } else { Some(self.own_card()?) };
        let (slot, held) = match means {
            Means::Reply { held, slot } => (Some(slot.slot), held.says(now)),
            Means::Token { .. } => {
                let held = self.profile.get::<HeldRecord>(&link.identity.to_string())?;
                (None, held.and_then(|held| held.says(now)))
            }
        };
        let mut payload = Payload {
            kind: if text.is_some() { Kind::Text } else { Kind::Hello },
            to: link.identity,
            sent_at: now.seconds(),
            slot,
            held,
            card: own_card,
            handover: Zeroizing::default(),
            text: SecretText::new(text.unwrap_or_default()),
        };
        let issued = self.hand_over(link, &mut payload)?;
        let plain = payload.encode().map_err(|_| Error::TextTooLong { max: MAX_TEXT })?;
        let message = session.encrypt(plain.as_slice()).map_err(|_| Error::Internal("Olm did not encrypt"))?;
        let hint = olm::hint(&session.session_id());
        let inner = Inner { hint, message }.encode();
        let envelope =
            envelope::seal(&mut self.rng, &card.sealing_key, &link.mailbox, &inner).map_err(sealing_error)?;
        record.update(&session)?;
        record.last_used = now.0;
        Ok(Sealed { envelope, session: (olm::name(hint), record), issued, is_answered })
    }

    /// Puts into the payload what the recipient is still to be handed, unless the text needs the room.
    fn hand_over(&mut self, link: &CardLink, payload: &mut Payload) -> Result<Option<IssuedRecord>> {
        let account = self.account()?;
        let Some(offer) = self.offer(&account, &link.identity)? else { return Ok(None) };
        payload.handover = offer.handover;
        let most = ENVELOPE_SIZES.into_iter().max().map_or(0, envelope::capacity).saturating_sub(OLM_ADDS);
        if payload.encode().is_ok_and(|plain| plain.len() <= most) {
            return Ok(Some(offer.issued));
        }
        payload.handover = Zeroizing::default();
        Ok(None)
    }

    fn store_draft(&mut self, draft: Draft) -> Result<()> {
        let peer = draft.outgoing.to.to_string();
        self.profile.tx(&mut self.rng, |t| {
            t.put(&draft.id, &draft.outgoing)?;
            t.put(&draft.session.0, &draft.session.1)?;
            t.put(&peer, &draft.contact)?;
            if let Some(token) = &draft.token {
                t.put(&draft.id, token)?;
            }
            if let Some(held) = &draft.held {
                t.put(&peer, held)?;
            }
            if let Some(issued) = &draft.issued {
                t.put(&peer, issued)?;
            }
            t.delete::<HelloJob>(&peer).map(drop)
        })
    }
}

/// There is no such card or mailbox (any more).
fn is_gone(error: &Error) -> bool {
    matches!(error.refusal(), Some(ProblemKind::CardUnknown | ProblemKind::MailboxUnknown))
}

fn sealing_error(error: envelope::SealError) -> Error {
    match error {
        envelope::SealError::TooLarge => Error::TextTooLong { max: MAX_TEXT },
        envelope::SealError::BadKey => Error::CardInvalid("its sealing key is not sound".to_owned()),
    }
}

#[cfg(test)]
#[path = "send/tests.rs"]
mod tests;
