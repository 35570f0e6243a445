//! The owner's side: keys, issuing, tracing, striking.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    Context, Hash, KeyPeriod, MemberCredential, MemberSecret, Params, Presentation, ReplyNullifier, StoredError,
    VerificationKey, stored_secret, strip_version,
};

/// The owner's root, of which the relay has a copy: 32 random bytes. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GroupSecret(pub(super) [u8; 32]);

impl GroupSecret {
    /// *KeyGen*: a fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// Reads what [`Self::to_stored`] wrote: 33 bytes.
    ///
    /// # Errors
    /// [`StoredError::Version`] for another version, [`StoredError::Length`] for another length.
    pub fn from_stored(stored: &[u8]) -> Result<Self, StoredError> {
        strip_version(stored)?.try_into().map(Self).map_err(|_| StoredError::Length)
    }

    /// Version 1 ‖ root, 33 bytes: for the upload, and to be sealed at rest.
    pub fn to_stored(&self) -> Zeroizing<Vec<u8>> {
        stored_secret(&self.0)
    }

    /// `(y0, y1)` of one period: what the relay verifies with, and the owner issues with.
    pub fn verification_key(&self, of: &KeyPeriod) -> VerificationKey {
        let key = |label| Hash::new(label).fixed(&self.0).period(of).scalar();
        VerificationKey { y0: *key("key-y0"), y1: *key("key-y1") }
    }

    /// *Issue*: the credential of the contact with this seed for one period, 33 + 32k bytes when encoded. Always
    /// the same for the same arguments, so that a lost message can be repeated.
    pub fn issue(&self, params: Params, of: &KeyPeriod, member: &MemberSecret) -> MemberCredential {
        let key = self.verification_key(of);
        let inverse = Zeroizing::new(key.y1.invert());
        let slot_value = |slot| {
            let tag = Zeroizing::new(*inverse * (key.y0 + *member.scalar(of, slot)));
            *tag * member.base(of, slot)
        };
        MemberCredential { secret: member.clone(), values: (0..params.k).map(slot_value).collect() }
    }
}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSecret(secret)")
    }
}

/// Who wrote, as [`trace`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced<C> {
    /// The name under which the contact was given to [`trace`].
    pub contact: C,
    /// The slot used.
    pub slot: u16,
}

/// *Trace*: which of the contacts made the presentation, and with which slot; `None` if none of them did.
///
/// One multiplication per contact if the hint (the slot, from inside the message) is right, else up to k more. The
/// secrets are those of the period of `ctx`. [`verify`](super::verify) first, if the relay is not trusted to have done
/// so: `T` alone proves nothing.
pub fn trace<'a, C>(
    params: Params,
    ctx: &Context,
    shown: &Presentation,
    hint: Option<u16>,
    contacts: impl Iterator<Item = (C, &'a MemberSecret)> + Clone,
) -> Option<Traced<C>> {
    let base = ctx.nullifier_base();
    let find = |slot| {
        let mut hit = contacts.clone().filter(|(_, secret)| *secret.scalar(&ctx.of, slot) * base == shown.t.point);
        hit.next().map(|(contact, _)| Traced { contact, slot })
    };
    // The hint is the sender's word: first, but not the last.
    hint.into_iter().chain(0..params.k).find_map(find)
}

/// *Strike*: what the relay shall refuse, silently, so that one contact writes no more in this epoch. k nullifiers,
/// sorted.
///
/// Those of the slots not in `used`, and in place of each used one a value that no presentation has: the list tells
/// neither how much the contact wrote nor, as the nullifiers of used slots would, what. It depends on the arguments
/// alone, so that a repeated list is the same list. The relay can tell that later attempts come from one struck
/// contact.
pub fn strike(params: Params, ctx: &Context, member: &MemberSecret, used: &[u16]) -> Vec<ReplyNullifier> {
    let base = ctx.nullifier_base();
    let entry = |slot: u16| {
        let point = if used.contains(&slot) {
            Hash::new("strike-padding").context(ctx).fixed(&member.0).fixed(&slot.to_be_bytes()).group()
        } else {
            *member.scalar(&ctx.of, slot) * base
        };
        ReplyNullifier::of(point.compress().as_bytes())
    };
    let mut list: Vec<_> = (0..params.k).map(entry).collect();
    list.sort_unstable();
    list
}
