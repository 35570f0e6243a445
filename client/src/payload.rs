//! What is in an envelope, inside both encryptions. Binary, big-endian; `docs/protocol.md` has the same table.
//!
//! ```text
//! inner   := version u8 = 1 ‖ session hint (8) ‖ olm type u8 (0 pre-key, 1 normal) ‖ olm message (rest)
//! payload := version u8 = 1 ‖ kind u8 (1 text) ‖ to (32) ‖ sent_at u64 ‖ card (u16 length ‖ bytes) ‖ text (UTF-8, rest)
//! ```
//!
//! `inner` is what the sealed envelope holds; `payload` is the plaintext of the Olm message in it. The hint tells the recipient which Olm
//! session to try; only they can read it. `to` is the identity key of the recipient that was meant: a card with somebody else's Olm keys
//! in it gets nobody a message that was not for them. The card is there in every pre-key message, and empty after that.

use std::fmt;

use postern_protocol::card::Card;
use postern_protocol::codec::{DecodeError, Reader, TooLong, put_bytes16};
use postern_protocol::ids::SigningPublicKey;
use vodozemac::olm::OlmMessage;
use zeroize::Zeroizing;

use crate::secret::SecretText;

const VERSION: u8 = 1;
const KIND_TEXT: u8 = 1;

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
        let mut out = vec![VERSION];
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
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid("envelope version"));
        }
        let hint = SessionHint(r.array()?);
        let kind = usize::from(r.u8()?);
        let message = OlmMessage::from_parts(kind, r.rest()).map_err(|_| DecodeError::Invalid("olm message"))?;
        Ok(Self { hint, message })
    }
}

/// The plaintext of the Olm message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Whom it is for: their identity key.
    pub to: SigningPublicKey,
    /// When it was written, Unix seconds, by the sender's clock.
    pub sent_at: u64,
    /// The sender's card, in pre-key messages.
    pub card: Option<Card>,
    /// What was written.
    pub text: SecretText,
}

impl Payload {
    /// As above.
    ///
    /// # Errors
    /// [`TooLong`] if the card does not fit.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        let card = self.card.as_ref().map(Card::encode).transpose()?.unwrap_or_default();
        let text = self.text.expose().as_bytes();
        let mut out = Zeroizing::new(Vec::with_capacity(64 + card.len() + text.len()));
        out.extend_from_slice(&[VERSION, KIND_TEXT]);
        out.extend_from_slice(self.to.as_bytes());
        out.extend_from_slice(&self.sent_at.to_be_bytes());
        put_bytes16(&mut out, &card)?;
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
        if r.u8()? != KIND_TEXT {
            return Err(DecodeError::Invalid("payload kind"));
        }
        let to = SigningPublicKey(r.array()?);
        let sent_at = r.u64()?;
        let card = match r.bytes16()? {
            [] => None,
            bytes => Some(Card::decode(bytes)?),
        };
        let text = std::str::from_utf8(r.rest()).map_err(|_| DecodeError::Invalid("text"))?;
        Ok(Self { to, sent_at, card, text: SecretText::new(text) })
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
        Payload { to: SigningPublicKey([9; 32]), sent_at: 1_700_000_000, card, text: SecretText::new(text) }
    }

    #[test]
    fn a_payload_reads_back_with_and_without_a_card() {
        for payload in [payload(None, "grüezi"), payload(Some(card()), ""), payload(Some(card()), "a\0b")] {
            assert_eq!(Payload::decode(&payload.encode().unwrap()), Ok(payload));
        }
    }

    #[test]
    fn a_payload_cut_before_its_text_is_refused() {
        let bytes = payload(Some(card()), "").encode().unwrap();
        for n in 0..bytes.len() {
            assert!(Payload::decode(&bytes[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn a_payload_of_another_version_kind_or_alphabet_is_refused() {
        let bytes = payload(None, "x").encode().unwrap();
        for at in [0, 1] {
            let mut bad = bytes.to_vec();
            bad[at] = 9;
            assert!(Payload::decode(&bad).is_err());
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
