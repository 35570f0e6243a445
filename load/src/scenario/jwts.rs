//! `jwts`: sessions ask for the JWT that opens their mailbox, as each that stays at the relay does every few minutes.

use std::sync::Arc;

use super::{Pool, Setup, prepare};
use crate::account::Session;
use crate::wire::{Called, Wire};

/// Sessions that wait for their turn: a session's calls are numbered, so it has one at a time.
#[derive(Debug)]
pub struct Jwts {
    sessions: Pool<Session>,
    sessions_in_all: usize,
}

impl Jwts {
    pub(super) async fn prepare(setup: &Arc<Setup>) -> Called<Self> {
        let sessions = prepare::each(setup, setup.accounts, |setup, index| async move {
            Ok(prepare::owner(&setup, index, 0).await?.1)
        });
        let sessions = Pool::new(sessions.await?);
        Ok(Self { sessions_in_all: sessions.len(), sessions })
    }

    pub(super) const fn most_at_once(&self) -> usize {
        self.sessions_in_all
    }

    pub(super) async fn once(&self, wire: &Wire) -> Called<u16> {
        let mut session = self.sessions.take()?;
        let done = session.renew(wire).await;
        self.sessions.give_back(session);
        done
    }
}
