//! Reply credentials: `PRC1`, a keyed-verification group signature with at most k signatures per contact and epoch.
//!
//! # Roles and steps
//!
//! The **owner** of a mailbox, its **contacts**, and the **relay** that keeps the mailbox.
//!
//! 1. *KeyGen*, owner: [`GroupSecret::generate`]; the relay is given it, and both derive each period's
//!    [`VerificationKey`] from it with [`GroupSecret::verification_key`].
//! 2. *Issue*, owner → contact, one way, in a sealed message: [`GroupSecret::issue`], for the contact's
//!    [`MemberSecret`], a seed; the next period's is [`MemberSecret::next`]. Sent: the seed, and a `V` for each slot.
//! 3. *Receive*, contact: [`MemberCredential::decode`]. Whether the `V`s fit the owner's key it cannot check; the
//!    relay will.
//! 4. *Present*, contact: [`MemberCredential::present`] with an unused slot, over the [`envelope_digest`].
//! 5. *Verify*, relay: [`peek_nullifier`] and look for a duplicate, then [`Presentation::decode`], then [`verify`],
//!    then insert the [`ReplyNullifier`] and the message in one transaction.
//! 6. *Trace*, owner: [`trace`] finds whose `m` and which slot is behind `T`.
//! 7. *Strike*, owner → relay: [`strike`] lists the nullifiers of a contact's remaining slots in an epoch.
//!
//! # Algebra
//!
//! In Ristretto255 (RFC 9496). Each contact has its own `s`, and slot i < k its own `m`, `U`, `V`:
//!
//! ```text
//! KeyGen   y0 = H2S("key-y0", root, mailbox, key version, period)          y1 = H2S("key-y1", …)
//! Issue    m  = H2S("member-scalar", mailbox, key version, period, s, i)   U  = H2G("member-base", …)
//!          V  = y1⁻¹·(y0 + m)·U                                           next s = H("next-seed", s)
//! Present  P  = H2G("nullifier-base", ctx)
//!          U' = a·U     V' = a·V     T = m·P     A1 = w·U'     A2 = w·P
//!          c  = H2S("challenge", ctx, U', V', T, A1, A2, SHA-512(envelope))     z = w + c·m
//!          a  = H2S("nonce-a", random, m, ctx, SHA-512(envelope))               w = H2S("nonce-w", …)
//! Verify   A1 = (z + c·y0)·U' − (c·y1)·V'     A2 = z·P − c·T     c as above
//! Strike   m·P of an unused slot; H2G("strike-padding", ctx, s, i) in place of a used one
//! ```
//!
//! `(U, V)` is a MAC_GGM of Chase, Meiklejohn and Zaverucha (CCS 2014) on m, under `x0 = y0/y1`, `x1 = 1/y1`. It stays
//! one when both parts are multiplied by a ≠ 0. A valid one satisfies `m·U' = y1·V' − y0·U'`, so the relay, which knows
//! y, sees in `(U', m·U')` and `(P, T)` two pairs with the same logarithm; `(c, z)` proves that, and knowledge of it (a
//! DLEQ, Fiat–Shamir over the envelope). *Verify* is *Present* with m eliminated by that equation. `T` is a function of
//! slot and epoch: k slots make k values, and a relay that takes each once takes k replies (the periodic limit after
//! Camenisch et al., CCS 2006).
//!
//! # Bytes
//!
//! | what | bytes |
//! |---|---|
//! | context: relay id ‖ mailbox ‖ key version ‖ period ‖ epoch | 32 + 32 + 4 + 4 + 4 = 76 |
//! | presentation: U' ‖ V' ‖ T ‖ c ‖ z | 5 × 32 = 160 |
//! | nullifier: the first bytes of T | 8 |
//! | relay id, in contexts ([`relay_id`]): SHA-256(`postern/relay-id/v1` ‖ name) | 32 |
//! | message id ([`Context::message_id`]): SHA-256(`postern/reply-message/v1` ‖ context ‖ nullifier) | 32 |
//! | credential of a period: version ‖ s ‖ V of each slot | 1 + 32 + 32k = 545 with k = 16 |
//! | group secret, member secret, as stored: version ‖ secret | 1 + 32 |
//!
//! H2S and H2G are SHA-512, reduced modulo the group's order, or mapped to the group as RFC 9496 §4.3.4 does; H is its
//! first 32 bytes. What is hashed begins with `PRC1-ristretto255-sha512` and a label of its own, each behind a 16-bit
//! length, then come fields of fixed width: a slot has 2 bytes, a number 4, an id, secret, scalar or point 32, a
//! SHA-512 64. (The two ids are SHA-256 of their label, without a length, and what follows it.) Numbers are big-endian, scalars and points as RFC 9496 encodes them.
//!
//! # What each party cannot learn
//!
//! - The **relay**, with the group secret and every presentation ever shown, cannot tell which contact wrote, nor
//!   whether two replies come from one, except for a slot shown twice in one epoch, which an honest contact never
//!   does, and for what a struck contact sends from then on: that is recognised by the list, as it must be to be
//!   refused.
//! - A **contact** cannot write more than k replies in an epoch, pass for another contact, or tell who else is one.
//! - A **thief** of the relay's group secret can put replies into the mailbox; he can neither link nor frame: a
//!   presentation that [`trace`] lays at a contact's door takes that contact's m.
//! - The **owner** learns who wrote: that is intended. Contacts are anonymous to everybody but it ("selfless"
//!   anonymity: whoever gets hold of a contact's seed recognises that contact's replies from that period on).
//!
//! # What is assumed
//!
//! That nobody forges MAC_GGM without y (shown in the generic group model); that DDH is hard in Ristretto255; that
//! SHA-512 behaves as a random oracle. The proof for this composition is on paper nowhere yet.
//!
//! # What it is not
//!
//! Not BBS, and not publicly verifiable: only who holds the group secret can check, and could forge. Not
//! post-quantum: a quantum computer links recorded presentations. It hides nothing that the network shows, and
//! nothing about when a reply came.

use std::fmt;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use postern_protocol::ids::{MailboxId, MessageId};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

mod member;
mod owner;
mod relay;
#[cfg(test)]
mod tests;

pub use member::{MemberCredential, MemberSecret, NoSuchSlot};
pub use owner::{GroupSecret, Traced, strike, trace};
pub use relay::{EpochBase, VerificationKey, peek_nullifier, verify, verify_at};

/// Begins every hash. Another group, hash or meaning must have another name.
const SUITE: &str = "PRC1-ristretto255-sha512";
/// Begins every stored form.
const VERSION: u8 = 1;

/// The bytes are not a stored group secret, member secret or credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Made by another version.
    #[error("unknown version")]
    Version,
    /// Cut short, or followed by something.
    #[error("wrong length")]
    Length,
    /// Not the one encoding of a group element, or the identity.
    #[error("not a group element")]
    Element,
}

/// The presentation does not hold here. It says no more: why is no business of who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reply credential")]
pub struct InvalidPresentation;

/// How many replies a contact has per epoch. The owner chooses; the relay need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    k: u16,
}

impl Params {
    /// k slots, at least one.
    pub const fn new(k: u16) -> Option<Self> {
        if k == 0 { None } else { Some(Self { k }) }
    }

    /// The number of slots.
    pub const fn k(self) -> u16 {
        self.k
    }
}

impl Default for Params {
    /// 16 slots.
    fn default() -> Self {
        Self { k: 16 }
    }
}

/// `SHA-512` of a sealed envelope, 64 bytes: what a presentation covers.
pub fn envelope_digest(envelope: &[u8]) -> [u8; 64] {
    Sha512::digest(envelope).into()
}

/// A relay as contexts name it: `SHA-256("postern/relay-id/v1" ‖ name)`, 32 bytes. The name is the one in its token challenge.
pub fn relay_id(name: &str) -> [u8; 32] {
    Sha256::new_with_prefix(b"postern/relay-id/v1").chain_update(name).finalize().into()
}

/// What one pair `(y0, y1)` is for: 32 + 4 + 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyPeriod {
    /// The mailbox written to.
    pub mailbox: MailboxId,
    /// Counts the owner's group secrets.
    pub key_version: u32,
    /// Counts periods of (by default) seven days.
    pub period: u32,
}

/// Where and when a presentation holds: 76 bytes.
///
/// That the epoch lies in the period, and is the present one, is for the caller to see to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// The relay's id.
    pub relay: [u8; 32],
    /// Mailbox, key version and period.
    pub of: KeyPeriod,
    /// Counts epochs of (by default) one hour.
    pub epoch: u32,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("of", &self.of).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Context {
    /// The name at the relay of the message that came in by this nullifier: `SHA-256("postern/reply-message/v1" ‖ context ‖
    /// nullifier)`. The same whether the sender was struck or not, and nobody learns more from it than from the nullifier.
    pub fn message_id(&self, nullifier: ReplyNullifier) -> MessageId {
        let hash = Sha256::new_with_prefix(b"postern/reply-message/v1").chain_update(self.relay);
        let hash = hash.chain_update(self.of.mailbox.0).chain_update(self.of.key_version.to_be_bytes());
        let hash = hash.chain_update(self.of.period.to_be_bytes()).chain_update(self.epoch.to_be_bytes());
        MessageId(hash.chain_update(nullifier.0).finalize().into())
    }

    /// `P`, to which every nullifier of this context is a multiple: nobody knows its logarithm to any other.
    fn nullifier_base(&self) -> RistrettoPoint {
        Hash::new("nullifier-base").context(self).group()
    }
}

/// A hash under the suite and a label. Fed piece by piece, so that no buffer gathers the secrets among its fields.
struct Hash(Sha512);

impl Hash {
    fn new(label: &'static str) -> Self {
        Self(Sha512::new()).name(SUITE).name(label)
    }

    // Only for constants of this file, all of them short.
    fn name(self, name: &'static str) -> Self {
        let mut named = self.fixed(&(name.len() as u16).to_be_bytes());
        named.0.update(name);
        named
    }

    fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.update(bytes);
        self
    }

    fn period(self, of: &KeyPeriod) -> Self {
        self.fixed(&of.mailbox.0).fixed(&of.key_version.to_be_bytes()).fixed(&of.period.to_be_bytes())
    }

    fn context(self, ctx: &Context) -> Self {
        self.fixed(&ctx.relay).period(&ctx.of).fixed(&ctx.epoch.to_be_bytes())
    }

    fn finish(self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.finalize().into())
    }

    fn scalar(self) -> Zeroizing<Scalar> {
        Zeroizing::new(Scalar::from_bytes_mod_order_wide(&self.finish()))
    }

    fn group(self) -> RistrettoPoint {
        RistrettoPoint::from_uniform_bytes(&self.finish())
    }
}

fn strip_version(stored: &[u8]) -> Result<&[u8], StoredError> {
    match stored.split_first() {
        None => Err(StoredError::Length),
        Some((&VERSION, rest)) => Ok(rest),
        Some(_) => Err(StoredError::Version),
    }
}

fn stored_secret(secret: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(33));
    out.push(VERSION);
    out.extend_from_slice(secret);
    out
}

/// A group element other than the identity.
fn decode_element(bytes: [u8; 32]) -> Option<RistrettoPoint> {
    CompressedRistretto(bytes).decompress().filter(|point| !point.is_identity())
}

/// A point and its encoding, which the challenge covers: kept, because making it costs a tenth of a multiplication.
#[derive(Clone, Copy)]
struct Element {
    point: RistrettoPoint,
    bytes: [u8; 32],
}

impl Element {
    fn new(point: RistrettoPoint) -> Self {
        Self { point, bytes: point.compress().to_bytes() }
    }
}

/// What goes with a reply: `U' ‖ V' ‖ T ‖ c ‖ z`, 160 bytes. Silent in `Debug`.
#[derive(Clone)]
pub struct Presentation {
    u: Element,
    v: Element,
    t: Element,
    challenge: Scalar,
    response: Scalar,
}

impl Presentation {
    /// Length of the encoding: 160 bytes.
    pub const LEN: usize = 160;

    /// Reads the one encoding that a presentation has. Costs three decompressions: [`peek_nullifier`] comes before
    /// it.
    ///
    /// # Errors
    /// [`InvalidPresentation`] for a point that is the identity or not in its one encoding, and for a scalar not
    /// below the group's order.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, InvalidPresentation> {
        let (&[u, v, t, challenge, response], []) = bytes.as_chunks::<32>() else {
            return Err(InvalidPresentation);
        };
        let element = |bytes| decode_element(bytes).map(|point| Element { point, bytes }).ok_or(InvalidPresentation);
        let scalar = |bytes| Scalar::from_canonical_bytes(bytes).into_option().ok_or(InvalidPresentation);
        // The scalars first: they cost nothing.
        let (challenge, response) = (scalar(challenge)?, scalar(response)?);
        Ok(Self { u: element(u)?, v: element(v)?, t: element(t)?, challenge, response })
    }

    /// The 160 bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let parts = [self.u.bytes, self.v.bytes, self.t.bytes, self.challenge.to_bytes(), self.response.to_bytes()];
        let (chunks, _) = out.as_chunks_mut::<32>();
        chunks.iter_mut().zip(parts).for_each(|(to, part)| *to = part);
        out
    }

    /// What the relay keeps for the rest of the epoch, so that the slot is taken once.
    pub fn nullifier(&self) -> ReplyNullifier {
        ReplyNullifier::of(&self.t.bytes)
    }

    /// `c`, from the halves of A1 and A2: two points are doubled and encoded together at the price of one, by one inversion.
    fn challenge_for(&self, ctx: &Context, halves: &[RistrettoPoint; 2], envelope: &[u8; 64]) -> Scalar {
        let hash = Hash::new("challenge").context(ctx).fixed(&self.u.bytes).fixed(&self.v.bytes).fixed(&self.t.bytes);
        let commitments = RistrettoPoint::double_and_compress_batch(halves);
        let hash = commitments.iter().fold(hash, |hash, commitment| hash.fixed(commitment.as_bytes()));
        *hash.fixed(envelope).scalar()
    }
}

impl fmt::Debug for Presentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presentation(..)")
    }
}

/// The first 8 bytes of `T`: the same for the same slot in the same context, and otherwise as good as random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyNullifier(pub [u8; 8]);

impl ReplyNullifier {
    fn of(point: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *point;
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for ReplyNullifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyNullifier(..)")
    }
}
