//! The anonymous way: nothing in a request, nor how it travels, tells who asks or that two requests are of one client.

use rand_core::CryptoRng;

use super::retry::{Attempt, once, pause_before};
use super::route::{Isolation, Route};
use super::{Network, Reply, Request, builder, require_protected, socks};
use crate::error::{Error, Result};

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
    /// [`Error::NotAnonymous`] without a route off loopback, [`Error::OnionWithoutProxy`], [`Error::InsecureTransport`] over plain http:
    /// whoever reads along on the way could spend the token first.
    pub fn check(&self, url: &url::Url) -> Result<()> {
        self.route.require_anonymity(url)?;
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
            builder = builder.proxy(socks(&Isolation::fresh(rng).through(proxy))?);
        }
        builder.build().map_err(|_| Error::Internal("no HTTP client"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
