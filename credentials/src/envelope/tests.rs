use std::collections::HashSet;

use proptest::prelude::*;
use rand::rngs::StdRng;

use super::*;

const MAILBOX: MailboxId = MailboxId([8; 32]);

fn key() -> SealingKey {
    SealingKey::from_seed([1; 32])
}

fn sealed(rng: &mut StdRng, inner: &[u8]) -> Vec<u8> {
    seal(rng, &key().public(), &MAILBOX, inner).unwrap()
}

#[test]
fn an_envelope_opens_for_its_key_and_mailbox_alone() {
    let envelope = sealed(&mut crate::testing::rng(), b"hello");
    assert_eq!(open(&key(), &MAILBOX, &envelope).unwrap().as_slice(), b"hello");
    assert_eq!(open(&SealingKey::from_seed([2; 32]), &MAILBOX, &envelope), Err(OpenError));
    assert_eq!(open(&key(), &MailboxId([9; 32]), &envelope), Err(OpenError));
}

#[test]
fn every_envelope_has_exactly_one_of_the_published_sizes() {
    let mut rng = crate::testing::rng();
    for (n, size) in ENVELOPE_SIZES.into_iter().enumerate() {
        let full = vec![7; capacity(size)];
        let envelope = sealed(&mut rng, &full);
        assert_eq!(envelope.len(), size);
        assert_eq!(*open(&key(), &MAILBOX, &envelope).unwrap(), full);
        let over = [full.as_slice(), &[7]].concat();
        match ENVELOPE_SIZES.get(n + 1) {
            Some(next) => assert_eq!(sealed(&mut rng, &over).len(), *next),
            None => assert_eq!(seal(&mut rng, &key().public(), &MAILBOX, &over), Err(SealError::TooLarge)),
        }
    }
    let empty = sealed(&mut rng, b"");
    assert_eq!(empty.len(), ENVELOPE_SIZES[0]);
    assert_eq!(open(&key(), &MAILBOX, &empty).unwrap().as_slice(), b"");
    assert_eq!(capacity(0), 0);
}

#[test]
fn every_flipped_byte_is_refused() {
    let envelope = sealed(&mut crate::testing::rng(), b"hello");
    // Around the seams (ML-KEM ‖ X25519 ‖ ciphertext ‖ tag) every byte, between them a sample.
    let seams = [0, 1088, ENC, ENC + 9, envelope.len() - TAG, envelope.len()];
    let near = |n: usize| seams.iter().any(|seam| n.abs_diff(*seam) <= 4);
    for n in (0..envelope.len()).filter(|n| near(*n) || n % 61 == 0) {
        let mut bad = envelope.clone();
        bad[n] ^= 1;
        assert_eq!(open(&key(), &MAILBOX, &bad), Err(OpenError), "{n}");
    }
}

#[test]
fn a_cut_lengthened_or_resized_envelope_is_refused() {
    let envelope = sealed(&mut crate::testing::rng(), b"hello");
    for n in [0, 1, ENC - 1, ENC, ENC + TAG, envelope.len() - 1] {
        assert_eq!(open(&key(), &MAILBOX, &envelope[..n]), Err(OpenError), "{n}");
    }
    let mut longer = envelope;
    for size in ENVELOPE_SIZES {
        longer.resize(size, 0);
        longer.push(0);
        assert_eq!(open(&key(), &MAILBOX, &longer), Err(OpenError));
        longer.pop();
    }
    assert_eq!(open(&key(), &MAILBOX, &longer), Err(OpenError));
}

#[test]
fn two_envelopes_of_one_message_have_no_eight_bytes_in_common() {
    let mut rng = crate::testing::rng();
    let (a, b) = (sealed(&mut rng, b"hello"), sealed(&mut rng, b"hello"));
    let windows: HashSet<&[u8]> = a.windows(8).collect();
    assert!(b.windows(8).all(|w| !windows.contains(w)));
    // Nor has an envelope anything of the key that it is sealed to.
    let public = key().public();
    assert!(public.0.windows(8).all(|w| !windows.contains(w)));
}

#[test]
fn bytes_that_are_no_key_seal_nothing() {
    // ML-KEM coefficients lie below 3329 (FIPS 203 §7.2); all ones do not.
    let bad = SealingPublicKey([0xff; SealingPublicKey::LEN]);
    assert_eq!(seal(&mut crate::testing::rng(), &bad, &MAILBOX, b"x"), Err(SealError::BadKey));
}

#[test]
fn padding_that_says_something_is_refused() {
    assert_eq!(unpad(&[0, 0, 0, 1, 9, 0, 0]).unwrap().as_slice(), [9]);
    assert!(unpad(&[0, 0, 0, 1, 9, 0, 1]).is_none());
    assert!(unpad(&[0, 0, 0, 4, 9, 0, 0]).is_none());
    assert!(unpad(&[0xff, 0xff, 0xff, 0xff, 9, 0, 0]).is_none());
    assert!(unpad(&[0, 0, 0]).is_none());
}

#[test]
fn a_key_comes_back_from_its_seed() {
    let key = SealingKey::generate(&mut crate::testing::rng());
    assert_eq!(SealingKey::from_seed(*key.seed()).public(), key.public());
    assert_ne!(key.public(), super::tests::key().public());
}

#[test]
fn debug_shows_nothing() {
    assert_eq!(format!("{:?}", key()), "SealingKey(secret)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_sealed_comes_back(inner in proptest::collection::vec(any::<u8>(), 0..20_000), seed: [u8; 32]) {
        let key = SealingKey::from_seed(seed);
        let envelope = seal(&mut crate::testing::rng(), &key.public(), &MAILBOX, &inner).unwrap();
        prop_assert!(ENVELOPE_SIZES.contains(&envelope.len()));
        prop_assert_eq!(&*open(&key, &MAILBOX, &envelope).unwrap(), &inner);
    }
}
