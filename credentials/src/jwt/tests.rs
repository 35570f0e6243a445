use postern_protocol::ids::{CallNonce, MailboxId, encode_base64};
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn key() -> IdentityKey {
    IdentityKey::from_seed([1; 32])
}

fn claims() -> Claims {
    Claims {
        iss: "issuer".into(),
        aud: "relay".into(),
        sub: "mailbox".into(),
        purpose: Purpose::Mailbox,
        iat: NOW.seconds(),
        exp: NOW.seconds() + 600,
        jti: CallNonce([5; 16]),
        replaces: None,
    }
}

fn check(jwt: &str) -> Result<Claims, JwtError> {
    verify(&key().public(), jwt, "issuer", "relay", Purpose::Mailbox, NOW)
}

/// A JWT with any header and payload, correctly signed by the issuer with Ed25519.
fn signed(header: &Value, payload: &Value) -> String {
    let message =
        format!("{}.{}", encode_base64(header.to_string().as_bytes()), encode_base64(payload.to_string().as_bytes()));
    let signature = key().sign_raw(message.as_bytes());
    format!("{message}.{signature}")
}

#[test]
fn a_jwt_reads_back() {
    let grant = Claims { replaces: Some(MailboxId([6; 32])), purpose: Purpose::Grant, ..claims() };
    let jwt = sign(&key(), &grant).unwrap();
    assert_eq!(verify(&key().public(), &jwt, "issuer", "relay", Purpose::Grant, NOW), Ok(grant));
    assert_eq!(check(&sign(&key(), &claims()).unwrap()), Ok(claims()));
}

#[test]
fn what_we_sign_is_what_rfc_8037_says() {
    let ours = sign(&key(), &claims()).unwrap();
    let payload = serde_json::to_value(claims()).unwrap();
    let theirs = signed(&json!({"typ": "JWT", "alg": "EdDSA"}), &payload);
    let [header, _, _] = ours.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    assert_eq!(header, encode_base64(br#"{"typ":"JWT","alg":"EdDSA"}"#));
    assert_eq!(check(&theirs), Ok(claims()));
}

#[test]
fn a_jwt_for_something_else_is_refused() {
    let jwt = sign(&key(), &claims()).unwrap();
    let pk = key().public();
    assert_eq!(verify(&pk, &jwt, "other", "relay", Purpose::Mailbox, NOW), Err(JwtError::WrongUse));
    assert_eq!(verify(&pk, &jwt, "issuer", "issuer", Purpose::Mailbox, NOW), Err(JwtError::WrongUse));
    assert_eq!(verify(&pk, &jwt, "issuer", "relay", Purpose::Grant, NOW), Err(JwtError::WrongUse));
    assert_eq!(verify(&pk, &jwt, "issuer", "relay", Purpose::Issuance, NOW), Err(JwtError::WrongUse));
    let other = IdentityKey::from_seed([2; 32]).public();
    assert_eq!(verify(&other, &jwt, "issuer", "relay", Purpose::Mailbox, NOW), Err(JwtError::Invalid));
}

#[test]
fn a_jwt_ends_with_its_last_second_and_begins_with_its_first() {
    let jwt = sign(&key(), &claims()).unwrap();
    let at = |now| verify(&key().public(), &jwt, "issuer", "relay", Purpose::Mailbox, now);
    assert!(at(NOW.plus_seconds(599)).is_ok());
    assert_eq!(at(NOW.plus_seconds(600)), Err(JwtError::Expired));
    assert!(at(NOW.minus_seconds(MAX_SKEW_SECONDS)).is_ok());
    assert_eq!(at(NOW.minus_seconds(MAX_SKEW_SECONDS + 1)), Err(JwtError::NotYetValid));
}

#[test]
fn no_other_algorithm_is_accepted() {
    let payload = serde_json::to_value(claims()).unwrap();
    // Correctly signed, so it is the header alone that is refused.
    for alg in ["none", "None", "HS256", "HS512", "RS256", "PS256", "ES256", "Ed25519", "eddsa", ""] {
        assert_eq!(check(&signed(&json!({"typ": "JWT", "alg": alg}), &payload)), Err(JwtError::Invalid), "{alg}");
    }
    assert_eq!(check(&signed(&json!({"typ": "JWT"}), &payload)), Err(JwtError::Invalid));
}

#[test]
fn a_jwt_without_a_signature_is_refused() {
    let jwt = sign(&key(), &claims()).unwrap();
    let (message, _) = jwt.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    let none = encode_base64(br#"{"typ":"JWT","alg":"none"}"#);
    for forged in [format!("{none}.{payload}."), format!("{none}.{payload}"), format!("{message}."), message.to_owned()]
    {
        assert_eq!(check(&forged), Err(JwtError::Invalid), "{forged}");
    }
}

#[test]
fn an_hmac_with_the_public_key_is_not_a_signature() {
    let hs = EncodingKey::from_secret(key().public().as_bytes());
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &hs).unwrap();
    assert_eq!(check(&forged), Err(JwtError::Invalid));
    // The same tag under a header that says EdDSA.
    let (message, tag) = forged.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    let header = encode_base64(br#"{"typ":"JWT","alg":"EdDSA"}"#);
    assert_eq!(check(&format!("{header}.{payload}.{tag}")), Err(JwtError::Invalid));
}

#[test]
fn a_header_that_brings_its_own_key_or_says_more_is_refused() {
    let payload = serde_json::to_value(claims()).unwrap();
    let attacker = IdentityKey::from_seed([2; 32]).public().to_string();
    for more in [
        json!({"typ": "JWT", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": attacker}}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": "1"}),
        json!({"typ": "JWT", "alg": "EdDSA", "jku": "http://evil.example/keys"}),
        json!({"typ": "JWT", "alg": "EdDSA", "crit": ["exp"]}),
        json!({"typ": "JWT", "alg": "EdDSA", "b64": false}),
        json!({"alg": "EdDSA"}),
    ] {
        assert_eq!(check(&signed(&more, &payload)), Err(JwtError::Invalid), "{more}");
    }
}

#[test]
fn claims_that_are_missing_too_many_or_of_another_type_are_refused() {
    let header = json!({"typ": "JWT", "alg": "EdDSA"});
    let good = serde_json::to_value(claims()).unwrap();
    for claim in ["iss", "aud", "sub", "purpose", "iat", "exp", "jti"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(claim);
        assert_eq!(check(&signed(&header, &bad)), Err(JwtError::Invalid), "without {claim}");
    }
    for (claim, value) in
        [("exp", json!("9999999999")), ("exp", json!(1e300)), ("aud", json!(["relay"])), ("admin", json!(true))]
    {
        let mut bad = good.clone();
        bad[claim] = value;
        assert_eq!(check(&signed(&header, &bad)), Err(JwtError::Invalid), "{claim}");
    }
}

#[test]
fn every_changed_character_is_refused() {
    let jwt = sign(&key(), &claims()).unwrap();
    for n in 0..jwt.len() {
        let mut bad = jwt.clone().into_bytes();
        bad[n] = if bad[n] == b'A' { b'B' } else { b'A' };
        assert!(check(std::str::from_utf8(&bad).unwrap()).is_err(), "{n}");
        assert!(check(&jwt[..n]).is_err(), "cut to {n}");
    }
    assert!(check(&format!("{jwt}=")).is_err());
    assert!(check(&format!("{jwt}.x")).is_err());
    assert!(check(&format!(" {jwt}")).is_err());
}

#[test]
fn a_jwt_beyond_the_bound_is_neither_made_nor_read() {
    let long = Claims { sub: "x".repeat(MAX_JWT), ..claims() };
    assert_eq!(sign(&key(), &long), Err(SignError));
    let jwt = signed(&json!({"typ": "JWT", "alg": "EdDSA"}), &serde_json::to_value(long).unwrap());
    assert_eq!(check(&jwt), Err(JwtError::Invalid));
}
