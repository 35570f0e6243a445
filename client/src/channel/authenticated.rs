//! The direct way, for requests that name the account anyway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use postern_protocol::ids::ServerPin;

use super::retry::{Attempt, once, pause_before};
use super::{Network, Reply, Request, builder, require_protected};
use crate::error::{Error, Result};

/// Connections straight to the servers.
#[derive(Debug, Default)]
pub struct Authenticated {
    network: Network,
    /// By whether it is TLS, and whose: a connection to somebody who was known by another key, or by none, is not used.
    clients: Mutex<HashMap<(bool, Vec<ServerPin>), reqwest::Client>>,
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
        let whose = (request.url.scheme() == "https", request.pins.clone());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&whose) {
            return Ok(client.clone());
        }
        let client = builder(request, &self.network)?.build().map_err(|_| Error::Internal("no HTTP client"))?;
        clients.insert(whose, client.clone());
        Ok(client)
    }
}
