//! TLS of the servers and of those who call them.
//!
//! **Owns** certificate and key of a server as files that can be read again while it runs ([`ServerTls`]), a certificate of one's own making
//! ([`make_self_signed`]), and the check of a server that is known by the fingerprint in its address ([`client_config`]): one
//! implementation for the client and for the relay that calls its issuer. **May call** `postern-protocol`. It opens no connection:
//! `postern-listen` accepts them, reqwest makes them.
//!
//! Neither side resumes sessions: what a server hands out for that would link two connections of one client.

mod files;
mod pinned;
mod self_signed;
mod wrong;

use std::sync::Arc;

use postern_protocol::ids::ServerPin;
use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

pub use files::{ServerTls, TlsError, TlsFiles, section};
pub use pinned::client_config;
pub use self_signed::{Make, SelfSigned, make_self_signed};
pub use wrong::{WrongServer, wrong_server};

/// Of rustls, for those who accept connections.
pub use rustls::ServerConfig;

/// The one cryptography of this process, named so that no other can be taken for it by default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The fingerprint of the key in a certificate, DER: SHA-256 of its SubjectPublicKeyInfo, as the reader sees it that also checks the
/// handshake's signature.
///
/// # Errors
/// That of rustls if it is no X.509 certificate of version 3.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<ServerPin, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(ServerPin(Sha256::digest(&key).into()))
}
