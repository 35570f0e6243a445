//! The people and things of the targets, always the same, and the seeds of the corpora made of them: one at least of every form that a
//! target reads, valid, and some that are nearly so. `POSTERN_WRITE_SEEDS=1 cargo test -p postern-fuzz-targets` writes them.

use std::sync::LazyLock;

use hkdf::Hkdf;
use postern_credentials::certificate::{self, CertificateAuthority, CertifiedSubject};
use postern_credentials::directory::{Account, Build, BuildParams, Previous, build, manifest_digest, sign_manifest};
use postern_credentials::envelope::SealingKey;
use postern_credentials::identity::IdentityKey;
use postern_credentials::key_log::sign_head;
use postern_credentials::login_chain::{ClientLogin, ServerLogin};
use postern_credentials::phone_code::{Code, PhoneCodeKeys};
use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberCredential, MemberSecret, Params, envelope_digest, relay_id,
};
use postern_credentials::seal::SealKey;
use postern_credentials::secrets::RootSecret;
use postern_credentials::{card, prekey};
use postern_protocol::card::{Card, CardLink};
use postern_protocol::directory::{Manifest, Record};
use postern_protocol::ids::{
    DhPublicKey, MailboxId, OprfOutput, OprfPublicKey, PhoneNumber, SealedPrekey, SealingPublicKey, Sha256Digest,
    Signature,
};
use postern_protocol::log::LogHead;
use postern_protocol::prekeys::Prekey;
use postern_protocol::register::RelayEntry;
use postern_protocol::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::Sha256;

mod bytes;
mod texts;

/// The issuer's name.
pub const ISSUER: &str = "issuer.example";
/// The relay's.
pub const RELAY: &str = "relay.example";
/// Where it is.
pub const RELAY_URL: &str = "https://relay.example";
/// Of every key that somebody has.
pub const SEED: [u8; 32] = [7; 32];
/// The mailbox written to.
pub const MAILBOX: MailboxId = MailboxId([2; 32]);
/// The present.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// The base point of ristretto255 (RFC 9496 §4.3.4): a key, and a blinded number, as good as any.
const BASE_POINT: [u8; 32] = [
    0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58, 0xe3, 0x0b,
    0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
];

/// A day, and some more.
const SOON: Timestamp = Timestamp::from_seconds(1_800_100_000);

/// The first bytes of a corpus: target, name of the file, what is in it.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut all = bytes::all();
    all.extend(texts::all());
    all
}

/// Always the same stream.
pub(crate) fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

pub(crate) fn phone() -> PhoneNumber {
    "+41791234567".parse().unwrap()
}

/// Who has the card, the prekey and the certificate.
fn owner() -> IdentityKey {
    IdentityKey::from_seed([8; 32])
}

/// The authority's certificate; its key is that of [`SEED`].
pub(crate) fn authority() -> &'static [u8] {
    static MADE: LazyLock<CertificateAuthority> = LazyLock::new(|| {
        CertificateAuthority::create(SEED, ISSUER, Timestamp::from_seconds(1_700_000_000), SOON).unwrap()
    });
    MADE.certificate_der()
}

/// The owner's certificate.
fn certified() -> Vec<u8> {
    let authority = CertificateAuthority::load(SEED, authority()).unwrap();
    let subject = CertifiedSubject { phone: phone(), key: owner().public() };
    authority.issue(&subject, [9; 16], Timestamp::from_seconds(1_799_000_000), SOON).unwrap()
}

/// What a certificate or a request says, without its signature.
fn unsigned(der: &[u8]) -> Vec<u8> {
    let header = match der[1] {
        0..=0x7f => 2,
        0x81 => 3,
        _ => 4,
    };
    der[header..der.len() - 7 - 67].to_vec()
}

pub(crate) fn cookie() -> (Vec<u8>, Code) {
    let keys = PhoneCodeKeys::derive(&RootSecret::from_bytes(SEED));
    keys.issue(&mut rng(), &phone(), &owner().public(), SOON)
}

pub(crate) fn login_nonce() -> &'static [u8] {
    static MADE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let (request, _) = ClientLogin::begin(&mut rng(), phone());
        let server = ServerLogin::derive(&RootSecret::from_bytes(SEED));
        server.challenge(&mut rng(), &owner(), ISSUER, &request, None, NOW).nonce.0
    });
    &MADE
}

pub(crate) fn sealing_key() -> SealingPublicKey {
    static MADE: LazyLock<SealingPublicKey> = LazyLock::new(|| SealingKey::from_seed(SEED).public());
    *MADE
}

pub(crate) fn card_link() -> CardLink {
    CardLink { relay_url: RELAY_URL.into(), mailbox: MAILBOX, identity: owner().public() }
}

pub(crate) fn card() -> Card {
    let unsigned = Card {
        certificate: certified(),
        relay_url: RELAY_URL.into(),
        mailbox: MAILBOX,
        sealing_key: sealing_key(),
        olm_identity: DhPublicKey([4; 32]),
        olm_fallback: DhPublicKey([5; 32]),
        signed_at: NOW.seconds(),
        signature: Signature([0; 64]),
    };
    card::sign(&owner(), unsigned).unwrap()
}

fn sealed_card() -> Vec<u8> {
    card::seal_card(&mut rng(), &card()).unwrap()
}

/// What anybody who has the link can put there.
pub(crate) fn seal_for_link(label: &str, plain: &[u8]) -> Vec<u8> {
    let link = card_link();
    let mut key = [0; 32];
    let info = [label.as_bytes(), link.mailbox.as_bytes()].concat();
    Hkdf::<Sha256>::new(Some(&[0; 32]), link.identity.as_bytes()).expand(&info, &mut key).unwrap();
    SealKey::new(key).seal(&mut rng(), label.as_bytes(), plain)
}

fn sealed_prekey() -> SealedPrekey {
    prekey::seal_prekey(&mut rng(), &owner(), &MAILBOX, DhPublicKey([5; 32])).unwrap()
}

/// The prekey inside.
fn prekey() -> Prekey {
    let key = DhPublicKey([5; 32]);
    Prekey { key, signature: owner().sign("postern/prekey/v1", &Prekey::signed_part(&MAILBOX, &key)) }
}

pub(crate) fn is_own_prekey(data: &[u8]) -> bool {
    data == sealed_prekey().as_bytes() || data == prekey().encode()
}

/// The owner's group, and where the presentation holds.
pub(crate) fn group() -> (GroupSecret, Context) {
    let of = KeyPeriod { mailbox: MAILBOX, key_version: 1, period: 2976 };
    let root = [&[1], SEED.as_slice()].concat();
    (GroupSecret::from_stored(&root).unwrap(), Context { relay: relay_id(RELAY), of, epoch: 500_000 })
}

fn credential() -> MemberCredential {
    let (group, context) = group();
    group.issue(Params::new(2).unwrap(), &context.of, &MemberSecret::generate(&mut rng()))
}

/// A reply's, for the envelope `envelope`.
pub(crate) fn presentation() -> &'static [u8] {
    static MADE: LazyLock<[u8; 160]> = LazyLock::new(|| {
        let shown = credential().present(&mut rng(), &group().1, 0, &envelope_digest(b"envelope"));
        shown.unwrap().encode()
    });
    MADE.as_slice()
}

pub(crate) fn oprf_output() -> OprfOutput {
    OprfOutput::new([6; 64])
}

/// A directory of three accounts, the second of its key, so with a delta.
fn directory() -> &'static Build {
    static MADE: LazyLock<Build> = LazyLock::new(|| {
        let record = |n: u8| Record { identity: owner().public(), mailbox: MailboxId([n; 32]), relay: 0 };
        let account = |n: u8| Account { y: OprfOutput::new([n; 64]), record: record(n) };
        let params = |build, previous| BuildParams {
            build,
            oprf_epoch: 1,
            oprf_key: OprfPublicKey([1; 32]),
            created: NOW.seconds(),
            relays: vec![RelayEntry { name: RELAY.into(), url: RELAY_URL.into() }],
            previous,
        };
        let first = build(&mut rng(), params(1, None), vec![account(5)]).unwrap();
        let previous = Previous { digest: manifest_digest(b"first"), oprf_epoch: 1, entries: &first.entries };
        build(&mut rng(), params(2, Some(previous)), vec![account(5), account(6), account(7)]).unwrap()
    });
    &MADE
}

pub(crate) fn manifest() -> Manifest {
    directory().manifest.clone()
}

fn signed_manifest() -> Vec<u8> {
    sign_manifest(&IdentityKey::from_seed(SEED), manifest()).unwrap().encode().unwrap()
}

pub(crate) fn fingerprints() -> Vec<u8> {
    directory().fingerprints_file(0).unwrap()
}

pub(crate) fn records() -> Vec<u8> {
    directory().records_file(0).unwrap()
}

pub(crate) fn log_head() -> LogHead {
    sign_head(&owner(), 3, Sha256Digest([3; 32]), NOW.seconds())
}

/// A certificate request of [`SEED`]'s key.
fn certificate_request() -> Vec<u8> {
    certificate::request(&IdentityKey::from_seed(SEED)).unwrap()
}
