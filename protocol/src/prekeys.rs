//! One-time prekeys: Olm keys for one first message each, kept by the relay beside the card. Whoever holds a card link claims one;
//! when there is none, the card's fallback key serves.
//!
//! ```text
//! prekey := version u8 = 1 ‖ Olm one-time key (32) ‖ signature (64)       97 bytes, sealed 138
//! upload := batch u64 ‖ 1 to 100 × sealed prekey (138)
//! claim  := 32 random bytes
//! ```

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader};
use crate::ids::{DhPublicKey, MailboxId, PrekeyClaim, SealedPrekey, Signature};
use crate::send::MAILBOXES_PATH;

/// `PUT` [`PrekeyUpload`] (`application/octet-stream`) with a mailbox JWT: adds to the supply → [`PrekeySupply`].
/// `GET` with a mailbox JWT → [`PrekeySupply`].
pub const OWN_PREKEYS_PATH: &str = "/v1/mailbox/prekeys";

/// `POST`, anonymous: body is a [`PrekeyClaim`], `application/octet-stream` → 200 a sealed prekey, `application/octet-stream`; or 204: the
/// supply is used up.
pub fn claim_path(mailbox: &MailboxId) -> String {
    format!("{MAILBOXES_PATH}/{mailbox}/prekey")
}

/// The most prekeys in one upload.
pub const MAX_PREKEYS: usize = 100;
/// The longest upload, bytes.
pub const MAX_PREKEY_UPLOAD: usize = BATCH_LEN + MAX_PREKEYS * SealedPrekey::LEN;
/// Length of a claim, bytes.
pub const PREKEY_CLAIM_LEN: usize = PrekeyClaim::LEN;
/// Length of the number of a batch, bytes.
const BATCH_LEN: usize = 8;

/// An Olm one-time key that its owner has signed. Travels sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prekey {
    /// The key.
    pub key: DhPublicKey,
    /// By the certified identity key over [`Self::signed_part`].
    pub signature: Signature,
}

impl Prekey {
    /// Length of [`Self::encode`]'s form, bytes.
    pub const LEN: usize = 1 + DhPublicKey::LEN + Signature::LEN;
    const VERSION: u8 = 1;

    /// What the signature covers: version, mailbox and key, 65 bytes.
    pub fn signed_part(mailbox: &MailboxId, key: &DhPublicKey) -> Vec<u8> {
        [&[Self::VERSION], mailbox.as_bytes().as_slice(), key.as_bytes()].concat()
    }

    /// [`Self::LEN`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&[Self::VERSION], self.key.as_bytes().as_slice(), self.signature.as_bytes()].concat()
    }

    /// Reads [`Self::encode`]'s form; says nothing about the signature.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != Self::VERSION {
            return Err(DecodeError::Invalid("prekey version"));
        }
        let prekey = Self { key: DhPublicKey(r.array()?), signature: Signature(r.array()?) };
        r.finish()?;
        Ok(prekey)
    }
}

/// What an owner adds to the supply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrekeyUpload {
    /// Counts the owner's uploads, from 1. The relay takes only what is above the last, and the last again byte for byte: what was
    /// claimed never comes back by a repetition.
    pub batch: u64,
    /// 1 to [`MAX_PREKEYS`]. Those of older batches are handed out first.
    pub prekeys: Vec<SealedPrekey>,
}

impl PrekeyUpload {
    /// As above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.batch.to_be_bytes().to_vec();
        for prekey in &self.prekeys {
            out.extend_from_slice(prekey.as_bytes());
        }
        out
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let batch = r.u64()?;
        // The largest number that every database holds.
        if batch == 0 || i64::try_from(batch).is_err() {
            return Err(DecodeError::Invalid("prekey batch"));
        }
        let (prekeys, rest) = r.rest().as_chunks::<{ SealedPrekey::LEN }>();
        if !rest.is_empty() || prekeys.is_empty() || prekeys.len() > MAX_PREKEYS {
            return Err(DecodeError::Invalid("number of prekeys"));
        }
        Ok(Self { batch, prekeys: prekeys.iter().copied().map(SealedPrekey).collect() })
    }
}

/// How a supply stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrekeySupply {
    /// How many nobody has claimed yet.
    pub unclaimed: u64,
    /// How many the relay keeps for a mailbox.
    pub limit: u64,
    /// The last batch that was taken; 0 before the first.
    pub batch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prekey_reads_back_and_every_truncation_and_addition_is_refused() {
        let prekey = Prekey { key: DhPublicKey([1; 32]), signature: Signature([2; 64]) };
        let bytes = prekey.encode();
        assert_eq!((bytes.len(), Prekey::decode(&bytes)), (Prekey::LEN, Ok(prekey)));
        for n in 0..bytes.len() {
            assert!(Prekey::decode(&bytes[..n]).is_err(), "{n}");
        }
        assert_eq!(Prekey::decode(&[&bytes[..], &[0]].concat()), Err(DecodeError::Trailing));
        assert!(Prekey::decode(&[&[2], &bytes[1..]].concat()).is_err());
        assert_eq!(Prekey::signed_part(&MailboxId([3; 32]), &prekey.key).len(), 65);
    }

    #[test]
    fn an_upload_reads_back_and_is_whole_or_refused() {
        let upload = |n: usize| PrekeyUpload { batch: 7, prekeys: vec![SealedPrekey([9; 138]); n] };
        for n in [1, 2, MAX_PREKEYS] {
            assert_eq!(PrekeyUpload::decode(&upload(n).encode()), Ok(upload(n)));
        }
        assert_eq!(upload(MAX_PREKEYS).encode().len(), MAX_PREKEY_UPLOAD);
        for bad in [upload(0), upload(MAX_PREKEYS + 1), PrekeyUpload { batch: 0, ..upload(1) }] {
            assert!(PrekeyUpload::decode(&bad.encode()).is_err());
        }
        assert!(PrekeyUpload::decode(&PrekeyUpload { batch: 1 << 63, ..upload(1) }.encode()).is_err());
        let bytes = upload(2).encode();
        for n in (0..bytes.len()).filter(|n| *n != 8 + 138) {
            assert!(PrekeyUpload::decode(&bytes[..n]).is_err(), "{n}");
        }
    }
}
