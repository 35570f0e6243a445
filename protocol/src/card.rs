//! Contact cards. The *link* is what people paste or scan; the *card* behind it lies sealed at the relay, so that a printed
//! link stays good while prekeys and sealing keys rotate, and the relay cannot read the phone number in it.

use std::fmt;
use std::str::FromStr;

use crate::codec::{DecodeError, Reader, TooLong, put_bytes16};
use crate::ids::{DhPublicKey, MailboxId, SealingPublicKey, Signature, SigningPublicKey};
use crate::server::ServerUrl;

/// `postern:v1?relay=<url>&mailbox=<43>&identity=<43>`: where the card is, and whose it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardLink {
    /// Base URL of the relay ([`ServerUrl`]), without a trailing slash; printable ASCII without `&`, `#` or spaces.
    pub relay_url: String,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The certified identity key. It opens the sealed card, and nobody can put another identity behind the link.
    pub identity: SigningPublicKey,
}

impl fmt::Display for CardLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postern:v1?relay={}&mailbox={}&identity={}", self.relay_url, self.mailbox, self.identity)
    }
}

impl FromStr for CardLink {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        const BAD: DecodeError = DecodeError::Invalid("card link");
        let mut parts = text.trim().strip_prefix("postern:v1?").ok_or(BAD)?.split('&');
        let mut part = |name: &str| parts.next().and_then(|p| p.strip_prefix(name)).ok_or(BAD);
        let relay_url = part("relay=")?.to_owned();
        let mailbox = part("mailbox=")?.parse().map_err(|_| BAD)?;
        let identity = part("identity=")?.parse().map_err(|_| BAD)?;
        let printable = relay_url.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let is_server = relay_url.parse::<ServerUrl>().is_ok();
        if parts.next().is_some() || !printable || !is_server || relay_url.ends_with('/') {
            return Err(BAD);
        }
        Ok(Self { relay_url, mailbox, identity })
    }
}

/// Everything that somebody needs in order to write to an account. Travels sealed: at the relay, or inside a first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// X.509, DER: says the number and the identity key.
    pub certificate: Vec<u8>,
    /// Where the mailbox is.
    pub relay_url: String,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// What envelopes are sealed to; rotates weekly.
    pub sealing_key: SealingPublicKey,
    /// Olm identity key.
    pub olm_identity: DhPublicKey,
    /// Olm fallback key; rotates weekly.
    pub olm_fallback: DhPublicKey,
    /// When it was signed, Unix seconds.
    pub signed_at: u64,
    /// By the certified identity key over [`Self::signed_part`].
    pub signature: Signature,
}

impl Card {
    const VERSION: u8 = 1;

    /// What the signature covers: everything but itself, with the leading version byte.
    ///
    /// # Errors
    /// [`TooLong`] if a field does not fit.
    pub fn signed_part(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = vec![Self::VERSION];
        put_bytes16(&mut out, &self.certificate)?;
        put_bytes16(&mut out, self.relay_url.as_bytes())?;
        out.extend_from_slice(self.mailbox.as_bytes());
        out.extend_from_slice(self.sealing_key.as_bytes());
        out.extend_from_slice(self.olm_identity.as_bytes());
        out.extend_from_slice(self.olm_fallback.as_bytes());
        out.extend_from_slice(&self.signed_at.to_be_bytes());
        Ok(out)
    }

    /// [`Self::signed_part`] and the signature.
    ///
    /// # Errors
    /// [`TooLong`] if a field does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = self.signed_part()?;
        out.extend_from_slice(self.signature.as_bytes());
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form; says nothing about the signature.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != Self::VERSION {
            return Err(DecodeError::Invalid("card version"));
        }
        let card = Self {
            certificate: r.bytes16()?.to_vec(),
            relay_url: r.text16()?.to_owned(),
            mailbox: MailboxId(r.array()?),
            sealing_key: SealingPublicKey(r.array()?),
            olm_identity: DhPublicKey(r.array()?),
            olm_fallback: DhPublicKey(r.array()?),
            signed_at: r.u64()?,
            signature: Signature(r.array()?),
        };
        r.finish()?;
        Ok(card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_reads_back_and_its_variations_do_not() {
        let link = CardLink {
            relay_url: "http://127.0.0.1:7".into(),
            mailbox: MailboxId([1; 32]),
            identity: SigningPublicKey([2; 32]),
        };
        let text = link.to_string();
        assert_eq!(text.parse(), Ok(link));
        for bad in [
            format!("{text}&x=1"),
            text.replace(":v1", ":v2"),
            text.replace("http:", "file:"),
            text.replace("//", "//somebody@"),
            text.replace(":7", ":7/"),
            text.replace("mailbox", "m"),
        ] {
            assert!(bad.parse::<CardLink>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_truncation_of_a_card_is_refused() {
        let card = Card {
            certificate: vec![1; 400],
            relay_url: "https://relay.example".into(),
            mailbox: MailboxId([2; 32]),
            sealing_key: SealingPublicKey([3; 1216]),
            olm_identity: DhPublicKey([4; 32]),
            olm_fallback: DhPublicKey([5; 32]),
            signed_at: 6,
            signature: Signature([7; 64]),
        };
        let bytes = card.encode().unwrap();
        assert_eq!(Card::decode(&bytes), Ok(card));
        for n in 0..bytes.len() {
            assert!(Card::decode(&bytes[..n]).is_err(), "{n}");
        }
    }
}
