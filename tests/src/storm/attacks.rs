//! What residents do who want more than they are due. All of it is to be refused, or to come to nothing.

use futures::join;
use postern_credentials::blind_token::nullifier;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeResponse};
use postern_protocol::ids::{MessageId, RsaElement};
use postern_protocol::login::JwtAudience;
use postern_protocol::problem::ProblemKind;
use postern_protocol::tokens::{
    REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH, TokenRequest, authorization, parse_authorization,
};
use rand::RngExt;
use sha2::{Digest, Sha256};

use super::history::{Act, Id, Outcome, Right, Verdict};
use super::resident::{Coin, Resident};
use crate::actor::Minted;
use crate::http::post_json;

impl Resident {
    /// Some attack.
    pub(super) async fn attack(&mut self) {
        match self.actor.rng.random_range(0..8) {
            0 | 1 => self.spend_twice().await,
            2 => self.use_a_slot_twice().await,
            3 => self.exchange_twice().await,
            4 => self.spend_what_was_exchanged().await,
            5 => self.ask_for_a_sixth().await,
            6 => self.turn_a_verdict().await,
            _ => self.help_oneself().await,
        }
    }

    /// One token for two messages at once, in two mailboxes if there are two.
    async fn spend_twice(&mut self) {
        let (Some(to), Some(to2)) = (self.somebody(), self.somebody()) else { return };
        let Some(coin) = self.purse.pop() else { return };
        let (one, other) = (self.write(&to), self.write(&to2));
        let authorization = authorization(&coin.minted.token);
        let (answer, answer2) = join!(
            self.ask(self.sending(&to, &authorization, &one.0)),
            self.ask(self.sending(&to2, &authorization, &other.0))
        );
        let right = Right::Token(coin.id);
        self.note_sending(&answer, &to, right, one.1);
        self.note_sending(&answer2, &to2, right, other.1);
        // Whichever was first.
        self.spent(coin, if answer.is_done() { &answer } else { &answer2 });
    }

    /// One slot for two replies at once.
    async fn use_a_slot_twice(&mut self) {
        let Some((issued, slot)) = self.held.pop() else { return };
        if slot + 1 < Self::slots() {
            self.held.push((issued.clone(), slot + 1));
        }
        let to = issued.context.of.mailbox;
        let (one, other) = (self.write(&to), self.write(&to));
        let (right, shown) = self.show(&issued, slot, &one.0);
        let (_, shown2) = self.show(&issued, slot, &other.0);
        let (answer, answer2) =
            join!(self.ask(self.sending(&to, &shown, &one.0)), self.ask(self.sending(&to, &shown2, &other.0)));
        self.note_sending(&answer, &to, right, one.1);
        self.note_sending(&answer2, &to, right, other.1);
    }

    /// One token for two blinded messages at once.
    async fn exchange_twice(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let at = self.actor.rng.random_range(0..self.out.len());
        let coin = self.out.swap_remove(at);
        let (key, retiring) = (self.actor.key.clone(), coin.key != self.actor.key.key_id());
        let blinded = self.actor.blind(2);
        let requests: Vec<_> = blinded.iter().map(|it| self.actor.exchange_request(&coin.minted, it)).collect();
        let url = self.actor.relay(EXCHANGE_PATH);
        let (answer, answer2) = join!(
            self.ask(post_json(&self.actor.http, &url, &requests[0])),
            self.ask(post_json(&self.actor.http, &url, &requests[1]))
        );
        let mut is_back = false;
        let mut is_gone = false;
        for (answer, blinded) in [answer, answer2].iter().zip(&blinded) {
            let fresh = answer.json::<ExchangeResponse>().map(|response| {
                let token = blinded.pending.finish(&key, &response.blind_signature).expect("a signature that is none");
                Coin::new(Minted { token, refund: blinded.refund.clone() })
            });
            let (old, blinded) = (coin.id, Id::of(&Sha256::digest(blinded.message.0)));
            self.note(answer, Act::Exchange { old, blinded, fresh: fresh.as_ref().map(|fresh| fresh.id), retiring });
            is_back |= fresh.is_some();
            is_gone |= answer.outcome() == Outcome::Refused(ProblemKind::AlreadyExchanged);
            self.purse.extend(fresh);
        }
        if !is_back && !is_gone {
            self.out.push(coin);
        }
    }

    /// A token that came back, or was exchanged unspent, for a message.
    async fn spend_what_was_exchanged(&mut self) {
        let (Some(to), Some(coin)) = (self.somebody(), self.worn.first().cloned()) else { return };
        let (envelope, id) = self.write(&to);
        let authorization = authorization(&coin.minted.token);
        self.deliver(&to, Right::Token(coin.id), authorization, envelope, id).await;
    }

    /// One token more than an account has.
    async fn ask_for_a_sixth(&mut self) {
        let jwt = self.actor.jwt(JwtAudience::Issuer).await;
        let (blinded, key) = (self.actor.blind(1).remove(0), self.actor.key.clone());
        let request = TokenRequest { truncated_token_key_id: key.truncated_key_id(), blinded_msg: blinded.message };
        let http = self.actor.http.post(self.actor.issuer(TOKEN_REQUEST_PATH)).bearer_auth(jwt);
        let answer = self.ask(http.header("content-type", REQUEST_MEDIA_TYPE).body(request.encode())).await;
        if answer.outcome() == Outcome::Refused(ProblemKind::Unauthorized) {
            // A clock jumped.
            return;
        }
        let signed = answer.reply.as_ref().filter(|reply| reply.status == 200);
        let token = signed.map(|reply| {
            let signature = RsaElement::from_slice(&reply.body).unwrap();
            blinded.pending.finish(&key, &signature).expect("a signature that is none")
        });
        let tokens = token.map(|token| Coin::new(Minted { token, refund: blinded.refund.clone() }).id);
        self.note(&answer, Act::Issue { tokens: tokens.into_iter().collect() });
    }

    /// The opposite of what was said.
    async fn turn_a_verdict(&mut self) {
        if self.decided.is_empty() {
            return;
        }
        let at = self.actor.rng.random_range(0..self.decided.len());
        let (message, returns) = self.decided.iter().nth(at).map(|(message, returns)| (*message, *returns)).unwrap();
        self.judge(if returns { Verdict::Spam } else { Verdict::Release }, vec![message]).await;
    }

    /// Releases what was sent to somebody else, or exchanges a token that was not spent at all.
    async fn help_oneself(&mut self) {
        if self.actor.rng.random_bool(0.5) {
            let own = self.actor.mailbox();
            let foreign = self.posted.iter().find(|posted| posted.to != own && matches!(posted.right, Right::Token(_)));
            let Some(posted) = foreign else { return };
            let token = parse_authorization(&posted.authorization).unwrap();
            self.judge(Verdict::Release, vec![MessageId(nullifier(&token.input).0)]).await;
        } else if let Some(coin) = self.purse.pop() {
            self.exchange(coin, false).await;
        }
    }
}
