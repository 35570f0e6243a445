//! The command `postern-issuer`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use postern_listen::{ListenError, Listener};
use postern_operate::{LogArgs, LogError, start_metrics, version_line};
use postern_protocol::ids::{PhoneNumber, SigningPublicKey};
use postern_protocol::time::Clock;
use postern_store::{Db, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{Issuer, OpenError, Parts, serve};
use crate::config::{Config, ConfigError};
use crate::db::MIGRATIONS;
use crate::error::Refusal;
use crate::gateway::{self, Gateways};
use crate::metrics::operated;
use crate::random::Randomness;
use crate::secrets::{Secrets, SecretsError};
use crate::service::{account, directory, keys, lookup};

mod doctor;
mod files;
mod texts;

use files::New;

/// The issuer of Postern: phone numbers, accounts, certificates, blind signatures, logins.
#[derive(Parser)]
#[command(name = "postern-issuer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a directory with configuration, secret key, CA certificate and database; print the public key as JSON.
    Init {
        /// The directory; made if it is not there. Nothing in it is overwritten.
        #[arg(long)]
        dir: PathBuf,
        /// The issuer's name in tokens and JWTs, normally its host name.
        #[arg(long)]
        name: String,
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// The URL that clients and relays reach it under.
        #[arg(long)]
        url: String,
        /// For development: the file that texts are written to instead of standard output.
        #[arg(long)]
        texts: Option<PathBuf>,
        /// The database to write into the configuration, if not a SQLite file in the directory; a PostgreSQL one must be there.
        #[arg(long, env = "POSTERN_ISSUER_DATABASE", hide_env_values = true, value_name = "URL")]
        database: Option<String>,
        /// Serve TLS, with a key and certificate made here; the fingerprint of the key becomes part of the URL.
        #[arg(long)]
        tls: Option<postern_tls::Make>,
    },
    /// Serve until SIGTERM or Ctrl-C.
    Serve(OfConfig),
    /// Make a new token key; tokens of the old one are accepted for a while longer.
    RotateKeys {
        #[command(flatten)]
        of: OfConfig,
        /// How long, in seconds, instead of `key_overlap_seconds`.
        #[arg(long)]
        overlap: Option<u64>,
    },
    /// Erase the token keys whose time is over; `serve` does so by itself.
    RetireKeys(OfConfig),
    /// Build the directory of listed accounts now; `serve` does so every `build_seconds`.
    BuildDirectory(OfConfig),
    /// Change the key that phone numbers are evaluated with, from the next build of the directory on.
    RotateLookupKey(OfConfig),
    /// Revoke the certificate of a number: it leaves the directory with the next build, its sessions end, no login succeeds
    /// until the number registers again.
    Revoke {
        #[command(flatten)]
        of: OfConfig,
        /// The number, as in `+41791234567`.
        #[arg(long)]
        phone: PhoneNumber,
    },
    /// Add a relay to the configuration; a running issuer has to be restarted.
    AddRelay {
        #[command(flatten)]
        of: OfConfig,
        /// The relay's name, as in its configuration.
        #[arg(long)]
        name: String,
        /// The URL that clients reach it under.
        #[arg(long)]
        url: String,
        /// As `postern-relay init` printed it.
        // One key in 64 begins with a hyphen.
        #[arg(long, allow_hyphen_values = true)]
        public_key: SigningPublicKey,
    },
    /// Send a text to a phone by a gateway, or by each, and print what it said: to try them out.
    TestText(texts::TestText),
    /// Check the configuration and the files it names, and print it with all defaults.
    CheckConfig(OfConfig),
    /// Bring the database's schema up to date and end; `serve` does so as well.
    Migrate(OfConfig),
    /// Look at configuration, keys, database, clock, disk and network; say what to do about each, and fail if something is broken.
    Doctor(OfConfig),
    /// Print name, version, commit and schema as one line of JSON.
    Version,
}

#[derive(clap::Args)]
struct OfConfig {
    /// The configuration file.
    #[arg(long, env = "POSTERN_ISSUER_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// The database, in place of the configuration's: `sqlite:///path/file.db`, `postgres://user:password@host/database`, or `file:NAME` of a
    /// file with either in it. Other users of the machine see a command line; a password is better off in such a file.
    #[arg(long, env = "POSTERN_ISSUER_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// Where to listen, in place of the configuration's, IP:PORT.
    #[arg(long, env = "POSTERN_ISSUER_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogArgs,
}

impl OfConfig {
    /// The configuration with what the command line and the environment say over it.
    fn load(&self) -> Result<Config, CliError> {
        let mut config = Config::load(&self.config, self.database.as_deref())?;
        if let Some(listen) = self.listen {
            config.listen = listen;
            config.check()?;
        }
        Ok(config)
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("TLS: {0}")]
    Tls(#[from] postern_tls::TlsError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("something is broken; see above")]
    Ill,
    #[error("the database has no token key: it is not the one that `init` made, or it was lost")]
    NoKey,
    #[error("another process is building the directory; if it died, this works again ten minutes after its last step")]
    Building,
    #[error("no gateway, or not each, took the text")]
    NoText,
    #[error("this number has no account, or its account is revoked already")]
    NoAccount,
}

/// What can be written on the command line, for manuals and completions.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &CliError) -> ExitCode {
    eprintln!("postern-issuer: {error}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Init { dir, name, listen, url, texts, database, tls } => {
            init(&dir, New { name: &name, listen, url: &url, texts, database, tls }).await
        }
        Command::Serve(of) => run_server(&of).await,
        Command::RotateKeys { of, overlap } => rotate(&of, overlap).await,
        Command::RetireKeys(of) => {
            let issuer = open(&of).await?;
            keys::retire(&issuer, None).await?;
            issuer.close().await;
            Ok(())
        }
        Command::BuildDirectory(of) => build_directory(&of).await,
        Command::RotateLookupKey(of) => {
            let issuer = open(&of).await?;
            let epoch = lookup::rotate(&issuer).await?;
            issuer.close().await;
            say(&serde_json::json!({ "next_epoch": epoch }).to_string())
        }
        Command::Revoke { of, phone } => revoke(&of, &phone).await,
        Command::AddRelay { of, name, url, public_key } => files::add_relay(&of.config, &name, &url, &public_key),
        Command::TestText(args) => texts::test(&args).await,
        Command::Migrate(of) => migrate(&of).await,
        Command::Doctor(of) => {
            let (report, is_well) = doctor::examine(&of).await;
            say(&report)?;
            if is_well { Ok(()) } else { Err(CliError::Ill) }
        }
        Command::Version => say(&version_line("postern-issuer", env!("CARGO_PKG_VERSION"), schema())),
        Command::CheckConfig(of) => {
            let config = of.load()?;
            Secrets::load(&config.secret_key_file, &config.ca_certificate_file)?;
            config.tls.clone().map(postern_tls::ServerTls::load).transpose()?;
            Gateways::open(&config)?;
            say(&config.redacted()?)
        }
    }
}

/// To standard output; a closed pipe is an error like any other.
fn say(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    Ok(out.flush()?)
}

async fn init(dir: &Path, new: New<'_>) -> Result<(), CliError> {
    let random = Randomness::system();
    let name = new.name;
    let made = files::make(&mut random.generator(), SystemClock.now(), dir, new)?;
    let issuer =
        open(&OfConfig { config: made.config.clone(), database: None, listen: None, log: LogArgs::default() }).await?;
    keys::rotate(&issuer, issuer.config.limits.key_overlap_seconds).await?;
    let line = serde_json::json!({
        "name": name,
        "url": issuer.config.url,
        "public_key": keys::info(&issuer).public_key,
        "config": made.config,
        "ca_certificate": made.ca_certificate,
        "fingerprint": made.fingerprint,
    });
    issuer.close().await;
    say(&line.to_string())
}

/// The newest version of the schema that this program knows.
fn schema() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

async fn migrate(of: &OfConfig) -> Result<(), CliError> {
    let config = of.load()?;
    of.log.start(&config.operation)?;
    Db::open(&config.database, MIGRATIONS).await.map_err(OpenError::Store)?.close().await;
    say(&serde_json::json!({ "schema": schema() }).to_string())
}

async fn open(of: &OfConfig) -> Result<Arc<Issuer>, CliError> {
    let config = of.load()?;
    of.log.start(&config.operation)?;
    let secrets = Secrets::load(&config.secret_key_file, &config.ca_certificate_file)?;
    let gateways = Gateways::open(&config)?;
    let clock = Arc::new(SystemClock);
    Ok(Issuer::open(Parts { config, secrets, clock, random: Randomness::system(), gateways }).await?)
}

async fn rotate(of: &OfConfig, overlap: Option<u64>) -> Result<(), CliError> {
    let issuer = open(of).await?;
    let overlap = overlap.unwrap_or(issuer.config.limits.key_overlap_seconds);
    let active = keys::rotate(&issuer, overlap).await?;
    issuer.close().await;
    say(&serde_json::json!({ "active": active, "overlap_seconds": overlap }).to_string())
}

async fn build_directory(of: &OfConfig) -> Result<(), CliError> {
    let issuer = open(of).await?;
    let built = directory::build(&issuer).await?;
    issuer.close().await;
    say(&serde_json::json!({ "build": built.ok_or(CliError::Building)? }).to_string())
}

async fn revoke(of: &OfConfig, phone: &PhoneNumber) -> Result<(), CliError> {
    let issuer = open(of).await?;
    let revoked = account::revoke(&issuer, phone).await?;
    issuer.close().await;
    if revoked { say(&serde_json::json!({ "revoked": true }).to_string()) } else { Err(CliError::NoAccount) }
}

async fn run_server(of: &OfConfig) -> Result<(), CliError> {
    let issuer = open(of).await?;
    if !keys::can_sign(&issuer).await? {
        return Err(CliError::NoKey);
    }
    gateway::warn(&issuer.config);
    let listener = Listener::bind(issuer.config.listen, issuer.config.tls.as_ref()).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    start_metrics(issuer.config.operation.metrics, operated(&issuer)).await?;
    say(&listener.line()?)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    serve(issuer, listener, stop).await;
    Ok(())
}
