//! Tokens, the requests for them, and the keys that they are checked with.

use postern_credentials::blind_token::{PendingToken, VerifyingKey};
use postern_credentials::lookup_token::PendingTokens;
use postern_protocol::lookup::{LookupToken, LookupTokenRequest, LookupTokenResponse};
use postern_protocol::tokens::{BatchTokenRequest, BatchTokenResponse, MAX_BATCH, Token, TokenInput, TokenRequest};

use super::canonical;

/// A token, a request for one, a look-up token; and those on their way, as a profile stores them.
pub(crate) fn token(data: &[u8]) {
    if let Some(token) = canonical(data, 1, Token::decode, Token::encode) {
        assert_eq!((data.len(), token.input.encode().as_slice()), (Token::LEN, &data[..TokenInput::LEN]));
    }
    canonical(data, 1, TokenRequest::decode, TokenRequest::encode);
    canonical(data, 1, LookupToken::decode, |token| token.encode().0.to_vec());
    canonical(data, 1, PendingToken::from_bytes, |pending| pending.to_bytes().to_vec());
    canonical(data, 4, PendingTokens::from_bytes, |pending| pending.to_bytes().to_vec());
}

/// Requests and answers of many tokens.
pub(crate) fn token_batch(data: &[u8]) {
    canonical(data, 4, BatchTokenRequest::decode, |batch| batch.encode().unwrap());
    // A refusal is one byte, and in memory as long as a signature: their number is what is bounded.
    if let Ok(batch) = BatchTokenResponse::decode(data) {
        assert!(batch.0.len() <= MAX_BATCH && batch.encode().unwrap() == data);
    }
    canonical(data, 4, LookupTokenRequest::decode, |batch| batch.encode().unwrap());
    canonical(data, 4, LookupTokenResponse::decode, |batch| batch.encode().unwrap());
}

/// A token key: two spellings of one key would have two ids.
pub(crate) fn token_key(data: &[u8]) {
    canonical(data, 4, VerifyingKey::from_spki, |key| key.spki().to_vec());
}
