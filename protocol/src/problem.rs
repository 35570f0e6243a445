//! Problem documents (RFC 9457): what both servers answer when they refuse, and what the client reads.

use serde::{Deserialize, Serialize};

/// Media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";
const URN: &str = "urn:postern:problem:";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// Why a request was refused: the stable part of a problem document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $name,)* }

        impl ProblemKind {
            /// All of them, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The last part of the type URN.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// One sentence for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    /// The request is not of the form that the endpoint takes.
    BadRequest = "bad-request", 400, "The request is malformed.";
    /// The body's media type is not the endpoint's.
    UnsupportedMediaType = "unsupported-media-type", 415, "The body has the wrong media type.";
    /// The body is larger than the endpoint takes.
    TooLarge = "too-large", 413, "The request is too large.";
    /// Path and headers are longer than a server reads.
    HeadTooLarge = "head-too-large", 431, "The headers of the request are too large.";
    /// No such endpoint.
    NotFound = "not-found", 404, "There is nothing at this path.";
    /// The endpoint has other methods.
    MethodNotAllowed = "method-not-allowed", 405, "This path does not take this method.";
    /// Too many of these; see `retry-after`.
    RateLimited = "rate-limited", 429, "Too many attempts; try again later.";
    /// Took longer than the server waits.
    Timeout = "timeout", 408, "The request took too long.";
    /// Something failed on our side; the identical request may be repeated.
    Internal = "internal", 500, "The server failed; repeat the identical request.";
    /// The other server cannot be reached or does not answer; the identical request may be repeated.
    Unavailable = "unavailable", 503, "A part of the service is unavailable; repeat the identical request.";
    /// No credential, or one that is not valid here.
    Unauthorized = "unauthorized", 401, "A valid credential is needed.";

    /// Not a phone number that exists.
    PhoneInvalid = "phone-invalid", 400, "This is not a valid phone number.";
    /// A number of a kind or country that this issuer does not serve.
    PhoneRefused = "phone-refused", 403, "This issuer does not serve this phone number.";
    /// No gateway took the text for now; see `retry-after`.
    TextFailed = "text-failed", 503, "The code could not be sent.";
    /// Every gateway that serves the number's country says that it cannot be reached.
    TextUndeliverable = "text-undeliverable", 403, "This phone number cannot be sent a code.";
    /// The number, or its neighbours together, have had their texts; see `retry-after`.
    TextLimit = "text-limit", 429, "Enough codes have been sent to this number, or to numbers like it.";
    /// The issuer has sent as many texts as its operator pays for; see `retry-after`.
    TextBudget = "text-budget", 503, "This issuer sends no more codes for now.";
    /// No gateway places calls to this number.
    VoiceUnavailable = "voice-unavailable", 403, "This issuer places no calls to this phone number.";
    /// The cookie was not made here, or for another number or key.
    CookieInvalid = "cookie-invalid", 400, "The registration cookie is not valid for this request.";
    /// The cookie is too old; ask for another code.
    CookieExpired = "cookie-expired", 403, "The code has expired; ask for a new one.";
    /// The digits are wrong.
    CodeWrong = "code-wrong", 403, "The code is wrong.";
    /// Not a PKCS#10 request with proof of possession of the cookie's key.
    CertificateRequestInvalid = "certificate-request-invalid", 400, "The certificate request is not acceptable.";
    /// This cookie has made an account with another request already.
    RegistrationConflict = "registration-conflict", 409, "This code was used with another request.";
    /// The account has had its tokens (M6).
    AllowanceExhausted = "allowance-exhausted", 403, "This account has had all its tokens.";
    /// The time for asking for the rest of the five is over.
    SetupOver = "setup-over", 403, "The set-up time of this account is over.";
    /// The key signs no more; take the active one from the directory.
    KeyNotActive = "key-not-active", 409, "This token key does not sign any more.";

    /// Wrong password, unknown user, used or stale nonce: one answer for all.
    LoginRefused = "login-refused", 401, "The login was refused.";
    /// A session-signed call came twice or out of order.
    CallReplayed = "call-replayed", 409, "This call's number has been used; sign it again with a higher one.";

    /// A token is needed, of the challenge in `WWW-Authenticate`.
    TokenRequired = "token-required", 401, "A token is needed.";
    /// The token is malformed, of another key, for another relay, or not signed.
    TokenInvalid = "token-invalid", 401, "The token is not valid here.";
    /// The token was spent on another message.
    TokenAttached = "token-attached", 409, "This token is attached to another message.";
    /// Not a presentation of this mailbox's group, or of a key that the relay has not.
    ReplyInvalid = "reply-invalid", 401, "The reply credential is not valid here.";
    /// The slot was used for another message in this epoch.
    ReplyUsed = "reply-used", 409, "This reply credential was used for another message.";
    /// The epoch is over, or has not begun; see `retry-after`.
    ReplyEpoch = "reply-epoch", 403, "This reply credential is for another time.";
    /// This version of the reply key has another secret.
    ReplyKeyConflict = "reply-key-conflict", 409, "This version of the reply key is taken.";
    /// The relay keeps no more strikes for a mailbox.
    StrikeLimit = "strike-limit", 403, "The relay keeps no more strikes for this mailbox.";
    /// No mailbox has this id.
    MailboxUnknown = "mailbox-unknown", 404, "There is no such mailbox.";
    /// The mailbox holds as much as it may; see `retry-after`.
    MailboxFull = "mailbox-full", 429, "The mailbox is full.";
    /// The envelope is not of one of the size classes.
    EnvelopeSize = "envelope-size", 400, "An envelope has one of the published sizes.";
    /// No card has been published for this mailbox.
    CardUnknown = "card-unknown", 404, "There is no card for this mailbox.";
    /// This batch of prekeys, or a later one, is there already, and this is another upload.
    PrekeyBatch = "prekey-batch", 409, "This batch of prekeys was uploaded before.";
    /// The message was marked as spam, which is for ever.
    BurntForEver = "burnt", 409, "This message was reported as spam before.";
    /// The recipient has not released the token (yet, or ever: one answer for both).
    NotReleased = "not-released", 409, "The token has not been released.";
    /// The token was exchanged for another blinded message.
    AlreadyExchanged = "already-exchanged", 409, "This token has been exchanged.";
    /// `r` is not the secret behind the token's nonce.
    RefundSecretWrong = "refund-secret-wrong", 403, "The refund secret does not belong to this token.";
    /// The issuer signs no more exchanges for this relay in this key epoch.
    ExchangeBudget = "exchange-budget", 503, "The exchange budget of this relay is used up for now.";

    /// A look-up token is malformed, of another key, for another issuer, or made up.
    LookupTokenInvalid = "lookup-token-invalid", 403, "A look-up token is not valid here.";
    /// A look-up token was spent in another request; nothing of this one was spent.
    LookupTokenUsed = "lookup-token-used", 409, "A look-up token was used in another request.";
    /// The account has had its look-up tokens for this window; see `retry-after`.
    LookupQuota = "lookup-quota", 429, "This account has had its look-up tokens for now.";
    /// The window is over, or has not begun; its tokens are worth nothing (now).
    LookupWindow = "lookup-window", 403, "These look-up tokens are for another time.";
}

impl ProblemKind {
    /// The type URN (RFC 9457 §3.1.1).
    pub fn urn(self) -> String {
        format!("{URN}{}", self.slug())
    }

    /// From a type URN; `None` for types that this version does not know.
    pub fn from_urn(urn: &str) -> Option<Self> {
        let slug = urn.strip_prefix(URN)?;
        Self::ALL.iter().copied().find(|kind| kind.slug() == slug)
    }
}

/// A problem document (RFC 9457 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// A URN of ours.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence that goes with the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time; never repeats secrets or identifiers of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds until it is worth trying again; also in the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A document of this kind without detail.
    pub fn new(kind: ProblemKind) -> Self {
        Self {
            kind: kind.urn(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: None,
            retry_after: None,
        }
    }

    /// Adds what was wrong this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds when to try again, in seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The kind, if this version knows it.
    pub fn known_kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_urn(&self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_urn_and_an_error_status() {
        let mut slugs: Vec<_> = ProblemKind::ALL.iter().map(|k| k.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!((400..600).contains(&kind.status()));
            assert_eq!(ProblemKind::from_urn(&kind.urn()), Some(*kind));
        }
    }
}
