//! The anonymous way: nothing in a request, nor how it travels, tells who asks or that two requests are of one client.

use postern_protocol::ids::encode_base64;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::retry::{Attempt, once, pause_before};
use super::{Network, Reply, Request, builder, host, is_loopback, require_protected};
use crate::error::{Error, Result};

/// How anonymous requests travel.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Nobody said: only loopback is asked.
    #[default]
    Unset,
    /// Through this SOCKS5 proxy, `socks5h://host:port`: Tor.
    Socks(String),
    /// Directly, because the user said so: the relay sees the address.
    Direct,
}

impl Route {
    /// A proxy as people write it.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it is `socks5h://host:port`: with plain `socks5` names would be looked up outside the proxy.
    pub fn socks(text: &str) -> Result<Self> {
        let bad = || Error::Invalid("the proxy must be like socks5h://127.0.0.1:9050".to_owned());
        let url = url::Url::parse(text).map_err(|_| bad())?;
        let plain = url.scheme() == "socks5h" && url.host_str().is_some() && url.port().is_some();
        if plain && url.username().is_empty() && url.password().is_none() {
            Ok(Self::Socks(text.trim_end_matches('/').to_owned()))
        } else {
            Err(bad())
        }
    }
}

/// Sends anonymous requests over a [`Route`].
#[derive(Clone, Debug)]
pub struct Anonymous {
    route: Route,
    network: Network,
}

impl Anonymous {
    /// With this route and patience.
    pub const fn new(route: Route, network: Network) -> Self {
        Self { route, network }
    }

    /// How requests travel.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// Whether a request to this URL would be sent at all.
    ///
    /// # Errors
    /// [`Error::NotAnonymous`] without a route off loopback, [`Error::InsecureTransport`] over plain http: whoever reads along
    /// on the way could spend the token first.
    pub fn check(&self, url: &url::Url) -> Result<()> {
        if self.route == Route::Unset && !is_loopback(url) {
            return Err(Error::NotAnonymous { host: host(url) });
        }
        require_protected(url)
    }

    /// Sends the request over a connection of its own. `rng` makes the proxy's user name and password.
    ///
    /// # Errors
    /// As [`Self::check`], and [`Error::Network`], [`Error::Unavailable`], [`Error::Misbehaved`]; refusals are in the answer.
    pub async fn send(&self, rng: &mut impl CryptoRng, request: &Request) -> Result<Reply> {
        self.check(&request.url)?;
        let mut last = Error::Internal("no attempt was made");
        let mut n = 0;
        while pause_before(n, &self.network).await {
            match once(&self.fresh(rng, request)?, request).await? {
                Attempt::Done(reply) => return Ok(reply),
                Attempt::Again(error) => last = error,
            }
            n += 1;
        }
        Err(last)
    }

    /// A client for one attempt: nothing of it, connection, TLS session or circuit, is used again.
    fn fresh(&self, rng: &mut impl CryptoRng, request: &Request) -> Result<reqwest::Client> {
        let mut builder = builder(request, &self.network)?.pool_max_idle_per_host(0);
        if let Route::Socks(proxy) = &self.route {
            let bad = |_| Error::Invalid("the proxy must be like socks5h://127.0.0.1:9050".to_owned());
            builder = builder.proxy(reqwest::Proxy::all(isolated(rng, proxy)).map_err(bad)?);
        }
        builder.build().map_err(|_| Error::Internal("no HTTP client"))
    }
}

/// The proxy's URL with credentials that nobody used before: Tor keeps streams with different ones on different circuits.
fn isolated(rng: &mut impl CryptoRng, proxy: &str) -> String {
    let mut bytes = [[0u8; 16]; 2];
    for part in &mut bytes {
        rng.fill_bytes(part);
    }
    let [user, password] = bytes.map(|part| encode_base64(&part));
    let address = proxy.trim_start_matches("socks5h://");
    format!("socks5h://{user}:{password}@{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_would_look_names_up_outside_is_refused() {
        assert!(Route::socks("socks5h://127.0.0.1:9050").is_ok());
        for bad in ["socks5://127.0.0.1:9050", "http://127.0.0.1:9050", "socks5h://127.0.0.1", "socks5h://u:p@h:1", "x"]
        {
            assert!(Route::socks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_route_only_loopback_is_asked() {
        let url = |text: &str| super::super::parse_url(text).unwrap();
        let unset = Anonymous::new(Route::Unset, Network::default());
        assert!(unset.check(&url("http://127.0.0.1:1")).is_ok());
        assert!(matches!(unset.check(&url("https://relay.example")), Err(Error::NotAnonymous { .. })));
        let direct = Anonymous::new(Route::Direct, Network::default());
        assert!(direct.check(&url("https://relay.example")).is_ok());
        assert!(matches!(direct.check(&url("http://relay.example")), Err(Error::InsecureTransport { .. })));
    }
}
