//! What is sealed or signed: cards, certificates, cookies, envelopes, prekeys, presentations.

use ed25519_dalek::{Signer, SigningKey};
use postern_credentials::card::{SEALED_CARD, open_card};
use postern_credentials::certificate::{self, CertificateError, CsrError, parse_request};
use postern_credentials::envelope::{self, SealingKey, capacity};
use postern_credentials::login_chain::ServerLogin;
use postern_credentials::phone_code::PhoneCodeKeys;
use postern_credentials::prekey::open_prekey;
use postern_credentials::reply_credential::{
    EpochBase, GroupSecret, MemberCredential, MemberSecret, Presentation, envelope_digest, peek_nullifier, verify_at,
};
use postern_credentials::seal::{OVERHEAD, SealKey};
use postern_credentials::secrets::RootSecret;
use postern_protocol::card::{Card, CardLink};
use postern_protocol::ids::{MailboxId, PrekeyClaim, SealedPrekey, SigningPublicKey};
use postern_protocol::prekeys::{MAX_PREKEYS, Prekey, PrekeyUpload};
use postern_protocol::reply::Handover;
use postern_protocol::send::ENVELOPE_SIZES;

use super::{canonical, frugal, text};
use crate::seeds::{self, MAILBOX, NOW, SEED};

/// A presentation, credentials as they are handed over and stored, and the handover.
pub(crate) fn presentation(data: &[u8]) {
    canonical(data, 2, MemberSecret::from_stored, |secret| secret.to_stored().to_vec());
    canonical(data, 2, GroupSecret::from_stored, |secret| secret.to_stored().to_vec());
    // A point of 32 bytes is 160 in memory.
    canonical(data, 12, MemberCredential::decode, |credential| credential.encode().to_vec());
    canonical(data, 4, Handover::decode, |handover| handover.encode().unwrap().to_vec());
    let Ok(bytes) = <&[u8; Presentation::LEN]>::try_from(data) else { return };
    let Some(shown) = canonical(data, 1, |_| Presentation::decode(bytes), |shown| shown.encode().to_vec()) else {
        return;
    };
    assert_eq!(shown.nullifier(), peek_nullifier(bytes));
    let (group, context) = seeds::group();
    let held = verify_at(
        &group.verification_key(&context.of),
        &EpochBase::new(&context),
        &shown,
        &envelope_digest(b"envelope"),
    );
    assert!(held.is_err() || data == seeds::presentation(), "a presentation was forged");
}

/// What is sealed is opened, from the smallest envelope that it fits, and by nothing that differs in a bit.
pub(crate) fn envelope(data: &[u8]) {
    let key = SealingKey::from_seed(SEED);
    for size in ENVELOPE_SIZES {
        let mut junk = data.to_vec();
        junk.resize(size, 0);
        assert!(envelope::open(&key, &MAILBOX, &junk).is_err());
        if data.len() <= size {
            break;
        }
    }
    let Ok(mut sealed) = envelope::seal(&mut seeds::rng(), &seeds::sealing_key(), &MAILBOX, data) else {
        assert!(data.len() > capacity(ENVELOPE_SIZES[2]));
        return;
    };
    assert_eq!(Some(sealed.len()), ENVELOPE_SIZES.into_iter().find(|size| data.len() <= capacity(*size)));
    assert!(*envelope::open(&key, &MAILBOX, &sealed).unwrap() == data);
    let at = data.iter().fold(data.len(), |at, byte| at.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let length = sealed.len();
    sealed[at % length] ^= 1 << (at % 8);
    assert!(envelope::open(&key, &MAILBOX, &sealed).is_err(), "a bit more or less makes no difference");
}

/// `SEQUENCE { body, Ed25519, BIT STRING signature }`, signed: so that what is inside is reached at all.
fn signed(body: &[u8]) -> Vec<u8> {
    let signature = SigningKey::from_bytes(&SEED).sign(body).to_bytes();
    let algorithm = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];
    let content = [body, &algorithm, &signature].concat();
    let [.., high, low] = content.len().to_be_bytes();
    let header: &[u8] = match content.len() {
        0..0x80 => &[0x30, low],
        0x80..0x100 => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    [header, &content].concat()
}

/// A certificate request as it comes; and what it asks, signed: whose key it names has signed it.
pub(crate) fn csr(data: &[u8]) {
    let own = SigningPublicKey(SigningKey::from_bytes(&SEED).verifying_key().to_bytes());
    for der in [data.to_vec(), signed(data)] {
        // x509-parser takes names and extensions apart into vectors.
        if let Ok(key) = frugal(&der, 64, || parse_request(&der)) {
            assert!(key == own || der == data);
            let longer = [der.as_slice(), &[0]].concat();
            assert_eq!(parse_request(&longer), Err(CsrError::Malformed));
            assert!(parse_request(&der[..der.len() - 1]).is_err());
        }
    }
}

/// A certificate as it comes; and its contents, signed by the authority: only what says one number, twice, is taken.
pub(crate) fn certificate(data: &[u8]) {
    let authority = seeds::authority();
    for der in [data.to_vec(), signed(data)] {
        let read = frugal(&der, 64, || certificate::subject_key(&der));
        let verified = certificate::verify(&der, authority, NOW);
        let Ok(key) = read else {
            assert_eq!(verified, Err(CertificateError::Malformed));
            continue;
        };
        if let Ok(subject) = verified {
            let (from, until) = certificate::validity(&der).unwrap();
            let uri = format!("tel:{}", subject.phone.as_str());
            assert!(subject.key == key && from <= NOW && NOW.seconds() <= until.seconds());
            assert!(der.windows(uri.len()).any(|part| part == uri.as_bytes()));
            assert!(certificate::verify(&[der.as_slice(), &[0]].concat(), authority, NOW).is_err());
        }
    }
}

/// A cookie as it comes, one with bits changed, and one of any contents: it opens for its number, key and time only. The nonce of a login as well.
pub(crate) fn cookie(data: &[u8]) {
    let root = RootSecret::from_bytes(SEED);
    let (keys, phone) = (PhoneCodeKeys::derive(&root), seeds::phone());
    let (mut good, code) = seeds::cookie();
    assert!(keys.open(data, &phone, NOW).is_err() || data == good);
    good.iter_mut().zip(data).for_each(|(byte, change)| *byte ^= change);
    let changed = data.iter().take(good.len()).any(|change| *change != 0);
    assert_eq!(keys.open(&good, &phone, NOW).is_err(), changed);
    assert_eq!(keys.check(&good, code.as_str()), !changed || keys.code(&good).as_str() == code.as_str());
    let seal = |label: &str, context: &[u8]| SealKey::new(*root.derive(label)).seal(&mut seeds::rng(), context, data);
    let sealed = seal("phone-cookie", b"postern/phone-cookie/v1");
    if let Ok(contents) = keys.open(&sealed, &phone, NOW) {
        let written =
            [&contents.expires.0.to_be_bytes(), contents.client_key.0.as_slice(), phone.as_str().as_bytes()].concat();
        assert!(written == data && contents.expires > NOW);
    }
    let logins = ServerLogin::derive(&root);
    assert!(logins.open_nonce(data, &phone, NOW).is_err() || data == seeds::login_nonce());
    if let Ok(nonce) = logins.open_nonce(&seal("login-nonce", b"postern/login-nonce/v1"), &phone, NOW) {
        assert!(nonce.expires() > NOW);
    }
}

/// A card; and one sealed for a link, which is this link's or none.
pub(crate) fn card(data: &[u8]) {
    canonical(data, 2, Card::decode, |card| card.encode().unwrap());
    let (link, authority) = (seeds::card_link(), seeds::authority());
    let open = |sealed: &[u8]| open_card(&link, sealed, authority, NOW);
    if let Ok((card, subject)) = open(data) {
        assert!(card.mailbox == link.mailbox && subject.key == link.identity && data.len() == SEALED_CARD);
    }
    // Whoever has the link can seal; only the owner signs.
    let mut plain = data.to_vec();
    plain.resize(SEALED_CARD - OVERHEAD, 0);
    if let Ok((card, subject)) = open(&seeds::seal_for_link("postern/card/v1", &plain)) {
        assert!(subject.key == link.identity && card == seeds::card(), "a card was forged");
    }
}

/// `postern:v1?…`: one spelling, but for spaces round it.
pub(crate) fn card_link(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let trimmed = text.trim();
    canonical(trimmed.as_bytes(), 2, |_| text.parse::<CardLink>(), |link| link.to_string().into_bytes());
}

/// A prekey, an upload of them, a claim; and a sealed one, which only the owner signs.
pub(crate) fn prekey(data: &[u8]) {
    canonical(data, 2, Prekey::decode, Prekey::encode);
    if let Some(upload) = canonical(data, 2, PrekeyUpload::decode, PrekeyUpload::encode) {
        assert!((1..=MAX_PREKEYS).contains(&upload.prekeys.len()) && (1..1 << 63).contains(&upload.batch));
    }
    canonical(data, 1, PrekeyClaim::from_slice, |claim| claim.0.to_vec());
    canonical(data, 1, SealedPrekey::from_slice, |sealed| sealed.0.to_vec());
    let link = seeds::card_link();
    let sealed = seeds::seal_for_link("postern/prekey/v1", data);
    for sealed in [data, &sealed] {
        assert!(open_prekey(&link, sealed).is_err() || seeds::is_own_prekey(data), "a prekey was forged");
    }
    let other = CardLink { mailbox: MailboxId([0xee; 32]), ..link };
    assert!(open_prekey(&other, data).is_err());
}
