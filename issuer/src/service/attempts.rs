//! Bounded counting (M35): texts sent, codes tried, passwords guessed. Counted *before* anything is checked, so that a crash
//! gives no free guess, and alike for numbers that are registered and numbers that are not.
//!
//! A counter is one of 2^20 buckets of its scope, chosen by a keyed hash. Two numbers may share one: then they share a limit,
//! which is the side to fail on. What everybody counts on is in parts (ADR 19).

use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::time::Timestamp;
use postern_store::Tx;

use crate::app::Issuer;
pub(crate) use crate::db::attempts::Counter;
use crate::db::attempts::{count, give_back, is_set_since};
use crate::db::parts::{PARTS, Part};
use crate::error::Refusal;

const DAY: u64 = 86_400;
const TEXTS_TO_ALL: &str = "text-all";
const TEXTS_TO_NUMBER: &str = "text-number";
const TEXTS_TO_BLOCK: &str = "text-block";
const UNDELIVERED: &str = "text-undelivered";
/// More than is ever counted, and still an integer of the databases.
const NO_LIMIT: u64 = 1 << 62;

/// The counter of `scope` for `key`, in the window of `seconds` that `at` lies in.
fn counter(issuer: &Issuer, scope: &'static str, key: &[u8], limit: u64, seconds: u64, at: Timestamp) -> Counter {
    let window_start = Timestamp::from_seconds(at.seconds() - at.seconds() % seconds.max(1));
    let expires = window_start.plus_seconds(seconds);
    Counter { bucket: issuer.secrets.bucket(scope, key), scope, window_start, expires, limit, part: None }
}

/// The counter of `scope` that everybody counts on, in one of its parts.
fn of_all(issuer: &Issuer, scope: &'static str, limit: u64, seconds: u64, at: Timestamp) -> Counter {
    let whole = counter(issuer, scope, b"", limit, seconds, at);
    let part = Part::draw(&mut issuer.random.generator());
    Counter { bucket: whole.bucket - whole.bucket % PARTS, part: Some(part), ..whole }
}

/// What a text to this number counts on: the number, its block of 10,000, and everybody. Where no texts are sent they are counted all the
/// same, so that a registration costs what it costs elsewhere, and never too many.
pub(crate) fn texts(issuer: &Issuer, phone: &PhoneNumber, now: Timestamp) -> [Counter; 3] {
    let limits = &issuer.config.limits;
    let limit = |limit: u64| if issuer.config.is_synthetic() { NO_LIMIT } else { limit };
    let number = phone.as_str().as_bytes();
    let block = number.get(..number.len().saturating_sub(4)).unwrap_or_default();
    [
        counter(issuer, TEXTS_TO_NUMBER, number, limit(limits.texts_per_number_per_day), DAY, now),
        counter(issuer, TEXTS_TO_BLOCK, block, limit(limits.texts_per_prefix_per_day), DAY, now),
        of_all(issuer, TEXTS_TO_ALL, limit(limits.texts_per_day), DAY, now),
    ]
}

/// What a try of this cookie's code counts on. The window is tied to the cookie's own expiry, so that a cookie has one
/// window and not two halves with a full count each.
pub(crate) fn code_try(issuer: &Issuer, cookie: &[u8], expires: Timestamp) -> Counter {
    let limits = &issuer.config.limits;
    let key = postern_credentials::phone_code::attempt_key(cookie);
    counter(issuer, "code-try", &key, limits.code_tries, limits.code_seconds, expires)
}

/// What a password guess for this account, existing or not, counts on.
pub(crate) fn guess(issuer: &Issuer, account: &[u8; 32], now: Timestamp) -> [Counter; 2] {
    let limits = &issuer.config.limits;
    [
        counter(issuer, "login-user", account, limits.login_guesses_per_user, limits.login_window_seconds, now),
        of_all(issuer, "login-all", limits.login_guesses_per_minute, 60, now),
    ]
}

/// Counts one on each, or on none. Returns where it was counted, to be given back there.
///
/// # Errors
/// A refusal with the time when the exhausted window is over. The transaction must then be given up.
pub(crate) async fn count_each<const N: usize>(
    tx: &mut Tx<'_>,
    mut counters: [Counter; N],
    now: Timestamp,
) -> Result<[Counter; N], Refusal> {
    for counter in &mut counters {
        let Some(counted) = count(tx, counter).await? else {
            return Err(used_up(counter, now));
        };
        *counter = counted;
    }
    Ok(counters)
}

fn used_up(counter: &Counter, now: Timestamp) -> Refusal {
    let problem = match counter.scope {
        TEXTS_TO_ALL => Problem::new(ProblemKind::TextBudget),
        TEXTS_TO_NUMBER => Problem::new(ProblemKind::TextLimit).detail("this number has had its texts of today"),
        TEXTS_TO_BLOCK => Problem::new(ProblemKind::TextLimit).detail("numbers like this one have had theirs of today"),
        _ => Problem::new(ProblemKind::RateLimited),
    };
    problem.retry_after(now.seconds_until(counter.expires).max(1)).into()
}

/// Counts so many more, as far as the limit goes.
pub(crate) async fn count_more(tx: &mut Tx<'_>, counter: &Counter, more: usize) -> Result<(), Refusal> {
    for _ in 0..more {
        count(tx, counter).await?;
    }
    Ok(())
}

/// Marks that a way failed a number, for `seconds` and at most twice as long: a counter that counts to one.
pub(crate) fn mark(issuer: &Issuer, key: &[u8], seconds: u64, at: Timestamp) -> Counter {
    mark_in(issuer.secrets.bucket(UNDELIVERED, key), seconds, at)
}

/// The same, where the bucket is known.
pub(crate) fn mark_in(bucket: u32, seconds: u64, at: Timestamp) -> Counter {
    let window_start = Timestamp::from_seconds(at.seconds() - at.seconds() % seconds.max(1));
    let expires = window_start.plus_seconds(seconds.saturating_mul(2));
    Counter { bucket, scope: UNDELIVERED, window_start, expires, limit: 1, part: None }
}

/// Sets it; again is as once.
pub(crate) async fn set_mark(tx: &mut Tx<'_>, mark: &Counter) -> Result<(), Refusal> {
    count(tx, mark).await?;
    Ok(())
}

/// Whether it is set in its window or the one before.
pub(crate) async fn is_marked(tx: &mut Tx<'_>, mark: &Counter, seconds: u64) -> Result<bool, Refusal> {
    Ok(is_set_since(tx, mark, mark.window_start.minus_seconds(seconds)).await?)
}

/// Takes one back from each.
pub(crate) async fn give_back_each(tx: &mut Tx<'_>, counters: &[Counter]) -> Result<(), Refusal> {
    for counter in counters {
        give_back(tx, counter).await?;
    }
    Ok(())
}
