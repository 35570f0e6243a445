//! Opening one message: from the sealed envelope to "this text, from this number", or to junk with the reason.
//!
//! | step | what must hold, else junk |
//! |---|---|
//! | envelope | opens with one of our sealing keys, for our mailbox |
//! | Olm | known session, or a pre-key message for our keys |
//! | payload | well-formed, and meant for our identity key |
//! | sender | card with a certificate of our issuer, signed by the certified key, with the Olm key that the message was made with |
//!
//! Nothing here writes: what is to be stored comes back as one value.

use postern_credentials::card::verify;
use postern_credentials::envelope::{self, SealingKey};
use postern_protocol::card::Card;
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::send::QueuedMessage;
use postern_protocol::time::Timestamp;
use vodozemac::olm::OlmMessage;
use zeroize::Zeroizing;

use crate::client::Account;
use crate::contact::{ContactRecord, Standing};
use crate::error::{Error, Result};
use crate::olm::{self, Inbound, OlmAccountRecord, OlmSessionRecord};
use crate::payload::{Held, Inner, Kind, Payload};
use crate::profile::Profile;
use crate::read::{Folder, MessageRecord};
use crate::secret::SecretText;

/// What a message changes.
pub(crate) struct Opened {
    /// `None`: not to be shown.
    pub(crate) message: Option<MessageRecord>,
    pub(crate) session: Option<(String, OlmSessionRecord)>,
    /// Without the one-time key that the message was made with.
    pub(crate) account: Option<OlmAccountRecord>,
    pub(crate) contact: Option<(SigningPublicKey, ContactRecord)>,
    /// What it says besides its text, once its sender is certain.
    pub(crate) said: Option<Said>,
}

/// What concerns replies in a message, and from whom it is.
pub(crate) struct Said {
    pub(crate) from: SigningPublicKey,
    pub(crate) standing: Standing,
    /// Where their mailbox is.
    pub(crate) relay_url: String,
    pub(crate) sent_at: u64,
    pub(crate) slot: Option<u16>,
    pub(crate) held: Option<Held>,
    pub(crate) handover: Zeroizing<Vec<u8>>,
}

/// Why a message is junk; with its text if it could be read.
struct Junk {
    reason: String,
    text: Option<SecretText>,
    /// What opening it has begun with a one-time key: what else comes through that session must open, and the key goes.
    begun: Option<Box<Begun>>,
}

/// A session that begins with a message, and the account without the key that it used.
struct Begun {
    session: (String, OlmSessionRecord),
    account: OlmAccountRecord,
}

/// Either the message's fault or ours.
enum Bad {
    Junk(Junk),
    Failed(Error),
}

impl From<Error> for Bad {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn junk(reason: &str) -> Bad {
    Bad::Junk(Junk { reason: reason.to_owned(), text: None, begun: None })
}

/// Everything that opening needs.
pub(crate) struct Opener<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) account: &'a Account,
    pub(crate) keys: &'a [SealingKey],
    pub(crate) now: Timestamp,
}

/// An Olm message without its encryption.
struct Decrypted {
    name: String,
    record: Option<OlmSessionRecord>,
    session: vodozemac::olm::Session,
    plain: Zeroizing<Vec<u8>>,
    account: Option<OlmAccountRecord>,
}

impl Opener<'_> {
    /// Opens a message; what is wrong with it makes it junk, and only failures of the profile are errors.
    pub(crate) fn open(&self, queued: &QueuedMessage) -> Result<Opened> {
        match self.try_open(queued) {
            Ok(opened) => Ok(opened),
            Err(Bad::Failed(error)) => Err(error),
            Err(Bad::Junk(junk)) => {
                let mut message = MessageRecord::junk(queued, self.now, junk.reason);
                message.text = junk.text;
                let (session, account) = junk.begun.map(|begun| (begun.session, begun.account)).unzip();
                Ok(Opened { message: Some(message), session, account, contact: None, said: None })
            }
        }
    }

    fn try_open(&self, queued: &QueuedMessage) -> std::result::Result<Opened, Bad> {
        let inner = self.unseal(queued)?;
        let decrypted = self.decrypt(&inner)?;
        self.read(queued, &inner, &decrypted).map_err(|bad| match bad {
            Bad::Junk(junk) => match begun(&decrypted) {
                Ok(begun) => Bad::Junk(Junk { begun, ..junk }),
                Err(error) => Bad::Failed(error),
            },
            failed @ Bad::Failed(_) => failed,
        })
    }

    fn read(&self, queued: &QueuedMessage, inner: &Inner, decrypted: &Decrypted) -> std::result::Result<Opened, Bad> {
        let payload = Payload::decode(&decrypted.plain).map_err(|_| junk("what is in it cannot be read"))?;
        let text = payload.text.clone();
        // From here on there is a text to show beside the reason.
        let with_text = |bad: Bad| match bad {
            Bad::Junk(junk) => Bad::Junk(Junk { text: Some(text), ..junk }),
            failed @ Bad::Failed(_) => failed,
        };
        let (peer, contact) = self.sender(inner, decrypted, &payload).map_err(with_text)?;
        let session = Some((decrypted.name.clone(), self.advanced(decrypted, peer)?));
        let account = decrypted.account.clone();
        if payload.kind == Kind::Hello && self.profile.get::<ContactRecord>(&peer.to_string())?.is_none() {
            // A stranger has to write something to be taken note of.
            return Ok(Opened { message: None, session, account, contact: None, said: None });
        }
        let message = match (payload.kind, contact.standing) {
            (Kind::Hello, _) | (_, Standing::Blocked) => None,
            (Kind::Text, _) => Some(self.message(queued, &payload, &peer, &contact)?),
        };
        let said = Said {
            from: peer,
            standing: contact.standing,
            relay_url: contact.card()?.relay_url,
            sent_at: payload.sent_at,
            slot: payload.slot,
            held: payload.held,
            handover: payload.handover,
        };
        Ok(Opened { message, session, account, contact: Some((peer, contact)), said: Some(said) })
    }

    fn message(
        &self,
        queued: &QueuedMessage,
        payload: &Payload,
        peer: &SigningPublicKey,
        contact: &ContactRecord,
    ) -> Result<MessageRecord> {
        let mut message = MessageRecord::new(queued, self.now, folder(contact.standing));
        message.from = Some(*peer);
        message.phone = Some(contact.phone.as_str().to_owned());
        message.sent_at = Some(payload.sent_at);
        message.text = Some(payload.text.clone());
        message.warning = self.warning(peer, contact)?;
        if contact.standing == Standing::Spam {
            message.reason = Some("you reported its sender as spam".to_owned());
        }
        Ok(message)
    }

    /// The session's row after this message.
    fn advanced(&self, decrypted: &Decrypted, peer: SigningPublicKey) -> Result<OlmSessionRecord> {
        let mut record = match &decrypted.record {
            Some(record) => record.clone(),
            None => OlmSessionRecord::of(None, &decrypted.session)?,
        };
        record.peer = Some(peer);
        record.update(&decrypted.session)?;
        record.last_received = self.now.0;
        Ok(record)
    }

    fn unseal(&self, queued: &QueuedMessage) -> std::result::Result<Inner, Bad> {
        let sealed = &queued.envelope.0;
        let open = |key: &SealingKey| envelope::open(key, &self.account.mailbox, sealed).ok();
        let plain = self.keys.iter().find_map(open);
        let plain = plain.ok_or_else(|| junk("it is damaged, or sealed to a key that is gone"))?;
        Inner::decode(&plain).map_err(|_| junk("what is in it cannot be read"))
    }

    fn decrypt(&self, inner: &Inner) -> std::result::Result<Decrypted, Bad> {
        let name = olm::name(inner.hint);
        if let Some(record) = self.profile.get::<OlmSessionRecord>(&name)? {
            let mut session = record.session()?;
            let plain = session.decrypt(&inner.message).map_err(|_| junk("it does not decrypt, or came before"))?;
            let plain = Zeroizing::new(plain);
            return Ok(Decrypted { name, record: Some(record), session, plain, account: None });
        }
        let OlmMessage::PreKey(message) = &inner.message else {
            return Err(junk("it belongs to a conversation that this profile does not know"));
        };
        let made = olm::inbound(self.profile, message)?;
        let Inbound { session, plain, account } = made.ok_or_else(|| junk("it is not for the keys of this profile"))?;
        let name = olm::name(olm::hint(&session.session_id()));
        Ok(Decrypted { name, record: None, session, plain, account })
    }

    /// Who wrote it: whom the card's certificate names, or whose the session is.
    fn sender(
        &self,
        inner: &Inner,
        decrypted: &Decrypted,
        payload: &Payload,
    ) -> std::result::Result<(SigningPublicKey, ContactRecord), Bad> {
        if payload.to != self.account.identity.public() {
            return Err(junk("it was meant for somebody else"));
        }
        let known_peer = decrypted.record.as_ref().and_then(|record| record.peer);
        match (&payload.card, known_peer) {
            (Some(card), peer) => self.sender_by_card(inner, card, peer),
            (None, Some(peer)) => {
                let contact = self.profile.get::<ContactRecord>(&peer.to_string())?;
                Ok((peer, contact.ok_or_else(|| junk("its sender is not known"))?))
            }
            (None, None) => Err(junk("it does not say who sent it")),
        }
    }

    fn sender_by_card(
        &self,
        inner: &Inner,
        card: &Card,
        known_peer: Option<SigningPublicKey>,
    ) -> std::result::Result<(SigningPublicKey, ContactRecord), Bad> {
        let subject = verify(card, &self.account.pins.ca_certificate.0, self.now)
            .map_err(|error| junk(&format!("its sender is not certified: {error}")))?;
        if olm::sender_of(&inner.message).is_some_and(|key| key != card.olm_identity) {
            return Err(junk("it was not made with the key in its sender's card"));
        }
        if known_peer.is_some_and(|peer| peer != subject.key) || subject.key == self.account.identity.public() {
            return Err(junk("it carries the card of somebody else"));
        }
        let contact = match self.profile.get::<ContactRecord>(&subject.key.to_string())? {
            Some(mut contact) => {
                contact.refresh(card)?;
                // Who was declined and writes again asks again.
                if contact.standing == Standing::Declined {
                    contact.standing = Standing::Request;
                }
                contact
            }
            None => ContactRecord::new(subject.phone, card, Standing::Request, self.now.seconds())?,
        };
        Ok((subject.key, contact))
    }

    /// A number that had another key before: a new phone, or somebody else who has the number now.
    fn warning(&self, peer: &SigningPublicKey, contact: &ContactRecord) -> Result<Option<String>> {
        let own = peer.to_string();
        let others = self.profile.list::<ContactRecord>()?;
        let changed = others
            .iter()
            .any(|(key, other)| *key != own && other.phone == contact.phone && other.standing == Standing::Contact);
        Ok(changed
            .then(|| "this number has a new identity: ask over another way whether it is still the same person".into()))
    }
}

/// What a message has begun by a one-time key, with nobody at its other end yet.
fn begun(decrypted: &Decrypted) -> Result<Option<Box<Begun>>> {
    let Some(account) = decrypted.account.clone() else { return Ok(None) };
    let session = (decrypted.name.clone(), OlmSessionRecord::of(None, &decrypted.session)?);
    Ok(Some(Box::new(Begun { session, account })))
}

fn folder(standing: Standing) -> Folder {
    match standing {
        Standing::Contact => Folder::Inbox,
        Standing::Request | Standing::Declined => Folder::Requests,
        // Nothing of who is blocked is shown anyway.
        Standing::Spam | Standing::Blocked => Folder::Junk,
    }
}
