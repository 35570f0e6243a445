//! The files that `init` makes and `add-relay` changes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use postern_operate::OPERATION_TEMPLATE;
use postern_protocol::ids::{ServerPin, SigningPublicKey};
use postern_protocol::time::Timestamp;
use postern_tls::{Make, SelfSigned};
use rand_core::CryptoRng;

use super::CliError;
use crate::config::Config;
use crate::secrets;

/// What the configuration is to say.
pub(super) struct New<'a> {
    pub(super) name: &'a str,
    pub(super) listen: SocketAddr,
    pub(super) url: &'a str,
    pub(super) texts: Option<PathBuf>,
    /// None: a file in the directory.
    pub(super) database: Option<String>,
    pub(super) tls: Option<Make>,
}

/// What was made.
pub(super) struct Made {
    pub(super) config: PathBuf,
    pub(super) ca_certificate: PathBuf,
    /// Of the key for TLS, if one was made.
    pub(super) fingerprint: Option<ServerPin>,
}

/// Makes configuration, root secret and CA certificate. Nothing is overwritten.
pub(super) fn make(rng: &mut impl CryptoRng, now: Timestamp, dir: &Path, new: New<'_>) -> Result<Made, CliError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| CliError::File(dir.to_owned(), e))?;
    let dir = dir.canonicalize().map_err(|e| CliError::File(dir.to_owned(), e))?;
    let config = dir.join("issuer.toml");
    let name = new.name;
    Config::parse(&config, &template(&dir, &new, None))?.check()?;
    let tls = new.tls.map(|how| how.make(&dir, new.url, now)).transpose()?;
    let text = template(&dir, &new, tls.as_ref());
    let ca_certificate = dir.join("ca.pem");
    let (root, ca_der) = secrets::create(rng, name, now)?;
    create(&dir.join("secret.key"), 0o600, secrets::root_to_text(&root).as_bytes())?;
    create(&ca_certificate, 0o644, secrets::to_pem(&ca_der).as_bytes())?;
    create(&config, 0o600, text.as_bytes())?;
    Ok(Made { config, ca_certificate, fingerprint: tls.map(|tls| tls.pin) })
}

fn create(path: &Path, mode: u32, contents: &[u8]) -> Result<(), CliError> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(|error| CliError::File(path.to_owned(), error))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn template(dir: &Path, new: &New<'_>, tls: Option<&SelfSigned>) -> String {
    let New { name, listen, url, texts, database, .. } = new;
    let url = tls.map_or(*url, |tls| &tls.url);
    let database = database.clone().unwrap_or_else(|| format!("sqlite://{}", dir.join("issuer.db").display()));
    let console = texts.as_ref().map_or_else(
        || "# file = \"texts.log\"   # instead of standard output".to_owned(),
        |file| format!("file = {}", quoted(&file.to_string_lossy())),
    );
    TEMPLATE
        .replace("{operation}", OPERATION_TEMPLATE)
        .replace("{name}", &quoted(name))
        .replace("{listen}", &quoted(&listen.to_string()))
        .replace("{url}", &quoted(url))
        .replace("{database}", &quoted(&database))
        .replace("{console}", &console)
        .replace("{tls}", &postern_tls::section(tls.map(|tls| &tls.files)))
}

const TEMPLATE: &str = r#"# Configuration of postern-issuer. Unknown keys are refused; `postern-issuer check-config` shows all values in force.

# The name in tokens, JWTs and logins. Changing it voids all of them.
name = {name}
listen = {listen}
# Under which clients and relays reach it.
url = {url}
# sqlite:///absolute/path.db, or postgres://user:password@host/database?sslmode=verify-full; file:NAME reads it from a file
database = {database}
# The root secret: whoever has it is this issuer, and without it logins and keys in the database cannot be read. Keep a copy offline.
secret_key_file = "secret.key"
ca_certificate_file = "ca.pem"

[limits]
# tokens_per_account = 5              # ever (M6)
# setup_seconds = 3600                # to ask for the rest of them
# code_seconds = 600                  # how long a texted code is good
# code_tries = 5                      # for one code
# countries = [41, 49]                # calling codes that are served; empty: all
# texts_per_number_per_day = 5
# texts_per_prefix_per_day = 1000     # numbers that differ in their last four digits alone
# texts_per_day = 10000               # the budget breaker
# number_types = ["mobile", "fixed-line-or-mobile", "fixed-line", "voip"]  # that are served; also: "unknown"
# texts_per_prefix_per_hour = 300     # by one process; see docs/texts.md
# texts_per_range_per_hour = 3000     # numbers that differ in their last six digits alone
# unanswered_texts_per_prefix = 60    # codes that did not come back; half of them is forgotten each hour
# unanswered_texts_per_range = 1000
# texts_per_answer = 4                # how many texts a code that came back makes up for
# login_guesses_per_user = 10         # in login_window_seconds
# login_window_seconds = 900
# login_guesses_per_minute = 600      # of all users
# session_seconds = 7776000           # 90 days
# sessions_per_account = 32
# jwt_seconds = 600
# grant_seconds = 86400
# certificate_seconds = 63072000      # 2 years
# registration_replay_seconds = 86400
# exchange_multiple = 4               # exchanges per relay and key: this many for each token issued …
# exchange_base = 16                  # … and this many besides
# key_overlap_seconds = 2592000       # 30 days
# directory_max_age_seconds = 60
# request_timeout_seconds = 30
# concurrent_requests = 256           # handled at a time …
# requests_per_endpoint = 192         # … and of these by one endpoint
# connections = 16384                 # with one more, the one idle for longest is closed
# idle_connection_seconds = 30        # with nothing to answer; a head that is not all there is nothing
# slow_reader_seconds = 30            # for 64 KiB of an answer
# answer_bytes = 268435456            # of answers above 64 KiB that wait to be read, in all
# housekeeping_seconds = 60

# Contact discovery.
[lookup]
# quota_first = 2000                  # numbers an account may look up in its first window …
# quota_window = 50                   # … and in each later one
# window_seconds = 86400              # cannot be changed later: windows are counted from 1970 on
# grace_seconds = 3600                # how long after its window a look-up token is still taken
# build_seconds = 86400               # how often the directory is built
# keep_builds = 8                     # builds that are served

{tls}
{operation}

# How texts are sent (docs/texts.md). Several are tried in this order. `console` is for development: whoever reads it can register any
# number. `synthetic` is for load tests on this machine: no texts, no real numbers, and accounts for whoever asks (docs/load.md).
[[gateway]]
kind = "console"
{console}

# [[gateway]]
# kind = "kannel"
# url = "http://127.0.0.1:13013/cgi-bin/sendsms"
# user = "postern"
# password_file = "kannel.password"   # chmod 600
# from = "Postern"
# countries = [41]                    # calling codes that it is used for; without: all

# [[gateway]]
# kind = "twilio"                     # or a service of its shape, with url = "https://…"
# account = "AC…"
# auth_token_file = "twilio.token"    # chmod 600
# from = "+12025550100"
# voice = true                        # calls too

# Relays are added by `postern-issuer add-relay`. `enabled = false` in its section cuts a relay off.
"#;

/// Appends a relay to the configuration, so that its comments stay, and replaces the file in one step.
pub(super) fn add_relay(path: &Path, name: &str, url: &str, public_key: &SigningPublicKey) -> Result<(), CliError> {
    let file_error = |error| CliError::File(path.to_owned(), error);
    let mut text = std::fs::read_to_string(path).map_err(file_error)?;
    text.push_str(&format!(
        "\n[[relay]]\nname = {}\nurl = {}\npublic_key = {}\n",
        quoted(name),
        quoted(url),
        quoted(&public_key.to_string())
    ));
    let config = Config::parse(path, &text)?;
    config.check()?;
    let new = path.with_extension("toml.new");
    let _ = std::fs::remove_file(&new);
    create(&new, 0o600, text.as_bytes())?;
    std::fs::rename(&new, path).map_err(file_error)?;
    // The directory remembers the new name only once it is synced too.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Limits, Lookup};

    #[test]
    fn what_init_writes_has_every_setting_with_its_default() {
        let listen = "127.0.0.1:7000".parse().unwrap();
        let new = New { name: "issuer.example", listen, url: "https://i", texts: None, database: None, tls: None };
        let text = template(Path::new("/somewhere"), &new, None);
        let read = Config::parse(Path::new("issuer.toml"), &text).unwrap();
        assert_eq!((&read.limits, &read.lookup), (&Limits::default(), &Lookup::default()));
        assert_eq!(read.operation, postern_operate::Operation::default());
        for section in [toml::Value::try_from(&read.limits), toml::Value::try_from(&read.lookup)] {
            for (key, value) in section.unwrap().as_table().unwrap() {
                // The one list: an example says more than the empty one.
                let said = if value.is_array() { format!("\n# {key} = [") } else { format!("\n# {key} = {value}") };
                assert!(text.contains(&said), "{said}");
            }
        }
    }
}
