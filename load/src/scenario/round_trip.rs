//! `round-trip`: a token is sent, the message fetched, released and acknowledged by its recipient, and the token exchanged for a fresh
//! one. So a few tokens last for ever.
//!
//! Each account writes to itself, which the relay cannot tell: sending and exchanging are anonymous. Who has a mailbox in hand is alone
//! with it, so that the message that comes must be the one that was sent.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::{Base64, MessageId};
use postern_protocol::release::{ACK_PATH, MessageList, Outcome as Verdict, RELEASE_PATH};
use postern_protocol::send::{MESSAGES_PATH, Messages, send_path};

use super::cold_sends::send;
use super::{Pool, Setup, prepare};
use crate::account::{Blinded, Minted, Session};
use crate::wire::{Called, Wire, authorized, get, json, json_request, nonsense};

/// An account at work.
#[derive(Debug)]
struct Lane {
    path: String,
    tokens: Vec<Minted>,
    session: Session,
}

/// Accounts that wait for their turn.
#[derive(Debug)]
pub struct RoundTrip {
    lanes: Pool<Lane>,
    lanes_in_all: usize,
    envelope: Bytes,
    setup: Arc<Setup>,
}

impl RoundTrip {
    pub(super) async fn prepare(setup: Arc<Setup>) -> Called<Self> {
        let tokens = setup.terms.issuer.tokens_per_account;
        let lanes = prepare::each(&setup, setup.accounts, move |setup, index| async move {
            let (account, session) = prepare::owner(&setup, index, tokens).await?;
            Ok(Lane { path: send_path(&account.mailbox), tokens: account.tokens, session })
        });
        let lanes = Pool::new(lanes.await?);
        Ok(Self { lanes_in_all: lanes.len(), lanes, envelope: setup.envelope(), setup })
    }

    pub(super) const fn most_at_once(&self) -> usize {
        self.lanes_in_all
    }

    pub(super) async fn once(&self, wire: &Wire) -> Called<u16> {
        let mut lane = self.lanes.take()?;
        let done = self.trip(wire, &mut lane).await;
        // Whoever has lost all tokens by something unexpected is out.
        if !lane.tokens.is_empty() {
            self.lanes.give_back(lane);
        }
        done
    }

    async fn trip(&self, wire: &Wire, lane: &mut Lane) -> Called<u16> {
        let token = lane.tokens.pop().ok_or_else(|| nonsense("no token is left"))?;
        let (_, accepted) = send(wire, &lane.path, &token.token, self.envelope.clone()).await?;
        let owner = lane.session.authorization(wire, self.setup.clock.now()).await?;
        fetch(wire, &owner, accepted.message, &self.envelope).await?;
        decide(wire, "release", RELEASE_PATH, &owner, accepted.message).await?;
        decide(wire, "acknowledge", ACK_PATH, &owner, accepted.message).await?;
        let (status, fresh) = self.exchange(wire, token).await?;
        lane.tokens.push(fresh);
        Ok(status)
    }

    async fn exchange(&self, wire: &Wire, old: Minted) -> Called<(u16, Minted)> {
        let terms = &self.setup.terms;
        let blinded = Blinded::begin(terms, &mut self.setup.seeds.generator())?;
        let request = ExchangeRequest {
            token: Base64(old.token.encode()),
            refund_secret: old.refund,
            token_key_id: terms.key.key_id(),
            blinded: blinded.message,
        };
        let reply = wire.relay("exchange", json_request(Method::POST, EXCHANGE_PATH, &request)?).await?;
        let response: ExchangeResponse = json(&reply)?;
        Ok((reply.status, blinded.finish(terms, &response.blind_signature)?))
    }
}

/// Everything that waits, among it this message as it was sent.
pub(super) async fn fetch(wire: &Wire, owner: &str, message: MessageId, envelope: &Bytes) -> Called<()> {
    let reply = wire.relay("fetch", authorized(get(MESSAGES_PATH)?, owner)?).await?;
    let inbox: Messages = json(&reply)?;
    let found = inbox.messages.iter().find(|queued| queued.message == message);
    match found {
        Some(queued) if queued.envelope.0 == *envelope => Ok(()),
        Some(_) => Err(nonsense("a message came changed")),
        None => Err(nonsense("a message was acknowledged and did not come")),
    }
}

/// Says something about a message that has come.
pub(super) async fn decide(wire: &Wire, name: &'static str, path: &str, owner: &str, message: MessageId) -> Called<()> {
    let list = MessageList { messages: vec![message] };
    let request = authorized(json_request(Method::POST, path, &list)?, owner)?;
    let verdict: Verdict = json(&wire.relay(name, request).await?)?;
    if verdict.done == [message] { Ok(()) } else { Err(nonsense("a verdict on a message was refused")) }
}
