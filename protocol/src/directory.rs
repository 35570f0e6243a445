//! The directory (design §5, M34, M38): sealed records in buckets that anybody can fetch and nobody can read without the VOPRF's
//! output for a number; and whether an account is in it at all.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, TooLong, put_bytes16};
use crate::ids::{MailboxId, OprfPublicKey, Sha256Digest, Signature, SigningPublicKey};
use crate::register::RelayEntry;

/// `GET` → [`SignedManifest`], [`MANIFEST_MEDIA_TYPE`], with an ETag and a short life in caches.
pub const MANIFEST_PATH: &str = "/v1/directory";
/// Media type of a [`SignedManifest`].
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.postern.directory-manifest";
/// Session-signed `PUT` [`ListingRequest`] → 204.
pub const LISTING_PATH: &str = "/v1/account/listing";

/// The most accounts for which there is a filter of the whole directory.
pub const FILTER_LIMIT: u64 = 1_000_000;
/// The most leading bits of y that name a bucket.
pub const MAX_BITS: u8 = 24;
/// Bytes of a fingerprint: y[4..8].
pub const FINGERPRINT_LEN: usize = 4;
/// Bytes of an entry of a delta: y[0..12].
pub const DELTA_ENTRY_LEN: usize = 12;

/// `GET` → the fingerprints of a bucket behind their proof ([`BucketFile`]). Never changes.
pub fn fingerprints_path(build: u32, bucket: u32) -> String {
    format!("{MANIFEST_PATH}/{build}/fingerprints/{bucket}")
}

/// `GET` → the sealed records of a bucket behind their proof ([`BucketFile`]). Never changes.
pub fn records_path(build: u32, bucket: u32) -> String {
    format!("{MANIFEST_PATH}/{build}/records/{bucket}")
}

/// `GET` → the filter of the whole directory, while it is small. Never changes.
pub fn filter_path(build: u32) -> String {
    format!("{MANIFEST_PATH}/{build}/filter")
}

/// `GET` → what is new in this build. Never changes.
pub fn delta_path(build: u32) -> String {
    format!("{MANIFEST_PATH}/{build}/delta")
}

/// Digest and length of a file that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// SHA-256 of the file.
    pub digest: Sha256Digest,
    /// Its length, bytes.
    pub length: u32,
}

impl FileRef {
    /// No file: zeros. (No file has that digest.)
    const NONE: Self = Self { digest: Sha256Digest::ZERO, length: 0 };

    fn put(out: &mut Vec<u8>, file: Option<Self>) {
        let Self { digest, length } = file.unwrap_or(Self::NONE);
        out.extend_from_slice(digest.as_bytes());
        out.extend_from_slice(&length.to_be_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let file = Self { digest: Sha256Digest(r.array()?), length: r.u32()? };
        match file.digest {
            digest if digest != Self::NONE.digest => Ok(Some(file)),
            _ if file.length == 0 => Ok(None),
            _ => Err(DecodeError::Invalid("file reference")),
        }
    }
}

/// One build of the directory: pins everybody to one key and one set of files.
///
/// ```text
/// manifest := version u8 = 1 ‖ build u32 ‖ oprf epoch u32 ‖ oprf public key (32) ‖ bits u8 ‖ accounts u64 ‖ created u64 ‖
///             root (32) ‖ filter digest (32) ‖ filter length u32 ‖ delta digest (32) ‖ delta length u32 ‖
///             relays: count u16 × (u8 length ‖ name ‖ u16 length ‖ url) ‖ previous manifest's digest (32)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Counts builds; increases.
    pub build: u32,
    /// Which key of the VOPRF.
    pub oprf_epoch: u32,
    /// That key.
    pub oprf_key: OprfPublicKey,
    /// How many leading bits of y name the bucket: there are 2^bits; at most [`MAX_BITS`].
    pub bits: u8,
    /// How many accounts are listed.
    pub accounts: u64,
    /// When it was made, Unix seconds.
    pub created: u64,
    /// Root of the RFC 6962 tree over `SHA-256(fingerprints) ‖ SHA-256(records)` of each bucket.
    pub root: Sha256Digest,
    /// The filter, up to [`FILTER_LIMIT`] accounts.
    pub filter: Option<FileRef>,
    /// What is new since the build before, if that had the same key.
    pub delta: Option<FileRef>,
    /// The relays that records name by index.
    pub relays: Vec<RelayEntry>,
    /// SHA-256 of the build before, as served ([`SignedManifest::encode`]); zeros for the first.
    pub previous: Sha256Digest,
}

impl Manifest {
    const VERSION: u8 = 1;

    /// As above: what the signature covers.
    ///
    /// # Errors
    /// [`TooLong`] if there are too many relays, or one has too long a name.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = vec![Self::VERSION];
        out.extend_from_slice(&self.build.to_be_bytes());
        out.extend_from_slice(&self.oprf_epoch.to_be_bytes());
        out.extend_from_slice(self.oprf_key.as_bytes());
        out.push(self.bits);
        out.extend_from_slice(&self.accounts.to_be_bytes());
        out.extend_from_slice(&self.created.to_be_bytes());
        out.extend_from_slice(self.root.as_bytes());
        FileRef::put(&mut out, self.filter);
        FileRef::put(&mut out, self.delta);
        let many = self.relays.len();
        out.extend_from_slice(&u16::try_from(many).map_err(|_| TooLong(many))?.to_be_bytes());
        for relay in &self.relays {
            let name = relay.name.as_bytes();
            out.push(u8::try_from(name.len()).map_err(|_| TooLong(name.len()))?);
            out.extend_from_slice(name);
            put_bytes16(&mut out, relay.url.as_bytes())?;
        }
        out.extend_from_slice(self.previous.as_bytes());
        Ok(out)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.u8()? != Self::VERSION {
            return Err(DecodeError::Invalid("manifest version"));
        }
        let mut manifest = Self {
            build: r.u32()?,
            oprf_epoch: r.u32()?,
            oprf_key: OprfPublicKey(r.array()?),
            bits: Some(r.u8()?).filter(|bits| *bits <= MAX_BITS).ok_or(DecodeError::Invalid("bits"))?,
            accounts: r.u64()?,
            created: r.u64()?,
            root: Sha256Digest(r.array()?),
            filter: FileRef::read(r)?,
            delta: FileRef::read(r)?,
            relays: Vec::new(),
            previous: Sha256Digest::ZERO,
        };
        for _ in 0..r.u16()? {
            let length = usize::from(r.u8()?);
            let name = std::str::from_utf8(r.take(length)?).map_err(|_| DecodeError::Invalid("relay name"))?.to_owned();
            manifest.relays.push(RelayEntry { name, url: r.text16()?.to_owned() });
        }
        manifest.previous = Sha256Digest(r.array()?);
        Ok(manifest)
    }

    /// How many buckets there are.
    pub const fn buckets(&self) -> u32 {
        1 << self.bits
    }
}

/// A manifest as it is served, logged, and named by its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    /// What is signed.
    pub manifest: Manifest,
    /// By the issuer's key.
    pub signature: Signature,
}

impl SignedManifest {
    /// `manifest ‖ signature (64)`.
    ///
    /// # Errors
    /// As [`Manifest::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = self.manifest.encode()?;
        out.extend_from_slice(self.signature.as_bytes());
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form; says nothing about the signature.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let manifest = Manifest::read(&mut r)?;
        let signature = Signature(r.array()?);
        r.finish()?;
        Ok(Self { manifest, signature })
    }
}

/// A file of a bucket as it is served: what proves that it is in the build, then the data.
///
/// ```text
/// file := count u8 ‖ count × proof hash (32) ‖ SHA-256 of the bucket's other file (32) ‖ data
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFile<'a> {
    /// The path from the bucket's leaf to the root, at most 64 hashes.
    pub proof: Vec<Sha256Digest>,
    /// Of the records if this has the fingerprints, and the other way round.
    pub other: Sha256Digest,
    /// Fingerprints, 4 bytes each, in ascending order; or records, [`Record::SEALED_LEN`] bytes each, in the same order.
    pub data: &'a [u8],
}

impl<'a> BucketFile<'a> {
    const MAX_PROOF: usize = 64;

    /// As above.
    ///
    /// # Errors
    /// [`TooLong`] for a proof of more than 64 hashes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let many = self.proof.len();
        let count = u8::try_from(many).ok().filter(|_| many <= Self::MAX_PROOF).ok_or(TooLong(many))?;
        let mut out = Vec::with_capacity(1 + 32 * (many + 1) + self.data.len());
        out.push(count);
        self.proof.iter().chain([&self.other]).for_each(|hash| out.extend_from_slice(hash.as_bytes()));
        out.extend_from_slice(self.data);
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form. Any rest is data: only the proof says where it must end.
    ///
    /// # Errors
    /// [`DecodeError`] if it ends before the data, or the proof is too long.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let count = usize::from(r.u8()?);
        if count > Self::MAX_PROOF {
            return Err(DecodeError::Invalid("proof"));
        }
        let proof = (0..count).map(|_| r.array().map(Sha256Digest)).collect::<Result<_, _>>()?;
        Ok(Self { proof, other: Sha256Digest(r.array()?), data: r.rest() })
    }
}

/// What the directory says about a number: where its card is, and whose it must be. Certificate and prekeys are in the card, which
/// lies sealed at the relay, as behind a printed link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The certified identity key.
    pub identity: SigningPublicKey,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The relay's place in [`Manifest::relays`].
    pub relay: u16,
}

impl Record {
    /// Length of the plain form.
    pub const LEN: usize = 80;
    /// Length of the sealed form.
    pub const SEALED_LEN: usize = 121;
    const VERSION: u8 = 1;
    const USED: usize = 67;

    /// `version u8 = 1 ‖ identity key (32) ‖ mailbox (32) ‖ relay index u16 ‖ zeros`, 80 bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let relay = self.relay.to_be_bytes();
        let parts: [&[u8]; 4] = [&[Self::VERSION], self.identity.as_bytes(), self.mailbox.as_bytes(), &relay];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != Self::VERSION {
            return Err(DecodeError::Invalid("record version"));
        }
        let record = Self { identity: SigningPublicKey(r.array()?), mailbox: MailboxId(r.array()?), relay: r.u16()? };
        if r.take(Self::LEN - Self::USED)?.iter().any(|b| *b != 0) {
            return Err(DecodeError::Invalid("padding"));
        }
        r.finish()?;
        Ok(record)
    }
}

/// Whether the account can be found by its number, from the next build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListingRequest {
    /// An account that was never asked is listed.
    pub listed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> SignedManifest {
        SignedManifest {
            manifest: Manifest {
                build: 3,
                oprf_epoch: 1,
                oprf_key: OprfPublicKey([1; 32]),
                bits: 5,
                accounts: 30_000,
                created: 1_800_000_000,
                root: Sha256Digest([2; 32]),
                filter: Some(FileRef { digest: Sha256Digest([3; 32]), length: 7 }),
                delta: None,
                relays: vec![
                    RelayEntry { name: "relay.example".into(), url: "https://relay.example".into() },
                    RelayEntry { name: String::new(), url: String::new() },
                ],
                previous: Sha256Digest([4; 32]),
            },
            signature: Signature([5; 64]),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_is_refused_cut_or_lengthened() {
        let mut bytes = signed().encode().unwrap();
        assert_eq!(SignedManifest::decode(&bytes), Ok(signed()));
        assert_eq!(signed().manifest.buckets(), 32);
        for n in 0..bytes.len() {
            assert!(SignedManifest::decode(&bytes[..n]).is_err(), "{n}");
        }
        bytes.push(0);
        assert_eq!(SignedManifest::decode(&bytes), Err(DecodeError::Trailing));
    }

    #[test]
    fn a_manifest_has_one_encoding() {
        // Whatever decodes encodes to the same bytes, so the digest that the next build names is of one manifest only.
        let bytes = signed().encode().unwrap();
        for at in 0..bytes.len() {
            for flip in [1, 0x80] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(read) = SignedManifest::decode(&other) {
                    assert_eq!(read.encode().unwrap(), other, "{at}");
                }
            }
        }
    }

    #[test]
    fn too_many_bits_another_version_and_a_length_without_a_file_are_refused() {
        let bytes = signed().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut other = bytes.clone();
            other[at] = value;
            SignedManifest::decode(&other).map(drop)
        };
        assert_eq!(with(0, 2), Err(DecodeError::Invalid("manifest version")));
        assert_eq!(with(41, 24), Ok(()));
        assert_eq!(with(41, 25), Err(DecodeError::Invalid("bits")));
        // The last byte of the delta's length; its digest is zeros.
        assert_eq!(with(161, 1), Err(DecodeError::Invalid("file reference")));
    }

    #[test]
    fn a_bucket_s_file_reads_back_and_is_refused_cut_before_its_data() {
        let file = BucketFile { proof: vec![Sha256Digest([1; 32]); 3], other: Sha256Digest([2; 32]), data: b"data" };
        let bytes = file.encode().unwrap();
        assert_eq!(bytes.len(), 1 + 4 * 32 + 4);
        assert_eq!(BucketFile::decode(&bytes), Ok(file.clone()));
        for n in 0..bytes.len() - 4 {
            assert!(BucketFile::decode(&bytes[..n]).is_err(), "{n}");
        }
        let long = BucketFile { proof: vec![Sha256Digest([1; 32]); 65], ..file };
        assert_eq!(long.encode(), Err(TooLong(65)));
        assert!(BucketFile::decode(&[65; 4000]).is_err());
    }

    #[test]
    fn a_record_reads_back_and_is_refused_cut_lengthened_or_with_anything_in_its_padding() {
        let record = Record { identity: SigningPublicKey([1; 32]), mailbox: MailboxId([2; 32]), relay: 3 };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Ok(record));
        for n in 0..bytes.len() {
            assert!(Record::decode(&bytes[..n]).is_err(), "{n}");
        }
        assert!(Record::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        for at in [0, Record::USED, Record::LEN - 1] {
            let mut bad = bytes;
            bad[at] ^= 2;
            assert!(Record::decode(&bad).is_err(), "{at}");
        }
    }
}
