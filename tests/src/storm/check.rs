//! The checker: no I/O, no clock. From what people did and were told, and what the databases say when all is calm, it finds what must not be.
//!
//! An answer that nobody got proves nothing: whoever repeats the identical request until it is answered knows in the end. So the rules speak
//! of what was *confirmed*, and of moments: what ended before something else began was before it.

mod messages;
mod others;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::history::{Act, Event, Finale, Id, Moment, Outcome, Right, Shown, Verdict};

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// docs/invariants.sql.
    Invariant,
    /// No token, and no slot, is confirmed for two messages.
    SingleSpend,
    /// No exchange gives two tokens, and a token that was exchanged was not spent besides.
    OneExchange,
    /// No token that was spent comes back before its recipient has said so.
    NoReleaseWithoutVerdict,
    /// What is burnt stays burnt, what is released stays released.
    OneVerdict,
    /// What a recipient has released can be exchanged.
    Withheld,
    /// An account has five tokens, once.
    Allowance,
    /// Ledger and issuer say what the people say.
    Books,
    /// A confirmed message is shown.
    Lost,
    /// A message that is there stays until it is acknowledged.
    Vanished,
    /// A message is in the mailbox that it was sent to, and somebody sent it.
    WrongMailbox,
    /// A message has one name, a name one message; each is there once, and gone once its acknowledgement is confirmed.
    ExactlyOnce,
    /// What one person sent to one mailbox, one after the other, is there in this order.
    Order,
    /// Nobody reads what a struck contact sent after the strike.
    Struck,
    /// A prekey goes to one claim, a claim gets one prekey, and it is the owner's.
    OnePrekey,
    /// A look-up token pays for one request, and a number has one answer under one key.
    LookUps,
    /// A refusal has a reason.
    Unfounded,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Of which tokens, messages, …
    pub about: Vec<Id>,
    /// In words.
    pub says: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.says)
    }
}

fn violation(rule: Rule, about: &[Id], says: impl Into<String>) -> Violation {
    Violation { rule, about: about.to_vec(), says: says.into() }
}

/// What was found, and how much was looked at.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// How many single questions were asked, by rule.
    pub asked: BTreeMap<Rule, u64>,
}

impl Checked {
    /// Asks one question.
    fn ask(&mut self, rule: Rule, holds: bool, about: &[Id], says: impl FnOnce() -> String) {
        *self.asked.entry(rule).or_default() += 1;
        if !holds {
            self.violations.push(violation(rule, about, says()));
        }
    }
}

/// Checks everything.
pub fn check(events: &[Event], finale: &Finale) -> Checked {
    let view = View::of(events);
    let mut checked = Checked::default();
    for (name, count) in &finale.broken {
        checked.violations.push(violation(Rule::Invariant, &[], format!("{name}: {count}")));
    }
    checked.asked.insert(Rule::Invariant, 1);
    tokens::check(&view, &mut checked);
    tokens::books(&view, finale, &mut checked);
    messages::check(&view, finale, &mut checked);
    others::check(&view, &mut checked);
    checked
}

/// The shortest history that still shows a violation, of the tokens, messages and people concerned alone. Of what is wrong with the books
/// alone there is none: the databases are its witness.
pub fn shortest(events: &[Event], finale: &Finale, found: &Violation) -> Vec<Event> {
    if found.about.is_empty() {
        return Vec::new();
    }
    let shows = |events: &[Event], finale: &Finale| check(events, finale).violations.contains(found);
    let mut names: BTreeSet<Id> = found.about.iter().copied().collect();
    // What has to do with those, and once more: a token's message, and whoever read it.
    for _ in 0..2 {
        let more = events.iter().map(|event| event.act.names()).filter(|of| {
            // A large reading has to do with everybody.
            of.len() <= 8 && of.iter().any(|name| names.contains(name))
        });
        let more: Vec<_> = more.flatten().collect();
        names.extend(more);
    }
    let concerned = events.iter().filter_map(|event| narrow(event, &names, &found.about));
    let mut kept: Vec<Event> = concerned.collect();
    // The books are of the whole history: a part of it has none.
    let empty = Finale::default();
    let finale = if shows(&kept, &empty) { &empty } else { finale };
    if !shows(&kept, finale) {
        return kept;
    }
    // Halves, quarters, … and at last one by one.
    let mut width = kept.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < kept.len() {
            let end = (at + width).min(kept.len());
            let less: Vec<Event> = kept[..at].iter().chain(&kept[end..]).cloned().collect();
            if shows(&less, finale) {
                kept = less;
            } else {
                at = end;
            }
        }
        if width == 1 {
            return kept;
        }
        width = width.div_ceil(2);
    }
}

/// The event as far as it has to do with these; `None` if it has not.
fn narrow(event: &Event, names: &BTreeSet<Id>, about: &[Id]) -> Option<Event> {
    let concerned = match &event.act {
        Act::Open { mailbox, closes } => {
            [Some(*mailbox), *closes].iter().flatten().any(|id| names.contains(id) || about.contains(id))
        }
        // That a mailbox did not show something counts as well.
        Act::Read { mailbox, .. } if about.contains(mailbox) => true,
        act => act.names().iter().any(|name| names.contains(name)),
    };
    let mut event = concerned.then(|| event.clone())?;
    if let Act::Read { shown, .. } = &mut event.act {
        shown.retain(|shown| names.contains(&shown.message) || names.contains(&shown.envelope));
    }
    Some(event)
}

/// The events, found by what they are about.
#[derive(Default)]
struct View<'a> {
    events: &'a [Event],
    /// Of what was sent again and again each time, with the moments of the first.
    sends: Vec<Sent>,
    first_sent: HashMap<(Id, Id, Right), Moments>,
    /// Of a mailbox, in order of their beginnings.
    reads: HashMap<Id, Vec<Reading<'a>>>,
    /// When the first acknowledgement of a message began.
    ack_began: HashMap<Id, Moment>,
    /// When the first confirmed one had ended.
    acked: HashMap<Id, Moment>,
    verdicts: HashMap<Id, Vec<Judged>>,
    exchanges: HashMap<Id, Vec<Exchanged>>,
    /// When the first attempt to close a mailbox began.
    closed: HashMap<Id, Moment>,
    /// Of a contact's strike: when it began, and when it was confirmed.
    strikes: HashMap<Id, (Moment, Option<Moment>)>,
}

/// When a message was first sent, and when first confirmed.
struct Moments {
    began: Moment,
    confirmed: Option<Moment>,
}

struct Sent {
    who: u32,
    began: Moment,
    ended: Moment,
    to: Id,
    envelope: Id,
    right: Right,
    message: Option<Id>,
    outcome: Outcome,
}

struct Reading<'a> {
    began: Moment,
    ended: Moment,
    shown: &'a [Shown],
    whole: bool,
}

struct Judged {
    began: Moment,
    ended: Moment,
    mailbox: Id,
    verdict: Verdict,
    outcome: Outcome,
}

struct Exchanged {
    began: Moment,
    ended: Moment,
    blinded: Id,
    fresh: Option<Id>,
    retiring: bool,
    outcome: Outcome,
}

impl<'a> View<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut view = Self { events, ..Self::default() };
        events.iter().for_each(|event| view.add(event));
        view.reads.values_mut().for_each(|reads| reads.sort_by_key(|read| read.began));
        for sent in &mut view.sends {
            let first = &view.first_sent[&(sent.to, sent.envelope, sent.right)];
            sent.began = first.began;
            sent.ended = first.confirmed.unwrap_or(sent.ended);
        }
        view
    }

    fn add(&mut self, event: &'a Event) {
        let Event { who, began, ended, outcome, .. } = *event;
        let done = outcome == Outcome::Done;
        match &event.act {
            Act::Send { to, envelope, right, message } => {
                let (to, envelope, right, message) = (*to, *envelope, *right, *message);
                self.sends.push(Sent { who, began, ended, to, envelope, right, message, outcome });
                // What is sent again is what was sent before.
                let sent = self.first_sent.entry((to, envelope, right)).or_insert(Moments { began, confirmed: None });
                sent.began = sent.began.min(began);
                if done {
                    sent.confirmed = Some(sent.confirmed.map_or(ended, |before| before.min(ended)));
                }
            }
            Act::Read { mailbox, shown, whole } if done => {
                self.reads.entry(*mailbox).or_default().push(Reading { began, ended, shown, whole: *whole });
            }
            Act::Ack { message, .. } => {
                earlier(&mut self.ack_began, *message, began);
                if done {
                    earlier(&mut self.acked, *message, ended);
                }
            }
            Act::Judge { mailbox, message, verdict } => {
                let judged = Judged { began, ended, mailbox: *mailbox, verdict: *verdict, outcome };
                self.verdicts.entry(*message).or_default().push(judged);
            }
            Act::Exchange { old, blinded, fresh, retiring } => {
                let (blinded, fresh, retiring) = (*blinded, *fresh, *retiring);
                let exchanged = Exchanged { began, ended, blinded, fresh, retiring, outcome };
                self.exchanges.entry(*old).or_default().push(exchanged);
            }
            Act::Open { closes: Some(closed), .. } => earlier(&mut self.closed, *closed, began),
            Act::Strike { contact, .. } => {
                let strike = self.strikes.entry(*contact).or_insert((began, None));
                strike.0 = strike.0.min(began);
                if done {
                    strike.1 = Some(strike.1.map_or(ended, |before| before.min(ended)));
                }
            }
            _ => {}
        }
    }

    /// Whether somebody had begun to close the mailbox by then.
    fn is_closing(&self, mailbox: Id, by: Moment) -> bool {
        self.closed.get(&mailbox).is_some_and(|began| *began <= by)
    }

    fn exchanges_of(&self, token: Id) -> &[Exchanged] {
        self.exchanges.get(&token).map_or(&[], Vec::as_slice)
    }

    fn verdicts_on(&self, message: Id) -> &[Judged] {
        self.verdicts.get(&message).map_or(&[], Vec::as_slice)
    }
}

impl Sent {
    fn is_done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// Whether a strike may have hit it.
    fn may_be_struck(&self, view: &View<'_>) -> bool {
        let Right::Slot { contact, .. } = self.right else { return false };
        view.strikes.get(&contact).is_some_and(|(began, _)| *began <= self.ended)
    }
}

fn earlier(map: &mut HashMap<Id, Moment>, key: Id, at: Moment) {
    let kept = map.entry(key).or_insert(at);
    *kept = at.min(*kept);
}
