//! What is in an envelope, inside both encryptions. Binary, big-endian; `docs/protocol.md` has the same table.
//!
//! ```text
//! inner   := version u8 = 1 ‖ session hint (8) ‖ olm type u8 (0 pre-key, 1 normal) ‖ olm message (rest)
//! payload := version u8 = 2 ‖ kind u8 (1 text, 2 hello) ‖ to (32) ‖ sent_at u64 ‖ slot u16 (0xffff: admitted by token) ‖
//!            held key version u32 ‖ held through period u32 (0, 0: none) ‖ card (u16 length ‖ bytes) ‖
//!            handover (u16 length ‖ bytes) ‖ text (UTF-8, rest; empty in a hello)
//! ```
//!
//! `inner` is what the sealed envelope holds; `payload` is the plaintext of the Olm message in it. The hint tells the recipient which Olm
//! session to try; only they can read it. `to` is the identity key of the recipient that was meant: a card with somebody else's Olm keys
//! in it gets nobody a message that was not for them. The card is there in every pre-key message, and empty after that.
//!
//! `slot` is the slot of the reply credential that the message came by, which finds its sender at the first try. `held …` says which of the
//! recipient's credentials the writer has, so that the recipient hands over what is missing. `handover` is a
//! [`postern_protocol::reply::Handover`], or empty. A hello brings credentials only, and is never shown.

use std::fmt;

use postern_protocol::card::Card;
use postern_protocol::codec::{DecodeError, Reader, TooLong, put_bytes16};
use postern_protocol::ids::SigningPublicKey;
use serde::{Deserialize, Serialize};
use vodozemac::olm::OlmMessage;
use zeroize::Zeroizing;

use crate::secret::SecretText;

/// Of `inner`.
const INNER_VERSION: u8 = 1;
/// Of `payload`. Version 1 had no reply credentials.
const VERSION: u8 = 2;
/// In place of a slot: a token paid.
const NO_SLOT: u16 = 0xffff;

/// The longest text that one envelope carries with a card beside it, bytes. (The largest envelope holds 64 KiB; the rest is cards,
/// headers and padding.)
pub const MAX_TEXT: usize = 60_000;

/// Names an Olm session to its two ends: the first 8 bytes of a hash of its id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionHint(pub [u8; 8]);

impl fmt::Debug for SessionHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionHint(..)")
    }
}

/// What the sealed envelope holds.
#[derive(Clone, Debug)]
pub struct Inner {
    /// Which session.
    pub hint: SessionHint,
    /// The Olm message.
    pub message: OlmMessage,
}

impl Inner {
    /// As above.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, bytes) = self.message.to_parts();
        let mut out = vec![INNER_VERSION];
        out.extend_from_slice(&self.hint.0);
        // 0 or 1: Olm has no others.
        out.push(u8::from(kind != 0));
        out.extend_from_slice(&bytes);
        out
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != INNER_VERSION {
            return Err(DecodeError::Invalid("envelope version"));
        }
        let hint = SessionHint(r.array()?);
        let kind = usize::from(r.u8()?);
        let message = OlmMessage::from_parts(kind, r.rest()).map_err(|_| DecodeError::Invalid("olm message"))?;
        Ok(Self { hint, message })
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be read.
    Text,
    /// Brings reply credentials, and has no text.
    Hello,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Hello => 2,
        }
    }
}

/// Which of the recipient's reply credentials the writer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Version of the recipient's group secret, from 1.
    pub key_version: u32,
    /// Every period up to this one.
    pub through: u32,
}

/// The plaintext of the Olm message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// To be read, or not.
    pub kind: Kind,
    /// Whom it is for: their identity key.
    pub to: SigningPublicKey,
    /// When it was written, Unix seconds, by the sender's clock.
    pub sent_at: u64,
    /// The slot of the reply credential that it came by; `None`: a token.
    pub slot: Option<u16>,
    /// Which of the recipient's credentials the writer holds.
    pub held: Option<Held>,
    /// The sender's card, in pre-key messages.
    pub card: Option<Card>,
    /// An encoded [`postern_protocol::reply::Handover`], not read yet: one that is malformed spoils no message. Empty: none.
    pub handover: Zeroizing<Vec<u8>>,
    /// What was written.
    pub text: SecretText,
}

impl Payload {
    /// As above.
    ///
    /// # Errors
    /// [`TooLong`] if the card or the handover does not fit.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        let card = self.card.as_ref().map(Card::encode).transpose()?.unwrap_or_default();
        let text = self.text.expose().as_bytes();
        let mut out = Zeroizing::new(Vec::with_capacity(64 + card.len() + self.handover.len() + text.len()));
        out.extend_from_slice(&[VERSION, self.kind.byte()]);
        out.extend_from_slice(self.to.as_bytes());
        out.extend_from_slice(&self.sent_at.to_be_bytes());
        out.extend_from_slice(&self.slot.unwrap_or(NO_SLOT).to_be_bytes());
        let (key_version, through) = self.held.map_or((0, 0), |held| (held.key_version, held.through));
        out.extend_from_slice(&key_version.to_be_bytes());
        out.extend_from_slice(&through.to_be_bytes());
        put_bytes16(&mut out, &card)?;
        put_bytes16(&mut out, &self.handover)?;
        out.extend_from_slice(text);
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form; says nothing about who wrote it.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid("payload version"));
        }
        let kind = match r.u8()? {
            1 => Kind::Text,
            2 => Kind::Hello,
            _ => return Err(DecodeError::Invalid("payload kind")),
        };
        let to = SigningPublicKey(r.array()?);
        let sent_at = r.u64()?;
        let slot = Some(r.u16()?).filter(|slot| *slot != NO_SLOT);
        let held = Held { key_version: r.u32()?, through: r.u32()? };
        let held = match held {
            Held { key_version: 0, through: 0 } => None,
            Held { key_version: 0, .. } => return Err(DecodeError::Invalid("held credentials")),
            held => Some(held),
        };
        let card = match r.bytes16()? {
            [] => None,
            bytes => Some(Card::decode(bytes)?),
        };
        let handover = Zeroizing::new(r.bytes16()?.to_vec());
        let text = std::str::from_utf8(r.rest()).map_err(|_| DecodeError::Invalid("text"))?;
        if kind == Kind::Hello && !text.is_empty() {
            return Err(DecodeError::Invalid("hello"));
        }
        Ok(Self { kind, to, sent_at, slot, held, card, handover, text: SecretText::new(text) })
    }
}

#[cfg(test)]
mod tests {
    use postern_protocol::ids::{DhPublicKey, MailboxId, SealingPublicKey, Signature};

    use super::*;

    fn card() -> Card {
        Card {
            certificate: vec![1; 400],
            relay_url: "https://relay.example".into(),
            mailbox: MailboxId([2; 32]),
            sealing_key: SealingPublicKey([3; 1216]),
            olm_identity: DhPublicKey([4; 32]),
            olm_fallback: DhPublicKey([5; 32]),
            signed_at: 6,
            signature: Signature([7; 64]),
        }
    }

    fn payload(card: Option<Card>, text: &str) -> Payload {
        Payload {
            kind: Kind::Text,
            to: SigningPublicKey([9; 32]),
            sent_at: 1_700_000_000,
            slot: None,
            held: None,
            card,
            handover: Vec::new().into(),
            text: SecretText::new(text),
        }
    }

    fn reply() -> Payload {
        let held = Some(Held { key_version: 1, through: 2977 });
        Payload { slot: Some(15), held, handover: vec![8; 2253].into(), ..payload(None, "yes") }
    }

    #[test]
    fn a_payload_reads_back_with_and_without_a_card_and_what_is_for_replies() {
        let hello = Payload { kind: Kind::Hello, ..payload(None, "") };
        for payload in
            [payload(None, "grüezi"), payload(Some(card()), ""), payload(Some(card()), "a\0b"), reply(), hello]
        {
            assert_eq!(Payload::decode(&payload.encode().unwrap()), Ok(payload));
        }
    }

    #[test]
    fn a_payload_cut_before_its_text_is_refused() {
        let bytes = Payload { card: Some(card()), text: SecretText::new(""), ..reply() }.encode().unwrap();
        for n in 0..bytes.len() {
            assert!(Payload::decode(&bytes[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn a_payload_of_another_version_kind_or_alphabet_is_refused() {
        let bytes = payload(None, "x").encode().unwrap();
        // Version 1 as well: it says nothing of replies.
        // And credentials of no key, which would have no other spelling (46 to 51: key version, through).
        for (at, byte) in [(0, 9), (0, 1), (1, 9), (1, 2), (51, 1)] {
            let mut bad = bytes.to_vec();
            bad[at] = byte;
            assert!(Payload::decode(&bad).is_err(), "byte {at} = {byte}");
        }
        let mut bad = bytes.to_vec();
        *bad.last_mut().unwrap() = 0xff;
        assert_eq!(Payload::decode(&bad), Err(DecodeError::Invalid("text")));
    }

    #[test]
    fn an_inner_part_reads_back_and_its_truncations_do_not() {
        let alice = vodozemac::olm::Account::new();
        let mut bob = vodozemac::olm::Account::new();
        bob.generate_fallback_key();
        let fallback = *bob.fallback_key().values().next().unwrap();
        let config = vodozemac::olm::SessionConfig::version_1();
        let mut session = alice.create_outbound_session(config, bob.curve25519_key(), fallback).unwrap();
        let message = session.encrypt("hello").unwrap();
        let inner = Inner { hint: SessionHint([1; 8]), message: message.clone() };
        let bytes = inner.encode();
        let back = Inner::decode(&bytes).unwrap();
        assert!(back.hint == inner.hint && back.message == message);
        for n in 0..10 {
            assert!(Inner::decode(&bytes[..n]).is_err(), "{n}");
        }
    }
}
