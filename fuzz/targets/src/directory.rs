//! The directory's files, and the log.

use postern_credentials::directory::{
    Delta, Filter, Fingerprints, Records, card_link, manifest_digest, sign_manifest, verify_manifest,
};
use postern_credentials::identity::IdentityKey;
use postern_credentials::key_log::{leaf_hash, verify_contains, verify_extends};
use postern_protocol::card::CardLink;
use postern_protocol::directory::{BucketFile, FINGERPRINT_LEN, FileRef, Manifest, Record, SignedManifest};
use postern_protocol::ids::{MailboxId, Sha256Digest, SigningPublicKey};
use postern_protocol::log::{ConsistencyProof, InclusionProof, LogHead, LogLeaf};
use sha2::{Digest, Sha256};

use super::{canonical, frugal};
use crate::seeds::{self, SEED};

/// A manifest with its relays: one encoding, and no signature but the issuer's.
pub(crate) fn manifest(data: &[u8]) {
    let issuer = IdentityKey::from_seed(SEED);
    if let Ok(manifest) = verify_manifest(data, &issuer.public()) {
        assert_eq!(sign_manifest(&issuer, manifest).unwrap().encode().unwrap(), data, "a manifest was forged");
    }
    // A relay of 3 bytes is 48 in memory, and a growing vector has twice the room that it needs.
    let Some(read) = canonical(data, 32, SignedManifest::decode, |signed| signed.encode().unwrap()) else { return };
    let record = Record { identity: SigningPublicKey([1; 32]), mailbox: MailboxId([2; 32]), relay: 0 };
    if let Some(link) = card_link(&read.manifest, &record) {
        // Whether what the manifest says is a link at all, the client must see.
        let back = link.to_string().parse::<CardLink>();
        assert!(back.is_err() || back == Ok(link));
    }
    assert!(read.manifest.buckets().is_power_of_two());
}

/// The manifest of a build with one bucket, whose root is the file's own.
fn build_of(file: &[u8], records: bool) -> Option<Manifest> {
    let BucketFile { proof: _, other, data } = BucketFile::decode(file).ok()?;
    let own: [u8; 32] = Sha256::digest(data).into();
    let leaf = if records { [other.0, own] } else { [own, other.0] };
    Some(Manifest { bits: 0, root: leaf_hash(leaf.as_flattened()), ..seeds::manifest() })
}

/// A bucket's fingerprints and records, in a build that they belong to and in one that they do not.
pub(crate) fn bucket(data: &[u8]) {
    canonical(data, 2, BucketFile::decode, |file| file.encode().unwrap());
    canonical(data, 1, Record::decode, |record| record.encode().to_vec());
    let other = seeds::manifest();
    assert!(Fingerprints::read(&other, 0, data).is_err() || data == seeds::fingerprints());
    assert!(Records::read(&other, 0, data).is_err() || data == seeds::records());
    let y = seeds::oprf_output();
    if let Some(build) = build_of(data, false)
        && let Ok(read) = frugal(data, 6, || Fingerprints::read(&build, 0, data))
    {
        assert!(read.find(&y).len() <= read.len() && read.len() * FINGERPRINT_LEN < data.len());
        assert!(Fingerprints::read(&build, 1, data).is_err());
    }
    if let Some(build) = build_of(data, true)
        && let Ok(read) = frugal(data, 6, || Records::read(&build, 0, data))
    {
        assert!(read.open(&y, 0..data.len() / Record::SEALED_LEN + 1).is_none(), "more records than there are");
        read.open(&y, 0..1);
    }
}

/// A delta and a filter, named by a manifest.
pub(crate) fn delta(data: &[u8]) {
    let named = Some(FileRef { digest: manifest_digest(data), length: u32::try_from(data.len()).unwrap() });
    let build = Manifest { filter: named, delta: named, ..seeds::manifest() };
    let y = seeds::oprf_output();
    if let Ok(delta) = frugal(data, 2, || Delta::read(&build, data)) {
        assert_eq!(delta.len() * 12, data.len());
        assert_eq!(delta.contains(&y), data.chunks(12).any(|entry| entry == &y.expose()[..12]));
    }
    if let Ok(filter) = frugal(data, 2, || Filter::read(&build, data)) {
        filter.contains(&y);
    }
    let longer = [data, &[0]].concat();
    assert!(Delta::read(&build, &longer).is_err() && Filter::read(&build, &longer).is_err());
}

/// A leaf; and proofs, which prove nothing of what is not there.
pub(crate) fn log(data: &[u8]) {
    canonical(data, 2, LogLeaf::decode, LogLeaf::encode);
    let Some((sizes, hashes)) = data.split_first_chunk::<16>() else { return };
    let (old, new) = sizes.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let hashes: Vec<_> = hashes.as_chunks::<32>().0.iter().copied().map(Sha256Digest).collect();
    let head = |size, root| LogHead { size, root: Sha256Digest(root), ..seeds::log_head() };
    let (old, new) = (head(number(old), [1; 32]), head(number(new), [2; 32]));
    // Nobody knows leaves with such a root.
    let proof = InclusionProof { index: old.size, hashes: hashes.clone() };
    assert!(verify_contains(&new, b"leaf", &proof).is_err());
    let extends = verify_extends(&old, &new, &ConsistencyProof { hashes });
    assert!(extends.is_err() || old.size == 0, "a log was extended by nothing");
}
