//! A look into this process's own memory, for what should have been overwritten.
//!
//! A marker is never there but where the probe put it: it is kept XORed with [`MASK`], and so is what it is compared with.

use std::fs::File;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const MASK: u8 = 0xa5;
const CHUNK: usize = 1 << 20;
/// More than any probe has used of its stack.
const STACK: usize = 512 * 1024;

/// Bytes that must not stand in memory, masked.
#[derive(Clone)]
pub struct Marker(Vec<u8>);

impl Marker {
    /// 32 bytes that nobody has seen.
    pub fn drawn(seed: &str) -> Self {
        Self(Sha256::digest(format!("postern probe {seed}")).to_vec())
    }

    /// These bytes, which are masked where they lie.
    pub fn of(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        // A volatile write in `Zeroizing`'s drop is the end of the clear copy.
        Self(bytes.iter_mut().map(|byte| *byte ^ MASK).collect())
    }

    /// The clear bytes, for the constructor of a secret.
    pub fn clear(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.iter().map(|byte| byte ^ MASK).collect())
    }

    /// As [`Self::clear`], of a fixed length, repeated or cut.
    pub fn array<const N: usize>(&self) -> Zeroizing<[u8; N]> {
        let mut clear = Zeroizing::new([0; N]);
        clear.iter_mut().zip(self.0.iter().cycle()).for_each(|(to, from)| *to = from ^ MASK);
        clear
    }

    /// Its middle 16 bytes: some secrets are stored with a bit or two changed at the ends.
    #[must_use]
    pub fn middle(&self) -> Self {
        let start = (self.0.len() - self.0.len().min(16)) / 2;
        Self(self.0[start..start + self.0.len().min(16)].to_vec())
    }

    /// The other way round, as numbers lie in memory.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self(self.0.iter().rev().copied().collect())
    }

    /// Where it stands in memory that this process can write: names of the mappings.
    pub fn find(&self) -> Vec<String> {
        let mut found = Vec::new();
        let memory = File::open("/proc/self/mem").unwrap();
        let mut buffer = vec![0; CHUNK + self.0.len()];
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
            let name = fields.nth(3).unwrap_or("anonymous");
            if !rights.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let (mut at, end) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            while at < end {
                let length = buffer.len().min((end - at) as usize);
                // A mapping may go while we look.
                if memory.read_exact_at(&mut buffer[..length], at).is_err() {
                    break;
                }
                let own = buffer.as_ptr() as u64;
                let hits = self.in_bytes(&buffer[..length]);
                let is_own = |offset: &usize| (own..own + buffer.len() as u64).contains(&(at + *offset as u64));
                found.extend(hits.into_iter().filter(|offset| !is_own(offset)).map(|_| name.to_owned()));
                at += CHUNK as u64;
            }
        }
        // What was read is not to be found by the next look.
        buffer.fill(0);
        std::hint::black_box(&buffer);
        found
    }

    fn in_bytes(&self, bytes: &[u8]) -> Vec<usize> {
        let matches = |window: &[u8]| window.iter().zip(&self.0).all(|(there, masked)| there ^ MASK == *masked);
        (0..bytes.len().saturating_sub(self.0.len() - 1))
            .filter(|at| matches(&bytes[*at..*at + self.0.len()]))
            .collect()
    }
}

/// Overwrites the part of the stack that functions which have returned have used. Rust moves values by copying them, and what is left
/// there lasts until the next calls, which in a server come within microseconds.
#[inline(never)]
pub fn overwrite_dead_stack() {
    let mut stack = [0_u8; STACK];
    std::hint::black_box(&mut stack);
    stack.fill(0x5a);
    std::hint::black_box(&stack);
}
