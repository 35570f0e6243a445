//! Values of `Authorization` and `WWW-Authenticate`.

use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey};
use postern_credentials::jwt;
use postern_protocol::ids::{SigningPublicKey, encode_base64};
use postern_protocol::internal::RelayCall;
use postern_protocol::login::{Purpose, SessionCall};
use postern_protocol::reply::ReplyAuthorization;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::{
    TokenChallenge, authorization, parse_authorization, parse_www_authenticate, www_authenticate,
};

use super::{canonical, stable, text};
use crate::seeds::{ISSUER, RELAY, SEED};

/// A challenge alone, and in its header.
pub(crate) fn challenge(data: &[u8]) {
    canonical(data, 2, TokenChallenge::decode, |challenge| challenge.encode().unwrap());
    let parse = |bytes: &[u8]| parse_www_authenticate(std::str::from_utf8(bytes).map_err(drop)?).map_err(drop);
    stable(data, 4, parse, |(challenge, key)| www_authenticate(challenge, key).unwrap().into_bytes());
}

/// `PrivateToken token=…`, quoted or not, padded or not.
pub(crate) fn token(data: &[u8]) {
    let parse = |bytes: &[u8]| parse_authorization(std::str::from_utf8(bytes).map_err(drop)?).map_err(drop);
    stable(data, 2, parse, |token| authorization(token).into_bytes());
}

/// `PosternReply …`: one spelling.
pub(crate) fn reply(data: &[u8]) {
    one_spelling(data, ReplyAuthorization::parse);
}

/// `PosternSession …` and `PosternRelay …`: one spelling.
pub(crate) fn call(data: &[u8]) {
    one_spelling(data, SessionCall::parse);
    one_spelling(data, RelayCall::parse);
}

fn one_spelling<T: ToString>(data: &[u8], parse: impl Fn(&str) -> Option<T>) {
    let parse = |bytes: &[u8]| text(bytes).and_then(&parse).ok_or(());
    canonical(data, 2, parse, |value| value.to_string().into_bytes());
}

/// A bearer token as it comes; and header and claims, one a line, signed as the issuer would: only its own header is taken, and only what
/// the claims say.
pub(crate) fn jwt(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let signer = SigningKey::from_bytes(&SEED);
    let key = SigningPublicKey(signer.verifying_key().to_bytes());
    let now = Timestamp::from_seconds(1_800_000_000);
    let verify = |jwt: &str| jwt::verify(&key, jwt, ISSUER, RELAY, Purpose::Mailbox, now);
    if let Ok(claims) = verify(text) {
        assert!(claims.exp > now.seconds() && claims.iss == ISSUER && claims.aud == RELAY);
    }
    let Some((header, claims)) = text.split_once('\n') else { return };
    let signed = format!("{}.{}", encode_base64(header.as_bytes()), encode_base64(claims.as_bytes()));
    let signature = encode_base64(&signer.sign(signed.as_bytes()).to_bytes());
    if let Ok(taken) = verify(&format!("{signed}.{signature}")) {
        let header = serde_json::Value::from_str(header).unwrap();
        assert_eq!(header, serde_json::json!({ "typ": "JWT", "alg": "EdDSA" }), "another header was taken");
        let claims = serde_json::Value::from_str(claims).unwrap();
        assert!(
            claims == serde_json::to_value(&taken).unwrap() || claims.get("replaces").is_some_and(|it| it.is_null())
        );
        assert!(
            taken.exp > now.seconds()
                && (taken.iss, taken.aud, taken.purpose) == (ISSUER.into(), RELAY.into(), Purpose::Mailbox)
        );
    }
}
