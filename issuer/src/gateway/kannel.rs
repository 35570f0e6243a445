//! Kannel's `sendsms` (<https://www.kannel.org/download/1.4.5/userguide-1.4.5/userguide.html>, "Using the HTTP interface to send SMS").
//!
//! By POST, with everything but the text in headers: a URL would put number, code and password into the logs of whatever stands between.

use futures::future::BoxFuture;
use postern_protocol::texts::Channel;
use reqwest::header::HeaderValue;

use super::{GatewayError, Message, Password, TextGateway, http, seconds};
use crate::config::KannelConfig;

/// Reports are wanted for: delivered (1), not delivered (2), refused by the centre (16).
const DLR_MASK: &str = "19";

/// A smsbox.
#[derive(Debug)]
pub struct Kannel {
    client: Result<reqwest::Client, GatewayError>,
    url: String,
    user: String,
    password: Password,
    from: String,
    reports: String,
}

impl Kannel {
    /// `reports`: under which base URL the issuer gets reports.
    pub fn new(config: &KannelConfig, password: Password, reports: String) -> Self {
        Self {
            client: http::client(&config.url, seconds(config.timeout_seconds)),
            url: config.url.clone(),
            user: config.user.clone(),
            password,
            from: config.from.clone(),
            reports,
        }
    }

    async fn ask(&self, message: &Message<'_>) -> Result<(), GatewayError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        // Kannel puts the state of the text where `%d` stands.
        let report = format!("{}{}?status=%d", self.reports, message.report);
        let minutes = message.valid_seconds.div_ceil(60).to_string();
        let request = client
            .post(&self.url)
            .header("content-type", "text/plain")
            .header("x-kannel-username", &self.user)
            .header("x-kannel-password", secret(self.password.expose())?)
            .header("x-kannel-from", &self.from)
            .header("x-kannel-to", secret(message.to.as_str())?)
            .header("x-kannel-validity", minutes)
            .header("x-kannel-dlr-mask", DLR_MASK)
            .header("x-kannel-dlr-url", secret(&report)?)
            .body(message.words.to_owned());
        let (status, body) = http::send(request).await?;
        read(status, &body)
    }
}

/// A header that is shown in no log.
fn secret(value: &str) -> Result<HeaderValue, GatewayError> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| GatewayError::Setup("a value fits no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What Kannel means. It says some things with the same status, and then in words of its own (gw/smsbox.c of 1.4.5).
fn read(status: u16, body: &[u8]) -> Result<(), GatewayError> {
    let says = |words: &str| String::from_utf8_lossy(body).contains(words);
    match status {
        // "0: Accepted for delivery", "3: Queued for later delivery".
        202 => Ok(()),
        403 if says("Not routable") || says("black-lists") => {
            Err(GatewayError::Number("its routes do not lead there".to_owned()))
        }
        403 => Err(GatewayError::Setup("user or password is wrong (403)".to_owned())),
        400..=499 => Err(GatewayError::Setup(format!("it answered {status}"))),
        _ => Err(GatewayError::Down(format!("it answered {status}"))),
    }
}

impl TextGateway for Kannel {
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async move {
            match message.channel {
                Channel::Text => self.ask(message).await,
                Channel::Voice => Err(GatewayError::Setup("it places no calls".to_owned())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kannel_answers_is_told_apart() {
        assert_eq!(read(202, b"0: Accepted for delivery"), Ok(()));
        assert_eq!(read(202, b"3: Queued for later delivery"), Ok(()));
        assert!(matches!(read(403, b"Authorization failed for sendsms"), Err(GatewayError::Setup(_))));
        assert!(matches!(read(403, b"Not routable. Do not try again."), Err(GatewayError::Number(_))));
        assert!(matches!(read(400, b"Sender missing"), Err(GatewayError::Setup(_))));
        assert!(matches!(read(503, b"Temporal failure, try again later."), Err(GatewayError::Down(_))));
        assert!(matches!(read(200, b"<html>"), Err(GatewayError::Down(_))));
    }
}
