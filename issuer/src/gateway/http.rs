//! One HTTP call to a gateway: bounded, without redirects or proxies from the environment, and with errors that repeat nothing of it.

use std::error::Error as _;
use std::time::Duration;

use super::GatewayError;

/// Longer answers are not read to their end.
const MOST: usize = 16 * 1024;

/// A client for one gateway.
pub(super) fn client(url: &str, timeout: Duration) -> Result<reqwest::Client, GatewayError> {
    let builder = reqwest::Client::builder()
        .user_agent("postern-issuer/1")
        .connect_timeout(timeout)
        .timeout(timeout)
        // A redirect would carry number and code along.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only();
    // Plain http has no use for the system's roots.
    let builder = if url.starts_with("http://") { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|_| GatewayError::Setup("no HTTP client can be made".to_owned()))
}

/// Sends it. Status and body, cut off where it gets long.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), GatewayError> {
    let mut response = request.send().await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // What it says besides the status may be lost: the status has come.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MOST.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if room <= chunk.len() {
            break;
        }
    }
    Ok((status, body))
}

/// What the network said, without the URL.
fn failed(error: &reqwest::Error) -> GatewayError {
    let mut reason = if error.is_timeout() { "it took too long".to_owned() } else { "the connection broke".to_owned() };
    let mut source = error.source();
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() || error.is_builder() { GatewayError::Down(reason) } else { GatewayError::Unknown(reason) }
}
