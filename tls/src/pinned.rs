//! A server that is known by a key, its own or that of its own certificate authority, and by nobody's word.

use std::sync::Arc;

use postern_protocol::ids::ServerPin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::{pin_of, provider};

/// How to call a server whose key must be one of these. HTTP/1.1 is what it speaks.
///
/// 1. The fingerprint is of the server's *own* key: that key it proves to have, and nothing else of its certificate matters, neither name
///    nor dates nor who signed it.
/// 2. The fingerprint is of another key in the chain that it shows, an offline authority's: the chain up to there must hold, its dates too,
///    and the name must be the host's. Whoever pins a public authority by mistake is no worse off than without a pin.
///
/// # Errors
/// That of rustls, if its cryptography speaks no version of TLS that we do.
pub fn client_config(pins: &[ServerPin]) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Pinned { pins: pins.to_vec(), provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    pins: Vec<ServerPin>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn knows(&self, certificate: &CertificateDer<'_>) -> bool {
        pin_of(certificate).is_ok_and(|pin| self.pins.contains(&pin))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.knows(own) {
            return Ok(ServerCertVerified::assertion());
        }
        let mut anchors = RootCertStore::empty();
        for authority in chain.iter().filter(|certificate| self.knows(certificate)) {
            anchors.add(authority.clone().into_owned())?;
        }
        if anchors.is_empty() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let own = ParsedCertificate::try_from(own)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&own, &anchors, chain, now, algorithms)?;
        verify_server_name(&own, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "pinned/tests.rs"]
mod tests;
