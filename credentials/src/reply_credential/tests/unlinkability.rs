//! What a relay that has the group secret, and keeps everything, can work out of presentations: the obvious distinguishers, and
//! careless contacts on whom each kind of them succeeds, so that they are known to be able to.

use super::*;

/// All that a relay with the verification key can work out of one presentation, 32 bytes each.
fn seen(key: &VerificationKey, ctx: &Context, shown: &Presentation) -> HashSet<[u8; 32]> {
    let (u, v, t) = (shown.u.point, shown.v.point, shown.t.point);
    let (c, z) = (shown.challenge, shown.response);
    let m_times_u = v * key.y1 - u * key.y0;
    let base = ctx.nullifier_base();
    let points =
        [u, v, t, m_times_u, u * z - m_times_u * c, base * z - t * c, m_times_u - t, u - base, u + v, t - base];
    let scalars = [c, z, z * c.invert()];
    points.map(|point| point.compress().to_bytes()).into_iter().chain(scalars.map(|s| s.to_bytes())).collect()
}

/// The distinguishers: a value in common, or a presentation that still holds with parts of the other in it.
fn linked(key: &VerificationKey, a: (&Context, &Presentation), b: (&Context, &Presentation)) -> bool {
    if !seen(key, a.0, a.1).is_disjoint(&seen(key, b.0, b.1)) {
        return true;
    }
    let (one, other) = (a.1, b.1);
    [
        Presentation { t: other.t, ..one.clone() },
        Presentation { u: other.u, v: other.v, ..one.clone() },
        Presentation { v: other.v, ..one.clone() },
        Presentation { challenge: other.challenge, response: other.response, ..one.clone() },
    ]
    .iter()
    .any(|mixed| verify(key, a.0, mixed, &ENVELOPE).is_ok())
}

#[test]
fn a_relay_with_all_keys_links_nothing_but_a_slot_used_twice_in_an_epoch() {
    let mut s = stage();
    let key = s.group.verification_key(&OF);
    let carols = s.group.issue(Params::default(), &OF, &s.carol);
    let (mut same_slot, mut same_contact, mut two_contacts, mut reused) = (0, 0, 0, 0);
    let pairs = 128;
    for n in 0..pairs {
        let now = Context { epoch: CTX.epoch + 2 * n, ..CTX };
        let then = Context { epoch: now.epoch + 1, ..CTX };
        let slot = (s.rng.next_u32() % 16) as u16;
        let first = s.shown(&now, slot);
        let in_next_epoch = s.shown(&then, slot);
        let of_other_slot = s.shown(&now, (slot + 1) % 16);
        let again = s.shown(&now, slot);
        let of_carol = carols.present(&mut s.rng, &now, slot, &ENVELOPE).unwrap();
        let link = |ctx, other| u32::from(linked(&key, (&now, &first), (ctx, other)));
        same_slot += link(&then, &in_next_epoch);
        same_contact += link(&now, &of_other_slot);
        two_contacts += link(&now, &of_carol);
        reused += link(&now, &again);
    }
    assert_eq!((same_slot, same_contact, two_contacts), (0, 0, 0));
    assert_eq!(reused, pairs, "a slot used twice must show, or this test shows nothing");
}

/// A presentation with nonces that the contact chose badly.
fn careless(s: &Stage, ctx: &Context, slot: u16, a: Scalar, w: Scalar) -> Presentation {
    let (m, base) = (*s.bob.scalar(&ctx.of, slot), ctx.nullifier_base());
    let [u, v] = [s.bob.base(&ctx.of, slot), s.credential.values[usize::from(slot)]].map(|point| a * point);
    let [u, v, t] = [u, v, m * base].map(Element::new);
    let mut shown = Presentation { u, v, t, challenge: Scalar::ZERO, response: Scalar::ZERO };
    let half = w.div_by_2();
    shown.challenge = shown.challenge_for(ctx, &[half * u.point, half * base], &ENVELOPE);
    shown.response = w + shown.challenge * m;
    shown
}

#[test]
fn a_contact_that_does_not_blind_or_repeats_a_nonce_is_linked() {
    let mut s = stage();
    let key = s.group.verification_key(&OF);
    let [a, b, v, w] = [(); 4].map(|()| Scalar::random(&mut s.rng));
    let later = Context { epoch: CTX.epoch + 1, ..CTX };
    let link = |(ctx, slot, a, w): (&Context, u16, Scalar, Scalar)| {
        let (first, second) = (careless(&s, &CTX, 2, b, v), careless(&s, ctx, slot, a, w));
        assert_eq!((s.check(&CTX, &first), s.check(ctx, &second)), (Ok(()), Ok(())));
        linked(&key, (&CTX, &first), (ctx, &second))
    };
    assert!(!link((&later, 2, a, w)), "fresh nonces, the next epoch");
    assert!(!link((&CTX, 3, a, w)), "fresh nonces, another slot");
    assert!(link((&later, 2, b, w)), "the same a: U' repeats");
    assert!(link((&CTX, 3, a, v)), "the same w: A2 repeats");
}
