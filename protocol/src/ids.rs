//! Fixed-length byte strings with names: identifiers, keys and secrets as they appear in JSON (base64url, no padding).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a text could not be read as one of the types of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not base64url without padding.
    #[error("not base64url without padding")]
    Base64,
    /// Decoded, but not to the number of bytes that the type has.
    #[error("expected {expected} bytes")]
    Length {
        /// The length that the type has.
        expected: usize,
    },
}

/// Base64url without padding (RFC 4648 §5).
pub fn encode_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding.
///
/// # Errors
/// [`ParseError::Base64`] for anything else, non-canonical trailing bits included.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, ParseError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseError::Base64)
}

fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], ParseError> {
    // Checked before decoding so that a long text costs nothing.
    if text.len() != (N * 4).div_ceil(3) {
        return Err(ParseError::Length { expected: N });
    }
    decode_base64(text)?.try_into().map_err(|_| ParseError::Length { expected: N })
}

macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// From a slice of exactly [`Self::LEN`] bytes.
            ///
            /// # Errors
            /// [`ParseError::Length`] otherwise.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseError> {
                bytes.try_into().map(Self).map_err(|_| ParseError::Length { expected: $len })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode_base64(&self.0))
            }
        }

        // Identifiers must not slip into logs by `{:?}`: only the type's name is printed.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                decode_array(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&encode_base64(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        ///
        /// Zeroised on drop, compared in constant time, silent in `Debug`.
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes over.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes; do not copy them further than needed.
            pub const fn expose(&self) -> &[u8; $len] {
                &self.0
            }

            /// From a slice of exactly [`Self::LEN`] bytes.
            ///
            /// # Errors
            /// [`ParseError::Length`] otherwise.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseError> {
                bytes.try_into().map(Self).map_err(|_| ParseError::Length { expected: $len })
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }
        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let text = zeroize::Zeroizing::new(encode_base64(&self.0));
                s.serialize_str(&text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                decode_array(&text).map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

public_bytes!(
    /// A mailbox at a relay: 32 random bytes made by the issuer; nothing about the account can be read off it.
    MailboxId, 32
);
public_bytes!(
    /// A message in a mailbox. For a cold send it equals the token's [`Nullifier`], so that a retry has the same name
    /// and a release finds its ledger row by primary key; for a reply it is a hash of mailbox, epoch and reply nullifier.
    MessageId, 32
);
public_bytes!(
    /// What the ledger keys a token on: `SHA-256("postern/nullifier/v1" ‖ token input)`, 32 bytes.
    Nullifier, 32
);
public_bytes!(
    /// `SHA-256` of a token key's SubjectPublicKeyInfo (RFC 9578 §6.5), 32 bytes.
    TokenKeyId, 32
);
public_bytes!(
    /// `SHA-256` of a `TokenChallenge` (RFC 9577 §2.1), 32 bytes.
    ChallengeDigest, 32
);
public_bytes!(
    /// An Ed25519 public key (RFC 8032), 32 bytes.
    SigningPublicKey, 32
);
public_bytes!(
    /// An Ed25519 signature (RFC 8032), 64 bytes.
    Signature, 64
);
public_bytes!(
    /// An X25519 public key (RFC 7748), 32 bytes.
    DhPublicKey, 32
);
public_bytes!(
    /// An X-Wing encapsulation key (ML-KEM-768 ‖ X25519), 1,216 bytes: what envelopes are sealed to.
    SealingPublicKey, 1216
);
public_bytes!(
    /// A login session, 16 random bytes.
    SessionId, 16
);
public_bytes!(
    /// A blinded message, or its blind signature: one RSA-2048 group element, 256 bytes (RFC 9474).
    RsaElement, 256
);
public_bytes!(
    /// A 32-byte HMAC-SHA-256 tag.
    Mac, 32
);
public_bytes!(
    /// A salt of the login chain, 16 bytes.
    LoginSalt, 16
);
public_bytes!(
    /// A nonce of an internal call, 16 random bytes.
    CallNonce, 16
);
public_bytes!(
    /// A SHA-256 digest, or a node of a hash tree, 32 bytes.
    Sha256Digest, 32
);

public_bytes!(
    /// The fingerprint of a server's TLS key: SHA-256 of its SubjectPublicKeyInfo, 32 bytes. See [`crate::server::ServerUrl`].
    ServerPin, 32
);

impl Sha256Digest {
    /// Zeros, the digest of nothing: stands for "none".
    pub const ZERO: Self = Self([0; 32]);
}

public_bytes!(
    /// A public key of VOPRF(ristretto255, SHA-512) (RFC 9497), 32 bytes.
    OprfPublicKey, 32
);
public_bytes!(
    /// A blinded or evaluated element of that VOPRF, 32 bytes.
    OprfElement, 32
);
public_bytes!(
    /// The proof that a batch was evaluated under one key: c ‖ s (RFC 9497 §2.2.1), 64 bytes.
    OprfProof, 64
);
public_bytes!(
    /// A one-time prekey, signed and sealed, 138 bytes: see [`crate::prekeys::Prekey`].
    SealedPrekey, 138
);
public_bytes!(
    /// What a claim of a prekey is known by, 32 random bytes: the identical claim gets the identical prekey.
    PrekeyClaim, 32
);
public_bytes!(
    /// A look-up token, encoded, 162 bytes: see [`crate::lookup::LookupToken`].
    LookupTokenBytes, 162
);
public_bytes!(
    /// What the ledger keys a look-up token on: `SHA-256("postern/lookup-nullifier/v1" ‖ token input)`, 32 bytes.
    LookupNullifier, 32
);
secret_bytes!(
    /// `H = c_N` of the login chain (K7): password-equivalent for every M > N (K16).
    LoginVerifier, 32
);
secret_bytes!(
    /// The secret `r` behind a token's nonce: who shows it may exchange the token (design §2).
    RefundSecret, 32
);

secret_bytes!(
    /// A group secret in its stored form, version ‖ root, 33 bytes: what the relay checks replies with (design §3).
    GroupSecretBytes, 33
);
secret_bytes!(
    /// A member secret in its stored form, version ‖ seed, 33 bytes: who has it recognises that contact's replies.
    MemberSecretBytes, 33
);
secret_bytes!(
    /// An output of the VOPRF, 64 bytes. That of a phone number finds and opens its record; that of a token's input is its
    /// authenticator.
    OprfOutput, 64
);

/// Any number of bytes, as base64url in JSON. `Debug` prints the length only.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Base64(pub Vec<u8>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encode_base64(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        decode_base64(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A phone number in E.164 form (`+` and 7 to 15 digits, the first not 0). `Debug` prints nothing of it.
///
/// Whether the number exists in the numbering plan is the issuer's business; here only the form is held.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// The number as text, `+` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(..)")
    }
}

/// The text is not a number in E.164 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number in international form, like +41791234567")]
pub struct NotE164;

impl std::str::FromStr for PhoneNumber {
    type Err = NotE164;
    fn from_str(text: &str) -> Result<Self, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?.as_bytes();
        let well_formed =
            (7..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
        if well_formed { Ok(Self(text.to_owned())) } else { Err(NotE164) }
    }
}

impl<'de> Deserialize<'de> for PhoneNumber {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_in_debug() {
        let secret = RefundSecret::new([7; 32]);
        assert_eq!(format!("{secret:?}"), "RefundSecret(secret)");
        assert_eq!(format!("{:?}", MailboxId([9; 32])), "MailboxId(..)");
    }

    #[test]
    fn an_identifier_of_the_wrong_length_or_alphabet_is_refused() {
        let good = MailboxId([0xfb; 32]).to_string();
        assert_eq!(good.parse::<MailboxId>(), Ok(MailboxId([0xfb; 32])));
        assert!(good[1..].parse::<MailboxId>().is_err());
        assert!(format!("{good}A").parse::<MailboxId>().is_err());
        assert!(good.replace('-', "+").replace('_', "/").parse::<MailboxId>().is_err());
        // 43 characters carry 258 bits: the two spare ones must be zero, else one id had four names.
        let mut last = good.clone();
        last.pop();
        last.push('9');
        assert!(last.parse::<MailboxId>().is_err());
    }

    #[test]
    fn only_the_e164_form_is_a_phone_number() {
        for good in ["+41791234567", "+1234567", "+123456789012345"] {
            assert!(good.parse::<PhoneNumber>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "+",
            "41791234567",
            "+0791234567",
            "+41 79 123",
            "+4179٣٣٣٣٣٣",
            "+1234567890123456",
            "+123456",
            "+41791234567;ext=1",
        ] {
            assert!(bad.parse::<PhoneNumber>().is_err(), "{bad}");
        }
    }
}
