//! Addresses of servers. An address may carry the fingerprint of the server's key, as SimpleX's do, so that whoever has the address knows the
//! server by it and needs to believe no certificate authority.

use std::fmt;
use std::str::FromStr;

use crate::ids::ServerPin;

/// An address has no more fingerprints than this: one in use, one that follows, and some of an operator who moves.
pub const MOST_PINS: usize = 4;

/// `https://<fingerprint>@host:port`, `https://host:port` or, on this machine and behind `.onion`, `http://host:port`; a path may follow.
///
/// Several fingerprints are separated by dots, and the key of any of them is the server's: so a key can be replaced by one that was
/// announced before. A fingerprint is never sent to anybody; in particular it is no user name of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    pins: Vec<ServerPin>,
    base: String,
}

/// The text is no address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server's address, like https://relay.example or https://FINGERPRINT@relay.example")]
pub struct NotAServer;

impl ServerUrl {
    /// Whose key the server's must be; empty: whoever has a certificate for its name from an authority of this machine.
    pub fn pins(&self) -> &[ServerPin] {
        &self.pins
    }

    /// The URL without them: what a request is sent to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same place with this fingerprint before the others.
    #[must_use]
    pub fn with_pin(mut self, pin: ServerPin) -> Self {
        self.pins.retain(|known| *known != pin);
        self.pins.insert(0, pin);
        self
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.base.split_once("://").filter(|_| !self.pins.is_empty()) else {
            return f.write_str(&self.base);
        };
        let pins: Vec<String> = self.pins.iter().map(ServerPin::to_string).collect();
        write!(f, "{scheme}://{}@{rest}", pins.join("."))
    }
}

impl FromStr for ServerUrl {
    type Err = NotAServer;

    /// Says nothing about host and path but that they are there: whoever connects reads them.
    fn from_str(text: &str) -> Result<Self, NotAServer> {
        let (scheme, rest) = text.split_once("://").ok_or(NotAServer)?;
        // Browsers read a backslash as a slash and skip what is not seen: nothing that two readers could read in two ways.
        if text.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
            return Err(NotAServer);
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(NotAServer)?;
        let (pins, place) = match authority.rsplit_once('@') {
            Some((pins, place)) => (pins.split('.').map(str::parse).collect::<Result<Vec<_>, _>>(), place),
            None => (Ok(Vec::new()), authority),
        };
        let pins = pins.map_err(|_| NotAServer)?;
        let fits = match scheme {
            "https" => pins.len() <= MOST_PINS,
            // There is no key to be known by.
            "http" => pins.is_empty(),
            _ => false,
        };
        if fits && !place.is_empty() {
            Ok(Self { pins, base: format!("{scheme}://{place}{path}") })
        } else {
            Err(NotAServer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(byte: u8) -> ServerPin {
        ServerPin([byte; 32])
    }

    #[test]
    fn an_address_reads_back_and_its_fingerprints_are_no_part_of_what_is_asked() {
        for (text, pins, base) in [
            ("https://relay.example".to_owned(), vec![], "https://relay.example"),
            ("http://[::1]:80/x".to_owned(), vec![], "http://[::1]:80/x"),
            (format!("https://{}@relay.example:8/x", pin(1)), vec![pin(1)], "https://relay.example:8/x"),
            (format!("https://{}.{}@[::1]", pin(1), pin(2)), vec![pin(1), pin(2)], "https://[::1]"),
        ] {
            let read: ServerUrl = text.parse().unwrap();
            assert_eq!((read.pins(), read.base()), (pins.as_slice(), base));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn a_new_fingerprint_comes_first_and_none_stands_twice() {
        let url: ServerUrl = format!("https://{}.{}@h", pin(1), pin(2)).parse().unwrap();
        assert_eq!(url.with_pin(pin(2)).to_string(), format!("https://{}.{}@h", pin(2), pin(1)));
        let bare: ServerUrl = "https://h".parse().unwrap();
        assert_eq!(bare.with_pin(pin(3)).to_string(), format!("https://{}@h", pin(3)));
    }

    #[test]
    fn what_is_no_fingerprint_is_no_address_so_that_nothing_is_taken_for_one() {
        let good = pin(7).to_string();
        let five = [&good; 5].map(String::as_str).join(".");
        for bad in [
            "relay.example".to_owned(),
            "ftp://relay.example".to_owned(),
            "https://".to_owned(),
            "https://@relay.example".to_owned(),
            "https://user@relay.example".to_owned(),
            "https://user:word@relay.example".to_owned(),
            format!("https://{good}:@relay.example"),
            format!("https://{good}@"),
            format!("https://{good}.@relay.example"),
            format!("https://{}@relay.example", &good[1..]),
            format!("https://{good}@user@relay.example"),
            format!("https://{good}\\@relay.example"),
            format!("https://{five}@relay.example"),
            format!("http://{good}@relay.example"),
        ] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
        // Not before the host: no fingerprint, and no harm.
        let later: ServerUrl = format!("https://relay.example/{good}@x").parse().unwrap();
        assert!(later.pins().is_empty());
    }
}
