//! Owners of groups, their contacts, and what they show and upload.

use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberSecret, Params, ReplyNullifier, envelope_digest, relay_id, strike,
};
use postern_protocol::ids::{Base64, GroupSecretBytes, MailboxId, MemberSecretBytes, MessageId};
use postern_protocol::reply::{
    EpochNullifiers, REPLY_KEYS_PATH, REVEALS_PATH, ReplyAuthorization, ReplyKey, ReplyKeys, ReplyPolicy, Reveal,
    STRIKES_PATH, Strikes,
};
use postern_protocol::send::send_path;
use serde::Serialize;

use crate::world::{Mailbox, RELAY, Reply, START, World, rng};

/// The epoch that begins when the world does.
pub(crate) const EPOCH: u32 = (START / 3600) as u32;

pub(crate) fn policy() -> ReplyPolicy {
    ReplyPolicy::default()
}

/// What a presentation is made for, field by field, so that tests can have one wrong.
#[derive(Clone, Copy)]
pub(crate) struct For {
    pub(crate) relay: &'static str,
    pub(crate) mailbox: MailboxId,
    pub(crate) version: u32,
    pub(crate) epoch: u32,
}

impl For {
    pub(crate) fn context(&self) -> Context {
        let period = policy().period_of(self.epoch);
        let of = KeyPeriod { mailbox: self.mailbox, key_version: self.version, period };
        Context { relay: relay_id(self.relay), of, epoch: self.epoch }
    }
}

/// A mailbox with a group secret of version 1, which the relay has.
pub(crate) struct Owner {
    pub(crate) mailbox: Mailbox,
    pub(crate) group: GroupSecret,
}

/// A contact's seed of the world's first period.
#[derive(Clone)]
pub(crate) struct Contact(pub(crate) MemberSecret);

impl Contact {
    pub(crate) fn new() -> Self {
        Self(MemberSecret::generate(&mut rng()))
    }

    /// The seed of the period that the epoch lies in.
    pub(crate) fn seed(&self, epoch: u32) -> MemberSecret {
        let periods = policy().period_of(EPOCH)..policy().period_of(epoch);
        periods.fold(self.0.clone(), |seed, _| seed.next())
    }

    pub(crate) fn present(&self, group: &GroupSecret, to: For, slot: u16, envelope: &[u8]) -> ReplyAuthorization {
        let context = to.context();
        let credential = group.issue(Params::default(), &context.of, &self.seed(to.epoch));
        let shown = credential.present(&mut rng(), &context, slot, &envelope_digest(envelope)).unwrap();
        ReplyAuthorization { key_version: to.version, epoch: to.epoch, presentation: shown.encode() }
    }

    /// The nullifiers of all slots, or of those not used.
    pub(crate) fn nullifiers(&self, to: For, used: &[u16]) -> EpochNullifiers {
        listed(to.epoch, &strike(Params::default(), &to.context(), &self.seed(to.epoch), used))
    }
}

pub(crate) fn listed(epoch: u32, nullifiers: &[ReplyNullifier]) -> EpochNullifiers {
    EpochNullifiers { epoch, nullifiers: Base64(nullifiers.iter().flat_map(|n| n.0).collect()) }
}

pub(crate) fn reply_key(key_version: u32, group: &GroupSecret) -> ReplyKey {
    ReplyKey { key_version, secret: GroupSecretBytes::from_slice(&group.to_stored()).unwrap() }
}

impl Owner {
    pub(crate) async fn new(world: &World) -> Self {
        let owner = Self { mailbox: world.mailbox().await, group: GroupSecret::generate(&mut rng()) };
        owner.declare(world, &[reply_key(1, &owner.group)]).await.done();
        owner
    }

    pub(crate) fn at(&self, epoch: u32) -> For {
        For { relay: RELAY, mailbox: self.mailbox.id, version: 1, epoch }
    }

    pub(crate) async fn declare(&self, world: &World, keys: &[ReplyKey]) -> Reply {
        let request = world.http.put(world.at(REPLY_KEYS_PATH)).header("content-type", "application/json");
        let body = serde_json::to_vec(&ReplyKeys { keys: keys.to_vec() }).unwrap();
        Reply::to(request.bearer_auth(world.fresh(&self.mailbox).jwt).body(body)).await
    }

    async fn post(&self, world: &World, path: &str, body: &impl Serialize) -> Reply {
        Reply::to(world.post_json(path, body).bearer_auth(world.fresh(&self.mailbox).jwt)).await
    }

    pub(crate) async fn strikes(&self, world: &World, strike: &[EpochNullifiers], lift: &[EpochNullifiers]) -> Reply {
        self.post(world, STRIKES_PATH, &Strikes { strike: strike.to_vec(), lift: lift.to_vec() }).await
    }

    /// Strikes all slots of a contact in an epoch.
    pub(crate) async fn strike(&self, world: &World, contact: &Contact, epoch: u32) {
        self.strikes(world, &[contact.nullifiers(self.at(epoch), &[])], &[]).await.done();
    }

    /// Lifts them.
    pub(crate) async fn lift(&self, world: &World, contact: &Contact, epoch: u32) {
        self.strikes(world, &[], &[contact.nullifiers(self.at(epoch), &[])]).await.done();
    }

    pub(crate) async fn reveal(&self, world: &World, reveal: &Reveal) -> Reply {
        self.post(world, REVEALS_PATH, reveal).await
    }

    /// A reply that would be good.
    pub(crate) fn shown(&self, contact: &Contact, epoch: u32, slot: u16, envelope: &[u8]) -> ReplyAuthorization {
        contact.present(&self.group, self.at(epoch), slot, envelope)
    }

    pub(crate) async fn send(&self, world: &World, shown: &ReplyAuthorization, envelope: &[u8]) -> Reply {
        world.reply(&self.mailbox.id, &shown.to_string(), envelope).await
    }

    /// What is in the mailbox.
    pub(crate) async fn inbox(&self, world: &World) -> Vec<MessageId> {
        world.inbox(&world.fresh(&self.mailbox)).await.messages.iter().map(|queued| queued.message).collect()
    }
}

/// A reveal of the contact's seed of this epoch's period, for that period and the next.
pub(crate) fn revealed(contact: &Contact, epoch: u32) -> Reveal {
    let period = policy().period_of(epoch);
    let secret = MemberSecretBytes::from_slice(&contact.seed(epoch).to_stored()).unwrap();
    Reveal { key_version: 1, period, last_period: period + 1, slots: 16, secret }
}

impl Reply {
    /// 204 and nothing else.
    pub(crate) fn done(&self) {
        assert_eq!((self.status.as_u16(), self.body.len()), (204, 0), "{}", String::from_utf8_lossy(&self.body));
    }
}

impl World {
    pub(crate) fn reply_request(
        &self,
        to: &MailboxId,
        authorization: &str,
        envelope: &[u8],
    ) -> reqwest::RequestBuilder {
        self.http
            .post(self.at(&send_path(to)))
            .header("authorization", authorization)
            .header("content-type", "application/octet-stream")
            .body(envelope.to_vec())
    }

    pub(crate) async fn reply(&self, to: &MailboxId, authorization: &str, envelope: &[u8]) -> Reply {
        Reply::to(self.reply_request(to, authorization, envelope)).await
    }
}
