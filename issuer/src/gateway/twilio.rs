//! Twilio's API, and services of its shape: `POST {base}/2010-04-01/Accounts/{sid}/Messages.json` for texts, `Calls.json` for calls, as a
//! form, with HTTP basic authentication (<https://www.twilio.com/docs/messaging/api/message-resource>, `…/voice/api/call-resource`).

use futures::future::BoxFuture;
use postern_protocol::texts::Channel;
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::{GatewayError, Message, Password, TextGateway, http, seconds};
use crate::config::TwilioConfig;

/// The longest `ValidityPeriod` that it takes, seconds.
const LONGEST_VALIDITY: u64 = 14_400;

/// An account.
#[derive(Debug)]
pub struct Twilio {
    client: Result<reqwest::Client, GatewayError>,
    base: String,
    account: String,
    auth_token: Password,
    from: String,
    calls: bool,
    reports: String,
}

impl Twilio {
    /// `reports`: under which base URL the issuer gets reports.
    pub fn new(config: &TwilioConfig, auth_token: Password, reports: String) -> Self {
        Self {
            client: http::client(&config.url, seconds(config.timeout_seconds)),
            base: format!("{}/2010-04-01/Accounts/{}", config.url, config.account),
            account: config.account.clone(),
            auth_token,
            from: config.from.clone(),
            calls: config.voice,
            reports,
        }
    }

    async fn ask(&self, message: &Message<'_>) -> Result<(), GatewayError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let (resource, form) = match message.channel {
            Channel::Text => ("Messages.json", self.text(message)),
            Channel::Voice => ("Calls.json", self.call(message)),
        };
        let request = client
            .post(format!("{}/{resource}", self.base))
            .basic_auth(&self.account, Some(self.auth_token.expose()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form);
        let (status, body) = http::send(request).await?;
        read(status, &body)
    }

    fn text(&self, message: &Message<'_>) -> String {
        let sender = if self.from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
        let validity = message.valid_seconds.min(LONGEST_VALIDITY).to_string();
        Serializer::new(String::new())
            .append_pair("To", message.to.as_str())
            .append_pair(sender, &self.from)
            .append_pair("Body", message.words)
            .append_pair("ValidityPeriod", &validity)
            .append_pair("StatusCallback", &self.report(message))
            .finish()
    }

    fn call(&self, message: &Message<'_>) -> String {
        Serializer::new(String::new())
            .append_pair("To", message.to.as_str())
            .append_pair("From", &self.from)
            .append_pair("Twiml", &spoken(message.words))
            .append_pair("StatusCallback", &self.report(message))
            .finish()
    }

    fn report(&self, message: &Message<'_>) -> String {
        format!("{}{}", self.reports, message.report)
    }
}

/// Says it three times, in TwiML.
fn spoken(words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let once = format!("<Say>{words}</Say><Pause length=\"1\"/>");
    format!("<Response>{}</Response>", once.repeat(3))
}

/// How it says what was wrong; the words repeat the number, and are not looked at.
#[derive(Deserialize)]
struct Problem {
    code: Option<u32>,
}

/// What an answer means: <https://www.twilio.com/docs/api/errors>. Codes of 21xxx and 13xxx are about this message or call.
fn read(status: u16, body: &[u8]) -> Result<(), GatewayError> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let code = serde_json::from_slice(body).ok().and_then(|problem: Problem| problem.code);
    let said =
        code.map_or_else(|| format!("it answered {status}"), |code| format!("it answered {status}, code {code}"));
    match (status, code) {
        (429 | 500.., _) => Err(GatewayError::Down(said)),
        // The sender is not ours, or cannot send: no number would do.
        (400..=499, Some(21_212 | 21_603 | 21_606 | 21_659 | 21_660)) => Err(GatewayError::Setup(said)),
        (400..=499, Some(13_000..=13_999 | 21_000..=21_999 | 60_000..=60_999)) => Err(GatewayError::Number(said)),
        (400..=499, _) => Err(GatewayError::Setup(said)),
        _ => Err(GatewayError::Down(said)),
    }
}

impl TextGateway for Twilio {
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(self.ask(message))
    }

    fn calls(&self) -> bool {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_twilio_answers_is_told_apart() {
        let of = |code: u32| format!("{{\"code\":{code},\"message\":\"The 'To' number +41791234567 is wrong\"}}");
        assert_eq!(read(201, b"{}"), Ok(()));
        for code in [21_211, 21_408, 21_610, 21_614, 21_612, 13_227] {
            assert!(matches!(read(400, of(code).as_bytes()), Err(GatewayError::Number(_))), "{code}");
        }
        for (status, code) in [(401, 20_003), (400, 21_606), (404, 20_404), (403, 20_005)] {
            assert!(matches!(read(status, of(code).as_bytes()), Err(GatewayError::Setup(_))), "{code}");
        }
        for status in [429, 500, 503, 302] {
            assert!(matches!(read(status, b"<html>"), Err(GatewayError::Down(_))), "{status}");
        }
        let error = read(400, of(21_211).as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("41791234567"), "what is logged repeats no number");
    }

    #[test]
    fn what_is_said_cannot_leave_its_element() {
        assert!(!spoken("</Say><Dial>+1900").contains("<Dial>"));
        assert_eq!(spoken("1, 2").matches("1, 2").count(), 3);
    }
}
