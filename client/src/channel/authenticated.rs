//! The direct way, for requests that name the account anyway.

use std::sync::OnceLock;

use super::retry::{Attempt, once, pause_before};
use super::{Network, Reply, Request, builder, require_protected};
use crate::error::{Error, Result};

/// Connections straight to the servers.
#[derive(Debug, Default)]
pub struct Authenticated {
    network: Network,
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
}

impl Authenticated {
    /// With this patience.
    pub fn new(network: Network) -> Self {
        Self { network, ..Self::default() }
    }

    /// Sends a request that may cross the network in the clear: session-signed calls are made for that (K3).
    ///
    /// # Errors
    /// [`Error::Network`], [`Error::Unavailable`], [`Error::Misbehaved`]; refusals are in the answer.
    pub async fn send(&self, request: &Request) -> Result<Reply> {
        let client = self.client(&request.url)?;
        let mut last = Error::Internal("no attempt was made");
        let mut n = 0;
        while pause_before(n, &self.network).await {
            match once(client, request).await? {
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
        match once(self.client(&request.url)?, request).await? {
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

    fn client(&self, url: &url::Url) -> Result<&reqwest::Client> {
        let slot = if url.scheme() == "http" { &self.plain } else { &self.tls };
        if slot.get().is_none() {
            let client = builder(url, &self.network).build().map_err(|_| Error::Internal("no HTTP client"))?;
            drop(slot.set(client));
        }
        slot.get().ok_or(Error::Internal("no HTTP client"))
    }
}
