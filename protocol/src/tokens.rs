//! Privacy Pass structures for token type 0x0002, Blind RSA 2048 (RFC 9577 §2, RFC 9578 §6), and the issuer's directory.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, TooLong, put_bytes16, put_varint};
use crate::ids::{Base64, ChallengeDigest, RsaElement, TokenKeyId, decode_base64, encode_base64};

/// Blind RSA (2048-bit), publicly verifiable (RFC 9578 §8.1).
pub const TOKEN_TYPE: u16 = 0x0002;

/// Where the directory of token keys is (RFC 9578 §4).
pub const DIRECTORY_PATH: &str = "/.well-known/private-token-issuer-directory";
/// Where a client with a bearer JWT asks for tokens: single and batch.
pub const TOKEN_REQUEST_PATH: &str = "/v1/token-request";

/// Media type of [`Directory`].
pub const DIRECTORY_MEDIA_TYPE: &str = "application/private-token-issuer-directory";
/// Media type of [`TokenRequest`].
pub const REQUEST_MEDIA_TYPE: &str = "application/private-token-request";
/// Media type of a [`TokenResponse`].
pub const RESPONSE_MEDIA_TYPE: &str = "application/private-token-response";
/// Media type of [`BatchTokenRequest`] (draft-ietf-privacypass-batched-tokens, generic batch).
pub const BATCH_REQUEST_MEDIA_TYPE: &str = "application/private-token-generic-batch-request";
/// Media type of [`BatchTokenResponse`].
pub const BATCH_RESPONSE_MEDIA_TYPE: &str = "application/private-token-generic-batch-response";

/// What an origin asks for (RFC 9577 §2.1). Postern leaves the redemption context empty so that tokens keep for months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChallenge {
    /// [`TOKEN_TYPE`].
    pub token_type: u16,
    /// The issuer's host name, with port if it is not 443; not empty.
    pub issuer_name: String,
    /// Empty, or 32 bytes.
    pub redemption_context: Option<[u8; 32]>,
    /// The relay's name: what binds a token to one relay. Empty in a cross-origin challenge.
    pub origin_info: String,
}

impl TokenChallenge {
    /// The challenge of a relay: its name as origin, no redemption context (design §2).
    pub fn for_relay(issuer_name: &str, relay_name: &str) -> Self {
        Self {
            token_type: TOKEN_TYPE,
            issuer_name: issuer_name.to_owned(),
            redemption_context: None,
            origin_info: relay_name.to_owned(),
        }
    }

    /// `token_type (2) ‖ issuer_name<1..2^16-1> ‖ redemption_context<0..32> ‖ origin_info<0..2^16-1>`.
    ///
    /// # Errors
    /// [`TooLong`] if a name does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = self.token_type.to_be_bytes().to_vec();
        put_bytes16(&mut out, self.issuer_name.as_bytes())?;
        match &self.redemption_context {
            None => out.push(0),
            Some(context) => {
                out.push(32);
                out.extend_from_slice(context);
            }
        }
        put_bytes16(&mut out, self.origin_info.as_bytes())?;
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else; an empty issuer name and a context of another length are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let token_type = r.u16()?;
        let issuer_name = r.text16()?.to_owned();
        if issuer_name.is_empty() {
            return Err(DecodeError::Invalid("issuer name"));
        }
        let redemption_context = match r.u8()? {
            0 => None,
            32 => Some(r.array()?),
            _ => return Err(DecodeError::Invalid("redemption context")),
        };
        let origin_info = r.text16()?.to_owned();
        r.finish()?;
        Ok(Self { token_type, issuer_name, redemption_context, origin_info })
    }
}

/// What a token's authenticator signs (RFC 9577 §2.2): everything in the token but the authenticator, 98 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenInput {
    /// [`TOKEN_TYPE`].
    pub token_type: u16,
    /// 32 bytes; in a Postern token `SHA-256("postern/refund" ‖ r)`.
    pub nonce: [u8; 32],
    /// Digest of the challenge that the token answers.
    pub challenge_digest: ChallengeDigest,
    /// The key that signed it.
    pub token_key_id: TokenKeyId,
}

impl TokenInput {
    /// Length in bytes.
    pub const LEN: usize = 98;

    /// `token_type ‖ nonce ‖ challenge_digest ‖ token_key_id`.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let parts: [&[u8]; 4] =
            [&self.token_type.to_be_bytes(), &self.nonce, &self.challenge_digest.0, &self.token_key_id.0];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// The input that a token of this type begins with.
    pub(crate) fn read(r: &mut Reader<'_>, token_type: u16) -> Result<Self, DecodeError> {
        if r.u16()? != token_type {
            return Err(DecodeError::Invalid("token type"));
        }
        let (nonce, challenge_digest, token_key_id) = (r.array()?, ChallengeDigest(r.array()?), TokenKeyId(r.array()?));
        Ok(Self { token_type, nonce, challenge_digest, token_key_id })
    }
}

/// A token (RFC 9577 §2.2): 354 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is signed.
    pub input: TokenInput,
    /// The RSA-PSS signature over `input`.
    pub authenticator: RsaElement,
}

impl Token {
    /// Length in bytes.
    pub const LEN: usize = TokenInput::LEN + RsaElement::LEN;

    /// `input ‖ authenticator`.
    pub fn encode(&self) -> Vec<u8> {
        [self.input.encode().as_slice(), self.authenticator.as_bytes()].concat()
    }

    /// Reads exactly [`Self::LEN`] bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for another length or token type.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let input = TokenInput::read(&mut r, TOKEN_TYPE)?;
        let authenticator = RsaElement(r.array()?);
        r.finish()?;
        Ok(Self { input, authenticator })
    }
}

/// A request for one token (RFC 9578 §6.1): 259 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The last byte of the key id.
    pub truncated_token_key_id: u8,
    /// The blinded message.
    pub blinded_msg: RsaElement,
}

impl TokenRequest {
    /// Length in bytes.
    pub const LEN: usize = 2 + 1 + RsaElement::LEN;

    /// `token_type (2) ‖ truncated_token_key_id (1) ‖ blinded_msg (256)`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = TOKEN_TYPE.to_be_bytes().to_vec();
        out.push(self.truncated_token_key_id);
        out.extend_from_slice(self.blinded_msg.as_bytes());
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.u16()? != TOKEN_TYPE {
            return Err(DecodeError::Invalid("token type"));
        }
        Ok(Self { truncated_token_key_id: r.u8()?, blinded_msg: RsaElement(r.array()?) })
    }

    /// Reads exactly [`Self::LEN`] bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for another length or token type.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let request = Self::read(&mut r)?;
        r.finish()?;
        Ok(request)
    }
}

/// The most requests in a batch, and answers: a refusal is one byte on the wire and 257 in memory.
pub const MAX_BATCH: usize = 128;

/// Several requests in one (batched-tokens draft, generic batch): `TokenRequest token_requests<V>`; at most [`MAX_BATCH`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTokenRequest(pub Vec<TokenRequest>);

impl BatchTokenRequest {
    /// A variable-length byte count, then the requests.
    ///
    /// # Errors
    /// [`TooLong`] from 2^30 bytes on.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        put_varint(&mut out, self.0.len().saturating_mul(TokenRequest::LEN))?;
        for request in &self.0 {
            out.extend_from_slice(&request.encode());
        }
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(bytes);
        let n = outer.varint()?;
        let mut r = Reader::new(outer.take(n)?);
        outer.finish()?;
        let mut requests = Vec::new();
        while !r.is_empty() {
            if requests.len() == MAX_BATCH {
                return Err(DecodeError::Invalid("number of tokens"));
            }
            requests.push(TokenRequest::read(&mut r)?);
        }
        Ok(Self(requests))
    }
}

/// The answer to [`BatchTokenRequest`], in its order; `None` where the issuer refused that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTokenResponse(pub Vec<Option<RsaElement>>);

impl BatchTokenResponse {
    /// A variable-length byte count, then per request `0`, or `1 ‖ token_type (2) ‖ blind_sig (256)`.
    ///
    /// # Errors
    /// [`TooLong`] from 2^30 bytes on.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut body = Vec::new();
        for response in &self.0 {
            match response {
                None => body.push(0),
                Some(blind_sig) => {
                    body.push(1);
                    body.extend_from_slice(&TOKEN_TYPE.to_be_bytes());
                    body.extend_from_slice(blind_sig.as_bytes());
                }
            }
        }
        let mut out = Vec::new();
        put_varint(&mut out, body.len())?;
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(bytes);
        let n = outer.varint()?;
        let mut r = Reader::new(outer.take(n)?);
        outer.finish()?;
        let mut responses = Vec::new();
        while !r.is_empty() {
            if responses.len() == MAX_BATCH {
                return Err(DecodeError::Invalid("number of tokens"));
            }
            responses.push(match r.u8()? {
                0 => None,
                1 if r.u16()? == TOKEN_TYPE => Some(RsaElement(r.array()?)),
                1 => return Err(DecodeError::Invalid("token type")),
                _ => return Err(DecodeError::Invalid("optional")),
            });
        }
        Ok(Self(responses))
    }
}

/// The answer to one [`TokenRequest`]: the blind signature, 256 bytes (RFC 9578 §6.2).
pub type TokenResponse = RsaElement;

/// Where a key stands in its life. It only ever moves down this list, and from the last it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Signs, and its tokens are accepted.
    Active,
    /// Signs no more; its tokens are accepted, and unspent ones can be exchanged, until `not-after`.
    Retiring,
}

/// One entry of the directory (RFC 9578 §4), with two members of our own that other clients ignore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirectoryKey {
    /// [`TOKEN_TYPE`].
    pub token_type: u16,
    /// SubjectPublicKeyInfo (DER, id-RSASSA-PSS), base64url.
    pub token_key: Base64,
    /// Usable from here on, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// Accepted until here, Unix seconds; only on retiring keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// Absent in other issuers' directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
}

/// `GET` [`DIRECTORY_PATH`] (RFC 9578 §4). The active key comes first: clients take the first that they support.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Directory {
    /// Where to send token requests; relative to the directory's URL or absolute.
    pub issuer_request_uri: String,
    /// The keys, active first.
    pub token_keys: Vec<DirectoryKey>,
}

/// The value of `WWW-Authenticate` for one challenge (RFC 9577 §2.1).
///
/// # Errors
/// [`TooLong`] if the challenge does not encode.
pub fn www_authenticate(challenge: &TokenChallenge, token_key_spki: &[u8]) -> Result<String, TooLong> {
    Ok(format!(
        "PrivateToken challenge=\"{}\", token-key=\"{}\"",
        encode_base64_padded(&challenge.encode()?),
        encode_base64_padded(token_key_spki)
    ))
}

/// The value of `Authorization` for one token (RFC 9577 §2.2).
pub fn authorization(token: &Token) -> String {
    format!("PrivateToken token=\"{}\"", encode_base64_padded(&token.encode()))
}

/// Reads the value of an `Authorization: PrivateToken token=…` header; the value may be quoted or not, padded or not.
///
/// # Errors
/// [`DecodeError`] if it is another scheme, has other parameters, or is not a token.
pub fn parse_authorization(value: &str) -> Result<Token, DecodeError> {
    let bytes = auth_param(value, "token")?;
    Token::decode(&bytes)
}

/// Reads challenge and token key (SubjectPublicKeyInfo) from a `WWW-Authenticate: PrivateToken …` header.
///
/// # Errors
/// [`DecodeError`] if either is missing or malformed.
pub fn parse_www_authenticate(value: &str) -> Result<(TokenChallenge, Vec<u8>), DecodeError> {
    Ok((TokenChallenge::decode(&auth_param(value, "challenge")?)?, auth_param(value, "token-key")?))
}

fn auth_param(value: &str, name: &'static str) -> Result<Vec<u8>, DecodeError> {
    let (scheme, params) = value.trim().split_once(' ').ok_or(DecodeError::Invalid("authorization"))?;
    if !scheme.eq_ignore_ascii_case("PrivateToken") {
        return Err(DecodeError::Invalid("authorization scheme"));
    }
    for param in params.split(',') {
        let Some((key, raw)) = param.trim().split_once('=') else { continue };
        if key.trim().eq_ignore_ascii_case(name) {
            let raw = raw.trim();
            let bare = if let Some(inner) = raw.strip_prefix('"') {
                inner.strip_suffix('"').ok_or(DecodeError::Invalid(name))?
            } else {
                raw
            };
            // RFC 9577 asks for padded base64url; deployed clients send both.
            let text = bare.trim_end_matches('=');
            return decode_base64(text).map_err(|_| DecodeError::Invalid(name));
        }
    }
    Err(DecodeError::Invalid(name))
}

fn encode_base64_padded(bytes: &[u8]) -> String {
    let mut text = encode_base64(bytes);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            input: TokenInput {
                token_type: TOKEN_TYPE,
                nonce: [1; 32],
                challenge_digest: ChallengeDigest([2; 32]),
                token_key_id: TokenKeyId([3; 32]),
            },
            authenticator: RsaElement([4; 256]),
        }
    }

    #[test]
    fn a_token_survives_its_header_quoted_or_bare_padded_or_not() {
        let header = authorization(&token());
        assert_eq!(parse_authorization(&header), Ok(token()));
        let bare = header.replace('"', "");
        assert_eq!(parse_authorization(&bare), Ok(token()));
        assert_eq!(parse_authorization(bare.trim_end_matches('=')), Ok(token()));
        assert!(parse_authorization(&header.replace("PrivateToken", "Bearer")).is_err());
        assert!(parse_authorization(header.trim_end_matches('"')).is_err());
        assert!(parse_authorization(&header.replace("=\"", "=")).is_err());
    }

    #[test]
    fn every_truncation_and_every_extension_of_a_token_is_refused() {
        let bytes = token().encode();
        assert_eq!(bytes.len(), Token::LEN);
        for n in 0..bytes.len() {
            assert!(Token::decode(&bytes[..n]).is_err(), "{n}");
        }
        assert_eq!(Token::decode(&[bytes.as_slice(), &[0]].concat()), Err(DecodeError::Trailing));
    }

    #[test]
    fn a_batch_reads_back_and_a_cut_batch_does_not() {
        let one = TokenRequest { truncated_token_key_id: 9, blinded_msg: RsaElement([5; 256]) };
        let batch = BatchTokenRequest(vec![one; 5]);
        let bytes = batch.encode().unwrap();
        assert_eq!(BatchTokenRequest::decode(&bytes), Ok(batch));
        for n in 0..bytes.len() {
            assert!(BatchTokenRequest::decode(&bytes[..n]).is_err(), "{n}");
        }
        let answer = BatchTokenResponse(vec![Some(RsaElement([6; 256])), None]);
        assert_eq!(BatchTokenResponse::decode(&answer.encode().unwrap()), Ok(answer));
    }

    #[test]
    fn a_batch_of_more_than_the_most_is_refused_before_it_takes_memory() {
        let refused = |n| BatchTokenResponse(vec![None; n]).encode().unwrap();
        assert!(BatchTokenResponse::decode(&refused(MAX_BATCH)).is_ok());
        assert_eq!(BatchTokenResponse::decode(&refused(1 << 20)), Err(DecodeError::Invalid("number of tokens")));
        let one = TokenRequest { truncated_token_key_id: 9, blinded_msg: RsaElement([5; 256]) };
        let requests = |n| BatchTokenRequest(vec![one; n]).encode().unwrap();
        assert!(BatchTokenRequest::decode(&requests(MAX_BATCH)).is_ok());
        assert!(BatchTokenRequest::decode(&requests(MAX_BATCH + 1)).is_err());
    }

    #[test]
    fn a_challenge_header_reads_back() {
        let challenge = TokenChallenge::for_relay("issuer.example", "relay.example");
        let header = www_authenticate(&challenge, b"spki").unwrap();
        assert_eq!(parse_www_authenticate(&header), Ok((challenge, b"spki".to_vec())));
    }
}
