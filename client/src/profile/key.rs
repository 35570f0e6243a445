//! From the password to the keys of a profile. The password itself is stored nowhere (K6).

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use postern_credentials::seal::SealKey;
use postern_credentials::secrets::{RootSecret, hmac_sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Length of the profile's salt, bytes.
pub(super) const SALT_LEN: usize = 16;

/// What a guess at the password costs (Argon2id, RFC 9106). Stored in the profile's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfParams {
    /// 64 MiB and three passes: about 0.15 s, the second choice of RFC 9106 §4.
    pub const STRONG: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// For tests and the demo only: a guess costs next to nothing.
    pub const CHEAP: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    // A header that somebody changed must not make us allocate the whole memory.
    const MOST: Self = Self { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

    fn is_sane(&self) -> bool {
        (8..=Self::MOST.memory_kib).contains(&self.memory_kib)
            && (1..=Self::MOST.passes).contains(&self.passes)
            && (1..=Self::MOST.lanes).contains(&self.lanes)
    }
}

/// What a profile's header says in the clear.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) salt: [u8; SALT_LEN],
    pub(super) kdf: KdfParams,
    /// Tells a wrong password from a damaged row, and holds the other fields.
    pub(super) check: [u8; 32],
}

/// The keys of one profile, each for one purpose. Zeroised on drop, silent in `Debug`.
#[derive(Clone)]
pub(super) struct RowKeys {
    /// Row names: `HMAC(id, kind ‖ key)`.
    id: Zeroizing<[u8; 32]>,
    /// Row contents.
    pub(super) seal: SealKey,
    /// The set hash over all rows.
    set: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for RowKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKeys(secret)")
    }
}

impl RowKeys {
    /// The keys of a new profile, and its header.
    pub(super) fn create(password: &str, salt: [u8; SALT_LEN], kdf: KdfParams) -> Result<(Self, Header)> {
        let root = root(password, &salt, kdf)?;
        let mut header = Header { version: super::VERSION, salt, kdf, check: [0; 32] };
        header.check = header_tag(&root, &header);
        Ok((Self::derive(&root), header))
    }

    /// The keys of an existing profile.
    ///
    /// # Errors
    /// [`Error::WrongPassword`], which is also what a changed header looks like.
    pub(super) fn open(password: &str, header: &Header) -> Result<Self> {
        if !header.kdf.is_sane() {
            return Err(Error::ProfileDamaged("its header is not one that we write"));
        }
        let root = root(password, &header.salt, header.kdf)?;
        let right: bool = header_tag(&root, header).ct_eq(&header.check).into();
        if right { Ok(Self::derive(&root)) } else { Err(Error::WrongPassword) }
    }

    fn derive(root: &RootSecret) -> Self {
        Self {
            id: root.derive("profile/row-id"),
            seal: SealKey::new(*root.derive("profile/row-seal")),
            set: root.derive("profile/state-set"),
        }
    }

    /// The name of a row: nothing about kind or key can be read off it.
    pub(super) fn row_id(&self, kind: &str, key: &str) -> [u8; 32] {
        // NUL does not occur in kinds, so the two fields cannot run into each other.
        hmac_sha256(&self.id, &[kind.as_bytes(), b"\0", key.as_bytes()])
    }

    /// What one row contributes to the set hash.
    pub(super) fn row_tag(&self, id: &[u8; 32], sealed: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.set, &[id, sealed])
    }
}

fn root(password: &str, salt: &[u8; SALT_LEN], kdf: KdfParams) -> Result<RootSecret> {
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32))
        .map_err(|_| Error::Internal("unusable Argon2id parameters"))?;
    let mut out = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, out.as_mut_slice())
        .map_err(|_| Error::Internal("Argon2id failed"))?;
    Ok(RootSecret::from_bytes(*out))
}

fn header_tag(root: &RootSecret, header: &Header) -> [u8; 32] {
    let kdf = &header.kdf;
    let numbers = [header.version, kdf.memory_kib, kdf.passes, kdf.lanes].map(u32::to_be_bytes);
    hmac_sha256(&root.derive("profile/header"), &[&header.salt, numbers.as_flattened()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_asks_for_absurd_work_is_refused_before_any_is_done() {
        let (_, header) = RowKeys::create("pw", [1; SALT_LEN], KdfParams::CHEAP).unwrap();
        let kdf = KdfParams { memory_kib: u32::MAX, ..KdfParams::CHEAP };
        let error = RowKeys::open("pw", &Header { kdf, ..header }).unwrap_err();
        assert!(matches!(error, Error::ProfileDamaged(_)));
    }

    #[test]
    fn every_field_of_the_header_is_held_by_its_tag() {
        let (_, header) = RowKeys::create("pw", [1; SALT_LEN], KdfParams::CHEAP).unwrap();
        assert!(RowKeys::open("pw", &header).is_ok());
        for bad in [
            Header { version: header.version + 1, ..header.clone() },
            Header { salt: [2; SALT_LEN], ..header.clone() },
            Header { kdf: KdfParams { passes: 2, ..header.kdf }, ..header.clone() },
            Header { check: [0; 32], ..header.clone() },
        ] {
            assert!(matches!(RowKeys::open("pw", &bad), Err(Error::WrongPassword)));
        }
    }
}
