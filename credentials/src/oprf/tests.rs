use serde_json::Value;

use super::*;
use crate::testing::{ListRng, rng};

fn key() -> SecretKey {
    SecretKey::derive(&[1; 32], b"a").unwrap()
}

fn batch(inputs: &[&str]) -> (Vec<OprfElement>, Vec<Blinding>) {
    let mut rng = rng();
    inputs.iter().map(|input| blind(&mut rng, input.as_bytes()).unwrap()).unzip()
}

fn pairs<'a>(inputs: &'a [&str], blindings: &'a [Blinding]) -> Vec<(&'a [u8], &'a Blinding)> {
    inputs.iter().map(|input| input.as_bytes()).zip(blindings).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn list(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

#[test]
fn every_vector_of_rfc_9497_a_1_2_comes_out_byte_for_byte_batch_included() {
    let file: Value = serde_json::from_str(include_str!("../../tests/vectors/rfc9497_voprf.json")).unwrap();
    let key = SecretKey::derive(&bytes(&file["Seed"]).try_into().unwrap(), &bytes(&file["KeyInfo"])).unwrap();
    assert_eq!(key.server.serialize()[..32], bytes(&file["skSm"]));
    assert_eq!(key.public().as_bytes().to_vec(), bytes(&file["pkSm"]));
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.iter().map(|vector| list(&vector["Input"]).len()).collect::<Vec<_>>(), [1, 1, 2]);
    for vector in vectors {
        let (inputs, blinds) = (list(&vector["Input"]), list(&vector["Blind"]));
        let mut blinding_rng = ListRng::new(blinds.iter().map(Vec::as_slice));
        let (elements, blindings): (Vec<_>, Vec<_>) =
            inputs.iter().map(|input| blind(&mut blinding_rng, input).unwrap()).unzip();
        let as_bytes = |elements: &[OprfElement]| elements.iter().map(|e| e.0.to_vec()).collect::<Vec<_>>();
        assert_eq!(as_bytes(&elements), list(&vector["BlindedElement"]));

        let mut proof_rng = ListRng::new([bytes(&vector["ProofRandomScalar"]).as_slice()]);
        let answer = key.evaluate_with(&mut proof_rng, &elements).unwrap();
        assert_eq!(as_bytes(&answer.evaluated), list(&vector["EvaluationElement"]));
        assert_eq!(answer.proof.0.to_vec(), bytes(&vector["Proof"]));

        let pairs: Vec<_> = inputs.iter().map(Vec::as_slice).zip(&blindings).collect();
        let outputs = finish(&key.public(), &pairs, &answer.evaluated, &answer.proof).unwrap();
        assert_eq!(outputs.iter().map(|y| y.expose().to_vec()).collect::<Vec<_>>(), list(&vector["Output"]));
        for (input, output) in inputs.iter().zip(&outputs) {
            assert_eq!(key.output(input).unwrap(), *output);
        }
    }
}

#[test]
fn the_same_batch_gets_the_same_bytes_and_another_batch_or_key_another_nonce() {
    let (elements, _) = batch(&["+41791234567", "+41791234568"]);
    let first = key().evaluate(&elements).unwrap();
    assert_eq!(key().evaluate(&elements).unwrap(), first);
    let reversed: Vec<_> = elements.iter().rev().copied().collect();
    let answers = [
        first,
        key().evaluate(&reversed).unwrap(),
        key().evaluate(&elements[..1]).unwrap(),
        SecretKey::derive(&[1; 32], b"b").unwrap().evaluate(&elements).unwrap(),
    ];
    // s = r − c·k: with one r for two challenges, anybody computes k. No two of these share the proof's first or second half.
    let mut halves: Vec<_> = answers.iter().flat_map(|answer| super::halves(&answer.proof.0)).collect();
    halves.sort_unstable();
    halves.dedup();
    assert_eq!(halves.len(), 8);
}

#[test]
fn the_nonces_of_two_batches_are_not_the_same() {
    // r = s + c·k for each: computed with the key, which only this test has.
    use curve25519_dalek::scalar::Scalar;
    let key = key();
    let secret = Scalar::from_canonical_bytes(key.server.serialize()[..32].try_into().unwrap()).unwrap();
    let nonce = |elements: &[OprfElement]| {
        let [c, s] = super::halves(&key.evaluate(elements).unwrap().proof.0).map(Scalar::from_bytes_mod_order);
        s + c * secret
    };
    let (elements, _) = batch(&["a", "b"]);
    assert_eq!(nonce(&elements), nonce(&elements));
    assert_ne!(nonce(&elements), nonce(&elements[..1]));
    assert_ne!(nonce(&elements[..1]), nonce(&elements[1..]));
}

#[test]
fn the_client_s_outputs_are_the_owner_s_and_depend_on_the_input() {
    let inputs = ["+41791234567", "+41791234568", "+12025550100"];
    let (elements, blindings) = batch(&inputs);
    let answer = key().evaluate(&elements).unwrap();
    let outputs = finish(&key().public(), &pairs(&inputs, &blindings), &answer.evaluated, &answer.proof).unwrap();
    for (input, output) in inputs.iter().zip(&outputs) {
        assert_eq!(key().output(input.as_bytes()).unwrap(), *output);
    }
    assert!(outputs[0] != outputs[1] && outputs[1] != outputs[2]);
}

#[test]
fn an_input_blinded_twice_looks_like_two() {
    let (elements, blindings) = batch(&["+41791234567", "+41791234567"]);
    assert_ne!(elements[0], elements[1]);
    assert_eq!(blindings[0].element(), elements[0]);
}

#[test]
fn the_identity_and_every_other_non_canonical_element_is_refused_by_both_sides() {
    let inputs = ["+41791234567"];
    let (elements, blindings) = batch(&inputs);
    let answer = key().evaluate(&elements).unwrap();
    let mut negative = elements[0];
    negative.0[0] ^= 1; // an odd, so negative, field element
    let mut above = OprfElement([0xff; 32]);
    above.0[31] = 0x7f; // 2^255 − 1
    for bad in [OprfElement([0; 32]), negative, above, OprfElement([0xff; 32])] {
        assert_eq!(key().evaluate(&[elements[0], bad]), Err(OprfError::Element));
        assert_eq!(check_batch(&[elements[0], bad]), Err(OprfError::Element));
        let finished = finish(&key().public(), &pairs(&inputs, &blindings), &[bad], &answer.proof);
        assert_eq!(finished.map(drop), Err(OprfError::Element));
        let finished = finish(&OprfPublicKey(bad.0), &pairs(&inputs, &blindings), &answer.evaluated, &answer.proof);
        assert_eq!(finished.map(drop), Err(OprfError::Key));
    }
}

#[test]
fn a_changed_proof_another_key_and_swapped_or_foreign_elements_are_refused() {
    let inputs = ["+41791234567", "+41791234568"];
    let (elements, blindings) = batch(&inputs);
    let Evaluation { evaluated, proof } = key().evaluate(&elements).unwrap();
    let pairs = pairs(&inputs, &blindings);
    let refused = |key: &OprfPublicKey, pairs: &[(&[u8], &Blinding)], evaluated: &[OprfElement], proof: &OprfProof| {
        assert_eq!(finish(key, pairs, evaluated, proof).map(drop), Err(OprfError::Proof));
    };
    for at in 0..64 {
        let mut bad = proof;
        bad.0[at] ^= 1;
        refused(&key().public(), &pairs, &evaluated, &bad);
    }
    let other = SecretKey::derive(&[1; 32], b"b").unwrap();
    refused(&other.public(), &pairs, &evaluated, &proof);
    refused(&key().public(), &pairs, &[evaluated[1], evaluated[0]], &proof);
    refused(&key().public(), &[pairs[1], pairs[0]], &evaluated, &proof);
    refused(&key().public(), &pairs[..1], &evaluated[..1], &proof);
    // One element evaluated under a key of its own: what would mark a client.
    let marked = other.evaluate(&elements).unwrap();
    refused(&key().public(), &pairs, &[evaluated[0], marked.evaluated[1]], &proof);
    refused(&key().public(), &pairs, &marked.evaluated, &marked.proof);
}

#[test]
fn empty_batches_and_lists_of_different_lengths_are_refused() {
    let inputs = ["+41791234567", "+41791234568"];
    let (elements, blindings) = batch(&inputs);
    let Evaluation { evaluated, proof } = key().evaluate(&elements).unwrap();
    assert_eq!(key().evaluate(&[]), Err(OprfError::Batch));
    assert_eq!((check_batch(&[]), check_batch(&elements)), (Err(OprfError::Batch), Ok(())));
    assert_eq!(finish(&key().public(), &[], &[], &proof).map(drop), Err(OprfError::Batch));
    let pairs = pairs(&inputs, &blindings);
    assert_eq!(finish(&key().public(), &pairs[..1], &evaluated, &proof).map(drop), Err(OprfError::Batch));
    assert_eq!(finish(&key().public(), &pairs, &evaluated[..1], &proof).map(drop), Err(OprfError::Batch));
    assert_eq!(key().evaluate(&vec![elements[0]; 65_536]), Err(OprfError::Batch));
}

#[test]
fn a_stored_blinding_finishes_after_a_restart_and_no_other_bytes_are_one() {
    let inputs = ["+41791234567"];
    let (elements, blindings) = batch(&inputs);
    let stored = blindings[0].to_bytes();
    let again = [Blinding::from_bytes(&stored).unwrap()];
    assert_eq!(again[0].element(), elements[0]);
    let Evaluation { evaluated, proof } = key().evaluate(&elements).unwrap();
    assert!(finish(&key().public(), &pairs(&inputs, &again), &evaluated, &proof).is_ok());
    let mut zero = stored.clone();
    zero[..32].fill(0);
    let mut identity = stored;
    identity[32..].fill(0);
    for bad in [&*zero, &*identity, &[0xff; 64]] {
        assert_eq!(Blinding::from_bytes(bad).map(drop), Err(OprfError::Element));
    }
}

#[test]
fn every_epoch_and_root_has_its_key_and_debug_shows_none() {
    let root = RootSecret::from_bytes([5; 32]);
    let keys = [
        SecretKey::for_epoch(&root, 1).unwrap(),
        SecretKey::for_epoch(&root, 2).unwrap(),
        SecretKey::for_epoch(&RootSecret::from_bytes([6; 32]), 1).unwrap(),
    ];
    assert_eq!(SecretKey::for_epoch(&root, 1).unwrap().public(), keys[0].public());
    assert!(keys[0].public() != keys[1].public() && keys[0].public() != keys[2].public());
    assert_eq!(format!("{:?}", keys[0]), "SecretKey(secret)");
    let (_, blindings) = batch(&["a"]);
    assert_eq!(format!("{:?}", blindings[0]), "Blinding(secret)");
}
