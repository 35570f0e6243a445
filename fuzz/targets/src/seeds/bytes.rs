//! Seeds of binary forms.

use postern_client::payload::{Held, Inner, Kind, Payload, SessionHint};
use postern_client::secret::SecretText;
use postern_credentials::lookup_token::PendingTokens;
use postern_credentials::reply_credential::MemberSecret;
use postern_protocol::ids::{ChallengeDigest, OprfElement, OprfProof, OprfPublicKey, RsaElement, TokenKeyId};
use postern_protocol::log::LogLeaf;
use postern_protocol::lookup::{LOOKUP_TOKEN_TYPE, LookupToken, LookupTokenRequest, LookupTokenResponse, WindowKey};
use postern_protocol::prekeys::PrekeyUpload;
use postern_protocol::reply::{Handover, ReplyPolicy};
use postern_protocol::tokens::{
    BatchTokenRequest, BatchTokenResponse, TOKEN_TYPE, Token, TokenChallenge, TokenInput, TokenRequest,
};

use super::*;

/// A key of an issuer, in the one form that it has (RFC 9578 §6.5).
const TOKEN_KEY: &[u8] = include_bytes!("token_key.der");

pub(super) fn token() -> Token {
    let input = TokenInput {
        token_type: TOKEN_TYPE,
        nonce: [1; 32],
        challenge_digest: ChallengeDigest([2; 32]),
        token_key_id: TokenKeyId([3; 32]),
    };
    Token { input, authenticator: RsaElement([4; 256]) }
}

pub(super) fn token_key() -> &'static [u8] {
    TOKEN_KEY
}

pub(super) fn lookup_token() -> LookupToken {
    LookupToken { input: TokenInput { token_type: LOOKUP_TOKEN_TYPE, ..token().input }, authenticator: oprf_output() }
}

fn pending() -> PendingTokens {
    let key = OprfPublicKey(BASE_POINT);
    PendingTokens::begin(&mut rng(), &key, ChallengeDigest([2; 32]), 2).unwrap()
}

fn tokens() -> Vec<Seed> {
    let request = TokenRequest { truncated_token_key_id: 9, blinded_msg: RsaElement([5; 256]) };
    let stored = [&[1], token().input.encode().as_slice(), &[9; 256]].concat();
    let answer = BatchTokenResponse(vec![Some(RsaElement([6; 256])), None]);
    let lookups = LookupTokenResponse { evaluated: vec![OprfElement([6; 32]); 2], proof: OprfProof([7; 64]) };
    let mut other_key = TOKEN_KEY.to_vec();
    *other_key.last_mut().unwrap() ^= 2;
    vec![
        ("token", "token", token().encode()),
        ("token", "request", request.encode()),
        ("token", "lookup", lookup_token().encode().0.to_vec()),
        ("token", "cut", token().encode()[..353].to_vec()),
        ("token", "pending", stored),
        ("token", "pending-lookups", pending().to_bytes().to_vec()),
        ("token_batch", "request", BatchTokenRequest(vec![request; 2]).encode().unwrap()),
        ("token_batch", "answer", answer.encode().unwrap()),
        ("token_batch", "refused", BatchTokenResponse(vec![None; 60]).encode().unwrap()),
        ("token_batch", "lookups", pending().request().encode().unwrap()),
        ("token_batch", "evaluated", lookups.encode().unwrap()),
        ("token_batch", "none", LookupTokenRequest { truncated_token_key_id: 9, blinded: vec![] }.encode().unwrap()),
        ("token_key", "key", TOKEN_KEY.to_vec()),
        ("token_key", "exponent", other_key),
        ("challenge_header", "binary", TokenChallenge::for_relay(ISSUER, RELAY).encode().unwrap()),
        ("challenge_header", "context", {
            let context = TokenChallenge { redemption_context: Some([1; 32]), ..TokenChallenge::for_relay(ISSUER, "") };
            context.encode().unwrap()
        }),
    ]
}

fn handover() -> Handover {
    Handover {
        relay: relay_id(RELAY),
        policy: ReplyPolicy::default(),
        key_version: 1,
        credentials: vec![(2976, credential().encode()), (2977, vec![].into())],
    }
}

fn sealed() -> Vec<Seed> {
    let mut bad_card = sealed_card();
    *bad_card.last_mut().unwrap() ^= 1;
    let card_inside = card().encode().unwrap();
    let inside = [&u16::try_from(card_inside.len()).unwrap().to_be_bytes(), card_inside.as_slice()].concat();
    let cookie_inside = [&SOON.0.to_be_bytes(), owner().public().0.as_slice(), phone().as_str().as_bytes()].concat();
    let nonce_inside =
        [[3; 96].as_slice(), &[4; 16], &20_001u32.to_be_bytes(), &SOON.0.to_be_bytes(), b"+41791234567"].concat();
    let csr = certificate_request();
    vec![
        ("presentation", "presentation", presentation().to_vec()),
        ("presentation", "secret", MemberSecret::generate(&mut rng()).to_stored().to_vec()),
        ("presentation", "credential", credential().encode().to_vec()),
        ("presentation", "handover", handover().encode().unwrap().to_vec()),
        ("presentation", "zeros", vec![0; 160]),
        ("envelope", "empty", Vec::new()),
        ("envelope", "text", b"Hello Bob, we met on Tuesday.".to_vec()),
        ("csr", "request", csr.clone()),
        ("csr", "asked", unsigned(&csr)),
        ("certificate", "certificate", certified()),
        ("certificate", "authority", authority().to_vec()),
        ("certificate", "says", unsigned(&certified())),
        ("cookie", "cookie", cookie().0),
        ("cookie", "inside", cookie_inside),
        ("cookie", "nonce", login_nonce().to_vec()),
        ("cookie", "nonce-inside", nonce_inside),
        ("cookie", "unchanged", vec![0; 20]),
        ("card", "card", card_inside),
        ("card", "sealed", sealed_card()),
        ("card", "changed", bad_card),
        ("card", "inside", inside),
        ("prekey", "prekey", prekey().encode()),
        ("prekey", "sealed", sealed_prekey().0.to_vec()),
        ("prekey", "upload", PrekeyUpload { batch: 7, prekeys: vec![sealed_prekey(); 2] }.encode()),
        ("prekey", "claim", vec![7; 32]),
    ]
}

fn files() -> Vec<Seed> {
    let build = directory();
    let key = WindowKey { window: 20_833, key: OprfPublicKey([1; 32]) };
    let numbers = [2u64.to_be_bytes(), 3u64.to_be_bytes()].concat();
    let record = Record { identity: owner().public(), mailbox: MAILBOX, relay: 0 };
    vec![
        ("manifest", "manifest", signed_manifest()),
        ("manifest", "cut", signed_manifest()[..200].to_vec()),
        ("bucket", "fingerprints", fingerprints()),
        ("bucket", "records", records()),
        ("bucket", "record", record.encode().to_vec()),
        ("delta", "delta", build.delta.clone().unwrap()),
        ("delta", "filter", build.filter.clone().unwrap()),
        ("log", "manifest", LogLeaf::Manifest(signed_manifest()).encode()),
        ("log", "key", LogLeaf::LookupKey(key).encode()),
        ("log", "proof", [numbers.as_slice(), &[1; 64]].concat()),
    ]
}

fn payloads() -> Vec<Seed> {
    let first = Payload {
        kind: Kind::Text,
        to: owner().public(),
        sent_at: NOW.seconds(),
        slot: None,
        held: None,
        card: Some(card()),
        handover: handover().encode().unwrap(),
        text: SecretText::new("grüezi"),
    };
    let held = Some(Held { key_version: 1, through: 2977 });
    let hello =
        Payload { kind: Kind::Hello, slot: Some(3), held, card: None, text: SecretText::new(""), ..first.clone() };
    // Two messages of Olm as it writes them: of a session that begins, and of one that goes on. Their keys are nobody's.
    let normal = [&[3, 0x0a, 32], [1; 32].as_slice(), &[0x10, 0, 0x22, 16], &[9; 16], &[5; 8]].concat();
    let keys =
        [(0x0a, 2), (0x12, 3), (0x1a, 4)].map(|(tag, key): (u8, u8)| [&[tag, 32], [key; 32].as_slice()].concat());
    let begin = [&[3], keys.concat().as_slice(), &[0x22, u8::try_from(normal.len()).unwrap()], &normal].concat();
    let inner = |kind: usize, bytes: &[u8]| {
        let message = vodozemac::olm::OlmMessage::from_parts(kind, bytes).unwrap();
        Inner { hint: SessionHint([1; 8]), message }.encode()
    };
    vec![
        ("payload", "first", first.encode().unwrap().to_vec()),
        ("payload", "hello", hello.encode().unwrap().to_vec()),
        ("payload", "inner-first", inner(0, &begin)),
        ("payload", "inner", inner(1, &normal)),
        ("profile", "as-it-is", Vec::new()),
        ("profile", "changed", vec![0x10, 0x40, 0xff]),
        ("profile", "schema", vec![0, 100, 0xff, 0, 18, 2]),
        ("profile", "cut", vec![0, 0, 0x53, 128]),
        ("profile", "longer", vec![0, 0, 0x53, 1, 2]),
    ]
}

pub(super) fn all() -> Vec<Seed> {
    [tokens(), sealed(), files(), payloads()].concat()
}
