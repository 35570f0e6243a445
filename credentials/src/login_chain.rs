//! Login (K1–K18, design §4): a hash chain from the password, a signed challenge, X25519, and proofs both ways.
//!
//! # Roles and steps
//!
//! 1. **Enrolment.** The client draws a salt and sends `H = c_N`, N = [`CHAIN_N`] (K7):
//!    `salt' = SHA-256(lp("postern/login-salt/v1") ‖ lp(issuer) ‖ lp(user) ‖ salt)`, `c_0 = Argon2id(password, salt')`,
//!    `c_{j+1} = HMAC-SHA-256(c_j, "step" ‖ salt')`. The chain composes, `kdf(kdf(p, N), M−N) = kdf(p, M)`, which
//!    PBKDF2 and Argon2 alone do not (K15). The password and `c_0` never leave the client (K6).
//! 2. **Challenge.** [`ClientLogin::begin`] sends the user and a fresh X25519 key. [`ServerLogin::challenge`] answers with salt, some
//!    M > N, a sealed nonce and its own fresh key, signed over everything including the client's key (K8, K11, K16).
//! 3. **Proof.** [`ClientLogin::answer`] checks the signature and that M is within bounds *before* any work, walks the chain to
//!    `c_M`, and proves itself under a key of (c_M, dh, transcript) (K9, K10).
//! 4. **Session.** [`ServerLogin::open_nonce`] and [`ServerLogin::verify`] walk the rest M−N of the chain from the stored verifier,
//!    check the proof and answer with the server's own, over the session's id. [`PendingLogin::finish`] checks that one.
//!
//! # What each party cannot learn
//!
//! - Who listens sees no more than salt, M, ephemeral keys and tags under a key that contains an X25519 secret: nothing to
//!   try passwords on. Who impersonates the server needs the issuer's signing key.
//! - Who asks cannot tell whether a user exists: salt and verifier of an unknown user come from a PRF, and all work is done alike.
//! - Who steals the verifier *and* the key it is sealed with can log in (K16). It is as good as the password here, and
//!   nowhere else: issuer and user are in the salt. SCRAM has the same limit in another place; OPAQUE has not.

mod client;
mod server;

use argon2::{Algorithm, Argon2, Params, Version};
use postern_protocol::ids::{DhPublicKey, LoginSalt, Mac, PhoneNumber, SessionId};
use postern_protocol::login::{CHAIN_N, ChallengeRequest, ChallengeResponse};
use zeroize::Zeroizing;

pub use self::client::{ClientLogin, LoginError, PendingLogin, ServerProofWrong, client_enrol};
pub use self::server::{CHALLENGE_SECONDS, NonceError, OpenedNonce, Refused, ServerLogin};
use crate::session::SessionKey;
use crate::transcript::{Transcript, hkdf_expand, hkdf_extract, hmac_iterated, hmac_sha256};

/// The longest nonce that either side looks at, bytes.
pub const MAX_NONCE: usize = 256;
/// The longest label of a session, bytes of UTF-8.
pub const MAX_LABEL: usize = 64;

/// Argon2id with the first set of parameters that OWASP recommends: 19 MiB, two passes, one lane.
const ARGON2_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;

type ChainValue = Zeroizing<[u8; 32]>;

/// The password could not be hashed: longer than 4 GiB, or no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password cannot be hashed")]
pub struct KdfError;

/// Binds the user's salt to issuer and user, so that one password has unrelated chains everywhere.
fn effective_salt(issuer: &str, user: &PhoneNumber, salt: &LoginSalt) -> [u8; 32] {
    Transcript::new("postern/login-salt/v1")
        .field(issuer.as_bytes())
        .field(user.as_str().as_bytes())
        .fixed(&salt.0)
        .sha256()
}

/// `c_0`.
fn chain_start(password: &str, salt: &[u8; 32]) -> Result<ChainValue, KdfError> {
    let params = Params::new(ARGON2_KIB, ARGON2_PASSES, 1, Some(32)).map_err(|_| KdfError)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, out.as_mut_slice())
        .map_err(|_| KdfError)?;
    Ok(out)
}

/// `c_{j+steps}` from `c_j`.
fn chain(from: &[u8; 32], salt: &[u8; 32], steps: u32) -> ChainValue {
    let mut message = [0; 36];
    let (step, rest) = message.split_at_mut(4);
    step.copy_from_slice(b"step");
    rest.copy_from_slice(salt);
    hmac_iterated(from, &message, steps)
}

/// Everything that both sides have said before the proof. The challenge's part of it is what the issuer signs.
struct Exchange<'a> {
    issuer: &'a str,
    user: &'a PhoneNumber,
    client_ephemeral: &'a DhPublicKey,
    salt: &'a LoginSalt,
    m: u32,
    nonce: &'a [u8],
    server_ephemeral: &'a DhPublicKey,
    expires: u64,
}

impl<'a> Exchange<'a> {
    fn of(issuer: &'a str, request: &'a ChallengeRequest, response: &'a ChallengeResponse) -> Self {
        Self {
            issuer,
            user: &request.user,
            client_ephemeral: &request.client_ephemeral,
            salt: &response.salt,
            m: response.m,
            nonce: &response.nonce.0,
            server_ephemeral: &response.server_ephemeral,
            expires: response.expires,
        }
    }

    fn transcript(&self, label: &str) -> Transcript {
        Transcript::new(label)
            .field(self.issuer.as_bytes())
            .field(self.user.as_str().as_bytes())
            .fixed(&self.client_ephemeral.0)
            .fixed(&self.salt.0)
            .u32(self.m)
            .field(self.nonce)
            .fixed(&self.server_ephemeral.0)
            .u64(self.expires)
    }

    /// What the challenge's signature covers.
    fn signed_part(&self) -> Transcript {
        self.transcript("postern/login-challenge/v1")
    }

    /// The keys that both sides arrive at. `session_label` is what the client will see in its list of sessions.
    fn keys(&self, c_m: &[u8; 32], dh: &[u8; 32], session_label: &str) -> Keys {
        let transcript = self.transcript("postern/login-transcript/v1").field(session_label.as_bytes()).sha256();
        let prk = hkdf_extract(&transcript, &[c_m, dh]);
        let key = |name: &[u8]| hkdf_expand(&prk, &[b"postern/login/v1/", name]);
        Keys { client: key(b"client"), server: key(b"server"), session: key(b"session") }
    }
}

struct Keys {
    client: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
    session: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The client's proof (K10).
    fn client_proof(&self, user: &PhoneNumber) -> Mac {
        Mac(hmac_sha256(&self.client, &[b"user=", user.as_str().as_bytes(), b"&sign"]))
    }

    /// The server's proof, over the 16 bytes of the session id.
    fn server_proof(&self, session: &SessionId) -> Mac {
        Mac(hmac_sha256(&self.server, &[b"session=", &session.0]))
    }

    fn session_key(&self) -> SessionKey {
        SessionKey::from_bytes(*self.session)
    }
}

/// X25519 (RFC 7748 §6.1); `None` for the all-zero result that a key of small order forces.
fn diffie_hellman(secret: &x25519_dalek::StaticSecret, public: &DhPublicKey) -> Option<Zeroizing<[u8; 32]>> {
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(public.0));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

fn public_of(secret: &x25519_dalek::StaticSecret) -> DhPublicKey {
    DhPublicKey(x25519_dalek::PublicKey::from(secret).to_bytes())
}

/// How many steps lie between the verifier and `c_m`; `None` if there are none.
fn steps_beyond_verifier(m: u32) -> Option<u32> {
    m.checked_sub(CHAIN_N).filter(|steps| *steps > 0)
}

#[cfg(test)]
mod tests;
