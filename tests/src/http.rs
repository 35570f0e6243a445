//! Requests by hand, and what came back.

use std::time::Duration;

use postern_protocol::problem::{self, Problem, ProblemKind};
use postern_protocol::server::ServerUrl;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// How often the request was sent before without an answer that counts.
    pub repeated: u32,
}

/// How long a request is repeated: a database that fails over takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before it is repeated: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(800)];

impl Reply {
    /// Sends a request and reads the answer.
    pub async fn to(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await?.to_vec(), repeated: 0 })
    }

    /// Repeats a request, byte for byte, until a server answers it with anything but a failure of its own, or that it took too long.
    pub async fn until_answered(request: reqwest::RequestBuilder) -> Self {
        let answer = Self::within(PATIENCE, request).await;
        answer.unwrap_or_else(|(_, last)| panic!("no answer for two minutes, at last {last}"))
    }

    /// As [`Self::until_answered`]; how often it was sent in vain, and what came last, if that was all.
    ///
    /// # Errors
    /// See there.
    pub async fn within(patience: Duration, request: reqwest::RequestBuilder) -> Result<Self, (u32, String)> {
        let (began, mut repeated, mut pause) = (Instant::now(), 0, PAUSES[0]);
        loop {
            let reply = Self::to(request.try_clone().unwrap()).await;
            match reply {
                Ok(reply) if reply.status < 500 && reply.status != 408 => return Ok(Self { repeated, ..reply }),
                other if began.elapsed() >= patience => return Err((repeated + 1, format!("{other:?}"))),
                _ => {}
            }
            repeated += 1;
            tokio::time::sleep(pause).await;
            pause = PAUSES[1].min(2 * pause);
        }
    }

    /// The JSON body of a success.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem document of a refusal; fails the test if the answer is not a well-formed one.
    pub fn problem(&self) -> Problem {
        assert!(self.status >= 400, "{} {}", self.status, String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers.get(CONTENT_TYPE).unwrap(), problem::MEDIA_TYPE);
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        problem
    }

    /// The kind of the refusal.
    pub fn refusal(&self) -> ProblemKind {
        let problem = self.problem();
        problem.known_kind().unwrap_or_else(|| panic!("unknown problem {}", problem.kind))
    }
}

/// What calls servers at these addresses, each known by its key if the address says it (the key of the other would do as well), and their
/// addresses without fingerprints, as requests need them.
pub fn client_for<const N: usize>(urls: [&str; N]) -> (reqwest::Client, [String; N]) {
    let servers = urls.map(|url| url.parse::<ServerUrl>().unwrap());
    let pins: Vec<_> = servers.iter().flat_map(|server| server.pins().to_vec()).collect();
    let mut builder = reqwest::Client::builder();
    if !pins.is_empty() {
        builder = builder.tls_backend_preconfigured(postern_tls::client_config(&pins).unwrap());
    }
    (builder.build().unwrap(), servers.map(|server| server.base().to_owned()))
}

/// A POST with a JSON body.
pub fn post_json(http: &reqwest::Client, url: &str, body: &impl Serialize) -> reqwest::RequestBuilder {
    with_json(http.post(url), body)
}

/// A PUT with a JSON body.
pub fn put_json(http: &reqwest::Client, url: &str, body: &impl Serialize) -> reqwest::RequestBuilder {
    with_json(http.put(url), body)
}

fn with_json(request: reqwest::RequestBuilder, body: &impl Serialize) -> reqwest::RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(serde_json::to_vec(body).unwrap())
}
