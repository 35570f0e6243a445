//! Contact discovery: what a look-up costs the issuer, and what it costs on the line:
//! `cargo bench -p postern-credentials --bench discovery`.
//!
//! Ours and the others' rounds alternate and the medians are compared, so that a machine that slows down slows both; processor time is
//! counted (Linux), so another build on the machine disturbs neither. Exits with an error when the bar is missed.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postern_credentials::blind_token::{IssuerKey, PendingToken, challenge_digest};
use postern_credentials::directory::{
    Account, Build, BuildParams, Filter, Fingerprints, Previous, Records, bucket_of, build, manifest_digest,
};
use postern_credentials::lookup_token::{PendingTokens, WindowSecret};
use postern_credentials::oprf::{SecretKey, blind};
use postern_credentials::secrets::RootSecret;
use postern_protocol::directory::Record;
use postern_protocol::ids::{
    ChallengeDigest, MailboxId, OprfElement, OprfOutput, OprfPublicKey, RefundSecret, SigningPublicKey,
};
use postern_protocol::lookup::{MAX_LOOKUPS, buckets_to_fetch, lookup_challenge};
use postern_protocol::register::RelayEntry;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use voprf_ng::{BlindedElement, Ristretto255, VoprfServer};

/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 7;
/// How long each measurement takes at least.
const ROUND: Duration = Duration::from_millis(500);
/// Numbers in a batch.
const BATCH: usize = 64;
/// Our time per number may be this much of the bare crate's.
const EVALUATE_BAR: f64 = 1.2;
/// Numbers in an address book, and how many of them are listed.
const BOOK: u32 = 200;
const BOOK_HITS: u32 = 60;

fn main() -> ExitCode {
    // `cargo test --benches` runs this binary without `--bench`: nothing to measure then.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("discovery: run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let evaluate = evaluation();
    tokens();
    for accounts in [10_000, 100_000, 1_000_000] {
        directory(accounts);
    }
    if evaluate <= EVALUATE_BAR {
        return ExitCode::SUCCESS;
    }
    eprintln!("discovery: evaluation takes more than {EVALUATE_BAR} of the bare crate's time");
    ExitCode::FAILURE
}

/// Ours goes from bytes to bytes, decoding and encoding included; the bare crate is given decoded elements and keeps its answer.
fn evaluation() -> f64 {
    let mut rng = StdRng::seed_from_u64(1);
    let seed = [1; 32];
    let ours = SecretKey::derive(&seed, b"bench").unwrap();
    let bare = VoprfServer::<Ristretto255>::new_from_seed(&seed, b"bench").unwrap();
    let elements: Vec<OprfElement> = (0..BATCH).map(|n| blind(&mut rng, &n.to_be_bytes()).unwrap().0).collect();
    let decoded: Vec<BlindedElement<Ristretto255>> =
        elements.iter().map(|element| BlindedElement::deserialize(element.as_bytes()).unwrap()).collect();
    let [ours_us, bare_us] =
        compare([&mut || drop(black_box(ours.evaluate(black_box(&elements)).unwrap())), &mut || {
            drop(black_box(bare.batch_blind_evaluate(&mut rng, black_box(&decoded)).unwrap()))
        }])
        .map(|us| us / BATCH as f64);
    println!("evaluate, batches of {BATCH}: {ours_us:.1} us a number, voprf-ng alone {bare_us:.1} us");
    let [one_us, plain_us] =
        compare([&mut || drop(black_box(ours.evaluate(black_box(&elements[..1])).unwrap())), &mut || {
            drop(black_box(ours.output(black_box(b"+41791234567")).unwrap()))
        }]);
    println!(
        "evaluate one: {one_us:.1} us; F_k for the directory: {plain_us:.1} us, so {plain_us:.0} s per million accounts"
    );
    println!("ratio evaluate_vs_voprf_crate = {:.2}", ours_us / bare_us);
    ours_us / bare_us
}

/// A look-up token, issued and verified, by the issuer: VOPRF in batches against blind RSA.
fn tokens() {
    let mut rng = StdRng::seed_from_u64(2);
    let window = WindowSecret::derive(&RootSecret::from_bytes([1; 32]), 20_000).unwrap();
    let challenge = challenge_digest(&lookup_challenge("issuer.example")).unwrap();
    let pending = PendingTokens::begin(&mut rng, &window.public(), challenge, BATCH).unwrap();
    let request = pending.request();
    let tokens = pending.finish(&window.public(), &window.issue(&request).unwrap()).unwrap();

    let issuer = IssuerKey::generate().unwrap();
    let rsa_challenge = ChallengeDigest([1; 32]);
    let (blinded, rsa) =
        PendingToken::begin(&mut rng, issuer.public(), rsa_challenge, &RefundSecret::new([2; 32])).unwrap();
    let rsa_token = rsa.finish(issuer.public(), &issuer.blind_sign(&blinded).unwrap()).unwrap();
    let mut message = blinded;

    let [issue, verify, sign, rsa_verify] = compare([
        &mut || drop(black_box(window.issue(black_box(&request)).unwrap())),
        &mut || window.verify(black_box(&tokens[0]), &challenge).unwrap(),
        &mut || message = issuer.blind_sign(black_box(&message)).unwrap(),
        &mut || issuer.public().verify(black_box(&rsa_token), &rsa_challenge).unwrap(),
    ]);
    let issue = issue / BATCH as f64;
    println!(
        "look-up token: issue {issue:.1} us, verify {verify:.1} us; blind RSA: issue {sign:.1} us, verify {rsa_verify:.1} us"
    );
    println!("ratio lookup_token_vs_blind_rsa = {:.2}", (issue + verify) / (sign + rsa_verify));
    // A client's whole batch, blinding included; not the issuer's time.
    let finish =
        compare([&mut || drop(black_box(pending.finish(&window.public(), &window.issue(&request).unwrap()).unwrap()))]);
    println!("client, finish a token: {:.1} us", finish[0] / BATCH as f64 - issue);
}

/// Synthetic outputs: building is measured, not the VOPRF.
fn directory(many: u32) {
    let mut rng = StdRng::seed_from_u64(3);
    let relays = vec![RelayEntry { name: "relay.example".into(), url: "https://relay.example".into() }];
    let params =
        BuildParams { build: 1, oprf_epoch: 1, oprf_key: OprfPublicKey([1; 32]), created: 0, relays, previous: None };
    let accounts: Vec<Account> = (0..many).map(account).collect();
    let (start, busy) = (Instant::now(), processor_time());
    let first = build(&mut rng, params.clone(), accounts).unwrap();
    let seconds = spent(start, busy).as_secs_f64();
    let per_million = seconds * 1e6 / f64::from(many);
    println!(
        "directory of {many}: built in {seconds:.2} s ({per_million:.2} s per million), {} buckets",
        first.manifest.buckets()
    );
    println!("ratio build_us_per_account_{many} = {per_million:.2}");
    traffic(&first, many);

    // A day later: one account in a thousand is new.
    let previous =
        Previous { digest: manifest_digest(&first.manifest.encode().unwrap()), oprf_epoch: 1, entries: &first.entries };
    let next = BuildParams { build: 2, previous: Some(previous), ..params };
    let second = build(&mut rng, next, (0..many + many / 1000).map(account)).unwrap();
    println!("  delta of a day with 0.1% new: {} bytes", second.delta.as_ref().unwrap().len());
}

/// What a client fetches: for one number, listed or not, and for an address book of which 30% is listed.
fn traffic(build: &Build, many: u32) {
    let manifest = &build.manifest;
    // The exchange with the issuer: a token, a blinded element and an evaluated one a number, in base64; a proof a batch.
    let exchange = (162 + 32 + 32) * 4 / 3;
    let filter = build.filter.as_ref().map_or(0, Vec::len);
    let one = files(build, &BTreeSet::from([bucket_of(&output(0), manifest.bits)]));
    println!("  one look-up, hit or miss: evaluation {exchange} bytes, a bucket {one} bytes");
    println!("  manifest {} bytes; filter {filter} bytes, once a build", manifest.encode().unwrap().len());
    let hits = book(build, many);
    let (mut buckets, mut left) = (BTreeSet::new(), BOOK as usize);
    let mut hits = hits.into_iter();
    let mut rng = StdRng::seed_from_u64(4);
    while left > 0 {
        let numbers = left.min(MAX_LOOKUPS);
        left -= numbers;
        let of_hits: Vec<u32> = hits.by_ref().take(numbers * BOOK_HITS as usize / BOOK as usize).collect();
        let stand_ins = buckets_to_fetch(numbers, of_hits.len()) - of_hits.len();
        buckets.extend(of_hits);
        buckets.extend((0..stand_ins).map(|_| rng.random_range(0..manifest.buckets())));
    }
    let bytes = files(build, &buckets);
    println!(
        "  book of {BOOK}, {BOOK_HITS} listed: {} buckets, {bytes} bytes; with the filter {}",
        buckets.len(),
        bytes + filter
    );
    println!("ratio lookup_bytes_{many} = {}", one + exchange);
    println!("ratio book_bytes_{many} = {}", bytes + filter + BOOK as usize * exchange);
}

/// Bytes of both files of these buckets.
fn files(build: &Build, buckets: &BTreeSet<u32>) -> usize {
    let both =
        |bucket: &u32| build.fingerprints_file(*bucket).unwrap().len() + build.records_file(*bucket).unwrap().len();
    buckets.iter().map(both).sum()
}

/// Looks the book up for real; the buckets of its hits.
fn book(build: &Build, many: u32) -> Vec<u32> {
    let manifest = &build.manifest;
    let filter = build.filter.as_deref().map(|file| Filter::read(manifest, file).unwrap());
    let book = (0..BOOK_HITS).chain(many * 2..many * 2 + BOOK - BOOK_HITS).map(output);
    let mut buckets = Vec::new();
    for y in book.filter(|y| filter.as_ref().is_none_or(|filter| filter.contains(y))) {
        let bucket = bucket_of(&y, manifest.bits);
        let fingerprints = Fingerprints::read(manifest, bucket, &build.fingerprints_file(bucket).unwrap()).unwrap();
        let records = Records::read(manifest, bucket, &build.records_file(bucket).unwrap()).unwrap();
        if records.open(&y, fingerprints.find(&y)).is_some() {
            buckets.push(bucket);
        }
    }
    assert_eq!(buckets.len(), BOOK_HITS as usize);
    buckets
}

fn output(n: u32) -> OprfOutput {
    let mut bytes = [0; 64];
    StdRng::seed_from_u64(u64::from(n)).fill_bytes(&mut bytes);
    OprfOutput::new(bytes)
}

fn account(n: u32) -> Account {
    let record = Record { identity: SigningPublicKey([1; 32]), mailbox: MailboxId([2; 32]), relay: 0 };
    Account { y: output(n), record }
}

/// Microseconds of each operation: the medians of alternating rounds.
fn compare<const N: usize>(mut operations: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut all = [(); N].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        for (times, operation) in all.iter_mut().zip(&mut operations) {
            times.push(micros(*operation));
        }
    }
    all.map(median)
}

fn micros(operation: &mut dyn FnMut()) -> f64 {
    let (start, busy) = (Instant::now(), processor_time());
    let mut count = 0.0;
    while start.elapsed() < ROUND {
        operation();
        count += 1.0;
    }
    spent(start, busy).as_secs_f64() * 1e6 / count
}

fn spent(start: Instant, busy: Option<Duration>) -> Duration {
    processor_time().zip(busy).map_or_else(|| start.elapsed(), |(end, start)| end - start)
}

/// What this process has used of the processor; `None` where `/proc` does not tell, and the wall clock must do.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
