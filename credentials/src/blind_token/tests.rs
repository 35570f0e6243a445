//! Published vectors, behaviour, and attacks. `tests/privacypass_interop.rs` holds the other implementations against this one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::LazyLock;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_core::{TryCryptoRng, TryRng};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::{BoxedUint, RsaPrivateKey};
use serde_json::Value;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::pending::BlindingInverse;
use super::*;

/// Made once: generating a key takes tens of milliseconds.
static ISSUER: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::generate().unwrap());
static OTHER_ISSUER: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::generate().unwrap());
const CHALLENGE: ChallengeDigest = ChallengeDigest([0xc4; 32]);

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn refund(n: u8) -> RefundSecret {
    RefundSecret::new([n; 32])
}

fn begin(n: u8) -> (RsaElement, PendingToken) {
    PendingToken::begin(&mut rng(), ISSUER.public(), CHALLENGE, &refund(n)).unwrap()
}

fn token(n: u8) -> Token {
    let (blinded, pending) = begin(n);
    pending.finish(ISSUER.public(), &ISSUER.blind_sign(&blinded).unwrap()).unwrap()
}

// ---- Published vectors ----

/// The vectors' file, or `None` (said aloud) where the folder is not there. `POSTERN_REQUIRE_VECTORS=1` makes that a failure.
fn vectors(name: &str) -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(name);
    match std::fs::read(&path) {
        Ok(json) => Some(serde_json::from_slice(&json).unwrap()),
        Err(error) => {
            println!("SKIPPED: {}: {error}", path.display());
            assert_ne!(std::env::var("POSTERN_REQUIRE_VECTORS").as_deref(), Ok("1"), "vectors required: {error}");
            None
        }
    }
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().unwrap()).unwrap()
}

fn array<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    bytes(vector, field).try_into().unwrap()
}

/// Gives out what it was loaded with, in that order, and nothing else.
struct Scripted(VecDeque<Vec<u8>>);

impl TryRng for Scripted {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("not in the script")
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("not in the script")
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.copy_from_slice(&self.0.pop_front().unwrap());
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

/// A key from bare numbers. Only the tests' arithmetic goes through the `rsa` crate, on published keys.
fn private_key(vector: &Value) -> aws_lc::PrivateKey {
    let number = |field: &str| BoxedUint::from_be_slice_vartime(&bytes(vector, field));
    let primes = vec![number("p"), number("q")];
    let key = RsaPrivateKey::from_components(number("n"), number("e"), number("d"), primes).unwrap();
    aws_lc::PrivateKey::from_pkcs1(key.to_pkcs1_der().unwrap().as_bytes()).unwrap()
}

#[test]
fn the_cfrg_vectors_of_rfc_9474_get_their_blind_signatures_from_aws_lc() {
    let Some(vectors) = vectors("rfc9474_cfrg.json") else { return };
    let mut verified = 0;
    for vector in &vectors {
        let key = private_key(vector);
        let blinded = bytes(vector, "blinded_msg");
        let mut signature = vec![0; blinded.len()];
        key.sign_raw(&blinded, &mut signature).unwrap();
        assert_eq!(signature, bytes(vector, "blind_sig"));

        // The unblinded side: signing the encoded message itself must give the published signature.
        key.sign_raw(&bytes(vector, "encoded_msg"), &mut signature).unwrap();
        assert_eq!(signature, bytes(vector, "sig"));

        // One vector is PSS with salt 48, ours; the other has an empty salt and must not pass for it.
        let public = aws_lc::PublicKey::from_pkcs1(&key.public_to_pkcs1().unwrap()).unwrap();
        let ours = bytes(vector, "salt").len() == 48;
        assert_eq!(public.verify_pss_sha384(&bytes(vector, "msg"), &signature).is_ok(), ours);
        verified += usize::from(ours);
    }
    assert_eq!((vectors.len(), verified), (2, 1));
}

#[test]
fn the_vectors_of_rfc_9578_are_reproduced_from_challenge_to_token() {
    let Some(vectors) = vectors("type2_go.json") else { return };
    assert_eq!(vectors.len(), 5);
    for vector in &vectors {
        let issuer = IssuerKey::from_pkcs8(&pem_body(&bytes(vector, "skS"))).unwrap();
        assert_eq!(issuer.public().spki(), bytes(vector, "pkS"));
        let key = VerifyingKey::from_spki(&bytes(vector, "pkS")).unwrap();

        let challenge = TokenChallenge::decode(&bytes(vector, "token_challenge")).unwrap();
        let digest = challenge_digest(&challenge).unwrap();
        let mut little_endian = bytes(vector, "blind");
        little_endian.reverse();
        let mut rng = Scripted([bytes(vector, "salt"), little_endian].into());
        let (blinded, pending) =
            PendingToken::begin_with_nonce(&mut rng, &key, digest, array(vector, "nonce")).unwrap();
        let request = [&TOKEN_TYPE.to_be_bytes(), [key.truncated_key_id()].as_slice(), &blinded.0].concat();
        assert_eq!(request, bytes(vector, "token_request"));

        let response = issuer.blind_sign(&blinded).unwrap();
        assert_eq!(response.0.to_vec(), bytes(vector, "token_response"));

        let token = pending.finish(&key, &response).unwrap();
        assert_eq!(token.encode(), bytes(vector, "token"));
        assert_eq!(key.verify(&token, &digest), Ok(()));
    }
}

fn pem_body(pem: &[u8]) -> Vec<u8> {
    use base64_body::decode;
    let text = std::str::from_utf8(pem).unwrap();
    decode(&text.lines().filter(|line| !line.starts_with("-----")).collect::<String>())
}

/// Standard base64 by way of the protocol crate's URL-safe one.
mod base64_body {
    pub(super) fn decode(text: &str) -> Vec<u8> {
        let url_safe = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        postern_protocol::ids::decode_base64(&url_safe).unwrap()
    }
}

#[test]
fn the_vectors_of_rfc_9577_give_the_same_challenge_digest_and_token_input() {
    let Some(vectors) = vectors("rfc9577_token_go.json") else { return };
    assert_eq!(vectors.len(), 5);
    for vector in &vectors {
        let text = |field: &str| String::from_utf8(bytes(vector, field)).unwrap();
        let context = bytes(vector, "redemption_context");
        let challenge = TokenChallenge {
            token_type: u16::from_be_bytes(array(vector, "token_type")),
            issuer_name: text("issuer_name"),
            redemption_context: (!context.is_empty()).then(|| context.try_into().unwrap()),
            origin_info: text("origin_info"),
        };
        let input = TokenInput {
            token_type: challenge.token_type,
            nonce: array(vector, "nonce"),
            challenge_digest: challenge_digest(&challenge).unwrap(),
            token_key_id: TokenKeyId(array(vector, "token_key_id")),
        };
        assert_eq!(input.encode().to_vec(), bytes(vector, "token_authenticator_input"));
        assert_eq!(TokenChallenge::decode(&challenge.encode().unwrap()).unwrap(), challenge);
    }
}

// ---- Behaviour ----

#[test]
fn a_token_is_issued_and_verifies_under_its_key_and_challenge() {
    let token = token(1);
    assert_eq!(ISSUER.public().verify(&token, &CHALLENGE), Ok(()));
    assert_eq!(token.input.nonce, refund_nonce(&refund(1)));
    assert_eq!(token.input.token_key_id, ISSUER.public().key_id());
}

#[test]
fn a_retry_gets_the_same_blind_signature_and_the_same_token() {
    let (blinded, pending) = begin(2);
    let first = ISSUER.blind_sign(&blinded).unwrap();
    assert_eq!(ISSUER.blind_sign(&blinded).unwrap(), first);
    let key = ISSUER.public();
    assert_eq!(pending.finish(key, &RsaElement([0; 256])).unwrap_err(), FinishError::InvalidSignature);
    assert_eq!(pending.finish(key, &first).unwrap(), pending.finish(key, &first).unwrap());
}

#[test]
fn a_pending_token_survives_being_stored() {
    let (blinded, pending) = begin(3);
    let stored = pending.to_bytes();
    assert_eq!((stored.len(), stored[0]), (PendingToken::STORED_LEN, 1));
    let restored = PendingToken::from_bytes(&stored).unwrap();
    assert_eq!(restored.input(), pending.input());
    let answer = ISSUER.blind_sign(&blinded).unwrap();
    assert_eq!(restored.finish(ISSUER.public(), &answer), pending.finish(ISSUER.public(), &answer));
    assert_eq!(restored.to_bytes(), stored);
}

#[test]
fn a_stored_pending_token_of_another_version_or_length_is_refused() {
    let stored = begin(4).1.to_bytes();
    let changed = |at: usize, to: u8| {
        let mut bytes = stored.to_vec();
        bytes[at] = to;
        PendingToken::from_bytes(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 2), PendingError::Version);
    assert_eq!(changed(2, 1), PendingError::Version);
    for len in [0, 1, stored.len() - 1] {
        assert_eq!(PendingToken::from_bytes(&stored[..len]).unwrap_err(), PendingError::Length);
    }
    let longer = [stored.as_slice(), &[0]].concat();
    assert_eq!(PendingToken::from_bytes(&longer).unwrap_err(), PendingError::Length);
}

#[test]
fn two_blindings_of_one_token_input_have_nothing_in_common() {
    let mut rng = rng();
    let mut draw = || PendingToken::begin(&mut rng, ISSUER.public(), CHALLENGE, &refund(5)).unwrap();
    let ((a, one), (b, two)) = (draw(), draw());
    assert_eq!(one.input(), two.input());
    assert_ne!(a, b);
    assert_ne!(one.inverse.0, two.inverse.0);
    // Whichever of the two was signed, the ledger sees one token.
    assert_eq!(nullifier(one.input()), nullifier(two.input()));
}

#[test]
fn nullifier_and_refund_nonce_are_the_documented_hashes() {
    let input = token(6).input;
    let expected = Sha256::digest([b"postern/nullifier/v1".as_slice(), &input.encode()].concat());
    assert_eq!(nullifier(&input), Nullifier(expected.into()));
    let expected: [u8; 32] = Sha256::digest([b"postern/refund".as_slice(), &[6; 32]].concat()).into();
    assert_eq!(refund_nonce(&refund(6)), expected);
}

#[test]
fn an_issuer_key_survives_pkcs8_and_keeps_its_id() {
    let der = ISSUER.to_pkcs8().unwrap();
    let again = IssuerKey::from_pkcs8(&der).unwrap();
    assert_eq!(again.public(), ISSUER.public());
    assert_eq!(again.public().key_id(), TokenKeyId(Sha256::digest(ISSUER.public().spki()).into()));
    assert_eq!(again.public().truncated_key_id(), again.public().key_id().0[31]);
    assert_eq!(again.to_pkcs8().unwrap(), der);
}

#[test]
fn keys_are_shared_between_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<IssuerKey>();
    shareable::<VerifyingKey>();
    shareable::<PendingToken>();
}

// ---- Attacks ----

#[test]
fn a_token_with_any_bit_flipped_is_refused() {
    let good = token(10).encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Another token type is refused when decoding already.
        let refused = Token::decode(&bad).map_or(true, |token| ISSUER.public().verify(&token, &CHALLENGE).is_err());
        assert!(refused, "bit {bit}");
    }
}

#[test]
fn a_token_is_refused_under_another_key_challenge_or_type() {
    let good = token(11);
    assert_eq!(OTHER_ISSUER.public().verify(&good, &CHALLENGE), Err(InvalidToken));
    assert_eq!(ISSUER.public().verify(&good, &ChallengeDigest([0; 32])), Err(InvalidToken));
    let mut renamed = good;
    renamed.input.token_key_id = OTHER_ISSUER.public().key_id();
    assert_eq!(OTHER_ISSUER.public().verify(&renamed, &CHALLENGE), Err(InvalidToken));
    assert_eq!(ISSUER.public().verify(&renamed, &CHALLENGE), Err(InvalidToken));
    let mut retyped = good;
    retyped.input.token_type = 0x0001;
    assert_eq!(ISSUER.public().verify(&retyped, &CHALLENGE), Err(InvalidToken));
}

#[test]
fn a_valid_signature_over_another_challenge_does_not_pass_for_the_expected_one() {
    let (blinded, pending) =
        PendingToken::begin(&mut rng(), ISSUER.public(), ChallengeDigest([0xdd; 32]), &refund(12)).unwrap();
    let token = pending.finish(ISSUER.public(), &ISSUER.blind_sign(&blinded).unwrap()).unwrap();
    assert_eq!(ISSUER.public().verify(&token, &ChallengeDigest([0xdd; 32])), Ok(()));
    assert_eq!(ISSUER.public().verify(&token, &CHALLENGE), Err(InvalidToken));
}

#[test]
fn a_blinded_message_outside_the_range_of_the_modulus_is_refused() {
    let modulus = ISSUER.public().0.modulus;
    let with_last = |mut element: [u8; 256], last: u8| {
        element[255] = last;
        RsaElement(element)
    };
    let outside = [
        RsaElement([0; 256]),
        with_last([0; 256], 1),
        with_last(modulus, modulus[255] - 1),
        RsaElement(modulus),
        RsaElement([0xff; 256]),
    ];
    for element in outside {
        assert_eq!(ISSUER.blind_sign(&element), Err(BlindSignError::OutOfRange));
    }
    assert!(ISSUER.blind_sign(&with_last([0; 256], 2)).is_ok());
}

#[test]
fn a_wrong_answer_of_the_issuer_is_noticed() {
    let (blinded, pending) = begin(13);
    let key = ISSUER.public();
    let good = ISSUER.blind_sign(&blinded).unwrap();
    let mut flipped = good;
    flipped.0[200] ^= 1;
    let unreduced = RsaElement(key.0.modulus);
    // An issuer that signs with a key of its own for this client would mark the token: it must not verify.
    let marked = OTHER_ISSUER.blind_sign(&RsaElement([0x11; 256])).unwrap();
    for bad in [flipped, unreduced, marked, blinded, RsaElement([0; 256]), RsaElement([0xff; 256])] {
        assert_eq!(pending.finish(key, &bad), Err(FinishError::InvalidSignature));
    }
    assert_eq!(pending.finish(OTHER_ISSUER.public(), &good), Err(FinishError::OtherKey));
    assert!(pending.finish(key, &good).is_ok());
}

#[test]
fn only_the_one_encoding_of_a_public_key_is_taken() {
    let spki = ISSUER.public().spki();
    let refused = |bytes: &[u8]| assert_eq!(VerifyingKey::from_spki(bytes).unwrap_err(), KeyError::PublicKey);
    let with = |at: usize, to: u8| {
        let mut bad = spki.to_vec();
        assert_ne!(bad[at], to);
        bad[at] = to;
        bad
    };
    // Each byte of the frame: OIDs, both hashes, the mask, salt, lengths, exponent. 0x01 and 0x03 are SHA-256 and -512.
    for at in (0..SPKI_START.len()).chain(SPKI_LEN - SPKI_END.len()..SPKI_LEN) {
        refused(&with(at, spki[at] ^ 0x04));
        refused(&with(at, spki[at] ^ 0x01));
    }
    refused(&with(SPKI_PKCS1_AT - 6, 32)); // salt of 32
    refused(&with(SPKI_PKCS1_AT - 6, 0)); // PSSZERO
    refused(&with(SPKI_START.len(), spki[SPKI_START.len()] & 0x7f)); // 2047 bits
    refused(&with(SPKI_LEN - 6, spki[SPKI_LEN - 6] ^ 1)); // an even modulus
    refused(&[spki, &[0]].concat());
    refused(&spki[..spki.len() - 1]);
    refused(&[]);
}

/// SubjectPublicKeyInfo by the `rsa` crate (rsaEncryption) and in the RSASSA-PSS frame, for a key of any size.
fn encodings(bits: usize, exponent: u64) -> [Vec<u8>; 2] {
    use rsa::pkcs1::EncodeRsaPublicKey;
    use rsa::pkcs8::EncodePublicKey;
    let key = RsaPrivateKey::new_with_exp(&mut rng(), bits, BoxedUint::from(exponent)).unwrap().to_public_key();
    let pkcs1 = key.to_pkcs1_der().unwrap();
    // From the hash parameters on, the frame does not depend on the size; the three lengths before the key do.
    let framed = |tag: u8, body: Vec<u8>| [der_header(tag, body.len()).unwrap().to_vec(), body].concat();
    let bits = if pkcs1.as_bytes().len() > 254 {
        framed(0x03, [&[0], pkcs1.as_bytes()].concat())
    } else {
        [&[0x03, 0x81, u8::try_from(pkcs1.as_bytes().len() + 1).unwrap(), 0], pkcs1.as_bytes()].concat()
    };
    let pss = [&SPKI_START[4..SPKI_PKCS1_AT - 5], &bits].concat();
    let pss = if pss.len() > 255 {
        framed(0x30, pss)
    } else {
        [[0x30, 0x81, u8::try_from(pss.len()).unwrap()].as_slice(), &pss].concat()
    };
    [key.to_public_key_der().unwrap().to_vec(), pss]
}

#[test]
fn a_public_key_of_another_size_exponent_or_algorithm_is_refused() {
    // The frame is right: a sound key in it is taken, and only in it.
    let [rsa_encryption, pss] = encodings(2048, 65537);
    assert!(VerifyingKey::from_spki(&pss).is_ok());
    assert_eq!(VerifyingKey::from_spki(&rsa_encryption).unwrap_err(), KeyError::PublicKey);
    for (bits, exponent) in [(1024, 65537), (3072, 65537), (2048, 3)] {
        for spki in encodings(bits, exponent) {
            assert_eq!(VerifyingKey::from_spki(&spki).unwrap_err(), KeyError::PublicKey, "{bits} {exponent}");
        }
    }
}

#[test]
fn a_private_key_of_another_size_or_exponent_or_with_trailing_bytes_is_refused() {
    use rsa::pkcs8::EncodePrivateKey;
    for (bits, exponent) in [(1024, 65537_u64), (3072, 65537), (2048, 3)] {
        let key = RsaPrivateKey::new_with_exp(&mut rng(), bits, BoxedUint::from(exponent)).unwrap();
        let der = key.to_pkcs8_der().unwrap();
        assert_eq!(IssuerKey::from_pkcs8(der.as_bytes()).unwrap_err(), KeyError::PrivateKey, "{bits} {exponent}");
    }
    let der = ISSUER.to_pkcs8().unwrap();
    let refused = |bytes: &[u8]| assert_eq!(IssuerKey::from_pkcs8(bytes).unwrap_err(), KeyError::PrivateKey);
    refused(&[der.as_slice(), &[0]].concat());
    refused(&der[..der.len() - 1]);
    refused(&der[26..]); // the bare RSAPrivateKey
    refused(&[]);
}

#[test]
fn a_private_key_whose_numbers_do_not_belong_together_is_refused() {
    let der = ISSUER.to_pkcs8().unwrap();
    for at in (30..der.len()).step_by(97) {
        let mut bad = der.to_vec();
        bad[at] ^= 0x10;
        assert_eq!(IssuerKey::from_pkcs8(&bad).unwrap_err(), KeyError::PrivateKey, "byte {at}");
    }
}

#[test]
fn debug_shows_key_ids_and_nothing_secret() {
    let (_, pending) = begin(14);
    assert_eq!(format!("{pending:?}"), "PendingToken(secret)");
    let id = ISSUER.public().key_id().to_string();
    assert_eq!(format!("{:?}", *ISSUER), format!("IssuerKey {{ key_id: {id:?}, .. }}"));
    assert_eq!(format!("{:?}", ISSUER.public()), format!("VerifyingKey {{ key_id: {id:?}, .. }}"));
}

#[test]
fn the_blinding_inverse_is_overwritten_by_zeroize_and_on_drop() {
    fn overwritten_on_drop<T: ZeroizeOnDrop>() {}
    overwritten_on_drop::<BlindingInverse>();
    let mut inverse = BlindingInverse(begin(15).1.inverse.0);
    assert_ne!(inverse.0, [0; 256]);
    inverse.zeroize();
    assert_eq!(inverse.0, [0; 256]);
}
