//! Prekeys, look-ups, and refusals that have no reason.

use std::collections::{HashMap, HashSet};

use postern_protocol::problem::ProblemKind;

use super::{Checked, Rule, View};
use crate::storm::history::{Act, Event, Id, Outcome};

pub(super) fn check(view: &View<'_>, checked: &mut Checked) {
    prekeys(view, checked);
    look_ups(view, checked);
    refusals(view, checked);
}

fn prekeys(view: &View<'_>, checked: &mut Checked) {
    let mut stocked: HashMap<Id, Id> = HashMap::new();
    for event in view.events {
        if let Act::Stock { mailbox, prekeys } = &event.act {
            stocked.extend(prekeys.iter().map(|prekey| (*prekey, *mailbox)));
        }
    }
    let (mut claims, mut owners) = (HashMap::new(), HashMap::new());
    for event in view.events.iter().filter(|event| event.outcome == Outcome::Done) {
        let Act::Claim { mailbox, claim, prekey: Some(prekey) } = &event.act else { continue };
        let claimed = *claims.entry((*mailbox, *claim)).or_insert(*prekey);
        checked.ask(Rule::OnePrekey, claimed == *prekey, &[*claim], || {
            format!("claim {claim} got two prekeys, {claimed} and {prekey}")
        });
        let by = *owners.entry(*prekey).or_insert(*claim);
        checked.ask(Rule::OnePrekey, by == *claim, &[*prekey], || {
            format!("prekey {prekey} went to two claims, {by} and {claim}")
        });
        checked.ask(Rule::OnePrekey, stocked.get(prekey) == Some(mailbox), &[*prekey, *claim], || {
            format!("prekey {prekey} was never uploaded to {mailbox}")
        });
    }
}

fn look_ups(view: &View<'_>, checked: &mut Checked) {
    let (mut paid, mut answer) = (HashMap::new(), HashMap::new());
    for event in view.events.iter().filter(|event| event.outcome == Outcome::Done) {
        let Act::LookUp { request, tokens, answers, epoch } = &event.act else { continue };
        for token in tokens {
            let first = *paid.entry(*token).or_insert(*request);
            checked.ask(Rule::LookUps, first == *request, &[*token], || {
                format!("look-up token {token} paid for two requests, {first} and {request}")
            });
        }
        for (number, value) in answers {
            let first = *answer.entry((*epoch, *number)).or_insert(*value);
            checked.ask(Rule::LookUps, first == *value, &[first, *value], || {
                format!("number {number} has two answers under one key, {first} and {value}")
            });
        }
    }
}

/// Refusals that have a reason whatever else happened: the clock of a server, or the room that it has.
const OF_THEMSELVES: [ProblemKind; 7] = [
    ProblemKind::KeyNotActive,
    ProblemKind::LookupWindow,
    ProblemKind::LookupQuota,
    ProblemKind::MailboxFull,
    ProblemKind::NotReleased,
    ProblemKind::AllowanceExhausted,
    ProblemKind::SetupOver,
];

fn refusals(view: &View<'_>, checked: &mut Checked) {
    let mut shown: HashMap<Id, Vec<&Event>> = HashMap::new();
    for event in view.events {
        let paid: &[Id] = match &event.act {
            Act::Send { right, .. } => &[right.id()],
            Act::Exchange { old, .. } => &[*old],
            Act::LookUp { tokens, .. } => tokens,
            _ => &[],
        };
        paid.iter().for_each(|id| shown.entry(*id).or_default().push(event));
    }
    // Another request with the same token that may have been faster.
    let other = |event: &Event, ids: &[Id]| {
        let others = ids.iter().flat_map(|id| shown.get(id).into_iter().flatten());
        let mut others = others.filter(|other| other.began <= event.ended);
        others.any(|other| is_another(&event.act, &other.act))
    };
    let messages: HashSet<(Id, Id)> = view
        .reads
        .iter()
        .flat_map(|(mailbox, reads)| {
            reads.iter().flat_map(|read| read.shown.iter().map(|shown| (*mailbox, shown.message)))
        })
        .collect();
    for event in view.events {
        let Outcome::Refused(kind) = event.outcome else { continue };
        let founded = OF_THEMSELVES.contains(&kind)
            || match (&event.act, kind) {
                (Act::Send { to, .. } | Act::Claim { mailbox: to, .. }, ProblemKind::MailboxUnknown) => {
                    view.is_closing(*to, event.ended)
                }
                (Act::Send { right, .. }, ProblemKind::TokenAttached | ProblemKind::ReplyUsed) => {
                    other(event, &[right.id()])
                }
                (Act::Exchange { old, .. }, ProblemKind::AlreadyExchanged) => other(event, &[*old]),
                (Act::LookUp { tokens, .. }, ProblemKind::LookupTokenUsed) => other(event, tokens),
                // A verdict on what never was in this mailbox, or the opposite of one that stands.
                (Act::Judge { mailbox, message, verdict }, ProblemKind::BurntForEver) => {
                    let opposite = view
                        .verdicts_on(*message)
                        .iter()
                        .any(|it| it.verdict.returns() != verdict.returns() && it.began <= event.ended);
                    opposite || !messages.contains(&(*mailbox, *message))
                }
                _ => false,
            };
        let about = event.act.names();
        checked.ask(Rule::Unfounded, founded, &about, || format!("refused without a reason: {event}"));
    }
}

/// Whether these are two requests that want the same token or slot for different things.
fn is_another(one: &Act, other: &Act) -> bool {
    match (one, other) {
        (Act::Send { to, envelope, .. }, Act::Send { to: to2, envelope: envelope2, .. }) => {
            (to, envelope) != (to2, envelope2)
        }
        (Act::Exchange { blinded, .. }, Act::Exchange { blinded: blinded2, .. }) => blinded != blinded2,
        (Act::LookUp { request, .. }, Act::LookUp { request: request2, .. }) => request != request2,
        // Spent, and exchanged unspent.
        _ => true,
    }
}
