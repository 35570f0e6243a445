//! JSON: what the endpoints take, and what clients read.

use postern_protocol::directory::ListingRequest;
use postern_protocol::exchange::{ExchangeRequest, ExchangeResponse};
use postern_protocol::ids::decode_base64;
use postern_protocol::internal::{Keys, KeysRequest, SignRequest, SignResponse};
use postern_protocol::log::{ConsistencyProof, InclusionProof, LogEntries, LogHead};
use postern_protocol::login::{
    Account, ChallengeRequest, ChallengeResponse, JwtRequest, JwtResponse, LoginRequest, LoginResponse, RevokeRequest,
    Sessions,
};
use postern_protocol::lookup::{LookupAllowance, LookupInfo, LookupRequest, LookupResponse};
use postern_protocol::prekeys::PrekeySupply;
use postern_protocol::problem::Problem;
use postern_protocol::register::{
    CodeRequest, CodeResponse, Counters, IssuerInfo, RegistrationRequest, RegistrationResponse,
};
use postern_protocol::release::{MessageList, Outcome};
use postern_protocol::reply::{ReplyKeys, Reveal, Strikes};
use postern_protocol::send::{Accepted, MailboxOpened, Messages, RelayInfo};
use postern_protocol::texts;
use postern_protocol::tokens::Directory;

use super::json;

/// `POST /v1/registration/code` and `/v1/registration`.
pub(crate) fn registration(data: &[u8]) {
    json::<CodeRequest>(data);
    json::<RegistrationRequest>(data);
}

/// `GET` and `POST /v1/texts/{report}`: what is said twice is said once, and nothing that is added takes an outcome's place.
pub(crate) fn text_report(data: &[u8]) {
    let Ok(form) = std::str::from_utf8(data) else { return };
    let read = texts::Outcome::read(form);
    assert_eq!(read, texts::Outcome::read(&format!("{form}&{form}")));
    assert_eq!(read, texts::Outcome::read(&format!("To=%2B41791234567&{form}&x")));
    if let Some(outcome) = read {
        let other = if outcome == texts::Outcome::Failed { "status=1" } else { "status=2" };
        assert_eq!(texts::Outcome::read(&format!("{form}&{other}")), None);
    }
}

/// Login, and the calls of a session.
pub(crate) fn login(data: &[u8]) {
    json::<ChallengeRequest>(data);
    json::<LoginRequest>(data);
    json::<JwtRequest>(data);
    json::<RevokeRequest>(data);
    json::<ListingRequest>(data);
}

/// `POST /v1/lookup`; what is in a batch must be checked before it is evaluated.
pub(crate) fn lookup(data: &[u8]) {
    if let Some(request) = json::<LookupRequest>(data)
        && postern_credentials::oprf::check_batch(&request.blinded).is_ok()
    {
        assert!(!request.blinded.is_empty() && request.blinded.iter().all(|element| element.0 != [0; 32]));
    }
}

/// `POST /v1/exchange`, and what the relay asks of the issuer for it.
pub(crate) fn exchange(data: &[u8]) {
    json::<ExchangeRequest>(data);
    json::<SignRequest>(data);
    json::<KeysRequest>(data);
}

/// `POST /v1/mailbox/ack`, `release`, `decline`, `spam`.
pub(crate) fn release(data: &[u8]) {
    json::<MessageList>(data);
}

/// `PUT /v1/mailbox/reply-keys`, `POST …/reply-strikes`, `…/reply-reveals`.
pub(crate) fn reply_keys(data: &[u8]) {
    json::<ReplyKeys>(data);
    json::<Strikes>(data);
    json::<Reveal>(data);
}

/// What clients and relays read.
pub(crate) fn answers(data: &[u8]) {
    json::<Problem>(data);
    json::<IssuerInfo>(data);
    json::<Counters>(data);
    json::<CodeResponse>(data);
    json::<RegistrationResponse>(data);
    json::<Directory>(data);
    json::<ChallengeResponse>(data);
    json::<LoginResponse>(data);
    json::<JwtResponse>(data);
    json::<Sessions>(data);
    json::<Account>(data);
    json::<LookupInfo>(data);
    json::<LookupResponse>(data);
    json::<LookupAllowance>(data);
    json::<LogHead>(data);
    json::<ConsistencyProof>(data);
    json::<InclusionProof>(data);
    json::<LogEntries>(data);
    json::<Keys>(data);
    json::<SignResponse>(data);
    json::<ExchangeResponse>(data);
    json::<RelayInfo>(data);
    json::<MailboxOpened>(data);
    json::<Accepted>(data);
    json::<Outcome>(data);
    json::<PrekeySupply>(data);
    if let Some(messages) = json::<Messages>(data) {
        // One spelling of every id: the client acknowledges by it.
        assert!(messages.messages.iter().all(|it| decode_base64(&it.message.to_string()).unwrap() == it.message.0));
    }
}
