//! The command line: `init`, `serve`, `check-config`.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use postern_credentials::secrets::RootSecret;
use postern_listen::Listener;
use postern_operate::{LogArgs, OPERATION_TEMPLATE, Operation, read_secret, start_metrics, version_line};
use postern_protocol::ids::{SigningPublicKey, decode_base64, encode_base64};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::time::Clock;
use postern_store::{Db, SystemClock};
use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::app::{App, RngFactory, StartError, identity};
use crate::config::{Config, IssuerConfig, Limits};
use crate::db::MIGRATIONS;

mod doctor;

/// The relay of Postern: mailboxes, the token ledger, queues.
#[derive(Parser)]
#[command(name = "postern-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a configuration and a key, and prints what the issuer must be told as one line of JSON.
    Init(Init),
    /// Serves until SIGTERM or ctrl-c. Prints one line once it listens; logs go to stderr.
    Serve(OfConfig),
    /// Reads a configuration and its key, and prints what is in force, without secrets.
    CheckConfig(OfConfig),
    /// Brings the database's schema up to date and ends; `serve` does so as well.
    Migrate(OfConfig),
    /// Looks at configuration, keys, database, clock, disk and network; says what to do about each, and fails if something is broken.
    Doctor(OfConfig),
    /// Prints name, version, commit and schema as one line of JSON.
    Version,
}

#[derive(clap::Args)]
struct OfConfig {
    /// The configuration file.
    #[arg(long, env = "POSTERN_RELAY_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// The database, in place of the configuration's: `sqlite:///path/file.db`, `postgres://user:password@host/database`, or `file:NAME` of a
    /// file with either in it. Other users of the machine see a command line; a password is better off in such a file.
    #[arg(long, env = "POSTERN_RELAY_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// Where to listen, in place of the configuration's, IP:PORT.
    #[arg(long, env = "POSTERN_RELAY_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogArgs,
}

impl OfConfig {
    /// The configuration with what the command line and the environment say over it.
    fn load(&self) -> Result<Config, StartError> {
        let mut config = Config::load(&self.config, self.database.as_deref())?;
        if let Some(listen) = self.listen {
            config.listen = listen;
            config.check()?;
        }
        Ok(config)
    }
}

#[derive(clap::Args)]
struct Init {
    /// Where `relay.toml`, `secret.key` and the database go.
    #[arg(long)]
    dir: PathBuf,
    /// The relay's name; tokens are bound to it for ever.
    #[arg(long)]
    name: String,
    /// Where to listen, IP:PORT.
    #[arg(long)]
    listen: SocketAddr,
    /// Under which URL clients reach it.
    #[arg(long)]
    url: String,
    /// The issuer's name.
    #[arg(long)]
    issuer_name: String,
    /// The issuer's base URL.
    #[arg(long)]
    issuer_url: String,
    /// The issuer's public key, base64url, as its own `init` prints it.
    // One key in 64 begins with a hyphen.
    #[arg(long, allow_hyphen_values = true)]
    issuer_public_key: SigningPublicKey,
    /// The database to write into the configuration, if not a SQLite file in the directory; a PostgreSQL one must be there.
    #[arg(long, env = "POSTERN_RELAY_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// Serve TLS, with a key and certificate made here; the fingerprint of the key becomes part of the URL.
    #[arg(long)]
    tls: Option<postern_tls::Make>,
}

/// What can be written on the command line, for manuals and completions.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// The whole program: reads the command line, does it, and says how it went.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Init(arguments) => init(arguments),
        Command::Serve(of) => serve(&of),
        Command::CheckConfig(of) => check(&of),
        Command::Migrate(of) => migrate(&of),
        Command::Doctor(of) => doctor(&of),
        Command::Version => say(&version_line("postern-relay", env!("CARGO_PKG_VERSION"), schema())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn io(what: impl Display) -> impl FnOnce(std::io::Error) -> StartError {
    move |error| StartError::Io(what.to_string(), error)
}

fn init(arguments: Init) -> Result<(), StartError> {
    let dir = &arguments.dir;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir.display()))?;
    let dir = dir.canonicalize().map_err(io(dir.display()))?;
    let mut config = Config {
        name: arguments.name,
        listen: arguments.listen,
        url: arguments.url.trim_end_matches('/').to_owned(),
        database: arguments.database.unwrap_or_else(|| format!("sqlite://{}", dir.join("relay.db").display())),
        secret_key_file: PathBuf::from("secret.key"),
        enforce: true,
        issuer: IssuerConfig {
            name: arguments.issuer_name,
            url: arguments.issuer_url.trim_end_matches('/').to_owned(),
            public_key: arguments.issuer_public_key,
        },
        tls: None,
        limits: Limits::default(),
        replies: ReplyPolicy::default(),
        operation: Operation::default(),
    };
    config.check()?;
    let made = arguments.tls.map(|how| how.make(&dir, &config.url, SystemClock.now())).transpose()?;
    if let Some(made) = &made {
        (config.url, config.tls) = (made.url.clone(), Some(made.files.clone()));
    }
    let root = RootSecret::generate(&mut UnwrapErr(SysRng));
    let key_text = Zeroizing::new(encode_base64(root.expose()));
    // The key first: a configuration without one would look ready.
    write_new(&dir.join(&config.secret_key_file), 0o600, key_text.as_bytes())?;
    let file = dir.join("relay.toml");
    // A database URL may hold a password.
    write_new(&file, 0o600, template(&config).as_bytes())?;
    let line = serde_json::json!({
        "name": config.name,
        "url": config.url,
        "public_key": identity(&root).public(),
        "config": file,
        "fingerprint": made.map(|made| made.pin),
    });
    println!("{line}");
    Ok(())
}

/// Never over a file that is there: that key may hold a ledger together.
fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), StartError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all())).map_err(io(path.display()))
}

fn template(config: &Config) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let (limits, replies) = (&config.limits, &config.replies);
    format!(
        "# Postern relay. Unknown keys are refused; lines that begin with `# ` and a key show defaults.\n\n\
         # The origin of the token challenge and the audience of JWTs: tokens are bound to this name, so it cannot change.\n\
         name = {}\n\
         # Port 0 takes a free one.\n\
         listen = {}\n\
         # Under which clients reach it, without a trailing slash.\n\
         url = {}\n\
         # sqlite:///absolute/path.db, or postgres://user:password@host/database?sslmode=verify-full; file:NAME reads it from a file\n\
         database = {}\n\
         # 32 bytes, base64url; relative to this file. Whoever has it can pass for this relay at the issuer.\n\
         secret_key_file = {}\n\n\
         # Whether a message without a good token is refused. false: it is taken, and counted in public (docs/operating.md, Rollout).\n\
         # enforce = true\n\n\
         # Whose tokens and JWTs count here. Everything it says is checked against this key.\n\
         [issuer]\n\
         name = {}\n\
         url = {}\n\
         public_key = {}\n\n\
         [limits]\n\
         # How long a message waits to be read, and how much one mailbox holds.\n\
         # retention_seconds = {}\n\
         # quota_messages = {}\n\
         # quota_bytes = {}\n\
         # What a sender to a full mailbox is told to wait.\n\
         # quota_retry_seconds = {}\n\
         # How often the issuer is asked for its keys.\n\
         # key_refresh_seconds = {}\n\
         # How long after a key's end its ledger rows still answer retries.\n\
         # ledger_grace_seconds = {}\n\
         # The longest a request, and one call to the issuer, may take.\n\
         # request_timeout_seconds = {}\n\
         # issuer_timeout_seconds = {}\n\
         # Requests handled at a time; long polls and event streams open at a time, in all and for one mailbox.\n\
         # concurrent_requests = {}\n\
         # requests_per_endpoint = {}\n\
         # waiting_readers = {}\n\
         # waiting_readers_per_mailbox = {}\n\
         # Connections open at a time: with one more, the one that has had nothing to answer for longest is closed. How long that may be, a head\n\
         # that is not all there being nothing; and how long 64 KiB of an answer may take to be read.\n\
         # connections = {}\n\
         # idle_connection_seconds = {}\n\
         # slow_reader_seconds = {}\n\
         # Bytes of answers above 64 KiB that wait to be read, in all.\n\
         # answer_bytes = {}\n\
         # Messages and lists of verdicts that wait for the writer; more are told to come again.\n\
         # queued_sends = {}\n\
         # How often it is looked for what other processes wrote, and how often a silent stream says a word.\n\
         # recheck_milliseconds = {}\n\
         # heartbeat_seconds = {}\n\
         # How often retention is enforced.\n\
         # housekeeping_seconds = {}\n\
         # How many struck nullifiers and revealed seeds a mailbox has.\n\
         # strikes_per_mailbox = {}\n\
         # reveals_per_mailbox = {}\n\
         # How many unclaimed one-time prekeys a mailbox has, and how long the identical claim gets the identical answer.\n\
         # prekeys_per_mailbox = {}\n\
         # prekey_claim_seconds = {}\n\n\
         {}\n\
         # How time is counted for replies: a contact has so many an epoch, a credential is good for a period, and the previous epoch\n\
         # is still taken in the grace. Credentials name epochs by number: these cannot change while any are out, or all are refused.\n\
         [replies]\n\
         # epoch_seconds = {}\n\
         # period_seconds = {}\n\
         # grace_seconds = {}\n\n\
         {OPERATION_TEMPLATE}",
        quoted(&config.name),
        quoted(&config.listen.to_string()),
        quoted(&config.url),
        quoted(&config.database),
        quoted(&config.secret_key_file.display().to_string()),
        quoted(&config.issuer.name),
        quoted(&config.issuer.url),
        quoted(&config.issuer.public_key.to_string()),
        limits.retention_seconds,
        limits.quota_messages,
        limits.quota_bytes,
        limits.quota_retry_seconds,
        limits.key_refresh_seconds,
        limits.ledger_grace_seconds,
        limits.request_timeout_seconds,
        limits.issuer_timeout_seconds,
        limits.concurrent_requests,
        limits.requests_per_endpoint,
        limits.waiting_readers,
        limits.waiting_readers_per_mailbox,
        limits.connections,
        limits.idle_connection_seconds,
        limits.slow_reader_seconds,
        limits.answer_bytes,
        limits.queued_sends,
        limits.recheck_milliseconds,
        limits.heartbeat_seconds,
        limits.housekeeping_seconds,
        limits.strikes_per_mailbox,
        limits.reveals_per_mailbox,
        limits.prekeys_per_mailbox,
        limits.prekey_claim_seconds,
        postern_tls::section(config.tls.as_ref()),
        replies.epoch_seconds,
        replies.period_seconds,
        replies.grace_seconds,
    )
}

fn read_key(path: &Path) -> Result<RootSecret, StartError> {
    let text = read_secret(path)?;
    let bytes = decode_base64(&text).ok().map(Zeroizing::new);
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.map(RootSecret::from_bytes).ok_or_else(|| StartError::Key(path.display().to_string()))
}

fn check(of: &OfConfig) -> Result<(), StartError> {
    let config = of.load()?;
    read_key(&config.secret_key_file)?;
    config.tls.clone().map(postern_tls::ServerTls::load).transpose()?;
    print!("{}", config.redacted());
    Ok(())
}

fn serve(of: &OfConfig) -> Result<(), StartError> {
    let config = of.load()?;
    of.log.start(&config.operation)?;
    let root = read_key(&config.secret_key_file)?;
    runtime()?.block_on(run(config, root))
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(io("runtime"))
}

/// The newest version of the schema that this program knows.
fn schema() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

fn migrate(of: &OfConfig) -> Result<(), StartError> {
    let config = of.load()?;
    of.log.start(&config.operation)?;
    runtime()?.block_on(async {
        Db::open(&config.database, MIGRATIONS).await?.close().await;
        say(&serde_json::json!({ "schema": schema() }).to_string())
    })
}

fn doctor(of: &OfConfig) -> Result<(), StartError> {
    let (report, is_well) = runtime()?.block_on(doctor::examine(of));
    say(&report)?;
    if is_well { Ok(()) } else { Err(StartError::Ill) }
}

/// To standard output; a closed pipe is an error like any other.
fn say(text: &str) -> Result<(), StartError> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(io("standard output"))
}

async fn run(config: Config, root: RootSecret) -> Result<(), StartError> {
    let rng: RngFactory = Arc::new(|| Box::new(UnwrapErr(SysRng)));
    let listen = config.listen;
    let app = App::open(config, &root, Arc::new(SystemClock), rng).await?;
    drop(root);
    let mut terminate = signal(SignalKind::terminate()).map_err(io("signals"))?;
    let listener = Listener::bind(listen, app.config.tls.as_ref()).await?;
    println!("{}", listener.line().map_err(io(listen))?);
    start_metrics(app.config.operation.metrics, app.operated()).await.map_err(io("metrics"))?;
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping");
    };
    app.serve(listener, told).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_read_back_and_every_limit_is_in_it() {
        let config = Config {
            name: "relay \\ \"x\"".into(),
            listen: "127.0.0.1:7000".parse().unwrap(),
            url: "https://relay.example".into(),
            database: "sqlite:///tmp/relay.db".into(),
            secret_key_file: "secret.key".into(),
            enforce: true,
            issuer: IssuerConfig {
                name: "issuer.example".into(),
                url: "https://issuer.example".into(),
                public_key: SigningPublicKey([7; 32]),
            },
            tls: None,
            limits: Limits::default(),
            replies: ReplyPolicy::default(),
            operation: Operation::default(),
        };
        let text = template(&config);
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
        // The same with every default uncommented.
        for section in [toml::Value::try_from(&config.limits), toml::Value::try_from(config.replies)] {
            for (key, value) in section.unwrap().as_table().unwrap() {
                assert!(text.contains(&format!("\n# {key} = {value}\n")), "{key}");
            }
        }
    }
}
