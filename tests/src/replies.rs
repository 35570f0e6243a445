//! Replies by hand (design §3): a group of one's own, what its contacts are issued, and every step of showing and striking by itself.

use postern_credentials::reply_credential::{
    Context, GroupSecret, KeyPeriod, MemberCredential, MemberSecret, Params, envelope_digest, peek_nullifier, relay_id,
    strike,
};
use postern_protocol::ids::{Base64, GroupSecretBytes, MailboxId, MemberSecretBytes, MessageId};
use postern_protocol::login::JwtAudience;
use postern_protocol::reply::{
    EpochNullifiers, REPLY_KEYS_PATH, REVEALS_PATH, ReplyAuthorization, ReplyKey, ReplyKeys, ReplyPolicy, Reveal,
    STRIKES_PATH, Strikes,
};
use postern_protocol::send::{RELAY_INFO_PATH, RelayInfo};

use crate::actor::Actor;
use crate::http::{Reply, post_json, put_json};
use crate::world::{RELAY, now};

/// Settings of a relay whose epoch does not end under a test: it lasts until 2033, and as long again in its grace. So both the
/// present epoch and the one before it are live, nothing is ever fenced, and no test depends on the minute it is run in.
pub const LONG_EPOCHS: &str = "epoch_seconds = 1000000000\nperiod_seconds = 1000000000\ngrace_seconds = 1000000000";

/// A group secret and its version.
#[derive(Clone, Debug)]
pub struct Group {
    /// Counts the owner's group secrets.
    pub key_version: u32,
    /// The secret.
    pub secret: GroupSecret,
}

/// A contact's credential for one period, and where and when it is shown. Tests change the context to show it elsewhere.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Relay, mailbox, key version, period and epoch.
    pub context: Context,
    /// The contact's seed of the period.
    pub seed: MemberSecret,
    /// [`Params::default`]'s number of slots.
    pub credential: MemberCredential,
}

impl Issued {
    /// What the owner strikes: the slots that are not in `used`, padded.
    pub fn nullifiers(&self, used: &[u16]) -> EpochNullifiers {
        let list = strike(Params::default(), &self.context, &self.seed, used);
        EpochNullifiers { epoch: self.context.epoch, nullifiers: Base64(list.iter().flat_map(|n| n.0).collect()) }
    }

    /// What the owner uploads to give the contact up, for this period only.
    pub fn reveal(&self) -> Reveal {
        let of = &self.context.of;
        Reveal {
            key_version: of.key_version,
            period: of.period,
            last_period: of.period,
            slots: Params::default().k(),
            secret: MemberSecretBytes::from_slice(&self.seed.to_stored()).unwrap(),
        }
    }

    /// How the relay must name the message that this was shown with.
    pub fn message_id(&self, shown: &ReplyAuthorization) -> MessageId {
        self.context.message_id(peek_nullifier(&shown.presentation))
    }
}

impl Actor {
    /// How the relay counts time for replies.
    pub async fn reply_policy(&self) -> ReplyPolicy {
        let info: RelayInfo = self.ask(self.http.get(self.relay(RELAY_INFO_PATH))).await.json();
        info.replies
    }

    /// A fresh group secret, which nobody has been told yet.
    pub fn draw_group(&mut self, key_version: u32) -> Group {
        Group { key_version, secret: GroupSecret::generate(&mut self.rng) }
    }

    /// Declares these group secrets, and no others, for the own mailbox.
    pub async fn declare(&mut self, groups: &[&Group]) -> Reply {
        let jwt = self.jwt(JwtAudience::Relay).await;
        let request = put_json(&self.http, &self.relay(REPLY_KEYS_PATH), &declaration(groups));
        self.ask(request.bearer_auth(jwt)).await
    }

    /// The own group from now on, version 1, drawn and declared.
    pub async fn open_group(&mut self) {
        let group = self.draw_group(1);
        assert_eq!(self.declare(&[&group]).await.status, 204);
        self.group = Some(group);
    }

    /// Issues to another contact of the own group, for the epoch that the relay's clock is in.
    pub async fn issue(&mut self) -> Issued {
        let policy = self.reply_policy().await;
        self.issue_under(&policy)
    }

    /// As [`Self::issue`], of a relay that counts time so.
    pub fn issue_under(&mut self, policy: &ReplyPolicy) -> Issued {
        let epoch = policy.epoch_at(now());
        let group = self.group.clone().unwrap();
        let of = KeyPeriod { mailbox: self.mailbox(), key_version: group.key_version, period: policy.period_of(epoch) };
        let seed = MemberSecret::generate(&mut self.rng);
        let credential = group.secret.issue(Params::default(), &of, &seed);
        Issued { context: Context { relay: relay_id(RELAY), of, epoch }, seed, credential }
    }

    /// Presents a slot for an envelope; sends nothing.
    pub fn present(&mut self, issued: &Issued, slot: u16, envelope: &[u8]) -> ReplyAuthorization {
        let Context { of, epoch, .. } = issued.context;
        let digest = envelope_digest(envelope);
        let shown = issued.credential.present(&mut self.rng, &issued.context, slot, &digest).unwrap();
        ReplyAuthorization { key_version: of.key_version, epoch, presentation: shown.encode() }
    }

    /// A reply: an envelope with a presentation in place of a token.
    pub async fn reply(&self, to: &MailboxId, shown: &ReplyAuthorization, envelope: &[u8]) -> Reply {
        self.deliver(to, shown.to_string(), envelope).await
    }

    /// Strikes and lifts, as the owner of the own mailbox.
    pub async fn strike(&mut self, strikes: &Strikes) -> Reply {
        let jwt = self.jwt(JwtAudience::Relay).await;
        self.ask(post_json(&self.http, &self.relay(STRIKES_PATH), strikes).bearer_auth(jwt)).await
    }

    /// Gives a contact's seed up, as the owner of the own mailbox.
    pub async fn reveal(&mut self, reveal: &Reveal) -> Reply {
        let jwt = self.jwt(JwtAudience::Relay).await;
        self.ask(post_json(&self.http, &self.relay(REVEALS_PATH), reveal).bearer_auth(jwt)).await
    }
}

/// The body of a declaration.
pub fn declaration(groups: &[&Group]) -> ReplyKeys {
    let key = |group: &&Group| ReplyKey {
        key_version: group.key_version,
        secret: GroupSecretBytes::from_slice(&group.secret.to_stored()).unwrap(),
    };
    ReplyKeys { keys: groups.iter().map(key).collect() }
}
