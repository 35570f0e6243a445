//! `cards`: somebody asks for a card, the mailboxes in turn, as everybody does before every message.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use postern_protocol::send::{OWN_CARD_PATH, card_path};
use rand_core::Rng;

use super::{Setup, prepare};
use crate::wire::{Called, Wire, authorized, get, nonsense, with_body};

/// What a sealed card takes, bytes.
const CARD_BYTES: usize = 4096;

/// Where the cards are, and what each of them is: the relay cannot open them.
#[derive(Debug)]
pub struct Cards {
    paths: Vec<String>,
    card: Bytes,
}

impl Cards {
    pub(super) async fn prepare(setup: &Arc<Setup>) -> Called<Self> {
        let mut card = vec![0; CARD_BYTES];
        setup.seeds.generator().fill_bytes(&mut card);
        let card = Bytes::from(card);
        let published = card.clone();
        let paths = prepare::each(setup, setup.mailboxes, move |setup, index| {
            let card = published.clone();
            async move {
                let (account, mut session) = prepare::owner(&setup, index, 0).await?;
                let owner = session.authorization(&setup.wire, setup.clock.now()).await?;
                let request = with_body(Method::PUT, OWN_CARD_PATH, "application/octet-stream", card)?;
                setup.wire.relay("publish", authorized(request, &owner)?).await?;
                Ok(card_path(&account.mailbox))
            }
        });
        Ok(Self { paths: paths.await?, card })
    }

    pub(super) async fn once(&self, wire: &Wire, number: u64) -> Called<u16> {
        let turn = usize::try_from(number).unwrap_or_default() % self.paths.len().max(1);
        let path = self.paths.get(turn).ok_or_else(|| nonsense("there is no mailbox"))?;
        let reply = wire.relay("card", get(path)?).await?;
        if reply.body == self.card { Ok(reply.status) } else { Err(nonsense("a card came changed")) }
    }
}
