//! `postern doctor`: looks at everything that can be wrong and says, line by line, what to do about it.

mod anonymity;

use postern_credentials::certificate;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{ISSUER_INFO_PATH, IssuerInfo};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::Serialize;

use crate::channel::Request;
use crate::client::{Account, Client};
use crate::error::{Error, Result};

/// More than this and certificates, logins or reply credentials may fail, seconds.
const MOST_SKEW: u64 = 120;
/// A verdict or question so long overdue means that nobody runs `postern sync`, seconds.
const LONG_OVERDUE: u64 = 24 * 3600;
/// A certificate that ends so soon is worth a word, seconds.
const ENDS_SOON: u64 = 30 * 24 * 3600;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub health: Health,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, health: Health::Ok, detail: detail.into(), hint: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self { name, health: Health::Warn, detail: detail.into(), hint: Some(hint.to_owned()) }
    }

    fn fail(name: &'static str, error: &Error) -> Self {
        Self { name, health: Health::Fail, detail: error.to_string(), hint: error.hint() }
    }

    fn of(name: &'static str, outcome: Result<String>) -> Self {
        match outcome {
            Ok(detail) => Self::ok(name, detail),
            Err(error) => Self::fail(name, &error),
        }
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// All checks. Changes nothing but what was learned about the issuer's keys.
    pub async fn doctor(&mut self) -> Vec<Check> {
        let mut checks = vec![Check::of("profile", self.profile.verify().map(|()| "every row is intact".to_owned()))];
        let account = match self.account() {
            Ok(account) => account,
            Err(error) => {
                checks.push(Check::fail("registration", &error));
                return checks;
            }
        };
        checks.push(Check::ok("registration", format!("complete, at {}", account.pins.issuer_name)));
        checks.push(self.check_certificate(&account));
        checks.extend(self.check_issuer(&account).await);
        let relay = self.own_relay_info(&account.relay).await;
        checks.push(Check::of("relay", relay.map(|_| format!("{} answers, keys unchanged", account.relay.name))));
        checks.push(Check::of("session", self.issuer_account().await.map(|_| "valid".to_owned())));
        checks.extend(self.check_anonymity(&account).await);
        checks.push(Check::of("token keys", self.refresh_keys().await.map(|()| "as pinned".to_owned())));
        checks.push(self.check_tokens());
        checks.push(self.check_lookups().await);
        checks.push(self.check_backlog());
        checks
    }

    fn check_certificate(&self, account: &Account) -> Check {
        const NAME: &str = "certificate";
        let now = self.now();
        if let Err(error) = certificate::verify(&account.certificate, &account.pins.ca_certificate.0, now) {
            let hint =
                "check this machine's clock; if the certificate has expired, register again under --profile NAME";
            return Check { health: Health::Fail, ..Check::warn(NAME, error.to_string(), hint) };
        }
        let left = certificate::validity(&account.certificate).map_or(0, |(_, end)| now.seconds_until(end));
        let detail = format!("good for {} days", left / 86_400);
        if left < ENDS_SOON {
            Check::warn(NAME, detail, "register again before it ends")
        } else {
            Check::ok(NAME, detail)
        }
    }

    async fn check_issuer(&mut self, account: &Account) -> Vec<Check> {
        let answer = async {
            let request = Request::get(&account.pins.issuer_url, ISSUER_INFO_PATH)?;
            self.authenticated()?.send_protected(&request).await
        };
        let reply = match answer.await {
            Ok(reply) => reply,
            Err(error) => return vec![Check::fail("issuer", &error)],
        };
        let date = reply.header("date").and_then(http_date);
        let info = reply.json::<IssuerInfo>().and_then(|info| account.pins.hold(&info));
        let issuer = info.map(|()| format!("{} answers, keys unchanged", account.pins.issuer_name));
        vec![Check::of("issuer", issuer), clock_check(date, self.now().seconds())]
    }

    fn check_tokens(&self) -> Check {
        const NAME: &str = "tokens";
        match self.tokens() {
            Err(error) => Check::fail(NAME, &error),
            Ok(screen) if screen.left == 0 => {
                let detail = format!("none left, {} out", screen.out.len());
                Check::warn(NAME, detail, "they come back when recipients release them; let `postern sync` ask")
            }
            Ok(screen) => Check::ok(NAME, format!("{} left, {} out", screen.left, screen.out.len())),
        }
    }

    async fn check_lookups(&mut self) -> Check {
        const NAME: &str = "look-ups";
        match self.log_fork() {
            Err(error) => return Check::fail(NAME, &error),
            Ok(Some(fork)) => {
                let detail =
                    format!("the issuer has shown two logs, of {} and {} leaves", fork.seen.size, fork.shown.size);
                let hint = "show both signed heads to others: they prove that the issuer shows different people different things";
                return Check { health: Health::Fail, ..Check::warn(NAME, detail, hint) };
            }
            Ok(None) => {}
        }
        match Box::pin(self.lookup_budget()).await {
            Ok(budget) => {
                Check::ok(NAME, format!("{} left, {} at hand", budget.stored + budget.askable, budget.stored))
            }
            Err(error) if error.refusal() == Some(ProblemKind::NotFound) => {
                Check::ok(NAME, "not offered by this issuer")
            }
            Err(error @ Error::Unavailable { .. }) => {
                Check::warn(NAME, error.to_string(), "a new issuer has no directory yet: look again in a while")
            }
            Err(error) => Check::fail(NAME, &error),
        }
    }

    fn check_backlog(&self) -> Check {
        const NAME: &str = "outbox";
        let backlog = || -> Result<(usize, usize, bool)> {
            let overdue = self.next_due()?.is_some_and(|at| at.plus_seconds(LONG_OVERDUE) <= self.now());
            Ok((self.queued_messages()?, self.outbox_len()?, overdue))
        };
        match backlog() {
            Err(error) => Check::fail(NAME, &error),
            Ok((messages, verdicts, overdue)) => {
                let detail = format!("{messages} messages not confirmed, {verdicts} verdicts waiting for their time");
                let hint = "run `postern sync`, or let `postern sync --watch` run";
                if overdue || messages > 0 { Check::warn(NAME, detail, hint) } else { Check::ok(NAME, detail) }
            }
        }
    }
}

fn clock_check(date: Option<u64>, now: u64) -> Check {
    const NAME: &str = "clock";
    match date {
        None => Check::warn(NAME, "the issuer does not say what time it is", "compare this machine's clock yourself"),
        Some(theirs) if theirs.abs_diff(now) <= MOST_SKEW => Check::ok(NAME, "agrees with the issuer's"),
        Some(theirs) => {
            let detail = format!("{} seconds away from the issuer's", theirs.abs_diff(now));
            Check { health: Health::Fail, ..Check::warn(NAME, detail, "set this machine's clock") }
        }
    }
}

/// Unix seconds of an HTTP date (RFC 9110 §5.6.7, the form that servers send): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.strip_suffix(" GMT")?.split_once(", ")?.1.split([' ', ':']);
    let day: u64 = parts.next()?.parse().ok()?;
    let month_name = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let [hour, minute, second] = [parts.next()?, parts.next()?, parts.next()?].map(|part| part.parse::<u64>().ok());
    // Days since 1970: years begin in March, so that the leap day is their last.
    let (y, m) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day.checked_sub(1)? - 719_468;
    Some(days * 86_400 + hour? * 3600 + minute? * 60 + second?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(http_date("Tue, 19 Jan 2038 03:14:08 GMT"), Some(2_147_483_648));
        for bad in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1800 08:49:37 GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_fails_the_check() {
        assert_eq!(clock_check(Some(1000), 1100).health, Health::Ok);
        assert_eq!(clock_check(Some(1000), 2000).health, Health::Fail);
        assert_eq!(clock_check(None, 0).health, Health::Warn);
    }
}
