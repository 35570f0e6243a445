//! Contact cards: signed by the certified identity key, and sealed for everybody who has the link.
//!
//! The key of the seal is made from what the link says (identity key and mailbox), so the relay that keeps the sealed card reads no
//! phone number out of it, and nobody can put another identity behind a link: the card must carry that very key, certified.

use postern_protocol::card::{Card, CardLink};
use postern_protocol::codec::{DecodeError, Reader, TooLong};
use postern_protocol::ids::{MailboxId, SigningPublicKey};
use postern_protocol::internal::MAX_SKEW_SECONDS;
use postern_protocol::time::Timestamp;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::certificate::{self, CertificateError, CertifiedSubject};
use crate::identity::{self, IdentityKey};
use crate::seal::{OVERHEAD, SealKey};
use crate::transcript::{hkdf_expand, hkdf_extract};

const LABEL: &str = "postern/card/v1";

/// Every sealed card has this many bytes, so that its size says nothing.
pub const SEALED_CARD: usize = 4096;

/// Why a card could not be signed or sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// A field, or the whole, is too long.
    #[error("the card is too long")]
    TooLong,
    /// The certificate in it cannot be read.
    #[error("the certificate in the card cannot be read")]
    Certificate,
}

impl From<TooLong> for MakeError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// Why a card is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not what the link says: another identity or mailbox, changed, or not a card at all.
    #[error("this is not the card that the link is for")]
    Malformed,
    /// Its certificate is not good.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Not signed by the certified key.
    #[error("the card is not signed by the key in its certificate")]
    BadSignature,
    /// Signed later than now: somebody's clock is more than [`MAX_SKEW_SECONDS`] wrong.
    #[error("the card was signed in the future")]
    FromTheFuture,
}

impl From<DecodeError> for CardError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// The card with its signature by `identity`, whatever was in that field before.
///
/// # Errors
/// [`TooLong`] if a field does not fit its length prefix.
pub fn sign(identity: &IdentityKey, mut card: Card) -> Result<Card, TooLong> {
    card.signature = identity.sign(LABEL, &card.signed_part()?);
    Ok(card)
}

/// Checks certificate, signature and time, and says whose card it is.
///
/// # Errors
/// [`CardError`].
pub fn verify(card: &Card, ca_der: &[u8], now: Timestamp) -> Result<CertifiedSubject, CardError> {
    let subject = certificate::verify(&card.certificate, ca_der, now)?;
    let signed = card.signed_part().map_err(|_| CardError::Malformed)?;
    identity::verify(&subject.key, LABEL, &signed, &card.signature).map_err(|_| CardError::BadSignature)?;
    if card.signed_at > now.seconds().saturating_add(MAX_SKEW_SECONDS) {
        return Err(CardError::FromTheFuture);
    }
    Ok(subject)
}

/// Seals a card for everybody who has its link: [`SEALED_CARD`] bytes.
///
/// # Errors
/// [`MakeError`] if it does not fit or its certificate cannot be read.
pub fn seal_card(rng: &mut impl CryptoRng, card: &Card) -> Result<Vec<u8>, MakeError> {
    let owner = certificate::subject_key(&card.certificate).map_err(|_| MakeError::Certificate)?;
    let bytes = Zeroizing::new(card.encode()?);
    let length = u16::try_from(bytes.len()).map_err(|_| MakeError::TooLong)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(SEALED_CARD));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&bytes);
    if plain.len() > SEALED_CARD - OVERHEAD {
        return Err(MakeError::TooLong);
    }
    plain.resize(SEALED_CARD - OVERHEAD, 0);
    Ok(link_key(&owner, &card.mailbox).seal(rng, LABEL.as_bytes(), &plain))
}

/// Opens the sealed card behind a link and checks everything: it must be the card of the link's identity and mailbox.
///
/// # Errors
/// [`CardError`].
pub fn open_card(
    link: &CardLink,
    sealed: &[u8],
    ca_der: &[u8],
    now: Timestamp,
) -> Result<(Card, CertifiedSubject), CardError> {
    if sealed.len() != SEALED_CARD {
        return Err(CardError::Malformed);
    }
    let key = link_key(&link.identity, &link.mailbox);
    let plain = key.open(LABEL.as_bytes(), sealed).map_err(|_| CardError::Malformed)?;
    let mut r = Reader::new(&plain);
    let card = Card::decode(r.bytes16()?)?;
    if r.rest().iter().any(|b| *b != 0) || card.mailbox != link.mailbox {
        return Err(CardError::Malformed);
    }
    let subject = verify(&card, ca_der, now)?;
    if subject.key == link.identity { Ok((card, subject)) } else { Err(CardError::Malformed) }
}

/// HKDF-SHA-256 of the identity key, info = label ‖ mailbox.
fn link_key(identity: &SigningPublicKey, mailbox: &MailboxId) -> SealKey {
    let prk = hkdf_extract(&[0; 32], &[identity.as_bytes()]);
    SealKey::new(*hkdf_expand(&prk, &[LABEL.as_bytes(), mailbox.as_bytes()]))
}

#[cfg(test)]
#[path = "card/tests.rs"]
mod tests;
