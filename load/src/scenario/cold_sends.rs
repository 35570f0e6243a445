//! `cold-sends`: each token once, the mailboxes in turn. Nobody reads.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use postern_credentials::blind_token::nullifier;
use postern_protocol::send::{Accepted, send_path};
use postern_protocol::tokens::{Token, authorization};

use super::{Pool, Setup, prepare};
use crate::account::{Login, Minted};
use crate::wire::{Called, Wire, authorized, json, nonsense, with_body};

/// Tokens and mailboxes.
#[derive(Debug)]
pub struct ColdSends {
    tokens: Pool<Minted>,
    paths: Vec<String>,
    envelope: Bytes,
    most: u64,
}

impl ColdSends {
    pub(super) async fn prepare(setup: &Arc<Setup>) -> Called<Self> {
        let tokens = setup.terms.issuer.tokens_per_account;
        let count = setup.accounts.max(setup.mailboxes);
        let made = prepare::each(setup, count, move |setup, index| async move {
            let account = prepare::account(&setup, index, tokens, Login::Never).await?;
            if index < setup.mailboxes {
                account.open_mailbox(&setup.wire).await?;
            }
            Ok(account)
        });
        let accounts = made.await?;
        let written_to = usize::try_from(setup.mailboxes).unwrap_or(usize::MAX);
        let paths: Vec<_> = accounts.iter().take(written_to).map(|account| send_path(&account.mailbox)).collect();
        let tokens: Vec<_> = accounts.into_iter().flat_map(|account| account.tokens).collect();
        let most = setup.room(paths.len()).min(u64::try_from(tokens.len()).unwrap_or(u64::MAX));
        Ok(Self { tokens: Pool::new(tokens), paths, envelope: setup.envelope(), most })
    }

    pub(super) const fn most(&self) -> u64 {
        self.most
    }

    pub(super) async fn once(&self, wire: &Wire, number: u64) -> Called<u16> {
        let token = self.tokens.take()?;
        let turn = usize::try_from(number).unwrap_or_default() % self.paths.len().max(1);
        let path = self.paths.get(turn).ok_or_else(|| nonsense("there is no mailbox"))?;
        let (status, _) = send(wire, path, &token.token, self.envelope.clone()).await?;
        Ok(status)
    }
}

/// A cold send: checks that the relay names the message as the protocol says.
pub(super) async fn send(wire: &Wire, path: &str, token: &Token, envelope: Bytes) -> Called<(u16, Accepted)> {
    let request = with_body(Method::POST, path, "application/octet-stream", envelope)?;
    let reply = wire.relay("send", authorized(request, &authorization(token))?).await?;
    let accepted: Accepted = json(&reply)?;
    if accepted.message.0 != nullifier(&token.input).0 {
        return Err(nonsense("a message has another name than its token"));
    }
    Ok((reply.status, accepted))
}
