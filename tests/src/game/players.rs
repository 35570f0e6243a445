//! A world of the linkability game: people who register, send, judge, exchange and reply, each thing by the client's own channels, and
//! everything that both servers saw of each.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use postern_client::channel::{Authenticated, JSON, OCTETS, Request};
use postern_credentials::blind_token::{PendingToken, VerifyingKey, challenge_digest};
use postern_credentials::identity::IdentityKey;
use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberCredential, MemberSecret, Params, envelope_digest, relay_id,
};
use postern_credentials::session::{SessionKey, call_mac};
use postern_credentials::{certificate, envelope};
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::{
    Base64, GroupSecretBytes, LoginSalt, LoginVerifier, MailboxId, MessageId, PhoneNumber, RefundSecret, RsaElement,
    SealedPrekey, SessionId,
};
use postern_protocol::login::{JWT_PATH, JwtAudience, JwtRequest, JwtResponse, SessionCall};
use postern_protocol::prekeys::{OWN_PREKEYS_PATH, PrekeyUpload, claim_path};
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, LoginEnrolment, REGISTRATION_PATH, RegistrationRequest,
    RegistrationResponse,
};
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, MessageList, RELEASE_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, ReplyAuthorization, ReplyKey, ReplyKeys, ReplyPolicy};
use postern_protocol::send::{MAILBOXES_PATH, MESSAGES_PATH, Messages, OWN_CARD_PATH, card_path, send_path};
use postern_protocol::time::Clock;
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, Token, TokenChallenge, authorization};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use reqwest::Method;
use reqwest::header::HeaderName;
use rusqlite::Connection;

use super::events::{CONTACTS, Event, Kind, REPEATS, Slip, declines, owner_of};
use super::people::{ask, begin_session, bytes};
use super::servers::Servers;
use crate::world::{ISSUER, RELAY};

/// A first message brings certificate and reply credentials along: 16 KiB.
const FIRST: usize = 6000;
/// An answer brings no more than its text: 4 KiB.
const LATER: usize = 100;

/// A token with what exchanges it.
struct Minted {
    token: Token,
    refund: RefundSecret,
}

struct Player {
    mailbox: MailboxId,
    session: SessionId,
    key: [u8; 32],
    seq: u64,
    tokens: Vec<Minted>,
    spent: Option<Minted>,
    received: Vec<MessageId>,
    group: GroupSecret,
    /// To whom it may reply.
    credential: Option<(Context, MemberCredential)>,
    /// For [`Slip::SameConnection`].
    channel: Rc<Authenticated>,
    tag: String,
}

/// A world under way.
pub struct Play {
    servers: Servers,
    rng: StdRng,
    slip: Slip,
    key: VerifyingKey,
    players: Vec<Player>,
    events: Vec<Event>,
    seen: BTreeMap<String, i64>,
}

/// A world with so many people, to its end: what happened, and the last token key. Time passes between phases only: within one the clock stands still and the order is drawn,
/// so that neither time nor order says anything unless a client gives it away.
pub fn play(people: usize, seed: u64, slip: Slip) -> (Vec<Event>, VerifyingKey) {
    // What servers log goes to one place in a process.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let servers = Servers::seeded(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let key = runtime.block_on(active_key(&servers));
    let rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut play = Play { servers, rng, slip, key, players: Vec::new(), events: Vec::new(), seen: Default::default() };
    for player in 0..people {
        // One key for a few accounts: what they show later is of that key.
        if slip == Slip::MarkedKeys && player % 2 == 1 {
            play.servers.rotate_key_now();
            play.key = runtime.block_on(active_key(&play.servers));
        }
        runtime.block_on(play.register(player));
    }
    runtime.block_on(play.after_registration(people));
    (play.events, play.key)
}

async fn active_key(servers: &Servers) -> VerifyingKey {
    let request = Request::get(&servers.issuer_url, DIRECTORY_PATH).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let directory: Directory = servers.anonymous().send(&mut rng, &request).await.unwrap().json().unwrap();
    VerifyingKey::from_spki(&directory.token_keys[0].token_key.0).unwrap()
}

impl Play {
    async fn after_registration(&mut self, people: usize) {
        let order = self.order(people);
        for player in order {
            self.begin();
            self.publish(player).await;
            if self.slip != Slip::AtOnce {
                self.end(Kind::Session, player);
            }
        }
        // To whom everybody writes: nobody gets two of one phase.
        let (first, second) = (self.order(people), self.order(people));
        let to = |ring: &[usize], from: usize| {
            let at = ring.iter().position(|player| *player == from).unwrap();
            ring[(at + 1) % ring.len()]
        };
        for player in self.phase(people) {
            self.begin();
            self.cold_send(player, to(&first, player)).await;
            self.end(Kind::ColdSend, player);
        }
        for player in self.phase(people) {
            self.begin();
            self.judge(player).await;
            self.end(Kind::Verdict, player);
        }
        for player in self.phase(people) {
            self.begin();
            if self.slip == Slip::AtOnce {
                self.servers.clock.advance_seconds(60);
                self.at_mailbox(player, Method::GET, MESSAGES_PATH, None).await;
                self.end(Kind::Session, player);
            }
            self.exchange(player).await;
            self.end(Kind::Exchange, player);
        }
        for player in self.phase(people) {
            self.begin();
            self.cold_send(player, to(&second, player)).await;
            self.end(Kind::NextSend, player);
        }
        self.issue(people);
        for (kind, slot) in [(Kind::Reply, 0), (Kind::NextReply, 1)] {
            for player in self.phase(people) {
                self.begin();
                self.reply(player, if self.slip == Slip::SameSlot { 0 } else { slot }).await;
                self.end(kind, player);
            }
        }
    }

    /// Time passes, and the order is drawn.
    fn phase(&mut self, people: usize) -> Vec<usize> {
        self.servers.clock.advance_seconds(300);
        if self.slip == Slip::InOrder { (0..people).collect() } else { self.order(people) }
    }

    fn order(&mut self, people: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..people).collect();
        order.shuffle(&mut self.rng);
        order
    }

    fn begin(&mut self) {
        self.servers.recorder.take();
    }

    fn end(&mut self, kind: Kind, player: usize) {
        let exchanges = self.servers.recorder.take();
        let rows = self.new_rows();
        let place = self.events.iter().filter(|event| event.kind == kind).count();
        self.events.push(Event { kind, player, place, exchanges, rows });
    }

    fn new_rows(&mut self) -> Vec<(String, i64)> {
        let mut rows = Vec::new();
        for (server, file) in [("issuer", self.servers.issuer_db()), ("relay", self.servers.relay_db())] {
            let db = Connection::open(file).unwrap();
            db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            let mut names = db.prepare("select name from sqlite_schema where type = 'table'").unwrap();
            let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            for name in names {
                let last: Option<i64> =
                    db.query_row(&format!("select max(rowid) from \"{name}\""), [], |row| row.get(0)).unwrap();
                let last = last.unwrap_or_default();
                // Some tables are in both databases.
                let name = format!("{server}.{name}");
                if self.seen.insert(name.clone(), last).unwrap_or_default() < last {
                    rows.push((name, last));
                }
            }
        }
        rows
    }

    /// Sends a request of somebody that names nobody, in the way of the slip; the answer.
    async fn anonymously(&mut self, player: usize, request: Request) -> postern_client::channel::Reply {
        match self.slip {
            Slip::SameConnection => self.players[player].channel.send(&request).await.unwrap(),
            Slip::AccountHeader => self.with_header(&request, "x-client", &self.players[player].tag.clone()).await,
            Slip::HeaderOrder => self.with_header(&request, &format!("x-option-{player}"), "1").await,
            Slip::Length => self.with_header(&request, "x-padding", &"=".repeat(1 + 8 * player)).await,
            Slip::Repeats => {
                for _ in 0..player % REPEATS {
                    self.servers.anonymous().send(&mut self.rng, &request).await.unwrap();
                }
                self.servers.anonymous().send(&mut self.rng, &request).await.unwrap()
            }
            _ => self.servers.anonymous().send(&mut self.rng, &request).await.unwrap(),
        }
    }

    /// The client cannot: so by another one, once it was seen what the client's sends.
    async fn with_header(&self, request: &Request, name: &str, value: &str) -> postern_client::channel::Reply {
        let (method, url, headers, body) = request.parts();
        let mut again = reqwest::Client::new().request(method.clone(), url.clone()).body(body.to_vec());
        for (name, value) in headers {
            again = again.header(*name, value);
        }
        let again = again.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        let answer = crate::http::Reply::to(again).await.unwrap();
        postern_client::channel::Reply { status: answer.status, headers: answer.headers, body: answer.body }
    }

    /// One run of somebody's command, as an account.
    fn channel(&self, player: usize) -> Rc<Authenticated> {
        if self.slip == Slip::SameConnection {
            Rc::clone(&self.players[player].channel)
        } else {
            Rc::new(self.servers.authenticated())
        }
    }

    fn blind(&mut self) -> (RsaElement, PendingToken, RefundSecret) {
        let digest = challenge_digest(&TokenChallenge::for_relay(ISSUER, RELAY)).unwrap();
        let refund = RefundSecret::new(bytes(&mut self.rng));
        let (message, pending) = if self.slip == Slip::KnownBlinding {
            PendingToken::begin(&mut known_factor(), &self.key, digest, &refund).unwrap()
        } else {
            PendingToken::begin(&mut self.rng, &self.key, digest, &refund).unwrap()
        };
        (message, pending, refund)
    }

    async fn register(&mut self, player: usize) {
        self.begin();
        let identity = IdentityKey::generate(&mut self.rng);
        let phone: PhoneNumber = format!("+4179{:07}", 1_000_000 + player * 17).parse().unwrap();
        let channel = Rc::new(self.servers.authenticated());
        let code = CodeRequest { phone: phone.clone(), client_key: identity.public(), channel: None };
        let code = Request::post_json(&self.servers.issuer_url, CODE_PATH, &code).unwrap();
        let cookie: CodeResponse = ask(&channel, &code).await;
        let blinded: Vec<_> = (0..5).map(|_| self.blind()).collect();
        let request = RegistrationRequest {
            phone: phone.clone(),
            cookie: cookie.cookie,
            code: self.servers.last_code(),
            certificate_request: Base64(certificate::request(&identity).unwrap()),
            login: LoginEnrolment {
                salt: LoginSalt(bytes(&mut self.rng)),
                verifier: LoginVerifier::new(bytes(&mut self.rng)),
            },
            relay: RELAY.to_owned(),
            tokens: BlindedTokens {
                token_key_id: self.key.key_id(),
                blinded: blinded.iter().map(|blinded| blinded.0).collect(),
            },
        };
        let request = Request::post_json(&self.servers.issuer_url, REGISTRATION_PATH, &request).unwrap();
        let account: RegistrationResponse = ask(&channel, &request).await;
        let open = Request::new(Method::POST, &self.servers.relay_url, MAILBOXES_PATH).unwrap();
        let opened = channel.send(&open.authorization(format!("Bearer {}", account.mailbox_grant))).await.unwrap();
        assert!(opened.status < 300, "{}", opened.status);
        let (session, key) = (SessionId(bytes(&mut self.rng)), bytes(&mut self.rng));
        begin_session(&self.servers, &mut self.rng, &phone, &session, &key);
        let tokens = blinded.into_iter().zip(&account.blind_signatures).map(|((_, pending, refund), signature)| {
            Minted { token: pending.finish(&self.key, signature).unwrap(), refund }
        });
        self.players.push(Player {
            mailbox: account.mailbox,
            session,
            key,
            seq: 0,
            tokens: tokens.collect(),
            spent: None,
            received: Vec::new(),
            group: GroupSecret::generate(&mut self.rng),
            credential: None,
            channel,
            tag: postern_protocol::ids::encode_base64(&bytes::<16>(&mut self.rng)),
        });
        if self.slip == Slip::AccountHeader {
            // The account came with it too.
            let request = Request::get(&self.servers.issuer_url, DIRECTORY_PATH).unwrap();
            self.with_header(&request, "x-client", &self.players[player].tag.clone()).await;
        }
        self.end(Kind::Registration, player);
    }

    async fn jwt(&mut self, player: usize, channel: &Authenticated) -> String {
        let owner = &mut self.players[player];
        owner.seq += 1;
        let body = serde_json::to_vec(&JwtRequest { audience: JwtAudience::Relay }).unwrap();
        let mac = call_mac(&SessionKey::from_bytes(owner.key), "POST", JWT_PATH, owner.seq, &body);
        let call = SessionCall { session: owner.session, seq: owner.seq, mac };
        let request = Request::new(Method::POST, &self.servers.issuer_url, JWT_PATH).unwrap();
        let response: JwtResponse = ask(channel, &request.authorization(call.to_string()).body(JSON, body)).await;
        response.jwt
    }

    /// A request at the own mailbox.
    async fn at_mailbox(
        &mut self,
        player: usize,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Vec<u8> {
        let channel = self.channel(player);
        let jwt = self.jwt(player, &channel).await;
        let mut request = Request::new(method, &self.servers.relay_url, path).unwrap();
        request = request.authorization(format!("Bearer {jwt}"));
        if let Some((media, body)) = body {
            request = request.body(media, body);
        }
        let answer = channel.send(&request).await.unwrap();
        assert!(answer.status < 300, "{path}: {}", answer.status);
        answer.body
    }

    /// Card, prekeys, group secret.
    async fn publish(&mut self, player: usize) {
        let card = bytes::<2048>(&mut self.rng).to_vec();
        self.at_mailbox(player, Method::PUT, OWN_CARD_PATH, Some((OCTETS, card))).await;
        let prekeys = (0..4).map(|_| SealedPrekey(bytes(&mut self.rng))).collect();
        let upload = PrekeyUpload { batch: 1, prekeys }.encode();
        self.at_mailbox(player, Method::PUT, OWN_PREKEYS_PATH, Some((OCTETS, upload))).await;
        let secret = GroupSecretBytes::from_slice(&self.players[player].group.to_stored()).unwrap();
        let keys = serde_json::to_vec(&ReplyKeys { keys: vec![ReplyKey { key_version: 1, secret }] }).unwrap();
        self.at_mailbox(player, Method::PUT, REPLY_KEYS_PATH, Some((JSON, keys))).await;
    }

    /// So much text, with what goes with it, makes the size that the client's has.
    fn envelope(&mut self, to: &MailboxId, inside: usize) -> Vec<u8> {
        let key = envelope::SealingKey::generate(&mut self.rng).public();
        envelope::seal(&mut self.rng, &key, to, &vec![b'x'; inside]).unwrap()
    }

    async fn cold_send(&mut self, player: usize, to: usize) {
        let (mailbox, relay) = (self.players[to].mailbox, self.servers.relay_url.clone());
        let card = self.anonymously(player, Request::get(&relay, &card_path(&mailbox)).unwrap()).await;
        assert_eq!(card.status, 200);
        let claim = bytes::<32>(&mut self.rng).to_vec();
        let claim = Request::new(Method::POST, &relay, &claim_path(&mailbox)).unwrap().body(OCTETS, claim);
        assert_eq!(self.anonymously(player, claim).await.status, 200);
        // The one that came last first: the second message goes by the exchanged one.
        let minted = self.players[player].tokens.pop().unwrap();
        let envelope = self.envelope(&mailbox, FIRST);
        let request = Request::new(Method::POST, &relay, &send_path(&mailbox)).unwrap();
        let request = request.authorization(authorization(&minted.token)).body(OCTETS, envelope);
        let sent = self.anonymously(player, request).await;
        assert_eq!(sent.status, 201, "{}", String::from_utf8_lossy(&sent.body));
        self.players[player].spent = Some(minted);
    }

    /// Reads what came, acknowledges it, and gives the token back.
    async fn judge(&mut self, player: usize) {
        let read = self.at_mailbox(player, Method::GET, MESSAGES_PATH, None).await;
        let messages: Messages = serde_json::from_slice(&read).unwrap();
        let ids: Vec<MessageId> = messages.messages.iter().map(|message| message.message).collect();
        assert_eq!(ids.len(), 1);
        let list = serde_json::to_vec(&MessageList { messages: ids.clone() }).unwrap();
        self.at_mailbox(player, Method::POST, ACK_PATH, Some((JSON, list.clone()))).await;
        let path = if declines(player) && self.slip == Slip::SaysDecline { DECLINE_PATH } else { RELEASE_PATH };
        self.at_mailbox(player, Method::POST, path, Some((JSON, list))).await;
        self.players[player].received = ids;
    }

    async fn exchange(&mut self, player: usize) {
        let (blinded, pending, refund) = self.blind();
        let old = self.players[player].spent.take().unwrap();
        let request = ExchangeRequest {
            token: Base64(old.token.encode()),
            refund_secret: old.refund.clone(),
            token_key_id: self.key.key_id(),
            blinded,
        };
        let request = Request::post_json(&self.servers.relay_url, EXCHANGE_PATH, &request).unwrap();
        let answer: ExchangeResponse = self.anonymously(player, request).await.json().unwrap();
        let token = pending.finish(&self.key, &answer.blind_signature).unwrap();
        self.players[player].tokens.push(Minted { token, refund });
    }

    /// Every two have the next one as an owner of a mailbox that they may reply to: out of sight of the servers.
    fn issue(&mut self, people: usize) {
        let policy = ReplyPolicy::default();
        let epoch = policy.epoch_at(self.servers.clock.now());
        for player in 0..people {
            let owner = owner_of(player, people);
            let of =
                KeyPeriod { mailbox: self.players[owner].mailbox, key_version: 1, period: policy.period_of(epoch) };
            let seed = MemberSecret::generate(&mut self.rng);
            let credential = self.players[owner].group.issue(Params::default(), &of, &seed);
            let own_epoch = epoch - u32::from(self.slip == Slip::OwnEpoch && player % CONTACTS == 1);
            let context = Context { relay: relay_id(RELAY), of, epoch: own_epoch };
            self.players[player].credential = Some((context, credential));
        }
    }

    async fn reply(&mut self, player: usize, slot: u16) {
        let (context, credential) = self.players[player].credential.clone().unwrap();
        let card = Request::get(&self.servers.relay_url, &card_path(&context.of.mailbox)).unwrap();
        assert_eq!(self.anonymously(player, card).await.status, 200);
        let envelope = self.envelope(&context.of.mailbox, LATER);
        let digest = envelope_digest(&envelope);
        let shown = credential.present(&mut self.rng, &context, slot, &digest).unwrap();
        let shown = ReplyAuthorization { key_version: 1, epoch: context.epoch, presentation: shown.encode() };
        let path = send_path(&context.of.mailbox);
        let request = Request::new(Method::POST, &self.servers.relay_url, &path).unwrap();
        let request = request.authorization(shown.to_string()).body(OCTETS, envelope);
        let sent = self.anonymously(player, request).await;
        assert!(
            sent.status == 201 || matches!(self.slip, Slip::SameSlot | Slip::OwnEpoch),
            "{}",
            String::from_utf8_lossy(&sent.body)
        );
    }
}

/// The generator of [`Slip::KnownBlinding`].
pub fn known_factor() -> StdRng {
    StdRng::seed_from_u64(77)
}
