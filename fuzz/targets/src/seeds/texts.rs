//! Seeds of headers and bodies.

use postern_credentials::jwt;
use postern_protocol::directory::ListingRequest;
use postern_protocol::exchange::ExchangeRequest;
use postern_protocol::ids::{
    Base64, CallNonce, GroupSecretBytes, LoginSalt, LoginVerifier, Mac, MemberSecretBytes, MessageId, OprfElement,
    RefundSecret, RsaElement, SessionId, TokenKeyId,
};
use postern_protocol::internal::{KeysRequest, RelayCall, SignRequest};
use postern_protocol::login::{
    ChallengeRequest, Claims, JwtAudience, JwtRequest, LoginRequest, Purpose, RevokeRequest, SessionCall,
};
use postern_protocol::lookup::{LookupInfo, LookupPolicy, LookupRequest, WindowKey};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::register::{BlindedTokens, CodeRequest, IssuerInfo, LoginEnrolment, RegistrationRequest};
use postern_protocol::release::MessageList;
use postern_protocol::reply::{EpochNullifiers, ReplyAuthorization, ReplyKey, ReplyKeys, Reveal, Strikes};
use postern_protocol::send::{Admission, Messages, QueuedMessage};
use postern_protocol::tokens::{
    Directory, DirectoryKey, KeyState, TOKEN_TYPE, TokenChallenge, authorization, www_authenticate,
};
use serde::Serialize;

use super::bytes::{lookup_token, token, token_key};
use super::*;

fn json(target: &'static str, name: &'static str, value: &impl Serialize) -> Seed {
    (target, name, serde_json::to_vec(value).unwrap())
}

fn headers() -> Vec<Seed> {
    let challenge = TokenChallenge::for_relay(ISSUER, RELAY);
    let shown = ReplyAuthorization { key_version: 1, epoch: 500_000, presentation: presentation().try_into().unwrap() };
    let session = SessionCall { session: SessionId([1; 16]), seq: 7, mac: Mac([2; 32]) };
    let relay = RelayCall {
        relay: RELAY.into(),
        time: NOW.seconds(),
        nonce: CallNonce([1; 16]),
        signature: Signature([2; 64]),
    };
    let claims = Claims {
        iss: ISSUER.into(),
        aud: RELAY.into(),
        sub: MAILBOX.to_string(),
        purpose: Purpose::Mailbox,
        iat: NOW.seconds(),
        exp: SOON.seconds(),
        jti: CallNonce([1; 16]),
        replaces: None,
    };
    let bearer = jwt::sign(&IdentityKey::from_seed(SEED), &claims).unwrap();
    let parts = format!("{{\"typ\":\"JWT\",\"alg\":\"EdDSA\"}}\n{}", serde_json::to_string(&claims).unwrap());
    let token = authorization(&token());
    let texts = [
        ("challenge_header", "header", www_authenticate(&challenge, token_key()).unwrap()),
        ("token_header", "bare", token.replace(['"', '='], "").replace("token", "token=")),
        ("token_header", "quoted", token),
        ("reply_header", "reply", shown.to_string()),
        ("reply_header", "zero", shown.to_string().replace("key=1", "key=01")),
        ("call_header", "session", session.to_string()),
        ("call_header", "relay", relay.to_string()),
        ("call_header", "plus", relay.to_string().replace("time=", "time=+")),
        ("jwt", "bearer", bearer),
        ("jwt", "none", parts.replace("EdDSA", "none")),
        ("jwt", "parts", parts),
        ("card_link", "link", card_link().to_string()),
        ("card_link", "slash", card_link().to_string().replace("example&", "example/&")),
    ];
    texts.into_iter().map(|(target, name, text)| (target, name, text.into_bytes())).collect()
}

fn of_the_issuer() -> Vec<Seed> {
    let key = TokenKeyId([3; 32]);
    let registration = RegistrationRequest {
        phone: phone(),
        cookie: Base64(cookie().0),
        code: "123456".into(),
        certificate_request: Base64(certificate_request()),
        login: LoginEnrolment { salt: LoginSalt([1; 16]), verifier: LoginVerifier::new([2; 32]) },
        relay: RELAY.into(),
        tokens: BlindedTokens { token_key_id: key, blinded: vec![RsaElement([5; 256]); 2] },
    };
    let login = LoginRequest {
        user: phone(),
        nonce: Base64(login_nonce().to_vec()),
        proof: Mac([1; 32]),
        label: "phone".into(),
    };
    let element = OprfElement(BASE_POINT);
    let lookup = LookupRequest { window: 20_833, tokens: vec![lookup_token().encode()], blinded: vec![element] };
    vec![
        json("registration", "code", &CodeRequest { phone: phone(), client_key: owner().public(), channel: None }),
        json("registration", "registration", &registration),
        ("text_report", "kannel", b"status=16".to_vec()),
        (
            "text_report",
            "twilio",
            b"MessageSid=SM1&MessageStatus=undelivered&To=%2B41791234567&ErrorCode=30003".to_vec(),
        ),
        ("text_report", "call", b"CallSid=CA1&CallStatus=no-answer".to_vec()),
        ("text_report", "contradiction", b"MessageStatus=delivered&status=2".to_vec()),
        json("login", "challenge", &ChallengeRequest { user: phone(), client_ephemeral: DhPublicKey([9; 32]) }),
        json("login", "login", &login),
        json("login", "jwt", &JwtRequest { audience: JwtAudience::Relay }),
        json("login", "revoke", &RevokeRequest { session: SessionId([1; 16]) }),
        json("login", "listing", &ListingRequest { listed: true }),
        json("lookup", "lookup", &lookup),
        json("exchange", "sign", &SignRequest { token_key_id: key, blinded: RsaElement([5; 256]) }),
        json("exchange", "keys", &KeysRequest {}),
    ]
}

fn of_the_relay() -> Vec<Seed> {
    let exchange = ExchangeRequest {
        token: Base64(token().encode()),
        refund_secret: RefundSecret::new([6; 32]),
        token_key_id: TokenKeyId([3; 32]),
        blinded: RsaElement([5; 256]),
    };
    let key = |key_version| ReplyKey { key_version, secret: GroupSecretBytes::new([1; 33]) };
    let nullifiers = |epoch| EpochNullifiers { epoch, nullifiers: Base64(vec![4; 16]) };
    let reveal =
        Reveal { key_version: 1, period: 2976, last_period: 2977, slots: 16, secret: MemberSecretBytes::new([1; 33]) };
    vec![
        json("exchange", "exchange", &exchange),
        json("release", "two", &MessageList { messages: vec![MessageId([1; 32]), MessageId([2; 32])] }),
        json("release", "none", &MessageList { messages: vec![] }),
        json("reply_keys", "keys", &ReplyKeys { keys: vec![key(1), key(2)] }),
        json("reply_keys", "strikes", &Strikes { strike: vec![nullifiers(1), nullifiers(2)], lift: vec![] }),
        json("reply_keys", "reveal", &reveal),
    ]
}

fn answers() -> Vec<Seed> {
    let message = |admission| QueuedMessage {
        message: MessageId([1; 32]),
        arrived: NOW.seconds(),
        admission,
        envelope: Base64(vec![0; 64]),
    };
    let reply = Admission::Reply { key_version: 1, epoch: 500_000, presentation: Base64(presentation().to_vec()) };
    let key = DirectoryKey {
        token_type: TOKEN_TYPE,
        token_key: Base64(token_key().to_vec()),
        not_before: Some(1),
        not_after: None,
        state: Some(KeyState::Active),
    };
    let info = IssuerInfo {
        name: ISSUER.into(),
        public_key: owner().public(),
        ca_certificate: Base64(authority().to_vec()),
        relays: manifest().relays,
        tokens_per_account: 5,
        setup_seconds: 86_400,
        code_digits: 6,
        version: "0.1.0".into(),
    };
    let lookups = LookupInfo {
        policy: LookupPolicy::default(),
        keys: vec![WindowKey { window: 20_833, key: OprfPublicKey([1; 32]) }],
        oprf_epoch: 1,
        oprf_key: OprfPublicKey([1; 32]),
    };
    vec![
        json(
            "answers",
            "messages",
            &Messages { messages: vec![message(Admission::Token), message(reply)], more: true },
        ),
        json(
            "answers",
            "directory",
            &Directory { issuer_request_uri: "/v1/token-request".into(), token_keys: vec![key] },
        ),
        json("answers", "issuer", &info),
        json("answers", "lookups", &lookups),
        json("answers", "head", &log_head()),
        json("answers", "problem", &Problem::new(ProblemKind::Timeout).detail("later").retry_after(1)),
    ]
}

fn people() -> Vec<Seed> {
    let texts = [
        (
            "address_book",
            "vcard",
            "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Bob Example\r\nTEL;TYPE=cell:+41 79 123 45 67\r\nTEL:079 123 45 68\r\nEND:VCARD\r\n",
        ),
        (
            "address_book",
            "quoted",
            "BEGIN:VCARD\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;=\nAnna\nitem1.TEL:tel:+41791234567\nEND:VCARD\n",
        ),
        (
            "address_book",
            "table",
            "Name;Phone;Mail\n\"Bob \"\"B\"\" Example\";079 123 45 67 ::: +41791234568;bob@example.org\nCarol,;0041791234569;\n",
        ),
        ("phone", "e164", "+41791234567"),
        ("phone", "national", "079 123 45 67"),
        ("phone", "zeros", "0039 06 1234 5678"),
        ("phone", "extension", "+1 (202) 555-0123 ext. 7"),
    ];
    texts.into_iter().map(|(target, name, text)| (target, name, text.as_bytes().to_vec())).collect()
}

pub(super) fn all() -> Vec<Seed> {
    [headers(), of_the_issuer(), of_the_relay(), answers(), people()].concat()
}
