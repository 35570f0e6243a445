//! Words for the screen. Texts of other people pass through [`plain`]: they must not move the cursor.

use std::fmt::Write as _;

use crate::doctor::{Check, Health};
use crate::outbox::Verdict;
use crate::prekeys::FirstKey;
use crate::read::{Folder, Message};
use crate::send::{NoReply, Paid, Sent};
use crate::sync::SyncReport;
use crate::tokens::{Answered, TokenOutcome, TokenScreen};

/// A text without control characters, but with its lines.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// How long ago, or how soon.
pub(super) fn when(now: u64, at: u64) -> String {
    let span = |seconds: u64| match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    match now.abs_diff(at) {
        0..2 => "now".to_owned(),
        seconds if at <= now => format!("{} ago", span(seconds)),
        seconds => format!("in {}", span(seconds)),
    }
}

/// The list of messages.
pub(super) fn messages(list: &[Message], now: u64) -> String {
    let mut out = String::new();
    for message in list {
        let short = message.id.get(..crate::names::SHORT).unwrap_or(&message.id);
        let who = message.from.as_deref().unwrap_or("(nobody certified)");
        let mark = if message.read { ' ' } else { '*' };
        let first = message.text.as_deref().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        let shown: String = plain(&first).chars().take(60).collect();
        let arrived = when(now, message.arrived);
        writeln_to(&mut out, &format!("{mark} {short}  {arrived:>11}  {who:<16}  {}{shown}", state(message)));
    }
    out
}

fn state(message: &Message) -> String {
    match (&message.reason, message.folder, message.verdict) {
        (Some(reason), _, _) => format!("[junk: {reason}] "),
        (None, Folder::Requests, None) => "[request] ".to_owned(),
        (None, Folder::Requests, Some(Verdict::Declined)) => "[declined] ".to_owned(),
        _ => String::new(),
    }
}

/// One message, whole.
pub(super) fn message(message: &Message, now: u64) -> String {
    let mut out = String::new();
    let who = message.from.as_deref().unwrap_or("nobody certified");
    writeln_to(&mut out, &format!("From:    {who}  ({})", message.sender.as_deref().unwrap_or("-")));
    writeln_to(&mut out, &format!("Arrived: {}", when(now, message.arrived)));
    writeln_to(&mut out, &format!("Id:      {}", message.id.get(..16).unwrap_or(&message.id)));
    if let Some(verdict) = message.verdict {
        let sent = if message.verdict_sent { "the relay knows" } else { "the relay hears of it at a random time" };
        writeln_to(&mut out, &format!("Verdict: {} ({sent})", verdict_word(verdict)));
    }
    if let Some(reason) = &message.reason {
        writeln_to(&mut out, &format!("Junk:    {reason}"));
    }
    if let Some(warning) = &message.warning {
        writeln_to(&mut out, &format!("WARNING: {warning}"));
    }
    out.push('\n');
    out.push_str(&plain(message.text.as_deref().unwrap_or("(it could not be read)")));
    if message.folder == Folder::Requests && message.verdict.is_none() {
        let short = message.id.get(..crate::names::SHORT).unwrap_or(&message.id);
        writeln_to(&mut out, "\n");
        out.push_str(&format!("postern accept {short} | decline {short} | spam {short}"));
    }
    out
}

/// A verdict in a word.
pub(super) const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Declined => "declined",
        Verdict::Spam => "spam",
    }
}

/// What a message has cost, and why.
pub(super) fn paid(sent: &Sent) -> String {
    let tokens = match sent.tokens_left {
        1 => "1 token left".to_owned(),
        n => format!("{n} tokens left"),
    };
    match sent.paid {
        Paid::Reply { left_in_epoch } => format!("Free of charge ({left_in_epoch} more to them for now); {tokens}."),
        Paid::Token { reason: None } => format!("It cost a token: they have not written to you yet. {tokens}."),
        Paid::Token { reason: Some(NoReply::NeverHad) } => {
            format!("It cost a token: they have not handed you reply credentials. {tokens}.")
        }
        Paid::Token { reason: Some(NoReply::RanOut) } => {
            format!(
                "It cost a token: your reply credentials for them have run out; their next message brings new ones. {tokens}."
            )
        }
        Paid::Token { reason: Some(NoReply::AskedFor) } => {
            format!("It cost a token, as you asked: the free replies to them are used for now. {tokens}.")
        }
    }
}

/// A line about the key of a first message, where there is something to say.
pub(super) const fn first_key(sent: &Sent) -> &'static str {
    match sent.first_key {
        None | Some(FirstKey::OneTime) => "",
        Some(FirstKey::UsedUp) => {
            "\nTheir one-time prekeys are used up: it went by their fallback key, which they keep for a week or two."
        }
        Some(FirstKey::Unavailable) => {
            "\nNo one-time prekey was to be had: it went by their fallback key, which they keep for a week or two."
        }
        Some(FirstKey::NotTheirs) => {
            "\nWARNING: the relay handed out a prekey that is not theirs. It does not follow the protocol: tell its operator. The \
             message went by the fallback key in their card, which is theirs."
        }
    }
}

/// The signature screen.
pub(super) fn tokens(screen: &TokenScreen, now: u64) -> String {
    let mut out = format!("{} tokens left: so many messages to people who do not know you yet.\n", screen.left);
    if screen.sending > 0 {
        writeln_to(&mut out, &format!("{} in messages that are not confirmed yet", screen.sending));
    }
    if screen.renewing > 0 {
        writeln_to(&mut out, &format!("{} being exchanged because their key retires", screen.renewing));
    }
    writeln_to(&mut out, &format!("{} out", screen.out.len()));
    for token in &screen.out {
        let next = token.next_check.map_or_else(String::new, |at| format!(", next question {}", when(now, at)));
        writeln_to(&mut out, &format!("  {:<16}  spent {}{next}", token.to, when(now, token.since)));
    }
    writeln_to(&mut out, &format!("{} answered", screen.answered.len()));
    for token in screen.answered.iter().take(10) {
        writeln_to(&mut out, &format!("  {}", answered(token, now)));
    }
    match screen.next_refill {
        Some(at) => writeln_to(&mut out, &format!("next refill: {} at the earliest", when(now, at))),
        None => writeln_to(&mut out, "next refill: nothing is out"),
    }
    out
}

fn answered(token: &Answered, now: u64) -> String {
    let word = match token.outcome {
        TokenOutcome::Returned => "came back",
        TokenOutcome::Renewed => "renewed",
        TokenOutcome::Expired => "lost: its key was retired",
        TokenOutcome::ExchangedBefore => "lost: exchanged by an older copy of this profile",
        TokenOutcome::NotAccepted => "lost: the relay does not take it",
    };
    format!("{:<16}  {word} {}", token.to.as_deref().unwrap_or("-"), when(now, token.at))
}

/// What a round brought.
pub(super) fn report(report: &SyncReport) -> String {
    let fetched = report.fetched;
    let parts = [
        (fetched.inbox, "new messages"),
        (fetched.requests, "new requests"),
        (fetched.junk, "junk"),
        (report.delivered, "messages confirmed"),
        (report.verdicts, "verdicts told"),
        (report.hellos, "new contacts told"),
        (report.returned, "tokens came back"),
        (report.renewed, "tokens renewed"),
        (report.lost, "tokens lost"),
    ];
    let words: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if words.is_empty() { "nothing new".to_owned() } else { words.join(", ") }
}

/// The report of `doctor`.
pub(super) fn checks(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let word = match check.health {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        writeln_to(&mut out, &format!("{word}  {:<18} {}", check.name, check.detail));
        if let Some(hint) = &check.hint {
            writeln_to(&mut out, &format!("{:26}{hint}", ""));
        }
    }
    out
}

/// Text and QR code of a card link.
pub(super) fn card(link: &str) -> String {
    let code = qrcode::QrCode::with_error_correction_level(link, qrcode::EcLevel::L);
    let picture = code.map(|code| code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build());
    format!("{link}\n\n{}", picture.unwrap_or_default())
}

fn writeln_to(out: &mut String, line: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        assert_eq!(when(100, 100), "now");
        assert_eq!(when(100, 40), "1 min ago");
        assert_eq!(when(0, 7200), "in 2 h");
        assert_eq!(when(864_000, 0), "10 days ago");
    }

    #[test]
    fn a_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2J\u{9b}b\r\n\tc"), "a[2Jb\n\tc");
    }

    #[test]
    fn a_card_has_a_code_that_fits_a_terminal() {
        let link = format!("postern:v1?relay=https://relay.example&mailbox={0}&identity={0}", "A".repeat(43));
        let shown = card(&link);
        assert!(shown.starts_with(&link));
        assert!(shown.lines().all(|line| line.chars().count() <= 170));
        assert!(shown.lines().count() > 20 && shown.contains('█'));
    }
}
