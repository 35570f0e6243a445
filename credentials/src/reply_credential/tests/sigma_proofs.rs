//! The relation of a presentation, stated to `sigma-proofs`, which we did not write: knowledge of an m with `A = m·U'` and `T = m·P`,
//! where `A = y1·V' − y0·U'`.
//!
//! The protocol beneath is the same, so commitments and responses are exchanged between the two below. The challenges are not: its
//! own is squeezed from TurboSHAKE128 over its encoding of the statement, ours is SHA-512 over context and envelope.

use ::sigma_proofs::linear_relation::Instance;
use ::sigma_proofs::traits::{SigmaProtocol, SigmaProtocolSimulator};
use ::sigma_proofs::{
    DefaultHash, LinearRelation, ProverRng, derive_session_id, prove_compact_with, verify_compact_with,
};

use super::*;

const TAG: &[u8] = b"POSTERN-PRC1-TESTS-CMPT-with-sigma-proofs_TurboShake128_Ristretto255";

/// The statement that the relay checks, from its key and what it was shown.
fn statement(key: &VerificationKey, ctx: &Context, shown: &Presentation) -> Instance<RistrettoPoint> {
    let (u, v, t) = (shown.u.point, shown.v.point, shown.t.point);
    let mut relation = LinearRelation::new();
    let m = relation.allocate_scalar();
    let u_base = relation.allocate_element_with(u);
    let t_base = relation.allocate_element_with(ctx.nullifier_base());
    relation.allocate_eq_with(v * key.y1 - u * key.y0, m * u_base);
    relation.allocate_eq_with(t, m * t_base);
    relation.compile().unwrap()
}

fn prove(statement: &Instance<RistrettoPoint>, m: Scalar) -> Vec<u8> {
    let session = derive_session_id::<DefaultHash>(TAG);
    let mut rng = ProverRng::from_seed([7; 32]);
    prove_compact_with::<DefaultHash, _>(&session, statement, &[m], &mut rng).unwrap()
}

fn holds(statement: &Instance<RistrettoPoint>, proof: &[u8]) -> bool {
    verify_compact_with::<DefaultHash, _>(&derive_session_id::<DefaultHash>(TAG), statement, proof).is_ok()
}

#[test]
fn its_proof_with_a_member_scalar_holds_for_the_statement_of_that_slots_presentation_alone() {
    let mut s = stage();
    let key = s.group.verification_key(&OF);
    let (shown, other) = (s.shown(&CTX, 3), s.shown(&CTX, 4));
    let (m, of_other) = (*s.bob.scalar(&OF, 3), *s.bob.scalar(&OF, 4));
    let right = statement(&key, &CTX, &shown);
    let proof = prove(&right, m);
    assert_eq!(proof.len(), 64);
    assert!(holds(&right, &proof));
    assert!(!holds(&right, &prove(&right, of_other)), "the scalar of another slot");
    assert!(!holds(&right, &prove(&right, *s.carol.scalar(&OF, 3))), "the scalar of another contact");

    let random = Element::new(RistrettoPoint::random(&mut s.rng));
    for (what, wrong) in [
        ("T of another slot", Presentation { t: other.t, ..shown.clone() }),
        ("random T", Presentation { t: random, ..shown.clone() }),
        ("V' of another slot", Presentation { v: other.v, ..shown.clone() }),
        ("U' of another slot", Presentation { u: other.u, ..shown.clone() }),
    ] {
        let stated = statement(&key, &CTX, &wrong);
        assert!(!holds(&stated, &proof), "{what}: the right proof");
        assert!(![m, of_other].iter().any(|m| holds(&stated, &prove(&stated, *m))), "{what}: a proof of its own");
        assert_eq!(verify(&key, &CTX, &wrong, &ENVELOPE), Err(InvalidPresentation), "{what}: ours");
    }
    let later = Context { epoch: CTX.epoch + 1, ..CTX };
    assert!(!holds(&statement(&key, &later, &shown), &proof), "another epoch's P");
    let next = s.group.verification_key(&KeyPeriod { period: OF.period + 1, ..OF });
    assert!(!holds(&statement(&next, &CTX, &shown), &proof), "another period's key");
}

#[test]
fn its_verifier_accepts_the_transcript_of_our_prover() {
    let s = stage();
    let fresh = [6; 32];
    let shown = s.credential.present(&mut Stuck(fresh), &CTX, 5, &ENVELOPE).unwrap();
    let m = s.bob.scalar(&OF, 5);
    let nonce = Hash::new("nonce-w").fixed(&fresh).fixed(m.as_bytes()).context(&CTX).fixed(&ENVELOPE).scalar();
    let commitment = vec![*nonce * shown.u.point, *nonce * CTX.nullifier_base()];
    let stated = statement(&s.group.verification_key(&OF), &CTX, &shown);
    let (challenge, response) = (shown.challenge, vec![shown.response]);
    assert!(stated.verifier(&commitment, &challenge, &response).is_ok());
    assert!(stated.verifier(&commitment, &challenge, &vec![shown.response + Scalar::ONE]).is_err());
    assert!(stated.verifier(&commitment, &(challenge + Scalar::ONE), &response).is_err());
    // And it works out the same commitments from challenge and response as ours does.
    assert_eq!(stated.simulate_commitment(&challenge, &response).unwrap(), commitment);
}

#[test]
fn our_verifier_accepts_the_transcript_of_its_prover_under_our_challenge() {
    let mut s = stage();
    let key = s.group.verification_key(&OF);
    let shown = s.shown(&CTX, 9);
    let stated = statement(&key, &CTX, &shown);
    let with = |m: Scalar| {
        let mut rng = ProverRng::from_seed([8; 32]);
        let (commitment, state) = stated.prover_commit(&[m], &mut rng).unwrap();
        let half = Scalar::ONE.div_by_2();
        let challenge = shown.challenge_for(&CTX, &[commitment[0] * half, commitment[1] * half], &ENVELOPE);
        let response = stated.prover_response(state, &challenge).unwrap()[0];
        Presentation { challenge, response, ..shown.clone() }
    };
    let theirs = with(*s.bob.scalar(&OF, 9));
    assert_ne!(theirs.encode(), shown.encode());
    assert_eq!(s.check(&CTX, &theirs), Ok(()));
    assert_eq!(s.check(&CTX, &with(*s.bob.scalar(&OF, 10))), Err(InvalidPresentation));
}
