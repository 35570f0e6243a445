//! Look-ups (design §5, M25–M27): the tokens that pay for them, and the evaluation of a blinded phone number.
//!
//! A look-up token is Privacy Pass type 0x0005, VOPRF(ristretto255, SHA-512), issued in batches
//! (draft-ietf-privacypass-batched-tokens, amortized). It is good in one time window only, because every window has its own key.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, TooLong, put_varint};
use crate::ids::{LookupTokenBytes, OprfElement, OprfOutput, OprfProof, OprfPublicKey};
use crate::time::Timestamp;
use crate::tokens::{TokenChallenge, TokenInput};

/// VOPRF(ristretto255, SHA-512), privately verifiable (draft-ietf-privacypass-batched-tokens §8).
pub const LOOKUP_TOKEN_TYPE: u16 = 0x0005;

/// `GET` → [`LookupInfo`], anonymous. `POST` [`LookupRequest`] → [`LookupResponse`], anonymous.
pub const LOOKUP_PATH: &str = "/v1/lookup";
/// Session-signed `GET` → [`LookupAllowance`].
pub const ALLOWANCE_PATH: &str = "/v1/account/lookups";

/// Media type of a [`LookupTokenRequest`], posted to [`crate::tokens::TOKEN_REQUEST_PATH`].
pub const AMORTIZED_REQUEST_MEDIA_TYPE: &str = "application/private-token-amortized-batch-request";
/// Media type of a [`LookupTokenResponse`].
pub const AMORTIZED_RESPONSE_MEDIA_TYPE: &str = "application/private-token-amortized-batch-response";

/// The most tokens in one [`LookupTokenRequest`]: 32 KiB, and about 50 ms of the issuer's time.
pub const MAX_TOKEN_BATCH: usize = 1024;
/// The most numbers in one [`LookupRequest`].
pub const MAX_LOOKUPS: usize = 128;
/// Up to so many numbers, looked up together, are covered one for one: see [`buckets_to_fetch`].
pub const FULLY_COVERED: usize = 16;

/// A batch of so many numbers is sent with so many, dummies among them: the next power of two, so that hardly anything shows of how many
/// there were.
pub const fn batch_size(numbers: usize) -> usize {
    if numbers == 0 { 0 } else { numbers.next_power_of_two() }
}

/// How many buckets of the directory a client fetches for so many numbers, looked up together, when so many of them are listed: as many as
/// it sent blinded numbers, so that it does not show whether any is. Of more than [`FULLY_COVERED`] the number of hits shows, rounded up
/// to a power of two.
pub fn buckets_to_fetch(numbers: usize, hits: usize) -> usize {
    let covered =
        if numbers <= FULLY_COVERED { batch_size(numbers) } else { hits.next_power_of_two().max(FULLY_COVERED) };
    covered.max(hits)
}

/// How an issuer counts look-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupPolicy {
    /// Length of a window, seconds; tokens are of a window, and end with it.
    pub window_seconds: u32,
    /// How long after its end a window's tokens are still taken, seconds; at most a window.
    pub grace_seconds: u32,
    /// How many tokens an account has in the first window that it asks in.
    pub quota_first: u32,
    /// How many it has in each later window. Unused ones do not carry over.
    pub quota_window: u32,
}

impl Default for LookupPolicy {
    /// A day, an hour, 2,000, and 50.
    fn default() -> Self {
        Self { window_seconds: 86_400, grace_seconds: 3600, quota_first: 2000, quota_window: 50 }
    }
}

impl LookupPolicy {
    /// Whether the numbers make sense together.
    pub const fn is_sound(&self) -> bool {
        self.window_seconds > 0 && self.grace_seconds <= self.window_seconds
    }

    /// The window that a moment lies in.
    pub fn window_at(&self, at: Timestamp) -> u64 {
        at.seconds() / u64::from(self.window_seconds.max(1))
    }

    /// When a window begins; the one before it ends there.
    pub fn window_start(&self, window: u64) -> Timestamp {
        Timestamp::from_seconds(window.saturating_mul(u64::from(self.window_seconds)))
    }

    /// From when on a window's tokens are not taken any more.
    pub fn window_over(&self, window: u64) -> Timestamp {
        self.window_start(window.saturating_add(1)).plus_seconds(u64::from(self.grace_seconds))
    }

    /// Whether a window's tokens are taken at this moment: its own time, and the grace after it.
    pub fn accepts(&self, window: u64, now: Timestamp) -> bool {
        now >= self.window_start(window) && now < self.window_over(window)
    }
}

/// What a client needs before it can look anything up. Must be the same for everybody: the keys are in the log
/// ([`crate::log`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupInfo {
    /// How the issuer counts.
    pub policy: LookupPolicy,
    /// The keys of the windows whose tokens are taken now, the latest first.
    pub keys: Vec<WindowKey>,
    /// Which key of the VOPRF the directory is made with.
    pub oprf_epoch: u32,
    /// That key.
    pub oprf_key: OprfPublicKey,
}

/// The public key that one window's tokens are issued under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowKey {
    /// The window.
    pub window: u64,
    /// Its key.
    pub key: OprfPublicKey,
}

/// How much an account has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupAllowance {
    /// The present window.
    pub window: u64,
    /// Tokens that this account may have in it.
    pub quota: u32,
    /// Of these, issued so far.
    pub issued: u32,
}

/// The challenge that look-up tokens answer: the issuer is its own origin, and there is no redemption context.
pub fn lookup_challenge(issuer_name: &str) -> TokenChallenge {
    TokenChallenge {
        token_type: LOOKUP_TOKEN_TYPE,
        issuer_name: issuer_name.to_owned(),
        redemption_context: None,
        origin_info: issuer_name.to_owned(),
    }
}

/// A look-up token: 162 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupToken {
    /// What the authenticator is computed over.
    pub input: TokenInput,
    /// The VOPRF's output for `input`; only the issuer can recompute it.
    pub authenticator: OprfOutput,
}

impl LookupToken {
    /// Length in bytes.
    pub const LEN: usize = TokenInput::LEN + OprfOutput::LEN;

    /// `token_type (2) ‖ nonce (32) ‖ challenge_digest (32) ‖ token_key_id (32) ‖ authenticator (64)`.
    pub fn encode(&self) -> LookupTokenBytes {
        let mut out = [0; Self::LEN];
        for (to, from) in out.iter_mut().zip(self.input.encode().iter().chain(self.authenticator.expose())) {
            *to = *from;
        }
        LookupTokenBytes(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] for another length or token type.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let input = TokenInput::read(&mut r, LOOKUP_TOKEN_TYPE)?;
        let authenticator = OprfOutput::new(r.array()?);
        r.finish()?;
        Ok(Self { input, authenticator })
    }
}

/// Asks for tokens (`AmortizedBatchTokenRequest` of the draft).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupTokenRequest {
    /// The last byte of the key id.
    pub truncated_token_key_id: u8,
    /// From 1 to [`MAX_TOKEN_BATCH`]; group elements only after decoding in `credentials`.
    pub blinded: Vec<OprfElement>,
}

impl LookupTokenRequest {
    /// `token_type (2) ‖ truncated_token_key_id (1) ‖ byte length (varint) ‖ 32 bytes each`.
    ///
    /// # Errors
    /// [`TooLong`] from 2^30 bytes on.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = LOOKUP_TOKEN_TYPE.to_be_bytes().to_vec();
        out.push(self.truncated_token_key_id);
        put_elements(&mut out, &self.blinded)?;
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else, empty, or longer than [`MAX_TOKEN_BATCH`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u16()? != LOOKUP_TOKEN_TYPE {
            return Err(DecodeError::Invalid("token type"));
        }
        let truncated_token_key_id = r.u8()?;
        let blinded = read_elements(&mut r)?;
        r.finish()?;
        Ok(Self { truncated_token_key_id, blinded })
    }
}

/// The answer to a [`LookupTokenRequest`] (`AmortizedBatchTokenResponse` of the draft), in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupTokenResponse {
    /// One per blinded element.
    pub evaluated: Vec<OprfElement>,
    /// That all of them were evaluated under the window's key.
    pub proof: OprfProof,
}

impl LookupTokenResponse {
    /// `byte length (varint) ‖ 32 bytes each ‖ proof (64)`.
    ///
    /// # Errors
    /// [`TooLong`] from 2^30 bytes on.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        put_elements(&mut out, &self.evaluated)?;
        out.extend_from_slice(self.proof.as_bytes());
        Ok(out)
    }

    /// Reads [`Self::encode`]'s form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is anything else, empty, or longer than [`MAX_TOKEN_BATCH`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let evaluated = read_elements(&mut r)?;
        let proof = OprfProof(r.array()?);
        r.finish()?;
        Ok(Self { evaluated, proof })
    }
}

fn put_elements(out: &mut Vec<u8>, elements: &[OprfElement]) -> Result<(), TooLong> {
    put_varint(out, elements.len().saturating_mul(OprfElement::LEN))?;
    elements.iter().for_each(|element| out.extend_from_slice(element.as_bytes()));
    Ok(())
}

fn read_elements(r: &mut Reader<'_>) -> Result<Vec<OprfElement>, DecodeError> {
    let n = r.varint()?;
    if n == 0 || n > MAX_TOKEN_BATCH * OprfElement::LEN {
        return Err(DecodeError::Invalid("number of elements"));
    }
    let mut inner = Reader::new(r.take(n)?);
    let mut elements = Vec::with_capacity(n / OprfElement::LEN);
    while !inner.is_empty() {
        elements.push(OprfElement(inner.array()?));
    }
    Ok(elements)
}

/// Has blinded phone numbers evaluated, for a token each. Repeating it byte for byte gets the same answer; a token in another
/// request is refused, and the other tokens with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// The window that the tokens are of.
    pub window: u64,
    /// [`LookupToken`]s, as many as elements, all different.
    pub tokens: Vec<LookupTokenBytes>,
    /// Blinded numbers (E.164 text with its `+`), from 1 to [`MAX_LOOKUPS`].
    pub blinded: Vec<OprfElement>,
}

/// The evaluated numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupResponse {
    /// Which key they were evaluated under.
    pub oprf_epoch: u32,
    /// One per blinded element, in order.
    pub evaluated: Vec<OprfElement>,
    /// That it was this key for all of them.
    pub proof: OprfProof,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChallengeDigest, TokenKeyId};

    #[test]
    fn a_small_look_up_fetches_the_same_whatever_is_found_and_a_large_one_tells_a_power_of_two() {
        for numbers in 1..=FULLY_COVERED {
            for hits in 0..=numbers {
                assert_eq!(buckets_to_fetch(numbers, hits), batch_size(numbers), "{numbers} {hits}");
            }
        }
        assert_eq!([0, 1, 16, 17, 40, 128].map(|hits| buckets_to_fetch(128, hits)), [16, 16, 16, 32, 64, 128]);
        assert_eq!(buckets_to_fetch(0, 0), 0);
        assert_eq!([0, 1, 2, 3, 8, 9, 128].map(batch_size), [0, 1, 2, 4, 8, 16, 128]);
    }

    #[test]
    fn a_window_s_tokens_are_good_until_the_grace_ends() {
        let policy = LookupPolicy { window_seconds: 100, grace_seconds: 10, ..LookupPolicy::default() };
        let at = Timestamp::from_seconds;
        assert!(policy.is_sound());
        assert_eq!((policy.window_at(at(299)), policy.window_at(at(300))), (2, 3));
        assert!(!policy.accepts(3, Timestamp(299_999)) && policy.accepts(3, at(300)));
        assert!(policy.accepts(3, Timestamp(409_999)) && !policy.accepts(3, at(410)));
        assert!(!LookupPolicy { window_seconds: 0, grace_seconds: 0, ..policy }.is_sound());
        assert!(!LookupPolicy { grace_seconds: 101, ..policy }.is_sound());
    }

    #[test]
    fn a_token_reads_back_and_is_refused_cut_lengthened_or_of_another_type() {
        let token = LookupToken {
            input: TokenInput {
                token_type: LOOKUP_TOKEN_TYPE,
                nonce: [1; 32],
                challenge_digest: ChallengeDigest([2; 32]),
                token_key_id: TokenKeyId([3; 32]),
            },
            authenticator: OprfOutput::new([4; 64]),
        };
        let bytes = token.encode();
        assert_eq!(LookupToken::decode(bytes.as_bytes()), Ok(token));
        for n in 0..LookupToken::LEN {
            assert!(LookupToken::decode(&bytes.as_bytes()[..n]).is_err(), "{n}");
        }
        assert!(LookupToken::decode(&[bytes.as_bytes().as_slice(), &[0]].concat()).is_err());
        let mut other = bytes;
        other.0[1] = 2;
        assert_eq!(LookupToken::decode(other.as_bytes()), Err(DecodeError::Invalid("token type")));
    }

    #[test]
    fn a_batch_reads_back_and_is_refused_cut_lengthened_empty_or_too_large() {
        let request = LookupTokenRequest { truncated_token_key_id: 9, blinded: vec![OprfElement([5; 32]); 3] };
        let mut bytes = request.encode().unwrap();
        assert_eq!(bytes[..5], [0, 5, 9, 0x40, 96]);
        assert_eq!(LookupTokenRequest::decode(&bytes), Ok(request.clone()));
        for n in 0..bytes.len() {
            assert!(LookupTokenRequest::decode(&bytes[..n]).is_err(), "{n}");
        }
        bytes.push(0);
        assert_eq!(LookupTokenRequest::decode(&bytes), Err(DecodeError::Trailing));
        for many in [0, MAX_TOKEN_BATCH + 1] {
            let blinded = vec![OprfElement([5; 32]); many];
            let bytes = LookupTokenRequest { blinded, ..request.clone() }.encode().unwrap();
            assert_eq!(LookupTokenRequest::decode(&bytes), Err(DecodeError::Invalid("number of elements")));
        }
        // 33 bytes are no number of elements.
        assert!(LookupTokenRequest::decode(&[&[0, 5, 9, 33], [0; 33].as_slice()].concat()).is_err());

        let response = LookupTokenResponse { evaluated: vec![OprfElement([6; 32]); 2], proof: OprfProof([7; 64]) };
        let bytes = response.encode().unwrap();
        assert_eq!(LookupTokenResponse::decode(&bytes), Ok(response));
        for n in 0..bytes.len() {
            assert!(LookupTokenResponse::decode(&bytes[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn a_request_with_a_token_of_the_wrong_length_or_an_unknown_member_is_refused() {
        let good =
            LookupRequest { window: 7, tokens: vec![LookupTokenBytes([1; 162])], blinded: vec![OprfElement([2; 32])] };
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<LookupRequest>(&text).unwrap(), good);
        let token = LookupTokenBytes([1; 162]).to_string();
        assert!(serde_json::from_str::<LookupRequest>(&text.replace(&token, &token[4..])).is_err());
        assert!(serde_json::from_str::<LookupRequest>(&text.replace("{\"window", "{\"x\":1,\"window")).is_err());
    }
}
