//! A certificate that nobody signed but its own key: for servers that are known by the fingerprint in their address.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use postern_protocol::ids::ServerPin;
use postern_protocol::server::ServerUrl;
use postern_protocol::time::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{TlsError, TlsFiles, pin_of};

/// Thirty years: whoever knows the key looks at no date, and other programs should not either for as long as the key serves.
const GOOD_FOR: u64 = 30 * 365 * 86_400;
/// Clocks differ.
const BEFORE: u64 = 86_400;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// Where, by their names in the directory.
    pub files: TlsFiles,
    /// The fingerprint of the key.
    pub pin: ServerPin,
    /// The server's address with the fingerprint in it.
    pub url: String,
}

/// What `init --tls` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Make {
    /// A certificate that nobody signed but its own key.
    SelfSigned,
}

impl Make {
    /// Makes it.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn make(self, dir: &Path, url: &str, now: Timestamp) -> Result<SelfSigned, TlsError> {
        match self {
            Self::SelfSigned => make_self_signed(dir, url, now),
        }
    }
}

/// Makes a key (ECDSA, P-256) and its certificate for the host of `url`, as `tls.key` and `tls.pem` in `dir`. Nothing is overwritten.
///
/// # Errors
/// [`TlsError`].
pub fn make_self_signed(dir: &Path, url: &str, now: Timestamp) -> Result<SelfSigned, TlsError> {
    let url: ServerUrl = url.parse()?;
    let host = host(url.base()).ok_or(TlsError::PlainUrl)?;
    let mut params = CertificateParams::new(vec![host])?;
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) =
        (date(now.seconds().saturating_sub(BEFORE)), date(now.seconds().saturating_add(GOOD_FOR)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let pin = pin_of(certificate.der())?;
    let files = TlsFiles { certificate_file: PathBuf::from("tls.pem"), key_file: PathBuf::from("tls.key") };
    // The key first: a certificate without one would look ready.
    write(&dir.join(&files.key_file), 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    write(&dir.join(&files.certificate_file), 0o644, certificate.pem().as_bytes())?;
    Ok(SelfSigned { files, pin, url: url.with_pin(pin).to_string() })
}

/// The host of an `https` URL without user name, as a certificate names it.
fn host(base: &str) -> Option<String> {
    let rest = base.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

fn date(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<(), TlsError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(contents).and_then(|()| file.sync_all()))
        .map_err(|error| TlsError::File(path.to_owned(), error))
}
