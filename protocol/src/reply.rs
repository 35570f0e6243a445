//! Replies: what a contact shows in place of a token, what the owner tells the relay about its group, and what the owner hands a
//! contact inside a sealed message (design §3).

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader, TooLong, put_bytes16};
use crate::ids::{Base64, GroupSecretBytes, MemberSecretBytes, decode_base64, encode_base64};
use crate::time::Timestamp;

/// `PUT` [`ReplyKeys`] with a mailbox JWT → 204: the group secrets whose members may reply. What is not named is dropped.
pub const REPLY_KEYS_PATH: &str = "/v1/mailbox/reply-keys";
/// `POST` [`Strikes`] with a mailbox JWT → 204: nullifiers that vanish silently.
pub const STRIKES_PATH: &str = "/v1/mailbox/reply-strikes";
/// `POST` [`Reveal`] with a mailbox JWT → 204: the fallback of an owner who is seldom there to strike.
pub const REVEALS_PATH: &str = "/v1/mailbox/reply-reveals";

/// Scheme of the `Authorization` header of a reply.
pub const REPLY_SCHEME: &str = "PosternReply";
/// Length of a presentation, bytes.
pub const PRESENTATION_LEN: usize = 160;
/// Length of a reply nullifier, bytes.
pub const REPLY_NULLIFIER_LEN: usize = 8;
/// The most group secrets that a mailbox has at a time: one, and its predecessor while contacts still hold credentials of it.
pub const MAX_REPLY_KEYS: usize = 2;
/// The most nullifiers in one [`Strikes`], struck and lifted together.
pub const MAX_STRIKES: usize = 1024;
/// The most slots that a contact can have per epoch at a revealed seed.
pub const MAX_REVEALED_SLOTS: u16 = 256;
/// The most periods in one [`Handover`].
pub const MAX_HANDOVER: usize = 8;

/// How a relay counts time for replies. It must not change while credentials are out: they name epochs by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyPolicy {
    /// Length of an epoch, seconds: a contact has k replies in each.
    pub epoch_seconds: u32,
    /// Length of a period, seconds, a multiple of the epoch: a credential is good for one.
    pub period_seconds: u32,
    /// How long after its end the previous epoch is still taken, seconds; at most an epoch.
    pub grace_seconds: u32,
}

impl Default for ReplyPolicy {
    /// An hour, a week, ten minutes.
    fn default() -> Self {
        Self { epoch_seconds: 3600, period_seconds: 7 * 86_400, grace_seconds: 600 }
    }
}

impl ReplyPolicy {
    /// Whether the numbers make sense together.
    pub const fn is_sound(&self) -> bool {
        self.epoch_seconds > 0
            && self.period_seconds >= self.epoch_seconds
            && self.period_seconds.is_multiple_of(self.epoch_seconds)
            && self.grace_seconds <= self.epoch_seconds
    }

    /// The epoch that a moment lies in.
    pub fn epoch_at(&self, at: Timestamp) -> u32 {
        u32::try_from(at.seconds() / u64::from(self.epoch_seconds.max(1))).unwrap_or(u32::MAX)
    }

    /// When an epoch begins; the one before it ends there.
    pub fn epoch_start(&self, epoch: u32) -> Timestamp {
        Timestamp::from_seconds(u64::from(epoch).saturating_mul(u64::from(self.epoch_seconds)))
    }

    /// The period that an epoch lies in.
    pub fn period_of(&self, epoch: u32) -> u32 {
        epoch / (self.period_seconds / self.epoch_seconds.max(1)).max(1)
    }

    /// The first epoch of a period.
    pub fn first_epoch(&self, period: u32) -> u32 {
        period.saturating_mul((self.period_seconds / self.epoch_seconds.max(1)).max(1))
    }

    /// Whether a presentation for this epoch is taken at this moment: its own time, and the grace after it.
    pub fn accepts(&self, epoch: u32, now: Timestamp) -> bool {
        let grace_ends = self.epoch_start(epoch.saturating_add(1)).plus_seconds(u64::from(self.grace_seconds));
        now >= self.epoch_start(epoch) && now < grace_ends
    }
}

/// `Authorization: PosternReply key=<version>, epoch=<number>, presentation=<base64url of 160 bytes>`.
///
/// The period follows from the epoch, the relay and the mailbox from where it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyAuthorization {
    /// The version of the owner's group secret.
    pub key_version: u32,
    /// The epoch it is for.
    pub epoch: u32,
    /// The presentation; not decoded, not believed.
    pub presentation: [u8; PRESENTATION_LEN],
}

impl fmt::Debug for ReplyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyAuthorization(..)")
    }
}

impl fmt::Display for ReplyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_version, epoch, presentation } = self;
        let presentation = encode_base64(presentation);
        write!(f, "{REPLY_SCHEME} key={key_version}, epoch={epoch}, presentation={presentation}")
    }
}

impl ReplyAuthorization {
    /// Reads the header's value; `None` if it is anything but what [`fmt::Display`] writes.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.strip_prefix(REPLY_SCHEME)?.strip_prefix(' ')?.split(", ");
        let key_version = number(parts.next()?.strip_prefix("key=")?)?;
        let epoch = number(parts.next()?.strip_prefix("epoch=")?)?;
        let presentation = parts.next()?.strip_prefix("presentation=")?;
        // Checked before decoding so that a long text costs nothing.
        if parts.next().is_some() || presentation.len() != (PRESENTATION_LEN * 4).div_ceil(3) {
            return None;
        }
        let presentation = decode_base64(presentation).ok()?.try_into().ok()?;
        Some(Self { key_version, epoch, presentation })
    }
}

/// One spelling for each number: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The group secrets in force, at most [`MAX_REPLY_KEYS`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyKeys {
    /// Each version once.
    pub keys: Vec<ReplyKey>,
}

/// A group secret and its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyKey {
    /// Counts the owner's group secrets; a version never changes its secret.
    pub key_version: u32,
    /// Version 1 ‖ root, 33 bytes.
    pub secret: GroupSecretBytes,
}

/// Which nullifiers to refuse silently, and which no longer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strikes {
    /// To be refused from now on.
    #[serde(default)]
    pub strike: Vec<EpochNullifiers>,
    /// To be taken again.
    #[serde(default)]
    pub lift: Vec<EpochNullifiers>,
}

/// Nullifiers of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochNullifiers {
    /// The epoch.
    pub epoch: u32,
    /// 8 bytes each, one after the other.
    pub nullifiers: Base64,
}

/// A contact's seed: the relay strikes all that comes from it, in this period and the later ones. It can then also tell which
/// replies of this period came from it: use it when striking is not enough.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The version of the group secret that the credentials are of.
    pub key_version: u32,
    /// The period that the seed is of; not one that is over.
    pub period: u32,
    /// The last period that the contact has a credential for; until then the relay remembers.
    pub last_period: u32,
    /// How many slots the contact has per epoch, at most [`MAX_REVEALED_SLOTS`].
    pub slots: u16,
    /// Version 1 ‖ seed, 33 bytes.
    pub secret: MemberSecretBytes,
}

/// What an owner hands a contact inside a sealed message: credentials to reply with, and how to use them.
///
/// ```text
/// handover := relay id (32) ‖ epoch seconds u32 ‖ period seconds u32 ‖ grace seconds u32 ‖ key version u32 ‖
///             count u8 ‖ count × (period u32 ‖ credential (u16 length ‖ bytes))
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Handover {
    /// The relay's id, as presentations name it.
    pub relay: [u8; 32],
    /// How that relay counts.
    pub policy: ReplyPolicy,
    /// The version of the owner's group secret.
    pub key_version: u32,
    /// Period and encoded credential (33 + 32k bytes), at most [`MAX_HANDOVER`].
    pub credentials: Vec<(u32, Zeroizing<Vec<u8>>)>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handover({} credentials)", self.credentials.len())
    }
}

impl Handover {
    /// As above.
    ///
    /// # Errors
    /// [`TooLong`] for more credentials, or longer ones, than the form has room for.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        let bytes: usize = self.credentials.iter().map(|(_, credential)| 6 + credential.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(49 + bytes));
        out.extend_from_slice(&self.relay);
        let policy = &self.policy;
        for number in [policy.epoch_seconds, policy.period_seconds, policy.grace_seconds, self.key_version] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let many = self.credentials.len();
        out.push(u8::try_from(many).ok().filter(|_| many <= MAX_HANDOVER).ok_or(TooLong(many))?);
        for (period, credential) in &self.credentials {
            out.extend_from_slice(&period.to_be_bytes());
            put_bytes16(&mut out, credential)?;
        }
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form, to its end.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else, or the policy makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let relay = r.array()?;
        let policy = ReplyPolicy { epoch_seconds: r.u32()?, period_seconds: r.u32()?, grace_seconds: r.u32()? };
        if !policy.is_sound() {
            return Err(DecodeError::Invalid("reply policy"));
        }
        let key_version = r.u32()?;
        let count = usize::from(r.u8()?);
        if count > MAX_HANDOVER {
            return Err(DecodeError::Invalid("number of credentials"));
        }
        let mut handover = Self { relay, policy, key_version, credentials: Vec::with_capacity(count) };
        for _ in 0..count {
            handover.credentials.push((r.u32()?, Zeroizing::new(r.bytes16()?.to_vec())));
        }
        if r.rest().is_empty() { Ok(handover) } else { Err(DecodeError::Trailing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_reads_back_in_its_one_spelling_only() {
        let shown = ReplyAuthorization { key_version: 1, epoch: 500_000, presentation: [0xfb; 160] };
        let text = shown.to_string();
        assert_eq!(ReplyAuthorization::parse(&text), Some(shown));
        for bad in [
            text.replace("key=1", "key=01"),
            text.replace("key=1", "key=+1"),
            text.replace("epoch=500000", "epoch=4294967296"),
            text.replace(", ", ","),
            text.replace("PosternReply", "posternreply"),
            text.replace("PosternReply ", "PosternReply"),
            format!("{text}, x=1"),
            format!("{text}="),
            text[..text.len() - 1].to_owned(),
            text.replace('-', "+"),
            String::new(),
        ] {
            assert_eq!(ReplyAuthorization::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn epochs_lie_in_periods_and_the_grace_ends() {
        let policy = ReplyPolicy { epoch_seconds: 10, period_seconds: 40, grace_seconds: 3 };
        let at = Timestamp::from_seconds;
        assert!(policy.is_sound());
        assert_eq!((policy.epoch_at(at(79)), policy.epoch_at(at(80))), (7, 8));
        assert_eq!((policy.period_of(7), policy.period_of(8), policy.first_epoch(2)), (1, 2, 8));
        assert!(!policy.accepts(8, Timestamp(79_999)) && policy.accepts(8, at(80)));
        assert!(policy.accepts(8, Timestamp(92_999)) && !policy.accepts(8, at(93)));
        for bad in [
            ReplyPolicy { epoch_seconds: 0, ..policy },
            ReplyPolicy { period_seconds: 45, ..policy },
            ReplyPolicy { period_seconds: 5, ..policy },
            ReplyPolicy { grace_seconds: 11, ..policy },
        ] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }

    #[test]
    fn a_handover_reads_back_and_is_refused_cut_or_lengthened() {
        let handover = Handover {
            relay: [1; 32],
            policy: ReplyPolicy::default(),
            key_version: 2,
            credentials: vec![(3, vec![4; 545].into()), (4, vec![].into())],
        };
        let mut bytes = handover.encode().unwrap().to_vec();
        assert_eq!(Handover::decode(&bytes), Ok(handover.clone()));
        for n in 0..bytes.len() {
            assert!(Handover::decode(&bytes[..n]).is_err(), "{n}");
        }
        bytes.push(0);
        assert_eq!(Handover::decode(&bytes), Err(DecodeError::Trailing));
        let many = Handover { credentials: vec![(0, vec![].into()); MAX_HANDOVER + 1], ..handover.clone() };
        assert_eq!(many.encode().map(drop), Err(TooLong(MAX_HANDOVER + 1)));
        let unsound = Handover { policy: ReplyPolicy { epoch_seconds: 0, ..handover.policy }, ..handover.clone() };
        assert!(Handover::decode(&unsound.encode().unwrap()).is_err());
    }
}
