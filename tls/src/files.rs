//! Certificate and key of a server, in files that can change while it runs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use postern_protocol::ids::ServerPin;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{InconsistentKeys, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::{pin_of, provider};

/// Permissions that a key file must not have: group may read it (a service manager hands keys over like that), nobody else.
const TOO_OPEN: u32 = 0o037;

/// `[tls]` of a server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate and those that it hangs by, in this order, PEM. Relative to the configuration file.
    pub certificate_file: PathBuf,
    /// Its key, PEM: PKCS#8, PKCS#1 or SEC1. Relative to the configuration file; nobody but owner and group may have access to it.
    pub key_file: PathBuf,
}

impl TlsFiles {
    /// Makes relative paths relative to `dir`.
    pub fn lie_in(&mut self, dir: &Path) {
        for file in [&mut self.certificate_file, &mut self.key_file] {
            *file = dir.join(&*file);
        }
    }
}

/// The section `[tls]` of a new configuration, with its comment; itself a comment if there is no TLS.
pub fn section(files: Option<&TlsFiles>) -> String {
    let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
    let (off, certificate, key) = match files {
        Some(files) => ("", quoted(&files.certificate_file), quoted(&files.key_file)),
        None => ("# ", "\"tls.pem\"".to_owned(), "\"tls.key\"".to_owned()),
    };
    format!(
        "# TLS by the server itself; without this section it speaks plain HTTP, on loopback or behind a proxy (docs/tls.md). Certificate and chain,\n\
         # and key, in PEM; relative to this file. Both are read again at SIGHUP.\n\
         {off}[tls]\n{off}certificate_file = {certificate}\n{off}key_file = {key}\n"
    )
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Whoever has an account on this machine can take the key.
    #[error("{0} is open to others: chmod 600 {0}")]
    Open(PathBuf),
    /// No certificate in the file.
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(PathBuf),
    /// No key in the file.
    #[error("{0} holds no private key in PEM")]
    NoKey(PathBuf),
    /// The certificate is for another key.
    #[error("the key in {0} is not that of the certificate")]
    OtherKey(PathBuf),
    /// Not a certificate or key that can serve.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// A fingerprint in an address that is none.
    #[error(transparent)]
    Address(#[from] postern_protocol::server::NotAServer),
    /// There is no TLS without `https`.
    #[error("with TLS the server's URL begins with https://")]
    PlainUrl,
}

/// What a server shows and proves in a handshake.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    current: Mutex<Loaded>,
}

#[derive(Clone, Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    pin: ServerPin,
}

impl ServerTls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Mutex::new(Loaded::read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads them again; what is served changes only if they are good. Connections that are there keep what they have.
    ///
    /// # Errors
    /// [`TlsError`]: all stays as it was.
    pub fn reload(&self) -> Result<ServerPin, TlsError> {
        let loaded = Loaded::read(&self.files)?;
        let pin = loaded.pin;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(pin)
    }

    /// For the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// The fingerprint of the key in use.
    pub fn pin(&self) -> ServerPin {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).pin
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { certificate_file, key_file } = files;
        let pem = read(certificate_file)?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| TlsError::NoCertificate(certificate_file.clone()))?;
        let pin = chain.first().map(pin_of).transpose()?;
        let pin = pin.ok_or_else(|| TlsError::NoCertificate(certificate_file.clone()))?;
        let mode = std::fs::metadata(key_file).map_err(|error| TlsError::File(key_file.clone(), error))?;
        if mode.permissions().mode() & TOO_OPEN != 0 {
            return Err(TlsError::Open(key_file.clone()));
        }
        let pem = zeroize::Zeroizing::new(read(key_file)?);
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(key_file.clone()))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::OtherKey(key_file.clone()),
            error => TlsError::Unusable(error),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), pin })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::File(file.to_owned(), error))
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
