//! The client's side of the login.

use std::fmt;

use postern_protocol::ids::{LoginSalt, LoginVerifier, Mac, PhoneNumber, SigningPublicKey};
use postern_protocol::login::{
    CHAIN_N, ChallengeRequest, ChallengeResponse, LoginRequest, LoginResponse, MAX_M, MIN_M,
};
use postern_protocol::register::LoginEnrolment;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;

use super::{
    Exchange, KdfError, Keys, MAX_LABEL, MAX_NONCE, chain, chain_start, diffie_hellman, effective_salt, public_of,
};
use crate::identity;
use crate::session::SessionKey;

/// Salt and verifier for an account that is being made (K7). Takes about 20 ms.
///
/// # Errors
/// [`KdfError`] if the password cannot be hashed.
pub fn client_enrol(
    rng: &mut impl CryptoRng,
    issuer: &str,
    user: &PhoneNumber,
    password: &str,
) -> Result<LoginEnrolment, KdfError> {
    let mut salt = LoginSalt([0; LoginSalt::LEN]);
    rng.fill_bytes(&mut salt.0);
    let bound = effective_salt(issuer, user, &salt);
    let verifier = chain(&*chain_start(password, &bound)?, &bound, CHAIN_N);
    Ok(LoginEnrolment { salt, verifier: LoginVerifier::new(*verifier) })
}

/// Why the client does not answer a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// M is not beyond the verifier: answering would give away a verifier for less work (K16).
    #[error("the server asks for fewer steps than allowed")]
    TooFewSteps,
    /// M would burn more work than a login is worth.
    #[error("the server asks for more steps than allowed")]
    TooManySteps,
    /// The nonce is longer than [`MAX_NONCE`].
    #[error("the challenge is malformed")]
    Malformed,
    /// Not signed by the issuer's pinned key for this very request.
    #[error("the challenge is not signed by the issuer")]
    BadSignature,
    /// The server's ephemeral key forces a known secret.
    #[error("the server's key is not acceptable")]
    WeakKey,
    /// The label of the session is longer than [`MAX_LABEL`].
    #[error("the session's label is too long")]
    Label,
    /// The password could not be hashed.
    #[error(transparent)]
    Kdf(#[from] KdfError),
}

/// A login that waits for the challenge. Good for one answer: the ephemeral key goes with it.
pub struct ClientLogin {
    request: ChallengeRequest,
    ephemeral: StaticSecret,
}

impl ClientLogin {
    /// Begins a login: the request to send, and what to keep.
    pub fn begin(rng: &mut impl CryptoRng, user: PhoneNumber) -> (ChallengeRequest, Self) {
        let ephemeral = StaticSecret::random_from_rng(rng);
        let request = ChallengeRequest { user, client_ephemeral: public_of(&ephemeral) };
        (request.clone(), Self { request, ephemeral })
    }

    /// Checks the challenge against the issuer's `pinned` key, walks the chain to M and makes the proof. Takes 15 to 40 ms.
    ///
    /// The challenge's `expires` is not compared with our clock, which may be wrong: our own ephemeral key is under the
    /// signature, so it cannot be an old one.
    ///
    /// # Errors
    /// [`LoginError`]; everything but [`LoginError::Kdf`] is decided before the password is touched.
    pub fn answer(
        self,
        issuer: &str,
        pinned: &SigningPublicKey,
        password: &str,
        response: &ChallengeResponse,
        label: &str,
    ) -> Result<(LoginRequest, PendingLogin), LoginError> {
        check_bounds(response, label)?;
        let exchange = Exchange::of(issuer, &self.request, response);
        identity::verify_transcript(pinned, &exchange.signed_part(), &response.signature)
            .map_err(|_| LoginError::BadSignature)?;
        let dh = diffie_hellman(&self.ephemeral, &response.server_ephemeral).ok_or(LoginError::WeakKey)?;

        let user = &self.request.user;
        let salt = effective_salt(issuer, user, &response.salt);
        let c_m = chain(&*chain_start(password, &salt)?, &salt, response.m);
        let keys = exchange.keys(&c_m, &dh, label);
        let proof = keys.client_proof(user);
        let request =
            LoginRequest { user: user.clone(), nonce: response.nonce.clone(), proof, label: label.to_owned() };
        Ok((request, PendingLogin(keys)))
    }
}

/// The bounds come first: a forged challenge must not cost work, nor get an answer for less of it than was enrolled.
fn check_bounds(response: &ChallengeResponse, label: &str) -> Result<(), LoginError> {
    if response.m < MIN_M {
        return Err(LoginError::TooFewSteps);
    }
    if response.m > MAX_M {
        return Err(LoginError::TooManySteps);
    }
    if response.nonce.0.len() > MAX_NONCE {
        return Err(LoginError::Malformed);
    }
    if label.len() > MAX_LABEL { Err(LoginError::Label) } else { Ok(()) }
}

impl fmt::Debug for ClientLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientLogin(secret)")
    }
}

/// The server did not prove that it knows the verifier: not the server, or another session was put into its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server did not prove itself")]
pub struct ServerProofWrong;

/// A login that waits for the server's proof.
pub struct PendingLogin(Keys);

impl PendingLogin {
    /// Checks the server's proof over the session id; only then there is a session.
    ///
    /// # Errors
    /// [`ServerProofWrong`] if it does not verify.
    pub fn finish(self, response: &LoginResponse) -> Result<SessionKey, ServerProofWrong> {
        let Mac(expected) = self.0.server_proof(&response.session);
        if bool::from(expected.ct_eq(&response.proof.0)) { Ok(self.0.session_key()) } else { Err(ServerProofWrong) }
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingLogin(secret)")
    }
}
