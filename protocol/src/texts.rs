//! Texts with codes (M1): by which way a code goes, and where a provider reports what became of it.

use serde::{Deserialize, Serialize};

/// `GET` or `POST`, with what the provider says in the query or as a form: what became of a text. The last segment names the text to the
/// issuer alone, which made it, and it alone can have.
pub const REPORT_PATH: &str = "/v1/texts/{report}";

/// Where the report of a text goes.
pub fn report_path(report: &str) -> String {
    REPORT_PATH.replace("{report}", report)
}

/// By which way a code reaches its phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// A text message.
    #[default]
    Text,
    /// A call that says the digits.
    Voice,
}

/// What a provider says of a text or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived.
    Arrived,
    /// It did not, and will not.
    Failed,
    /// It is on its way.
    Pending,
}

impl Outcome {
    /// Reads a report: the query or the form, `name=value` joined by `&`. Kannel says `status` (a number), Twilio `MessageStatus` or
    /// `CallStatus` (a word); what else is said is passed over. None if nothing is said of the outcome, or two things.
    pub fn read(form: &str) -> Option<Self> {
        let said = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            match name {
                "status" => Self::of_kannel(value),
                "MessageStatus" | "CallStatus" => Self::of_twilio(value),
                _ => None,
            }
        };
        let mut all = form.split('&').filter_map(said);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// Kannel user guide, "SMS delivery reports": 1 delivered to the phone, 2 not, 4 queued, 8 taken by the centre, 16 refused by it.
    fn of_kannel(status: &str) -> Option<Self> {
        match status {
            "1" => Some(Self::Arrived),
            "2" | "16" => Some(Self::Failed),
            "4" | "8" | "32" => Some(Self::Pending),
            _ => None,
        }
    }

    /// The values of Twilio's `MessageStatus` and `CallStatus`.
    fn of_twilio(status: &str) -> Option<Self> {
        match status {
            "delivered" | "read" | "completed" => Some(Self::Arrived),
            "failed" | "undelivered" | "canceled" | "busy" | "no-answer" => Some(Self::Failed),
            "accepted" | "scheduled" | "queued" | "sending" | "sent" | "initiated" | "ringing" | "in-progress" => {
                Some(Self::Pending)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_both_kinds_are_understood_and_nothing_else_is() {
        for (form, outcome) in [
            ("status=1", Some(Outcome::Arrived)),
            ("status=2&id=x", Some(Outcome::Failed)),
            ("smsc=a&status=16", Some(Outcome::Failed)),
            ("status=8", Some(Outcome::Pending)),
            ("MessageSid=SM1&MessageStatus=delivered&To=%2B41791234567", Some(Outcome::Arrived)),
            ("MessageStatus=undelivered&ErrorCode=30003", Some(Outcome::Failed)),
            ("CallSid=CA1&CallStatus=no-answer", Some(Outcome::Failed)),
            ("CallStatus=completed", Some(Outcome::Arrived)),
            ("", None),
            ("status", None),
            ("status=3", None),
            ("status=%31", None),
            ("Status=1", None),
            ("MessageStatus=DELIVERED", None),
            ("status=1&status=2", None),
            ("status=2&MessageStatus=delivered", None),
            ("status=1&status=1", Some(Outcome::Arrived)),
        ] {
            assert_eq!(Outcome::read(form), outcome, "{form}");
        }
    }
}
