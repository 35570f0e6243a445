//! Making certificates and requests. rcgen writes the DER; every field is chosen here.

use postern_protocol::ids::SigningPublicKey;
use postern_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use super::CertifiedSubject;
use super::check::{Parsed, Role};
use crate::identity::IdentityKey;
use crate::transcript::Transcript;

/// A certificate or request could not be written: a date out of range, or a name that does not encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be written")]
pub struct IssueError;

impl From<rcgen::Error> for IssueError {
    fn from(_: rcgen::Error) -> Self {
        Self
    }
}

/// The stored CA certificate is not usable with the stored key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA certificate is damaged or belongs to another key")]
pub struct LoadError;

/// The issuer's certificate authority: its Ed25519 key and its self-signed certificate.
#[derive(Debug)]
pub struct CertificateAuthority {
    key: IdentityKey,
    der: Vec<u8>,
}

impl CertificateAuthority {
    /// A new authority: the key of `seed`, and a certificate CN = `name`, CA:TRUE, path length 0. Deterministic.
    ///
    /// # Errors
    /// [`IssueError`] for dates that X.509 cannot hold.
    pub fn create(seed: [u8; 32], name: &str, not_before: Timestamp, not_after: Timestamp) -> Result<Self, IssueError> {
        let key = IdentityKey::from_seed(seed);
        let serial = Transcript::new("postern/ca-serial/v1").fixed(&key.public().0).sha256();
        let mut params = params(serial.first_chunk().ok_or(IssueError)?, name, not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&Signer::of(&key))?.der().to_vec();
        Ok(Self { key, der })
    }

    /// An authority that [`Self::create`] made before.
    ///
    /// # Errors
    /// [`LoadError`] if the certificate is not a CA certificate of this very key, signed by itself.
    pub fn load(seed: [u8; 32], ca_der: &[u8]) -> Result<Self, LoadError> {
        let key = IdentityKey::from_seed(seed);
        let parsed = Parsed::read(ca_der).map_err(|_| LoadError)?;
        let usable = parsed.has_role(Role::Authority) && parsed.key == key.public();
        if !usable || parsed.verify_signature(&key.public()).is_err() {
            return Err(LoadError);
        }
        Ok(Self { key, der: ca_der.to_vec() })
    }

    /// The CA certificate, DER: what clients pin.
    pub fn certificate_der(&self) -> &[u8] {
        &self.der
    }

    /// A certificate for `subject`, DER: CN = the number, SAN = `tel:` the number, CA:FALSE. Deterministic.
    ///
    /// `serial` must never repeat; a byte before it keeps it positive and of 17 bytes (RFC 5280 §4.1.2.2). Let `not_before`
    /// lie an hour back: the phones that check it have clocks of their own.
    ///
    /// # Errors
    /// [`IssueError`] for dates that X.509 cannot hold.
    pub fn issue(
        &self,
        subject: &CertifiedSubject,
        serial: [u8; 16],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Vec<u8>, IssueError> {
        let phone = subject.phone.as_str();
        let mut params = params(&serial, phone, not_before, not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = vec![SanType::URI(format!("tel:{phone}").try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = Issuer::from_ca_cert_der(&self.der.as_slice().into(), Signer::of(&self.key))?;
        Ok(params.signed_by(&Certified(&subject.key), &issuer)?.der().to_vec())
    }
}

/// PKCS#10 for `identity`, DER: an empty subject, no extensions, proof of possession.
///
/// # Errors
/// [`IssueError`]; does not happen.
pub fn request(identity: &IdentityKey) -> Result<Vec<u8>, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&Signer::of(identity))?.der().to_vec())
}

fn params(
    serial: &[u8; 16],
    name: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from([&[1], serial.as_slice()].concat()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// X.509 knows the years up to 9999 (RFC 5280 §4.1.2.5).
fn date(at: Timestamp) -> Result<OffsetDateTime, IssueError> {
    let seconds = i64::try_from(at.seconds()).map_err(|_| IssueError)?;
    OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|date| date.year() <= 9999).ok_or(IssueError)
}

/// Lends our key to rcgen, so that the seed is not copied into a PKCS#8 that nobody wipes.
struct Signer<'a> {
    key: &'a IdentityKey,
    public: SigningPublicKey,
}

impl<'a> Signer<'a> {
    fn of(key: &'a IdentityKey) -> Self {
        Self { key, public: key.public() }
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign_raw(message).0.to_vec())
    }
}

struct Certified<'a>(&'a SigningPublicKey);

impl PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}
