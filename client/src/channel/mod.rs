//! The two ways to a server, kept apart (design §1).
//!
//! * [`Authenticated`]: the account is known anyway. One connection pool; through the proxy if there is one, on circuits of its own.
//! * [`Anonymous`]: nothing may tell who asks. A new connection for every request, through SOCKS5 with a fresh user name and password so
//!   that Tor gives it a circuit of its own; no cookies, no keep-alive, no header that differs between two clients.
//!
//! All requests are idempotent: a repetition is byte for byte the same, so both ways repeat what was lost on the way.

mod anonymous;
mod authenticated;
mod message;
mod probe;
mod retry;
mod route;

use std::net::IpAddr;
use std::time::Duration;

pub use self::anonymous::Anonymous;
pub use self::authenticated::Authenticated;
pub use self::message::{JSON, OCTETS, Reply, Request};
pub use self::probe::{Proxy, look_at_proxy};
pub(crate) use self::retry::pause_before;
pub use self::route::Route;
use crate::error::{Error, Result};
use postern_protocol::ids::ServerPin;
use postern_protocol::server::ServerUrl;

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

/// Where an address of a server leads, without the fingerprints that may be in it: those are nobody's user name.
///
/// # Errors
/// [`Error::Invalid`] for anything but an http(s) URL with or without fingerprints ([`ServerUrl`]).
pub fn parse_url(text: &str) -> Result<url::Url> {
    Ok(parse_server(text)?.0)
}

/// The same, and the fingerprints.
fn parse_server(text: &str) -> Result<(url::Url, Vec<ServerPin>)> {
    let bad = || Error::Invalid("not a server's address, like https://issuer.example".to_owned());
    let server: ServerUrl = text.parse().map_err(|_| {
        Error::Invalid(
            "a server's address begins with https:// and carries no user name but the fingerprint of its key"
                .to_owned(),
        )
    })?;
    let url = url::Url::parse(server.base()).map_err(|_| bad())?;
    if url.host_str().is_some() && url.username().is_empty() && url.password().is_none() {
        Ok((url, server.pins().to_vec()))
    } else {
        Err(bad())
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

/// Whether the URL names an onion service: only Tor gets there, and only whoever has its key answers.
pub fn is_onion(url: &url::Url) -> bool {
    url.host_str().is_some_and(|host| host.ends_with(".onion"))
}

/// Whether nobody between here and the server can read along: https, this machine, or an onion service.
pub fn is_protected(url: &url::Url) -> bool {
    url.scheme() == "https" || is_onion(url) || is_loopback(url)
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
/// A server with fingerprints is known by its key, and by nothing else.
fn builder(request: &Request, network: &Network) -> Result<reqwest::ClientBuilder> {
    let builder = reqwest::Client::builder()
        .user_agent("postern/1")
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(network.timeout)
        .timeout(network.timeout);
    // Reading the system's roots takes longer than many a request, and plain http has no use for them.
    if request.url.scheme() == "http" {
        return Ok(builder.tls_certs_only([]));
    }
    if request.pins.is_empty() {
        return Ok(builder);
    }
    let tls = postern_tls::client_config(&request.pins).map_err(|_| Error::Internal("no TLS"))?;
    Ok(builder.tls_backend_preconfigured(tls))
}

/// All requests through this proxy, user name and password in its URL.
fn socks(url: &str) -> Result<reqwest::Proxy> {
    reqwest::Proxy::all(url).map_err(|_| Error::Invalid("the proxy must be like socks5h://127.0.0.1:9050".to_owned()))
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

    #[test]
    fn a_fingerprint_is_kept_for_the_handshake_and_is_in_nothing_that_is_sent() {
        let pin = ServerPin([7; 32]);
        let request = Request::get(&format!("https://{pin}@relay.example:8"), "/v1/relay").unwrap();
        assert_eq!(request.pins, [pin]);
        assert_eq!(request.url.as_str(), "https://relay.example:8/v1/relay");
        let built = request.build(&reqwest::Client::new()).build().unwrap();
        assert!(built.url().as_str() == request.url.as_str() && built.headers().get("authorization").is_none());
        assert!(Request::get(&format!("http://{pin}@127.0.0.1"), "/").is_err(), "no key to know it by");
    }
}
