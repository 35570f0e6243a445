//! Every value of a run by its name: the rows of profiles, the requests and answers. What is added to a row or a message is harvested by itself.

use std::collections::BTreeMap;
use std::path::Path;

use postern_client::profile::{Patience, Profile, Record};
use postern_credentials::blind_token::PendingToken;
use postern_protocol::ids::{RsaElement, decode_base64};
use postern_protocol::tokens::TokenInput;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::forms::Secret;
use super::traffic::Exchange;

/// Shorter values are names of states, counters and the like.
const SHORTEST: usize = 16;

/// The nonce of a token or a pending one, and its authenticator or blinding; what stands between them is public.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let input = match (bytes.len(), bytes) {
        (PendingToken::STORED_LEN, [1, 0, 2, ..]) => &bytes[1..],
        (len, [0, 2, ..]) if len == TokenInput::LEN + RsaElement::LEN => bytes,
        _ => return None,
    };
    Some((&input[2..34], &input[TokenInput::LEN..]))
}

/// Values with their names. A name says where the value was found, and says the same for the same field of another row or message.
#[derive(Clone, Debug, Default)]
pub struct Harvest(pub BTreeMap<Secret, String>);

impl Harvest {
    /// Adds one; the name under which it was found first stays.
    pub fn add(&mut self, name: &str, secret: Secret) {
        self.0.entry(secret).or_insert_with(|| name.to_owned());
    }

    fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) {
        if bytes.len() >= SHORTEST {
            self.add(name, Secret::Bytes(bytes));
        }
    }

    /// Every value of a JSON document.
    pub fn add_json(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let is_name = key.len() >= 22 || key.parse::<u32>().is_ok();
                    let key = if is_name { "*" } else { key };
                    self.add_json(&format!("{name}.{key}"), value);
                }
            }
            Value::Array(values) => {
                let byte = |value: &Value| value.as_u64().and_then(|n| u8::try_from(n).ok());
                match values.iter().map(byte).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => self.add_bytes(name, bytes),
                    None => values.iter().for_each(|value| self.add_json(name, value)),
                }
            }
            Value::String(text) => self.add_text(name, text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text that may be JSON, a JWT, or base64.
    fn add_text(&mut self, name: &str, text: &str) {
        if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
            return self.add_json(name, &value);
        }
        if text.split('.').count() == 3 && text.starts_with("ey") {
            // The signature alone makes it good; what it says is searched for by itself.
            return self.add_bytes(name, decode_base64(text.rsplit('.').next().unwrap()).unwrap());
        }
        // A word can be base64 by chance, but is short.
        let Ok(bytes) = decode_base64(text) else { return };
        if let Ok(value @ Value::Object(_)) = serde_json::from_slice(&bytes) {
            return self.add_json(name, &value);
        }
        match split(&bytes) {
            Some((nonce, rest)) => {
                self.add_bytes(&format!("{name}/nonce"), nonce.to_vec());
                self.add_bytes(&format!("{name}/secret"), rest.to_vec());
            }
            None => self.add_bytes(name, bytes),
        }
    }

    /// Everything that a profile knows.
    pub fn add_profile(&mut self, file: &Path, password: &str) {
        let profile = Profile::open(file, password, &Patience::NONE).unwrap();
        self.add_rows(&profile);
    }

    /// Everything that a request said and its answer.
    pub fn add_exchange(&mut self, server: &str, exchange: &Exchange) {
        let route = format!("{server} {}", exchange.route);
        if let Some(right) = exchange.request.header("authorization") {
            let (scheme, right) = right.split_once(' ').unwrap();
            for part in right.split([',', ' ']).filter(|part| !part.is_empty()) {
                let (key, value) = match part.split_once('=') {
                    Some((key, value)) if !value.trim_matches(['=', '"']).is_empty() => {
                        (format!("{scheme}.{key}"), value)
                    }
                    _ => (scheme.to_owned(), part),
                };
                self.add_text(&format!("right {key}"), value.trim_matches(['"', '=']));
            }
        }
        let path = exchange.request.first.split(' ').nth(1).unwrap();
        path.split(['/', '?', '&', '=']).for_each(|part| self.add_text(&format!("{route} path"), part));
        let messages = [("request", Some(&exchange.request)), ("answer", exchange.answer.as_ref())];
        for (which, message) in messages.into_iter().filter_map(|(which, message)| Some((which, message?))) {
            match message.header("content-type") {
                Some(json) if json.contains("json") => {
                    if let Ok(value) = serde_json::from_slice(&message.body) {
                        self.add_json(&format!("{route} {which}"), &value);
                    }
                }
                _ => self.add_bytes(&format!("{route} {which}"), message.body.clone()),
            }
        }
    }
}

macro_rules! rows {
    ($($name:ident $kind:literal,)*) => {
        $(
            #[derive(Serialize, Deserialize)]
            #[serde(transparent)]
            struct $name(Value);

            impl Record for $name {
                const KIND: &'static str = $kind;
            }
        )*

        /// All kinds of rows that are read.
        pub const KINDS: &[&str] = &[$($kind,)*];

        impl Harvest {
            fn add_rows(&mut self, profile: &Profile) {
                $(
                    for (_, row) in profile.list::<$name>().unwrap() {
                        self.add_json(concat!("profile ", $kind), &row.0);
                    }
                )*
            }
        }
    };
}

rows!(
    Account "account",
    AddressBook "address-book",
    Contact "contact",
    DirectoryFile "directory-file",
    DirectoryFiles "directory-files",
    ExchangeJob "exchange",
    Jwt "jwt",
    LogFork "log-fork",
    LogHead "log-head",
    LookedUp "looked-up",
    LookupBatch "lookup-batch",
    LookupCover "lookup-cover",
    LookupRefill "lookup-refill",
    LookupTokens "lookup-tokens",
    LookupTokensAsked "lookup-tokens-asked",
    LookupView "lookup-view",
    MessageRow "message",
    OlmAccount "olm-account",
    OlmSession "olm-session",
    Outbox "outbox",
    Outgoing "outgoing",
    OwnCard "own-card",
    Pins "pins",
    PrekeySupply "prekey-supply",
    Registration "registration",
    ReplyGroup "reply-group",
    ReplyHeld "reply-held",
    ReplyHello "reply-hello",
    ReplyIssued "reply-issued",
    ReplyStrike "reply-strike",
    SealingKey "sealing-key",
    Seen "seen",
    Session "session",
    Settings "settings",
    Token "token",
    TokenAnswered "token-answered",
    TokenKey "token-key",
    TokenKeysSeen "token-keys-seen",
);
