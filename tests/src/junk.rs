//! Requests of anybody who has nothing to show, as bytes on a socket; and a client that sends them by the thousand.

use std::fmt::Write as _;
use std::net::SocketAddr;

use postern_credentials::certificate;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest};
use postern_protocol::ids::{
    Base64, CallNonce, LookupTokenBytes, Mac, MailboxId, OprfElement, OprfOutput, RefundSecret, RsaElement, SessionId,
    Signature,
};
use postern_protocol::internal::{KEYS_PATH, RelayCall};
use postern_protocol::login::{ACCOUNT_PATH, CHALLENGE_PATH, ChallengeRequest, LOGIN_PATH, LoginRequest, SessionCall};
use postern_protocol::lookup::{LOOKUP_PATH, LOOKUP_TOKEN_TYPE, LookupRequest, LookupToken, MAX_LOOKUPS};
use postern_protocol::prekeys::claim_path;
use postern_protocol::register::{CODE_PATH, CodeRequest, REGISTRATION_PATH};
use postern_protocol::reply::ReplyAuthorization;
use postern_protocol::send::{MESSAGES_PATH, card_path, send_path};
use postern_protocol::tokens::{REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH, Token, TokenInput, authorization};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::actor::Actor;
use crate::tables::Table;
use crate::world::{RELAY, World, now};

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// A request that no server should do much for.
#[derive(Clone, Debug)]
pub struct Junk {
    /// What it is, for a table.
    pub name: &'static str,
    /// Whether it is for the relay; else for the issuer.
    pub relay: bool,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// The status that it gets.
    pub status: u16,
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: junk\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

fn post(path: &str, body: &impl serde::Serialize) -> Vec<u8> {
    request("POST", path, &[("content-type", JSON)], &serde_json::to_vec(body).unwrap())
}

/// One of every kind. `actor` has an account and a mailbox, which are public enough.
pub fn all(actor: &Actor) -> Vec<Junk> {
    let of_relay =
        for_the_relay(actor).into_iter().map(|(name, status, bytes)| Junk { name, relay: true, bytes, status });
    let of_issuer =
        for_the_issuer(actor).into_iter().map(|(name, status, bytes)| Junk { name, relay: false, bytes, status });
    of_relay.chain(of_issuer).collect()
}

type Kind = (&'static str, u16, Vec<u8>);

/// Everything is right about it but the signature.
fn made_up_token(actor: &Actor) -> Token {
    let input = TokenInput {
        token_type: 2,
        nonce: [1; 32],
        challenge_digest: actor.challenge(),
        token_key_id: actor.key.key_id(),
    };
    Token { input, authenticator: RsaElement([1; 256]) }
}

fn for_the_relay(actor: &Actor) -> Vec<Kind> {
    let (mailbox, nobody) = (actor.mailbox(), MailboxId([0xee; 32]));
    let (send, token) = (send_path(&mailbox), made_up_token(actor));
    let reply = ReplyAuthorization { key_version: 1, epoch: 500_000, presentation: [1; 160] }.to_string();
    let exchange = ExchangeRequest {
        token: Base64(token.encode()),
        refund_secret: RefundSecret::new([1; 32]),
        token_key_id: actor.key.key_id(),
        blinded: RsaElement([1; 256]),
    };
    let octets = |more: Option<&str>, size: usize| {
        let headers: Vec<_> =
            [("content-type", OCTETS)].into_iter().chain(more.map(|it| ("authorization", it))).collect();
        request("POST", &send, &headers, &vec![7; size])
    };
    vec![
        ("send without a token", 401, octets(None, 4096)),
        ("send for a made-up token, 4 KiB", 401, octets(Some(&authorization(&token)), 4096)),
        ("send for a made-up token, 64 KiB", 401, octets(Some(&authorization(&token)), 65_536)),
        ("send by a made-up reply credential", 401, octets(Some(&reply), 4096)),
        ("send of another size", 400, octets(Some(&authorization(&token)), 5000)),
        ("card of nobody", 404, request("GET", &card_path(&nobody), &[], b"")),
        ("prekey of nobody", 404, request("POST", &claim_path(&nobody), &[("content-type", OCTETS)], &[7; 32])),
        ("exchange of a made-up token", 403, post(EXCHANGE_PATH, &exchange)),
        (
            "read with a made-up JWT",
            401,
            request("GET", MESSAGES_PATH, &[("authorization", "Bearer e30.e30.AAAA")], b""),
        ),
        ("no such path", 404, request("GET", "/v1/nothing", &[], b"")),
    ]
}

fn for_the_issuer(actor: &Actor) -> Vec<Kind> {
    let phone = || "+41001234567".parse().unwrap();
    let code = CodeRequest { phone: phone(), client_key: actor.identity.public(), channel: None };
    let registration = serde_json::json!({
        "phone": phone(),
        "cookie": Base64(vec![1; 93]),
        "code": "123456",
        "certificate_request": Base64(certificate::request(&actor.identity).unwrap()),
        "login": { "salt": "AAAAAAAAAAAAAAAAAAAAAA", "verifier": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" },
        "relay": RELAY,
        "tokens": { "token_key_id": actor.key.key_id(), "blinded": [] },
    });
    let challenge = ChallengeRequest { user: phone(), client_ephemeral: postern_protocol::ids::DhPublicKey([9; 32]) };
    let login = LoginRequest { user: phone(), nonce: Base64(vec![1; 200]), proof: Mac([1; 32]), label: "junk".into() };
    let session = SessionCall { session: SessionId([1; 16]), seq: 1, mac: Mac([2; 32]) }.to_string();
    let call = RelayCall {
        relay: RELAY.into(),
        time: now().seconds(),
        nonce: CallNonce([1; 16]),
        signature: Signature([2; 64]),
    };
    let call = call.to_string();
    let tokens = [("authorization", "Bearer e30.e30.AAAA"), ("content-type", REQUEST_MEDIA_TYPE)];
    vec![
        ("code for a number that is none", 400, post(CODE_PATH, &code)),
        ("registration with a made-up cookie", 400, post(REGISTRATION_PATH, &registration)),
        ("challenge for nobody", 200, post(CHALLENGE_PATH, &challenge)),
        ("login with a made-up nonce", 401, post(LOGIN_PATH, &login)),
        ("look-up for a made-up token", 403, post(LOOKUP_PATH, &lookup(1))),
        ("look-up for 128 made-up tokens", 403, post(LOOKUP_PATH, &lookup(MAX_LOOKUPS))),
        ("tokens with a made-up JWT", 401, request("POST", TOKEN_REQUEST_PATH, &tokens, &[0; 259])),
        ("call of a made-up session", 401, request("GET", ACCOUNT_PATH, &[("authorization", &session)], b"")),
        (
            "call of a made-up relay",
            401,
            request("POST", KEYS_PATH, &[("authorization", &call), ("content-type", JSON)], b"{}"),
        ),
        ("no such path ", 404, request("GET", "/v1/nothing", &[], b"")),
    ]
}

/// Of the present window, with tokens that nobody issued.
fn lookup(many: usize) -> LookupRequest {
    let token = |n: u8| -> LookupTokenBytes {
        let input = TokenInput {
            token_type: LOOKUP_TOKEN_TYPE,
            nonce: [n; 32],
            challenge_digest: postern_protocol::ids::ChallengeDigest([2; 32]),
            token_key_id: postern_protocol::ids::TokenKeyId([3; 32]),
        };
        LookupToken { input, authenticator: OprfOutput::new([6; 64]) }.encode()
    };
    // The base point of ristretto255.
    let element = OprfElement([
        0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58, 0xe3,
        0x0b, 0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
    ]);
    let tokens = (0..many).map(|n| token(u8::try_from(n).unwrap())).collect();
    LookupRequest { window: now().seconds() / 86_400, tokens, blinded: vec![element; many] }
}

/// A connection that sends requests one after the other.
pub struct Sender {
    at: SocketAddr,
    stream: TcpStream,
    read: Vec<u8>,
}

impl Sender {
    /// Connects.
    pub async fn to(at: SocketAddr) -> Self {
        Self { at, stream: TcpStream::connect(at).await.unwrap(), read: Vec::new() }
    }

    /// Sends one, reads its answer: the status, and how many bytes came back. Connects again if the server hangs up afterwards.
    pub async fn send(&mut self, bytes: &[u8]) -> (u16, usize) {
        self.stream.write_all(bytes).await.unwrap();
        self.read.clear();
        let head = loop {
            assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "no answer");
            if let Some(end) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while self.read.len() < head + length {
            assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "half an answer");
        }
        if text.contains("connection: close") {
            self.stream = TcpStream::connect(self.at).await.unwrap();
        }
        (text[9..12].parse().unwrap(), self.read.len())
    }
}

/// All rows of all tables, but for who keeps house, which is said anew all the time.
pub fn stored(world: &World) -> Vec<Table> {
    let tables = world.issuer_db.tables().into_iter().chain(world.relay_db.tables());
    tables.filter(|table| table.name != "leases").collect()
}
