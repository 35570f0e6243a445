//! The commands, each a few lines: open the profile, call the library, say what came of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_protocol::texts::Channel;
use postern_protocol::time::{Clock as _, Timestamp};
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::answer::{Answer, error_json};
use super::args::{Cli, Command, ContactsAction, Global, Register, SessionAction, SettingsArgs};
use super::progress::spinning;
use super::{SystemClock, ask, lookup, people, show, system_rng};
use crate::channel::{Network, Route};
use crate::client::Client;
use crate::doctor::Health;
use crate::error::{Error, Result};
use crate::names::hex;
use crate::profile::{KdfParams, Patience, Profile};
use crate::read::{Folder, Message};
use crate::register::Started;
use crate::send::{Delivery, SendOptions, Target};
use crate::settings::Settings;
use crate::sync::SyncReport;

pub(super) type RealClient = Client<SystemClock, StdRng>;

/// How long a command waits for another one to leave the profile.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long `sync --watch` sleeps when the relay cannot be waited at.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Runs a command.
pub(super) async fn run(cli: Cli) -> Result<Answer> {
    let global = &cli.global;
    match cli.command {
        Command::Register(args) => register(global, &args).await,
        Command::Verify { code } => verify(global, code.as_deref()).await,
        Command::Login => login(global).await,
        Command::Card => card(&open(global)?),
        Command::Send { to, text, spend_token } => send(global, &to, text, SendOptions { spend_token }).await,
        Command::Inbox { junk, wait } => inbox(global, junk, wait).await,
        Command::Read { id } => {
            let message = open(global)?.read_message(&id)?;
            Ok(Answer::new(json!({ "message": message }), show::message(&message, now())))
        }
        Command::Accept { id } => judge(global, |client| client.accept(&id)).await,
        Command::Decline { id } => judge(global, |client| client.decline(&id)).await,
        Command::Spam { id } => judge(global, |client| client.spam(&id)).await,
        Command::Block { contact, reveal } => people::block(&mut open(global)?, global.json, &contact, reveal).await,
        Command::Unblock { contact } => people::unblock(&mut open(global)?, global.json, &contact).await,
        Command::Who { id } => people::who(&open(global)?, &id),
        Command::RotateReplyKey { at_once } => people::rotate(&mut open(global)?, global.json, at_once).await,
        Command::Contacts { action: None } => people::contacts(&open(global)?),
        Command::Contacts { action: Some(ContactsAction::Import { file, country }) } => {
            lookup::import(&mut open(global)?, global.json, &file, country.as_deref(), now()).await
        }
        Command::Find { numbers } => lookup::find(&mut open(global)?, global.json, &numbers, now()).await,
        Command::Tokens => tokens(global).await,
        Command::Sessions { action } => sessions(global, action).await,
        Command::Sync { watch: false } => {
            let mut client = open(global)?;
            let report = spinning(global.json, "syncing", client.sync()).await?;
            Ok(sync_answer(&report))
        }
        Command::Sync { watch: true } => watch(global).await,
        Command::Settings(args) => settings(global, &args),
        Command::Doctor => doctor(global).await,
        Command::Demo(_) => Err(Error::Internal("the demo runs elsewhere")),
    }
}

fn now() -> u64 {
    SystemClock.now().seconds()
}

fn profile_path(global: &Global) -> Result<PathBuf> {
    let dir = match &global.data_dir {
        Some(dir) => dir.clone(),
        None => directories::ProjectDirs::from("", "", "postern")
            .map(|dirs| dirs.data_dir().to_owned())
            .ok_or_else(|| Error::Invalid("no home directory: name one with --data-dir".to_owned()))?,
    };
    Profile::path(&dir, &global.profile)
}

/// Calls `work` with how patient this command is.
fn patiently<T>(global: &Global, work: impl FnOnce(&Patience<'_>) -> T) -> T {
    let json = global.json;
    let on_wait = move || {
        if !json {
            eprintln!("waiting for another postern command to leave this profile …");
        }
    };
    work(&Patience { wait: PATIENCE, on_wait: &on_wait })
}

fn open(global: &Global) -> Result<RealClient> {
    open_with(global, &profile_path(global)?, &ask::password(global)?)
}

fn open_with(global: &Global, path: &Path, password: &str) -> Result<RealClient> {
    if !Profile::exists(path) {
        return Err(Error::NoProfile);
    }
    let profile = patiently(global, |patience| Profile::open(path, password, patience))?;
    client(global, profile)
}

fn client(global: &Global, profile: Profile) -> Result<RealClient> {
    let mut client = Client::new(profile, SystemClock, system_rng()?, Network::default());
    if let Some(route) = route(global)? {
        client.set_route(route);
    }
    Ok(client)
}

/// The route that the command line names, if it names one.
fn route(global: &Global) -> Result<Option<Route>> {
    match &global.proxy {
        Some(proxy) => Route::socks(proxy).map(Some),
        None => Ok(global.direct.then_some(Route::Direct)),
    }
}

async fn register(global: &Global, args: &Register) -> Result<Answer> {
    let phone = args.phone.parse().map_err(|e: postern_protocol::ids::NotE164| Error::Invalid(e.to_string()))?;
    let key = args.issuer_key.as_deref().map(str::parse).transpose();
    let key = key.map_err(|_| Error::Invalid("the issuer's key is 43 characters of base64url".to_owned()))?;
    let path = profile_path(global)?;
    let mut client = if Profile::exists(&path) {
        open(global)?
    } else {
        let password = ask::new_password(global)?;
        let kdf = if args.cheap_kdf { KdfParams::CHEAP } else { KdfParams::STRONG };
        let rng = &mut system_rng()?;
        client(global, patiently(global, |patience| Profile::create(&path, &password, kdf, rng, patience))?)?
    };
    if let Some(route) = route(global)? {
        client.change_settings(|settings| settings.route = route)?;
    }
    let channel = args.voice.then_some(Channel::Voice);
    let asking = client.start_registration(&args.issuer, phone, key, channel);
    let started = spinning(global.json, "asking for a code", asking).await?;
    Ok(match started {
        Started::CodeSent { expires, digits, channel } => {
            let way = match channel {
                Channel::Text => "A text with",
                Channel::Voice => "A call that says",
            };
            Answer::new(
                json!({ "status": "code-sent", "expires": expires, "digits": digits, "channel": channel }),
                format!("{way} {digits} digits is on its way.\nThen run: postern verify CODE"),
            )
        }
        Started::AlreadyThrough => Answer::new(
            json!({ "status": "registered" }),
            "The earlier registration had gone through.\nComplete it with: postern verify",
        ),
    })
}

async fn verify(global: &Global, code: Option<&str>) -> Result<Answer> {
    let password = ask::password(global)?;
    let mut client = open_with(global, &profile_path(global)?, &password)?;
    spinning(global.json, "registering", client.verify_code(code, &password)).await?;
    let (link, tokens, account) = (client.card_link()?, client.tokens()?.left, client.account()?);
    let json = json!({
        "status": "registered", "phone": account.phone.as_str(), "card": link.to_string(), "tokens_left": tokens,
    });
    let text =
        format!("{} is registered, with {tokens} tokens.\nShow your card with: postern card", account.phone.as_str());
    Ok(Answer::new(json, text))
}

async fn login(global: &Global) -> Result<Answer> {
    let password = ask::password(global)?;
    let mut client = open_with(global, &profile_path(global)?, &password)?;
    spinning(global.json, "logging in", client.log_in(&password)).await?;
    Ok(Answer::new(json!({ "status": "logged-in" }), "Logged in."))
}

fn card(client: &RealClient) -> Result<Answer> {
    let (link, account) = (client.card_link()?.to_string(), client.account()?);
    Ok(Answer::new(json!({ "link": link, "phone": account.phone.as_str() }), show::card(&link)))
}

async fn send(global: &Global, to: &str, text: Option<String>, options: SendOptions) -> Result<Answer> {
    let target: Target = to.parse()?;
    let text = match text {
        Some(text) => text,
        None => {
            let mut input = String::new();
            std::io::stdin()
                .read_to_string(&mut input)
                .map_err(|_| Error::Invalid("standard input is not text (UTF-8)".to_owned()))?;
            input
        }
    };
    let mut client = open(global)?;
    // Nothing else on the way: a login or a fetch at the same moment would tell the servers who is sending.
    let sent = spinning(global.json, "sending", client.send_with(&target, &text, options)).await?;
    let (status, reason) = match &sent.delivery {
        Delivery::Delivered => ("delivered", Value::Null),
        Delivery::Queued(error) => ("queued", error_json(error)),
    };
    let mut words = match &sent.delivery {
        Delivery::Delivered => format!("Delivered to {}.", sent.phone),
        Delivery::Queued(error) => {
            format!(
                "To {}: not confirmed yet ({error}).\nThe identical message goes again at the next `postern sync`.",
                sent.phone
            )
        }
    };
    words.push_str(&format!("\n{}{}", show::paid(&sent), show::first_key(&sent)));
    let json = json!({
        "id": sent.id, "to": sent.phone, "status": status, "reason": reason,
        "tokens_left": sent.tokens_left, "paid": sent.paid, "first_key": sent.first_key,
    });
    Ok(Answer::new(json, words))
}

async fn inbox(global: &Global, junk: bool, wait: u64) -> Result<Answer> {
    let mut client = open(global)?;
    let deadline = SystemClock.now().plus_seconds(wait);
    let mut report = spinning(global.json, "fetching", client.sync()).await?;
    while is_quiet(&report) && SystemClock.now() < deadline {
        spinning(global.json, "waiting for messages", wait_for_mail(global, &mut client, deadline)).await?;
        report = client.sync().await?;
    }
    let folders: &[Folder] = if junk { &[Folder::Junk] } else { &[Folder::Inbox, Folder::Requests] };
    let messages = client.messages(folders)?;
    let text = if messages.is_empty() { "No messages.".to_owned() } else { show::messages(&messages, now()) };
    let json = json!({ "messages": messages, "new": report.fetched });
    Ok(Answer::new(json, text).failures(&report.failures))
}

fn is_quiet(report: &SyncReport) -> bool {
    report.fetched.inbox + report.fetched.requests + report.fetched.junk == 0 && report.failures.is_empty()
}

/// Waits until mail is there, something of the account is due, or the deadline; the profile is free for other commands meanwhile. What is
/// anonymous and due is done while the poll goes on as it would have: neither the poll nor a request beside it tells the servers whose it is.
async fn wait_for_mail(global: &Global, client: &mut RealClient, deadline: Timestamp) -> Result<()> {
    let waiter = client.waiter().await?;
    let mut poll = Box::pin(waiter.wait());
    let outcome = loop {
        let (due, anonymous) = (client.next_due()?, client.next_anonymous()?);
        let until = due.map_or(deadline, |due| due.min(deadline));
        client.pause();
        let found = tokio::select! {
            found = &mut poll => Some(found),
            () = tokio::time::sleep(until_then(until)) => None,
        };
        patiently(global, |patience| client.resume(patience))?;
        match found {
            Some(Ok(false)) => poll = Box::pin(waiter.wait()),
            Some(other) => break other,
            None if until == deadline || anonymous.is_none_or(|at| at > until) => break Ok(false),
            None => {
                let report = client.sync_anonymously().await?;
                if !report.failures.is_empty() {
                    break Ok(false);
                }
                say_if_new(global, &report);
            }
        }
    };
    // A JWT that has ended is renewed by the next round, and so is whatever else was wrong reported by it.
    if outcome.is_err() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn until_then(then: Timestamp) -> Duration {
    Duration::from_millis(then.0.saturating_sub(SystemClock.now().0))
}

/// A verdict counts here at once; what is due of it is told the relay on the way.
async fn judge(global: &Global, verdict: impl FnOnce(&mut RealClient) -> Result<Message>) -> Result<Answer> {
    let mut client = open(global)?;
    let before = verdict(&mut client)?;
    let told = spinning(global.json, "telling the relay", client.run_outbox()).await;
    let message = client.read_message(&before.id)?;
    let word = message.verdict.map_or("judged", show::verdict_word);
    let who = message.from.clone().unwrap_or_else(|| "the message".to_owned());
    let text = if message.verdict_sent {
        format!("{who}: {word}. The relay knows.")
    } else {
        format!("{who}: {word}. The relay hears of it at a random time, by `postern sync`.")
    };
    let failures: Vec<Error> = told.err().into_iter().collect();
    let mut answer = Answer::new(json!({ "message": message }), text).failures(&failures);
    // The verdict stands; telling it is a matter of the next sync.
    answer.exit = 0;
    Ok(answer)
}

async fn tokens(global: &Global) -> Result<Answer> {
    let mut client = open(global)?;
    let report = spinning(global.json, "asking for tokens", client.ask_for_tokens()).await?;
    let screen = client.tokens()?;
    let json = serde_json::to_value(&screen).map_err(|_| Error::Internal("an answer does not encode"))?;
    let mut answer = Answer::new(json, show::tokens(&screen, now())).failures(&report.failures);
    // The screen is right without the network, too; what could not be asked is asked later.
    answer.exit = 0;
    Ok(answer)
}

async fn sessions(global: &Global, action: Option<SessionAction>) -> Result<Answer> {
    let mut client = open(global)?;
    if let Some(SessionAction::Revoke { id }) = action {
        let ended = spinning(global.json, "ending the session", client.revoke_session(&id)).await?;
        let json = json!({ "revoked": hex(&ended.session.0), "current": ended.current });
        return Ok(Answer::new(json, format!("The session \"{}\" has ended.", show::plain(&ended.label))));
    }
    let sessions = spinning(global.json, "asking for the sessions", client.sessions()).await?;
    let mut text = String::new();
    let mut list = Vec::new();
    for entry in &sessions {
        let id = hex(&entry.session.0);
        let mark = if entry.current { '*' } else { ' ' };
        let (label, used) = (show::plain(&entry.label), show::when(now(), entry.last_used));
        let short = id.get(..crate::names::SHORT).unwrap_or(&id);
        text.push_str(&format!("{mark} {short}  {label:<24} last used {used}\n"));
        list.push(json!({
            "id": id, "label": entry.label, "created": entry.created, "last_used": entry.last_used,
            "expires": entry.expires, "current": entry.current,
        }));
    }
    Ok(Answer::new(json!({ "sessions": list }), text))
}

fn sync_answer(report: &SyncReport) -> Answer {
    let json = json!({
        "fetched": report.fetched, "delivered": report.delivered, "verdicts": report.verdicts,
        "returned": report.returned, "renewed": report.renewed, "lost": report.lost, "card_published": report.card_published,
        "reply_keys_published": report.reply_keys_published, "hellos": report.hellos, "strikes": report.strikes,
        "prekeys": report.prekeys,
    });
    Answer::new(json, show::report(report)).failures(&report.failures)
}

/// Shows a round of `sync --watch` that brought something.
fn say_if_new(global: &Global, report: &SyncReport) {
    let done = report.delivered + report.verdicts + report.returned + report.renewed + report.lost + report.hellos;
    if !is_quiet(report) || done > 0 {
        sync_answer(report).print(global.json);
    }
}

/// Rounds until ctrl-c; between them the profile is free.
async fn watch(global: &Global) -> Result<Answer> {
    let mut client = open(global)?;
    let rounds = async {
        loop {
            let mut report = client.sync().await?;
            if let Some(at) = report.failures.iter().position(|error| matches!(error, Error::NeedsLogin)) {
                return Err(report.failures.swap_remove(at));
            }
            say_if_new(global, &report);
            let far = SystemClock.now().plus_seconds(3600);
            let waited = match report.failures.first() {
                None => wait_for_mail(global, &mut client, far).await,
                Some(_) => rest(global, &mut client).await,
            };
            match waited {
                Err(error) if error.is_passing() => rest(global, &mut client).await?,
                other => other?,
            }
        }
    };
    tokio::select! {
        out = rounds => out,
        _ = tokio::signal::ctrl_c() => Ok(Answer::new(json!({ "status": "stopped" }), "Stopped.")),
    }
}

/// Sleeps with the profile free.
async fn rest(global: &Global, client: &mut RealClient) -> Result<()> {
    client.pause();
    tokio::time::sleep(AFTER_FAILURE).await;
    patiently(global, |patience| client.resume(patience))
}

fn settings(global: &Global, args: &SettingsArgs) -> Result<Answer> {
    let mut client = open(global)?;
    let route = if args.no_route { Some(Route::Unset) } else { route(global)? };
    let settings = client.change_settings(|settings: &mut Settings| {
        settings.route = route.unwrap_or_else(|| settings.route.clone());
        settings.release_delay_seconds = args.release_delay.unwrap_or(settings.release_delay_seconds);
        settings.exchange_interval_seconds = args.exchange_interval.unwrap_or(settings.exchange_interval_seconds);
        settings.session_label = args.session_label.clone().unwrap_or_else(|| settings.session_label.clone());
    })?;
    let route = match &settings.route {
        Route::Unset => "not set: servers on this machine only".to_owned(),
        Route::Socks(proxy) => format!("through {proxy}, and so does all else"),
        Route::Direct => "direct: the relay sees your address".to_owned(),
    };
    let text = format!(
        "anonymous requests:  {route}\nrelease delay:       up to {} s\nexchange interval:   about {} s\nsession label:       {}",
        settings.release_delay_seconds,
        settings.exchange_interval_seconds,
        show::plain(&settings.session_label),
    );
    let json = serde_json::to_value(&settings).map_err(|_| Error::Internal("an answer does not encode"))?;
    Ok(Answer::new(json, text))
}

async fn doctor(global: &Global) -> Result<Answer> {
    /// At least one line says FAIL.
    const FOUND_SOMETHING: u8 = 14;
    let mut client = open(global)?;
    let checks = spinning(global.json, "looking at everything", client.doctor()).await;
    let worst = checks.iter().map(|check| check.health).max().unwrap_or(Health::Ok);
    let mut answer = Answer::new(json!({ "checks": checks, "worst": worst }), show::checks(&checks));
    if worst == Health::Fail {
        answer.exit = FOUND_SOMETHING;
    }
    Ok(answer)
}
