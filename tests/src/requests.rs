//! Every request that has a body or a credential, ready to be accepted and not sent yet: to be damaged, or sent twice.

use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::ClientLogin;
use postern_credentials::secrets::RootSecret;
use postern_credentials::{relay_call, session};
use postern_protocol::directory::{LISTING_PATH, ListingRequest};
use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::ids::{CallNonce, MessageId, decode_base64};
use postern_protocol::internal::{KEYS_PATH, KeysRequest, SIGN_PATH, SignRequest};
use postern_protocol::login::{
    ACCOUNT_PATH, CHALLENGE_PATH, JWT_PATH, JwtAudience, JwtRequest, LOGIN_PATH, REVOKE_PATH, RevokeRequest,
    SessionCall,
};
use postern_protocol::lookup::{ALLOWANCE_PATH, AMORTIZED_REQUEST_MEDIA_TYPE, LOOKUP_PATH};
use postern_protocol::prekeys::{OWN_PREKEYS_PATH, claim_path};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, CodeRequest, CodeResponse, REGISTRATION_PATH};
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, MessageList, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, REVEALS_PATH, STRIKES_PATH, Strikes};
use postern_protocol::send::{Accepted, MAILBOXES_PATH, OWN_CARD_PATH, send_path};
use postern_protocol::tokens::{
    BATCH_REQUEST_MEDIA_TYPE, BatchTokenRequest, REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH, TokenRequest, authorization,
};
use serde::Serialize;

use crate::actor::{Actor, Blinded};
use crate::http::{Reply, post_json};
use crate::replies::declaration;
use crate::world::{ISSUER, RELAY, World, now};

/// What the same bytes get the second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same answer.
    Same,
    /// A refusal, because it is good once.
    Refused(ProblemKind),
    /// Another answer that is as good: it opens nothing by itself.
    Other,
}

/// A request in parts that can be damaged.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: &'static str,
    /// Server and path.
    pub url: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Media type of the body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
    /// What sending it twice gets.
    pub again: Again,
}

impl Request {
    fn new(method: &'static str, url: String, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { method, url, authorization: None, content_type: Some(content_type), body, again: Again::Same }
    }

    fn json(method: &'static str, url: String, body: &impl Serialize) -> Self {
        Self::new(method, url, "application/json", serde_json::to_vec(body).unwrap())
    }

    fn authorized(mut self, value: impl ToString) -> Self {
        self.authorization = Some(value.to_string());
        self
    }

    fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// The same with another body.
    #[must_use]
    pub fn with_body(&self, body: Vec<u8>) -> Self {
        Self { body, ..self.clone() }
    }

    /// Sends it.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, http: &reqwest::Client) -> reqwest::Result<Reply> {
        let mut request = http.request(self.method.parse().unwrap(), &self.url).body(self.body.clone());
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        if let Some(value) = self.content_type {
            request = request.header("content-type", value);
        }
        Reply::to(request).await
    }
}

/// All of them, and the actor whose they are. The world has [`LONG_EPOCHS`](crate::replies::LONG_EPOCHS).
pub async fn all(world: &World) -> (Actor, Vec<Request>) {
    let mut alice = Actor::new(world, "+41791234001").await;
    alice.register(world, 3).await;
    alice.open_mailbox().await;
    alice.login().await;
    let mut all = of_the_issuer(world, &mut alice).await;
    all.extend(about_lookups(&mut alice).await);
    all.extend(of_the_relay(&mut alice).await);
    all.extend(internal(world, &mut alice));
    all.push(deletion(world).await);
    all.extend(signed_by_session(&alice));
    (alice, all)
}

async fn of_the_issuer(world: &World, alice: &mut Actor) -> Vec<Request> {
    let issuance = format!("Bearer {}", alice.jwt(JwtAudience::Issuer).await);
    let mut newcomer = Actor::new(world, "+41791234002").await;
    let cookie: CodeResponse = newcomer.ask_code().await.json();
    let code = world.code_for("+41791234002").unwrap();
    let five = newcomer.blind(5);
    let registration = newcomer.registration(cookie.cookie, code, &five);
    let nobody =
        CodeRequest { phone: "+41791234003".parse().unwrap(), client_key: newcomer.identity.public(), channel: None };
    let (challenge, login) = ClientLogin::begin(&mut alice.rng, alice.phone.clone());
    let answer = alice.ask(post_json(&alice.http, &alice.issuer(CHALLENGE_PATH), &challenge)).await;
    let (login, _) =
        login.answer(&alice.info.name, &alice.info.public_key, &alice.password, &answer.json(), "label").unwrap();
    let fresh = alice.blind(2);
    let single = token_request(alice, &fresh[0]).encode();
    let batch = BatchTokenRequest(vec![token_request(alice, &fresh[1])]).encode().unwrap();
    let tokens = alice.issuer(TOKEN_REQUEST_PATH);
    vec![
        Request::json("POST", alice.issuer(CODE_PATH), &nobody).again(Again::Other),
        Request::json("POST", alice.issuer(REGISTRATION_PATH), &registration),
        Request::json("POST", alice.issuer(CHALLENGE_PATH), &challenge).again(Again::Other),
        Request::json("POST", alice.issuer(LOGIN_PATH), &login).again(Again::Refused(ProblemKind::LoginRefused)),
        Request::new("POST", tokens.clone(), REQUEST_MEDIA_TYPE, single).authorized(&issuance),
        Request::new("POST", tokens, BATCH_REQUEST_MEDIA_TYPE, batch).authorized(&issuance),
    ]
}

fn token_request(actor: &Actor, blinded: &Blinded) -> TokenRequest {
    TokenRequest { truncated_token_key_id: actor.key.truncated_key_id(), blinded_msg: blinded.message }
}

/// A batch of look-up tokens, and a look-up with others.
async fn about_lookups(alice: &mut Actor) -> Vec<Request> {
    let issuance = format!("Bearer {}", alice.jwt(JwtAudience::Issuer).await);
    let window = alice.lookup_window().await;
    let tokens = alice.lookup_tokens(&window, 2).await;
    let lookup = alice.lookup(&window, &tokens, &["+41791234001", "+41791234099"]);
    let batch = alice.blind_lookups(&window, 3).request().encode().unwrap();
    vec![
        Request::new("POST", alice.issuer(TOKEN_REQUEST_PATH), AMORTIZED_REQUEST_MEDIA_TYPE, batch)
            .authorized(issuance),
        Request::json("POST", alice.issuer(LOOKUP_PATH), &lookup),
    ]
}

/// Somebody else gives their account up.
async fn deletion(world: &World) -> Request {
    let mut bob = Actor::new(world, "+41791234004").await;
    bob.register(world, 0).await;
    bob.login().await;
    let request = Request::new("DELETE", bob.issuer(ACCOUNT_PATH), "", Vec::new());
    let (id, key, seq) = bob.session.as_ref().unwrap();
    let mac = session::call_mac(key, "DELETE", ACCOUNT_PATH, seq + 1, &[]);
    let call = SessionCall { session: *id, seq: seq + 1, mac };
    Request { content_type: None, ..request }.authorized(call).again(Again::Refused(ProblemKind::Unauthorized))
}

async fn of_the_relay(alice: &mut Actor) -> Vec<Request> {
    let jwt = format!("Bearer {}", alice.jwt(JwtAudience::Relay).await);
    let grant = format!("Bearer {}", alice.account.as_ref().unwrap().mailbox_grant);
    let to = alice.mailbox();
    // A token that she has spent on herself and released can be exchanged.
    let spent = alice.tokens.pop().unwrap();
    let envelope = alice.envelope(&to, "to myself");
    let accepted: Accepted = alice.send(&to, &spent.token, &envelope).await.json();
    alice.verdict(RELEASE_PATH, &[accepted.message]).await;
    let blinded = alice.blind(1).remove(0);
    let exchange = alice.exchange_request(&spent, &blinded);

    let cold = alice.envelope(&to, "hello");
    let octets = "application/octet-stream";
    let mut all = vec![
        Request::json("POST", alice.relay(EXCHANGE_PATH), &exchange),
        Request::new("POST", alice.relay(&send_path(&to)), octets, cold)
            .authorized(authorization(&alice.tokens[0].token)),
        Request::new("PUT", alice.relay(OWN_CARD_PATH), octets, vec![1; 4096]).authorized(&jwt),
        Request { content_type: None, ..Request::new("POST", alice.relay(MAILBOXES_PATH), "", Vec::new()) }
            .authorized(grant),
    ];
    let list = MessageList { messages: vec![MessageId([9; 32])] };
    for path in [ACK_PATH, RELEASE_PATH, DECLINE_PATH, SPAM_PATH] {
        all.push(Request::json("POST", alice.relay(path), &list).authorized(&jwt));
    }
    all.extend(about_prekeys(alice, &jwt));
    all.extend(about_replies(alice, &jwt).await);
    all
}

/// An upload, first, so that there is something to claim.
fn about_prekeys(alice: &mut Actor, jwt: &str) -> [Request; 2] {
    let (upload, claim, octets) = (alice.draw_prekeys(1, 2), alice.draw_claim(), "application/octet-stream");
    let (own, of_alice) = (alice.relay(OWN_PREKEYS_PATH), alice.relay(&claim_path(&alice.mailbox())));
    [
        Request::new("PUT", own, octets, upload.encode()).authorized(jwt),
        Request::new("POST", of_alice, octets, claim.0.to_vec()),
    ]
}

/// A contact's reply, first, for what follows may take the contact's right away when it is damaged; then what the owner declares,
/// strikes and reveals, of other contacts.
async fn about_replies(alice: &mut Actor, jwt: &str) -> Vec<Request> {
    alice.open_group().await;
    let to = alice.mailbox();
    let (contact, struck, lifted, revealed) =
        (alice.issue().await, alice.issue().await, alice.issue().await, alice.issue().await);
    let envelope = alice.envelope(&to, "a reply");
    let shown = alice.present(&contact, 0, &envelope);
    let (first, second) = (alice.group.clone().unwrap(), alice.draw_group(2));
    let strikes = Strikes { strike: vec![struck.nullifiers(&[])], lift: vec![lifted.nullifiers(&[])] };
    vec![
        Request::new("POST", alice.relay(&send_path(&to)), "application/octet-stream", envelope).authorized(shown),
        Request::json("PUT", alice.relay(REPLY_KEYS_PATH), &declaration(&[&first, &second])).authorized(jwt),
        Request::json("POST", alice.relay(STRIKES_PATH), &strikes).authorized(jwt),
        Request::json("POST", alice.relay(REVEALS_PATH), &revealed.reveal()).authorized(jwt),
    ]
}

/// As the relay would send them: signed with its key, which lies in its directory.
fn internal(world: &World, alice: &mut Actor) -> Vec<Request> {
    let text = std::fs::read_to_string(world.dir.path().join("relay/secret.key")).unwrap();
    let root = RootSecret::from_bytes(decode_base64(text.trim()).unwrap().try_into().unwrap());
    let key: IdentityKey = postern_relay::app::identity(&root);
    let sign = SignRequest { token_key_id: alice.key.key_id(), blinded: alice.blind(1).remove(0).message };
    let signed = |path: &'static str, request: Request, nonce: u8| {
        let nonce = CallNonce([nonce; 16]);
        let call = relay_call::sign_call(&key, ISSUER, RELAY, "POST", path, &request.body, now(), nonce);
        request.authorized(call)
    };
    vec![
        signed(SIGN_PATH, Request::json("POST", alice.issuer(SIGN_PATH), &sign), 1),
        signed(KEYS_PATH, Request::json("POST", alice.issuer(KEYS_PATH), &KeysRequest {}), 2),
    ]
}

fn signed_by_session(alice: &Actor) -> Vec<Request> {
    let (id, key, seq) = alice.session.as_ref().unwrap();
    let jwt = Request::json("POST", alice.issuer(JWT_PATH), &JwtRequest { audience: JwtAudience::Relay });
    let revoke = Request::json("POST", alice.issuer(REVOKE_PATH), &RevokeRequest { session: *id });
    let listing = Request::json("PUT", alice.issuer(LISTING_PATH), &ListingRequest { listed: false });
    let allowance = Request { content_type: None, ..Request::new("GET", alice.issuer(ALLOWANCE_PATH), "", Vec::new()) };
    let signed = |path: &str, seq: u64, request: Request| {
        let mac = session::call_mac(key, request.method, path, seq, &request.body);
        request.authorized(SessionCall { session: *id, seq, mac })
    };
    vec![
        signed(JWT_PATH, seq + 1, jwt).again(Again::Refused(ProblemKind::CallReplayed)),
        signed(LISTING_PATH, seq + 2, listing).again(Again::Refused(ProblemKind::CallReplayed)),
        signed(ALLOWANCE_PATH, seq + 3, allowance).again(Again::Refused(ProblemKind::CallReplayed)),
        // With its session gone there is nobody to be told that it was a replay.
        signed(REVOKE_PATH, seq + 4, revoke).again(Again::Refused(ProblemKind::Unauthorized)),
    ]
}
