//! The cold send: one token, one message, no name on it.
//!
//! 1. The recipient's card is fetched anonymously and checked against the link (`card`).
//! 2. The text goes into an Olm message, that into an envelope sealed to the card's key (`payload`, `olm`).
//! 3. The exact envelope and the token it takes are on disk before anything is sent.
//! 4. It is sent anonymously. 201: the token is out. Lost on the way: the identical bytes go again, now or at the next `sync`.
//!    Refused: the token is back, and the user is told why.
//!
//! The relay learns that somebody wrote to this mailbox. A reply to a contact costs a token as well in this version: reply credentials
//! come later.

use std::fmt;

use postern_credentials::envelope;
use postern_protocol::card::{Card, CardLink};
use postern_protocol::ids::{Base64, ChallengeDigest, MailboxId, SigningPublicKey};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::{RELAY_INFO_PATH, RelayInfo, send_path};
use postern_protocol::time::Clock;
use postern_protocol::tokens::authorization;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::channel::{OCTETS, Request};
use crate::client::Client;
use crate::contact::{ContactRecord, Standing};
use crate::error::{Error, Result};
use crate::exchange::ExchangeJob;
use crate::olm::{self, OlmSessionRecord};
use crate::payload::{Inner, MAX_TEXT, Payload};
use crate::profile::Record;
use crate::secret::SecretText;
use crate::tokens::{TokenRecord, TokenState};

/// To whom. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// Whoever the link names.
    Link(CardLink),
    /// A contact: number, or the first letters of the id.
    Contact(String),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link(_) => "Target::Link(..)",
            Self::Contact(_) => "Target::Contact(..)",
        })
    }
}

impl std::str::FromStr for Target {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.trim_start().starts_with("postern:") {
            let link =
                text.parse().map_err(|_| Error::Invalid("this card link is incomplete or changed".to_owned()))?;
            Ok(Self::Link(link))
        } else {
            Ok(Self::Contact(text.to_owned()))
        }
    }
}

/// A message on its way; its key is the serial of its token, which is also its id at the relay.
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
    /// The recipient has written before: this was a reply, which will cost no token in a later version.
    pub to_contact: bool,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivery, tokens_left, .. } = self;
        f.debug_struct("Sent").field("delivery", delivery).field("tokens_left", tokens_left).finish_non_exhaustive()
    }
}

/// Everything that was decided about a message before it is stored.
struct Draft {
    id: String,
    token: TokenRecord,
    outgoing: Outgoing,
    session: (String, OlmSessionRecord),
    contact: ContactRecord,
    /// Something came back before.
    is_reply: bool,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Writes to somebody. When it returns, the message is at the relay, or on disk and sent again by itself.
    ///
    /// # Errors
    /// [`Error::NoToken`], [`Error::NotAnonymous`], [`Error::CardInvalid`], [`Error::OwnCard`], [`Error::TextTooLong`], [`Error::NotFound`];
    /// [`Error::Refused`] if the relay does not take it: nothing was sent then, and the token is back.
    pub async fn send(&mut self, target: &Target, text: &str) -> Result<Sent> {
        self.profile.verify()?;
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { max: MAX_TEXT });
        }
        let link = match target {
            Target::Link(link) => link.clone(),
            Target::Contact(name) => self.contact_link(name)?,
        };
        if link.identity == self.own_key()? {
            return Err(Error::OwnCard);
        }
        let challenge = self.challenge_at(&link.relay_url).await?;
        let token = self.pick_token(&challenge, &link.mailbox)?;
        let (card, subject) = self.fetch_card(&link).await?;
        let known = self.profile.get::<ContactRecord>(&link.identity.to_string())?;
        let now = self.now().seconds();
        let mut contact = match known {
            Some(known) => known,
            None => ContactRecord::new(subject.phone.clone(), &card, Standing::Contact, now)?,
        };
        contact.standing = Standing::Contact;
        contact.refresh(&card)?;
        let draft = self.draft(&link, &card, contact, token, text)?;
        let to_contact = draft.is_reply;
        let (id, phone) = (draft.id.clone(), subject.phone.as_str().to_owned());
        self.store_draft(draft)?;
        let delivery = self.deliver(&id).await?;
        Ok(Sent { id, phone, delivery, tokens_left: self.tokens()?.left, to_contact })
    }

    /// What a token must answer at this relay: known for the own one, asked anonymously of others.
    async fn challenge_at(&mut self, relay_url: &str) -> Result<ChallengeDigest> {
        if relay_url == self.account()?.relay.url {
            return self.own_challenge();
        }
        let reply = self.send_anonymously(&Request::get(relay_url, RELAY_INFO_PATH)?).await?;
        let info: RelayInfo = reply.json()?;
        Ok(ChallengeDigest(Sha256::digest(&info.challenge.0).into()))
    }

    /// Encrypts, in memory only.
    fn draft(
        &mut self,
        link: &CardLink,
        card: &Card,
        contact: ContactRecord,
        mut token: TokenRecord,
        text: &str,
    ) -> Result<Draft> {
        let now = self.now();
        let (mut record, mut session) = olm::session_for(&self.profile, &link.identity, card)?;
        // Until something came back they may not know us yet: every pre-key message says who we are.
        let is_reply = session.has_received_message();
        let own_card = if is_reply { None } else { Some(self.own_card()?) };
        let payload =
            Payload { to: link.identity, sent_at: now.seconds(), card: own_card, text: SecretText::new(text) };
        let plain = payload.encode().map_err(|_| Error::TextTooLong { max: MAX_TEXT })?;
        let message = session.encrypt(plain.as_slice()).map_err(|_| Error::Internal("Olm did not encrypt"))?;
        let hint = olm::hint(&session.session_id());
        let inner = Inner { hint, message }.encode();
        let envelope =
            envelope::seal(&mut self.rng, &card.sealing_key, &link.mailbox, &inner).map_err(sealing_error)?;
        record.update(&session)?;
        record.last_used = now.0;
        token.state = TokenState::Sending;
        let outgoing = Outgoing {
            to: link.identity,
            phone: contact.phone.as_str().to_owned(),
            relay_url: link.relay_url.clone(),
            mailbox: link.mailbox,
            envelope: Base64(envelope),
            text: SecretText::new(text),
            written: now.seconds(),
            state: OutgoingState::Queued,
        };
        Ok(Draft { id: token.serial(), token, outgoing, session: (olm::name(hint), record), contact, is_reply })
    }

    fn store_draft(&mut self, draft: Draft) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            t.put(&draft.id, &draft.token)?;
            t.put(&draft.id, &draft.outgoing)?;
            t.put(&draft.session.0, &draft.session.1)?;
            t.put(&draft.outgoing.to.to_string(), &draft.contact)
        })
    }

    /// Sends every message that is not confirmed again, byte for byte. How many were delivered, and what failed.
    ///
    /// # Errors
    /// A damaged profile.
    pub async fn retry_outgoing(&mut self) -> Result<(usize, Vec<Error>)> {
        let (mut delivered, mut failed) = (0, Vec::new());
        for (id, outgoing) in self.profile.list::<Outgoing>()? {
            if outgoing.state != OutgoingState::Queued {
                continue;
            }
            match self.deliver(&id).await {
                Ok(Delivery::Delivered) => delivered += 1,
                Ok(Delivery::Queued(error)) | Err(error) => {
                    let pointless = matches!(error, Error::Network { .. } | Error::NotAnonymous { .. });
                    failed.push(error);
                    if pointless {
                        break;
                    }
                }
            }
        }
        Ok((delivered, failed))
    }

    /// How many messages are not confirmed.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn queued_messages(&self) -> Result<usize> {
        let all = self.profile.list::<Outgoing>()?;
        Ok(all.iter().filter(|(_, outgoing)| outgoing.state == OutgoingState::Queued).count())
    }

    async fn deliver(&mut self, id: &str) -> Result<Delivery> {
        let outgoing = self.profile.get::<Outgoing>(id)?.ok_or(Error::NotFound("message"))?;
        let token = self.profile.get::<TokenRecord>(id)?.ok_or(Error::NotFound("token"))?;
        let request = Request::new(http::Method::POST, &outgoing.relay_url, &send_path(&outgoing.mailbox))?
            .authorization(authorization(&token.token()?))
            .body(OCTETS, outgoing.envelope.0.clone());
        let answer = match self.send_anonymously(&request).await {
            Ok(reply) => reply.success().map(drop),
            Err(error) => Err(error),
        };
        match answer {
            Ok(()) => self.settle_delivery(id, outgoing, token).map(|()| Delivery::Delivered),
            // A relay that does not keep to the protocol may have taken it all the same.
            Err(error @ Error::Misbehaved(_)) => Ok(Delivery::Queued(error)),
            Err(error) if error.is_passing() => Ok(Delivery::Queued(error)),
            Err(error @ Error::Refused(_)) => self.settle_rejection(id, outgoing, token, error).await,
            // Not sent at all: no anonymous way.
            Err(error) => Ok(Delivery::Queued(error)),
        }
    }

    /// Accepted: the token is out, and at random times the relay is asked whether it came back.
    fn settle_delivery(&mut self, id: &str, outgoing: Outgoing, mut token: TokenRecord) -> Result<()> {
        let now = self.now().seconds();
        let interval = self.settings()?.exchange_interval_seconds;
        let job = ExchangeJob::new(self.some_time_about(interval));
        token.state = TokenState::Out { since: now, to: outgoing.phone.clone() };
        let state = OutgoingState::Delivered { at: now };
        let outgoing = Outgoing { envelope: Base64::default(), state, ..outgoing };
        self.profile.tx(&mut self.rng, |t| {
            t.put(id, &token)?;
            t.put(id, &outgoing)?;
            t.put(id, &job)
        })
    }

    /// Refused for good: the message has failed, and the token is back unless the relay knows it as spent.
    async fn settle_rejection(
        &mut self,
        id: &str,
        outgoing: Outgoing,
        mut token: TokenRecord,
        error: Error,
    ) -> Result<Delivery> {
        let now = self.now();
        let spent_before = error.refusal() == Some(ProblemKind::TokenAttached);
        token.state = if spent_before {
            TokenState::Out { since: now.seconds(), to: "?".to_owned() }
        } else {
            TokenState::Unspent { shown_to: Some(outgoing.mailbox) }
        };
        let code = error.refusal().map_or("refused", ProblemKind::slug).to_owned();
        let outgoing = Outgoing { envelope: Base64::default(), state: OutgoingState::Failed { code }, ..outgoing };
        self.profile.tx(&mut self.rng, |t| {
            t.put(id, &token)?;
            t.put(id, &outgoing)?;
            if spent_before { t.put(id, &ExchangeJob::new(now)) } else { Ok(()) }
        })?;
        if error.refusal() == Some(ProblemKind::TokenInvalid) {
            // Perhaps its key was retired; then it is written off. The refusal is what the user must hear in any case.
            drop(self.refresh_keys().await);
        }
        Err(error)
    }
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
