//! `chat`: a message by reply credential, fetched and acknowledged by its recipient: what most of a day's traffic is. A mailbox has one
//! writer, and is alone with it, so that the message that comes must be the one that was sent.

use std::sync::Arc;

use bytes::Bytes;
use postern_protocol::release::ACK_PATH;

use super::replies::{Lane, Owner};
use super::round_trip::{decide, fetch};
use super::{Pool, Setup, prepare};
use crate::account::Session;
use crate::wire::{Called, Wire};

/// Those who wait for their turn: a writer, and the session of whom they write to.
#[derive(Debug)]
pub struct Chat {
    lanes: Pool<(Lane, Session)>,
    lanes_in_all: usize,
    envelope: Bytes,
    setup: Arc<Setup>,
}

impl Chat {
    pub(super) async fn prepare(setup: Arc<Setup>) -> Called<Self> {
        let lanes = prepare::each(&setup, setup.mailboxes, |setup, index| async move {
            let (owner, session) = Owner::prepare(&setup, index).await?;
            Ok((Lane::to(Arc::new(owner)), session))
        });
        let lanes = Pool::new(lanes.await?);
        Ok(Self { lanes_in_all: lanes.len(), lanes, envelope: setup.envelope(), setup })
    }

    pub(super) const fn most_at_once(&self) -> usize {
        self.lanes_in_all
    }

    pub(super) async fn once(&self, wire: &Wire) -> Called<u16> {
        let mut lane = self.lanes.take()?;
        let done = self.message(wire, &mut lane).await;
        self.lanes.give_back(lane);
        done
    }

    async fn message(&self, wire: &Wire, (lane, session): &mut (Lane, Session)) -> Called<u16> {
        let (status, message) = lane.reply(&self.setup, wire, self.envelope.clone()).await?;
        let owner = session.authorization(wire, self.setup.clock.now()).await?;
        fetch(wire, &owner, message, &self.envelope).await?;
        decide(wire, "acknowledge", ACK_PATH, &owner, message).await?;
        Ok(status)
    }
}
