//! `replies`: messages by reply credential, to mailboxes whose owners do not read. A contact that has used up its slots is followed by
//! another; so is one whose epoch has ended.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberCredential, MemberSecret, Params, envelope_digest, peek_nullifier, relay_id,
};
use postern_protocol::ids::{GroupSecretBytes, MailboxId, MessageId};
use postern_protocol::reply::{REPLY_KEYS_PATH, ReplyAuthorization, ReplyKey, ReplyKeys};
use postern_protocol::send::{Accepted, send_path};

use super::{Pool, Setup, prepare};
use crate::account::Session;
use crate::wire::{Called, Wire, authorized, json, json_request, nonsense, with_body};

/// Every group is its owner's first.
const KEY_VERSION: u32 = 1;

/// A mailbox and the secret behind its credentials.
#[derive(Debug)]
pub(super) struct Owner {
    mailbox: MailboxId,
    path: String,
    group: GroupSecret,
}

/// A contact of one of them.
#[derive(Debug)]
struct Contact {
    context: Context,
    credential: MemberCredential,
    next_slot: u16,
}

/// Somebody at work: writes to one owner, as one contact after the other.
#[derive(Debug)]
pub(super) struct Lane {
    owner: Arc<Owner>,
    contact: Option<Contact>,
}

/// Those who wait for their turn.
#[derive(Debug)]
pub struct Replies {
    lanes: Pool<Lane>,
    lanes_in_all: usize,
    envelope: Bytes,
    most: u64,
    setup: Arc<Setup>,
}

impl Replies {
    pub(super) async fn prepare(setup: Arc<Setup>) -> Called<Self> {
        let owners = prepare::each(&setup, setup.mailboxes, |setup, index| async move {
            Ok(Arc::new(Owner::prepare(&setup, index).await?.0))
        });
        let owners = owners.await?;
        // Each owner has as many lanes as any other, or one more.
        let lanes = owners.iter().cycle().take(if owners.is_empty() { 0 } else { setup.at_once });
        let lanes = Pool::new(lanes.map(|owner| Lane::to(Arc::clone(owner))).collect());
        let (lanes_in_all, most) = (lanes.len(), setup.room(owners.len().min(lanes.len())));
        Ok(Self { lanes, lanes_in_all, envelope: setup.envelope(), most, setup })
    }

    pub(super) const fn most(&self) -> u64 {
        self.most
    }

    pub(super) const fn most_at_once(&self) -> usize {
        self.lanes_in_all
    }

    pub(super) async fn once(&self, wire: &Wire) -> Called<u16> {
        let mut lane = self.lanes.take()?;
        let done = lane.reply(&self.setup, wire, self.envelope.clone()).await;
        self.lanes.give_back(lane);
        done.map(|(status, _)| status)
    }
}

impl Owner {
    /// The `index`th account, with a group that its relay knows.
    pub(super) async fn prepare(setup: &Setup, index: u32) -> Called<(Self, Session)> {
        let (account, mut session) = prepare::owner(setup, index, 0).await?;
        let authorization = session.authorization(&setup.wire, setup.clock.now()).await?;
        let group = GroupSecret::generate(&mut setup.seeds.generator());
        declare(&setup.wire, &authorization, &group).await?;
        Ok((Self { path: send_path(&account.mailbox), mailbox: account.mailbox, group }, session))
    }

    fn issue(&self, setup: &Setup, epoch: u32) -> Contact {
        let relay = &setup.terms.relay;
        let period = relay.replies.period_of(epoch);
        let of = KeyPeriod { mailbox: self.mailbox, key_version: KEY_VERSION, period };
        let seed = MemberSecret::generate(&mut setup.seeds.generator());
        let credential = self.group.issue(Params::default(), &of, &seed);
        Contact { context: Context { relay: relay_id(&relay.name), of, epoch }, credential, next_slot: 0 }
    }
}

impl Lane {
    /// To this owner.
    pub(super) const fn to(owner: Arc<Owner>) -> Self {
        Self { owner, contact: None }
    }

    /// Writes once; checks that the relay names the message as the protocol says.
    pub(super) async fn reply(&mut self, setup: &Setup, wire: &Wire, envelope: Bytes) -> Called<(u16, MessageId)> {
        let epoch = setup.terms.relay.replies.epoch_at(setup.clock.now());
        let usable = |c: &Contact| c.context.epoch == epoch && c.next_slot < Params::default().k();
        let mut contact = match self.contact.take().filter(usable) {
            Some(contact) => contact,
            None => self.owner.issue(setup, epoch),
        };
        let slot = contact.next_slot;
        contact.next_slot += 1;
        let digest = envelope_digest(&envelope);
        let rng = &mut setup.seeds.generator();
        let shown = contact.credential.present(rng, &contact.context, slot, &digest);
        let presentation = shown.map_err(|_| nonsense("a slot cannot be shown"))?.encode();
        let id = contact.context.message_id(peek_nullifier(&presentation));
        self.contact = Some(contact);
        let shown = ReplyAuthorization { key_version: KEY_VERSION, epoch, presentation };
        let request = with_body(Method::POST, &self.owner.path, "application/octet-stream", envelope)?;
        let reply = wire.relay("reply", authorized(request, &shown.to_string())?).await?;
        let accepted: Accepted = json(&reply)?;
        if accepted.message != id {
            return Err(nonsense("a reply has another name than its slot"));
        }
        Ok((reply.status, id))
    }
}

async fn declare(wire: &Wire, owner: &str, group: &GroupSecret) -> Called<()> {
    let secret = GroupSecretBytes::from_slice(&group.to_stored()).map_err(|_| nonsense("a group secret"))?;
    let keys = ReplyKeys { keys: vec![ReplyKey { key_version: KEY_VERSION, secret }] };
    wire.relay("declare group", authorized(json_request(Method::PUT, REPLY_KEYS_PATH, &keys)?, owner)?).await?;
    Ok(())
}
