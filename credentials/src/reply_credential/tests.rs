use std::collections::HashSet;
use std::convert::Infallible;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroize;

use super::*;

mod sigma_proofs;
mod unlinkability;
mod vectors;

const OF: KeyPeriod = KeyPeriod { mailbox: MailboxId([8; 32]), key_version: 1, period: 20 };
const CTX: Context = Context { relay: [9; 32], of: OF, epoch: 3400 };
const ENVELOPE: [u8; 64] = [5; 64];

/// Always the same bytes, over and over.
struct Stuck([u8; 32]);

impl TryRng for Stuck {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.iter_mut().zip(self.0.iter().cycle()).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}
impl TryCryptoRng for Stuck {}

/// An owner, a contact with a credential for `OF`, and another contact.
struct Stage {
    rng: StdRng,
    group: GroupSecret,
    bob: MemberSecret,
    carol: MemberSecret,
    credential: MemberCredential,
}

fn stage() -> Stage {
    let mut rng = crate::testing::rng();
    let group = GroupSecret::generate(&mut rng);
    let (bob, carol) = (MemberSecret::generate(&mut rng), MemberSecret::generate(&mut rng));
    let issued = group.issue(Params::default(), &OF, &bob);
    let credential = MemberCredential::decode(&issued.encode()).unwrap();
    Stage { rng, group, bob, carol, credential }
}

impl Stage {
    fn shown(&mut self, ctx: &Context, slot: u16) -> Presentation {
        self.credential.present(&mut self.rng, ctx, slot, &ENVELOPE).unwrap()
    }

    fn check(&self, ctx: &Context, shown: &Presentation) -> Result<(), InvalidPresentation> {
        self.check_bytes(ctx, &shown.encode())
    }

    fn check_bytes(&self, ctx: &Context, bytes: &[u8; 160]) -> Result<(), InvalidPresentation> {
        verify(&self.group.verification_key(&ctx.of), ctx, &Presentation::decode(bytes)?, &ENVELOPE)
    }
}

fn put(bytes: &[u8; 160], part: usize, value: [u8; 32]) -> [u8; 160] {
    let mut out = *bytes;
    out[32 * part..32 * (part + 1)].copy_from_slice(&value);
    out
}

#[test]
fn an_honest_presentation_verifies_for_every_slot() {
    let mut s = stage();
    assert_eq!(s.credential.slots(), 16);
    for slot in 0..16 {
        let shown = s.shown(&CTX, slot);
        assert_eq!(s.check(&CTX, &shown), Ok(()), "slot {slot}");
        assert_eq!(peek_nullifier(&shown.encode()), shown.nullifier());
    }
}

#[test]
fn every_single_byte_corruption_is_refused() {
    let mut s = stage();
    let good = s.shown(&CTX, 3).encode();
    assert_eq!(s.check_bytes(&CTX, &good), Ok(()));
    for n in 0..Presentation::LEN {
        for flip in 1..=0xff {
            let mut bad = good;
            bad[n] ^= flip;
            assert_eq!(s.check_bytes(&CTX, &bad), Err(InvalidPresentation), "byte {n} ^ {flip}");
        }
    }
}

#[test]
fn a_presentation_holds_for_its_message_and_context_alone() {
    let mut s = stage();
    let shown = s.shown(&CTX, 0);
    let own_key = s.group.verification_key(&OF);
    assert_eq!(verify(&own_key, &CTX, &shown, &ENVELOPE), Ok(()));
    assert_eq!(verify(&own_key, &CTX, &shown, &[6; 64]), Err(InvalidPresentation), "message");
    for (what, ctx) in [
        ("mailbox", Context { of: KeyPeriod { mailbox: MailboxId([7; 32]), ..OF }, ..CTX }),
        ("key version", Context { of: KeyPeriod { key_version: 2, ..OF }, ..CTX }),
        ("period", Context { of: KeyPeriod { period: 21, ..OF }, ..CTX }),
        ("relay", Context { relay: [1; 32], ..CTX }),
        ("epoch", Context { epoch: 3401, ..CTX }),
    ] {
        assert_eq!(s.check(&ctx, &shown), Err(InvalidPresentation), "{what}, with the key of there");
        assert_eq!(verify(&own_key, &ctx, &shown, &ENVELOPE), Err(InvalidPresentation), "{what}, with the key of here");
        // And the other way round: made for there, with a credential of here.
        let made = s.shown(&ctx, 0);
        let holds_there = ctx.of == OF;
        assert_eq!(s.check(&ctx, &made).is_ok(), holds_there, "{what}, made for there");
        assert_eq!(s.check(&CTX, &made), Err(InvalidPresentation), "{what}, brought back");
    }
    let stranger = GroupSecret::generate(&mut s.rng);
    assert_eq!(verify(&stranger.verification_key(&OF), &CTX, &shown, &ENVELOPE), Err(InvalidPresentation));
}

#[test]
fn a_base_that_was_kept_serves_its_own_context_alone() {
    let mut s = stage();
    let key = s.group.verification_key(&OF);
    let later = Context { epoch: CTX.epoch + 1, ..CTX };
    let (kept, of_later) = (EpochBase::new(&CTX), EpochBase::new(&later));
    assert_eq!((kept.context(), of_later.context()), (&CTX, &later));
    for slot in 0..16 {
        let shown = s.shown(&CTX, slot);
        assert_eq!(verify_at(&key, &kept, &shown, &ENVELOPE), Ok(()), "slot {slot}");
        assert_eq!(verify_at(&key, &of_later, &shown, &ENVELOPE), Err(InvalidPresentation), "slot {slot}");
        assert_eq!(verify_at(&key, &kept, &shown, &[6; 64]), Err(InvalidPresentation), "slot {slot}");
    }
}

#[test]
fn a_message_has_one_id_for_each_nullifier_and_context() {
    let mut s = stage();
    let (nullifier, other) = (s.shown(&CTX, 0).nullifier(), s.shown(&CTX, 1).nullifier());
    let of = |of: KeyPeriod| Context { of, ..CTX }.message_id(nullifier);
    let ids = [
        CTX.message_id(nullifier),
        CTX.message_id(other),
        Context { relay: relay_id("relay.example"), ..CTX }.message_id(nullifier),
        Context { epoch: CTX.epoch + 1, ..CTX }.message_id(nullifier),
        of(KeyPeriod { mailbox: MailboxId([7; 32]), ..OF }),
        of(KeyPeriod { key_version: 2, ..OF }),
        of(KeyPeriod { period: 21, ..OF }),
    ];
    assert_eq!(ids.iter().map(|id| id.0).collect::<HashSet<_>>().len(), ids.len());
    // The same slot again, blinded anew: the same name, or a struck sender could be told by it.
    assert_eq!(CTX.message_id(s.shown(&CTX, 0).nullifier()), ids[0]);
}

#[test]
fn a_relay_has_one_id_for_each_name() {
    assert_eq!(relay_id("relay.example"), relay_id("relay.example"));
    for other in ["", "relay.example.", "Relay.example", "relay.exampl"] {
        assert_ne!(relay_id(other), relay_id("relay.example"), "{other}");
    }
}

#[test]
fn a_slot_has_one_nullifier_in_an_epoch_and_another_in_the_next() {
    let mut s = stage();
    let (a, b) = (s.shown(&CTX, 4), s.shown(&CTX, 4));
    assert_ne!(a.encode(), b.encode());
    assert_eq!(a.nullifier(), b.nullifier());
    assert_ne!(a.nullifier(), s.shown(&Context { epoch: CTX.epoch + 1, ..CTX }, 4).nullifier());
}

#[test]
fn a_contact_has_k_nullifiers_in_an_epoch_and_no_more() {
    let mut s = stage();
    let all: HashSet<_> = (0..16).map(|slot| s.shown(&CTX, slot).nullifier()).collect();
    assert_eq!(all.len(), 16);
    let more = s.credential.present(&mut s.rng, &CTX, 16, &ENVELOPE);
    assert_eq!(more.unwrap_err(), NoSuchSlot);
    // A V of a slot of one's own with the seed of one more does not help.
    let mut bytes = s.credential.encode().to_vec();
    bytes.extend_from_within(33..65);
    s.credential = MemberCredential::decode(&bytes).unwrap();
    let shown = s.shown(&CTX, 16);
    assert_eq!(s.check(&CTX, &shown), Err(InvalidPresentation));
}

#[test]
fn the_identity_and_second_encodings_are_refused() {
    let mut s = stage();
    let good = s.shown(&CTX, 0).encode();
    let mut field_order_plus_two = [0xff; 32];
    (field_order_plus_two[0], field_order_plus_two[31]) = (0xef, 0x7f);
    for part in 0..3 {
        for (what, bad) in [("identity", [0; 32]), ("at least p", field_order_plus_two), ("no point", [0xff; 32])] {
            let bytes = put(&good, part, bad);
            assert_eq!(Presentation::decode(&bytes).err(), Some(InvalidPresentation), "{what} in {part}");
        }
    }
    // The group's order L, little-endian: c + L and z + L are the same scalars in other bytes.
    let order = (-Scalar::ONE).to_bytes();
    for part in 3..5 {
        let mut carry = 1u16;
        let mut other = [0; 32];
        for n in 0..32 {
            let sum = u16::from(good[32 * part + n]) + u16::from(order[n]) + carry;
            (other[n], carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        let reduced = Scalar::from_bytes_mod_order(other).to_bytes();
        assert_eq!(reduced, good[32 * part..32 * (part + 1)]);
        assert_eq!(Presentation::decode(&put(&good, part, other)).err(), Some(InvalidPresentation));
    }
}

#[test]
fn the_identity_everywhere_is_refused_even_past_the_decoder() {
    let s = stage();
    let zero = Element::new(RistrettoPoint::default());
    let mut forged = Presentation { u: zero, v: zero, t: zero, challenge: Scalar::ZERO, response: Scalar::ZERO };
    // What the decoder is there for: this one satisfies the equations.
    let identity = RistrettoPoint::default();
    forged.challenge = forged.challenge_for(&CTX, &[identity, identity], &ENVELOPE);
    assert_eq!(verify(&s.group.verification_key(&OF), &CTX, &forged, &ENVELOPE), Ok(()));
    assert_eq!(s.check(&CTX, &forged), Err(InvalidPresentation));
}

#[test]
fn values_of_one_contact_with_the_seed_of_another_are_refused() {
    let mut s = stage();
    let carols = s.group.issue(Params::default(), &OF, &s.carol);
    let mixed = [&s.credential.encode()[..33], &carols.encode()[33..]].concat();
    s.credential = MemberCredential::decode(&mixed).unwrap();
    for slot in 0..16 {
        let shown = s.shown(&CTX, slot);
        assert_eq!(s.check(&CTX, &shown), Err(InvalidPresentation));
    }
}

#[test]
fn a_forged_value_is_refused() {
    let mut s = stage();
    let other_group = GroupSecret::generate(&mut s.rng).issue(Params::default(), &OF, &s.bob);
    let genuine = s.credential.values.clone();
    for (what, forged) in [
        ("random", RistrettoPoint::random(&mut s.rng)),
        ("scaled", genuine[0] + genuine[0]),
        ("negated", -genuine[0]),
        ("of another slot", genuine[1]),
        ("its own base", s.bob.base(&OF, 0)),
        ("of another group", other_group.values[0]),
    ] {
        s.credential.values[0] = forged;
        let shown = s.shown(&CTX, 0);
        assert_eq!(s.check(&CTX, &shown), Err(InvalidPresentation), "{what}");
    }
}

#[test]
fn a_trace_names_contact_and_slot_with_or_without_a_hint_and_nobody_for_a_stranger() {
    let mut s = stage();
    let shown = s.shown(&CTX, 7);
    let contacts = [("carol", s.carol.clone()), ("bob", s.bob.clone())];
    let find = |shown: &Presentation, hint| {
        let named = contacts.iter().map(|(name, secret)| (*name, secret));
        trace(Params::default(), &CTX, shown, hint, named)
    };
    for hint in [Some(7), None, Some(2), Some(u16::MAX)] {
        assert_eq!(find(&shown, hint), Some(Traced { contact: "bob", slot: 7 }), "hint {hint:?}");
    }
    let stranger = MemberSecret::generate(&mut s.rng);
    s.credential = s.group.issue(Params::default(), &OF, &stranger);
    let shown = s.shown(&CTX, 7);
    assert_eq!(s.check(&CTX, &shown), Ok(()));
    assert_eq!(find(&shown, Some(7)), None);
    assert_eq!(find(&shown, None), None);
}

#[test]
fn a_strike_covers_exactly_the_unused_slots_and_is_padded_to_k() {
    let mut s = stage();
    let used = [0, 3, 15];
    let list = strike(Params::default(), &CTX, &s.bob, &used);
    assert_eq!(list.len(), 16);
    assert_eq!(list.iter().collect::<HashSet<_>>().len(), 16);
    assert!(list.is_sorted());
    for slot in 0..16 {
        let struck = list.contains(&s.shown(&CTX, slot).nullifier());
        assert_eq!(struck, !used.contains(&slot), "slot {slot}");
    }
    assert_eq!(list, strike(Params::default(), &CTX, &s.bob, &[15, 0, 3, 3]));
    let carols = strike(Params::default(), &CTX, &s.carol, &[]);
    assert!(list.iter().all(|entry| !carols.contains(entry)));
    // The low bit of an encoding is 0: padding must not stand out by it.
    assert!(list.iter().all(|entry| entry.0[0] & 1 == 0));
}

#[test]
fn the_same_random_bytes_give_the_same_presentation_and_never_the_same_nonces() {
    let s = stage();
    let of = |rng: [u8; 32], ctx: &Context, slot, envelope| {
        s.credential.present(&mut Stuck(rng), ctx, slot, envelope).unwrap().encode()
    };
    let first = of([1; 32], &CTX, 0, &ENVELOPE);
    assert_eq!(first, of([1; 32], &CTX, 0, &ENVELOPE));
    // A generator that is stuck: U' = a·U would repeat if a did.
    let later = Context { epoch: CTX.epoch + 1, ..CTX };
    for other in [
        of([2; 32], &CTX, 0, &ENVELOPE),
        of([1; 32], &CTX, 0, &[6; 64]),
        of([1; 32], &later, 0, &ENVELOPE),
        of([1; 32], &CTX, 1, &ENVELOPE),
    ] {
        assert_ne!(first[..32], other[..32]);
    }
}

#[test]
fn stored_forms_refuse_other_versions_and_lengths() {
    let s = stage();
    let credential = s.credential.encode();
    assert_eq!(credential.len(), 545);
    assert_eq!(GroupSecret::from_stored(&s.group.to_stored()).unwrap().0, s.group.0);
    assert_eq!(MemberSecret::from_stored(&s.bob.to_stored()).unwrap().0, s.bob.0);
    assert_eq!(MemberCredential::decode(&credential).unwrap().encode(), credential);

    let group = |b: &[u8]| GroupSecret::from_stored(b).err();
    let member = |b: &[u8]| MemberSecret::from_stored(b).err();
    let read = |b: &[u8]| MemberCredential::decode(b).err();
    type Read<'a> = &'a dyn Fn(&[u8]) -> Option<StoredError>;
    let forms: [(&[u8], Read<'_>); 3] =
        [(&s.group.to_stored(), &group), (&s.bob.to_stored(), &member), (&credential, &read)];
    for (good, from) in forms {
        for version in [0, 2, 0xff] {
            assert_eq!(from(&[&[version], &good[1..]].concat()), Some(StoredError::Version));
        }
        assert_eq!(from(&[good, &[0]].concat()), Some(StoredError::Length));
        // A credential cut between two values is one of fewer slots.
        for n in (0..good.len()).filter(|n| good.len() == 33 || *n <= 33 || (n - 33) % 32 != 0) {
            assert_eq!(from(&good[..n]), Some(StoredError::Length), "cut to {n}");
        }
    }
    for bad in [[0; 32], [0xff; 32]] {
        let mut bytes = credential.to_vec();
        bytes[33 + 32..33 + 64].copy_from_slice(&bad);
        assert_eq!(read(&bytes), Some(StoredError::Element));
    }
}

#[test]
fn a_credential_of_one_period_is_worth_nothing_in_another_and_seeds_go_forward_only() {
    let mut s = stage();
    let next = KeyPeriod { period: OF.period + 1, ..OF };
    let then = Context { of: next, epoch: CTX.epoch + 168, ..CTX };
    let shown = s.shown(&then, 0);
    assert_eq!(s.check(&then, &shown), Err(InvalidPresentation));

    let later = s.bob.next();
    assert_ne!(later.0, s.bob.0);
    assert_ne!(later.next().0, s.bob.0);
    assert_ne!(later.scalar(&OF, 0).to_bytes(), s.bob.scalar(&OF, 0).to_bytes());
    s.credential = s.group.issue(Params::default(), &next, &later);
    let shown = s.shown(&then, 0);
    assert_eq!(s.check(&then, &shown), Ok(()));
    // Whoever is shown the later seed finds the later reply with it, and not the earlier one.
    let of_later = |ctx: &Context, shown: &Presentation| {
        trace(Params::default(), ctx, shown, None, std::iter::once(((), &later))).is_some()
    };
    assert!(of_later(&then, &shown));
    s.credential = s.group.issue(Params::default(), &OF, &s.bob);
    let earlier = s.shown(&CTX, 0);
    assert!(!of_later(&CTX, &earlier));
}

#[test]
fn no_slots_are_no_parameters() {
    assert_eq!(Params::new(0), None);
    assert_eq!(Params::new(16), Some(Params::default()));
    assert_eq!(stage().group.issue(Params::new(1).unwrap(), &OF, &stage().bob).encode().len(), 65);
}

#[test]
fn debug_shows_nothing() {
    let mut s = stage();
    let shown = s.shown(&CTX, 0);
    assert_eq!(format!("{:?}", s.group), "GroupSecret(secret)");
    assert_eq!(format!("{:?}", s.group.verification_key(&OF)), "VerificationKey(secret)");
    assert_eq!(format!("{:?}", s.bob), "MemberSecret(secret)");
    assert_eq!(format!("{:?}", s.credential), "MemberCredential(secret)");
    assert_eq!(format!("{shown:?}"), "Presentation(..)");
    assert_eq!(format!("{:?}", shown.nullifier()), "ReplyNullifier(..)");
    assert!(!format!("{CTX:?}").contains("9, 9"));
}

#[test]
fn secrets_are_wiped() {
    let mut s = stage();
    let mut key = s.group.verification_key(&OF);
    key.zeroize();
    assert_eq!((key.y0, key.y1), (Scalar::ZERO, Scalar::ZERO));
    s.group.zeroize();
    s.credential.zeroize();
    assert_eq!((s.group.0, s.credential.secret.0, s.credential.slots()), ([0; 32], [0; 32], 0));
}
