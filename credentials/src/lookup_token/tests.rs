use postern_protocol::ids::{LookupTokenBytes, OprfProof};
use postern_protocol::lookup::lookup_challenge;
use postern_protocol::tokens::{TOKEN_TYPE, TokenChallenge};
use serde_json::Value;

use super::*;
use crate::blind_token::challenge_digest;
use crate::testing::{ListRng, rng};

const WINDOW: u64 = 20_000;

fn window(window: u64) -> WindowSecret {
    WindowSecret::derive(&RootSecret::from_bytes([1; 32]), window).unwrap()
}

fn challenge() -> ChallengeDigest {
    challenge_digest(&lookup_challenge("issuer.example")).unwrap()
}

fn tokens(count: usize) -> Vec<LookupToken> {
    let key = window(WINDOW);
    let pending = PendingTokens::begin(&mut rng(), &key.public(), challenge(), count).unwrap();
    pending.finish(&key.public(), &key.issue(&pending.request()).unwrap()).unwrap()
}

#[test]
fn issued_tokens_verify_and_each_has_its_nullifier() {
    let tokens = tokens(5);
    let mut nullifiers = Vec::new();
    for token in &tokens {
        assert_eq!(window(WINDOW).verify(token, &challenge()), Ok(()));
        assert_eq!(token.input.token_key_id, window(WINDOW).key_id());
        nullifiers.push(nullifier(&token.input));
    }
    nullifiers.sort_unstable();
    nullifiers.dedup();
    assert_eq!(nullifiers.len(), 5);
}

#[test]
fn a_token_is_good_in_its_window_for_its_issuer_and_unchanged_only() {
    let [token] = <[_; 1]>::try_from(tokens(1)).unwrap();
    assert_eq!(window(WINDOW + 1).verify(&token, &challenge()), Err(InvalidToken));
    let elsewhere = challenge_digest(&lookup_challenge("other.example")).unwrap();
    assert_eq!(window(WINDOW).verify(&token, &elsewhere), Err(InvalidToken));
    // The token's own challenge, not the issuer's: what a client may claim.
    let mut claimed = token.clone();
    claimed.input.challenge_digest = elsewhere;
    assert_eq!(window(WINDOW).verify(&claimed, &elsewhere), Err(InvalidToken));
    // The next window's key id on a token of this one.
    let mut moved = token.clone();
    moved.input.token_key_id = window(WINDOW + 1).key_id();
    assert_eq!(window(WINDOW + 1).verify(&moved, &challenge()), Err(InvalidToken));
    let bytes = token.encode();
    for at in 2..LookupToken::LEN {
        let mut bad = bytes;
        bad.0[at] ^= 1;
        let bad = LookupToken::decode(bad.as_bytes()).unwrap();
        assert_eq!(window(WINDOW).verify(&bad, &challenge()), Err(InvalidToken), "{at}");
    }
    let mut other_type = token;
    other_type.input.token_type = TOKEN_TYPE;
    assert_eq!(window(WINDOW).verify(&other_type, &challenge()), Err(InvalidToken));
}

#[test]
fn any_number_of_processes_have_one_key_a_window_and_another_root_has_another() {
    assert_eq!(window(WINDOW).public(), window(WINDOW).public());
    assert_ne!(window(WINDOW).public(), window(WINDOW + 1).public());
    let other = WindowSecret::derive(&RootSecret::from_bytes([2; 32]), WINDOW).unwrap();
    assert_ne!(window(WINDOW).public(), other.public());
    // The directory's key is for something else: a token request must not evaluate phone numbers.
    let epoch = SecretKey::for_epoch(&RootSecret::from_bytes([1; 32]), 20_000).unwrap();
    assert_ne!(window(WINDOW).public(), epoch.public());
}

#[test]
fn the_same_request_gets_the_same_bytes_and_one_for_another_key_nothing() {
    let key = window(WINDOW);
    let pending = PendingTokens::begin(&mut rng(), &key.public(), challenge(), 3).unwrap();
    let mut request = pending.request();
    assert_eq!(request, pending.request());
    assert_eq!(key.issue(&request).unwrap(), key.issue(&request).unwrap());
    request.truncated_token_key_id ^= 1;
    assert_eq!(key.issue(&request), Err(IssueError::OtherKey));
    let empty = LookupTokenRequest { truncated_token_key_id: key.truncated_key_id(), blinded: Vec::new() };
    assert_eq!(key.issue(&empty), Err(IssueError::Batch(OprfError::Batch)));
    let junk = LookupTokenRequest { blinded: vec![OprfElement([0xff; 32])], ..empty };
    assert_eq!(key.issue(&junk), Err(IssueError::Batch(OprfError::Element)));
}

#[test]
fn an_answer_that_is_cut_swapped_or_of_another_key_gives_no_tokens_and_the_right_one_still_does() {
    let (key, next) = (window(WINDOW), window(WINDOW + 1));
    let pending = PendingTokens::begin(&mut rng(), &key.public(), challenge(), 2).unwrap();
    let answer = key.issue(&pending.request()).unwrap();
    let mut request = pending.request();
    request.truncated_token_key_id = next.truncated_key_id();
    let marked = next.issue(&request).unwrap();
    let mut swapped = answer.clone();
    swapped.evaluated.swap(0, 1);
    let cut = LookupTokenResponse { evaluated: answer.evaluated[..1].to_vec(), ..answer.clone() };
    let unproved = LookupTokenResponse { proof: OprfProof([0; 64]), ..answer.clone() };
    for (bad, error) in [
        (marked.clone(), OprfError::Proof),
        (swapped, OprfError::Proof),
        (cut, OprfError::Batch),
        (unproved, OprfError::Proof),
    ] {
        assert_eq!(pending.finish(&key.public(), &bad), Err(FinishError::Answer(error)));
    }
    // A client that followed the issuer to another key would be marked by it.
    assert_eq!(pending.finish(&next.public(), &marked), Err(FinishError::OtherKey));
    assert_eq!(pending.finish(&key.public(), &answer).unwrap().len(), 2);
}

#[test]
fn stored_tokens_finish_after_a_restart_and_are_refused_cut_or_of_another_version() {
    let key = window(WINDOW);
    let pending = PendingTokens::begin(&mut rng(), &key.public(), challenge(), 3).unwrap();
    let bytes = pending.to_bytes();
    let again = PendingTokens::from_bytes(&bytes).unwrap();
    assert_eq!(again.request(), pending.request());
    let answer = key.issue(&pending.request()).unwrap();
    assert_eq!(again.finish(&key.public(), &answer), pending.finish(&key.public(), &answer));
    for n in 0..bytes.len() {
        // Fewer whole tokens are stored tokens as well.
        let whole = n > 65 && (n - 65).is_multiple_of(96);
        assert_eq!(PendingTokens::from_bytes(&bytes[..n]).is_ok(), whole, "{n}");
    }
    let mut other = bytes;
    other[0] = 2;
    assert!(PendingTokens::from_bytes(&other).is_err());
    assert_eq!(format!("{pending:?}"), "PendingTokens(3, secret)");
}

#[test]
fn none_and_too_many_tokens_are_not_begun() {
    for count in [0, MAX_TOKEN_BATCH + 1] {
        let begun = PendingTokens::begin(&mut rng(), &window(WINDOW).public(), challenge(), count);
        assert_eq!(begun.map(drop), Err(OprfError::Batch));
    }
}

/// Requests, answers and tokens of a Go implementation: an answer's proof has a random nonce, so ours is compared without it.
#[test]
fn the_vectors_of_a_go_implementation_come_out_byte_for_byte() {
    let file: Value = serde_json::from_str(include_str!("../../tests/vectors/batched_tokens_go.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let list = |value: &Value| value.as_array().unwrap().iter().map(bytes).collect::<Vec<_>>();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 5);
    for vector in vectors {
        let secret = SecretKey::from_scalar(&bytes(&vector["skS"]).try_into().unwrap());
        let key = WindowSecret { key_id: key_id(&secret.public()), key: secret };
        assert_eq!(key.public().as_bytes().to_vec(), bytes(&vector["pkS"]));
        let challenge = TokenChallenge::decode(&bytes(&vector["token_challenge"])).unwrap();
        let challenge = challenge_digest(&challenge).unwrap();

        let (nonces, blinds) = (list(&vector["nonces"]), list(&vector["blinds"]));
        let mut rng = ListRng::new(nonces.iter().zip(&blinds).flat_map(|(nonce, blind)| [&nonce[..], &blind[..]]));
        let pending = PendingTokens::begin(&mut rng, &key.public(), challenge, nonces.len()).unwrap();
        let request = bytes(&vector["token_request"]);
        assert_eq!(pending.request().encode().unwrap(), request);

        let theirs = LookupTokenResponse::decode(&bytes(&vector["token_response"])).unwrap();
        let ours = key.issue(&LookupTokenRequest::decode(&request).unwrap()).unwrap();
        assert_eq!(ours.evaluated, theirs.evaluated);
        for answer in [theirs, ours] {
            let tokens = pending.finish(&key.public(), &answer).unwrap();
            let encoded: Vec<_> = tokens.iter().map(|token| token.encode().0.to_vec()).collect();
            assert_eq!(encoded, list(&vector["tokens"]));
            assert!(tokens.iter().all(|token| key.verify(token, &challenge).is_ok()));
        }
    }
}

#[test]
fn a_nullifier_does_not_depend_on_the_authenticator() {
    let [token] = <[_; 1]>::try_from(tokens(1)).unwrap();
    let LookupTokenBytes(mut bytes) = token.encode();
    bytes[161] ^= 1;
    let forged = LookupToken::decode(&bytes).unwrap();
    assert_eq!(nullifier(&forged.input), nullifier(&token.input));
    let theirs = Sha256::new_with_prefix("postern/lookup-nullifier/v1").chain_update(&bytes[..98]).finalize();
    assert_eq!(nullifier(&token.input).0.as_slice(), theirs.as_slice());
}
