//! Getting a stored message to the relay, as often as it takes: the identical bytes each time. A reply that waited too long gets a fresh
//! presentation over the same envelope; the recipient knows an envelope that came in twice.

use postern_credentials::reply_credential::envelope_digest;
use postern_protocol::ids::Base64;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::ReplyAuthorization;
use postern_protocol::send::send_path;
use postern_protocol::time::Clock;
use postern_protocol::tokens::authorization;
use rand_core::CryptoRng;

use super::pay::{Payment, Presented};
use super::{Delivery, Outgoing, OutgoingState};
use crate::channel::{OCTETS, Request};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::exchange::ExchangeJob;
use crate::names::of_message;
use crate::reply::{HeldRecord, Right};
use crate::tokens::{TokenRecord, TokenState};

/// What to do about a reply that was refused.
enum Remedy {
    /// It has a fresh presentation, under this name.
    Again(String),
    /// Wait.
    Wait,
    /// None.
    GiveUp,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Sends every message that is not confirmed again, byte for byte. How many were delivered, and what failed.
    ///
    /// # Errors
    /// A damaged profile.
    pub async fn retry_outgoing(&mut self) -> Result<(usize, Vec<Error>)> {
        let (mut delivered, mut failed) = (0, Vec::new());
        for (id, outgoing) in self.profile.list::<Outgoing>()? {
            if outgoing.state != OutgoingState::Queued {
                continue;
            }
            match self.deliver(&id).await {
                Ok((_, Delivery::Delivered)) => delivered += 1,
                Ok((_, Delivery::Queued(error))) | Err(error) => {
                    let pointless = matches!(error, Error::Network { .. } | Error::NotAnonymous { .. });
                    failed.push(error);
                    if pointless {
                        break;
                    }
                }
            }
        }
        Ok((delivered, failed))
    }

    /// How many messages are not confirmed.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn queued_messages(&self) -> Result<usize> {
        let all = self.profile.list::<Outgoing>()?;
        Ok(all.iter().filter(|(_, outgoing)| outgoing.state == OutgoingState::Queued).count())
    }

    /// Sends a stored message; its name, which is another one if it was presented anew, and how far it has come.
    ///
    /// # Errors
    /// [`Error::Refused`]: it has failed.
    pub(super) async fn deliver(&mut self, id: &str) -> Result<(String, Delivery)> {
        let outgoing = self.outgoing(id)?;
        match &outgoing.payment {
            Payment::Token => {
                let token = self.profile.get::<TokenRecord>(id)?.ok_or(Error::NotFound("token"))?;
                let delivery = match self.post(&outgoing, authorization(&token.token()?)).await {
                    Ok(()) => self.settle_delivery(id, outgoing, token).map(|()| Delivery::Delivered),
                    Err(error) if is_final(&error) => self.settle_rejection(id, outgoing, token, error).await,
                    Err(error) => Ok(Delivery::Queued(error)),
                };
                Ok((id.to_owned(), delivery?))
            }
            Payment::Reply(_) => self.deliver_reply(id).await,
        }
    }

    fn outgoing(&self, id: &str) -> Result<Outgoing> {
        self.profile.get::<Outgoing>(id)?.ok_or(Error::NotFound("message"))
    }

    async fn post(&mut self, outgoing: &Outgoing, authorization: String) -> Result<()> {
        let request = Request::new(http::Method::POST, &outgoing.relay_url, &send_path(&outgoing.mailbox))?
            .authorization(authorization)
            .body(OCTETS, outgoing.envelope.0.clone());
        self.send_anonymously(&request).await?.success().map(drop)
    }

    /// The identical bytes, and if that is of no use, once more with a fresh presentation.
    async fn deliver_reply(&mut self, id: &str) -> Result<(String, Delivery)> {
        let mut id = id.to_owned();
        let mut fresh = false;
        loop {
            let outgoing = self.outgoing(&id)?;
            let Payment::Reply(presented) = outgoing.payment.clone() else {
                return Err(Error::ProfileDamaged("a message that is no reply"));
            };
            let error = match self.post(&outgoing, presented.authorization()?).await {
                Ok(()) => {
                    self.end_reply(&id, outgoing, None)?;
                    return Ok((id, Delivery::Delivered));
                }
                Err(error) => error,
            };
            let remedy = if is_final(&error) { self.remedy(&id, &outgoing, &presented, &error)? } else { Remedy::Wait };
            match remedy {
                Remedy::Again(new) if !fresh => (id, fresh) = (new, true),
                Remedy::Again(new) => return Ok((new, Delivery::Queued(error))),
                Remedy::Wait => return Ok((id, Delivery::Queued(error))),
                Remedy::GiveUp => {
                    self.end_reply(&id, outgoing, Some(&error))?;
                    return Err(error);
                }
            }
        }
    }

    fn remedy(&mut self, id: &str, outgoing: &Outgoing, presented: &Presented, error: &Error) -> Result<Remedy> {
        let held = self.profile.get::<HeldRecord>(&outgoing.to.to_string())?;
        let newer = held.as_ref().is_some_and(|held| held.key_version() > presented.key_version);
        let epoch = held.as_ref().map(|held| held.epoch_at(self.now()));
        match error.refusal() {
            // The epoch has not begun by the relay's clock, or is over by it and not by ours: it is a matter of clocks.
            Some(ProblemKind::ReplyEpoch) if begins_later(error) || epoch == Some(presented.epoch) => Ok(Remedy::Wait),
            Some(ProblemKind::ReplyEpoch) => self.present_again(id, outgoing, held, presented.second),
            Some(ProblemKind::ReplyUsed) if !presented.second => self.present_again(id, outgoing, held, true),
            Some(ProblemKind::ReplyInvalid) if newer => self.present_again(id, outgoing, held, presented.second),
            Some(ProblemKind::ReplyInvalid) => {
                let peer = outgoing.to.to_string();
                self.profile.tx(&mut self.rng, |t| t.delete::<HeldRecord>(&peer))?;
                Ok(Remedy::GiveUp)
            }
            _ => Ok(Remedy::GiveUp),
        }
    }

    /// The same envelope by another slot, in one transaction with the slot's use and the message's new name.
    fn present_again(
        &mut self,
        id: &str,
        outgoing: &Outgoing,
        held: Option<HeldRecord>,
        second: bool,
    ) -> Result<Remedy> {
        let Some(mut held) = held else { return Ok(Remedy::GiveUp) };
        let slot = match held.take_slot(self.now())? {
            Right::Slot(slot) => slot,
            Right::Used { .. } => return Ok(Remedy::Wait),
            Right::Over => return Ok(Remedy::GiveUp),
        };
        let (name, presented) = self.presented(outgoing, &slot, second)?;
        let fresh = Outgoing { payment: Payment::Reply(presented), ..outgoing.clone() };
        let peer = outgoing.to.to_string();
        self.profile.tx(&mut self.rng, |t| {
            t.put(&peer, &held)?;
            t.delete::<Outgoing>(id)?;
            t.put(&name, &fresh)
        })?;
        Ok(Remedy::Again(name))
    }

    /// A presentation over the message's envelope, and the name that the message has by it.
    pub(super) fn presented(
        &mut self,
        outgoing: &Outgoing,
        slot: &crate::reply::TakenSlot,
        second: bool,
    ) -> Result<(String, Presented)> {
        let digest = envelope_digest(&outgoing.envelope.0);
        let (ctx, shown) = slot.present(&mut self.rng, outgoing.mailbox, &digest)?;
        let name = of_message(&ctx.message_id(shown.nullifier()));
        let presentation = Base64(shown.encode().to_vec());
        Ok((name, Presented { key_version: slot.key_version, epoch: slot.epoch, presentation, second }))
    }

    /// Delivered, or failed for good; no exact bytes are kept any more.
    fn end_reply(&mut self, id: &str, outgoing: Outgoing, failed: Option<&Error>) -> Result<()> {
        let state = match failed {
            None => OutgoingState::Delivered { at: self.now().seconds() },
            Some(error) => failed_by(error),
        };
        let outgoing = Outgoing { envelope: Base64::default(), state, ..outgoing };
        self.profile.tx(&mut self.rng, |t| t.put(id, &outgoing))
    }

    /// Accepted: the token is out, and at random times the relay is asked whether it came back.
    fn settle_delivery(&mut self, id: &str, outgoing: Outgoing, mut token: TokenRecord) -> Result<()> {
        let now = self.now().seconds();
        let interval = self.settings()?.exchange_interval_seconds;
        let job = ExchangeJob::new(self.some_time_about(interval));
        token.state = TokenState::Out { since: now, to: outgoing.phone.clone() };
        let state = OutgoingState::Delivered { at: now };
        let outgoing = Outgoing { envelope: Base64::default(), state, ..outgoing };
        self.profile.tx(&mut self.rng, |t| {
            t.put(id, &token)?;
            t.put(id, &outgoing)?;
            t.put(id, &job)
        })
    }

    /// Refused for good: the message has failed, and the token is back unless the relay knows it as spent.
    async fn settle_rejection(
        &mut self,
        id: &str,
        outgoing: Outgoing,
        mut token: TokenRecord,
        error: Error,
    ) -> Result<Delivery> {
        let now = self.now();
        let spent_before = error.refusal() == Some(ProblemKind::TokenAttached);
        token.state = if spent_before {
            TokenState::Out { since: now.seconds(), to: "?".to_owned() }
        } else {
            TokenState::Unspent { shown_to: Some(outgoing.mailbox) }
        };
        let outgoing = Outgoing { envelope: Base64::default(), state: failed_by(&error), ..outgoing };
        self.profile.tx(&mut self.rng, |t| {
            t.put(id, &token)?;
            t.put(id, &outgoing)?;
            if spent_before { t.put(id, &ExchangeJob::new(now)) } else { Ok(()) }
        })?;
        if error.refusal() == Some(ProblemKind::TokenInvalid) {
            // Perhaps its key was retired; then it is written off. The refusal is what the user must hear in any case.
            drop(self.refresh_keys().await);
        }
        Err(error)
    }
}

impl Presented {
    fn authorization(&self) -> Result<String> {
        let presentation = self.presentation.0.as_slice().try_into();
        let presentation = presentation.map_err(|_| Error::ProfileDamaged("a presentation"))?;
        Ok(ReplyAuthorization { key_version: self.key_version, epoch: self.epoch, presentation }.to_string())
    }
}

/// Whether the relay has refused it. All else may pass: the network, no anonymous way, and a relay that does not keep to the protocol
/// may have taken it all the same.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Refused(_)) && !error.is_passing()
}

fn begins_later(error: &Error) -> bool {
    matches!(error, Error::Refused(problem) if problem.retry_after.is_some())
}

fn failed_by(error: &Error) -> OutgoingState {
    OutgoingState::Failed { code: error.refusal().map_or("refused", ProblemKind::slug).to_owned() }
}
