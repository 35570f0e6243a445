use std::fs::{Permissions, set_permissions, write};

use postern_protocol::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::make_self_signed;

/// A directory with a certificate of its own making.
fn made() -> (TempDir, TlsFiles, ServerPin) {
    let dir = TempDir::new().unwrap();
    let made = make_self_signed(dir.path(), "https://127.0.0.1:8443", Timestamp::from_seconds(1_800_000_000)).unwrap();
    assert_eq!(made.url, format!("https://{}@127.0.0.1:8443", made.pin));
    let mut files = made.files;
    files.lie_in(dir.path());
    (dir, files, made.pin)
}

#[test]
fn what_was_made_can_be_served_and_is_known_by_the_fingerprint_that_was_told() {
    let (dir, files, pin) = made();
    assert_eq!(ServerTls::load(files).unwrap().pin(), pin);
    let again = make_self_signed(dir.path(), "https://relay.example", Timestamp::from_seconds(1_800_000_000));
    assert!(matches!(again, Err(TlsError::File(..))), "nothing is overwritten");
}

#[test]
fn without_https_there_is_no_certificate() {
    let dir = TempDir::new().unwrap();
    for url in ["http://relay.example", "relay.example", "https://user@relay.example", "https://:8080"] {
        assert!(make_self_signed(dir.path(), url, Timestamp::from_seconds(1)).is_err(), "{url}");
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (_dir, files, _) = made();
    for (mode, fits) in [(0o600, true), (0o400, true), (0o640, true), (0o660, false), (0o604, false), (0o644, false)] {
        set_permissions(&files.key_file, Permissions::from_mode(mode)).unwrap();
        let loaded = ServerTls::load(files.clone());
        assert_eq!(loaded.is_ok(), fits, "{mode:o}");
        assert!(fits || matches!(loaded, Err(TlsError::Open(_))));
    }
}

#[test]
fn a_good_new_certificate_is_taken_and_a_broken_one_leaves_the_old_in_place() {
    let ((_dir, files, first), (_other, new, second)) = (made(), made());
    let tls = ServerTls::load(files.clone()).unwrap();
    let old = tls.config();
    let (key, certificate) = (std::fs::read(&new.key_file).unwrap(), std::fs::read(&new.certificate_file).unwrap());

    write(&files.certificate_file, &certificate).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::OtherKey(_))), "half of a renewal");
    write(&files.certificate_file, "nothing").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate(_))));
    std::fs::remove_file(&files.certificate_file).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::File(..))));
    assert!(tls.pin() == first && Arc::ptr_eq(&tls.config(), &old), "all stays as it was");

    write(&files.certificate_file, &certificate).unwrap();
    write(&files.key_file, "nothing").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NoKey(_))));
    write(&files.key_file, &key).unwrap();
    assert_eq!(tls.reload().unwrap(), second);
    assert!(tls.pin() == second && !Arc::ptr_eq(&tls.config(), &old));
}
