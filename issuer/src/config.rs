//! The one file of configuration, TOML. Unknown keys are refused: a misspelt limit must not silently be the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_operate::{Operation, SecretFileError, read_database_url};
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::lookup::LookupPolicy;
use postern_protocol::register::RelayEntry;
use postern_protocol::server::ServerUrl;
use postern_tls::TlsFiles;
use serde::{Deserialize, Serialize};

mod texts;

pub use texts::{GatewayConfig, KannelConfig, NumberType, TwilioConfig};

/// Everything that an operator decides.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The issuer's name in token challenges, JWTs and login transcripts. Changing it voids all tokens and logins.
    pub name: String,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Under which URL clients and relays reach it, without a trailing slash.
    pub url: String,
    /// `sqlite:///path/file.db` or `postgres://user:password@host/database`, or `file:NAME` of a file with either in it; see `Db::open`. `--database` overrides it.
    pub database: String,
    /// File with the root secret: 32 bytes, base64url. Relative to the configuration file.
    pub secret_key_file: PathBuf,
    /// File with the CA certificate, PEM. Relative to the configuration file. Its key is derived from the root secret.
    pub ca_certificate_file: PathBuf,
    /// TLS by the issuer itself; none: plain HTTP, on loopback or behind a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Numbers of policy; all have defaults.
    #[serde(default)]
    pub limits: Limits,
    /// Contact discovery; all have defaults.
    #[serde(default)]
    pub lookup: Lookup,
    /// How an operator looks in.
    #[serde(default)]
    pub operation: Operation,
    /// How texts are sent; the first that serves a number's country is tried first.
    #[serde(default, rename = "gateway", skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<GatewayConfig>,
    /// The relays that mailboxes are granted at; the first is the default.
    #[serde(default, rename = "relay", skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<RelayConfig>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The database URL may hold a password.
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A relay that this issuer works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// The relay's name, as in its own configuration.
    pub name: String,
    /// Its base URL, without a trailing slash.
    pub url: String,
    /// Signs its calls: Ed25519, base64url; as `postern-relay init` printed it.
    pub public_key: SigningPublicKey,
    /// `false` cuts it off: no exchanges, no keys, no new mailboxes.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}

impl RelayConfig {
    /// As clients see it.
    pub fn entry(&self) -> RelayEntry {
        RelayEntry { name: self.name.clone(), url: self.url.clone() }
    }
}

/// Numbers of policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tokens an account ever gets (M6).
    pub tokens_per_account: u32,
    /// How long after its first registration an account may ask for the rest of them, seconds.
    pub setup_seconds: u64,
    /// How long a texted code is good, seconds.
    pub code_seconds: u64,
    /// How often a code may be tried.
    pub code_tries: u64,
    /// Country calling codes that are served, such as `[41, 49]`; empty serves all.
    pub countries: Vec<u16>,
    /// Texts to one number in 24 hours.
    pub texts_per_number_per_day: u64,
    /// Texts to the numbers that differ in their last four digits alone, in 24 hours: what pumping schemes own.
    pub texts_per_prefix_per_day: u64,
    /// Texts altogether in 24 hours: the budget breaker.
    pub texts_per_day: u64,
    /// Kinds of numbers that are served.
    pub number_types: Vec<NumberType>,
    /// Texts to the numbers that differ in their last four digits alone, in an hour, sent by one process …
    pub texts_per_prefix_per_hour: u32,
    /// … and to those that differ in their last six.
    pub texts_per_range_per_hour: u32,
    /// How many texts to such a prefix may go unanswered, that is, how many codes may not come back; each hour half of them is forgotten …
    pub unanswered_texts_per_prefix: u32,
    /// … and to such a range.
    pub unanswered_texts_per_range: u32,
    /// How many texts a code that came back makes up for: 4 is one in four.
    pub texts_per_answer: u32,
    /// Password guesses for one user in `login_window_seconds`.
    pub login_guesses_per_user: u64,
    /// See there.
    pub login_window_seconds: u64,
    /// Password guesses for all users in one minute.
    pub login_guesses_per_minute: u64,
    /// How long a session lives, seconds.
    pub session_seconds: u64,
    /// Sessions an account may have; one more ends the one that was not used for longest.
    pub sessions_per_account: u64,
    /// How long a JWT of a session is good, seconds.
    pub jwt_seconds: u64,
    /// How long the grant of a mailbox is good, seconds.
    pub grant_seconds: u64,
    /// How long a certificate is good, seconds.
    pub certificate_seconds: u64,
    /// How long a registration is answered again, seconds; at least as long as its cookie in any case.
    pub registration_replay_seconds: u64,
    /// Exchanges that a relay may have signed under one key: this many for each token ever issued …
    pub exchange_multiple: u64,
    /// … and this many besides.
    pub exchange_base: u64,
    /// How long the tokens of a rotated key are still accepted, seconds.
    pub key_overlap_seconds: u64,
    /// How long the directory of keys may be cached, seconds.
    pub directory_max_age_seconds: u64,
    /// The longest a request may take, seconds.
    pub request_timeout_seconds: u64,
    /// Requests handled at a time; more wait.
    pub concurrent_requests: usize,
    /// Requests handled at a time by one endpoint.
    pub requests_per_endpoint: usize,
    /// Connections open at a time; with one more, the one that has had nothing to answer for longest is closed.
    pub connections: usize,
    /// How long a connection may have nothing to answer, seconds: a head that is not all there counts as nothing.
    pub idle_connection_seconds: u64,
    /// How long 64 KiB of an answer may take to be read, seconds.
    pub slow_reader_seconds: u64,
    /// Bytes of answers above 64 KiB that wait to be read, in all.
    pub answer_bytes: usize,
    /// How often what has expired is deleted, seconds.
    pub housekeeping_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tokens_per_account: 5,
            setup_seconds: 3600,
            code_seconds: 600,
            code_tries: 5,
            countries: Vec::new(),
            texts_per_number_per_day: 5,
            texts_per_prefix_per_day: 1000,
            texts_per_day: 10_000,
            number_types: NumberType::usual(),
            texts_per_prefix_per_hour: 300,
            texts_per_range_per_hour: 3000,
            unanswered_texts_per_prefix: 60,
            unanswered_texts_per_range: 1000,
            texts_per_answer: 4,
            login_guesses_per_user: 10,
            login_window_seconds: 900,
            login_guesses_per_minute: 600,
            session_seconds: 90 * 86_400,
            sessions_per_account: 32,
            jwt_seconds: 600,
            grant_seconds: 86_400,
            certificate_seconds: 730 * 86_400,
            registration_replay_seconds: 86_400,
            exchange_multiple: 4,
            exchange_base: 16,
            key_overlap_seconds: 30 * 86_400,
            directory_max_age_seconds: 60,
            request_timeout_seconds: 30,
            concurrent_requests: 256,
            requests_per_endpoint: 192,
            connections: 16_384,
            idle_connection_seconds: 30,
            slow_reader_seconds: 30,
            answer_bytes: 256 * 1024 * 1024,
            housekeeping_seconds: 60,
        }
    }
}

impl Limits {
    /// What of it bounds connections.
    pub(crate) const fn bounds(&self) -> postern_listen::Bounds {
        postern_listen::Bounds {
            connections: self.connections,
            idle: std::time::Duration::from_secs(self.idle_connection_seconds),
            slow_reader: std::time::Duration::from_secs(self.slow_reader_seconds),
            answer_bytes: self.answer_bytes,
        }
    }
}

/// Contact discovery: how many numbers may be looked up, and how often the directory is made anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lookup {
    /// Look-up tokens of an account in the first window that it asks in.
    pub quota_first: u32,
    /// Look-up tokens of an account in each later window; unused ones do not carry over.
    pub quota_window: u32,
    /// Length of a window, seconds. Windows are counted from 1970 on: an issuer that has run does not start with another length.
    pub window_seconds: u32,
    /// How long after its end a window's tokens are still taken, seconds.
    pub grace_seconds: u32,
    /// How often the directory is built, seconds.
    pub build_seconds: u64,
    /// How many builds are served: the present one, and older ones for clients that are in the middle of them.
    pub keep_builds: u32,
}

impl Default for Lookup {
    fn default() -> Self {
        let LookupPolicy { window_seconds, grace_seconds, quota_first, quota_window } = LookupPolicy::default();
        Self { quota_first, quota_window, window_seconds, grace_seconds, build_seconds: 86_400, keep_builds: 8 }
    }
}

impl Lookup {
    /// What clients are told.
    pub const fn policy(&self) -> LookupPolicy {
        let Self { window_seconds, grace_seconds, quota_first, quota_window, .. } = *self;
        LookupPolicy { window_seconds, grace_seconds, quota_first, quota_window }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Not TOML, a key is missing or unknown, or a value has the wrong type.
    #[error("{0}, line {1}: {2}")]
    Parse(PathBuf, usize, String),
    /// A file with a secret.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A value makes no sense.
    #[error("configuration: {0}")]
    Invalid(&'static str),
}

impl ConfigError {
    /// Says where and what, and not the line itself: a password may stand in it.
    fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Self::Parse(path.to_owned(), before.matches('\n').count().saturating_add(1), error.message().to_owned())
    }
}

impl Config {
    /// Reads the text of a file; checks no values.
    ///
    /// # Errors
    /// [`ConfigError::Parse`], which shows nothing of the text but names of keys.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::not_toml(path, text, &error))
    }

    /// Reads and checks a file; paths in it become relative to its directory. `database`, if given, takes the place of what it says.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, database: Option<&str>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        let mut config = Self::parse(path, &text)?;
        let dir = path.parent().unwrap_or(Path::new(""));
        config.secret_key_file = dir.join(&config.secret_key_file);
        config.ca_certificate_file = dir.join(&config.ca_certificate_file);
        config.tls.iter_mut().for_each(|tls| tls.lie_in(dir));
        config.gateways.iter_mut().for_each(|gateway| gateway.lie_in(dir));
        if let Some(database) = database {
            database.clone_into(&mut config.database);
        }
        config.database = read_database_url(path.parent().unwrap_or(Path::new("")), &config.database)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let (l, d) = (&self.limits, &self.lookup);
        let relay_names: std::collections::BTreeSet<_> = self.relays.iter().map(|relay| &relay.name).collect();
        let is_here = self.listen.ip().is_loopback() && is_url_of_this_machine(&self.url);
        let rules = [
            (is_name(&self.name), "`name` must be 1 to 255 visible ASCII characters without commas"),
            (is_url(&self.url), "`url` must begin with http:// or https:// and not end with a slash"),
            (self.relays.iter().all(|r| is_name(&r.name)), "a relay's `name` must be like the issuer's"),
            (self.relays.iter().all(|r| is_url(&r.url)), "a relay's `url` must be like the issuer's"),
            (relay_names.len() == self.relays.len(), "two relays have the same name"),
            (self.relays.iter().all(|r| r.name != self.name), "a relay has the issuer's name"),
            (is_here || !self.is_synthetic(), "the gateway `synthetic` needs `listen` and `url` on loopback"),
            (l.texts_per_answer >= 1, "`texts_per_answer` must be at least 1"),
            ((1..=100).contains(&l.tokens_per_account), "`tokens_per_account` must be 1 to 100"),
            ((60..=86_400).contains(&l.code_seconds), "`code_seconds` must be 60 to 86400"),
            (l.code_tries <= 100, "`code_tries` must be at most 100: six digits are guessed otherwise"),
            (l.login_window_seconds >= 1, "`login_window_seconds` must be at least 1"),
            (l.sessions_per_account >= 1, "`sessions_per_account` must be at least 1"),
            ((1..=86_400).contains(&l.jwt_seconds), "`jwt_seconds` must be 1 to 86400: a JWT cannot be revoked"),
            (l.certificate_seconds >= 86_400, "`certificate_seconds` must be at least 86400"),
            (l.concurrent_requests >= 1, "`concurrent_requests` must be at least 1"),
            (l.requests_per_endpoint >= 1, "`requests_per_endpoint` must be at least 1"),
            (l.connections >= 1, "`connections` must be at least 1"),
            (l.idle_connection_seconds >= 1, "`idle_connection_seconds` must be at least 1"),
            (l.slow_reader_seconds >= 1, "`slow_reader_seconds` must be at least 1"),
            (l.request_timeout_seconds >= 1, "`request_timeout_seconds` must be at least 1"),
            (l.housekeeping_seconds >= 1, "`housekeeping_seconds` must be at least 1"),
            (d.policy().is_sound(), "`window_seconds` must be at least 1, and `grace_seconds` at most that"),
            (d.build_seconds >= 1, "`build_seconds` must be at least 1"),
            (d.keep_builds >= 2, "`keep_builds` must be at least 2: somebody is always in the middle of the last one"),
        ];
        let gateways = texts::broken_rule(&self.gateways, l.request_timeout_seconds);
        let gateways = gateways.map_or((true, ""), |rule| (false, rule));
        let mut rules = rules.into_iter().chain(self.operation.rules()).chain([gateways]);
        rules.try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(ConfigError::Invalid(rule)) })
    }

    /// The whole configuration, defaults included, as TOML. A password in the database URL is left out.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it does not serialise, which a checked one does.
    pub fn redacted(&self) -> Result<String, ConfigError> {
        let mut shown = self.clone();
        shown.database = postern_store::redacted(&self.database);
        toml::to_string(&shown).map_err(|_| ConfigError::Invalid("it cannot be shown"))
    }

    /// Whether no text is sent, and no real number can be registered.
    pub fn is_synthetic(&self) -> bool {
        self.gateways.iter().any(GatewayConfig::is_synthetic)
    }

    /// The relay of this name, if it is not cut off.
    pub fn relay(&self, name: &str) -> Option<&RelayConfig> {
        self.relays.iter().find(|relay| relay.enabled && relay.name == name)
    }
}

/// Names go into headers, challenges and JWTs: visible ASCII, and no comma, which separates parameters.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"')
}

fn is_url(text: &str) -> bool {
    let server = text.parse::<ServerUrl>().ok().and_then(|server| url::Url::parse(server.base()).ok());
    server.is_some_and(|url| url.has_host() && url.username().is_empty()) && !text.ends_with('/')
}

/// Not what a proxy in front would be reached under.
fn is_url_of_this_machine(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        toml::from_str(
            r#"
            name = "issuer.example"
            listen = "127.0.0.1:0"
            url = "http://127.0.0.1:8080"
            database = "sqlite:///tmp/x.db"
            secret_key_file = "secret.key"
            ca_certificate_file = "ca.pem"
            gateway = [{ kind = "console" }]
            "#,
        )
        .unwrap()
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let text = example().redacted().unwrap();
        assert!(toml::from_str::<Config>(&text).is_ok());
        assert!(toml::from_str::<Config>(&text.replace("code_tries", "code_trys")).is_err());
        assert!(toml::from_str::<Config>(&format!("extra = 1\n{text}")).is_err());
    }

    #[test]
    fn values_without_sense_are_refused() {
        assert!(example().check().is_ok());
        for spoil in [
            (|c: &mut Config| c.name = "a,b".into()) as fn(&mut Config),
            |c| c.url = "ftp://x".into(),
            |c| c.url = "https://x/".into(),
            |c| c.limits.tokens_per_account = 0,
            |c| c.limits.code_tries = 1_000_000,
            |c| c.limits.texts_per_answer = 0,
            |c| c.gateways.clear(),
            |c| c.limits.concurrent_requests = 0,
            |c| c.lookup.window_seconds = 0,
            |c| c.lookup.grace_seconds = c.lookup.window_seconds + 1,
            |c| c.lookup.keep_builds = 1,
        ] {
            let mut config = example();
            spoil(&mut config);
            assert!(config.check().is_err());
        }
    }

    #[test]
    fn a_password_in_the_database_url_is_not_shown() {
        let mut config = example();
        config.database = "postgres://user:hunter2@db.example/postern".into();
        let shown = config.redacted().unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("db.example"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn the_synthetic_gateway_is_refused_wherever_others_could_reach_it() {
        let with = |listen: &str, url: &str| {
            let (listen, gateways) = (listen.parse().unwrap(), vec![GatewayConfig::Synthetic {}]);
            Config { listen, url: url.to_owned(), gateways, ..example() }.check()
        };
        for (listen, url) in [
            ("127.0.0.1:80", "http://127.0.0.1:80"),
            ("127.8.8.8:80", "http://localhost:8080"),
            ("[::1]:80", "http://[::1]:80"),
        ] {
            assert!(with(listen, url).is_ok(), "{listen} {url}");
        }
        for (listen, url) in [
            ("0.0.0.0:80", "http://127.0.0.1"),
            ("[::]:80", "http://127.0.0.1"),
            ("[::ffff:127.0.0.1]:80", "http://127.0.0.1"),
            ("192.168.1.2:80", "http://127.0.0.1"),
            // Behind a proxy of its own.
            ("127.0.0.1:80", "https://issuer.example"),
            ("127.0.0.1:80", "https://localhost.example"),
            ("127.0.0.1:80", "https://127.0.0.1.example"),
            ("127.0.0.1:80", "https://127.0.0.1@issuer.example"),
        ] {
            assert!(with(listen, url).is_err(), "{listen} {url}");
        }
        let of_others = Config { listen: "0.0.0.0:80".parse().unwrap(), ..example() };
        assert!(of_others.check().is_ok(), "any other gateway may");
    }

    #[test]
    fn the_synthetic_gateway_has_to_be_written_out_and_has_no_settings() {
        let gateway = |text: &str| toml::from_str::<GatewayConfig>(text);
        assert!(gateway("kind = \"synthetic\"").unwrap().is_synthetic());
        assert!(!gateway("kind = \"console\"").unwrap().is_synthetic());
        for other in ["", "kind = \"Synthetic\"", "synthetic = true", "kind = \"synthetic\"\nfile = \"x\""] {
            assert!(gateway(other).is_err(), "{other}");
        }
    }
}
