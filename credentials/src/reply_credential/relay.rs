//! The relay's side: checking.

use std::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{MultiscalarMul, VartimeMultiscalarMul};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Context, InvalidPresentation, Presentation, ReplyNullifier};

/// `(y0, y1)`: what checks the presentations of one period, and could forge them. Zeroised on drop, silent in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VerificationKey {
    pub(super) y0: Scalar,
    pub(super) y1: Scalar,
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationKey(secret)")
    }
}

/// The nullifier of a presentation not yet decoded, nor believed: for finding duplicates before any arithmetic is
/// done.
pub fn peek_nullifier(presentation: &[u8; Presentation::LEN]) -> ReplyNullifier {
    let (chunks, _) = presentation.as_chunks::<32>();
    ReplyNullifier::of(chunks.get(2).unwrap_or(&[0; 32]))
}

/// A context and its `P`. Making it is a tenth of *Verify*: a relay that sees several replies of one (mailbox, key version, epoch)
/// may keep it. Nothing in it is secret.
#[derive(Clone, Copy)]
pub struct EpochBase {
    ctx: Context,
    point: RistrettoPoint,
}

impl EpochBase {
    /// Of this context.
    pub fn new(ctx: &Context) -> Self {
        Self { ctx: *ctx, point: ctx.nullifier_base() }
    }

    /// The context that it was made for.
    pub fn context(&self) -> &Context {
        &self.ctx
    }
}

impl fmt::Debug for EpochBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EpochBase").field(&self.ctx).finish()
    }
}

/// *Verify*: whether some contact of the group authorised the envelope with this SHA-512 in this context.
///
/// The key must be that of `ctx.of`. That the nullifier is new in (mailbox, epoch), and not struck, is for the
/// caller to see to. Takes the same time for every key.
///
/// # Errors
/// [`InvalidPresentation`], whatever is wrong.
pub fn verify(
    key: &VerificationKey,
    ctx: &Context,
    shown: &Presentation,
    envelope: &[u8; 64],
) -> Result<(), InvalidPresentation> {
    verify_at(key, &EpochBase::new(ctx), shown, envelope)
}

/// [`verify`] with a `P` that was kept.
///
/// # Errors
/// [`InvalidPresentation`], whatever is wrong.
pub fn verify_at(
    key: &VerificationKey,
    base: &EpochBase,
    shown: &Presentation,
    envelope: &[u8; 64],
) -> Result<(), InvalidPresentation> {
    // With half of c and of z come the halves of A1 and A2.
    let (c, z) = (shown.challenge.div_by_2(), shown.response.div_by_2());
    let for_u = Zeroizing::new(z + c * key.y0);
    let for_v = Zeroizing::new(-(c * key.y1));
    let half_a1 = RistrettoPoint::multiscalar_mul([&*for_u, &*for_v], [&shown.u.point, &shown.v.point]);
    // Everything in this one is public.
    let half_a2 = RistrettoPoint::vartime_multiscalar_mul([z, -c], [&base.point, &shown.t.point]);
    let expected = shown.challenge_for(&base.ctx, &[half_a1, half_a2], envelope);
    if expected == shown.challenge { Ok(()) } else { Err(InvalidPresentation) }
}
