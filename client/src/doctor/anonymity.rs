//! Whether the anonymous channel is one, as far as that can be seen from here.

use std::net::IpAddr;

use postern_protocol::send::RELAY_INFO_PATH;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;

use super::{Check, Health};
use crate::channel::{Proxy, Request, Route, is_onion, look_at_proxy, parse_url};
use crate::client::{Account, Client};
use crate::error::Result;

const PROXY: &str = "proxy";
const CHANNEL: &str = "anonymous channel";
const USE_TOR: &str = "start Tor and run `postern settings --proxy socks5h://127.0.0.1:9050` (docs/anonymity.md)";

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The proxy, if there is one, and what goes through it.
    pub(super) async fn check_anonymity(&mut self, account: &Account) -> Vec<Check> {
        let (route, relay) = match (self.route(), parse_url(&account.relay.url)) {
            (Ok(route), Ok(relay)) => (route, relay),
            (Err(error), _) | (_, Err(error)) => return vec![Check::fail(CHANNEL, &error)],
        };
        let Route::Socks(proxy) = &route else {
            let asked = self.ask_relay_anonymously(account).await;
            return vec![asked.map_or_else(|error| Check::fail(CHANNEL, &error), |()| without_proxy(&route))];
        };
        let looked = look_at_proxy(&mut self.rng, proxy, self.network.timeout).await;
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                let hint = "start Tor (Debian: apt install tor), or name the proxy by `postern settings --proxy`";
                return vec![Check { hint: Some(hint.to_owned()), ..Check::fail(PROXY, &error) }];
            }
        };
        let mut checks = vec![check_proxy(proxy, found)];
        if checks.iter().all(|check| check.health != Health::Fail) {
            let asked = self.ask_relay_anonymously(account).await;
            checks.push(
                asked.map_or_else(
                    |error| Check::fail(CHANNEL, &error),
                    |()| through_proxy(proxy, found, is_onion(&relay)),
                ),
            );
        }
        checks
    }

    async fn ask_relay_anonymously(&mut self, account: &Account) -> Result<()> {
        let request = Request::get(&account.relay.url, RELAY_INFO_PATH)?;
        self.send_anonymously(&request).await?.success().map(drop)
    }
}

fn without_proxy(route: &Route) -> Check {
    match route {
        Route::Direct => Check::warn(CHANNEL, "direct: the relay sees your address", USE_TOR),
        _ => Check::ok(CHANNEL, "not needed: the relay is on this machine"),
    }
}

/// What the proxy is.
fn check_proxy(proxy: &str, found: Proxy) -> Check {
    let fail = |what: &str| Check { health: Health::Fail, ..Check::warn(PROXY, format!("{proxy} {what}"), USE_TOR) };
    match found {
        Proxy::NotSocks => fail("does not speak SOCKS5"),
        Proxy::NoUserNames => fail("does not take a user name for each request, so it could not keep requests apart"),
        Proxy::Plain => Check::warn(
            PROXY,
            format!("{proxy} is a SOCKS5 proxy, and not Tor: who runs it sees your address and whom you talk to"),
            USE_TOR,
        ),
        Proxy::Tor if !is_here(proxy) => Check::warn(
            PROXY,
            format!(
                "{proxy} knows Tor's commands, but is on another machine: the way to it is open to whoever is on it"
            ),
            "let Tor run on this machine, or be sure of the way, as between a virtual machine and its gateway",
        ),
        Proxy::Tor => Check::ok(PROXY, format!("{proxy} takes user names and knows Tor's commands")),
    }
}

/// What was reached through it. That circuits are kept apart is Tor's doing, and nothing that a client sees.
fn through_proxy(proxy: &str, found: Proxy, onion: bool) -> Check {
    match (found, onion) {
        (Proxy::Tor, true) => Check::ok(
            CHANNEL,
            "the relay's onion service was reached, which takes Tor; requests are told apart by user name, and Tor keeps them \
             on different circuits unless its configuration says NoIsolateSOCKSAuth",
        ),
        (Proxy::Tor, false) => Check::ok(
            CHANNEL,
            format!(
                "through {proxy}; requests are told apart by user name, and Tor keeps them on different circuits unless its \
                 configuration says NoIsolateSOCKSAuth. Only a program that pretends to be Tor would look the same"
            ),
        ),
        (_, true) => Check::warn(
            CHANNEL,
            "an onion address was answered by a proxy that does not look like Tor: it may pass requests on to Tor, or read them",
            USE_TOR,
        ),
        (_, false) => {
            Check::warn(CHANNEL, format!("as good as {proxy}: all that you do comes from its one address"), USE_TOR)
        }
    }
}

/// Whether the proxy is on this machine.
fn is_here(proxy: &str) -> bool {
    let host = url::Url::parse(proxy).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let ip: std::result::Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    ip.map_or(host == "localhost", |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tor_on_this_machine_is_fine() {
        let here = "socks5h://127.0.0.1:9050";
        for (proxy, found, health) in [
            (here, Proxy::Tor, Health::Ok),
            ("socks5h://[::1]:9050", Proxy::Tor, Health::Ok),
            ("socks5h://localhost:9050", Proxy::Tor, Health::Ok),
            ("socks5h://192.0.2.9:9050", Proxy::Tor, Health::Warn),
            (here, Proxy::Plain, Health::Warn),
            (here, Proxy::NoUserNames, Health::Fail),
            (here, Proxy::NotSocks, Health::Fail),
        ] {
            let check = check_proxy(proxy, found);
            assert_eq!(check.health, health, "{check:?}");
            assert_eq!(check.hint.is_none(), health == Health::Ok, "who is warned is told what to do");
        }
        assert_eq!(through_proxy(here, Proxy::Tor, true).health, Health::Ok);
        assert_eq!(through_proxy(here, Proxy::Plain, true).health, Health::Warn);
        assert_eq!(through_proxy(here, Proxy::Plain, false).health, Health::Warn);
    }
}
