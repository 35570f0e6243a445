//! The contact's side: receiving and presenting.

use std::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    Context, Element, Hash, KeyPeriod, Presentation, StoredError, VERSION, decode_element, stored_secret, strip_version,
};

/// The credential has fewer slots: this epoch's replies are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such slot in this credential")]
pub struct NoSuchSlot;

/// A contact's seed for one period, known to the contact and the owner: 32 bytes. Zeroised on drop, silent in `Debug`.
///
/// Who has it recognises this contact's replies of this period and all later ones, of no earlier one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MemberSecret(pub(super) [u8; 32]);

impl MemberSecret {
    /// A fresh one, drawn by the owner for the first period of a contact.
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

    /// Version 1 ‖ seed, 33 bytes.
    pub fn to_stored(&self) -> Zeroizing<Vec<u8>> {
        stored_secret(&self.0)
    }

    /// The next period's: the first 32 bytes of SHA-512 of this one. There is no way back.
    #[must_use]
    pub fn next(&self) -> Self {
        let hash = Hash::new("next-seed").fixed(&self.0).finish();
        let mut next = Self([0; 32]);
        next.0.iter_mut().zip(hash.iter()).for_each(|(to, from)| *to = *from);
        next
    }

    fn slot(&self, label: &'static str, of: &KeyPeriod, slot: u16) -> Hash {
        Hash::new(label).period(of).fixed(&self.0).fixed(&slot.to_be_bytes())
    }

    /// `m`.
    pub(super) fn scalar(&self, of: &KeyPeriod, slot: u16) -> Zeroizing<Scalar> {
        self.slot("member-scalar", of, slot).scalar()
    }

    /// `U`.
    pub(super) fn base(&self, of: &KeyPeriod, slot: u16) -> RistrettoPoint {
        self.slot("member-base", of, slot).group()
    }
}

impl fmt::Debug for MemberSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberSecret(secret)")
    }
}

/// What a contact holds for one period: the seed and a `V` per slot. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MemberCredential {
    pub(super) secret: MemberSecret,
    pub(super) values: Vec<RistrettoPoint>,
}

impl MemberCredential {
    /// *Receive*: reads what [`Self::encode`] wrote, with any number of slots from 1 to 65,535.
    ///
    /// # Errors
    /// [`StoredError::Version`] for another version; [`StoredError::Length`] for any length but 33 + 32k;
    /// [`StoredError::Element`] if a `V` is the identity or not in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        let (seed, values) = strip_version(bytes)?.split_first_chunk().ok_or(StoredError::Length)?;
        let secret = MemberSecret(*seed);
        let (values, rest) = values.as_chunks::<32>();
        if values.is_empty() || values.len() > usize::from(u16::MAX) || !rest.is_empty() {
            return Err(StoredError::Length);
        }
        let values = values.iter().map(|value| decode_element(*value)).collect::<Option<_>>();
        Ok(Self { secret, values: values.ok_or(StoredError::Element)? })
    }

    /// Version 1 ‖ seed ‖ V of each slot, 33 + 32k bytes: what the owner sends and the contact stores.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Reserved in full, so that the seed is not left behind in a buffer outgrown.
        let mut out = Zeroizing::new(Vec::with_capacity(33 + 32 * self.values.len()));
        out.push(VERSION);
        out.extend_from_slice(&self.secret.0);
        self.values.iter().for_each(|value| out.extend_from_slice(value.compress().as_bytes()));
        out
    }

    /// The number of slots: presentations per epoch.
    pub fn slots(&self) -> usize {
        self.values.len()
    }

    /// *Present*: authorises the envelope with this SHA-512 in this context.
    ///
    /// Mark the slot as used on disk *before* sending, and send the same bytes again on a retry: two envelopes with
    /// one slot in one epoch are linked, and the second is refused. The nonces come from `rng` (32 bytes are drawn)
    /// hashed with the secret and everything signed, so that a generator that repeats itself gives nothing away.
    ///
    /// # Errors
    /// [`NoSuchSlot`] from slot k on: wait for the next epoch, or pay with a token.
    pub fn present(
        &self,
        rng: &mut impl CryptoRng,
        ctx: &Context,
        slot: u16,
        envelope: &[u8; 64],
    ) -> Result<Presentation, NoSuchSlot> {
        let value = self.values.get(usize::from(slot)).ok_or(NoSuchSlot)?;
        let m = self.secret.scalar(&ctx.of, slot);
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill_bytes(fresh.as_mut_slice());
        let nonce = |label| Hash::new(label).fixed(&fresh).fixed(m.as_bytes()).context(ctx).fixed(envelope).scalar();
        let (a, w) = (nonzero(&nonce("nonce-a")), nonce("nonce-w"));
        let base = ctx.nullifier_base();
        let (u, v, t) = (*a * self.secret.base(&ctx.of, slot), *a * value, *m * base);
        let mut shown = Presentation {
            u: Element::new(u),
            v: Element::new(v),
            t: Element::new(t),
            challenge: Scalar::ZERO,
            response: Scalar::ZERO,
        };
        let half_w = Zeroizing::new(w.div_by_2());
        shown.challenge = shown.challenge_for(ctx, &[*half_w * u, *half_w * base], envelope);
        shown.response = *w + shown.challenge * *m;
        Ok(shown)
    }
}

impl fmt::Debug for MemberCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberCredential(secret)")
    }
}

/// One in place of zero, which comes once in 2^252 and would make the identity of U'.
fn nonzero(scalar: &Scalar) -> Zeroizing<Scalar> {
    Zeroizing::new(Scalar::conditional_select(scalar, &Scalar::ONE, scalar.ct_eq(&Scalar::ZERO)))
}
