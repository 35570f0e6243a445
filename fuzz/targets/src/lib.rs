//! What is fuzzed: a function for every decoder and for the body and credential of every endpoint. The fuzzer (`fuzz/`, its own workspace) and
//! the replay of the corpora (`tests/replay.rs`, in `cargo test`) call the same ones.
//!
//! A target takes any bytes, and panics if something does not hold. That a decoder does not panic is the least of it; each also
//! says what its answer is good for:
//!
//! - *canonical*: what decodes encodes to the very bytes ([`canonical`]), where a form has one spelling;
//! - *stable*: what decodes encodes to something that decodes to the same ([`stable`]), where it has several, as JSON has;
//! - *authentic*: what opens or verifies is what was sealed or signed, and nothing else;
//! - *frugal*: decoding takes no more memory than a stated multiple of the input ([`frugal`]).
//!
//! How to add one: a function in the file of its crate, a line in [`TARGETS`], three lines in `fuzz/fuzz_targets/`, a `[[bin]]` in
//! `fuzz/Cargo.toml`, seeds in [`seeds`]. A test says what is missing.

mod bodies;
mod client;
mod credentials;
mod directory;
mod headers;
pub mod seeds;
mod tokens;

use std::alloc::System;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A target: its name, and what it does with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, in the order in which they are fuzzed.
pub const TARGETS: &[Target] = &[
    ("token", tokens::token),
    ("token_batch", tokens::token_batch),
    ("token_key", tokens::token_key),
    ("challenge_header", headers::challenge),
    ("token_header", headers::token),
    ("reply_header", headers::reply),
    ("call_header", headers::call),
    ("jwt", headers::jwt),
    ("registration", bodies::registration),
    ("text_report", bodies::text_report),
    ("login", bodies::login),
    ("lookup", bodies::lookup),
    ("exchange", bodies::exchange),
    ("release", bodies::release),
    ("reply_keys", bodies::reply_keys),
    ("answers", bodies::answers),
    ("presentation", credentials::presentation),
    ("envelope", credentials::envelope),
    ("csr", credentials::csr),
    ("certificate", credentials::certificate),
    ("cookie", credentials::cookie),
    ("card", credentials::card),
    ("card_link", credentials::card_link),
    ("prekey", credentials::prekey),
    ("manifest", directory::manifest),
    ("bucket", directory::bucket),
    ("delta", directory::delta),
    ("log", directory::log),
    ("payload", client::payload),
    ("address_book", client::address_book),
    ("phone", client::phone),
    ("profile", client::profile),
];

/// Runs a target by its name.
///
/// # Panics
/// If something does not hold, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}

/// What decoding may allocate besides a multiple of the input: errors, and the first steps of growing vectors.
const ALLOWANCE: usize = 4096;

/// Runs `decode`, which may allocate `times` as many bytes as `data` has, all together, whether freed again or not.
fn frugal<T>(data: &[u8], times: usize, decode: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let decoded = decode();
    let allocated = region.change().bytes_allocated;
    let most = data.len() * times + ALLOWANCE;
    assert!(allocated <= most, "{} bytes were read into {allocated} bytes of memory", data.len());
    decoded
}

/// A form with one spelling: what is read is written as it was.
fn canonical<'a, T, E>(
    data: &'a [u8],
    times: usize,
    decode: impl FnOnce(&'a [u8]) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) -> Option<T> {
    let read = frugal(data, times, || decode(data)).ok()?;
    assert!(encode(&read) == data, "what was read is written in another way");
    Some(read)
}

/// A form with several spellings: what is written is read as the same.
fn stable<T, E>(
    data: &[u8],
    times: usize,
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let read = frugal(data, times, || decode(data)).ok()?;
    let written = encode(&read);
    let again = decode(&written).unwrap_or_else(|_| panic!("what was written is not read"));
    assert!(encode(&again) == written, "it is not the same when read again");
    Some(read)
}

/// JSON of a type: stable.
fn json<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    // 31 bytes of JSON make the 32 of the smallest list in a list, and a growing vector has twice the room that it needs.
    stable(data, 8, |bytes| serde_json::from_slice(bytes), |value: &T| serde_json::to_vec(value).unwrap())
}

/// Text, if it is.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
