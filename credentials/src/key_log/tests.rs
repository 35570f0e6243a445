use postern_protocol::ids::OprfPublicKey;
use postern_protocol::log::LogLeaf;
use postern_protocol::lookup::WindowKey;

use super::*;

fn issuer() -> IdentityKey {
    IdentityKey::from_seed([1; 32])
}

fn leaf(n: u64) -> Vec<u8> {
    match n % 3 {
        0 => LogLeaf::Manifest(n.to_be_bytes().to_vec()),
        1 => LogLeaf::TokenKeys(n.to_be_bytes().to_vec()),
        _ => LogLeaf::LookupKey(WindowKey { window: n, key: OprfPublicKey([7; 32]) }),
    }
    .encode()
}

fn log(size: u64) -> KeyLog {
    (0..size).map(leaf).collect()
}

fn head(log: &KeyLog) -> LogHead {
    log.head(&issuer(), 1_800_000_000 + log.size())
}

#[test]
fn a_head_is_believed_signed_by_the_issuer_and_unchanged_only() {
    let good = head(&log(5));
    assert_eq!(verify_head(&good, &issuer().public()), Ok(()));
    assert_eq!(verify_head(&good, &IdentityKey::from_seed([2; 32]).public()), Err(LogError::BadSignature));
    let mut bad_root = good.clone();
    bad_root.root.0[0] ^= 1;
    let mut bad_signature = good.clone();
    bad_signature.signature.0[0] ^= 1;
    for bad in [LogHead { size: 6, ..good.clone() }, LogHead { time: 0, ..good.clone() }, bad_root, bad_signature] {
        assert_eq!(verify_head(&bad, &issuer().public()), Err(LogError::BadSignature));
    }
    // What the issuer signs for other purposes is no head.
    let mut other = good.clone();
    other.signature = issuer().sign("postern/directory-manifest/v1", &good.signed_part());
    assert_eq!(verify_head(&other, &issuer().public()), Err(LogError::BadSignature));
}

#[test]
fn a_log_that_grows_extends_what_was_seen_and_has_every_leaf() {
    let whole = log(13);
    for size in 0..=13 {
        let then = sign_head(&issuer(), size, whole.root(size).unwrap(), size);
        assert_eq!(then.root, log(size).root(size).unwrap());
        let proof = whole.consistency(size, 13).unwrap();
        assert_eq!(verify_extends(&then, &head(&whole), &proof), Ok(()), "{size}");
        for n in 0..size {
            let proof = whole.inclusion(&leaf_hash(&leaf(n)), size).unwrap();
            assert_eq!((proof.index, verify_contains(&then, &leaf(n), &proof)), (n, Ok(())));
        }
        assert_eq!(whole.inclusion(&leaf_hash(&leaf(size)), size), None, "not there yet");
    }
    assert_eq!(whole.consistency(5, 14), None);
    assert_eq!(whole.inclusion(&leaf_hash(b"never"), 13), None);
}

#[test]
fn a_log_that_was_cut_is_found_out() {
    let (seen, cut) = (head(&log(9)), log(8));
    for proof in [log(9).consistency(8, 9).unwrap(), ConsistencyProof { hashes: Vec::new() }] {
        assert_eq!(verify_extends(&seen, &head(&cut), &proof), Err(LogError::Cut));
    }
    // Cut, and grown again with something else.
    let mut regrown = log(8);
    (0..4).for_each(|_| regrown.push(b"other"));
    let proof = regrown.consistency(9, 12).unwrap();
    assert_eq!(verify_extends(&seen, &head(&regrown), &proof), Err(LogError::Rewritten));
}

#[test]
fn a_log_that_was_rewritten_anywhere_is_found_out() {
    let seen = head(&log(7));
    for changed in 0..7 {
        let rewritten: KeyLog = (0..11).map(|n| if n == changed { b"\x01other".to_vec() } else { leaf(n) }).collect();
        for proof in [rewritten.consistency(7, 11).unwrap(), log(11).consistency(7, 11).unwrap()] {
            assert_eq!(verify_extends(&seen, &head(&rewritten), &proof), Err(LogError::Rewritten), "{changed}");
        }
        // The same size with another root needs no proof at all to be seen.
        let rewritten: KeyLog = (0..7).map(|n| if n == changed { b"\x01other".to_vec() } else { leaf(n) }).collect();
        let proof = rewritten.consistency(7, 7).unwrap();
        assert_eq!(verify_extends(&seen, &head(&rewritten), &proof), Err(LogError::Rewritten), "{changed}");
    }
    // Two leaves in the other order.
    let swapped: KeyLog = (0..11).map(|n| leaf([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10][n])).collect();
    let proof = swapped.consistency(7, 11).unwrap();
    assert_eq!(verify_extends(&seen, &head(&swapped), &proof), Err(LogError::Rewritten));
}

#[test]
fn a_log_that_was_forked_can_never_be_joined_again() {
    let (mut mine, mut yours) = (log(6), log(6));
    mine.push(b"\x02my key");
    yours.push(b"\x02your key");
    let seen = head(&mine);
    for n in 7..12 {
        yours.push(&leaf(n));
        let proof = yours.consistency(7, yours.size()).unwrap();
        assert_eq!(verify_extends(&seen, &head(&yours), &proof), Err(LogError::Rewritten), "{n}");
    }
    // The leaf that only I was shown is not in what everybody sees, at its place or any other.
    let shown = b"\x02my key";
    let forged = mine.inclusion(&leaf_hash(shown), 7).unwrap();
    assert_eq!(verify_contains(&head(&mine), shown, &forged), Ok(()));
    assert_eq!(verify_contains(&head(&yours), shown, &forged), Err(LogError::NotLogged));
    for index in 0..yours.size() {
        let place = yours.inclusion(&leaf_hash(&leaf(0)), yours.size()).unwrap();
        let claimed = InclusionProof { index, ..place };
        assert_eq!(verify_contains(&head(&yours), shown, &claimed), Err(LogError::NotLogged));
    }
}

#[test]
fn a_proof_that_is_cut_lengthened_or_changed_proves_nothing() {
    let whole = log(11);
    let (seen, now) = (sign_head(&issuer(), 6, whole.root(6).unwrap(), 0), head(&whole));
    let extends = |hashes| verify_extends(&seen, &now, &ConsistencyProof { hashes });
    let contains = |hashes| verify_contains(&now, &leaf(4), &InclusionProof { index: 4, hashes });
    let consistency = whole.consistency(6, 11).unwrap().hashes;
    let inclusion = whole.inclusion(&leaf_hash(&leaf(4)), 11).unwrap().hashes;
    assert_eq!((extends(consistency.clone()), contains(inclusion.clone())), (Ok(()), Ok(())));
    let spoil = |hashes: &[Sha256Digest]| {
        let mut all: Vec<Vec<_>> = (0..hashes.len()).map(|n| hashes[..n].to_vec()).collect();
        all.push([hashes, &hashes[..1]].concat());
        for at in 0..hashes.len() {
            let mut bad = hashes.to_vec();
            bad[at].0[31] ^= 1;
            all.push(bad);
        }
        all
    };
    assert!(spoil(&consistency).into_iter().all(|bad| extends(bad) == Err(LogError::Rewritten)));
    assert!(spoil(&inclusion).into_iter().all(|bad| contains(bad) == Err(LogError::NotLogged)));
}

#[test]
fn a_node_of_the_tree_is_no_leaf() {
    // Without the prefixes of RFC 6962, two leaves' hashes side by side would pass for a leaf.
    let log = log(2);
    let node = [leaf_hash(&leaf(0)).0, leaf_hash(&leaf(1)).0].concat();
    let head = head(&log);
    assert_eq!(
        verify_contains(&head, &node, &InclusionProof { index: 0, hashes: Vec::new() }),
        Err(LogError::NotLogged)
    );
    let one = LogHead { size: 1, ..head };
    assert_eq!(
        verify_contains(&one, &node, &InclusionProof { index: 0, hashes: Vec::new() }),
        Err(LogError::NotLogged)
    );
}
