//! Calls to an issuer and a relay, each measured under its own name, each answer judged.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use postern_credentials::blind_token::{VerifyingKey, challenge_digest};
use postern_protocol::ids::ChallengeDigest;
use postern_protocol::problem::Problem;
use postern_protocol::register::{ISSUER_INFO_PATH, IssuerInfo};
use postern_protocol::send::{RELAY_INFO_PATH, RelayInfo};
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, TokenChallenge};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::http::{Connections, HttpError, Reply, Request};
use crate::measure::{Outcome, Recorder};

/// After no answer at all, a moment's rest: a server that is gone would be asked a hundred thousand times a second otherwise.
const REST: Duration = Duration::from_millis(100);

/// What a call comes to: its answer, or how it went wrong.
pub type Called<T> = Result<T, Outcome>;

/// The two servers, and where latencies go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wire {
    issuer: Arc<Connections>,
    relay: Arc<Connections>,
    recorder: Arc<Recorder>,
}

impl Wire {
    /// At most `most` connections to each.
    ///
    /// # Errors
    /// [`HttpError::Address`].
    pub fn new(issuer: &str, relay: &str, most: usize) -> Result<Self, HttpError> {
        Ok(Self {
            issuer: Arc::new(Connections::new(issuer, most)?),
            relay: Arc::new(Connections::new(relay, most)?),
            recorder: Arc::new(Recorder::default()),
        })
    }

    /// The same connections, measured by another recorder.
    #[must_use]
    pub fn measured_by(&self, recorder: &Arc<Recorder>) -> Self {
        Self { recorder: Arc::clone(recorder), ..self.clone() }
    }

    /// Asks the issuer; any status but 2xx is an error.
    ///
    /// # Errors
    /// What came instead.
    pub async fn issuer(&self, name: &'static str, request: Request) -> Called<Reply> {
        self.judged(name, self.issuer.send(request)).await
    }

    /// Asks the relay; any status but 2xx is an error.
    ///
    /// # Errors
    /// What came instead.
    pub async fn relay(&self, name: &'static str, request: Request) -> Called<Reply> {
        self.judged(name, self.relay.send(request)).await
    }

    async fn judged(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<Reply, HttpError>>,
    ) -> Called<Reply> {
        let since = Instant::now();
        let result = match answer.await {
            Ok(reply) if (200..300).contains(&reply.status) => Ok(reply),
            Ok(reply) => Err(Outcome::Refused { status: reply.status, problem: problem(&reply.body) }),
            Err(error) => Err(Outcome::Failed(error.to_string())),
        };
        let took = since.elapsed();
        match &result {
            Ok(reply) => self.recorder.record(name, took, &Outcome::Done(reply.status)),
            Err(outcome) => self.recorder.record(name, took, outcome),
        }
        if let Err(Outcome::Failed(_)) = &result {
            tokio::time::sleep(REST).await;
        }
        result
    }
}

/// The slug of a problem document; empty if it is none.
fn problem(body: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else { return String::new() };
    problem.kind.rsplit(':').next().unwrap_or_default().to_owned()
}

/// An answer that is not what the protocol says.
pub fn nonsense(what: &str) -> Outcome {
    Outcome::Failed(format!("nonsense: {what}"))
}

/// What came, parsed.
///
/// # Errors
/// If it is not that.
pub fn json<T: DeserializeOwned>(reply: &Reply) -> Called<T> {
    serde_json::from_slice(&reply.body).map_err(|_| nonsense("not the JSON that was expected"))
}

/// A request without a body.
///
/// # Errors
/// If `path` is none.
pub fn get(path: &str) -> Called<Request> {
    Request::get(path).map_err(|error| Outcome::Failed(error.to_string()))
}

/// A request with a JSON body.
///
/// # Errors
/// If the path is none, or the body does not serialise.
pub fn json_request(method: Method, path: &str, body: &impl Serialize) -> Called<Request> {
    let body = serde_json::to_vec(body).map_err(|_| nonsense("a request does not serialise"))?;
    with_body(method, path, "application/json", body.into())
}

/// A request with a body of this type.
///
/// # Errors
/// If the path is none.
pub fn with_body(method: Method, path: &str, media_type: &'static str, body: Bytes) -> Called<Request> {
    let request = Request::new(method, path, body).map_err(|error| Outcome::Failed(error.to_string()))?;
    Ok(request.header(CONTENT_TYPE, HeaderValue::from_static(media_type)))
}

/// The same with this `Authorization`.
///
/// # Errors
/// If it is not visible ASCII.
pub fn authorized(request: Request, value: &str) -> Called<Request> {
    let mut value = HeaderValue::from_str(value).map_err(|_| nonsense("a credential is no header"))?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

/// What the two servers say of themselves, and the key that tokens are signed with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The issuer.
    pub issuer: IssuerInfo,
    /// The relay.
    pub relay: RelayInfo,
    /// The active key.
    pub key: VerifyingKey,
    /// Of the relay's challenge.
    pub challenge: ChallengeDigest,
}

impl Terms {
    /// Asks both.
    ///
    /// # Errors
    /// If they do not answer, or do not know each other.
    pub async fn ask(wire: &Wire) -> Called<Self> {
        let issuer: IssuerInfo = json(&wire.issuer("issuer", get(ISSUER_INFO_PATH)?).await?)?;
        let relay: RelayInfo = json(&wire.relay("relay", get(RELAY_INFO_PATH)?).await?)?;
        let directory: Directory = json(&wire.issuer("keys", get(DIRECTORY_PATH)?).await?)?;
        if relay.issuer_public_key != issuer.public_key || !issuer.relays.iter().any(|entry| entry.name == relay.name) {
            return Err(nonsense("issuer and relay do not belong together"));
        }
        let key = directory.token_keys.first().and_then(|key| VerifyingKey::from_spki(&key.token_key.0).ok());
        let key = key.ok_or_else(|| nonsense("there is no token key"))?;
        let challenge = challenge_digest(&TokenChallenge::for_relay(&issuer.name, &relay.name));
        Ok(Self { issuer, relay, key, challenge: challenge.map_err(|_| nonsense("a name is too long"))? })
    }
}

/// Where every piece of work takes a generator of its own from.
pub struct Seeds(Mutex<StdRng>);

impl Seeds {
    /// From this one on.
    pub fn new(rng: StdRng) -> Self {
        Self(Mutex::new(rng))
    }

    /// A generator that nobody else has.
    pub fn generator(&self) -> StdRng {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seeds(..)")
    }
}

#[cfg(test)]
mod tests {
    use postern_protocol::problem::ProblemKind;

    use super::*;

    #[test]
    fn a_refusal_is_named_by_its_problem_and_anything_else_by_its_status_alone() {
        let body = serde_json::to_vec(&Problem::new(ProblemKind::TokenAttached)).unwrap();
        assert_eq!(problem(&body), "token-attached");
        assert_eq!(problem(b"<html>bad gateway</html>"), "");
    }
}
