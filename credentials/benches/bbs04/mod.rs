//! BBS04 (Boneh, Boyen, Shacham: "Short Group Signatures", CRYPTO 2004, §6), the scheme of Pond, on BLS12-381 with `blst`: a real
//! one, whose signatures verify, so that nothing is left out of what it costs.
//!
//! Counted from the paper, with e(·, g2) and e(·, w) gathered into one product of two pairings, as blst does them fastest (it has
//! no exponentiation in the target group; the paper's own count, for caches of e(h, w), e(h, g2) and e(A, g2), is eight
//! exponentiations to sign, six and one pairing to verify, where several bases under one exponentiation count once):
//!
//! | | sign | verify |
//! |---|---|---|
//! | multiplications in G1 | 12: T1, T2, T3, R1, R2 one each; R3 three; R4, R5 two each | 13, as multi-exponentiations: R1, R2, R4, R5 two each; R3 three and two |
//! | pairings | two Miller loops, one final exponentiation | the same |
//! | decompressions in G1 with subgroup check | – | 3 |
//!
//! Signing multiplies in constant time; verifying, where everything is public, by Pippenger's method, which is the fastest that
//! `blst` has even for two terms. Given for free to both: the lines of g2 and w are computed beforehand (faster than one loop for
//! both without). Not given: tables of u, v, h, for a relay has a group for each mailbox.
#![allow(unsafe_code, reason = "blst offers these operations only through its C interface")]

use blst::*;
use rand::Rng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha512};

/// Length of a signature, bytes: three points and six scalars.
pub(crate) const SIGNATURE_LEN: usize = 3 * 48 + 6 * 32;

/// How many line evaluations `blst_miller_loop_lines` takes: 63 doublings and 5 additions.
const LINES: usize = 68;

type Lines = Box<[blst_fp6; LINES]>;

/// A group's public key, with what can be computed beforehand.
pub(crate) struct Group {
    h: blst_p1,
    u: blst_p1,
    v: blst_p1,
    /// u, v, h, g1.
    bases: [blst_p1_affine; 4],
    g2_lines: Lines,
    w_lines: Lines,
}

/// A member's key: `A = g1/(γ + x)` and `x`.
pub(crate) struct Member {
    a: blst_p1,
    x: blst_fr,
}

/// A signature: T1, T2, T3, c and the five responses.
pub(crate) struct Signature {
    t: [[u8; 48]; 3],
    c: blst_fr,
    s: [blst_fr; 5],
}

/// A group with one member.
pub(crate) fn generate(rng: &mut StdRng) -> (Group, Member) {
    // SAFETY: the generators are constants of the library.
    let (g1, g2) = unsafe { (*blst_p1_generator(), *blst_p2_generator()) };
    let (gamma, x) = (random(rng), random(rng));
    let h = mult(&g1, &random(rng));
    let (u, v) = (mult(&h, &random(rng)), mult(&h, &random(rng)));
    let mut w = blst_p2::default();
    // SAFETY: plain values in, plain value out; the scalar has the 32 bytes that 255 bits need.
    unsafe { blst_p2_mult(&mut w, &g2, scalar(&gamma).b.as_ptr(), 255) };
    let a = mult(&g1, &inverse(&add(&gamma, &x)));
    let bases = [u, v, h, g1].map(|point| affine(&point));
    (Group { h, u, v, bases, g2_lines: lines(&g2), w_lines: lines(&w) }, Member { a, x })
}

impl Group {
    /// A signature by the member.
    pub(crate) fn sign(&self, member: &Member, message: &[u8], rng: &mut StdRng) -> Signature {
        let [alpha, beta, ra, rb, rx, rd1, rd2] = std::array::from_fn(|_| random(rng));
        let t1 = mult(&self.u, &alpha);
        let t2 = mult(&self.v, &beta);
        let t3 = sum(&[member.a, mult(&self.h, &add(&alpha, &beta))]);
        let r1 = mult(&self.u, &ra);
        let r2 = mult(&self.v, &rb);
        let with_g2 = sum(&[mult(&t3, &rx), mult(&self.h, &neg(&add(&rd1, &rd2)))]);
        let with_w = mult(&self.h, &neg(&add(&ra, &rb)));
        let r4 = sum(&[mult(&t1, &rx), mult(&self.u, &neg(&rd1))]);
        let r5 = sum(&[mult(&t2, &rx), mult(&self.v, &neg(&rd2))]);
        let t = [t1, t2, t3].map(|point| compress(&point));
        let c = challenge(message, &t, &[r1, r2, r4, r5], &self.pairings(&with_g2, &with_w));
        let secrets = [alpha, beta, member.x, mul(&member.x, &alpha), mul(&member.x, &beta)];
        let nonces = [ra, rb, rx, rd1, rd2];
        let s = std::array::from_fn(|n| add(&nonces[n], &mul(&c, &secrets[n])));
        Signature { t, c, s }
    }

    /// Whether the signature is one of some member.
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let [Some(t1), Some(t2), Some(t3)] = signature.t.map(|bytes| decompress(&bytes)) else { return false };
        let Signature { c, s: [sa, sb, sx, sd1, sd2], .. } = signature;
        let minus_c = neg(c);
        let [u, v, h, g1] = self.bases;
        let r1 = multi([u, t1], [*sa, minus_c]);
        let r2 = multi([v, t2], [*sb, minus_c]);
        let with_g2 = multi([t3, h, g1], [*sx, neg(&add(sd1, sd2)), minus_c]);
        let with_w = multi([t3, h], [*c, neg(&add(sa, sb))]);
        let r4 = multi([t1, u], [*sx, neg(sd1)]);
        let r5 = multi([t2, v], [*sx, neg(sd2)]);
        let r3 = self.pairings(&with_g2, &with_w);
        let expected = challenge(message, &signature.t, &[r1, r2, r4, r5], &r3);
        scalar(&expected).b == scalar(c).b
    }

    /// e(p, g2) · e(q, w).
    fn pairings(&self, p: &blst_p1, q: &blst_p1) -> blst_fp12 {
        let (mut one, mut other) = (blst_fp12::default(), blst_fp12::default());
        let (p, q) = (affine(p), affine(q));
        // SAFETY: both tables have the 68 lines that the loop reads.
        unsafe {
            blst_miller_loop_lines(&mut one, self.g2_lines.as_ptr(), &p);
            blst_miller_loop_lines(&mut other, self.w_lines.as_ptr(), &q);
        }
        (one * other).final_exp()
    }
}

/// One constant-time multiplication in G1 (for printing).
pub(crate) fn one_multiplication(group: &Group, member: &Member) -> blst_p1 {
    mult(&group.u, &member.x)
}

/// One product of two pairings (for printing).
pub(crate) fn one_pairing_product(group: &Group) -> blst_fp12 {
    group.pairings(&group.u, &group.v)
}

fn challenge(message: &[u8], t: &[[u8; 48]; 3], r: &[blst_p1; 4], r3: &blst_fp12) -> blst_fr {
    let mut hash = Sha512::new_with_prefix(message);
    t.iter().for_each(|point| hash.update(point));
    r.iter().for_each(|point| hash.update(compress(point)));
    hash.update(r3.to_bendian());
    reduce(&hash.finalize())
}

fn random(rng: &mut StdRng) -> blst_fr {
    let mut bytes = [0; 64];
    rng.fill_bytes(&mut bytes);
    reduce(&bytes)
}

// What follows only gives blst's functions a shape in which the scheme can be read.
// SAFETY of all: initialised plain values in, plain value out; lengths are those of the arrays.

fn reduce(bytes: &[u8]) -> blst_fr {
    let (mut scalar, mut out) = (blst_scalar::default(), blst_fr::default());
    unsafe {
        blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
        blst_fr_from_scalar(&mut out, &scalar);
    }
    out
}

fn scalar(a: &blst_fr) -> blst_scalar {
    let mut out = blst_scalar::default();
    unsafe { blst_scalar_from_fr(&mut out, a) };
    out
}

fn add(a: &blst_fr, b: &blst_fr) -> blst_fr {
    let mut out = blst_fr::default();
    unsafe { blst_fr_add(&mut out, a, b) };
    out
}

fn mul(a: &blst_fr, b: &blst_fr) -> blst_fr {
    let mut out = blst_fr::default();
    unsafe { blst_fr_mul(&mut out, a, b) };
    out
}

fn neg(a: &blst_fr) -> blst_fr {
    let mut out = blst_fr::default();
    unsafe { blst_fr_cneg(&mut out, a, true) };
    out
}

fn inverse(a: &blst_fr) -> blst_fr {
    let mut out = blst_fr::default();
    unsafe { blst_fr_inverse(&mut out, a) };
    out
}

fn mult(point: &blst_p1, by: &blst_fr) -> blst_p1 {
    let mut out = blst_p1::default();
    unsafe { blst_p1_mult(&mut out, point, scalar(by).b.as_ptr(), 255) };
    out
}

fn sum(points: &[blst_p1]) -> blst_p1 {
    points.iter().fold(blst_p1::default(), |a, b| {
        let mut out = blst_p1::default();
        unsafe { blst_p1_add_or_double(&mut out, &a, b) };
        out
    })
}

/// All terms in one go; for public scalars, its time depends on them.
fn multi<const N: usize>(points: [blst_p1_affine; N], by: [blst_fr; N]) -> blst_p1 {
    let scalars = by.map(|scalar_of| scalar(&scalar_of).b);
    let mut out = blst_p1::default();
    // A null ends each list: the rest lies behind the first one.
    let (points, scalars) = ([points.as_ptr(), std::ptr::null()], [scalars.as_ptr().cast(), std::ptr::null()]);
    unsafe {
        let mut scratch = vec![0; blst_p1s_mult_pippenger_scratch_sizeof(N).div_ceil(size_of::<limb_t>())];
        blst_p1s_mult_pippenger(&mut out, points.as_ptr(), N, scalars.as_ptr(), 255, scratch.as_mut_ptr());
    }
    out
}

fn affine(point: &blst_p1) -> blst_p1_affine {
    let mut out = blst_p1_affine::default();
    unsafe { blst_p1_to_affine(&mut out, point) };
    out
}

fn compress(point: &blst_p1) -> [u8; 48] {
    let mut out = [0; 48];
    unsafe { blst_p1_compress(out.as_mut_ptr(), point) };
    out
}

fn decompress(bytes: &[u8; 48]) -> Option<blst_p1_affine> {
    let mut out = blst_p1_affine::default();
    let read = unsafe { blst_p1_uncompress(&mut out, bytes.as_ptr()) };
    (read == BLST_ERROR::BLST_SUCCESS && unsafe { blst_p1_affine_in_g1(&out) }).then_some(out)
}

fn lines(point: &blst_p2) -> Lines {
    let (mut affine, mut out) = (blst_p2_affine::default(), Box::new([blst_fp6::default(); LINES]));
    unsafe {
        blst_p2_to_affine(&mut affine, point);
        blst_precompute_lines(out.as_mut_ptr(), &affine);
    }
    out
}
