//! The client's side: files of a build, believed only as far as the manifest pins them.

use std::ops::Range;

use postern_protocol::directory::{BucketFile, DELTA_ENTRY_LEN, FINGERPRINT_LEN, FileRef, Manifest, Record};
use postern_protocol::ids::{OprfOutput, Sha256Digest};

use super::{DirectoryError, bucket_of, fingerprint, leaf, part, record_context, record_key};
use crate::hash_tree;
use crate::transcript::sha256;

/// Checks a file that the manifest names by digest and length.
pub(super) fn check_file(named: Option<FileRef>, file: &[u8]) -> Result<(), DirectoryError> {
    let named = named.ok_or(DirectoryError::NoSuchFile)?;
    let is_it = u32::try_from(file.len()) == Ok(named.length) && Sha256Digest(sha256(file)) == named.digest;
    if is_it { Ok(()) } else { Err(DirectoryError::NotInBuild) }
}

/// The data of a bucket's file, after its proof; `leaf_of` puts its digest and the other's into their order.
fn check_bucket(
    manifest: &Manifest,
    bucket: u32,
    file: &[u8],
    leaf_of: impl Fn(&Sha256Digest, &Sha256Digest) -> [u8; 64],
) -> Result<Vec<u8>, DirectoryError> {
    let BucketFile { proof, other, data } = BucketFile::decode(file)?;
    let leaf = leaf_of(&Sha256Digest(sha256(data)), &other);
    let buckets = u64::from(manifest.buckets());
    if hash_tree::is_included(&manifest.root, buckets, &leaf, u64::from(bucket), &proof) {
        Ok(data.to_vec())
    } else {
        Err(DirectoryError::NotInBuild)
    }
}

/// The fingerprints of one bucket, verified.
pub struct Fingerprints {
    bucket: u32,
    bits: u8,
    values: Vec<u32>,
}

impl Fingerprints {
    /// Checks that these are the fingerprints of this bucket in this build.
    ///
    /// # Errors
    /// [`DirectoryError::NotInBuild`]; [`DirectoryError::Malformed`] also if the issuer itself did not put them in order.
    pub fn read(manifest: &Manifest, bucket: u32, file: &[u8]) -> Result<Self, DirectoryError> {
        let data = check_bucket(manifest, bucket, file, leaf)?;
        let (values, rest) = data.as_chunks::<FINGERPRINT_LEN>();
        let values: Vec<u32> = values.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        if !rest.is_empty() || !values.is_sorted() {
            return Err(DirectoryError::Malformed);
        }
        Ok(Self { bucket, bits: manifest.bits, values })
    }

    /// The places of the records that may be this account's: none if it is not listed, seldom more than one. Empty for an account of another
    /// bucket.
    pub fn find(&self, y: &OprfOutput) -> Range<usize> {
        let wanted = fingerprint(y);
        let start = self.values.partition_point(|value| *value < wanted);
        let end = self.values.partition_point(|value| *value <= wanted);
        if bucket_of(y, self.bits) == self.bucket { start..end } else { start..start }
    }

    /// How many accounts the bucket has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprints({})", self.values.len())
    }
}

/// The sealed records of one bucket, verified.
pub struct Records {
    oprf_epoch: u32,
    data: Vec<u8>,
}

impl Records {
    /// Checks that these are the records of this bucket in this build.
    ///
    /// # Errors
    /// [`DirectoryError::NotInBuild`] or [`DirectoryError::Malformed`].
    pub fn read(manifest: &Manifest, bucket: u32, file: &[u8]) -> Result<Self, DirectoryError> {
        let data = check_bucket(manifest, bucket, file, |records, fingerprints| leaf(fingerprints, records))?;
        if !data.len().is_multiple_of(Record::SEALED_LEN) {
            return Err(DirectoryError::Malformed);
        }
        Ok(Self { oprf_epoch: manifest.oprf_epoch, data })
    }

    /// Opens the record of this account among `hits` ([`Fingerprints::find`]); `None` if none of them is.
    pub fn open(&self, y: &OprfOutput, hits: Range<usize>) -> Option<Record> {
        let (key, context) = (record_key(y, self.oprf_epoch), record_context(y));
        let (sealed, _) = self.data.as_chunks::<{ Record::SEALED_LEN }>();
        let opened = sealed.get(hits)?.iter().find_map(|sealed| key.open(&context, sealed).ok())?;
        Record::decode(&opened).ok()
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({} bytes)", self.data.len())
    }
}

/// What is new in a build, verified.
pub struct Delta(Vec<[u8; DELTA_ENTRY_LEN]>);

impl Delta {
    /// Checks that this is the manifest's delta.
    ///
    /// # Errors
    /// [`DirectoryError`]; [`DirectoryError::NoSuchFile`] after a change of the VOPRF's key: look everything up again.
    pub fn read(manifest: &Manifest, file: &[u8]) -> Result<Self, DirectoryError> {
        check_file(manifest.delta, file)?;
        let (entries, rest) = file.as_chunks::<DELTA_ENTRY_LEN>();
        if !rest.is_empty() || !entries.is_sorted() {
            return Err(DirectoryError::Malformed);
        }
        Ok(Self(entries.to_vec()))
    }

    /// Whether the account may be new in this build: never wrongly no, and hardly ever wrongly yes.
    pub fn contains(&self, y: &OprfOutput) -> bool {
        self.0.binary_search(&part(y, 0)).is_ok()
    }

    /// How many accounts are new.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delta({})", self.0.len())
    }
}
