//! One request, repeated while that may help.

use std::error::Error as _;

use postern_protocol::problem::ProblemKind;

use super::{Network, Reply, Request, host};
use crate::error::{Error, Result};

/// What came of one attempt.
pub(super) enum Attempt {
    /// An answer that stands.
    Done(Reply),
    /// Worth another attempt.
    Again(Error),
}

/// Sends once and reads the answer to its end, as far as it may go.
pub(super) async fn once(client: &reqwest::Client, request: &Request) -> Result<Attempt> {
    let mut response = match request.build(client).send().await {
        Ok(response) => response,
        Err(error) => return network_error(request, &error).map(Attempt::Again),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => break,
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) <= request.max_answer => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(Error::Misbehaved("its answer is longer than agreed on")),
            Err(error) => return network_error(request, &error).map(Attempt::Again),
        }
    }
    Ok(weigh(Reply { status, headers, body }))
}

/// Failures of the server pass; refusals stand.
fn weigh(reply: Reply) -> Attempt {
    if !matches!(reply.status, 408 | 500 | 502 | 503 | 504) {
        return Attempt::Done(reply);
    }
    let problem = reply.problem();
    match problem.known_kind() {
        // These are answers: they do not go away within seconds.
        Some(ProblemKind::ExchangeBudget | ProblemKind::TextFailed | ProblemKind::TextBudget) => Attempt::Done(reply),
        _ => Attempt::Again(Error::Unavailable { title: problem.title, retry_after: problem.retry_after }),
    }
}

/// Waits before attempt `n` (0 is the first); `false` when there have been enough.
pub(crate) async fn pause_before(n: u32, network: &Network) -> bool {
    if n >= network.attempts.max(1) {
        return false;
    }
    if let Some(doublings) = n.checked_sub(1) {
        tokio::time::sleep(network.backoff.saturating_mul(1 << doublings.min(8))).await;
    }
    true
}

/// What the network said, without the URL: that may name a mailbox. A server that is somebody else is not asked again.
fn network_error(request: &Request, error: &reqwest::Error) -> Result<Error> {
    if let Some(reason) = postern_tls::wrong_server(error) {
        return Err(Error::WrongServer { host: host(&request.url), reason });
    }
    let mut reason = if error.is_timeout() { "it took too long".to_owned() } else { String::new() };
    let mut source = error.source();
    while let Some(inner) = source {
        // The innermost cause is the one that tells something.
        reason = inner.to_string();
        source = inner.source();
    }
    if reason.is_empty() {
        "the connection broke".clone_into(&mut reason);
    }
    Ok(Error::Network { host: host(&request.url), reason })
}
