//! Messages: none that was confirmed is lost, each is there once, where it belongs and in its order.

use std::collections::{HashMap, HashSet};

use super::{Checked, Reading, Rule, Sent, View};
use crate::storm::history::{Finale, Id, Moment, Right};

pub(super) fn check(view: &View<'_>, finale: &Finale, checked: &mut Checked) {
    let mut by_envelope: HashMap<Id, Vec<&Sent>> = HashMap::new();
    let mut to: HashMap<Id, Vec<&Sent>> = HashMap::new();
    for sent in &view.sends {
        by_envelope.entry(sent.envelope).or_default().push(sent);
        if sent.is_done() {
            to.entry(sent.to).or_default().push(sent);
        }
    }
    let mut names = Names::default();
    for (mailbox, reads) in &view.reads {
        for read in reads {
            shown(view, &by_envelope, *mailbox, read, &mut names, checked);
        }
    }
    for (mailbox, sends) in &to {
        let reads = view.reads.get(mailbox).map_or(&[] as &[_], Vec::as_slice);
        confirmed(view, *mailbox, sends, reads, checked);
        order(view, *mailbox, sends, reads, checked);
    }
    for message in &finale.waiting {
        let acked = view.acked.contains_key(message);
        checked
            .ask(Rule::ExactlyOnce, !acked, &[*message], || format!("{message} was acknowledged and is still there"));
    }
}

/// Which message has which name.
#[derive(Default)]
struct Names {
    of: HashMap<Id, Id>,
    messages: HashMap<Id, Id>,
}

fn shown(
    view: &View<'_>,
    by_envelope: &HashMap<Id, Vec<&Sent>>,
    mailbox: Id,
    read: &Reading<'_>,
    names: &mut Names,
    checked: &mut Checked,
) {
    let mut here = HashSet::new();
    for shown in read.shown {
        let (message, envelope) = (shown.message, shown.envelope);
        let sends = by_envelope.get(&envelope).map_or(&[] as &[_], Vec::as_slice);
        let meant = sends.iter().any(|sent| sent.to == mailbox);
        checked.ask(Rule::WrongMailbox, meant, &[envelope, mailbox], || {
            format!(
                "{mailbox} shows {envelope}, which {}",
                if sends.is_empty() { "nobody sent" } else { "was sent elsewhere" }
            )
        });
        let early = sends.iter().all(|sent| sent.began > read.ended);
        checked.ask(Rule::WrongMailbox, !meant || !early, &[envelope, mailbox], || {
            format!("{envelope} was there before it was sent")
        });
        checked.ask(Rule::ExactlyOnce, here.insert(envelope), &[envelope], || {
            format!("{envelope} is there twice at once")
        });
        let name = *names.of.entry(envelope).or_insert(message);
        let named = *names.messages.entry(message).or_insert(envelope);
        checked.ask(Rule::ExactlyOnce, name == message && named == envelope, &[message, envelope], || {
            format!("{envelope} is called {name} and {message}, which is also {named}")
        });
        let gone = view.acked.get(&message).is_some_and(|acked| *acked < read.began);
        checked.ask(Rule::ExactlyOnce, !gone, &[message], || format!("{message} came back after it was acknowledged"));
        for sent in sends.iter().filter(|sent| sent.is_done()) {
            checked.ask(
                Rule::ExactlyOnce,
                sent.message.is_none_or(|name| name == message),
                &[message, envelope],
                || format!("{envelope} was confirmed under another name than it is shown by, {message}"),
            );
        }
        for sent in sends {
            let Right::Slot { contact, .. } = sent.right else { continue };
            let struck = view.strikes.get(&contact).and_then(|(_, done)| *done);
            checked.ask(Rule::Struck, struck.is_none_or(|struck| sent.began <= struck), &[envelope, contact], || {
                format!("{envelope} is of contact {contact}, who had been struck")
            });
        }
    }
}

/// Whether a message may be missing from what was read until then.
fn may_be_gone(view: &View<'_>, sent: &Sent, by: Moment) -> bool {
    let name = sent.message.unwrap_or(sent.right.id());
    view.ack_began.get(&name).is_some_and(|began| *began <= by)
        || view.is_closing(sent.to, by)
        || sent.may_be_struck(view)
}

fn confirmed(view: &View<'_>, mailbox: Id, sends: &[&Sent], reads: &[Reading<'_>], checked: &mut Checked) {
    let seen: HashSet<Id> = reads.iter().flat_map(|read| read.shown).map(|shown| shown.envelope).collect();
    for sent in sends {
        let excused = view.is_closing(mailbox, Moment::MAX) || sent.may_be_struck(view);
        checked.ask(Rule::Lost, excused || seen.contains(&sent.envelope), &[sent.envelope], || {
            format!("{} to {mailbox} was confirmed and never shown", sent.envelope)
        });
    }
    for read in reads.iter().filter(|read| read.whole) {
        let here: HashSet<Id> = read.shown.iter().map(|shown| shown.envelope).collect();
        for sent in sends.iter().filter(|sent| sent.ended < read.began) {
            let right = here.contains(&sent.envelope) || may_be_gone(view, sent, read.ended);
            checked.ask(Rule::Vanished, right, &[sent.envelope, mailbox], || {
                format!("{} to {mailbox} was confirmed, and at {} µs it is not there", sent.envelope, read.began)
            });
        }
    }
}

/// Of one sender: what was confirmed before the next was begun comes before it.
fn order(view: &View<'_>, mailbox: Id, sends: &[&Sent], reads: &[Reading<'_>], checked: &mut Checked) {
    let sent: HashMap<Id, &Sent> = sends.iter().map(|sent| (sent.envelope, *sent)).collect();
    for read in reads {
        // From the last to the first: the earliest end of what is shown behind.
        let mut behind: HashMap<u32, (Moment, Id)> = HashMap::new();
        // The latest beginning of what is shown at all.
        let mut latest: HashMap<u32, (Moment, Id)> = HashMap::new();
        for shown in read.shown.iter().rev() {
            let Some(sent) = sent.get(&shown.envelope) else { continue };
            let after = behind.entry(sent.who).or_insert((sent.ended, sent.envelope));
            let right = after.0 >= sent.began;
            let late = after.1;
            checked.ask(Rule::Order, right, &[late, sent.envelope, mailbox], || {
                format!("{late} was confirmed before {} was sent, and is behind it", sent.envelope)
            });
            *after = (*after).min((sent.ended, sent.envelope));
            let last = latest.entry(sent.who).or_insert((sent.began, sent.envelope));
            *last = (*last).max((sent.began, sent.envelope));
        }
        if read.whole || latest.is_empty() {
            // Of what is missing from the whole another rule speaks.
            continue;
        }
        let here: HashSet<Id> = read.shown.iter().map(|shown| shown.envelope).collect();
        for sent in sends {
            let Some((began, later)) = latest.get(&sent.who) else { continue };
            let right = sent.ended >= *began || here.contains(&sent.envelope) || may_be_gone(view, sent, read.ended);
            checked.ask(Rule::Order, right, &[sent.envelope, *later, mailbox], || {
                format!("{} was confirmed before {later} was sent, which is there without it", sent.envelope)
            });
        }
    }
}
