//! Hash trees of RFC 6962 §2.1 over SHA-256: proofs are made here, at any earlier size of the tree, and verified by `ct-merkle`.

use ct_merkle::{RootHash, indices_for_consistency_proof, indices_for_inclusion_proof};
use postern_protocol::ids::Sha256Digest;
use sha2::{Digest, Sha256};

/// The most leaves that a proof is looked at for: far beyond what any tree of ours has, and far from overflow in index arithmetic.
const MAX_LEAVES: u64 = 1 << 40;

/// An append-only tree: the hashes of all complete subtrees.
#[derive(Clone, Default)]
pub(crate) struct HashTree {
    /// `levels[k][i]` is the hash of the 2^k leaves from i·2^k on.
    levels: Vec<Vec<[u8; 32]>>,
}

impl HashTree {
    /// Appends a leaf.
    pub(crate) fn push(&mut self, leaf: &[u8]) {
        self.push_hash(leaf_hash(leaf));
    }

    /// Appends a leaf by its hash.
    pub(crate) fn push_hash(&mut self, mut hash: [u8; 32]) {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(nodes) = self.levels.get_mut(level) else { return };
            let left = (nodes.len() % 2 == 1).then(|| nodes.last().copied()).flatten();
            nodes.push(hash);
            let Some(left) = left else { return };
            hash = parent_hash(&left, &hash);
        }
    }

    /// How many leaves there are.
    pub(crate) fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The root.
    pub(crate) fn root(&self) -> Sha256Digest {
        // What each level has left over is a complete subtree; the lower the level, the further to the right.
        let subtrees =
            self.levels.iter().filter(|nodes| nodes.len() % 2 == 1).filter_map(|nodes| nodes.last().copied());
        Sha256Digest(subtrees.reduce(|right, left| parent_hash(&left, &right)).unwrap_or_else(empty_root))
    }

    /// The root when the tree had `size` leaves; `None` if it never had so many.
    pub(crate) fn root_at(&self, size: u64) -> Option<Sha256Digest> {
        let root = if size == 0 { Some(empty_root()) } else { self.range(0, size) };
        root.filter(|_| size <= self.size()).map(Sha256Digest)
    }

    /// `PATH(index, D[size])` of RFC 6962 §2.1.1.
    pub(crate) fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Sha256Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        self.nodes(&indices_for_inclusion_proof(size, index), size)
    }

    /// `PROOF(from, D[to])` of RFC 6962 §2.1.2.
    pub(crate) fn consistency(&self, from: u64, to: u64) -> Option<Vec<Sha256Digest>> {
        if from > to || to > self.size() {
            return None;
        }
        match from {
            // Every log extends the empty one; the RFC has no proof for it.
            0 => Some(Vec::new()),
            _ => self.nodes(&indices_for_consistency_proof(from, to - from), to),
        }
    }

    /// The first place of a leaf with this hash.
    pub(crate) fn find(&self, hash: &Sha256Digest) -> Option<u64> {
        self.levels.first()?.iter().position(|leaf| *leaf == hash.0).map(|index| index as u64)
    }

    /// The nodes of a tree with `size` leaves that `ct-merkle` asks for by index (the array of RFC 9420, appendix C).
    fn nodes(&self, indices: &[u64], size: u64) -> Option<Vec<Sha256Digest>> {
        let range = |index: &u64| {
            let level = index.trailing_ones();
            let start = (index >> (level + 1)) << level;
            self.range(start, size.min(start + (1 << level)))
        };
        indices.iter().map(|index| range(index).map(Sha256Digest)).collect()
    }

    /// `MTH(D[start:end])`; `start` must be a multiple of a power of two that is not less than the length.
    fn range(&self, start: u64, end: u64) -> Option<[u8; 32]> {
        let length = end.checked_sub(start).filter(|length| *length > 0)?;
        if length.is_power_of_two() {
            let level = usize::try_from(length.ilog2()).ok()?;
            return self.levels.get(level)?.get(usize::try_from(start / length).ok()?).copied();
        }
        let middle = start + (1 << length.ilog2());
        Some(parent_hash(&self.range(start, middle)?, &self.range(middle, end)?))
    }
}

/// The root of the tree without leaves.
fn empty_root() -> [u8; 32] {
    Sha256::digest(b"").into()
}

/// `SHA-256(0 ‖ leaf)`.
pub(crate) fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([0]).chain_update(leaf).finalize().into()
}

/// `SHA-256(1 ‖ left ‖ right)`.
fn parent_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Whether `leaf` is at `index` of the tree with this root and size.
pub(crate) fn is_included(root: &Sha256Digest, size: u64, leaf: &[u8], index: u64, proof: &[Sha256Digest]) -> bool {
    let proof = ct_merkle::InclusionProof::<Sha256>::try_from_bytes(concat(proof));
    let root = RootHash::<Sha256>::new(root.0.into(), size);
    size <= MAX_LEAVES && proof.is_ok_and(|proof| root.verify_inclusion(&leaf, index, &proof).is_ok())
}

/// Whether the tree with the second root and size begins with the one with the first.
pub(crate) fn is_extension(old: (&Sha256Digest, u64), new: (&Sha256Digest, u64), proof: &[Sha256Digest]) -> bool {
    if old.1 > new.1 || new.1 > MAX_LEAVES {
        return false;
    }
    if old.1 == 0 {
        return proof.is_empty() && old.0.0 == empty_root();
    }
    let [old, new] = [old, new].map(|(root, size)| RootHash::<Sha256>::new(root.0.into(), size));
    let proof = ct_merkle::ConsistencyProof::<Sha256>::try_from_bytes(concat(proof));
    proof.is_ok_and(|proof| new.verify_consistency(&old, &proof).is_ok())
}

fn concat(hashes: &[Sha256Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1, word for word.
    fn mth(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest(b"").into(),
            [leaf] => leaf_hash(leaf),
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                parent_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| vec![i as u8; i % 5]).collect()
    }

    fn tree(n: usize) -> HashTree {
        let mut tree = HashTree::default();
        leaves(n).iter().for_each(|leaf| tree.push(leaf));
        tree
    }

    #[test]
    fn every_earlier_root_is_that_of_the_rfc() {
        let (whole, leaves) = (tree(40), leaves(40));
        for n in 0..=40 {
            assert_eq!(whole.root_at(n as u64).unwrap().0, mth(&leaves[..n]), "{n}");
            assert_eq!(tree(n).root().0, mth(&leaves[..n]), "{n}");
        }
        assert_eq!(whole.root_at(41), None);
    }

    #[test]
    fn every_leaf_is_proved_at_every_size_and_at_its_own_place_only() {
        let (tree, leaves) = (tree(20), leaves(20));
        for size in 1..=20 {
            let root = tree.root_at(size).unwrap();
            for index in 0..size {
                let proof = tree.inclusion(index, size).unwrap();
                for other in 0..=size {
                    let included = is_included(&root, size, &leaves[index as usize], other, &proof);
                    assert_eq!(included, other == index, "{index} {other} {size}");
                }
            }
            assert_eq!(tree.inclusion(size, size), None);
        }
        assert_eq!(tree.inclusion(0, 21), None);
    }

    #[test]
    fn every_size_extends_every_smaller_one_and_no_proof_fits_changed_roots_or_hashes() {
        let tree = tree(20);
        let root = |size| tree.root_at(size).unwrap();
        for to in 0..=20 {
            for from in 0..=to {
                let proof = tree.consistency(from, to).unwrap();
                assert!(is_extension((&root(from), from), (&root(to), to), &proof), "{from} {to}");
                let wrong = Sha256Digest([9; 32]);
                assert!(!is_extension((&wrong, from), (&root(to), to), &proof), "{from} {to}");
                assert!(from == 0 || !is_extension((&root(from), from), (&wrong, to), &proof), "{from} {to}");
                assert!(from == to || !is_extension((&root(to), to), (&root(from), from), &proof));
                for at in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[at].0[0] ^= 1;
                    assert!(!is_extension((&root(from), from), (&root(to), to), &bad), "{from} {to} {at}");
                }
            }
        }
        assert_eq!(tree.consistency(3, 2), None);
        assert_eq!(tree.consistency(3, 21), None);
    }

    #[test]
    fn absurd_sizes_are_refused_without_a_panic() {
        let root = Sha256Digest([0; 32]);
        for size in [u64::MAX, u64::MAX / 2 + 1, MAX_LEAVES + 1] {
            assert!(!is_included(&root, size, b"leaf", size - 1, &[]));
            assert!(!is_included(&root, size, b"leaf", 0, &[root; 40]));
            assert!(!is_extension((&root, 1), (&root, size), &[root; 40]));
            assert!(!is_extension((&root, size), (&root, size), &[]));
        }
        assert!(!is_included(&root, 0, b"leaf", 0, &[]));
    }
}
