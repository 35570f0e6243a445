use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::{WrongServer, wrong_server};

/// A certificate with its key, as a server has it.
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Own {
    fn pin(&self) -> ServerPin {
        pin_of(&self.chain[0]).unwrap()
    }

    fn with(mut self, more: &CertificateDer<'static>) -> Self {
        self.chain.push(more.clone());
        self
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(4000, 1, 1);
    params
}

fn expired(name: &str) -> CertificateParams {
    let mut params = params(name);
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
    params
}

fn self_signed(params: &CertificateParams) -> Own {
    let key = KeyPair::generate().unwrap();
    Own { chain: vec![params.self_signed(&key).unwrap().der().clone()], key }
}

/// An authority: its certificate and what signs.
fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let (mut params, key) = (params("authority"), KeyPair::generate().unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
}

fn signed_by(issuer: &Issuer<'static, KeyPair>, params: &CertificateParams) -> Own {
    let key = KeyPair::generate().unwrap();
    Own { chain: vec![params.signed_by(&key, issuer).unwrap().der().clone()], key }
}

/// A whole handshake of `relay.example` in memory; what the client says of the server.
fn shake(pins: &[ServerPin], own: &Own, version: &'static SupportedProtocolVersion) -> Result<(), WrongServer> {
    let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let server = server.with_no_client_auth().with_single_cert(own.chain.clone(), key).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = "relay.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config(pins).unwrap()), name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| wrong_server(&error).expect("a wrong server"))?;
    }
    assert_eq!(client.protocol_version(), Some(version.version));
    Ok(())
}

#[test]
fn a_server_is_known_by_its_key_whatever_else_its_certificate_says() {
    for version in [&TLS12, &TLS13] {
        for params in [params("relay.example"), params("elsewhere.example"), expired("relay.example")] {
            let own = self_signed(&params);
            assert_eq!(shake(&[own.pin()], &own, version), Ok(()));
        }
    }
}

#[test]
fn another_key_is_refused_however_well_its_certificate_looks() {
    let (right, wrong) = (self_signed(&params("relay.example")), self_signed(&params("relay.example")));
    for version in [&TLS12, &TLS13] {
        assert_eq!(shake(&[right.pin()], &wrong, version), Err(WrongServer::Key));
    }
    // With none, nobody is known; not everybody.
    assert_eq!(shake(&[], &right, &TLS13), Err(WrongServer::Key));
}

#[test]
fn a_key_that_was_announced_beside_the_old_one_is_known() {
    let (old, new) = (self_signed(&params("relay.example")), self_signed(&params("relay.example")));
    for own in [&old, &new] {
        assert_eq!(shake(&[old.pin(), new.pin()], own, &TLS13), Ok(()));
    }
}

#[test]
fn a_server_of_a_known_authority_is_known_by_name_and_for_as_long_as_the_authority_said() {
    let (certificate, issuer) = authority();
    let pins = [pin_of(&certificate).unwrap()];
    for (params, expected) in [
        (params("relay.example"), Ok(())),
        (params("elsewhere.example"), Err(WrongServer::Name)),
        (expired("relay.example"), Err(WrongServer::Expired)),
    ] {
        let own = signed_by(&issuer, &params).with(&certificate);
        assert_eq!(shake(&pins, &own, &TLS13), expected);
    }
    // It has to be shown: whoever connects has its fingerprint only.
    let alone = signed_by(&issuer, &params("relay.example"));
    assert_eq!(shake(&pins, &alone, &TLS13), Err(WrongServer::Key));
}

#[test]
fn showing_somebody_elses_certificate_beside_ones_own_is_of_no_use() {
    let (certificate, _) = authority();
    let stranger = self_signed(&params("relay.example")).with(&certificate);
    assert_eq!(shake(&[pin_of(&certificate).unwrap()], &stranger, &TLS13), Err(WrongServer::Issuer));
    // Nor is that of the server itself, which signs nobody.
    let right = self_signed(&params("relay.example"));
    let stranger = self_signed(&params("relay.example")).with(&right.chain[0]);
    assert_eq!(shake(&[right.pin()], &stranger, &TLS13), Err(WrongServer::Issuer));
}
