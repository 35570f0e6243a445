//! The one file of configuration, TOML. Unknown keys are refused: a misspelt limit must not silently be the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_operate::{Operation, SecretFileError, read_database_url};
use postern_protocol::ids::SigningPublicKey;
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::server::ServerUrl;
use postern_tls::TlsFiles;
use serde::{Deserialize, Deserializer, Serialize};

/// Everything that an operator decides.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The relay's name: the origin of its token challenge and the audience of its JWTs. Tokens are bound to it.
    pub name: String,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Under which URL clients reach it, without a trailing slash.
    pub url: String,
    /// `sqlite:///path/file.db` or `postgres://user:password@host/database`, or `file:NAME` of a file with either in it; see `Db::open`. `--database` overrides it.
    pub database: String,
    /// File with the root secret: 32 bytes, base64url. Relative to the configuration file.
    pub secret_key_file: PathBuf,
    /// Whether a message without a good token is refused; `false` takes and counts it (rollout).
    #[serde(default = "yes")]
    pub enforce: bool,
    /// Whose tokens and JWTs count here.
    pub issuer: IssuerConfig,
    /// TLS by the relay itself; none: plain HTTP, on loopback or behind a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Numbers of policy; all have defaults.
    #[serde(default)]
    pub limits: Limits,
    /// How time is counted for replies. It must not change while credentials are out: they name epochs by number.
    #[serde(default, deserialize_with = "replies")]
    pub replies: ReplyPolicy,
    /// How an operator looks in.
    #[serde(default)]
    pub operation: Operation,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The database URL may hold a password.
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}

const fn yes() -> bool {
    true
}

/// Reads `[replies]` as strictly as every other section; what is missing is the default. On the wire the policy is read laxly.
fn replies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReplyPolicy, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Replies {
        epoch_seconds: Option<u32>,
        period_seconds: Option<u32>,
        grace_seconds: Option<u32>,
    }
    let (read, default) = (Replies::deserialize(deserializer)?, ReplyPolicy::default());
    Ok(ReplyPolicy {
        epoch_seconds: read.epoch_seconds.unwrap_or(default.epoch_seconds),
        period_seconds: read.period_seconds.unwrap_or(default.period_seconds),
        grace_seconds: read.grace_seconds.unwrap_or(default.grace_seconds),
    })
}

/// The pinned issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Its name in token challenges and JWTs.
    pub name: String,
    /// Base URL of its internal API, without a trailing slash.
    pub url: String,
    /// Signs its JWTs and its answers: Ed25519, base64url.
    pub public_key: SigningPublicKey,
}

/// Numbers of policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a message waits to be read, seconds.
    pub retention_seconds: u64,
    /// How many messages a mailbox holds.
    pub quota_messages: u64,
    /// How many bytes of envelopes a mailbox holds.
    pub quota_bytes: u64,
    /// What a sender to a full mailbox is told to wait, seconds.
    pub quota_retry_seconds: u64,
    /// How often the issuer is asked for its keys, seconds.
    pub key_refresh_seconds: u64,
    /// How long after a key's end its ledger rows answer retries, seconds. Must exceed any request still under way.
    pub ledger_grace_seconds: u64,
    /// The longest a request may take, seconds; long polls and event streams apart.
    pub request_timeout_seconds: u64,
    /// The longest one call to the issuer may take, seconds.
    pub issuer_timeout_seconds: u64,
    /// Requests handled at a time; long polls and event streams apart.
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
    /// Long polls and event streams open at a time.
    pub waiting_readers: usize,
    /// The same for one mailbox.
    pub waiting_readers_per_mailbox: usize,
    /// How often the bells of other processes are looked at, for all waiting readers at once, milliseconds (ADR 18).
    pub recheck_milliseconds: u64,
    /// How often a silent event stream sends a comment, seconds.
    pub heartbeat_seconds: u64,
    /// How often retention is enforced, seconds.
    pub housekeeping_seconds: u64,
    /// Messages, and recipients' lists of verdicts, that wait for their transaction at a time; more are refused.
    pub queued_sends: usize,
    /// How many struck nullifiers a mailbox has.
    pub strikes_per_mailbox: u64,
    /// How many revealed seeds a mailbox has.
    pub reveals_per_mailbox: u64,
    /// How many one-time prekeys that nobody has claimed a mailbox has.
    pub prekeys_per_mailbox: u64,
    /// How long the identical claim of a prekey gets the identical answer, seconds; a little longer, to the whole hour.
    pub prekey_claim_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention_seconds: 30 * 86_400,
            quota_messages: 1000,
            quota_bytes: 16 * 1024 * 1024,
            quota_retry_seconds: 3600,
            key_refresh_seconds: 1,
            ledger_grace_seconds: 86_400,
            request_timeout_seconds: 30,
            issuer_timeout_seconds: 5,
            concurrent_requests: 1024,
            requests_per_endpoint: 768,
            connections: 16_384,
            idle_connection_seconds: 30,
            slow_reader_seconds: 30,
            answer_bytes: 256 * 1024 * 1024,
            waiting_readers: 4096,
            waiting_readers_per_mailbox: 8,
            recheck_milliseconds: 200,
            heartbeat_seconds: 15,
            housekeeping_seconds: 60,
            queued_sends: 4096,
            strikes_per_mailbox: 65_536,
            reveals_per_mailbox: 64,
            prekeys_per_mailbox: 100,
            prekey_claim_seconds: 86_400,
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

    /// Reads and checks a file; relative paths in it are made relative to its directory. `database`, if given, takes the place of
    /// what it says.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file or the value.
    pub fn load(path: &Path, database: Option<&str>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        let mut config = Self::parse(path, &text)?;
        if let Some(directory) = path.parent() {
            config.secret_key_file = directory.join(&config.secret_key_file);
            config.tls.iter_mut().for_each(|tls| tls.lie_in(directory));
        }
        if let Some(database) = database {
            database.clone_into(&mut config.database);
        }
        config.database = read_database_url(path.parent().unwrap_or(Path::new("")), &config.database)?;
        config.check()?;
        Ok(config)
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        // A commit may come as late as the request's end; a ledger row must still be there then.
        let longest_request = limits.request_timeout_seconds.saturating_mul(2);
        let rules = [
            (is_name(&self.name), "`name` must be 1 to 255 printable ASCII characters without comma or quote"),
            (
                is_name(&self.issuer.name),
                "`issuer.name` must be 1 to 255 printable ASCII characters without comma or quote",
            ),
            (is_base_url(&self.url), "`url` must be an http or https URL without a trailing slash"),
            (is_base_url(&self.issuer.url), "`issuer.url` must be an http or https URL without a trailing slash"),
            (limits.retention_seconds > 0, "`limits.retention_seconds` must not be 0"),
            (limits.quota_messages > 0 && limits.quota_bytes > 0, "quotas must not be 0"),
            (limits.key_refresh_seconds > 0, "`limits.key_refresh_seconds` must not be 0"),
            (limits.recheck_milliseconds > 0, "`limits.recheck_milliseconds` must not be 0"),
            (limits.heartbeat_seconds > 0, "`limits.heartbeat_seconds` must not be 0"),
            (limits.housekeeping_seconds > 0, "`limits.housekeeping_seconds` must not be 0"),
            (limits.issuer_timeout_seconds > 0, "`limits.issuer_timeout_seconds` must not be 0"),
            (limits.prekey_claim_seconds > 0, "`limits.prekey_claim_seconds` must not be 0"),
            (limits.request_timeout_seconds > 0, "`limits.request_timeout_seconds` must not be 0"),
            (limits.concurrent_requests > 0, "`limits.concurrent_requests` must not be 0"),
            (limits.requests_per_endpoint > 0, "`limits.requests_per_endpoint` must not be 0"),
            (limits.connections > 0, "`limits.connections` must not be 0"),
            (limits.idle_connection_seconds > 0, "`limits.idle_connection_seconds` must not be 0"),
            (limits.slow_reader_seconds > 0, "`limits.slow_reader_seconds` must not be 0"),
            (limits.queued_sends > 0, "`limits.queued_sends` must not be 0"),
            (
                limits.ledger_grace_seconds >= longest_request,
                "`limits.ledger_grace_seconds` must be twice the request timeout or more",
            ),
            (
                self.replies.is_sound(),
                "`replies`: a period is a whole number of epochs, none is 0, and the grace is no longer than an epoch",
            ),
        ];
        match rules.into_iter().chain(self.operation.rules()).find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError::Invalid(rule)),
            None => Ok(()),
        }
    }

    /// The configuration as TOML, fit for a log: a password in the database URL is left out.
    pub fn redacted(&self) -> String {
        let mut shown = self.clone();
        shown.database = postern_store::redacted(&self.database);
        toml::to_string(&shown).unwrap_or_default()
    }
}

/// Names stand in signed headers and in token challenges.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"')
}

fn is_base_url(text: &str) -> bool {
    let server = text.parse::<ServerUrl>().ok().and_then(|server| url::Url::parse(server.base()).ok());
    server.is_some_and(|url| url.has_host() && url.username().is_empty()) && !text.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> String {
        format!(
            "name = \"relay.example\"\nlisten = \"127.0.0.1:0\"\nurl = \"http://127.0.0.1:1\"\n\
             database = \"postgres://relay:hunter2@db/relay\"\nsecret_key_file = \"secret.key\"\n\
             [issuer]\nname = \"issuer.example\"\nurl = \"http://127.0.0.1:2\"\npublic_key = \"{}\"\n",
            SigningPublicKey([1; 32])
        )
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_section() {
        assert!(toml::from_str::<Config>(&sample()).is_ok());
        for extra in
            ["[limits]\nquota_mesages = 5\n", "[replies]\nepoch = 5\n", "[operation]\nmetric = 5\n", "[surprise]\n"]
        {
            assert!(toml::from_str::<Config>(&format!("{}{extra}", sample())).is_err(), "{extra}");
        }
        assert!(toml::from_str::<Config>(&format!("surprise = 1\n{}", sample())).is_err());
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_by_its_line_and_its_password_is_not_shown() {
        let broken = sample().replace("hunter2@db/relay\"", "hunter2@db/relay");
        let error = Config::parse(Path::new("relay.toml"), &broken).unwrap_err().to_string();
        assert!(error.starts_with("relay.toml, line 4: ") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn it_prints_itself_without_the_password() {
        let config: Config = toml::from_str(&sample()).unwrap();
        let shown = config.redacted();
        assert!(shown.contains("relay.example") && !shown.contains("hunter2"), "{shown}");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(toml::from_str::<Config>(&shown).unwrap().limits, Limits::default());
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let good: Config = toml::from_str(&sample()).unwrap();
        assert!(good.check().is_ok());
        let mut bad = good.clone();
        bad.name = "a, b".into();
        assert!(bad.check().is_err());
        let mut bad = good.clone();
        bad.url.push('/');
        assert!(bad.check().is_err());
        let mut bad = good.clone();
        bad.limits.ledger_grace_seconds = 1;
        assert!(bad.check().is_err());
        let mut bad = good;
        bad.replies.period_seconds += 1;
        assert!(bad.check().is_err());
    }

    #[test]
    fn what_is_not_said_about_replies_is_the_default() {
        let config: Config = toml::from_str(&format!("{}[replies]\ngrace_seconds = 5\n", sample())).unwrap();
        assert_eq!(config.replies, ReplyPolicy { grace_seconds: 5, ..ReplyPolicy::default() });
        assert_eq!(toml::from_str::<Config>(&sample()).unwrap().replies, ReplyPolicy::default());
    }
}
