//! The way of requests that name the account anyway: straight to the servers, or through the proxy that the user chose.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use postern_protocol::ids::ServerPin;
use rand_core::CryptoRng;

use super::retry::{Attempt, once, pause_before};
use super::route::{Isolation, Route};
use super::{Network, Reply, Request, builder, host, require_protected, socks};
use crate::error::{Error, Result};

/// Connections that are kept. Through a proxy those to each server have a circuit of their own, which no anonymous request is ever on.
#[derive(Default)]
pub struct Authenticated {
    network: Network,
    route: Route,
    /// With [`Route::Socks`].
    isolation: Option<Isolation>,
    clients: Mutex<HashMap<Kept, reqwest::Client>>,
}

/// What a connection is kept for. By whether it is TLS, and whose: one to somebody who was known by another key, or by none, is not used.
/// Through a proxy, by server as well.
#[derive(PartialEq, Eq, Hash)]
struct Kept {
    tls: bool,
    pins: Vec<ServerPin>,
    proxy: Option<String>,
}

impl std::fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticated").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Authenticated {
    /// Straight to the servers, with this patience.
    pub fn new(network: Network) -> Self {
        Self { network, ..Self::default() }
    }

    /// As the route says. `rng` makes the proxy's user name and password, the same for as long as this lives.
    pub fn over(route: Route, network: Network, rng: &mut impl CryptoRng) -> Self {
        let isolation = matches!(route, Route::Socks(_)).then(|| Isolation::fresh(rng));
        Self { network, route, isolation, ..Self::default() }
    }

    /// Another like this with another patience: on the same circuits, with connections of its own.
    #[must_use]
    pub fn beside(&self, network: Network) -> Self {
        Self { network, route: self.route.clone(), isolation: self.isolation.clone(), ..Self::default() }
    }

    /// How requests travel.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// Sends a request that may cross the network in the clear: session-signed calls are made for that (K3).
    ///
    /// # Errors
    /// [`Error::OnionWithoutProxy`], [`Error::Network`], [`Error::Unavailable`], [`Error::Misbehaved`]; refusals are in the answer.
    pub async fn send(&self, request: &Request) -> Result<Reply> {
        let client = self.client(request)?;
        let mut last = Error::Internal("no attempt was made");
        let mut n = 0;
        while pause_before(n, &self.network).await {
            match once(&client, request).await? {
                Attempt::Done(reply) => return Ok(reply),
                Attempt::Again(error) => last = error,
            }
            n += 1;
        }
        Err(last)
    }

    /// Sends once: for calls that must be signed anew for another attempt.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_once(&self, request: &Request) -> Result<Reply> {
        match once(&self.client(request)?, request).await? {
            Attempt::Done(reply) => Ok(reply),
            Attempt::Again(error) => Err(error),
        }
    }

    /// Sends a request with something in it that nobody on the way may read: a bearer token, a login verifier, a code.
    ///
    /// # Errors
    /// [`Error::InsecureTransport`] unless it is https, loopback or an onion service; else as [`Self::send`].
    pub async fn send_protected(&self, request: &Request) -> Result<Reply> {
        require_protected(&request.url)?;
        self.send(request).await
    }

    fn client(&self, request: &Request) -> Result<reqwest::Client> {
        let url = &request.url;
        self.route.require_reach(url)?;
        let proxy = match (&self.route, &self.isolation) {
            (Route::Socks(proxy), Some(isolation)) => Some(isolation.through_to(proxy, &host(url))),
            _ => None,
        };
        let kept = Kept { tls: url.scheme() == "https", pins: request.pins.clone(), proxy };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kept) {
            return Ok(client.clone());
        }
        let mut builder = builder(request, &self.network)?;
        if let Some(proxy) = &kept.proxy {
            builder = builder.proxy(socks(proxy)?);
        }
        let client = builder.build().map_err(|_| Error::Internal("no HTTP client"))?;
        clients.insert(kept, client.clone());
        Ok(client)
    }
}
