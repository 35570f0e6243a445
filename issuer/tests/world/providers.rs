//! Providers of Twilio's shape, and an issuer that uses two of them.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use postern_issuer::config::{Config, GatewayConfig, TwilioConfig};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::register::{CODE_PATH, CodeRequest};
use postern_protocol::texts::Channel;

use super::{Person, Reply, World};

pub const UNROUTABLE: Next = Some((400, "{\"code\":21211,\"message\":\"The 'To' number +41791000001 is not valid\"}"));

/// What a provider of Twilio's shape was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub authorization: String,
    pub form: BTreeMap<String, String>,
}

impl Asked {
    /// The path of the report's address at the issuer.
    pub fn report(&self) -> String {
        self.form["StatusCallback"].strip_prefix("https://issuer.test").unwrap().to_owned()
    }

    pub fn code(&self) -> String {
        self.form["Body"].strip_prefix("Your Postern code is ").unwrap().to_owned()
    }
}

/// What it does next. `None`: it takes the request, and never answers.
pub type Next = Option<(u16, &'static str)>;

/// A provider of Twilio's shape on a port of its own. Accepts everything unless it is told otherwise.
#[derive(Clone, Default)]
pub struct Provider {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub next: Arc<Mutex<VecDeque<Next>>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let provider = Self { url, ..Self::default() };
        let at_work = provider.clone();
        let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let provider = at_work.clone();
            async move { provider.take(&uri, &headers, &body).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        provider
    }

    pub async fn take(&self, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> (StatusCode, &'static str) {
        let form = url::form_urlencoded::parse(body).into_owned().collect();
        let authorization = headers["authorization"].to_str().unwrap().to_owned();
        self.asked.lock().unwrap().push(Asked { path: uri.path().to_owned(), authorization, form });
        let next = self.next.lock().unwrap().pop_front();
        match next {
            None => (StatusCode::CREATED, "{\"sid\":\"SM1\",\"status\":\"queued\"}"),
            Some(Some((status, body))) => (StatusCode::from_u16(status).unwrap(), body),
            Some(None) => std::future::pending().await,
        }
    }

    pub fn then(&self, next: &[Next]) {
        self.next.lock().unwrap().extend(next);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn last(&self) -> Asked {
        self.asked().last().unwrap().clone()
    }

    pub fn config(&self, name: &str, dir: &Path) -> GatewayConfig {
        GatewayConfig::Twilio(TwilioConfig {
            name: name.to_owned(),
            url: self.url.clone(),
            account: "AC1".to_owned(),
            auth_token_file: password_file(dir),
            from: "+12025550100".to_owned(),
            voice: false,
            countries: Vec::new(),
            timeout_seconds: 1,
            reports: None,
        })
    }
}

pub fn password_file(dir: &Path) -> PathBuf {
    let path = dir.join("token");
    if !path.exists() {
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).unwrap();
        file.write_all(b"auth-token-1\n").unwrap();
    }
    path
}

pub fn with_voice(mut config: GatewayConfig) -> GatewayConfig {
    if let GatewayConfig::Twilio(twilio) = &mut config {
        twilio.voice = true;
    }
    config
}

pub fn in_countries(mut config: GatewayConfig, countries: &[u16]) -> GatewayConfig {
    if let GatewayConfig::Twilio(twilio) = &mut config {
        twilio.countries = countries.to_vec();
    }
    config
}

/// Two providers, and an issuer that uses them in this order.
pub struct Two {
    pub world: World,
    pub first: Provider,
    pub second: Provider,
    _dir: tempfile::TempDir,
}

impl Two {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config, &Path)) -> Self {
        let (first, second) = (Provider::start().await, Provider::start().await);
        let dir = tempfile::tempdir().unwrap();
        let world = World::configured(|config| {
            config.gateways = vec![first.config("first", dir.path()), second.config("second", dir.path())];
            change(config, dir.path());
        })
        .await;
        Self { world, first, second, _dir: dir }
    }

    pub async fn ask(&self, person: &Person, channel: Option<Channel>) -> Reply {
        self.world.post(CODE_PATH, &CodeRequest { channel, ..person.code_request() }).await
    }

    /// Says which provider got how many so far.
    pub fn counts(&self) -> [usize; 2] {
        [self.first.asked().len(), self.second.asked().len()]
    }

    pub async fn report(&self, path: &str, form: &str) -> Reply {
        self.world.post_bytes(path, "application/x-www-form-urlencoded", form).await
    }
}

/// Kind, reason and seconds to wait.
#[track_caller]
pub fn problem(reply: &Reply) -> (ProblemKind, Option<String>, Option<u64>) {
    let kind = reply.problem();
    let problem: Problem = serde_json::from_slice(&reply.body).unwrap();
    (kind, problem.detail, problem.retry_after)
}
