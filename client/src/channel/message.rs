//! Requests and answers, as the rest of the client sees them.

use http::{HeaderMap, Method};
use postern_protocol::ids::ServerPin;
use postern_protocol::problem::{MEDIA_TYPE, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::parse_server;
use crate::error::{Error, Result};

/// `application/json`.
pub const JSON: &str = "application/json";
/// `application/octet-stream`.
pub const OCTETS: &str = "application/octet-stream";

/// The most bytes of an answer that are read unless a request says otherwise.
const USUAL_ANSWER: usize = 256 * 1024;

/// One request; sent as often as needed, always the same.
#[derive(Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: url::Url,
    /// Of the server's keys; empty: any server with a certificate for the host.
    pub(super) pins: Vec<ServerPin>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) max_answer: usize,
    pub(super) timeout: Option<std::time::Duration>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Request {
    /// `base` without a trailing slash, `path` with a leading one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they do not make a server's address.
    pub fn new(method: Method, base: &str, path: &str) -> Result<Self> {
        let (url, pins) = parse_server(&format!("{base}{path}"))?;
        Ok(Self { method, url, pins, headers: Vec::new(), body: Vec::new(), max_answer: USUAL_ANSWER, timeout: None })
    }

    /// `GET`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn get(base: &str, path: &str) -> Result<Self> {
        Self::new(Method::GET, base, path)
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn post_json(base: &str, path: &str, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Internal("a request does not encode"))?;
        Ok(Self::new(Method::POST, base, path)?.body(JSON, body))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, media_type: &'static str, body: Vec<u8>) -> Self {
        self.headers.push(("content-type", media_type.to_owned()));
        self.body = body;
        self
    }

    /// Adds `Authorization`.
    #[must_use]
    pub fn authorization(mut self, value: String) -> Self {
        self.headers.push(("authorization", value));
        self
    }

    /// Reads at most so many bytes of the answer.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// Waits longer than usual: for a long poll.
    #[must_use]
    pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Method, URL, headers and body, as they will be sent.
    pub fn parts(&self) -> (&Method, &url::Url, &[(&'static str, String)], &[u8]) {
        (&self.method, &self.url, &self.headers, &self.body)
    }

    pub(super) fn build(&self, client: &reqwest::Client) -> reqwest::RequestBuilder {
        let mut request = client.request(self.method.clone(), self.url.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if self.method == Method::GET { request } else { request.body(self.body.clone()) }
    }
}

/// An answer, read to its end.
#[derive(Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body of a success.
    ///
    /// # Errors
    /// [`Error::Refused`] for any other status.
    pub fn success(self) -> Result<Vec<u8>> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(Error::Refused(Box::new(self.problem()))) }
    }

    /// The JSON of a success.
    ///
    /// # Errors
    /// [`Error::Refused`] for any other status, [`Error::Misbehaved`] if it is not this JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let body = zeroize::Zeroizing::new(self.success()?);
        serde_json::from_slice(&body).map_err(|_| Error::Misbehaved("its answer is not of the form agreed on"))
    }

    /// The problem document; one made up from the status if there is none.
    pub fn problem(&self) -> Problem {
        let is_problem = self.header("content-type").is_some_and(|value| value.starts_with(MEDIA_TYPE));
        let document = is_problem.then(|| serde_json::from_slice::<Problem>(&self.body).ok()).flatten();
        let mut problem = document.unwrap_or_else(|| Problem {
            kind: "about:blank".to_owned(),
            title: format!("HTTP status {}", self.status),
            status: self.status,
            detail: None,
            retry_after: None,
        });
        if problem.retry_after.is_none() {
            problem.retry_after = self.header("retry-after").and_then(|value| value.parse().ok());
        }
        // Shown on a terminal: a server must not be able to write escape sequences there.
        problem.title = printable(&problem.title);
        problem.detail = problem.detail.as_deref().map(printable);
        problem
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_problem_document_is_still_a_refusal() {
        let reply = Reply { status: 502, headers: HeaderMap::new(), body: b"<html>".to_vec() };
        assert_eq!(reply.problem().title, "HTTP status 502");
        assert!(matches!(reply.success(), Err(Error::Refused(_))));
    }

    #[test]
    fn a_problem_cannot_write_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a[2Jb");
    }
}
