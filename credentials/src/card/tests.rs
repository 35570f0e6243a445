use postern_protocol::ids::{DhPublicKey, PhoneNumber, SealingPublicKey, Signature};

use super::*;
use crate::certificate::CertificateAuthority;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MAILBOX: MailboxId = MailboxId([2; 32]);

struct Stage {
    ca: CertificateAuthority,
    owner: IdentityKey,
}

impl Stage {
    fn new() -> Self {
        let ca = CertificateAuthority::create([1; 32], "issuer", NOW.minus_seconds(3600), NOW.plus_seconds(1 << 28));
        Self { ca: ca.unwrap(), owner: IdentityKey::from_seed([2; 32]) }
    }

    fn certificate(&self, owner: &IdentityKey) -> Vec<u8> {
        let phone: PhoneNumber = "+41791234567".parse().unwrap();
        let subject = CertifiedSubject { phone, key: owner.public() };
        self.ca.issue(&subject, [7; 16], NOW.minus_seconds(3600), NOW.plus_seconds(3600)).unwrap()
    }

    fn unsigned(&self) -> Card {
        Card {
            certificate: self.certificate(&self.owner),
            relay_url: "https://relay.example".into(),
            mailbox: MAILBOX,
            sealing_key: SealingPublicKey([3; 1216]),
            olm_identity: DhPublicKey([4; 32]),
            olm_fallback: DhPublicKey([5; 32]),
            signed_at: NOW.seconds(),
            signature: Signature([0; 64]),
        }
    }

    fn card(&self) -> Card {
        sign(&self.owner, self.unsigned()).unwrap()
    }

    fn link(&self) -> CardLink {
        CardLink { relay_url: "https://relay.example".into(), mailbox: MAILBOX, identity: self.owner.public() }
    }

    fn seal(&self, card: &Card) -> Vec<u8> {
        seal_card(&mut crate::testing::rng(), card).unwrap()
    }

    fn open(&self, link: &CardLink, sealed: &[u8]) -> Result<(Card, CertifiedSubject), CardError> {
        open_card(link, sealed, self.ca.certificate_der(), NOW)
    }
}

#[test]
fn who_has_the_link_reads_the_card_and_whose_it_is() {
    let stage = Stage::new();
    let sealed = stage.seal(&stage.card());
    assert_eq!(sealed.len(), SEALED_CARD);
    let (card, subject) = stage.open(&stage.link(), &sealed).unwrap();
    assert_eq!(card, stage.card());
    assert_eq!(subject.phone.as_str(), "+41791234567");
    assert_eq!(subject.key, stage.owner.public());
}

#[test]
fn a_link_with_another_identity_or_mailbox_opens_nothing() {
    let stage = Stage::new();
    let sealed = stage.seal(&stage.card());
    let other = IdentityKey::from_seed([3; 32]).public();
    for link in [CardLink { identity: other, ..stage.link() }, CardLink { mailbox: MailboxId([3; 32]), ..stage.link() }]
    {
        assert_eq!(stage.open(&link, &sealed), Err(CardError::Malformed));
    }
}

#[test]
fn a_certified_card_of_somebody_else_behind_the_link_is_refused() {
    // Mallory has a genuine card of his own and knows Alice's link, so he can seal under its key.
    let stage = Stage::new();
    let mallory = IdentityKey::from_seed([3; 32]);
    let genuine = Card { certificate: stage.certificate(&mallory), ..stage.unsigned() };
    let genuine = sign(&mallory, genuine).unwrap();
    assert!(verify(&genuine, stage.ca.certificate_der(), NOW).is_ok());
    let sealed = seal_under(&stage.link(), &genuine);
    assert_eq!(stage.open(&stage.link(), &sealed), Err(CardError::Malformed));
}

#[test]
fn a_card_of_the_same_identity_for_another_mailbox_is_refused() {
    let stage = Stage::new();
    let old = sign(&stage.owner, Card { mailbox: MailboxId([9; 32]), ..stage.unsigned() }).unwrap();
    assert_eq!(stage.open(&stage.link(), &seal_under(&stage.link(), &old)), Err(CardError::Malformed));
}

/// As [`seal_card`], but under the key of any link.
fn seal_under(link: &CardLink, card: &Card) -> Vec<u8> {
    let bytes = card.encode().unwrap();
    let mut plain = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    plain.extend_from_slice(&bytes);
    plain.resize(SEALED_CARD - OVERHEAD, 0);
    link_key(&link.identity, &link.mailbox).seal(&mut crate::testing::rng(), LABEL.as_bytes(), &plain)
}

#[test]
fn a_card_that_was_changed_after_signing_is_refused() {
    let stage = Stage::new();
    let good = stage.card();
    let check = |card: &Card| verify(card, stage.ca.certificate_der(), NOW);
    assert!(check(&good).is_ok());
    for (what, bad) in [
        ("relay", Card { relay_url: "https://evil.example".into(), ..good.clone() }),
        ("mailbox", Card { mailbox: MailboxId([9; 32]), ..good.clone() }),
        ("sealing key", Card { sealing_key: SealingPublicKey([9; 1216]), ..good.clone() }),
        ("olm identity", Card { olm_identity: DhPublicKey([9; 32]), ..good.clone() }),
        ("olm fallback", Card { olm_fallback: DhPublicKey([9; 32]), ..good.clone() }),
        ("time", Card { signed_at: good.signed_at - 1, ..good.clone() }),
        ("unsigned", stage.unsigned()),
        ("signed by another", sign(&IdentityKey::from_seed([3; 32]), stage.unsigned()).unwrap()),
    ] {
        assert_eq!(check(&bad), Err(CardError::BadSignature), "{what}");
    }
}

#[test]
fn every_flipped_byte_of_a_sealed_card_is_refused() {
    let stage = Stage::new();
    let sealed = stage.seal(&stage.card());
    for n in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[n] ^= 1;
        assert_eq!(stage.open(&stage.link(), &bad), Err(CardError::Malformed), "{n}");
    }
    assert_eq!(stage.open(&stage.link(), &sealed[1..]), Err(CardError::Malformed));
    assert_eq!(stage.open(&stage.link(), b""), Err(CardError::Malformed));
}

#[test]
fn a_card_with_a_foreign_or_expired_certificate_is_refused() {
    let stage = Stage::new();
    let foreign =
        CertificateAuthority::create([9; 32], "issuer", NOW.minus_seconds(3600), NOW.plus_seconds(3600)).unwrap();
    let refused = verify(&stage.card(), foreign.certificate_der(), NOW);
    assert!(matches!(refused, Err(CardError::Certificate(_))));
    let late = verify(&stage.card(), stage.ca.certificate_der(), NOW.plus_seconds(3601));
    assert_eq!(late, Err(CardError::Certificate(CertificateError::NotInTime)));
}

#[test]
fn a_card_from_the_future_is_refused() {
    let stage = Stage::new();
    let at = |ahead| {
        let card = Card { signed_at: NOW.seconds() + ahead, ..stage.unsigned() };
        verify(&sign(&stage.owner, card).unwrap(), stage.ca.certificate_der(), NOW)
    };
    assert!(at(MAX_SKEW_SECONDS).is_ok());
    assert_eq!(at(MAX_SKEW_SECONDS + 1), Err(CardError::FromTheFuture));
}

#[test]
fn a_sealed_card_shows_neither_number_nor_certificate() {
    let stage = Stage::new();
    let sealed = stage.seal(&stage.card());
    let plain = stage.card().encode().unwrap();
    let windows: std::collections::HashSet<&[u8]> = sealed.windows(8).collect();
    assert!(plain.windows(8).all(|w| !windows.contains(w)));
}

#[test]
fn a_card_that_does_not_fit_is_not_sealed() {
    let stage = Stage::new();
    let long = Card { relay_url: "x".repeat(3000), ..stage.unsigned() };
    assert_eq!(seal_card(&mut crate::testing::rng(), &long), Err(MakeError::TooLong));
    let none = Card { certificate: b"no".to_vec(), ..stage.unsigned() };
    assert_eq!(seal_card(&mut crate::testing::rng(), &none), Err(MakeError::Certificate));
}
