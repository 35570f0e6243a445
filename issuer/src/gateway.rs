//! How a code reaches a phone, behind one small interface (design §4): Kannel, Twilio and services of its shape, a file for development.
//!
//! [`Gateways`] holds them in their configured order, each with a [`breaker`] that leaves a broken one alone for a while. Which is tried for
//! whom, and what is said when none works, is decided in [`crate::service::texts`].
//!
//! How to add a gateway: a variant of [`GatewayConfig`](crate::config::GatewayConfig), a type in a file here, a line in [`open`].

pub mod breaker;
pub mod console;
mod http;
pub mod kannel;
pub mod twilio;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::server::ServerUrl;
use postern_protocol::texts::Channel;
use zeroize::Zeroizing;

use self::breaker::Breaker;
use self::console::{Console, Nobody};
use self::kannel::Kannel;
use self::twilio::Twilio;
use crate::config::{Config, GatewayConfig};
use crate::secrets::{self, SecretsError};

/// Why a text was not accepted for delivery. Says nothing about number or text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// It was not sent, and another might be: the gateway is out of order or overloaded.
    #[error("it is out of order: {0}")]
    Down(String),
    /// The answer did not come. The text may have been sent.
    #[error("its answer did not come: {0}")]
    Unknown(String),
    /// It does not take texts from us as it is set up here: the operator has to do something.
    #[error("it is not set up right: {0}")]
    Setup(String),
    /// It does not take texts to this number, or to its country or network. The gateway itself works.
    #[error("it does not take this number: {0}")]
    Number(String),
}

/// A code on its way.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Whose phone.
    pub to: &'a PhoneNumber,
    /// As a text or by a call.
    pub channel: Channel,
    /// What is to be read or said: printable ASCII.
    pub words: &'a str,
    /// How long it is of use, seconds.
    pub valid_seconds: u64,
    /// The path at the issuer where it can be reported what became of it.
    pub report: &'a str,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message(..)")
    }
}

/// Hands a code to somebody who delivers it.
pub trait TextGateway: Send + Sync + 'static {
    /// Sends it; `Ok` when it was accepted for delivery. Calls are asked only of who [`Self::calls`].
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>>;

    /// Whether it places calls.
    fn calls(&self) -> bool {
        false
    }
}

/// A gateway in its place.
pub(crate) struct Placed {
    pub(crate) name: String,
    countries: Vec<u16>,
    pub(crate) gateway: Box<dyn TextGateway>,
    pub(crate) breaker: Breaker,
}

impl Placed {
    /// Whether it can bring this to a number of this country.
    pub(crate) fn serves(&self, country: u16, channel: Channel) -> bool {
        let reaches = self.countries.is_empty() || self.countries.contains(&country);
        reaches && (channel == Channel::Text || self.gateway.calls())
    }
}

/// All of them, in the order in which they are tried.
pub struct Gateways(pub(crate) Vec<Placed>);

impl Gateways {
    /// Those of a configuration.
    ///
    /// # Errors
    /// A password cannot be read, or can by others.
    pub fn open(config: &Config) -> Result<Self, SecretsError> {
        let server = config.url.parse::<ServerUrl>();
        // A gateway knows nothing of pins.
        let issuer = server.as_ref().map_or(config.url.as_str(), ServerUrl::base);
        let open = |gateway: &GatewayConfig| {
            Ok((gateway.name().to_owned(), gateway.countries().to_vec(), open(gateway, issuer)?))
        };
        Ok(Self::of(config.gateways.iter().map(open).collect::<Result<_, SecretsError>>()?))
    }

    /// These, each with its name and the countries that it is for (empty: all).
    pub fn of(gateways: Vec<(String, Vec<u16>, Box<dyn TextGateway>)>) -> Self {
        let place = |(name, countries, gateway)| Placed { name, countries, gateway, breaker: Breaker::default() };
        Self(gateways.into_iter().map(place).collect())
    }

    /// One alone.
    pub fn one(gateway: Box<dyn TextGateway>) -> Self {
        Self::of(vec![("gateway".to_owned(), Vec::new(), gateway)])
    }
}

impl std::fmt::Debug for Gateways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|placed| &placed.name)).finish()
    }
}

/// The gateway of a configuration; `issuer` is where reports go unless it says otherwise.
fn open(config: &GatewayConfig, issuer: &str) -> Result<Box<dyn TextGateway>, SecretsError> {
    let reports = |own: &Option<String>| own.clone().unwrap_or_else(|| issuer.to_owned());
    Ok(match config {
        GatewayConfig::Console { file } => Box::new(Console::new(file.clone())),
        GatewayConfig::Synthetic {} => Box::new(Nobody),
        GatewayConfig::Kannel(k) => Box::new(Kannel::new(k, Password::read(&k.password_file)?, reports(&k.reports))),
        GatewayConfig::Twilio(t) => Box::new(Twilio::new(t, Password::read(&t.auth_token_file)?, reports(&t.reports))),
    })
}

/// A password of a gateway. Zeroised on drop, silent in `Debug`.
pub struct Password(Zeroizing<String>);

impl Password {
    /// The first line of a file that nobody else may read.
    ///
    /// # Errors
    /// [`SecretsError`]; `Malformed` if it is empty.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let text = secrets::read_private(path)?;
        let line = text.lines().next().unwrap_or_default().trim();
        let is_sound = !line.is_empty() && line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_sound { Ok(Self::new(line)) } else { Err(SecretsError::NoPassword(PathBuf::from(path))) }
    }

    /// This one.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(secret)")
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Warns of gateways that are for development only. The one that anybody can register by is announced past every filter of the log.
pub fn warn(config: &Config) {
    for gateway in &config.gateways {
        match gateway {
            GatewayConfig::Console { .. } => {
                tracing::warn!(
                    "texts go to the console gateway: whoever reads it can register any number; development only"
                );
            }
            GatewayConfig::Synthetic {} => eprintln!("{SYNTHETIC_WARNING}"),
            GatewayConfig::Kannel(_) | GatewayConfig::Twilio(_) => {}
        }
    }
}

/// What is said at every start.
const SYNTHETIC_WARNING: &str = "
**********************************************************************************
*  postern-issuer: THE GATEWAY IS `synthetic`. This is for load tests alone.     *
*  No text is sent, and no real number can register. Whoever reaches this port   *
*  takes as many accounts and tokens as they like. Throw the database and the    *
*  keys away afterwards: whatever was signed here is worth nothing.              *
**********************************************************************************";
