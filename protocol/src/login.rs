//! Login (K1–K18, design §4), session-signed calls, and the short-lived JWTs that sessions are exchanged for.

use serde::{Deserialize, Serialize};

use crate::ids::{CallNonce, DhPublicKey, LoginSalt, Mac, PhoneNumber, SessionId, Signature};

/// `POST` [`ChallengeRequest`] → [`ChallengeResponse`].
pub const CHALLENGE_PATH: &str = "/v1/login/challenge";
/// `POST` [`LoginRequest`] → [`LoginResponse`].
pub const LOGIN_PATH: &str = "/v1/login";
/// Session-signed `POST` [`JwtRequest`] → [`JwtResponse`].
pub const JWT_PATH: &str = "/v1/sessions/token";
/// Session-signed `GET` → [`Sessions`].
pub const SESSIONS_PATH: &str = "/v1/sessions";
/// Session-signed `POST` [`RevokeRequest`] → 204.
pub const REVOKE_PATH: &str = "/v1/sessions/revoke";
/// Session-signed `GET` → [`Account`]; session-signed `DELETE` → 204: the account is gone, and its sessions with it.
pub const ACCOUNT_PATH: &str = "/v1/account";

/// N: where on the chain the server's verifier sits (K7).
pub const CHAIN_N: u32 = 20_000;
/// The least M that a client answers: one step beyond the verifier, so that a forged challenge cannot ask for less work (K16).
pub const MIN_M: u32 = CHAIN_N + 1;
/// The greatest M that a client answers: 19 ms of chain on the machines of 2026; more would be a way to burn its battery.
pub const MAX_M: u32 = 100_000;

/// Asks for a challenge (K8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    /// The login name: the phone number.
    pub user: PhoneNumber,
    /// Fresh for this login.
    pub client_ephemeral: DhPublicKey,
}

/// Looks the same whether the user exists or not. The signature covers the request as well: see docs/protocol.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeResponse {
    /// The user's salt.
    pub salt: LoginSalt,
    /// M > N: how far to walk the chain.
    pub m: u32,
    /// Single use; opaque, at most 256 bytes. All that the server needs later is sealed inside.
    pub nonce: crate::ids::Base64,
    /// Fresh for this login.
    pub server_ephemeral: DhPublicKey,
    /// When the nonce expires, Unix seconds.
    pub expires: u64,
    /// By the issuer's pinned key.
    pub signature: Signature,
}

/// Proves knowledge of the password (K10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The login name.
    pub user: PhoneNumber,
    /// From the challenge.
    pub nonce: crate::ids::Base64,
    /// `HMAC-SHA-256(k_client, "user=" ‖ user ‖ "&sign")`.
    pub proof: Mac,
    /// What the user will see in the list of sessions; at most 64 bytes of UTF-8.
    pub label: String,
}

/// The server's own proof, and the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResponse {
    /// `HMAC-SHA-256(k_server, "session=" ‖ session id)`.
    pub proof: Mac,
    /// Names the session in signed calls.
    pub session: SessionId,
    /// When it ends at the latest, Unix seconds.
    pub expires: u64,
}

/// Scheme of the `Authorization` header of a session-signed call.
pub const SESSION_SCHEME: &str = "PosternSession";
/// Header of the answer to a session-signed call: base64url of a 32-byte tag over request tag, status and body.
pub const SESSION_REPLY_HEADER: &str = "postern-session-mac";

/// `Authorization: PosternSession id=…, seq=…, mac=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCall {
    /// Which session.
    pub session: SessionId,
    /// Strictly increasing per session: what makes a replay useless.
    pub seq: u64,
    /// Over method, path and query, `seq` and body.
    pub mac: Mac,
}

impl std::fmt::Display for SessionCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SESSION_SCHEME} id={}, seq={}, mac={}", self.session, self.seq, self.mac)
    }
}

impl SessionCall {
    /// Reads the header's value; `None` if it is anything else.
    pub fn parse(value: &str) -> Option<Self> {
        let params = value.strip_prefix(SESSION_SCHEME)?.strip_prefix(' ')?;
        let mut parts = params.split(", ");
        let session = parts.next()?.strip_prefix("id=")?.parse().ok()?;
        let seq_text = parts.next()?.strip_prefix("seq=")?;
        let seq: u64 = seq_text.parse().ok()?;
        let mac = parts.next()?.strip_prefix("mac=")?.parse().ok()?;
        // One spelling per number: no plus sign, no leading zeros.
        (parts.next().is_none() && seq.to_string() == seq_text).then_some(Self { session, seq, mac })
    }
}

/// For whom a JWT shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JwtAudience {
    /// The issuer's own bearer endpoints (token requests).
    Issuer,
    /// The relay of the account's mailbox; the subject is the mailbox id and nothing of the account.
    Relay,
}

/// Exchanges the session for a JWT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtRequest {
    /// For whom.
    pub audience: JwtAudience,
}

/// A bearer token: to be sent over TLS or loopback only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtResponse {
    /// EdDSA-signed JWT (RFC 7519, RFC 8037).
    pub jwt: String,
    /// When it expires, Unix seconds.
    pub expires: u64,
}

impl std::fmt::Debug for JwtResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtResponse").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// One live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Its id.
    pub session: SessionId,
    /// As given at login.
    pub label: String,
    /// When it began, Unix seconds.
    pub created: u64,
    /// When it last called, Unix seconds.
    pub last_used: u64,
    /// When it ends, Unix seconds.
    pub expires: u64,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// All live sessions of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Newest first.
    pub sessions: Vec<SessionEntry>,
}

/// Ends a session, one's own included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Which.
    pub session: SessionId,
}

/// What the issuer knows about the account that its owner may want to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Tokens signed so far.
    pub tokens_issued: u32,
    /// Of how many.
    pub tokens_per_account: u32,
    /// Until when the rest can be asked for, Unix seconds.
    pub setup_until: u64,
    /// When the certificate expires, Unix seconds.
    pub certificate_expires: u64,
    /// Whether it can be found by its number ([`crate::directory::LISTING_PATH`]).
    pub listed: bool,
}

/// What a JWT of ours says (RFC 7519 §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The issuer's name.
    pub iss: String,
    /// The issuer's or the relay's name.
    pub aud: String,
    /// Account id (audience issuer) or mailbox id (audience relay), base64url.
    pub sub: String,
    /// What it may be used for.
    pub purpose: Purpose,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Expires at, Unix seconds.
    pub exp: u64,
    /// Unique.
    pub jti: CallNonce,
    /// Only on grants: an older mailbox of the same number, which the relay closes when it opens the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<crate::ids::MailboxId>,
}

/// One purpose per JWT: a grant does not read mail, and a reader's JWT opens no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Token requests at the issuer.
    Issuance,
    /// Opening a mailbox at a relay.
    Grant,
    /// Reading, acknowledging, releasing at a relay.
    Mailbox,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_header_has_exactly_one_spelling() {
        let call = SessionCall { session: SessionId([1; 16]), seq: 7, mac: Mac([2; 32]) };
        let text = call.to_string();
        assert_eq!(SessionCall::parse(&text), Some(call));
        for other in [
            text.replace("seq=7", "seq=07"),
            text.replace("seq=7", "seq=+7"),
            format!("{text}, x=1"),
            text.replace("PosternSession", "Bearer"),
        ] {
            assert_eq!(SessionCall::parse(&other), None, "{other}");
        }
    }
}
