//! How requests travel: directly, or through a SOCKS5 proxy that keeps them apart by user name and password.

use postern_protocol::ids::encode_base64;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::{host, is_loopback, is_onion};
use crate::error::{Error, Result};

/// How requests travel.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Nobody said: only loopback is asked anonymously.
    #[default]
    Unset,
    /// Through this SOCKS5 proxy, `socks5h://host:port`: Tor.
    Socks(String),
    /// Directly, because the user said so: the relay sees the address.
    Direct,
}

const FORM: &str = "the proxy must be like socks5h://127.0.0.1:9050";

impl Route {
    /// A proxy as people write it.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it is `socks5h://host:port`: with plain `socks5` names would be looked up outside the proxy.
    pub fn socks(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::Invalid(format!("{FORM}{why}"));
        let url = url::Url::parse(text).map_err(|_| bad(""))?;
        if url.scheme() == "socks5" {
            return Err(bad(
                ": with socks5 this machine would look names up itself, for all to see; the h leaves it to the proxy",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(", without user name and password: every request gets its own"));
        }
        let rest = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        match (url.host_str(), url.port()) {
            (Some(host), Some(port)) if url.scheme() == "socks5h" && !rest => {
                Ok(Self::Socks(format!("socks5h://{host}:{port}")))
            }
            _ => Err(bad("")),
        }
    }

    /// Whether a server of this address can be reached this way at all.
    ///
    /// # Errors
    /// [`Error::OnionWithoutProxy`]: there is no such name outside Tor, and asking for it would tell the name servers who is written to.
    pub(super) fn require_reach(&self, url: &url::Url) -> Result<()> {
        match self {
            Self::Unset | Self::Direct if is_onion(url) => Err(Error::OnionWithoutProxy { host: host(url) }),
            _ => Ok(()),
        }
    }

    /// What an anonymous request needs.
    ///
    /// # Errors
    /// [`Error::NotAnonymous`] without a route off loopback; [`Error::OnionWithoutProxy`].
    pub(super) fn require_anonymity(&self, url: &url::Url) -> Result<()> {
        self.require_reach(url)?;
        if *self == Self::Unset && !is_loopback(url) {
            return Err(Error::NotAnonymous { host: host(url) });
        }
        Ok(())
    }
}

/// What a proxy keeps requests apart by: Tor never has streams of different user names or passwords on one circuit.
#[derive(Clone)]
pub(super) struct Isolation {
    user: String,
    password: String,
}

impl Isolation {
    /// One that nobody has used before.
    pub(super) fn fresh(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [[0u8; 16]; 2];
        for part in &mut bytes {
            rng.fill_bytes(part);
        }
        let [user, password] = bytes.map(|part| encode_base64(&part));
        Self { user, password }
    }

    /// The proxy's URL with them.
    pub(super) fn through(&self, proxy: &str) -> String {
        let address = proxy.trim_start_matches("socks5h://");
        format!("socks5h://{}:{}@{address}", self.user, self.password)
    }

    /// The proxy's URL with those of one server: what an account does at one is not on the circuit to another.
    pub(super) fn through_to(&self, proxy: &str, server: &str) -> String {
        // A password has at most 255 bytes (RFC 1929).
        let password = format!("{}.{}", self.password, server.get(..200).unwrap_or(server));
        Self { user: self.user.clone(), password }.through(proxy)
    }

    /// User name and password.
    pub(super) fn credentials(&self) -> (&[u8], &[u8]) {
        (self.user.as_bytes(), self.password.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_would_look_names_up_outside_is_refused() {
        assert!(Route::socks("socks5h://127.0.0.1:9050").is_ok());
        assert_eq!(Route::socks("SOCKS5h://[::1]:9050/").unwrap(), Route::Socks("socks5h://[::1]:9050".to_owned()));
        for bad in [
            "socks5://127.0.0.1:9050",
            "socks4a://127.0.0.1:9050",
            "http://127.0.0.1:9050",
            "socks5h://127.0.0.1",
            "socks5h://u:p@h:1",
            "socks5h://h:1/x",
            "x",
        ] {
            assert!(Route::socks(bad).is_err(), "{bad}");
        }
        assert!(Route::socks("socks5://127.0.0.1:9050").unwrap_err().to_string().contains("look names up"));
    }

    #[test]
    fn an_onion_address_is_never_asked_for_outside_a_proxy() {
        let onion = super::super::parse_url("http://abc.onion").unwrap();
        for route in [Route::Unset, Route::Direct] {
            assert!(matches!(route.require_reach(&onion), Err(Error::OnionWithoutProxy { .. })), "{route:?}");
            assert!(matches!(route.require_anonymity(&onion), Err(Error::OnionWithoutProxy { .. })), "{route:?}");
        }
        assert!(Route::Socks("socks5h://127.0.0.1:9050".to_owned()).require_anonymity(&onion).is_ok());
    }
}
