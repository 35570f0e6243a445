//! The two ways to a server, kept apart (design §1).
//!
//! * [`Authenticated`]: the account is known anyway. One connection pool, directly.
//! * [`Anonymous`]: nothing may tell who asks. A new connection for every request, through SOCKS5 with a fresh user name and password so
//!   that Tor gives it a circuit of its own; no cookies, no keep-alive, no header that differs between two clients.
//!
//! All requests are idempotent: a repetition is byte for byte the same, so both ways repeat what was lost on the way.

mod anonymous;
mod authenticated;
mod message;
mod retry;

use std::net::IpAddr;
use std::time::Duration;

pub use self::anonymous::{Anonymous, Route};
pub use self::authenticated::Authenticated;
pub use self::message::{JSON, OCTETS, Reply, Request};
pub(crate) use self::retry::pause_before;
use crate::error::{Error, Result};

/// How patient the network side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// For one request with its answer.
    pub timeout: Duration,
    /// How often a request is sent until it is given up; at least once.
    pub attempts: u32,
    /// Before the second attempt; doubles from there on.
    pub backoff: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), attempts: 3, backoff: Duration::from_millis(300) }
    }
}

/// An absolute http(s) URL.
///
/// # Errors
/// [`Error::Invalid`] for anything else.
pub fn parse_url(text: &str) -> Result<url::Url> {
    let url = url::Url::parse(text).map_err(|_| Error::Invalid("not a URL, like https://issuer.example".to_owned()))?;
    let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if plain && url.host_str().is_some() {
        Ok(url)
    } else {
        Err(Error::Invalid("a server's URL begins with https:// and carries no user name".to_owned()))
    }
}

/// Whether the URL leads to this very machine.
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

/// Whether nobody between here and the server can read along: https, this machine, or an onion service.
pub fn is_protected(url: &url::Url) -> bool {
    let onion = url.host_str().is_some_and(|host| host.ends_with(".onion"));
    url.scheme() == "https" || onion || is_loopback(url)
}

/// Secrets cross the network protected only.
fn require_protected(url: &url::Url) -> Result<()> {
    if is_protected(url) { Ok(()) } else { Err(Error::InsecureTransport { host: host(url) }) }
}

/// Host and port, for people.
fn host(url: &url::Url) -> String {
    let name = url.host_str().unwrap_or("the server");
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// What both kinds of connection have in common: no redirects (they would carry credentials along), no cookies, no referrer.
fn builder(url: &url::Url, network: &Network) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent("postern/1")
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(network.timeout)
        .timeout(network.timeout);
    // Reading the system's roots takes longer than many a request, and plain http has no use for them.
    if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_https_and_onion_services_are_protected() {
        for good in
            ["https://a.example", "http://127.9.9.9:1", "http://[::1]:1", "http://localhost:1", "http://x.onion"]
        {
            assert!(is_protected(&parse_url(good).unwrap()), "{good}");
        }
        for bad in
            ["http://a.example", "http://128.0.0.1", "http://localhost.example", "http://[::2]", "http://onion.example"]
        {
            assert!(!is_protected(&parse_url(bad).unwrap()), "{bad}");
        }
        for wrong in ["file:///x", "a.example", "https://user@a.example", "https://"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
