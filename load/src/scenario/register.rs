//! `register`: an account each time, with all its tokens and an open mailbox.

use std::sync::Arc;

use postern_protocol::synthetic;

use super::Setup;
use crate::account::{Account, Login};
use crate::wire::{Called, Wire};

/// Nothing but numbers that have no account yet.
#[derive(Debug)]
pub struct Register(Arc<Setup>);

impl Register {
    pub(super) fn prepare(setup: Arc<Setup>) -> Self {
        Self(setup)
    }

    pub(super) fn most(&self) -> u64 {
        synthetic::NUMBERS.saturating_sub(self.0.first_number).min(self.0.accounts).into()
    }

    pub(super) async fn once(&self, wire: &Wire, number: u64) -> Called<u16> {
        let Setup { terms, seeds, first_number, .. } = &*self.0;
        let index = first_number.saturating_add(u32::try_from(number).unwrap_or(u32::MAX));
        let tokens = terms.issuer.tokens_per_account;
        let account = Account::register(wire, terms, &mut seeds.generator(), index, tokens, Login::Never).await?;
        account.open_mailbox(wire).await
    }
}
