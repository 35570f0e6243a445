//! Every key of the issuer, derived from one root secret: what an operator must keep is one file of 32 bytes.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use postern_credentials::certificate::CertificateAuthority;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::ServerLogin;
use postern_credentials::phone_code::PhoneCodeKeys;
use postern_credentials::seal::SealKey;
use postern_credentials::secrets::RootSecret;
use postern_protocol::ids::{PhoneNumber, decode_base64, encode_base64};
use postern_protocol::time::Timestamp;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How long the CA certificate is good: longer than any leaf, and a number of years that somebody will still remember.
const CA_SECONDS: u64 = 20 * 365 * 86_400;
/// Certificates begin this long before they are made, for clocks that are behind.
pub const BACKDATE_SECONDS: u64 = 3600;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const PEM_END: &str = "-----END CERTIFICATE-----\n";

/// Why the secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Others than the owner may read a secret.
    #[error("{0} can be read by others: chmod 600 it")]
    TooOpen(PathBuf),
    /// Not what `init` wrote.
    #[error("{0} is not a file that `init` made")]
    Malformed(PathBuf),
    /// Nothing is in it.
    #[error("{0} holds no password")]
    NoPassword(PathBuf),
    /// The CA certificate does not belong to the root secret.
    #[error("the CA certificate does not belong to the secret key")]
    Mismatch,
}

/// The keys. `Debug` shows nothing.
pub struct Secrets {
    /// Signs challenges, JWTs and answers to relays.
    pub identity: IdentityKey,
    /// Signs certificates.
    pub ca: CertificateAuthority,
    /// Makes and opens cookies.
    pub phone_codes: PhoneCodeKeys,
    /// The server's side of the login.
    pub login: ServerLogin,
    /// Seals login verifiers at rest.
    pub verifiers: SealKey,
    /// Seals session keys at rest.
    pub sessions: SealKey,
    /// Seals private token keys at rest.
    pub token_keys: SealKey,
    /// Seals answers that are kept for a retry.
    pub answers: SealKey,
    /// Seals the addresses of reports on texts.
    pub text_reports: SealKey,
    /// What the keys of look-up windows and of the directory are derived from, each when it is needed.
    pub root: RootSecret,
    accounts: Zeroizing<[u8; 32]>,
    buckets: Zeroizing<[u8; 32]>,
}

impl Secrets {
    /// Derives them all; `ca_certificate` (DER) must be of the derived CA key.
    ///
    /// # Errors
    /// [`SecretsError::Mismatch`].
    pub fn derive(root: &RootSecret, ca_certificate: &[u8]) -> Result<Self, SecretsError> {
        let ca = CertificateAuthority::load(*root.derive("issuer-ca"), ca_certificate);
        Ok(Self {
            identity: IdentityKey::from_seed(*root.derive("issuer-identity")),
            ca: ca.map_err(|_| SecretsError::Mismatch)?,
            phone_codes: PhoneCodeKeys::derive(root),
            login: ServerLogin::derive(root),
            verifiers: SealKey::new(*root.derive("issuer-seal-verifiers")),
            sessions: SealKey::new(*root.derive("issuer-seal-sessions")),
            token_keys: SealKey::new(*root.derive("issuer-seal-token-keys")),
            answers: SealKey::new(*root.derive("issuer-seal-answers")),
            text_reports: SealKey::new(*root.derive("issuer-seal-text-reports")),
            root: root.clone(),
            accounts: root.derive("issuer-account-id"),
            buckets: root.derive("issuer-attempt-buckets"),
        })
    }

    /// Reads both files of a configuration.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn load(secret_key: &Path, ca_certificate: &Path) -> Result<Self, SecretsError> {
        let pem =
            std::fs::read_to_string(ca_certificate).map_err(|e| SecretsError::File(ca_certificate.to_owned(), e))?;
        let der = from_pem(&pem).ok_or_else(|| SecretsError::Malformed(ca_certificate.to_owned()))?;
        Self::derive(&load_root(secret_key)?, &der)
    }

    /// The id of the account of a number: 32 bytes that only this issuer can compute, and the same for ever.
    pub fn account_id(&self, phone: &PhoneNumber) -> [u8; 32] {
        hmac(&self.accounts, &[b"postern/account-id/v1", phone.as_str().as_bytes()])
    }

    /// Which of the 2^20 counters of `scope` counts for `key`.
    pub fn bucket(&self, scope: &str, key: &[u8]) -> u32 {
        let [a, b, c, ..] = hmac(&self.buckets, &[scope.as_bytes(), key]);
        u32::from_be_bytes([0, a & 0x0f, b, c])
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(secret)")
    }
}

/// HMAC-SHA-256 over length-prefixed parts.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key shorter than the hash's block is padded with zeros (RFC 2104 §2).
    let mut block = Zeroizing::new([0; 64]);
    if let Some(head) = block.first_chunk_mut() {
        *head = *key;
    }
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256: what rows are named by.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A fresh root secret with its CA certificate (DER).
///
/// # Errors
/// [`SecretsError::Mismatch`] if the certificate cannot be made.
pub fn create(rng: &mut impl CryptoRng, name: &str, now: Timestamp) -> Result<(RootSecret, Vec<u8>), SecretsError> {
    let root = RootSecret::generate(rng);
    let from = now.minus_seconds(BACKDATE_SECONDS);
    let ca = CertificateAuthority::create(*root.derive("issuer-ca"), name, from, now.plus_seconds(CA_SECONDS))
        .map_err(|_| SecretsError::Mismatch)?;
    let der = ca.certificate_der().to_vec();
    Ok((root, der))
}

/// The text of `secret.key`.
pub fn root_to_text(root: &RootSecret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(encode_base64(root.expose()));
    text.push('\n');
    text
}

/// The text of a file that nobody but its owner may read.
///
/// # Errors
/// [`SecretsError::File`], [`SecretsError::TooOpen`].
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretsError> {
    use std::os::unix::fs::PermissionsExt;
    let file_error = |e| SecretsError::File(path.to_owned(), e);
    let mode = std::fs::metadata(path).map_err(file_error)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecretsError::TooOpen(path.to_owned()));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(file_error)
}

fn load_root(path: &Path) -> Result<RootSecret, SecretsError> {
    let text = read_private(path)?;
    let bytes = Zeroizing::new(decode_base64(text.trim()).map_err(|_| SecretsError::Malformed(path.to_owned()))?);
    let array = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| SecretsError::Malformed(path.to_owned()))?;
    Ok(RootSecret::from_bytes(array))
}

/// PEM (RFC 7468) of a certificate.
pub fn to_pem(der: &[u8]) -> String {
    let mut out = PEM_BEGIN.to_owned();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(PEM_END);
    out
}

/// The DER inside [`to_pem`]'s form.
fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim_start().strip_prefix(PEM_BEGIN.trim_end())?.trim_end().strip_suffix(PEM_END.trim_end())?;
    let text: String = body.split_whitespace().collect();
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_reads_back_and_anything_else_is_refused() {
        let der: Vec<u8> = (0..=255).collect();
        let pem = to_pem(&der);
        assert_eq!(from_pem(&pem), Some(der));
        assert_eq!(from_pem(&pem.replace("BEGIN CERT", "BEGIN KEY")), None);
        assert_eq!(from_pem(""), None);
    }
}
