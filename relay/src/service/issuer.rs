//! Calls to the issuer's internal API: signed by us, and the answers by the issuer's pinned key.
//!
//! An answer that is not signed for *this* call counts as no answer at all: whoever stands between the two servers can
//! delay an exchange and nothing more.

use std::time::Duration;

use postern_credentials::identity::IdentityKey;
use postern_credentials::relay_call::{sign_call, verify_reply};
use postern_protocol::ids::{CallNonce, RsaElement, Signature, SigningPublicKey, TokenKeyId};
use postern_protocol::internal::{KEYS_PATH, Keys, KeysRequest, REPLY_HEADER, SIGN_PATH, SignRequest, SignResponse};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::server::ServerUrl;
use postern_protocol::tokens::DirectoryKey;
use postern_tls::TlsError;
use rand_core::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::{RngFactory, SharedClock, StartError};
use crate::config::{Config, IssuerConfig};

/// Answers of the issuer are small; more is not from it.
const MAX_ANSWER: usize = 256 * 1024;

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No answer in time. The issuer may have done what was asked.
    #[error("the issuer cannot be reached: {0}")]
    Unreachable(#[source] reqwest::Error),
    /// Somebody else is at the issuer's address; nothing was sent.
    #[error("the server at the issuer's address is not who the address says: {0}")]
    WrongServer(postern_tls::WrongServer),
    /// An answer that the issuer has not signed for this call, or that cannot be read.
    #[error("an answer that does not come from the issuer")]
    Unauthentic,
    /// The issuer refuses, in its own name.
    #[error("the issuer refuses: {}", .0.title)]
    Refused(Box<Problem>),
    /// The call could not be made; a fault of ours.
    #[error("the call cannot be encoded")]
    Encoding,
}

impl CallError {
    /// What the issuer itself gave as the reason.
    pub(crate) fn refused_because(&self) -> Option<ProblemKind> {
        match self {
            Self::Refused(problem) => problem.known_kind(),
            Self::Unreachable(_) | Self::WrongServer(_) | Self::Unauthentic | Self::Encoding => None,
        }
    }
}

fn unreachable(error: reqwest::Error) -> CallError {
    match postern_tls::wrong_server(&error) {
        Some(reason) => CallError::WrongServer(reason),
        None => CallError::Unreachable(error.without_url()),
    }
}

/// Our side of the internal API.
pub(crate) struct IssuerCalls {
    client: reqwest::Client,
    /// Where to, without fingerprints.
    base: String,
    issuer: IssuerConfig,
    relay: String,
    identity: IdentityKey,
    clock: SharedClock,
    rng: RngFactory,
}

impl IssuerCalls {
    /// # Errors
    /// When the HTTP client cannot be set up (no TLS), or the issuer's address is none.
    pub(crate) fn new(
        config: &Config,
        identity: IdentityKey,
        clock: SharedClock,
        rng: RngFactory,
    ) -> Result<Self, StartError> {
        let url: ServerUrl = config.issuer.url.parse().map_err(TlsError::Address)?;
        let timeout = Duration::from_secs(config.limits.issuer_timeout_seconds);
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            // The environment must not be able to send this call elsewhere.
            .no_proxy();
        if !url.pins().is_empty() {
            builder =
                builder.tls_backend_preconfigured(postern_tls::client_config(url.pins()).map_err(TlsError::from)?);
        }
        let (client, base, issuer) = (builder.build()?, url.base().to_owned(), config.issuer.clone());
        Ok(Self { client, base, issuer, relay: config.name.clone(), identity, clock, rng })
    }

    /// The live token keys, active first.
    pub(crate) async fn keys(&self) -> Result<Vec<DirectoryKey>, CallError> {
        let keys: Keys = self.call(KEYS_PATH, &KeysRequest {}).await?;
        Ok(keys.token_keys)
    }

    /// One blind signature for an exchange. Tried twice: the issuer answers the same blinded message the same.
    pub(crate) async fn sign(&self, key: TokenKeyId, blinded: RsaElement) -> Result<RsaElement, CallError> {
        let request = SignRequest { token_key_id: key, blinded };
        let first: Result<SignResponse, _> = self.call(SIGN_PATH, &request).await;
        let answer = match first {
            Err(CallError::Unreachable(_)) => self.call(SIGN_PATH, &request).await?,
            other => other?,
        };
        Ok(answer.blind_signature)
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(&self, path: &str, request: &Q) -> Result<A, CallError> {
        let body = serde_json::to_vec(request).map_err(|_| CallError::Encoding)?;
        let mut nonce = CallNonce([0; CallNonce::LEN]);
        (self.rng)().fill_bytes(&mut nonce.0);
        let now = self.clock.now();
        let call = sign_call(&self.identity, &self.issuer.name, &self.relay, "POST", path, &body, now, nonce);
        let response = self
            .client
            .post(format!("{}{path}", self.base))
            .header("authorization", call.to_string())
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .map_err(unreachable)?;
        let (status, answer) = read_signed(response, &self.issuer.public_key, &nonce).await?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&answer).map_err(|_| CallError::Unauthentic);
        }
        let problem = serde_json::from_slice(&answer).map_err(|_| CallError::Unauthentic)?;
        Err(CallError::Refused(Box::new(problem)))
    }
}

/// Status and body of an answer, once its signature holds.
async fn read_signed(
    mut response: reqwest::Response,
    issuer: &SigningPublicKey,
    nonce: &CallNonce,
) -> Result<(u16, Vec<u8>), CallError> {
    let status = response.status().as_u16();
    let signature = response.headers().get(REPLY_HEADER).and_then(|value| value.to_str().ok());
    let signature: Signature = signature.and_then(|text| text.parse().ok()).ok_or(CallError::Unauthentic)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(CallError::Unauthentic);
        }
        body.extend_from_slice(&chunk);
    }
    verify_reply(issuer, nonce, status, &body, &signature).map_err(|_| CallError::Unauthentic)?;
    Ok((status, body))
}
