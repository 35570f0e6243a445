//! Sending a code (M1): by which gateway and which way, what is said when none takes it, and what providers report afterwards.
//!
//! 1. [`routes`] puts the ways in order: the configured one; a way that lately failed this number goes last, and if texts did, a call comes
//!    before them.
//! 2. [`send`] tries one after the other. A gateway that is out of order is left alone for a while ([`crate::gateway::breaker`]).
//! 3. Each attempt has an address of its own for the provider's report: sealed by this issuer, so that nobody else can make one, and what is
//!    in it (which counter, when, by which gateway) is readable by nobody else. [`reported`] opens it. Nothing is stored when a text is sent.
//!    A report that it failed sets one mark, in a bucket of a keyed hash as all counters are, for some hours; one that comes again sets it
//!    again; any other is forgotten at once.

use std::sync::atomic::{AtomicU64, Ordering};

use postern_credentials::phone_code::Code;
use postern_protocol::ids::{PhoneNumber, decode_base64, encode_base64};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::texts::{Channel, Outcome, report_path};
use postern_protocol::time::Timestamp;
use postern_store::Tx;
use zeroize::Zeroizing;

use super::attempts::{self, Counter};
use super::pumping::Places;
use crate::app::Issuer;
use crate::error::Refusal;
use crate::gateway::{GatewayError, Message, Placed};

/// What the client is told to wait when no gateway took a text, unless it is known better.
const RETRY_SECONDS: u64 = 30;
/// For how long a report is good, seconds.
const REPORT_SECONDS: u64 = 86_400;
const REPORT_CONTEXT: &[u8] = b"postern/text-report/v1";

/// Who gets a code.
pub(crate) struct Recipient<'a> {
    pub(crate) phone: &'a PhoneNumber,
    /// Calling code.
    pub(crate) country: u16,
    /// By which way the client wants it.
    pub(crate) wanted: Option<Channel>,
}

/// One way to a phone.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    placed: &'a Placed,
    channel: Channel,
    /// Marks that it failed the number.
    mark: Counter,
}

/// All ways to a phone, in the order in which they are to be tried.
///
/// # Errors
/// `voice-unavailable`, `text-undeliverable` if no gateway serves the number's country.
pub(crate) async fn routes<'a>(
    issuer: &'a Issuer,
    tx: &mut Tx<'_>,
    to: &Recipient<'_>,
    now: Timestamp,
) -> Result<Vec<Route<'a>>, Refusal> {
    let ways = |channel| {
        let serving = issuer.gateways.0.iter().filter(move |placed| placed.serves(to.country, channel));
        serving.map(move |placed| Route { placed, channel, mark: mark(issuer, to.phone, &placed.name, channel, now) })
    };
    let texts: Vec<_> = if to.wanted == Some(Channel::Voice) { Vec::new() } else { ways(Channel::Text).collect() };
    let calls: Vec<_> = if to.wanted == Some(Channel::Text) { Vec::new() } else { ways(Channel::Voice).collect() };
    if texts.is_empty() && calls.is_empty() {
        return Err(if to.wanted == Some(Channel::Voice) {
            ProblemKind::VoiceUnavailable.into()
        } else {
            Refusal::detailed(ProblemKind::TextUndeliverable, "no gateway serves its country")
        });
    }
    // With one way there is nothing to choose.
    if texts.len() + calls.len() == 1 {
        return Ok([texts, calls].concat());
    }
    let mut failed = Vec::new();
    for route in texts.iter().chain(&calls) {
        failed.push(attempts::is_marked(tx, &route.mark, MARK_SECONDS).await?);
    }
    Ok(in_order(&texts, &calls, &failed, to.wanted))
}

/// `failed`: of all texts, then of all calls.
fn in_order<T: Copy>(texts: &[T], calls: &[T], failed: &[bool], wanted: Option<Channel>) -> Vec<T> {
    let (of_texts, of_calls) = failed.split_at(texts.len().min(failed.len()));
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (text, failed) in texts.iter().zip(of_texts) {
        if *failed { bad.push(*text) } else { good.push(*text) }
    }
    // Nobody is called who did not ask for it, and whom no text has failed.
    if wanted == Some(Channel::Voice) || of_texts.contains(&true) {
        for (call, failed) in calls.iter().zip(of_calls) {
            if *failed { bad.push(*call) } else { good.push(*call) }
        }
    }
    good.extend(bad);
    good
}

/// For how long a failure is remembered, at least; at most twice as long.
const MARK_SECONDS: u64 = 4 * 3600;

fn mark(issuer: &Issuer, phone: &PhoneNumber, gateway: &str, channel: Channel, at: Timestamp) -> Counter {
    let way = match channel {
        Channel::Text => "text",
        Channel::Voice => "voice",
    };
    let key = [phone.as_str(), way, gateway].join(" ");
    attempts::mark(issuer, key.as_bytes(), MARK_SECONDS, at)
}

/// Sends it by the first way that takes it; says which way that was.
///
/// # Errors
/// `text-failed` with the time to wait, `text-undeliverable`.
pub(crate) async fn send(
    issuer: &Issuer,
    to: &Recipient<'_>,
    routes: &[Route<'_>],
    code: &Code,
    counters: [Counter; 3],
    now: Timestamp,
) -> Result<Channel, Refusal> {
    let mut tried = Tried::default();
    for route in routes {
        if let Err(wait) = route.placed.breaker.ask(now) {
            tried.waits.push(wait);
            continue;
        }
        match attempt(issuer, to, route, code, now).await {
            Ok(()) => {
                tried.charge(issuer, counters).await?;
                return Ok(route.channel);
            }
            Err(error) => tried.failures.push(error),
        }
    }
    tried.take_back(issuer, to, counters, now).await?;
    Err(tried.refusal())
}

async fn attempt(
    issuer: &Issuer,
    to: &Recipient<'_>,
    route: &Route<'_>,
    code: &Code,
    now: Timestamp,
) -> Result<(), GatewayError> {
    let report = report_path(&sealed(issuer, route, now));
    let words = words(code.as_str(), route.channel);
    let valid_seconds = issuer.config.limits.code_seconds;
    let message = Message { to: to.phone, channel: route.channel, words: &words, valid_seconds, report: &report };
    let (name, breaker) = (&route.placed.name, &route.placed.breaker);
    let result = route.placed.gateway.send(&message).await;
    match &result {
        Ok(()) => {
            if breaker.worked() {
                tracing::info!(gateway = name, "works again");
            }
        }
        // It is about this number; the gateway works.
        Err(error @ GatewayError::Number(_)) => {
            breaker.worked();
            tracing::warn!(gateway = name, %error, country = to.country, "a text was refused");
        }
        Err(error) => {
            tracing::warn!(gateway = name, %error, "a text was not accepted");
            if breaker.failed(issuer.now()) {
                tracing::error!(gateway = name, "left alone for a while: it failed several times in a row");
            }
        }
    }
    result
}

/// Sends a text of no meaning by each gateway that serves the number, or by the one of this name: for the operator.
pub async fn try_out(
    issuer: &Issuer,
    phone: &PhoneNumber,
    country: u16,
    channel: Channel,
    name: Option<&str>,
) -> Vec<(String, Result<(), GatewayError>)> {
    let now = issuer.now();
    let mut results = Vec::new();
    for placed in &issuer.gateways.0 {
        if name.is_some_and(|name| name != placed.name) || !placed.serves(country, channel) {
            continue;
        }
        let route = Route { placed, channel, mark: mark(issuer, phone, &placed.name, channel, now) };
        let report = report_path(&sealed(issuer, &route, now));
        let (words, valid_seconds) = ("This is a test by the operator of Postern.", issuer.config.limits.code_seconds);
        let message = Message { to: phone, channel, words, valid_seconds, report: &report };
        results.push((placed.name.clone(), placed.gateway.send(&message).await));
    }
    results
}

/// What is written, or said.
fn words(code: &str, channel: Channel) -> Zeroizing<String> {
    Zeroizing::new(match channel {
        Channel::Text => format!("Your Postern code is {code}"),
        Channel::Voice => {
            let mut words = "Your Postern code is".to_owned();
            for digit in code.chars() {
                words.push_str(", ");
                words.push(digit);
            }
            words.push('.');
            words
        }
    })
}

/// What came of all attempts for one code.
#[derive(Default)]
struct Tried {
    failures: Vec<GatewayError>,
    /// Until when the gateways that were left alone are, seconds.
    waits: Vec<u64>,
}

impl Tried {
    /// How many texts may have been sent although nobody said so.
    fn unknown(&self) -> usize {
        self.failures.iter().filter(|error| matches!(error, GatewayError::Unknown(_))).count()
    }

    /// Counts on the day's budget what may have been sent besides the one that was counted.
    async fn charge(&self, issuer: &Issuer, counters: [Counter; 3]) -> Result<(), Refusal> {
        let more = self.unknown();
        if more == 0 {
            return Ok(());
        }
        let [_, _, all] = counters;
        let charging =
            issuer.db.run("count more texts", |tx| Box::pin(async move { attempts::count_more(tx, &all, more).await }));
        charging.await
    }

    /// Nothing was sent: the number did not get it. The day's budget keeps its count, in case somebody else was paid; and if something may
    /// have been sent, the number keeps it as well.
    async fn take_back(
        &self,
        issuer: &Issuer,
        to: &Recipient<'_>,
        counters: [Counter; 3],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if self.unknown() > 0 {
            return Ok(());
        }
        issuer.pumping.take_back(Places::of(&issuer.secrets, to.phone), now);
        let [number, block, _] = counters;
        let returned = &[number, block];
        let giving = issuer.db.run("give a text back", |tx| {
            Box::pin(async move {
                // Rather one text too few than one given back twice.
                if tx.may_have_committed() { Ok(()) } else { attempts::give_back_each(tx, returned).await }
            })
        });
        giving.await
    }

    fn refusal(&self) -> Refusal {
        let all_about_the_number = self.failures.iter().all(|error| matches!(error, GatewayError::Number(_)));
        if self.waits.is_empty() && all_about_the_number {
            return Refusal::detailed(ProblemKind::TextUndeliverable, "no provider has a route to it");
        }
        let why = if self.failures.is_empty() { "all gateways are out of order" } else { "no gateway accepted it" };
        let wait = self.waits.iter().copied().min().unwrap_or(0).max(RETRY_SECONDS);
        Problem::new(ProblemKind::TextFailed).detail(why).retry_after(wait).into()
    }
}

/// The address of the report of one attempt: bucket (4) ‖ sent at (8) ‖ gateway's name, sealed.
fn sealed(issuer: &Issuer, route: &Route<'_>, now: Timestamp) -> String {
    let mut inside = route.mark.bucket.to_be_bytes().to_vec();
    inside.extend_from_slice(&now.seconds().to_be_bytes());
    inside.extend_from_slice(route.placed.name.as_bytes());
    encode_base64(&issuer.secrets.text_reports.seal(&mut issuer.random.generator(), REPORT_CONTEXT, &inside))
}

/// Takes a provider's word for what became of a text. `said`: query and form.
///
/// # Errors
/// `not-found` for an address that was not made here; `bad-request` if nothing is said of the outcome.
pub async fn reported(issuer: &Issuer, address: &str, said: &str) -> Result<(), Refusal> {
    let sealed = decode_base64(address).map_err(|_| ProblemKind::NotFound)?;
    let inside = issuer.secrets.text_reports.open(REPORT_CONTEXT, &sealed).map_err(|_| ProblemKind::NotFound)?;
    let (bucket, rest) = inside.split_first_chunk::<4>().ok_or(ProblemKind::NotFound)?;
    let (at, name) = rest.split_first_chunk::<8>().ok_or(ProblemKind::NotFound)?;
    let outcome =
        Outcome::read(said).ok_or_else(|| Refusal::detailed(ProblemKind::BadRequest, "it says of no outcome"))?;
    let sent_at = Timestamp::from_seconds(u64::from_be_bytes(*at));
    let gateway = String::from_utf8_lossy(name);
    let after_seconds = sent_at.seconds_until(issuer.now());
    tracing::debug!(%gateway, after_seconds, ?outcome, "a report came");
    if outcome != Outcome::Failed || after_seconds > REPORT_SECONDS {
        return Ok(());
    }
    tracing::info!(%gateway, after_seconds, "a text was not delivered");
    let mark = attempts::mark_in(u32::from_be_bytes(*bucket), MARK_SECONDS, sent_at);
    issuer.db.run("mark a way", |tx| Box::pin(async move { attempts::set_mark(tx, &mark).await })).await
}

/// Tells the operator of a refusal that costs honest people something: once an hour for each kind, and without numbers.
#[derive(Default)]
pub(crate) struct Told {
    budget: AtomicU64,
    pumping: AtomicU64,
}

impl Told {
    pub(crate) fn tell(&self, refusal: &Refusal, country: u16, now: Timestamp) {
        let Refusal::Problem(problem) = refusal else { return };
        let is_first = |last: &AtomicU64| {
            let hour = now.seconds() / 3600;
            last.swap(hour, Ordering::Relaxed) != hour
        };
        match problem.known_kind() {
            Some(ProblemKind::TextBudget) if is_first(&self.budget) => {
                tracing::error!(
                    seconds = problem.retry_after,
                    "texts_per_day is used up: nobody can register for so long"
                );
            }
            Some(ProblemKind::TextLimit) if is_first(&self.pumping) => {
                let why = problem.detail.as_deref().unwrap_or_default();
                tracing::warn!(country, why, "texts are refused; told once an hour");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_failed_goes_last_and_a_call_comes_before_it() {
        let order = |failed: [bool; 3], wanted| in_order(&["a", "b"], &["call"], &failed, wanted);
        assert_eq!(order([false, false, false], None), ["a", "b"], "nobody is called unasked");
        assert_eq!(order([true, false, false], None), ["b", "call", "a"]);
        assert_eq!(order([true, true, false], None), ["call", "a", "b"]);
        assert_eq!(order([true, true, true], None), ["a", "b", "call"]);
        assert_eq!(in_order(&[], &["call"], &[false], Some(Channel::Voice)), ["call"]);
    }

    #[test]
    fn a_call_says_the_digits_one_by_one() {
        assert_eq!(words("012345", Channel::Voice).as_str(), "Your Postern code is, 0, 1, 2, 3, 4, 5.");
        assert_eq!(words("012345", Channel::Text).as_str(), "Your Postern code is 012345");
    }
}
