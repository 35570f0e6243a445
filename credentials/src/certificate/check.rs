//! Reading certificates and requests. x509-parser reads the fields; what they must be, and the signatures, are checked here.

use postern_protocol::ids::{PhoneNumber, Signature, SigningPublicKey};
use postern_protocol::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name, X509Version};

use super::{CertifiedSubject, ED25519, SPKI_PREFIX};
use crate::identity::{self, BadSignature};

/// The longest certificate or request that is looked at, bytes. Ours have about 500 and 200.
const MAX_DER: usize = 4096;

/// Why a certificate request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not the DER of one PKCS#10 request, or bytes behind it.
    #[error("not a certificate request")]
    Malformed,
    /// Key or signature are not Ed25519.
    #[error("the key is not an Ed25519 key")]
    NotEd25519,
    /// No proof of possession.
    #[error("the request is not signed by its own key")]
    BadSignature,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the DER of one Ed25519 certificate, or bytes behind it.
    #[error("not a certificate")]
    Malformed,
    /// Not made by this authority, or the authority's certificate is none.
    #[error("the certificate is of another authority")]
    WrongAuthority,
    /// The authority did not sign it.
    #[error("the certificate is not signed by the authority")]
    BadSignature,
    /// Now is outside its time, or the authority's.
    #[error("the certificate is not valid at this time")]
    NotInTime,
    /// Signed by the authority, but does not say "this key belongs to this number".
    #[error("the certificate does not certify a phone number")]
    NotAnIdentity,
}

/// Reads the key off a PKCS#10 request and checks that the requester has its secret. Everything else in it is ignored.
///
/// # Errors
/// [`CsrError`].
pub fn parse_request(der: &[u8]) -> Result<SigningPublicKey, CsrError> {
    if der.len() > MAX_DER {
        return Err(CsrError::Malformed);
    }
    let (_, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    let key = ed25519_key(&csr.certification_request_info.subject_pki).ok_or(CsrError::NotEd25519)?;
    let signature = Signature::from_slice(&csr.signature_value.data).map_err(|_| CsrError::NotEd25519)?;
    if !is_exactly(der, csr.certification_request_info.raw, &signature) {
        return Err(CsrError::Malformed);
    }
    identity::verify_raw(&key, csr.certification_request_info.raw, &signature).map_err(|_| CsrError::BadSignature)?;
    Ok(key)
}

/// The key in a certificate, which is *not* checked otherwise.
///
/// # Errors
/// [`CertificateError::Malformed`] if it cannot be read.
pub fn subject_key(der: &[u8]) -> Result<SigningPublicKey, CertificateError> {
    Parsed::read(der).map(|parsed| parsed.key)
}

/// From when until when a certificate is valid; it is *not* checked otherwise.
///
/// # Errors
/// [`CertificateError::Malformed`] if it cannot be read.
pub fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp), CertificateError> {
    Parsed::read(der)?.validity().ok_or(CertificateError::Malformed)
}

/// Checks a certificate against the pinned CA certificate, whole: form, issuer, signature, time, role, and that CN and SAN
/// are one and the same number.
///
/// # Errors
/// [`CertificateError`]. What is said about the subject is only looked at after the signature.
pub fn verify(leaf_der: &[u8], ca_der: &[u8], now: Timestamp) -> Result<CertifiedSubject, CertificateError> {
    let leaf = Parsed::read(leaf_der)?;
    let ca = Parsed::read(ca_der).map_err(|_| CertificateError::WrongAuthority)?;
    if !ca.has_role(Role::Authority) || !leaf.names_as_issuer(&ca) {
        return Err(CertificateError::WrongAuthority);
    }
    leaf.verify_signature(&ca.key).map_err(|_| CertificateError::BadSignature)?;
    if !leaf.is_in_time(now) || !ca.is_in_time(now) {
        return Err(CertificateError::NotInTime);
    }
    if !leaf.has_role(Role::Identity) {
        return Err(CertificateError::NotAnIdentity);
    }
    let phone = leaf.phone().ok_or(CertificateError::NotAnIdentity)?;
    Ok(CertifiedSubject { phone, key: leaf.key })
}

/// What a certificate may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Signs certificates.
    Authority,
    /// Signs as the holder of a number.
    Identity,
}

/// An Ed25519 certificate whose DER is exact. Nothing is checked beyond that.
pub(super) struct Parsed<'a> {
    x509: X509Certificate<'a>,
    pub(super) key: SigningPublicKey,
    signature: Signature,
}

impl<'a> Parsed<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        const BAD: CertificateError = CertificateError::Malformed;
        if der.len() > MAX_DER {
            return Err(BAD);
        }
        let (_, x509) = X509Certificate::from_der(der).map_err(|_| BAD)?;
        let key = ed25519_key(&x509.tbs_certificate.subject_pki).ok_or(BAD)?;
        let signature = Signature::from_slice(&x509.signature_value.data).map_err(|_| BAD)?;
        let inner = &x509.tbs_certificate.signature;
        let same_algorithm = *inner == x509.signature_algorithm;
        if !same_algorithm || x509.version() != X509Version::V3 || !is_exactly(der, tbs(&x509), &signature) {
            return Err(BAD);
        }
        // Errs when an extension occurs twice, which leaves open which one counts.
        x509.tbs_certificate.extensions_map().map_err(|_| BAD)?;
        Ok(Self { x509, key, signature })
    }

    pub(super) fn verify_signature(&self, key: &SigningPublicKey) -> Result<(), BadSignature> {
        identity::verify_raw(key, tbs(&self.x509), &self.signature)
    }

    /// Issuer name and authority key identifier are those of `ca` (RFC 5280 §6.1.3, §4.2.1.1).
    fn names_as_issuer(&self, ca: &Self) -> bool {
        let ours = self.extensions().find_map(|e| match e {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
            _ => None,
        });
        let theirs = ca.extensions().find_map(|e| match e {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        let same_name = self.x509.issuer().as_raw() == ca.x509.subject().as_raw();
        same_name && theirs.is_some() && ours == theirs
    }

    fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let at = |seconds: i64| u64::try_from(seconds).ok().map(Timestamp::from_seconds);
        let validity = self.x509.validity();
        Some((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
    }

    fn is_in_time(&self, now: Timestamp) -> bool {
        // `not_after` is the last second that counts (RFC 5280 §4.1.2.5).
        self.validity().is_some_and(|(from, until)| from <= now && now.seconds() <= until.seconds())
    }

    /// Basic constraints and key usage are those of `role`, and no critical extension is unknown (RFC 5280 §4.2).
    pub(super) fn has_role(&self, role: Role) -> bool {
        let is_ca = self.extensions().find_map(|e| match e {
            ParsedExtension::BasicConstraints(constraints) => Some(constraints.ca),
            _ => None,
        });
        let usage = self.extensions().find_map(|e| match e {
            ParsedExtension::KeyUsage(usage) => Some(usage),
            _ => None,
        });
        let understood =
            |e: &ParsedExtension<'_>| matches!(e, ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_));
        let critical_known = self.x509.extensions().iter().all(|e| !e.critical || understood(e.parsed_extension()));
        let role_fits = match role {
            Role::Authority => is_ca == Some(true) && usage.is_some_and(|u| u.key_cert_sign()),
            Role::Identity => {
                is_ca == Some(false) && usage.is_some_and(|u| u.digital_signature() && !u.key_cert_sign())
            }
        };
        critical_known && role_fits
    }

    /// The number, if subject and SAN consist of it and nothing else.
    fn phone(&self) -> Option<PhoneNumber> {
        let phone: PhoneNumber = sole_common_name(self.x509.subject())?.parse().ok()?;
        let names = self.extensions().find_map(|e| match e {
            ParsedExtension::SubjectAlternativeName(san) => Some(&san.general_names),
            _ => None,
        })?;
        match names.as_slice() {
            [GeneralName::URI(uri)] if uri.strip_prefix("tel:") == Some(phone.as_str()) => Some(phone),
            _ => None,
        }
    }

    fn extensions(&self) -> impl Iterator<Item = &ParsedExtension<'a>> {
        self.x509.extensions().iter().map(|e| e.parsed_extension())
    }
}

fn sole_common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut attributes = name.iter_attributes();
    let only = attributes.next()?;
    let is_common_name = name.iter_common_name().next().is_some();
    if attributes.next().is_some() || !is_common_name { None } else { only.as_str().ok() }
}

fn tbs<'a>(x509: &'a X509Certificate<'_>) -> &'a [u8] {
    x509.tbs_certificate.as_ref()
}

/// The key, if the SubjectPublicKeyInfo is byte for byte that of RFC 8410.
fn ed25519_key(spki: &SubjectPublicKeyInfo<'_>) -> Option<SigningPublicKey> {
    SigningPublicKey::from_slice(spki.raw.strip_prefix(&SPKI_PREFIX)?).ok()
}

/// Whether `der` is `SEQUENCE { body, Ed25519, BIT STRING signature }` in its only encoding, and ends there.
fn is_exactly(der: &[u8], body: &[u8], signature: &Signature) -> bool {
    let content = [body, &ED25519, &[0x03, 0x41, 0x00], &signature.0].concat();
    let Ok(length) = u16::try_from(content.len()) else { return false };
    let [high, low] = length.to_be_bytes();
    let header: &[u8] = match length {
        0..0x80 => &[0x30, low],
        0x80..0x100 => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    der.strip_prefix(header) == Some(content.as_slice())
}
