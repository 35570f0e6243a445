//! RSA by AWS-LC: the one module of the project with `unsafe`.
//!
//! `aws-lc-rs` offers neither the raw private operation that a blind signature needs nor PSS verification under a key
//! of this SPKI, so this module calls `aws-lc-sys`. What it leans on, read in the source of aws-lc-sys 0.47.0:
//!
//! - `RSA_sign_raw` (`fipsmodule/rsa/rsa_impl.c`, `rsa_default_private_transform`) blinds the base (the flag that would
//!   switch this off is never set here), and in every case recomputes `result^e` and compares it with the input before
//!   it unblinds and answers. A fault in the CRT gives an error, never a bad signature that would factor the key.
//! - It refuses 0, 1, n − 1 and everything from n on.
//! - `RSA_free` and `OPENSSL_free` overwrite what they free.
//! - `openssl/rsa.h`: signing and verification are "considered non-mutating for thread-safety purposes and may be used
//!   concurrently"; the lazily built Montgomery contexts and the cache of blindings are behind the key's own lock.
//!
//! Sizes are generic here (the published vectors go up to 4096 bits). That a token key has 2048 bits and e = 65537 is
//! held by [`crate::blind_token`].
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use aws_lc_sys as sys;
use sha2::{Digest, Sha384};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the salt that RFC 9578 token type 0x0002 uses.
const SALT_LEN: i32 = 48;

/// AWS-LC refused. It says no more, so that nothing about a key or a message can leak through an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// An owned `RSA` object, freed exactly once.
struct Rsa(NonNull<sys::RSA>);

// SAFETY: an `RSA` has no affinity to a thread (its lock is a pthread rwlock, its reference count atomic), and this
// type is its only owner.
unsafe impl Send for Rsa {}
// SAFETY: every function called through `&Rsa` below is documented as non-mutating (`openssl/rsa.h`: those taking a
// `const` pointer, and all of "Signing / Verification"); what they build lazily is behind the lock inside the object.
// The two mutating ones (`RSA_generate_key_fips`, `RSA_check_fips`) run only while the object is not shared yet.
unsafe impl Sync for Rsa {}

impl Drop for Rsa {
    fn drop(&mut self) {
        // SAFETY: the pointer came from AWS-LC, we own the only reference, and it is not used again.
        unsafe { sys::RSA_free(self.0.as_ptr()) }
    }
}

impl Rsa {
    fn own(raw: *mut sys::RSA) -> Result<Self, Refused> {
        NonNull::new(raw).map(Self).ok_or_else(refused)
    }

    /// Modulus length in bytes.
    fn size(&self) -> usize {
        // SAFETY: a live object; the function only reads it.
        unsafe { sys::RSA_size(self.0.as_ptr()) as usize }
    }

    /// Runs one of AWS-LC's "allocate and encode" functions and copies its result into Rust's memory.
    fn encode(
        &self,
        encoder: unsafe extern "C" fn(*mut *mut u8, *mut usize, *const sys::RSA) -> i32,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let mut bytes = ptr::null_mut();
        let mut len = 0;
        // SAFETY: `encoder` is `RSA_public_key_to_bytes` or `RSA_private_key_to_bytes`; both only read the live object
        // and on success write a pointer to `len` initialised bytes that the caller must free.
        if unsafe { encoder(&mut bytes, &mut len, self.0.as_ptr()) } != 1 || bytes.is_null() {
            return Err(refused());
        }
        // SAFETY: just written by AWS-LC: non-null, `len` bytes, nobody else's; gone before it is freed below.
        let copy = Zeroizing::new(unsafe { std::slice::from_raw_parts(bytes, len) }.to_vec());
        // SAFETY: allocated by AWS-LC for us and not used again. `OPENSSL_free` overwrites it first.
        unsafe { sys::OPENSSL_free(bytes.cast()) };
        Ok(copy)
    }
}

/// An RSA private key held by AWS-LC. Overwritten when dropped; deliberately without `Clone`, `Debug` or comparison.
pub(crate) struct PrivateKey(Rsa);

impl PrivateKey {
    /// A fresh key of 2048 bits with e = 65537, from AWS-LC's own generator, checked as FIPS 186-5 asks.
    pub(crate) fn generate_2048() -> Result<Self, Refused> {
        // SAFETY: takes nothing; null is handled by `own`.
        let rsa = Rsa::own(unsafe { sys::RSA_new() })?;
        // SAFETY: a fresh object that only we see; a null callback is allowed.
        if unsafe { sys::RSA_generate_key_fips(rsa.0.as_ptr(), 2048, ptr::null_mut()) } != 1 {
            return Err(refused());
        }
        Ok(Self(rsa))
    }

    /// Reads a PKCS#1 `RSAPrivateKey` (RFC 8017 appendix A.1.2), strictly DER and without trailing bytes.
    ///
    /// Refused unless `n = p·q`, `d` and the CRT values belong to it, the modulus is a plausible one (no small factor,
    /// no prime power) and a trial signature verifies.
    pub(crate) fn from_pkcs1(der: &[u8]) -> Result<Self, Refused> {
        // SAFETY: pointer and length of a live slice, only read.
        let rsa = Rsa::own(unsafe { sys::RSA_private_key_from_bytes(der.as_ptr(), der.len()) })?;
        // SAFETY: a fresh object that only we see.
        if unsafe { sys::RSA_check_fips(rsa.0.as_ptr()) } != 1 {
            return Err(refused());
        }
        Ok(Self(rsa))
    }

    /// The key as PKCS#1 `RSAPrivateKey`, DER.
    pub(crate) fn to_pkcs1(&self) -> Result<Zeroizing<Vec<u8>>, Refused> {
        self.0.encode(sys::RSA_private_key_to_bytes)
    }

    /// The public half as PKCS#1 `RSAPublicKey`, DER.
    pub(crate) fn public_to_pkcs1(&self) -> Result<Vec<u8>, Refused> {
        self.0.encode(sys::RSA_public_key_to_bytes).map(|der| der.to_vec())
    }

    /// `out = input^d mod n`, blinded and checked (see the module's text). Both must have the length of the modulus.
    pub(crate) fn sign_raw(&self, input: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        let size = self.0.size();
        if input.len() != size || out.len() != size {
            return Err(Refused);
        }
        let mut written = 0;
        // SAFETY: the object is live and holds a private key; `input` and `out` are live for the lengths given and,
        // one being shared and the other exclusive, do not overlap; AWS-LC writes at most `max_out` bytes. Not
        // mutating for thread safety, so `&self` is enough.
        let done = unsafe {
            sys::RSA_sign_raw(
                self.0.0.as_ptr(),
                &mut written,
                out.as_mut_ptr(),
                out.len(),
                input.as_ptr(),
                input.len(),
                sys::RSA_NO_PADDING,
            )
        };
        if done == 1 && written == size {
            return Ok(());
        }
        out.zeroize();
        Err(refused())
    }
}

/// An RSA public key, parsed once and kept with its Montgomery context.
pub(crate) struct PublicKey(Rsa);

impl PublicKey {
    /// Reads a PKCS#1 `RSAPublicKey` (RFC 8017 appendix A.1.1), strictly DER and without trailing bytes.
    pub(crate) fn from_pkcs1(der: &[u8]) -> Result<Self, Refused> {
        // SAFETY: pointer and length of a live slice, only read.
        Rsa::own(unsafe { sys::RSA_public_key_from_bytes(der.as_ptr(), der.len()) }).map(Self)
    }

    /// Verifies RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of exactly 48 bytes (RFC 8017 §8.1.2).
    pub(crate) fn verify_pss_sha384(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let hash: [u8; 48] = Sha384::digest(message).into();
        // SAFETY: the object is live; `hash` and `signature` are live for the lengths given and only read, and AWS-LC
        // itself checks both lengths against the digest and the modulus; `EVP_sha384` returns a static. Not mutating
        // for thread safety, so `&self` is enough.
        let valid = unsafe {
            sys::RSA_verify_pss_mgf1(
                self.0.0.as_ptr(),
                hash.as_ptr(),
                hash.len(),
                sys::EVP_sha384(),
                sys::EVP_sha384(),
                SALT_LEN,
                signature.as_ptr(),
                signature.len(),
            )
        };
        if valid == 1 { Ok(()) } else { Err(refused()) }
    }
}

/// Empties this thread's error queue, so that the next user of AWS-LC (TLS, say) does not find our errors in it.
fn refused() -> Refused {
    // SAFETY: takes nothing and touches only thread-local state.
    unsafe { sys::ERR_clear_error() };
    Refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn key() -> PrivateKey {
        PrivateKey::generate_2048().unwrap()
    }

    #[test]
    fn a_key_survives_its_encoding_and_signs_the_same() {
        let key = key();
        let again = PrivateKey::from_pkcs1(&key.to_pkcs1().unwrap()).unwrap();
        assert_eq!(key.public_to_pkcs1(), again.public_to_pkcs1());
        let (mut a, mut b) = ([0; 256], [0; 256]);
        key.sign_raw(&[0x17; 256], &mut a).unwrap();
        again.sign_raw(&[0x17; 256], &mut b).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn a_private_key_with_any_damaged_number_is_refused() {
        let der = key().to_pkcs1().unwrap();
        assert!(PrivateKey::from_pkcs1(&der).is_ok());
        // One bit in each part of the encoding: n, e, d, p, q and the three CRT values all lie on this grid.
        for at in (0..der.len()).step_by(61).chain([der.len() - 1]) {
            let mut bad = der.to_vec();
            bad[at] ^= 0x02;
            assert!(PrivateKey::from_pkcs1(&bad).is_err(), "byte {at}");
        }
        let mut longer = der.to_vec();
        longer.push(0);
        assert!(PrivateKey::from_pkcs1(&longer).is_err());
        assert!(PrivateKey::from_pkcs1(&der[..der.len() - 1]).is_err());
        assert!(PrivateKey::from_pkcs1(&[]).is_err());
    }

    #[test]
    fn a_raw_operation_of_the_wrong_length_or_range_is_refused_and_leaves_no_output() {
        let key = key();
        let mut out = [0xaa; 256];
        assert!(key.sign_raw(&[1; 255], &mut out).is_err());
        assert!(key.sign_raw(&[1; 256], &mut out[..255]).is_err());
        assert!(key.sign_raw(&[], &mut []).is_err());
        for outside in [[0; 256], [0xff; 256]] {
            assert!(key.sign_raw(&outside, &mut out).is_err());
            assert_eq!(out, [0; 256]);
        }
    }

    #[test]
    fn one_key_signs_on_many_threads_at_once() {
        let key = Arc::new(key());
        let mut expected = [0; 256];
        key.sign_raw(&[0x22; 256], &mut expected).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let key = Arc::clone(&key);
                scope.spawn(move || {
                    for _ in 0..25 {
                        let mut out = [0; 256];
                        key.sign_raw(&[0x22; 256], &mut out).unwrap();
                        assert_eq!(out, expected);
                    }
                });
            }
        });
    }

    #[test]
    fn verification_refuses_a_signature_of_any_other_length() {
        let key = PublicKey::from_pkcs1(&key().public_to_pkcs1().unwrap()).unwrap();
        for len in [0, 1, 255, 257, 512] {
            assert!(key.verify_pss_sha384(b"message", &vec![1; len]).is_err(), "{len}");
        }
        assert!(PublicKey::from_pkcs1(&[]).is_err());
    }

    #[test]
    fn a_refusal_leaves_the_error_queue_of_the_thread_empty() {
        let _ = PrivateKey::from_pkcs1(&[0x30, 0x00]);
        let _ = key().sign_raw(&[0xff; 256], &mut [0; 256]);
        // SAFETY: reads thread-local state only.
        assert_eq!(unsafe { sys::ERR_peek_error() }, 0);
    }
}
