//! Certificates (M4): X.509 v3 (RFC 5280) with Ed25519 (RFC 8410), saying "this key belongs to this phone number".
//!
//! 1. The **client** makes a PKCS#10 request ([`request`], RFC 2986): its only purpose is to prove possession of the key.
//! 2. The **issuer** reads the key off it ([`parse_request`]) and *nothing else*: subject, extensions and CA:TRUE of a request
//!    are somebody's wish. [`CertificateAuthority::issue`] writes every field itself.
//! 3. **Recipients** check with [`verify`] against the CA certificate that they pinned; `openssl verify -x509_strict` agrees.
//!
//! DER is held to exactly: a certificate or request is put together again from its parts and must equal the input.

mod authority;
mod check;

use postern_protocol::ids::{PhoneNumber, SigningPublicKey};

pub use self::authority::{CertificateAuthority, IssueError, LoadError, request};
pub use self::check::{CertificateError, CsrError, parse_request, subject_key, validity, verify};

/// Whom a certificate is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedSubject {
    /// The verified number.
    pub phone: PhoneNumber,
    /// The identity key.
    pub key: SigningPublicKey,
}

/// `AlgorithmIdentifier` of Ed25519 (RFC 8410 §3): no parameters.
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// `SubjectPublicKeyInfo` of an Ed25519 key up to the 32 key bytes (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests;
