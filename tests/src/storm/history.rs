//! What the people of a storm did and were told, in a form that can be checked, shortened and printed.

use std::collections::BTreeMap;
use std::fmt;

use postern_protocol::problem::ProblemKind;

/// Stands for a token, an envelope, a mailbox or whatever else has a name: the first eight bytes of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl Id {
    /// Of a name of eight bytes or more, of which all are random.
    pub fn of(name: &[u8]) -> Self {
        Self(u64::from_be_bytes(name[..8].try_into().unwrap()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Microseconds since the storm began, by the one clock of those who take part.
pub type Moment = u64;

/// One operation of one account. The identical request was repeated until it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The account.
    pub who: u32,
    /// Before the first request left.
    pub began: Moment,
    /// After the last answer was there.
    pub ended: Moment,
    /// How often the request was sent without an answer that counts: what became of those nobody was told.
    pub unanswered: u32,
    /// What was asked for.
    pub act: Act,
    /// What was answered in the end.
    pub outcome: Outcome,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Confirmed.
    Done,
    /// Refused, for this reason.
    Refused(ProblemKind),
    /// No answer came for as long as anybody waits.
    Unknown,
}

/// What a message is paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// A `send` token.
    Token(Id),
    /// A slot of a reply credential.
    Slot {
        /// Whose credential.
        contact: Id,
        /// Which slot, in which epoch.
        slot: Id,
    },
}

impl Right {
    /// The token or the slot.
    pub const fn id(self) -> Id {
        match self {
            Self::Token(id) | Self::Slot { slot: id, .. } => id,
        }
    }
}

/// What a recipient says of a message's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes back.
    Release,
    /// It comes back, too.
    Decline,
    /// It is burnt.
    Spam,
}

impl Verdict {
    /// Whether the token comes back.
    pub const fn returns(self) -> bool {
        !matches!(self, Self::Spam)
    }
}

/// A message as a mailbox shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub message: Id,
    /// What is in it.
    pub envelope: Id,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Registers, or asks for tokens otherwise.
    Issue {
        /// Those that came of it.
        tokens: Vec<Id>,
    },
    /// Opens a mailbox.
    Open {
        /// Which.
        mailbox: Id,
        /// The one that it replaces.
        closes: Option<Id>,
    },
    /// Sends a message, cold or as a reply.
    Send {
        /// The mailbox.
        to: Id,
        /// The message.
        envelope: Id,
        /// What pays.
        right: Right,
        /// How the relay named it.
        message: Option<Id>,
    },
    /// Looks into the own mailbox.
    Read {
        /// Which.
        mailbox: Id,
        /// What is there, in this order.
        shown: Vec<Shown>,
        /// Whether that is all.
        whole: bool,
    },
    /// Acknowledges one message.
    Ack {
        /// Whose.
        mailbox: Id,
        /// Which.
        message: Id,
    },
    /// Says what is to become of one message's token.
    Judge {
        /// Whose.
        mailbox: Id,
        /// Which.
        message: Id,
        /// What.
        verdict: Verdict,
    },
    /// Exchanges a token.
    Exchange {
        /// The old one.
        old: Id,
        /// The blinded message.
        blinded: Id,
        /// The new one.
        fresh: Option<Id>,
        /// Whether the old one's key was known to be retired: then it need not have been spent.
        retiring: bool,
    },
    /// Strikes a contact.
    Strike {
        /// Of this mailbox.
        mailbox: Id,
        /// Who.
        contact: Id,
    },
    /// Uploads prekeys.
    Stock {
        /// Of this mailbox.
        mailbox: Id,
        /// These.
        prekeys: Vec<Id>,
    },
    /// Claims a prekey.
    Claim {
        /// Of this mailbox.
        mailbox: Id,
        /// By this claim.
        claim: Id,
        /// What was got, if there was one.
        prekey: Option<Id>,
    },
    /// Looks numbers up.
    LookUp {
        /// The request.
        request: Id,
        /// What pays.
        tokens: Vec<Id>,
        /// Of each number the answer, under this key.
        answers: Vec<(u32, Id)>,
        /// The key that numbers are evaluated with.
        epoch: u32,
    },
}

impl Act {
    /// One word for it, for the figures at the end.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Open { .. } => "open",
            Self::Send { right: Right::Token(_), .. } => "send",
            Self::Send { .. } => "reply",
            Self::Read { .. } => "read",
            Self::Ack { .. } => "ack",
            Self::Judge { verdict: Verdict::Release, .. } => "release",
            Self::Judge { verdict: Verdict::Decline, .. } => "decline",
            Self::Judge { .. } => "spam",
            Self::Exchange { .. } => "exchange",
            Self::Strike { .. } => "strike",
            Self::Stock { .. } => "stock",
            Self::Claim { .. } => "claim",
            Self::LookUp { .. } => "look-up",
        }
    }

    /// Every name in it, but those of mailboxes: what two events have in common is the same token or the same message.
    pub fn names(&self) -> Vec<Id> {
        match self {
            Self::Issue { tokens } => tokens.clone(),
            Self::Open { mailbox, closes } => [*mailbox].into_iter().chain(*closes).collect(),
            Self::Send { envelope, right, message, .. } => {
                let contact = if let Right::Slot { contact, .. } = right { Some(*contact) } else { None };
                [*envelope, right.id()].into_iter().chain(*message).chain(contact).collect()
            }
            Self::Read { shown, .. } => shown.iter().flat_map(|shown| [shown.message, shown.envelope]).collect(),
            Self::Ack { message, .. } | Self::Judge { message, .. } => vec![*message],
            Self::Exchange { old, blinded, fresh, .. } => [*old, *blinded].into_iter().chain(*fresh).collect(),
            Self::Strike { contact, .. } => vec![*contact],
            Self::Stock { prekeys, .. } => prekeys.clone(),
            Self::Claim { claim, prekey, .. } => [*claim].into_iter().chain(*prekey).collect(),
            Self::LookUp { request, tokens, answers, .. } => [*request]
                .into_iter()
                .chain(tokens.iter().copied())
                .chain(answers.iter().map(|answer| answer.1))
                .collect(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |at: Moment| at as f64 / 1e6;
        write!(f, "{:9.3}–{:.3} s  account {:3} ", second(self.began), second(self.ended), self.who)?;
        let list = |ids: &[Id]| ids.iter().map(Id::to_string).collect::<Vec<_>>().join(" ");
        match &self.act {
            Act::Issue { tokens } => write!(f, "gets tokens [{}]", list(tokens))?,
            Act::Open { mailbox, closes: None } => write!(f, "opens mailbox {mailbox}")?,
            Act::Open { mailbox, closes: Some(old) } => write!(f, "opens mailbox {mailbox} in place of {old}")?,
            Act::Send { to, envelope, right, message } => {
                match right {
                    Right::Token(token) => write!(f, "sends {envelope} to {to} for token {token}")?,
                    Right::Slot { contact, slot } => {
                        write!(f, "replies {envelope} to {to} by slot {slot} of contact {contact}")?;
                    }
                }
                if let Some(message) = message {
                    write!(f, ", message {message}")?;
                }
            }
            Act::Read { mailbox, shown, whole } => {
                let shown: Vec<_> = shown.iter().map(|shown| format!("{}={}", shown.message, shown.envelope)).collect();
                write!(f, "reads {mailbox}: [{}]{}", shown.join(" "), if *whole { "" } else { " and more" })?;
            }
            Act::Ack { mailbox, message } => write!(f, "acknowledges {message} in {mailbox}")?,
            Act::Judge { mailbox, message, verdict } => write!(f, "says {verdict:?} of {message} in {mailbox}")?,
            Act::Exchange { old, blinded, fresh, retiring } => {
                write!(f, "exchanges token {old} for blinded {blinded}")?;
                if let Some(fresh) = fresh {
                    write!(f, ", token {fresh}")?;
                }
                write!(f, "{}", if *retiring { ", of a retired key" } else { "" })?;
            }
            Act::Strike { mailbox, contact } => write!(f, "strikes contact {contact} of {mailbox}")?,
            Act::Stock { mailbox, prekeys } => write!(f, "uploads prekeys [{}] to {mailbox}", list(prekeys))?,
            Act::Claim { mailbox, claim, prekey } => {
                write!(f, "claims a prekey of {mailbox} by {claim}: {prekey:?}")?;
            }
            Act::LookUp { request, tokens, answers, epoch } => {
                write!(f, "looks up by request {request} for [{}] under {epoch}: {answers:?}", list(tokens))?;
            }
        }
        match self.outcome {
            Outcome::Done => write!(f, " → done")?,
            Outcome::Refused(kind) => write!(f, " → {}", kind.slug())?,
            Outcome::Unknown => write!(f, " → nobody knows")?,
        }
        if self.unanswered > 0 { write!(f, " (unanswered before: {})", self.unanswered) } else { Ok(()) }
    }
}

/// What a row of the relay's ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Spent on a message.
    Attached,
    /// Can be exchanged.
    Released,
    /// Never comes back.
    Burnt,
    /// Has been, or is being, exchanged.
    Exchanged,
}

/// What both databases say when all is calm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finale {
    /// Of every token that the relay ever took.
    pub ledger: BTreeMap<Id, Standing>,
    /// Messages that still wait in some mailbox.
    pub waiting: Vec<Id>,
    /// Tokens that the issuer says it signed for accounts, and for exchanges.
    pub signed: (u64, u64),
    /// Names of the queries of docs/invariants.sql that do not give 0, and what they give.
    pub broken: Vec<(String, i64)>,
}
