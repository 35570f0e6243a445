use postern_protocol::directory::{BucketFile, FILTER_LIMIT};
use postern_protocol::ids::{MailboxId, OprfPublicKey};
use postern_protocol::register::RelayEntry;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::oprf::SecretKey;
use crate::secrets::RootSecret;
use crate::testing::rng;
use crate::transcript::hmac_sha256;

/// An output as good as any: no VOPRF is needed to test what is made of it.
fn y(n: u32) -> OprfOutput {
    let mut bytes = [0; 64];
    for (half, part) in bytes.chunks_mut(32).enumerate() {
        part.copy_from_slice(&hmac_sha256(&[half as u8; 32], &[&n.to_be_bytes()]));
    }
    OprfOutput::new(bytes)
}

fn record(n: u32) -> Record {
    let identity = SigningPublicKey(hmac_sha256(&[8; 32], &[&n.to_be_bytes()]));
    Record { identity, mailbox: MailboxId([n as u8; 32]), relay: (n % 2) as u16 }
}

fn accounts(numbers: impl IntoIterator<Item = u32>) -> Vec<Account> {
    numbers.into_iter().map(|n| Account { y: y(n), record: record(n) }).collect()
}

fn params<'a>(number: u32) -> BuildParams<'a> {
    let relay = |name: &str| RelayEntry { name: name.into(), url: format!("https://{name}") };
    BuildParams {
        build: number,
        oprf_epoch: 1,
        oprf_key: OprfPublicKey([3; 32]),
        created: 1_800_000_000,
        relays: vec![relay("a.example"), relay("b.example")],
        previous: None,
    }
}

fn built(accounts: Vec<Account>) -> Build {
    build(&mut rng(), params(1), accounts).unwrap()
}

/// What a client does with files that it was served.
fn look_up(manifest: &Manifest, y: &OprfOutput, served: impl Fn(u32) -> (Vec<u8>, Vec<u8>)) -> Option<Record> {
    let bucket = bucket_of(y, manifest.bits);
    let (fingerprints, records) = served(bucket);
    let hits = Fingerprints::read(manifest, bucket, &fingerprints).unwrap().find(y);
    Records::read(manifest, bucket, &records).unwrap().open(y, hits)
}

fn files(build: &Build) -> impl Fn(u32) -> (Vec<u8>, Vec<u8>) {
    |bucket| (build.fingerprints_file(bucket).unwrap(), build.records_file(bucket).unwrap())
}

#[test]
fn everybody_listed_is_found_and_nobody_else() {
    let build = built(accounts(0..5000));
    let Manifest { bits, accounts, .. } = build.manifest;
    assert_eq!((bits, accounts), (3, 5000));
    let filter = Filter::read(&build.manifest, build.filter.as_deref().unwrap()).unwrap();
    for n in (0..5000).step_by(7) {
        assert_eq!(look_up(&build.manifest, &y(n), files(&build)), Some(record(n)), "{n}");
        assert!(filter.contains(&y(n)), "{n}");
    }
    for n in (5000..10_000).step_by(7) {
        assert_eq!(look_up(&build.manifest, &y(n), files(&build)), None, "{n}");
        assert!(!filter.contains(&y(n)), "{n}");
    }
    assert_eq!(build.fingerprints_file(8), None);
    assert_eq!(build.records_file(8), None);
}

#[test]
fn a_number_evaluated_blindly_finds_the_record_that_its_owner_computed() {
    let key = SecretKey::for_epoch(&RootSecret::from_bytes([1; 32]), 1).unwrap();
    let phone = b"+41791234567";
    let mut all = accounts(0..100);
    all.push(Account { y: key.output(phone).unwrap(), record: record(7) });
    let build = built(all);
    let (element, blinding) = crate::oprf::blind(&mut rng(), phone).unwrap();
    let answer = key.evaluate(&[element]).unwrap();
    let batch = [(phone.as_slice(), &blinding)];
    let outputs = crate::oprf::finish(&key.public(), &batch, &answer.evaluated, &answer.proof).unwrap();
    let found = look_up(&build.manifest, &outputs[0], files(&build)).unwrap();
    assert_eq!(found, record(7));
    let link = card_link(&build.manifest, &found).unwrap();
    assert_eq!((link.relay_url.as_str(), link.mailbox), ("https://b.example", found.mailbox));
    assert_eq!(card_link(&build.manifest, &Record { relay: 2, ..found }), None);
}

#[test]
fn directories_of_no_account_and_of_one_work_like_any_other() {
    let none = built(Vec::new());
    assert_eq!((none.manifest.bits, none.manifest.accounts), (0, 0));
    assert_eq!(look_up(&none.manifest, &y(0), files(&none)), None);
    assert!(!Filter::read(&none.manifest, none.filter.as_deref().unwrap()).unwrap().contains(&y(0)));
    let one = built(accounts([0]));
    assert_eq!(look_up(&one.manifest, &y(0), files(&one)), Some(record(0)));
    let filter = Filter::read(&one.manifest, one.filter.as_deref().unwrap()).unwrap();
    assert!(filter.contains(&y(0)) && !filter.contains(&y(1)));
}

#[test]
fn a_bucket_has_at_most_1024_accounts_on_average() {
    for (accounts, bits) in
        [(0, 0), (1024, 0), (1025, 1), (2048, 1), (2049, 2), (FILTER_LIMIT, 10), (1_000_000_000, 20), (u64::MAX, 24)]
    {
        assert_eq!(super::build::bits_for(accounts), bits, "{accounts}");
    }
}

#[test]
fn the_same_inputs_in_any_order_give_the_same_files() {
    let (build, again) = (built(accounts(0..3000)), built(accounts((0..3000).rev())));
    assert_eq!(build.manifest, again.manifest);
    assert_eq!((&build.filter, &build.entries), (&again.filter, &again.entries));
    for bucket in 0..build.manifest.buckets() {
        assert_eq!(files(&build)(bucket), files(&again)(bucket));
    }
    // With other randomness the records are other bytes: nobody sees which of them changed between two builds.
    let other = super::build(&mut StdRng::seed_from_u64(8), params(1), accounts(0..3000)).unwrap();
    assert_ne!(build.manifest.root, other.manifest.root);
}

#[test]
fn two_accounts_of_one_number_and_an_unknown_relay_build_nothing() {
    assert_eq!(build(&mut rng(), params(1), accounts([1, 2, 1])).map(drop), Err(BuildError::Duplicate));
    let mut all = accounts(0..3);
    all[1].record.relay = 2;
    assert_eq!(build(&mut rng(), params(1), all).map(drop), Err(BuildError::UnknownRelay));
}

#[test]
fn accounts_that_share_bucket_and_fingerprint_are_each_found() {
    // Only bytes 8 to 64 tell them apart.
    let same = |n: u32| {
        let mut bytes = *y(n).expose();
        bytes[..8].copy_from_slice(&y(0).expose()[..8]);
        OprfOutput::new(bytes)
    };
    let mut all = accounts(100..200);
    all.extend((0..4).map(|n| Account { y: same(n), record: record(n) }));
    let build = built(all);
    let fingerprints = Fingerprints::read(&build.manifest, 0, &build.fingerprints_file(0).unwrap()).unwrap();
    assert_eq!((fingerprints.len(), fingerprints.find(&same(9)).len()), (104, 4));
    for n in 0..4 {
        assert_eq!(look_up(&build.manifest, &same(n), files(&build)), Some(record(n)), "{n}");
    }
    assert_eq!(look_up(&build.manifest, &same(9), files(&build)), None, "a hit that is nobody's");
}

#[test]
fn a_manifest_is_believed_signed_by_the_issuer_and_unchanged_only() {
    let issuer = IdentityKey::from_seed([1; 32]);
    let manifest = built(accounts(0..10)).manifest;
    let served = sign_manifest(&issuer, manifest.clone()).unwrap().encode().unwrap();
    assert_eq!(verify_manifest(&served, &issuer.public()), Ok(manifest));
    let other = IdentityKey::from_seed([2; 32]).public();
    assert_eq!(verify_manifest(&served, &other), Err(DirectoryError::BadSignature));
    for at in 0..served.len() {
        let mut bad = served.clone();
        bad[at] ^= 1;
        assert!(verify_manifest(&bad, &issuer.public()).is_err(), "{at}");
        assert!(verify_manifest(&served[..at], &issuer.public()).is_err(), "{at}");
        assert_ne!(manifest_digest(&bad), manifest_digest(&served));
    }
}

#[test]
fn a_file_of_another_bucket_or_build_or_of_the_other_kind_is_refused() {
    let (build, other) = (built(accounts(0..5000)), built(accounts(1..5001)));
    let manifest = &build.manifest;
    let not_in_build = Some(DirectoryError::NotInBuild);
    for bucket in 0..manifest.buckets() {
        let (fingerprints, records) = files(&build)(bucket);
        assert!(Fingerprints::read(manifest, bucket, &fingerprints).is_ok());
        assert!(Records::read(manifest, bucket, &records).is_ok());
        let next = (bucket + 1) % manifest.buckets();
        for wrong in [next, bucket + manifest.buckets(), u32::MAX] {
            assert_eq!(Fingerprints::read(manifest, wrong, &fingerprints).err(), not_in_build);
            assert_eq!(Records::read(manifest, wrong, &records).err(), not_in_build);
        }
        assert_eq!(Records::read(manifest, bucket, &fingerprints).err(), not_in_build);
        assert_eq!(Fingerprints::read(manifest, bucket, &records).err(), not_in_build);
        assert_eq!(Fingerprints::read(&other.manifest, bucket, &fingerprints).err(), not_in_build);
        assert_eq!(Records::read(&other.manifest, bucket, &records).err(), not_in_build);
    }
    let filter = build.filter.as_deref().unwrap();
    assert_eq!(Filter::read(&other.manifest, filter).err(), not_in_build);
    assert_eq!(
        Filter::read(&Manifest { filter: None, ..manifest.clone() }, filter).err(),
        Some(DirectoryError::NoSuchFile)
    );
}

#[test]
fn a_file_with_any_byte_changed_cut_or_added_is_refused() {
    let build = built(accounts(0..1200));
    let manifest = &build.manifest;
    let (fingerprints, records) = files(&build)(1);
    let filter = build.filter.clone().unwrap();
    type Check = fn(&Manifest, &[u8]) -> bool;
    let checks: [(&[u8], Check); 3] = [
        (&fingerprints, |manifest, file| Fingerprints::read(manifest, 1, file).is_err()),
        (&records, |manifest, file| Records::read(manifest, 1, file).is_err()),
        (&filter, |manifest, file| Filter::read(manifest, file).is_err()),
    ];
    for (file, is_refused) in checks {
        assert!(!is_refused(manifest, file));
        // All of the proof, and samples of the rest.
        for at in (0..100).chain((100..file.len()).step_by(97)) {
            let mut bad = file.to_vec();
            bad[at] ^= 1;
            assert!(is_refused(manifest, &bad), "{at}");
            assert!(is_refused(manifest, &file[..at]), "{at}");
        }
        assert!(is_refused(manifest, &[file, &[0]].concat()));
    }
}

#[test]
fn a_proof_that_is_cut_or_lengthened_is_refused() {
    let build = built(accounts(0..5000));
    let file = build.fingerprints_file(2).unwrap();
    let BucketFile { proof, other, data } = BucketFile::decode(&file).unwrap();
    assert_eq!(proof.len(), 3);
    let with = |proof: Vec<Sha256Digest>| {
        let file = BucketFile { proof, other, data }.encode().unwrap();
        Fingerprints::read(&build.manifest, 2, &file).map(drop)
    };
    assert_eq!(with(proof.clone()), Ok(()));
    for bad in [proof[..2].to_vec(), proof[1..].to_vec(), Vec::new(), [proof.as_slice(), &proof[..1]].concat()] {
        assert_eq!(with(bad), Err(DirectoryError::NotInBuild));
    }
}

/// A directory whose issuer cheats: the root is over whatever these are.
fn with_bucket(fingerprints: &[u8], records: &[u8]) -> (Manifest, Vec<u8>, Vec<u8>) {
    let digests = [fingerprints, records].map(|data| Sha256Digest(sha256(data)));
    let root = Sha256Digest(crate::hash_tree::leaf_hash(&leaf(&digests[0], &digests[1])));
    let file = |other, data| BucketFile { proof: Vec::new(), other, data }.encode().unwrap();
    let manifest = Manifest { root, ..built(Vec::new()).manifest };
    (manifest, file(digests[1], fingerprints), file(digests[0], records))
}

#[test]
fn a_record_that_was_moved_to_another_place_or_account_does_not_open() {
    let build = built(accounts(0..10));
    let (fingerprints, records) = files(&build)(0);
    let data = |file| BucketFile::decode(file).unwrap().data.to_vec();
    let (fingerprints, mut records) = (data(&fingerprints), data(&records));
    let places: Vec<_> = (0..10)
        .map(|n| {
            Fingerprints::read(&build.manifest, 0, &build.fingerprints_file(0).unwrap()).unwrap().find(&y(n)).start
        })
        .collect();
    let (a, b) = (places[3] * Record::SEALED_LEN, places[4] * Record::SEALED_LEN);
    for at in 0..Record::SEALED_LEN {
        records.swap(a + at, b + at);
    }
    let (manifest, fingerprints_file, records_file) = with_bucket(&fingerprints, &records);
    let served = |_| (fingerprints_file.clone(), records_file.clone());
    for n in 0..10 {
        let expected = (n != 3 && n != 4).then(|| record(n));
        assert_eq!(look_up(&manifest, &y(n), served), expected, "{n}");
    }
    // Nor under another key's epoch.
    let later = Manifest { oprf_epoch: 2, ..manifest };
    assert_eq!(look_up(&later, &y(0), served), None);
}

#[test]
fn fingerprints_out_of_order_and_broken_records_are_refused_even_from_the_issuer() {
    let build = built(accounts(0..10));
    let (fingerprints, records) = files(&build)(0);
    let data = |file| BucketFile::decode(file).unwrap().data.to_vec();
    let (good, records) = (data(&fingerprints), data(&records));
    let mut unsorted = good.clone();
    unsorted[..8].rotate_left(4);
    for bad in [unsorted, good[..39].to_vec()] {
        let (manifest, file, _) = with_bucket(&bad, &records);
        assert_eq!(Fingerprints::read(&manifest, 0, &file).err(), Some(DirectoryError::Malformed));
    }
    let (manifest, _, file) = with_bucket(&good, &records[1..]);
    assert_eq!(Records::read(&manifest, 0, &file).err(), Some(DirectoryError::Malformed));
    // Fewer records than fingerprints: a hit without a record.
    let (manifest, fingerprints, file) = with_bucket(&good, &records[..Record::SEALED_LEN]);
    let found = (0..10).filter(|n| look_up(&manifest, &y(*n), |_| (fingerprints.clone(), file.clone())).is_some());
    assert!(found.count() <= 1);
}

#[test]
fn a_filter_that_does_not_fit_its_own_numbers_is_refused_without_a_panic() {
    let file = built(accounts(0..300)).filter.unwrap();
    assert!(Filter::decode(&file).is_ok());
    let with = |at: usize, value: u32| {
        let mut bad = file.clone();
        bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
        Filter::decode(&bad).map(|filter| (0..1000).filter(|n| filter.contains(&y(*n))).count())
    };
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    for value in [0, 1, 3, 5, 1 << 18, 1 << 19, 1 << 31, u32::MAX] {
        assert_eq!(with(9, value).is_ok(), value == number(9), "segment length {value}");
        assert_eq!(with(13, value).is_ok(), value == number(13), "segments {value}");
    }
    // No segments, and two of the right length: a key would point beyond the end.
    let mut none = file[..17].to_vec();
    none[13..17].copy_from_slice(&0_u32.to_be_bytes());
    none.resize(17 + 8 * number(9) as usize, 0);
    assert!(Filter::decode(&none).is_err());
    for n in 0..17 {
        assert!(Filter::decode(&file[..n]).is_err());
    }
}

#[test]
fn a_delta_has_who_is_new_and_nobody_else() {
    let first = built(accounts(0..1500));
    assert_eq!((first.delta.is_none(), first.manifest.delta), (true, None));
    let previous = Previous { digest: Sha256Digest([9; 32]), oprf_epoch: 1, entries: &first.entries };
    // 0 to 99 have left, 1500 to 1549 are new.
    let next = BuildParams { previous: Some(previous), ..params(2) };
    let second = build(&mut rng(), next.clone(), accounts(100..1550)).unwrap();
    assert_eq!(second.manifest.previous, previous.digest);
    let file = second.delta.as_deref().unwrap();
    let delta = Delta::read(&second.manifest, file).unwrap();
    assert_eq!(delta.len(), 50);
    for n in 0..1600 {
        assert_eq!(delta.contains(&y(n)), (1500..1550).contains(&n), "{n}");
    }
    // A later build with nobody new has an empty delta, which is not the same as none.
    let previous = Previous { entries: &second.entries, ..previous };
    let third = build(&mut rng(), BuildParams { previous: Some(previous), ..params(3) }, accounts(100..1550)).unwrap();
    assert!(Delta::read(&third.manifest, third.delta.as_deref().unwrap()).unwrap().is_empty());
    assert_eq!(Delta::read(&third.manifest, file).err(), Some(DirectoryError::NotInBuild));
    for at in [0, file.len() - 1] {
        let mut bad = file.to_vec();
        bad[at] ^= 1;
        assert_eq!(Delta::read(&second.manifest, &bad).err(), Some(DirectoryError::NotInBuild));
    }
    let malformed = Previous { entries: &first.entries[1..], ..previous };
    let result = build(&mut rng(), BuildParams { previous: Some(malformed), ..next }, accounts(0..9));
    assert_eq!(result.map(drop), Err(BuildError::Previous));
}

#[test]
fn after_a_change_of_key_there_is_no_delta() {
    let first = built(accounts(0..100));
    let previous = Previous { digest: Sha256Digest([9; 32]), oprf_epoch: 1, entries: &first.entries };
    let next = BuildParams { oprf_epoch: 2, previous: Some(previous), ..params(2) };
    let second = build(&mut rng(), next, accounts(0..100)).unwrap();
    assert_eq!((second.delta.clone(), second.manifest.previous), (None, previous.digest));
    assert_eq!(Delta::read(&second.manifest, &[]).err(), Some(DirectoryError::NoSuchFile));
    assert_eq!(look_up(&second.manifest, &y(5), files(&second)), Some(record(5)));
}

#[test]
fn nothing_published_says_anything_about_a_record_s_key() {
    // All that is public of y is its first 16 bytes: with another rest, nothing opens.
    let build = built(accounts(0..50));
    let mut bytes = *y(5).expose();
    bytes[16..].copy_from_slice(&[0; 48]);
    let guessed = OprfOutput::new(bytes);
    assert_eq!(look_up(&build.manifest, &guessed, files(&build)), None);
    assert_eq!(look_up(&build.manifest, &y(5), files(&build)), Some(record(5)));
}
