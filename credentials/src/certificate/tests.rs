use std::process::Command;

use postern_protocol::ids::encode_base64;
use postern_protocol::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::identity::IdentityKey;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const YEAR: u64 = 365 * 86_400;

fn ca() -> CertificateAuthority {
    CertificateAuthority::create([1; 32], "issuer.example", NOW.minus_seconds(3600), NOW.plus_seconds(20 * YEAR))
        .unwrap()
}

fn owner() -> IdentityKey {
    IdentityKey::from_seed([2; 32])
}

fn subject() -> CertifiedSubject {
    CertifiedSubject { phone: "+41791234567".parse().unwrap(), key: owner().public() }
}

fn leaf() -> Vec<u8> {
    ca().issue(&subject(), [0xff; 16], NOW.minus_seconds(3600), NOW.plus_seconds(YEAR)).unwrap()
}

fn check(leaf: &[u8]) -> Result<CertifiedSubject, CertificateError> {
    verify(leaf, ca().certificate_der(), NOW)
}

/// rcgen's own key pair of a seed, to make certificates and requests that this module never would.
fn rcgen_key(seed: [u8; 32]) -> KeyPair {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend_from_slice(&seed);
    KeyPair::try_from(pkcs8).unwrap()
}

fn greedy_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "+15550000000");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![SanType::URI("tel:+15550000000".try_into().unwrap())];
    params
}

#[test]
fn a_certificate_says_number_and_key_and_verifies() {
    assert_eq!(check(&leaf()), Ok(subject()));
    assert_eq!(subject_key(&leaf()), Ok(owner().public()));
    assert_eq!(validity(&leaf()), Ok((NOW.minus_seconds(3600), NOW.plus_seconds(YEAR))));
}

#[test]
fn the_same_arguments_make_the_same_certificate() {
    assert_eq!(leaf(), leaf());
    assert_eq!(ca().certificate_der(), ca().certificate_der());
}

#[test]
fn a_stored_authority_goes_on_where_it_stopped() {
    let loaded = CertificateAuthority::load([1; 32], ca().certificate_der()).unwrap();
    let again = loaded.issue(&subject(), [0xff; 16], NOW.minus_seconds(3600), NOW.plus_seconds(YEAR)).unwrap();
    assert_eq!(again, leaf());
    assert_eq!(CertificateAuthority::load([3; 32], ca().certificate_der()).unwrap_err(), LoadError);
    assert_eq!(CertificateAuthority::load([2; 32], &leaf()).unwrap_err(), LoadError, "a leaf is no authority");
    let mut bad = ca().certificate_der().to_vec();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_eq!(CertificateAuthority::load([1; 32], &bad).unwrap_err(), LoadError);
}

#[test]
fn our_own_request_proves_possession() {
    let der = request(&owner()).unwrap();
    assert_eq!(parse_request(&der), Ok(owner().public()));
}

#[test]
fn a_request_that_asks_for_ca_true_and_another_name_yields_a_certificate_without_them() {
    let der = greedy_params().serialize_request(&rcgen_key([2; 32])).unwrap().der().to_vec();
    let key = parse_request(&der).unwrap();
    assert_eq!(key, owner().public());
    let made = ca()
        .issue(&CertifiedSubject { key, ..subject() }, [0xff; 16], NOW.minus_seconds(3600), NOW.plus_seconds(YEAR))
        .unwrap();
    assert_eq!(made, leaf(), "nothing of the request is in it but the key");
    assert!(!made.windows(12).any(|w| w == b"+15550000000"));
}

#[test]
fn a_request_with_a_bad_signature_is_refused() {
    let good = request(&owner()).unwrap();
    for n in good.len() - 64..good.len() {
        let mut bad = good.clone();
        bad[n] ^= 1;
        assert_eq!(parse_request(&bad), Err(CsrError::BadSignature), "{n}");
    }
    // Somebody else's key under our signature: the proof of possession is what fails.
    let at = good.windows(32).position(|w| w == owner().public().as_bytes()).unwrap();
    let mut stolen = good;
    stolen[at..at + 32].copy_from_slice(IdentityKey::from_seed([3; 32]).public().as_bytes());
    assert_eq!(parse_request(&stolen), Err(CsrError::BadSignature));
}

#[test]
fn a_request_with_another_kind_of_key_is_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = greedy_params().serialize_request(&key).unwrap().der().to_vec();
        assert_eq!(parse_request(&der), Err(CsrError::NotEd25519));
    }
}

#[test]
fn a_request_that_is_cut_lengthened_or_changed_anywhere_is_refused() {
    let good = request(&owner()).unwrap();
    assert_eq!(parse_request(&[good.as_slice(), &[0]].concat()), Err(CsrError::Malformed));
    for n in 0..good.len() {
        assert!(parse_request(&good[..n]).is_err(), "cut to {n}");
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[n] ^= 1 << bit;
            assert!(parse_request(&bad).is_err(), "byte {n} bit {bit}");
        }
    }
    assert_eq!(parse_request(&vec![0x30; 1 << 20]), Err(CsrError::Malformed));
}

#[test]
fn every_flipped_bit_of_a_certificate_is_refused() {
    let good = leaf();
    let ca = ca();
    for n in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[n] ^= 1 << bit;
            assert!(verify(&bad, ca.certificate_der(), NOW).is_err(), "byte {n} bit {bit}");
        }
        assert!(verify(&good[..n], ca.certificate_der(), NOW).is_err(), "cut to {n}");
    }
    assert_eq!(check(&[good.as_slice(), &[0]].concat()), Err(CertificateError::Malformed));
}

#[test]
fn a_certificate_in_a_longer_encoding_than_needed_is_refused() {
    // The same content behind a three-byte length: BER, not DER, and another fingerprint.
    let good = leaf();
    assert_eq!(&good[..2], &[0x30, 0x82]);
    let longer = [&[0x30, 0x83, 0x00], &good[2..]].concat();
    assert_eq!(check(&longer), Err(CertificateError::Malformed));
}

#[test]
fn another_authority_of_the_same_name_is_another_authority() {
    let other =
        CertificateAuthority::create([9; 32], "issuer.example", NOW.minus_seconds(3600), NOW.plus_seconds(YEAR))
            .unwrap();
    let forged = other.issue(&subject(), [1; 16], NOW.minus_seconds(3600), NOW.plus_seconds(YEAR)).unwrap();
    assert_eq!(check(&forged), Err(CertificateError::WrongAuthority));
    assert_eq!(verify(&leaf(), other.certificate_der(), NOW), Err(CertificateError::WrongAuthority));
}

#[test]
fn the_owner_of_a_certificate_cannot_make_certificates() {
    // Alice signs for another number with her own key, under every claim that she can copy.
    let alice =
        CertificateAuthority::create([2; 32], "+41791234567", NOW.minus_seconds(3600), NOW.plus_seconds(YEAR)).unwrap();
    let victim = CertifiedSubject { phone: "+15550000000".parse().unwrap(), ..subject() };
    let forged = alice.issue(&victim, [1; 16], NOW.minus_seconds(3600), NOW.plus_seconds(YEAR)).unwrap();
    assert!(check(&forged).is_err());
    assert_eq!(verify(&forged, &leaf(), NOW), Err(CertificateError::WrongAuthority), "a leaf signs nothing");
}

#[test]
fn the_authority_itself_is_not_a_person() {
    let ca = ca();
    assert_eq!(verify(ca.certificate_der(), ca.certificate_der(), NOW), Err(CertificateError::NotAnIdentity));
}

#[test]
fn a_certificate_is_valid_within_its_time_and_its_authoritys_alone() {
    let (leaf, ca) = (leaf(), ca());
    let at = |now| verify(&leaf, ca.certificate_der(), now);
    assert!(at(NOW.minus_seconds(3600)).is_ok());
    assert_eq!(at(NOW.minus_seconds(3601)), Err(CertificateError::NotInTime));
    assert!(at(NOW.plus_seconds(YEAR)).is_ok());
    assert_eq!(at(NOW.plus_seconds(YEAR + 1)), Err(CertificateError::NotInTime));
    let long = ca.issue(&subject(), [1; 16], NOW, NOW.plus_seconds(40 * YEAR)).unwrap();
    assert_eq!(
        verify(&long, ca.certificate_der(), NOW.plus_seconds(21 * YEAR)),
        Err(CertificateError::NotInTime),
        "the authority has ended"
    );
}

/// Signed by the authority's own key, but with other contents than this module writes.
fn signed_by_ca(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "+41791234567");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![SanType::URI("tel:+41791234567".try_into().unwrap())];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca().certificate_der().into(), rcgen_key([1; 32])).unwrap();
    params.signed_by(&rcgen_key([2; 32]), &issuer).unwrap().der().to_vec()
}

#[test]
fn what_the_authority_signs_by_mistake_is_still_no_identity() {
    assert!(check(&signed_by_ca(|_| {})).is_ok(), "the cases below differ from a good one in one thing each");
    let not_an_identity = Err(CertificateError::NotAnIdentity);
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    assert_eq!(check(&signed_by_ca(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.is_ca = IsCa::NoCa)), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.key_usages.clear())), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.subject_alt_names.clear())), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.subject_alt_names = vec![uri("tel:+41791234568")])), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.subject_alt_names = vec![uri("sms:+41791234567")])), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.subject_alt_names.push(uri("tel:+15550000000")))), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.distinguished_name.push(DnType::CommonName, "41791234567"))), not_an_identity);
    assert_eq!(check(&signed_by_ca(|p| p.distinguished_name.push(DnType::OrganizationName, "Bank"))), not_an_identity);
    let unknown = || {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
        extension.set_criticality(true);
        extension
    };
    assert_eq!(check(&signed_by_ca(|p| p.custom_extensions = vec![unknown()])), not_an_identity);
    assert_eq!(
        check(&signed_by_ca(|p| p.use_authority_key_identifier_extension = false)),
        Err(CertificateError::WrongAuthority)
    );
}

#[test]
fn dates_that_x509_cannot_hold_are_refused() {
    let beyond = Timestamp::from_seconds(253_402_300_800);
    assert_eq!(ca().issue(&subject(), [1; 16], NOW, beyond), Err(IssueError));
    assert!(CertificateAuthority::create([1; 32], "x", NOW, Timestamp(u64::MAX)).is_err());
    let last = Timestamp::from_seconds(253_402_300_799);
    let forever = ca().issue(&subject(), [1; 16], NOW, last).unwrap();
    assert_eq!(validity(&forever).unwrap().1, last);
}

#[test]
fn a_serial_is_positive_and_of_17_bytes_whatever_it_is_made_of() {
    for serial in [[0; 16], [0xff; 16], [0x80; 16]] {
        let der = ca().issue(&subject(), serial, NOW, NOW.plus_seconds(60)).unwrap();
        let expected = [&[0x02, 17, 1], serial.as_slice()].concat();
        assert!(der.windows(expected.len()).any(|w| w == expected));
        assert!(check(&der).is_ok());
    }
}

/// Runs `openssl verify -x509_strict` on the two certificates at [`NOW`].
fn openssl_accepts(name: &str, leaf: &[u8]) -> bool {
    let dir = std::env::temp_dir().join(format!("postern-certificate-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (ca_path, leaf_path) = (dir.join("ca.pem"), dir.join("leaf.pem"));
    std::fs::write(&ca_path, pem(ca().certificate_der())).unwrap();
    std::fs::write(&leaf_path, pem(leaf)).unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &NOW.seconds().to_string(), "-CAfile"])
        .args([&ca_path, &leaf_path])
        .output()
        .expect("openssl must be installed: this test must not pass without it");
    std::fs::remove_dir_all(&dir).unwrap();
    output.status.success()
}

fn pem(der: &[u8]) -> String {
    let mut text = encode_base64(der).replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn openssl_accepts_the_certificate_under_its_strictest_rules() {
    assert!(openssl_accepts("good", &leaf()));
}

#[test]
fn openssl_refuses_the_certificate_after_tampering() {
    let mut bad = leaf();
    let at = bad.windows(12).position(|w| w == b"+41791234567").unwrap();
    bad[at + 11] ^= 1;
    assert!(!openssl_accepts("number", &bad));
    let mut bad = leaf();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert!(!openssl_accepts("signature", &bad));
}

#[test]
fn a_certificate_that_names_another_algorithm_inside_than_outside_is_refused() {
    let good = leaf();
    let tbs = &good[4..good.len() - 74];
    let signed = |tbs: &[u8]| {
        let signature = IdentityKey::from_seed([1; 32]).sign_raw(tbs);
        [&good[..4], tbs, &ED25519, &[0x03, 0x41, 0x00], &signature.0].concat()
    };
    assert_eq!(signed(tbs), good, "put together again unchanged");
    let at = tbs.windows(7).position(|w| w == ED25519).unwrap();
    let mut ed448 = tbs.to_vec();
    ed448[at + 6] = 0x71;
    assert_eq!(check(&signed(&ed448)), Err(CertificateError::Malformed));
}
