//! The issuer's side: from a list of accounts to the files of a build.

use std::cmp::Ordering;

use postern_protocol::directory::{
    BucketFile, DELTA_ENTRY_LEN, FILTER_LIMIT, FINGERPRINT_LEN, FileRef, MAX_BITS, Manifest, Record,
};
use postern_protocol::ids::{OprfOutput, OprfPublicKey, Sha256Digest};
use postern_protocol::register::RelayEntry;
use rand_core::CryptoRng;

use super::{Filter, bucket_of, filter_key, fingerprint, leaf, part, record_context, record_key};
use crate::hash_tree::HashTree;
use crate::transcript::sha256;

/// The most accounts that a bucket has on average: there are as few buckets as that allows, so it has half as many at least.
const BUCKET_ACCOUNTS: u64 = 1024;

/// An account that wants to be found.
#[derive(Debug)]
pub struct Account {
    /// The VOPRF's output for its number.
    pub y: OprfOutput,
    /// What who looks it up will find.
    pub record: Record,
}

/// What a build is made with, besides the accounts.
#[derive(Clone, Debug)]
pub struct BuildParams<'a> {
    /// Its number; greater than all before.
    pub build: u32,
    /// The epoch of the VOPRF's key.
    pub oprf_epoch: u32,
    /// That key.
    pub oprf_key: OprfPublicKey,
    /// The present, Unix seconds.
    pub created: u64,
    /// The relays that records name by index.
    pub relays: Vec<RelayEntry>,
    /// The build before; `None` for the first.
    pub previous: Option<Previous<'a>>,
}

/// What a build needs to know about the one before.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    /// [`super::manifest_digest`] of its manifest.
    pub digest: Sha256Digest,
    /// The epoch of its key: with another one there is no delta.
    pub oprf_epoch: u32,
    /// Its [`Build::entries`].
    pub entries: &'a [u8],
}

/// Why a directory could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two accounts have one `y`, so one number.
    #[error("two accounts have the same number")]
    Duplicate,
    /// A record names a relay that is not in the list.
    #[error("a record names an unknown relay")]
    UnknownRelay,
    /// The entries of the build before are not what [`Build::entries`] was.
    #[error("the entries of the build before are malformed")]
    Previous,
    /// A file has 4 GiB or more.
    #[error("a file is too large")]
    TooLarge,
}

/// A build: what is to be signed, and the files. All of it is public, but for nobody to be had without asking.
#[derive(Clone)]
pub struct Build {
    /// To be signed by the issuer.
    pub manifest: Manifest,
    /// The filter's file, up to [`FILTER_LIMIT`] accounts.
    pub filter: Option<Vec<u8>>,
    /// The delta's file: what is new, 12 bytes each, in ascending order; only after a build with the same key.
    pub delta: Option<Vec<u8>>,
    /// `y[0..12]` of all accounts, in ascending order: keep it for the next build.
    pub entries: Vec<u8>,
    buckets: Vec<Bucket>,
    tree: HashTree,
}

#[derive(Clone)]
struct Bucket {
    fingerprints: Vec<u8>,
    records: Vec<u8>,
    digests: [Sha256Digest; 2],
}

impl Build {
    /// The fingerprints of a bucket, as served; `None` if there is no such bucket.
    pub fn fingerprints_file(&self, bucket: u32) -> Option<Vec<u8>> {
        let found = self.bucket(bucket)?;
        let [_, other] = found.digests;
        self.file(bucket, other, &found.fingerprints)
    }

    /// The sealed records of a bucket, as served; `None` if there is no such bucket.
    pub fn records_file(&self, bucket: u32) -> Option<Vec<u8>> {
        let found = self.bucket(bucket)?;
        let [other, _] = found.digests;
        self.file(bucket, other, &found.records)
    }

    fn bucket(&self, bucket: u32) -> Option<&Bucket> {
        self.buckets.get(usize::try_from(bucket).ok()?)
    }

    fn file(&self, bucket: u32, other: Sha256Digest, data: &[u8]) -> Option<Vec<u8>> {
        let proof = self.tree.inclusion(u64::from(bucket), self.tree.size())?;
        BucketFile { proof, other, data }.encode().ok()
    }
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Build").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

/// Builds the directory: the same for the same accounts (in any order), parameters and `rng`, which gives the nonces of the seals.
///
/// Holds everything in memory: about 300 bytes an account.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    rng: &mut impl CryptoRng,
    params: BuildParams<'_>,
    accounts: impl IntoIterator<Item = Account>,
) -> Result<Build, BuildError> {
    let mut accounts: Vec<Account> = accounts.into_iter().collect();
    let bits = bits_for(accounts.len() as u64);
    accounts.sort_unstable_by(|a, b| order(&a.y, &b.y, bits));
    if accounts.windows(2).any(|pair| matches!(pair, [a, b] if a.y == b.y)) {
        return Err(BuildError::Duplicate);
    }
    if accounts.iter().any(|account| usize::from(account.record.relay) >= params.relays.len()) {
        return Err(BuildError::UnknownRelay);
    }
    let buckets = seal_buckets(rng, &accounts, bits, params.oprf_epoch);
    let mut tree = HashTree::default();
    for Bucket { digests: [fingerprints, records], .. } in &buckets {
        tree.push(&leaf(fingerprints, records));
    }
    let entries = entries(&accounts);
    let same_key = params.previous.filter(|previous| previous.oprf_epoch == params.oprf_epoch);
    let delta = same_key.map(|previous| delta(previous.entries, &entries)).transpose()?;
    let filter = (accounts.len() as u64 <= FILTER_LIMIT)
        .then(|| Filter::build(accounts.iter().map(|account| filter_key(&account.y)).collect()))
        .flatten();
    let manifest = Manifest {
        build: params.build,
        oprf_epoch: params.oprf_epoch,
        oprf_key: params.oprf_key,
        bits,
        accounts: accounts.len() as u64,
        created: params.created,
        root: tree.root(),
        filter: filter.as_deref().map(file_ref).transpose()?,
        delta: delta.as_deref().map(file_ref).transpose()?,
        relays: params.relays,
        previous: params.previous.map_or(Sha256Digest::ZERO, |previous| previous.digest),
    };
    Ok(Build { manifest, filter, delta, entries, buckets, tree })
}

/// The least number of bits with which a bucket has at most [`BUCKET_ACCOUNTS`] on average.
pub(super) fn bits_for(accounts: u64) -> u8 {
    let buckets = accounts.div_ceil(BUCKET_ACCOUNTS).max(1).next_power_of_two();
    u8::try_from(buckets.ilog2()).unwrap_or(MAX_BITS).min(MAX_BITS)
}

/// By bucket, then by fingerprint; two of one fingerprint by the rest, so that there is one order.
fn order(a: &OprfOutput, b: &OprfOutput, bits: u8) -> Ordering {
    let key = |y: &OprfOutput| (bucket_of(y, bits), fingerprint(y));
    key(a).cmp(&key(b)).then_with(|| a.expose().cmp(b.expose()))
}

fn seal_buckets(rng: &mut impl CryptoRng, accounts: &[Account], bits: u8, oprf_epoch: u32) -> Vec<Bucket> {
    let mut rest = accounts;
    let mut buckets = Vec::with_capacity(1 << bits);
    for number in 0..1_u32 << bits {
        let (inside, after) = rest.split_at(rest.partition_point(|account| bucket_of(&account.y, bits) == number));
        rest = after;
        let mut fingerprints = Vec::with_capacity(FINGERPRINT_LEN * inside.len());
        let mut records = Vec::with_capacity(Record::SEALED_LEN * inside.len());
        for Account { y, record } in inside {
            let sealed = record_key(y, oprf_epoch).seal(rng, &record_context(y), &record.encode());
            fingerprints.extend_from_slice(&fingerprint(y).to_be_bytes());
            records.extend_from_slice(&sealed);
        }
        let digests = [Sha256Digest(sha256(&fingerprints)), Sha256Digest(sha256(&records))];
        buckets.push(Bucket { fingerprints, records, digests });
    }
    buckets
}

fn entries(accounts: &[Account]) -> Vec<u8> {
    let mut entries: Vec<[u8; DELTA_ENTRY_LEN]> = accounts.iter().map(|account| part(&account.y, 0)).collect();
    entries.sort_unstable();
    entries.into_flattened()
}

/// What is in `now` and not in `before`, both in ascending order.
fn delta(before: &[u8], now: &[u8]) -> Result<Vec<u8>, BuildError> {
    let (before, rest) = before.as_chunks::<DELTA_ENTRY_LEN>();
    if !rest.is_empty() || !before.is_sorted() {
        return Err(BuildError::Previous);
    }
    let mut before = before.iter().peekable();
    let mut delta = Vec::new();
    for entry in now.as_chunks::<DELTA_ENTRY_LEN>().0 {
        while before.next_if(|old| *old < entry).is_some() {}
        if before.next_if_eq(&entry).is_none() {
            delta.extend_from_slice(entry);
        }
    }
    Ok(delta)
}

fn file_ref(file: &[u8]) -> Result<FileRef, BuildError> {
    let length = u32::try_from(file.len()).map_err(|_| BuildError::TooLarge)?;
    Ok(FileRef { digest: Sha256Digest(sha256(file)), length })
}
