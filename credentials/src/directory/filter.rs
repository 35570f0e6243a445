//! The whole directory as a binary fuse filter (arXiv:2201.01174): says of a number that is not in it that it is not, but for one in 2^32.

use postern_protocol::codec::{DecodeError, Reader};
use postern_protocol::directory::Manifest;
use postern_protocol::ids::OprfOutput;
use xorf::{BinaryFuse32, Descriptor, Filter as _};

use super::{DirectoryError, filter_key, read};

/// A filter, verified against its manifest.
///
/// ```text
/// file := version u8 = 1 ‖ seed u64 ‖ segment length u32 ‖ segments u32 ‖ (segments + 2) × segment length × u32
/// ```
///
/// A key `k` (u64) is hashed to `h = mix64(k + seed)` (the finaliser of MurmurHash3); its three places are those of
/// `xorf` 0.13 `BinaryFuse32`, and it is in the filter if their xor is the low half of `h ^ (h >> 32)`.
pub struct Filter(BinaryFuse32);

impl Filter {
    const VERSION: u8 = 1;
    /// The longest segment that the construction makes.
    const MAX_SEGMENT: u32 = 1 << 18;

    /// The file of a filter over these keys; the same for the same keys. `None` if a thousand seeds fail, which does not happen; clients do
    /// without it then.
    pub(super) fn build(mut keys: Vec<u64>) -> Option<Vec<u8>> {
        keys.sort_unstable();
        keys.dedup();
        let BinaryFuse32 { descriptor, fingerprints } = BinaryFuse32::try_from(keys).ok()?;
        let segments = descriptor.segment_count_length.checked_div(descriptor.segment_length)?;
        let mut out = Vec::with_capacity(17 + 4 * fingerprints.len());
        out.push(Self::VERSION);
        out.extend_from_slice(&descriptor.seed.to_be_bytes());
        out.extend_from_slice(&descriptor.segment_length.to_be_bytes());
        out.extend_from_slice(&segments.to_be_bytes());
        fingerprints.iter().for_each(|fingerprint| out.extend_from_slice(&fingerprint.to_be_bytes()));
        Some(out)
    }

    /// Checks that this is the manifest's filter, and reads it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn read(manifest: &Manifest, file: &[u8]) -> Result<Self, DirectoryError> {
        read::check_file(manifest.filter, file)?;
        Ok(Self::decode(file)?)
    }

    /// Every number that passes gives a filter whose places are all within it, whatever the key.
    pub(super) fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        const BAD: DecodeError = DecodeError::Invalid("filter");
        let mut r = Reader::new(file);
        if r.u8()? != Self::VERSION {
            return Err(BAD);
        }
        let (seed, segment_length, segments) = (r.u64()?, r.u32()?, r.u32()?);
        let sound = segment_length.is_power_of_two() && segment_length <= Self::MAX_SEGMENT && segments > 0;
        let total =
            segments.checked_add(2).and_then(|all| all.checked_mul(segment_length)).filter(|_| sound).ok_or(BAD)?;
        let (fingerprints, rest) = r.rest().as_chunks::<4>();
        if !rest.is_empty() || u32::try_from(fingerprints.len()) != Ok(total) {
            return Err(BAD);
        }
        let descriptor = Descriptor {
            seed,
            segment_length,
            segment_length_mask: segment_length - 1,
            segment_count_length: segments * segment_length,
        };
        let fingerprints = fingerprints.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        Ok(Self(BinaryFuse32 { descriptor, fingerprints }))
    }

    /// Whether the account may be listed: never wrongly no, and wrongly yes once in 2^32.
    pub fn contains(&self, y: &OprfOutput) -> bool {
        self.0.contains(&filter_key(y))
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} places)", self.0.len())
    }
}
