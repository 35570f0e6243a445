//! Blind signing and token verification against `openssl speed rsa2048`, in one run on one machine:
//! `cargo bench -p postern-credentials --bench tokens`.
//!
//! Ours and OpenSSL's rounds alternate, and the medians are compared, so that a machine that slows down slows both.
//! `openssl speed` counts processor time, so we do too (Linux): another build on the machine then disturbs neither.
//! Exits with an error when a ratio is below its bar, or when there is no OpenSSL to compare with.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#![allow(clippy::unwrap_used, reason = "a failed operation must not count as a fast one")]

use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use postern_credentials::blind_token::{IssuerKey, PendingToken};
use postern_protocol::ids::{ChallengeDigest, RefundSecret};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 5;
/// How long each of our measurements takes.
const ROUND: Duration = Duration::from_secs(1);
/// Our operations a second must be at least this much of OpenSSL's.
const SIGN_BAR: f64 = 0.95;
const VERIFY_BAR: f64 = 0.9;

fn main() -> ExitCode {
    // `cargo test --benches` runs this binary without `--bench`: nothing to measure then.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("tokens: run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tokens: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let issuer = IssuerKey::generate()?;
    let key = issuer.public();
    let challenge = ChallengeDigest([1; 32]);
    let mut rng = StdRng::seed_from_u64(1);
    let (blinded, pending) = PendingToken::begin(&mut rng, key, challenge, &RefundSecret::new([2; 32]))?;
    let token = pending.finish(key, &issuer.blind_sign(&blinded)?)?;

    let mut ours: [Vec<f64>; 2] = Default::default();
    let mut openssl: [Vec<f64>; 2] = Default::default();
    for round in 1..=ROUNDS {
        let theirs = openssl_speed()?;
        // A different message each time, as in service.
        let mut message = blinded;
        let sign = per_second(|| message = issuer.blind_sign(black_box(&message)).unwrap());
        let verify = per_second(|| key.verify(black_box(&token), &challenge).unwrap());
        println!(
            "round {round}: sign {sign:.0}/s (openssl {:.0}/s), verify {verify:.0}/s (openssl {:.0}/s)",
            theirs[0], theirs[1]
        );
        for (all, one) in ours.iter_mut().zip([sign, verify]).chain(openssl.iter_mut().zip(theirs)) {
            all.push(one);
        }
    }
    let [our_sign, our_verify] = ours.map(median);
    let [their_sign, their_verify] = openssl.map(median);
    println!("blind_sign {:.1} us, token_verify {:.1} us", 1e6 / our_sign, 1e6 / our_verify);
    let sign = report("blind_sign_vs_openssl", our_sign / their_sign, SIGN_BAR);
    let verify = report("token_verify_vs_openssl", our_verify / their_verify, VERIFY_BAR);
    Ok(sign && verify)
}

/// Prints the ratio; whether it reaches its bar.
fn report(name: &str, ratio: f64, bar: f64) -> bool {
    println!("ratio {name} = {ratio:.2}");
    if ratio < bar {
        eprintln!("tokens: {name} is below its bar of {bar}");
    }
    ratio >= bar
}

fn per_second(mut operation: impl FnMut()) -> f64 {
    let (start, busy) = (Instant::now(), processor_time());
    let mut count = 0.0;
    loop {
        for _ in 0..50 {
            operation();
        }
        count += 50.0;
        let elapsed = start.elapsed();
        if elapsed >= ROUND {
            let busy = processor_time().zip(busy).map(|(end, start)| end - start);
            return count / busy.unwrap_or(elapsed).as_secs_f64();
        }
    }
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

/// `openssl speed rsa2048`: signatures and verifications a second.
fn openssl_speed() -> Result<[f64; 2], Box<dyn Error>> {
    let output = Command::new("openssl")
        .args(["speed", "-seconds", "1", "rsa2048"])
        .output()
        .map_err(|error| format!("cannot run openssl, which this compares with: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "rsa 2048 bits 0.000223s 0.000013s   4484.0  74963.0"; newer versions have more columns after these.
    let line = text.lines().find(|line| line.starts_with("rsa")).ok_or("no result from `openssl speed`")?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [_bits, sign, verify, ..] => Ok([*sign, *verify]),
        _ => Err(format!("cannot read the result of `openssl speed`: {line}").into()),
    }
}
