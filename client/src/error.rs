//! What can go wrong, in words for people: each error has a stable code, an exit code and, where there is one, the next step.

use postern_protocol::problem::{Problem, ProblemKind};

/// Every failure of the library. No variant carries a secret, a phone number or a mailbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no profile of this name yet.
    #[error("there is no profile here yet")]
    NoProfile,
    /// A profile of this name exists already.
    #[error("a profile of this name exists already")]
    ProfileExists,
    /// The password does not open the profile.
    #[error("wrong password")]
    WrongPassword,
    /// The profile's rows are not those that were last written (H47).
    #[error("profile is damaged: {0}")]
    ProfileDamaged(&'static str),
    /// The file is older than the one that was last used here.
    #[error("profile is damaged: it is an older copy of itself")]
    ProfileRolledBack,
    /// Another command works on the profile.
    #[error("another postern command is using this profile")]
    ProfileBusy,
    /// The profile cannot be read or written.
    #[error("the profile cannot be read or written: {0}")]
    Storage(String),

    /// Registration has not been begun, or not been finished.
    #[error("this profile has no finished registration")]
    NotRegistered,
    /// The profile has an account already.
    #[error("this profile has an account already")]
    AlreadyRegistered,
    /// A registration is under way and a code is needed to go on.
    #[error("the code from the text is needed")]
    CodeNeeded,
    /// There is no live session.
    #[error("the session has ended")]
    NeedsLogin,
    /// The issuer refused number and password.
    #[error("the login was refused")]
    LoginRefused,

    /// The server could not be reached, or broke off.
    #[error("{host} cannot be reached: {reason}")]
    Network {
        /// Host and port.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// The server answers, but not for now.
    #[error("the server cannot answer for now: {title}")]
    Unavailable {
        /// What it said.
        title: String,
        /// Seconds, if it said when.
        retry_after: Option<u64>,
    },
    /// The server refused.
    #[error("the server refused: {}", words(.0))]
    Refused(Box<Problem>),
    /// The server's answer is not what the protocol says.
    #[error("the server does not follow the protocol: {0}")]
    Misbehaved(&'static str),
    /// A key that was pinned has been replaced.
    #[error("DANGER: {0}")]
    PinChanged(&'static str),
    /// Somebody else answers at the server's address, or the server has another certificate than it should. Nothing was sent.
    #[error("DANGER: the server at {host} is not who its address says: {reason}")]
    WrongServer {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: postern_tls::WrongServer,
    },
    /// An anonymous request has no anonymous way.
    #[error("an anonymous request to {host} would show your address")]
    NotAnonymous {
        /// Host of the request.
        host: String,
    },
    /// An onion service, and no proxy to reach it through.
    #[error("{host} is an onion service: only Tor gets there")]
    OnionWithoutProxy {
        /// Host of the request.
        host: String,
    },
    /// A secret would cross the network in the clear.
    #[error("{host} is not reached over https")]
    InsecureTransport {
        /// Host of the request.
        host: String,
    },

    /// No token is left.
    #[error("no token is left")]
    NoToken {
        /// When the next of those that are out is asked for, Unix seconds.
        next_check: Option<u64>,
    },
    /// Every reply of this epoch to this contact is used.
    #[error("the free replies to this contact are used for now")]
    ReplyLimit {
        /// When the next epoch begins, Unix seconds.
        until: u64,
    },
    /// The look-ups of this time are used. What was found so far is kept.
    #[error("the look-ups for now are used; {left} numbers are still to be looked up")]
    LookupBudget {
        /// When there are new ones, Unix seconds.
        until: u64,
        /// How many numbers are still to be looked up.
        left: usize,
    },
    /// Nobody is listed under the number.
    #[error("nobody is listed under this number")]
    NotListed,
    /// The recipient is blocked.
    #[error("you have blocked this contact")]
    Blocked,
    /// All tokens are bound to another relay.
    #[error("your tokens are for another relay than the recipient's")]
    OtherRelay,
    /// The text does not fit the largest envelope.
    #[error("the text is too long: at most {max} bytes")]
    TextTooLong {
        /// How much fits, bytes.
        max: usize,
    },
    /// The recipient's card does not hold.
    #[error("the card cannot be trusted: {0}")]
    CardInvalid(String),
    /// The card is one's own.
    #[error("this is your own card")]
    OwnCard,

    /// Nothing has this name.
    #[error("there is no {0} like this")]
    NotFound(&'static str),
    /// Several things have this name.
    #[error("more than one {0} begins like this")]
    Ambiguous(&'static str),
    /// The verdict on this message has been carried out and cannot be turned round.
    #[error("the verdict on this message has been carried out already")]
    VerdictDone,
    /// An argument has no meaning.
    #[error("{0}")]
    Invalid(String),
    /// Something that does not happen.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

fn words(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{} ({detail})", problem.title),
        None => problem.title.clone(),
    }
}

impl Error {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoProfile => "no-profile",
            Self::ProfileExists => "profile-exists",
            Self::WrongPassword => "wrong-password",
            Self::ProfileDamaged(_) => "profile-damaged",
            Self::ProfileRolledBack => "profile-rolled-back",
            Self::ProfileBusy => "profile-busy",
            Self::Storage(_) => "storage",
            Self::NotRegistered => "not-registered",
            Self::AlreadyRegistered => "already-registered",
            Self::CodeNeeded => "code-needed",
            Self::NeedsLogin => "needs-login",
            Self::LoginRefused => "login-refused",
            Self::Network { .. } => "network",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused(_) => "refused",
            Self::Misbehaved(_) => "server-misbehaved",
            Self::PinChanged(_) => "pin-changed",
            Self::WrongServer { .. } => "wrong-server",
            Self::NotAnonymous { .. } => "not-anonymous",
            Self::OnionWithoutProxy { .. } => "onion-without-proxy",
            Self::InsecureTransport { .. } => "insecure-transport",
            Self::NoToken { .. } => "no-token",
            Self::ReplyLimit { .. } => "reply-limit",
            Self::LookupBudget { .. } => "lookup-budget",
            Self::NotListed => "not-listed",
            Self::Blocked => "blocked",
            Self::OtherRelay => "other-relay",
            Self::TextTooLong { .. } => "text-too-long",
            Self::CardInvalid(_) => "card-invalid",
            Self::OwnCard => "own-card",
            Self::NotFound(_) => "not-found",
            Self::Ambiguous(_) => "ambiguous",
            Self::VerdictDone => "verdict-done",
            Self::Invalid(_) => "invalid",
            Self::Internal(_) => "internal",
        }
    }

    /// What the command exits with; `postern --help` lists them.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Internal(_) | Self::Storage(_) => 1,
            Self::Invalid(_) | Self::TextTooLong { .. } | Self::OwnCard | Self::Blocked => 2,
            Self::NeedsLogin | Self::LoginRefused => 3,
            Self::WrongPassword | Self::ProfileDamaged(_) | Self::ProfileRolledBack => 4,
            Self::Network { .. } | Self::Unavailable { .. } => 5,
            Self::Refused(_) | Self::VerdictDone => 6,
            Self::NoToken { .. } | Self::OtherRelay | Self::ReplyLimit { .. } | Self::LookupBudget { .. } => 7,
            Self::NotAnonymous { .. } | Self::OnionWithoutProxy { .. } | Self::InsecureTransport { .. } => 8,
            Self::NoProfile
            | Self::ProfileExists
            | Self::NotRegistered
            | Self::AlreadyRegistered
            | Self::CodeNeeded => 9,
            Self::ProfileBusy => 10,
            Self::NotFound(_) | Self::Ambiguous(_) | Self::NotListed => 11,
            Self::Misbehaved(_) | Self::PinChanged(_) | Self::WrongServer { .. } => 12,
            Self::CardInvalid(_) => 13,
        }
    }

    /// What to do next, where that is clear.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoProfile => "begin with: postern register +41791234567 --issuer https://…",
            Self::ProfileExists => "take another name with --profile NAME",
            Self::WrongPassword => "try again; the password is the one that you chose at `postern register`",
            Self::ProfileDamaged(_) => {
                "do not go on with this file; restore nothing older, register again under --profile NAME"
            }
            Self::ProfileRolledBack => {
                "tokens and message keys used since would be used twice: register again under --profile NAME"
            }
            Self::ProfileBusy => "wait for the other command, or stop it",
            Self::NotRegistered => "begin with `postern register`, or go on with `postern verify CODE`",
            Self::AlreadyRegistered => "for another account take --profile NAME",
            Self::CodeNeeded => "run `postern verify CODE` with the digits of the text",
            Self::NeedsLogin => "run `postern login`",
            Self::LoginRefused => "check the password; after several attempts wait a few minutes",
            Self::Network { .. } => "check the connection and repeat the command: nothing is done twice",
            Self::Unavailable { retry_after, .. } => return Some(again(*retry_after)),
            Self::Refused(problem) => return refused_hint(problem),
            Self::Misbehaved(_) => "tell its operator; nothing of yours was lost",
            Self::PinChanged(_) => {
                "do not go on: either the server or the way to it is not what it was; ask its operator"
            }
            Self::WrongServer {
                reason: postern_tls::WrongServer::Expired | postern_tls::WrongServer::NotYetValid,
                ..
            } => "nothing was sent; check this machine's clock, and if it is right tell the server's operator",
            Self::WrongServer { .. } => {
                "nothing was sent: somebody may stand in between; ask the server's operator for its address, over a way that you trust"
            }
            Self::NotAnonymous { .. } => {
                "start Tor and run `postern settings --proxy socks5h://127.0.0.1:9050`, or accept that the relay sees your \
                 address with `postern settings --direct`"
            }
            Self::OnionWithoutProxy { .. } => {
                "start Tor and run `postern settings --proxy socks5h://127.0.0.1:9050` (at `postern register`: add --proxy to it)"
            }
            Self::InsecureTransport { .. } => "use the server's https:// address",
            Self::NoToken { .. } => {
                "tokens come back when recipients release them: see `postern tokens`, and let `postern sync` ask for them"
            }
            Self::ReplyLimit { .. } => "wait for the next epoch, or spend a token on it with --spend-token",
            Self::LookupBudget { .. } => "repeat the command then: what was looked up is kept and costs nothing again",
            Self::NotListed => {
                "they may have no account, or not want to be found, or be new: ask them for their card link"
            }
            Self::Blocked => "take them up again with `postern unblock`",
            Self::OtherRelay => {
                "ask the recipient for a card at your relay; tokens move between relays in a later version"
            }
            Self::TextTooLong { .. } => "send it in parts",
            Self::CardInvalid(_) => "ask the recipient for a fresh card, over a way that you trust",
            Self::NotFound("contact") => "see `postern contacts`; a request becomes a contact by `postern accept ID`",
            Self::NotFound("message") => "see `postern inbox` and `postern inbox --junk`",
            Self::NotFound("session") => "see `postern sessions`",
            Self::Ambiguous(_) => "write more of it",
            Self::OwnCard
            | Self::VerdictDone
            | Self::Invalid(_)
            | Self::Storage(_)
            | Self::Internal(_)
            | Self::NotFound(_) => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same request may succeed later by itself.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Unavailable { .. } => true,
            Self::Refused(problem) => matches!(
                problem.known_kind(),
                Some(ProblemKind::RateLimited | ProblemKind::ExchangeBudget | ProblemKind::Timeout)
            ),
            _ => false,
        }
    }

    /// From when on (Unix seconds) it is worth trying again, where that is known.
    pub const fn again_at(&self) -> Option<u64> {
        match self {
            Self::ReplyLimit { until } | Self::LookupBudget { until, .. } => Some(*until),
            Self::NoToken { next_check } => *next_check,
            _ => None,
        }
    }

    /// The kind of a refusal.
    pub fn refusal(&self) -> Option<ProblemKind> {
        match self {
            Self::Refused(problem) => problem.known_kind(),
            _ => None,
        }
    }
}

fn again(retry_after: Option<u64>) -> String {
    match retry_after {
        Some(seconds) => format!("repeat the command in {seconds} seconds: nothing is done twice"),
        None => "repeat the command in a while: nothing is done twice".to_owned(),
    }
}

fn refused_hint(problem: &Problem) -> Option<String> {
    let text = match problem.known_kind()? {
        ProblemKind::CodeWrong => "look at the text again and run `postern verify CODE`",
        ProblemKind::CookieExpired | ProblemKind::CookieInvalid | ProblemKind::RegistrationConflict => {
            "ask for a new code: run `postern register` again"
        }
        ProblemKind::PhoneInvalid => "write the number in international form, like +41791234567",
        ProblemKind::MailboxUnknown | ProblemKind::CardUnknown => "ask the recipient for a current card",
        ProblemKind::MailboxFull
        | ProblemKind::RateLimited
        | ProblemKind::TextFailed
        | ProblemKind::TextLimit
        | ProblemKind::TextBudget
        | ProblemKind::ExchangeBudget => return Some(again(problem.retry_after)),
        ProblemKind::PhoneRefused => "register with another number, or at another issuer",
        ProblemKind::TextUndeliverable => "try a call with --voice, or another number",
        ProblemKind::VoiceUnavailable => "ask for a text: run it without --voice",
        ProblemKind::TokenInvalid => "the token's key may have been retired: run `postern sync`, then `postern tokens`",
        ProblemKind::ReplyInvalid => {
            "the recipient's reply keys have changed: send it again, which costs a token and brings new credentials"
        }
        ProblemKind::ReplyUsed => "an older copy of this profile wrote by the same slot: send it again",
        ProblemKind::ReplyEpoch => "check this machine's clock",
        ProblemKind::LookupWindow => "check this machine's clock",
        ProblemKind::LookupTokenUsed => "an older copy of this profile used these look-ups: repeat the command",
        ProblemKind::LookupQuota => return Some(again(problem.retry_after)),
        ProblemKind::StrikeLimit => "fewer lists are kept if you block with --reveal",
        ProblemKind::Unauthorized => "run `postern login`",
        _ => return None,
    };
    Some(text.to_owned())
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::ProfileDamaged("the file is not a sound database")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::ProfileBusy,
            Some(ErrorCode::DiskFull) => Self::Storage("the disk is full".to_owned()),
            _ => Self::Storage(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_its_reason_and_when_to_come_back() {
        let problem = Problem::new(ProblemKind::MailboxFull).retry_after(60);
        let error = Error::Refused(Box::new(problem));
        assert_eq!(error.to_string(), "the server refused: The mailbox is full.");
        assert!(error.hint().unwrap().contains("60 seconds"));
        assert_eq!(error.exit_code(), 6);
    }
}
