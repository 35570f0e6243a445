//! What hashes, tags and signatures cover: length-prefixed fields, so that two different lists never have the same bytes.

use hkdf::{Hkdf, HkdfExtract};
use hmac::{Hmac, KeyInit, Mac as _};
use postern_protocol::codec::put_bytes16;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// A list of fields under a label.
pub(crate) struct Transcript(Vec<u8>);

impl Transcript {
    /// Begins with the length-prefixed label.
    pub(crate) fn new(label: &str) -> Self {
        Self(Vec::with_capacity(256)).field(label.as_bytes())
    }

    /// A field of any length, behind its 16-bit length.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        // 0xffff announces the long form, which keeps the encoding injective and this function infallible.
        if bytes.len() >= usize::from(u16::MAX) || put_bytes16(&mut self.0, bytes).is_err() {
            self.0.extend_from_slice(&u16::MAX.to_be_bytes());
            self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            self.0.extend_from_slice(bytes);
        }
        self
    }

    /// A field whose length the label alone determines; no prefix.
    pub(crate) fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    pub(crate) fn hmac(&self, key: &[u8; 32]) -> [u8; 32] {
        hmac_sha256(key, &[&self.0])
    }
}

// Some transcripts contain secrets; wiping all of them costs nothing.
impl Drop for Transcript {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// HMAC-SHA-256 (RFC 2104) of the parts put together. A 32-byte key needs no length check, so nothing can fail.
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if let Some(head) = block.first_chunk_mut() {
        *head = *key;
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `steps` times `value = HMAC-SHA-256(value, message)`. One buffer for all of them: wiping it after each would take longer
/// than the step itself.
pub(crate) fn hmac_iterated(from: &[u8; 32], message: &[u8], steps: u32) -> Zeroizing<[u8; 32]> {
    let mut block = Zeroizing::new([0u8; 64]);
    let mut value = Zeroizing::new(*from);
    for _ in 0..steps {
        if let Some(head) = block.first_chunk_mut() {
            *head = *value;
        }
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        mac.update(message);
        *value = mac.finalize().into_bytes().into();
    }
    value
}

/// HKDF-SHA-256, extract step (RFC 5869 §2.2), of the parts put together.
pub(crate) fn hkdf_extract(salt: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    for part in parts {
        extract.input_ikm(part);
    }
    Zeroizing::new(extract.finalize().0.into())
}

/// HKDF-SHA-256, expand step for 32 bytes (RFC 5869 §2.3), with the parts of `info` put together.
#[expect(clippy::expect_used, reason = "32 bytes in and out: lengths that the crate takes, whoever calls")]
pub(crate) fn hkdf_expand(prk: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut okm = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("a 32-byte key");
    hkdf.expand_multi_info(info, okm.as_mut_slice()).expect("one block");
    okm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_move_a_byte_between_them_give_another_transcript() {
        let of = |a: &str, b: &str| Transcript::new("t").field(a.as_bytes()).field(b.as_bytes()).sha256();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("", "abc"), of("abc", ""));
        assert_ne!(Transcript::new("ta").sha256(), Transcript::new("t").field(b"a").sha256());
    }

    #[test]
    fn a_field_too_long_for_its_prefix_takes_the_long_form_and_collides_with_nothing() {
        let long = vec![0u8; 65_535];
        let longer = vec![0u8; 65_536];
        let t = |f: &[u8]| Transcript::new("t").field(f).bytes().to_vec();
        assert_eq!(&t(&long)[3..13], &[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(t(&long).len() + 1, t(&longer).len());
        assert_eq!(&t(&long[1..])[3..5], &[0xff, 0xfe]);
    }

    #[test]
    fn the_iterated_hmac_is_the_single_one_repeated() {
        let once = hmac_sha256(&[1; 32], &[b"message"]);
        assert_eq!(*hmac_iterated(&[1; 32], b"message", 0), [1; 32]);
        assert_eq!(*hmac_iterated(&[1; 32], b"message", 1), once);
        assert_eq!(*hmac_iterated(&[1; 32], b"message", 2), hmac_sha256(&once, &[b"message"]));
    }

    #[test]
    fn parts_are_put_together() {
        let whole = hkdf_expand(&hkdf_extract(&[3; 32], &[b"key material"]), &[b"info"]);
        assert_eq!(whole, hkdf_expand(&hkdf_extract(&[3; 32], &[b"key ", b"material"]), &[b"in", b"fo"]));
    }
}
