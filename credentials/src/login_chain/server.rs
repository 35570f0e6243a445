//! The server's side of the login. It keeps nothing between challenge and proof but what is sealed in the nonce.

use std::fmt;

use postern_protocol::codec::{DecodeError, Reader};
use postern_protocol::ids::{Base64, DhPublicKey, LoginSalt, LoginVerifier, Mac, PhoneNumber, SessionId, Signature};
use postern_protocol::login::{ChallengeRequest, ChallengeResponse, LoginRequest, MIN_M};
use postern_protocol::time::Timestamp;
use rand_core::CryptoRng;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Exchange, MAX_NONCE, chain, diffie_hellman, effective_salt, public_of, steps_beyond_verifier};
use crate::identity::IdentityKey;
use crate::seal::SealKey;
use crate::secrets::RootSecret;
use crate::session::SessionKey;
use crate::transcript::Transcript;

/// How long a challenge can be answered, seconds.
pub const CHALLENGE_SECONDS: u64 = 120;

/// M is spread over this many values, so that an old proof does not even fit a new challenge.
const M_SPREAD: u64 = 1000;

const CONTEXT: &[u8] = b"postern/login-nonce/v1";

/// The server's own keys: they seal nonces and stand in for users that do not exist.
#[derive(Debug)]
pub struct ServerLogin {
    nonces: SealKey,
    strangers: StrangerKey,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct StrangerKey([u8; 32]);

impl fmt::Debug for StrangerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrangerKey(secret)")
    }
}

/// Why a nonce was refused. Clients get one answer for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// Not made here, changed, or for another user.
    #[error("not a nonce for this user")]
    Invalid,
    /// Its time is over.
    #[error("the challenge has expired")]
    Expired,
}

/// The proof does not verify, for whatever reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the login is refused")]
pub struct Refused;

/// What was sealed in a nonce. Its [`Self::digest`] must be recorded as used, durably, before anything is answered.
pub struct OpenedNonce {
    digest: [u8; 32],
    user: PhoneNumber,
    server_secret: StaticSecret,
    server_ephemeral: DhPublicKey,
    client_ephemeral: DhPublicKey,
    salt: LoginSalt,
    m: u32,
    expires: Timestamp,
}

impl OpenedNonce {
    /// What single use is kept under. The same nonce has the same digest, and no other bytes open to it.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Until when the digest must be remembered.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl fmt::Debug for OpenedNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedNonce(secret)")
    }
}

impl ServerLogin {
    /// The keys of this issuer.
    pub fn derive(root: &RootSecret) -> Self {
        Self {
            nonces: SealKey::new(*root.derive("login-nonce")),
            strangers: StrangerKey(*root.derive("login-strangers")),
        }
    }

    /// Answers a request, with the salt of the account or `None` if there is none: same shape, same work (K8).
    pub fn challenge(
        &self,
        rng: &mut impl CryptoRng,
        signer: &IdentityKey,
        issuer: &str,
        request: &ChallengeRequest,
        enrolment: Option<&LoginSalt>,
        now: Timestamp,
    ) -> ChallengeResponse {
        let server_secret = StaticSecret::random_from_rng(rng);
        // 64 random bits over 1,000 values: no value is likelier than another by more than 2^-54.
        let m = MIN_M.saturating_add(u32::try_from(rng.next_u64() % M_SPREAD).unwrap_or(0));
        let opened = OpenedNonce {
            digest: [0; 32],
            user: request.user.clone(),
            server_ephemeral: public_of(&server_secret),
            server_secret,
            client_ephemeral: request.client_ephemeral,
            salt: self.salt_or_fake(enrolment, &request.user),
            m,
            // Whole seconds: this is what the client sees and the signature covers.
            expires: Timestamp::from_seconds(now.seconds().saturating_add(CHALLENGE_SECONDS)),
        };
        let nonce = self.nonces.seal(rng, CONTEXT, &opened.encode());
        let mut response = ChallengeResponse {
            salt: opened.salt,
            m,
            nonce: Base64(nonce),
            server_ephemeral: opened.server_ephemeral,
            expires: opened.expires.seconds(),
            signature: Signature([0; Signature::LEN]),
        };
        let signed = Exchange::of(issuer, request, &response).signed_part();
        response.signature = signer.sign_transcript(&signed);
        response
    }

    /// The verifier of a user that does not exist: no password leads to it. Take it where the account's would be, and go on.
    pub fn fake_verifier(&self, user: &PhoneNumber) -> LoginVerifier {
        LoginVerifier::new(self.stranger("postern/login-fake-verifier/v1", user))
    }

    /// Opens a nonce of ours for `user`.
    ///
    /// # Errors
    /// [`NonceError`]; tell the client nothing of which.
    pub fn open_nonce(&self, nonce: &[u8], user: &PhoneNumber, now: Timestamp) -> Result<OpenedNonce, NonceError> {
        if nonce.len() > MAX_NONCE {
            return Err(NonceError::Invalid);
        }
        let plain = self.nonces.open(CONTEXT, nonce).map_err(|_| NonceError::Invalid)?;
        let opened = OpenedNonce::decode(&plain, nonce_digest(nonce)).map_err(|_| NonceError::Invalid)?;
        if opened.user != *user {
            return Err(NonceError::Invalid);
        }
        if opened.expires <= now { Err(NonceError::Expired) } else { Ok(opened) }
    }

    /// Checks the client's proof against `verifier` and makes the server's for `session`. The nonce's digest must have been
    /// recorded as used before.
    ///
    /// # Errors
    /// [`Refused`] for a wrong password, an unknown user, or a request that belongs to another nonce.
    pub fn verify(
        &self,
        opened: &OpenedNonce,
        issuer: &str,
        verifier: &LoginVerifier,
        request: &LoginRequest,
        session: SessionId,
    ) -> Result<(SessionKey, Mac), Refused> {
        if request.user != opened.user || nonce_digest(&request.nonce.0) != opened.digest {
            return Err(Refused);
        }
        let steps = steps_beyond_verifier(opened.m).ok_or(Refused)?;
        let dh = opened.shared_secret().ok_or(Refused)?;
        let salt = effective_salt(issuer, &opened.user, &opened.salt);
        let c_m = chain(verifier.expose(), &salt, steps);
        let keys = opened.exchange(issuer, &request.nonce.0).keys(&c_m, &dh, &request.label);
        let Mac(expected) = keys.client_proof(&opened.user);
        if bool::from(expected.ct_eq(&request.proof.0)) {
            Ok((keys.session_key(), keys.server_proof(&session)))
        } else {
            Err(Refused)
        }
    }

    /// Both are always computed and one is selected, so that time tells nothing.
    fn salt_or_fake(&self, salt: Option<&LoginSalt>, user: &PhoneNumber) -> LoginSalt {
        let fake = self.stranger("postern/login-fake-salt/v1", user).first_chunk().copied().unwrap_or_default();
        let exists = u8::from(salt.is_some()).into();
        let real = salt.map_or([0; LoginSalt::LEN], |salt| salt.0);
        LoginSalt(<[u8; LoginSalt::LEN]>::conditional_select(&fake, &real, exists))
    }

    fn stranger(&self, label: &str, user: &PhoneNumber) -> [u8; 32] {
        Transcript::new(label).field(user.as_str().as_bytes()).hmac(&self.strangers.0)
    }
}

fn nonce_digest(nonce: &[u8]) -> [u8; 32] {
    Transcript::new("postern/login-used/v1").field(nonce).sha256()
}

impl OpenedNonce {
    pub(super) fn shared_secret(&self) -> Option<Zeroizing<[u8; 32]>> {
        diffie_hellman(&self.server_secret, &self.client_ephemeral)
    }

    pub(super) fn exchange<'a>(&'a self, issuer: &'a str, nonce: &'a [u8]) -> Exchange<'a> {
        Exchange {
            issuer,
            user: &self.user,
            client_ephemeral: &self.client_ephemeral,
            salt: &self.salt,
            m: self.m,
            nonce,
            server_ephemeral: &self.server_ephemeral,
            expires: self.expires.seconds(),
        }
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(160));
        out.extend_from_slice(self.server_secret.as_bytes());
        out.extend_from_slice(&self.server_ephemeral.0);
        out.extend_from_slice(&self.client_ephemeral.0);
        out.extend_from_slice(&self.salt.0);
        out.extend_from_slice(&self.m.to_be_bytes());
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.extend_from_slice(self.user.as_str().as_bytes());
        out
    }

    fn decode(plain: &[u8], digest: [u8; 32]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(plain);
        Ok(Self {
            digest,
            server_secret: StaticSecret::from(r.array::<32>()?),
            server_ephemeral: DhPublicKey(r.array()?),
            client_ephemeral: DhPublicKey(r.array()?),
            salt: LoginSalt(r.array()?),
            m: r.u32()?,
            expires: Timestamp(r.u64()?),
            user: std::str::from_utf8(r.rest())
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(DecodeError::Invalid("user"))?,
        })
    }
}
