//! What residents do, and what they find out by it.

use std::time::Duration;

use postern_credentials::lookup_token::nullifier as lookup_nullifier;
use postern_credentials::oprf;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeResponse};
use postern_protocol::ids::{LookupTokenBytes, MailboxId, MessageId};
use postern_protocol::lookup::{LOOKUP_PATH, LookupInfo, LookupRequest, LookupResponse, LookupTokenResponse};
use postern_protocol::prekeys::{OWN_PREKEYS_PATH, claim_path};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{self, ACK_PATH, DECLINE_PATH, MessageList, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{STRIKES_PATH, Strikes};
use postern_protocol::send::{Accepted, Admission, MESSAGES_PATH, Messages, send_path};
use postern_protocol::tokens::authorization;
use rand::RngExt;
use sha2::{Digest, Sha256};

use super::history::{Act, Id, Outcome, Right, Shown, Verdict};
use super::resident::{Answer, Coin, Posted, Resident};
use crate::http::post_json;
use crate::replies::Issued;

/// Messages that are kept to be sent again.
const KEPT: usize = 6;

impl Resident {
    /// Lives until it is calm; `rest` is the mean pause between two operations.
    pub async fn live(mut self, rest: Duration) -> Self {
        self.settle().await;
        while !self.street.is_calm() {
            let pause = rest.mul_f64(self.actor.rng.random_range(0.1..1.9));
            tokio::time::sleep(pause).await;
            match self.actor.rng.random_range(0..1000) {
                0..210 => self.send().await,
                210..480 => self.check_mail().await,
                480..620 => self.exchange_one().await,
                620..770 => self.reply_once().await,
                770..790 => self.strike().await,
                790..820 => self.stock().await,
                820..870 => self.claim().await,
                870..900 => self.look_up().await,
                900..930 => self.repeat().await,
                930..935 => self.move_house().await,
                _ => self.attack().await,
            }
        }
        self
    }

    /// Reads and acknowledges all that is there, until nothing is.
    pub async fn empty_mailbox(&mut self) {
        loop {
            let shown = self.read(100).await;
            let ids = std::mem::take(&mut self.unacked);
            if shown == 0 && ids.is_empty() {
                return;
            }
            self.ack(ids).await;
        }
    }

    /// Asks for every token that is out, once.
    pub async fn collect(&mut self) {
        self.actor.refresh_key().await;
        for coin in std::mem::take(&mut self.out) {
            self.exchange(coin, true).await;
        }
    }

    async fn send(&mut self) {
        let Some(to) = self.somebody() else { return };
        let Some(coin) = self.purse.pop() else { return self.check_mail().await };
        let (envelope, id) = self.write(&to);
        let answer = self.deliver(&to, Right::Token(coin.id), authorization(&coin.minted.token), envelope, id).await;
        self.spent(coin, &answer);
    }

    /// Where a token is after it was shown with a message.
    pub(super) fn spent(&mut self, coin: Coin, answer: &Answer) {
        match answer.outcome() {
            // It may be attached all the same: then its next message is refused.
            Outcome::Refused(ProblemKind::MailboxUnknown | ProblemKind::MailboxFull) => self.purse.insert(0, coin),
            Outcome::Refused(ProblemKind::TokenAttached) => {}
            _ => self.out.push(coin),
        }
    }

    /// Sends an envelope by some right.
    pub(super) async fn deliver(
        &mut self,
        to: &MailboxId,
        right: Right,
        authorization: String,
        envelope: Vec<u8>,
        id: Id,
    ) -> Answer {
        let answer = self.ask(self.sending(to, &authorization, &envelope)).await;
        self.note_sending(&answer, to, right, id);
        if answer.is_done() {
            let at = self.posted.len().min(KEPT - 1);
            self.posted.truncate(at);
            self.posted.insert(0, Posted { to: *to, right, authorization, envelope });
        }
        answer
    }

    pub(super) fn sending(&self, to: &MailboxId, authorization: &str, envelope: &[u8]) -> reqwest::RequestBuilder {
        let request = self.actor.http.post(self.actor.relay(&send_path(to))).header("authorization", authorization);
        request.header("content-type", "application/octet-stream").body(envelope.to_vec())
    }

    pub(super) fn note_sending(&mut self, answer: &Answer, to: &MailboxId, right: Right, envelope: Id) {
        let message = answer.json::<Accepted>().map(|accepted| Id::of(&accepted.message.0));
        self.note(answer, Act::Send { to: Id::of(&to.0), envelope, right, message });
    }

    async fn check_mail(&mut self) {
        let limit = if self.actor.rng.random_bool(0.3) { self.actor.rng.random_range(1..4) } else { 100 };
        self.read(limit).await;
        self.judge_some().await;
        // Most of what was read, but not all at once.
        let mut ids = std::mem::take(&mut self.unacked);
        let rng = &mut self.actor.rng;
        self.unacked = ids.extract_if(.., |_| rng.random_bool(0.2)).collect();
        self.ack(ids).await;
    }

    /// Looks into the mailbox; how many messages are there.
    async fn read(&mut self, limit: usize) -> usize {
        let answer =
            self.ask_as_owner(|actor| actor.http.get(actor.relay(&format!("{MESSAGES_PATH}?limit={limit}")))).await;
        let mailbox = Id::of(&self.actor.mailbox().0);
        let Some(found) = answer.json::<Messages>() else {
            self.note(&answer, Act::Read { mailbox, shown: Vec::new(), whole: false });
            return 0;
        };
        let envelope = |envelope: &[u8]| Id::of(&Sha256::digest(envelope));
        let shown = found
            .messages
            .iter()
            .map(|it| Shown { message: Id::of(&it.message.0), envelope: envelope(&it.envelope.0) });
        let shown: Vec<_> = shown.collect();
        for (message, shown) in found.messages.iter().zip(&shown) {
            if !self.unacked.contains(&message.message) {
                self.unacked.push(message.message);
            }
            if self.seen.insert(message.message) && message.admission == Admission::Token {
                let from = self.street.letters.lock().unwrap().get(&shown.envelope).copied();
                self.undecided.push((message.message, from));
            }
        }
        self.note(&answer, Act::Read { mailbox, shown, whole: !found.more });
        found.messages.len()
    }

    /// Says of some what they are; the others wait.
    async fn judge_some(&mut self) {
        let (mut back, mut declined, mut spam) = (Vec::new(), Vec::new(), Vec::new());
        for (message, from) in std::mem::take(&mut self.undecided) {
            match self.actor.rng.random_range(0..100) {
                0..60 => {
                    back.push(message);
                    if let Some(from) = from {
                        self.issue_to(from).await;
                    }
                }
                60..75 => declined.push(message),
                75..79 => spam.push(message),
                _ => self.undecided.push((message, from)),
            }
        }
        for (verdict, messages) in [(Verdict::Release, back), (Verdict::Decline, declined), (Verdict::Spam, spam)] {
            self.judge(verdict, messages).await;
        }
    }

    /// Tells the relay what some messages are.
    pub(super) async fn judge(&mut self, verdict: Verdict, messages: Vec<MessageId>) {
        if messages.is_empty() {
            return;
        }
        let path = match verdict {
            Verdict::Release => RELEASE_PATH,
            Verdict::Decline => DECLINE_PATH,
            Verdict::Spam => SPAM_PATH,
        };
        let (answer, done) = self.tell(path, &messages).await;
        let mailbox = Id::of(&self.actor.mailbox().0);
        for message in messages {
            let (known, id) = (done.contains(&message), Id::of(&message.0));
            let outcome = match answer.outcome() {
                Outcome::Done if !known => Outcome::Refused(ProblemKind::BurntForEver),
                outcome => outcome,
            };
            if outcome == Outcome::Done {
                self.decided.entry(message).or_insert(verdict.returns());
            }
            self.note_as(&answer, Act::Judge { mailbox, message: id, verdict }, outcome);
        }
    }

    async fn ack(&mut self, messages: Vec<MessageId>) {
        if messages.is_empty() {
            return;
        }
        let (answer, done) = self.tell(ACK_PATH, &messages).await;
        let mailbox = Id::of(&self.actor.mailbox().0);
        for message in messages {
            let outcome = match answer.outcome() {
                // Nothing else refuses one message of many.
                Outcome::Done if !done.contains(&message) => Outcome::Refused(ProblemKind::NotFound),
                outcome => outcome,
            };
            self.note_as(&answer, Act::Ack { mailbox, message: Id::of(&message.0) }, outcome);
        }
    }

    /// Posts ids of messages; which of them it was done for.
    async fn tell(&mut self, path: &str, messages: &[MessageId]) -> (Answer, Vec<MessageId>) {
        let list = MessageList { messages: messages.to_vec() };
        let answer = self.ask_as_owner(|actor| post_json(&actor.http, &actor.relay(path), &list)).await;
        let done = answer.json::<release::Outcome>().map(|outcome| outcome.done).unwrap_or_default();
        (answer, done)
    }

    async fn exchange_one(&mut self) {
        // Now and then somebody asks for the key, and finds that tokens in hand are of an older one.
        if self.actor.rng.random_bool(0.1) {
            self.actor.refresh_key().await;
        }
        let active = self.actor.key.key_id();
        if let Some(old) = self.purse.iter().position(|coin| coin.key != active) {
            let coin = self.purse.swap_remove(old);
            return self.exchange(coin, false).await;
        }
        if self.out.is_empty() {
            return self.check_mail().await;
        }
        let coin = self.out.remove(0);
        self.exchange(coin, true).await;
    }

    /// Exchanges a token that was spent, or one that was not.
    pub(super) async fn exchange(&mut self, coin: Coin, spent: bool) {
        let (key, retiring) = (self.actor.key.clone(), coin.key != self.actor.key.key_id());
        let blinded = self.actor.blind(1).remove(0);
        let request = self.actor.exchange_request(&coin.minted, &blinded);
        let answer = self.ask(post_json(&self.actor.http, &self.actor.relay(EXCHANGE_PATH), &request)).await;
        let fresh = answer.json::<ExchangeResponse>().map(|response| {
            let token = blinded.pending.finish(&key, &response.blind_signature).expect("a signature that is none");
            Coin::new(crate::actor::Minted { token, refund: blinded.refund.clone() })
        });
        let act = Act::Exchange {
            old: coin.id,
            blinded: Id::of(&Sha256::digest(blinded.message.0)),
            fresh: fresh.as_ref().map(|fresh| fresh.id),
            retiring,
        };
        self.note(&answer, act);
        match answer.outcome() {
            Outcome::Done => {
                self.purse.extend(fresh);
                self.worn.truncate(3);
                self.worn.insert(0, coin);
            }
            Outcome::Refused(kind @ (ProblemKind::NotReleased | ProblemKind::KeyNotActive)) => {
                if spent {
                    self.out.push(coin)
                } else {
                    self.purse.push(coin)
                }
                if kind == ProblemKind::KeyNotActive {
                    self.actor.refresh_key().await;
                }
            }
            _ => {}
        }
    }

    /// A reply by the next slot of some credential.
    async fn reply_once(&mut self) {
        let handed = std::mem::take(&mut *self.street.handed[self.index as usize].lock().unwrap());
        self.held.extend(handed.into_iter().map(|issued| (issued, 0)));
        if self.held.is_empty() {
            return self.check_mail().await;
        }
        let at = self.actor.rng.random_range(0..self.held.len());
        let (issued, slot) = self.held[at].clone();
        self.held[at].1 += 1;
        if slot + 1 >= Self::slots() {
            self.held.swap_remove(at);
        }
        let to = issued.context.of.mailbox;
        let (envelope, id) = self.write(&to);
        let (right, authorization) = self.show(&issued, slot, &envelope);
        let answer = self.deliver(&to, right, authorization, envelope, id).await;
        if answer.outcome() == Outcome::Refused(ProblemKind::MailboxUnknown) {
            self.held.retain(|(issued, _)| issued.context.of.mailbox != to);
        }
    }

    /// Shows a slot for an envelope.
    pub(super) fn show(&mut self, issued: &Issued, slot: u16, envelope: &[u8]) -> (Right, String) {
        let shown = self.actor.present(issued, slot, envelope);
        let slot = Id::of(&issued.message_id(&shown).0);
        (Right::Slot { contact: contact(issued), slot }, shown.to_string())
    }

    async fn strike(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let at = self.actor.rng.random_range(0..self.members.len());
        let struck = self.members.swap_remove(at);
        let strikes = Strikes { strike: vec![struck.nullifiers(&[])], lift: Vec::new() };
        let answer = self.ask_as_owner(|actor| post_json(&actor.http, &actor.relay(STRIKES_PATH), &strikes)).await;
        self.note(&answer, Act::Strike { mailbox: Id::of(&self.actor.mailbox().0), contact: contact(&struck) });
    }

    async fn stock(&mut self) {
        self.batch += 1;
        let upload = self.actor.draw_prekeys(self.batch, 5);
        let prekeys = upload.prekeys.iter().map(|prekey| Id::of(&prekey.0)).collect();
        let body = upload.encode();
        let answer = self
            .ask_as_owner(|actor| {
                let request = actor.http.put(actor.relay(OWN_PREKEYS_PATH));
                request.header("content-type", "application/octet-stream").body(body.clone())
            })
            .await;
        self.note(&answer, Act::Stock { mailbox: Id::of(&self.actor.mailbox().0), prekeys });
    }

    async fn claim(&mut self) {
        let Some(of) = self.somebody() else { return };
        // Now and then one that was made before: it gets what it got.
        let old = if self.claims.is_empty() || self.actor.rng.random_bool(0.8) {
            None
        } else {
            let at = self.actor.rng.random_range(0..self.claims.len());
            Some(self.claims[at])
        };
        let (of, claim) = old.unwrap_or_else(|| (of, self.actor.draw_claim()));
        let request = self.actor.http.post(self.actor.relay(&claim_path(&of)));
        let request = request.header("content-type", "application/octet-stream").body(claim.0.to_vec());
        let answer = self.ask(request).await;
        let reply = answer.reply.as_ref().filter(|reply| reply.status == 200);
        let prekey = reply.map(|reply| Id::of(&reply.body));
        if prekey.is_some() && old.is_none() {
            self.claims.truncate(KEPT - 1);
            self.claims.insert(0, (of, claim));
        }
        self.note(&answer, Act::Claim { mailbox: Id::of(&of.0), claim: Id::of(&claim.0), prekey });
    }

    async fn look_up(&mut self) {
        let info = self.ask(self.actor.http.get(self.actor.issuer(LOOKUP_PATH))).await;
        let Some(info) = info.json::<LookupInfo>() else { return };
        let (window, pending) = (info.keys[0], self.actor.blind_lookups(&info.keys[0], 4));
        let reply = self.actor.ask_for_lookups(&pending).await;
        // A clock that jumped: another window, or a JWT that is too old; or the quota is used up.
        let Some(response) = (reply.status == 200).then(|| LookupTokenResponse::decode(&reply.body).unwrap()) else {
            return;
        };
        let tokens = pending.finish(&window.key, &response).expect("look-up tokens that are none");
        let (first, second) = tokens.split_at(2);
        // The others, or one of the same in another request, at once.
        let second = if self.actor.rng.random_bool(0.3) { &first[..1] } else { second };
        let (one, other) = (self.numbers(&info, first), self.numbers(&info, second));
        let (answer, answer2) = futures::join!(self.ask_numbers(&one), self.ask_numbers(&other));
        self.note_numbers(&info, &answer, one);
        self.note_numbers(&info, &answer2, other);
    }

    /// A request for as many numbers as there are tokens.
    fn numbers(&mut self, info: &LookupInfo, tokens: &[postern_protocol::lookup::LookupToken]) -> Numbers {
        let paid = tokens.iter().map(|token| Id::of(&lookup_nullifier(&token.input).0)).collect();
        let numbers: Vec<u32> = tokens.iter().map(|_| self.actor.rng.random_range(0..50)).collect();
        let blind = |number: &u32| oprf::blind(&mut self.actor.rng, text(*number).as_bytes()).unwrap();
        let (blinded, blindings): (Vec<_>, Vec<_>) = numbers.iter().map(blind).unzip();
        let tokens = tokens.iter().map(|token| LookupTokenBytes(*token.encode().as_bytes())).collect();
        let request = LookupRequest { window: info.keys[0].window, tokens, blinded };
        let id = Id::of(&Sha256::digest(serde_json::to_vec(&request).unwrap()));
        Numbers { request, id, paid, numbers, blindings }
    }

    async fn ask_numbers(&self, numbers: &Numbers) -> Answer {
        self.ask(post_json(&self.actor.http, &self.actor.issuer(LOOKUP_PATH), &numbers.request)).await
    }

    fn note_numbers(&mut self, info: &LookupInfo, answer: &Answer, numbers: Numbers) {
        let response = answer.json::<LookupResponse>();
        let epoch = response.as_ref().map_or(0, |response| response.oprf_epoch);
        let texts: Vec<String> = numbers.numbers.iter().map(|number| text(*number)).collect();
        let answers = response.map(|response| {
            let batch: Vec<_> = texts.iter().map(String::as_bytes).zip(&numbers.blindings).collect();
            let outputs = oprf::finish(&info.oprf_key, &batch, &response.evaluated, &response.proof);
            let outputs = outputs.expect("a look-up with a proof that is none");
            numbers.numbers.iter().copied().zip(outputs.iter().map(|output| Id::of(output.expose()))).collect()
        });
        let (request, tokens) = (numbers.id, numbers.paid);
        self.note(answer, Act::LookUp { request, tokens, answers: answers.unwrap_or_default(), epoch });
    }

    /// Sends again what was confirmed, byte for byte.
    async fn repeat(&mut self) {
        if self.posted.is_empty() {
            return;
        }
        let at = self.actor.rng.random_range(0..self.posted.len());
        let Posted { to, right, authorization, envelope } = self.posted[at].clone();
        let answer = self.ask(self.sending(&to, &authorization, &envelope)).await;
        self.note_sending(&answer, &to, right, Id::of(&Sha256::digest(&envelope)));
    }
}

/// A look-up on its way.
struct Numbers {
    request: LookupRequest,
    id: Id,
    paid: Vec<Id>,
    numbers: Vec<u32>,
    blindings: Vec<oprf::Blinding>,
}

fn text(number: u32) -> String {
    format!("+417913{number:05}")
}

/// Names a contact by its credential.
pub(super) fn contact(issued: &Issued) -> Id {
    Id::of(&Sha256::digest(issued.seed.to_stored()))
}
