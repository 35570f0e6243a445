//! Each rule finds what was planted against it and shows it shortly, and finds nothing in the same history without it.

use postern_protocol::problem::ProblemKind;

use super::{Rule, check, shortest};
use crate::storm::history::{Act, Event, Finale, Id, Moment, Outcome, Right, Shown, Standing, Verdict};

const ALICE: u32 = 0;
const BOB: u32 = 1;

/// Names, so that histories can be read.
fn id(name: &str) -> Id {
    Id(name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)))
}

fn ids(names: &[&str]) -> Vec<Id> {
    names.iter().map(|name| id(name)).collect()
}

/// What happens one after the other; each takes five moments, with as many between two.
#[derive(Clone)]
struct Story {
    events: Vec<Event>,
    finale: Finale,
}

impl Story {
    fn now(&self) -> Moment {
        self.events.iter().map(|event| event.ended).max().unwrap_or(0) + 5
    }

    fn tell(&mut self, who: u32, act: Act, outcome: Outcome) {
        let began = self.now();
        self.events.push(Event { who, began, ended: began + 5, unanswered: 0, act, outcome });
    }

    fn done(&mut self, who: u32, act: Act) {
        self.tell(who, act, Outcome::Done);
    }

    fn send(&mut self, envelope: &str, to: &str, token: &str) {
        let message = Some(id(token));
        self.done(ALICE, Act::Send { to: id(to), envelope: id(envelope), right: Right::Token(id(token)), message });
    }

    fn reply(&mut self, envelope: &str, slot: &str) {
        let right = Right::Slot { contact: id("credential"), slot: id(slot) };
        self.done(ALICE, Act::Send { to: id("bob's"), envelope: id(envelope), right, message: Some(id(slot)) });
    }

    fn read(&mut self, shown: &[(&str, &str)]) {
        let shown = shown.iter().map(|(message, envelope)| Shown { message: id(message), envelope: id(envelope) });
        self.done(BOB, Act::Read { mailbox: id("bob's"), shown: shown.collect(), whole: true });
    }

    fn ack(&mut self, message: &str) {
        self.done(BOB, Act::Ack { mailbox: id("bob's"), message: id(message) });
    }

    fn judge(&mut self, message: &str, verdict: Verdict) {
        self.done(BOB, Act::Judge { mailbox: id("bob's"), message: id(message), verdict });
    }

    fn exchange(&mut self, old: &str, blinded: &str, fresh: &str) {
        let fresh = Some(id(fresh));
        self.done(ALICE, Act::Exchange { old: id(old), blinded: id(blinded), fresh, retiring: false });
    }

    fn claim(&mut self, claim: &str, prekey: &str) {
        self.done(ALICE, Act::Claim { mailbox: id("bob's"), claim: id(claim), prekey: Some(id(prekey)) });
    }

    fn look_up(&mut self, request: &str, token: &str, answer: &str) {
        let answers = vec![(17, id(answer))];
        let act = Act::LookUp { request: id(request), tokens: ids(&[token]), answers, epoch: 1 };
        self.done(ALICE, act);
    }

    fn found(&self) -> Vec<super::Violation> {
        check(&self.events, &self.finale).violations
    }
}

/// Alice writes to Bob three times, of which one is not spam, one is and one is not answered yet; replies twice, the second time in vain;
/// claims a prekey and looks a number up. A token of hers is exchanged unspent.
fn sound() -> Story {
    let mut story = Story { events: Vec::new(), finale: Finale::default() };
    story.done(ALICE, Act::Issue { tokens: ids(&["t1", "t2", "t3", "t4", "t5"]) });
    story.done(BOB, Act::Open { mailbox: id("bob's"), closes: None });
    story.done(BOB, Act::Stock { mailbox: id("bob's"), prekeys: ids(&["p1", "p2"]) });
    story.claim("c1", "p1");
    story.look_up("l1", "lt1", "y");
    story.send("e1", "bob's", "t1");
    story.send("e2", "bob's", "t2");
    story.read(&[("t1", "e1"), ("t2", "e2")]);
    story.judge("t1", Verdict::Release);
    story.judge("t2", Verdict::Spam);
    story.ack("t1");
    story.ack("t2");
    story.exchange("t1", "b1", "t6");
    story.reply("e3", "s1");
    story.send("e4", "bob's", "t3");
    story.read(&[("s1", "e3"), ("t3", "e4")]);
    story.ack("s1");
    story.done(BOB, Act::Strike { mailbox: id("bob's"), contact: id("credential") });
    story.reply("e5", "s2");
    story.read(&[("t3", "e4")]);
    story.done(ALICE, Act::Exchange { old: id("t4"), blinded: id("b4"), fresh: Some(id("t7")), retiring: true });
    let standings =
        [("t1", Standing::Exchanged), ("t2", Standing::Burnt), ("t3", Standing::Attached), ("t4", Standing::Exchanged)];
    story.finale.ledger = standings.map(|(token, standing)| (id(token), standing)).into();
    story.finale.signed = (5, 2);
    story.finale.waiting = ids(&["t3"]);
    story
}

/// What is planted is found, and shown in so many events; what it is planted in is sound.
fn is_found(rule: Rule, most: usize, plant: impl FnOnce(&mut Story)) {
    let mut story = sound();
    assert_eq!(story.found(), [], "nothing is planted");
    plant(&mut story);
    let found = story.found();
    let violation =
        found.iter().find(|violation| violation.rule == rule).unwrap_or_else(|| panic!("not found: {found:?}"));
    let shown = shortest(&story.events, &story.finale, violation);
    println!("{violation}");
    shown.iter().for_each(|event| println!("{event}"));
    assert!(shown.len() <= most, "{} events", shown.len());
    // Of a sum, and of a whole database, no part is the witness.
    let by_itself = violation.about.is_empty() && shown.is_empty()
        || [Finale::default(), story.finale]
            .into_iter()
            .any(|finale| check(&shown, &finale).violations.contains(violation));
    assert!(by_itself, "what is shown does not show it");
    assert!(shown.iter().all(|event| !event.to_string().is_empty()));
}

#[test]
fn a_broken_invariant_is_found() {
    is_found(Rule::Invariant, 0, |story| story.finale.broken.push(("conservation".to_owned(), 1)));
}

#[test]
fn a_token_that_is_confirmed_for_two_messages_is_found() {
    is_found(Rule::SingleSpend, 2, |story| story.send("e9", "carol's", "t3"));
}

#[test]
fn a_slot_that_is_confirmed_for_two_messages_is_found() {
    is_found(Rule::SingleSpend, 2, |story| story.reply("e9", "s1"));
}

#[test]
fn an_exchange_that_gives_two_tokens_is_found() {
    is_found(Rule::OneExchange, 2, |story| story.exchange("t1", "b9", "t9"));
    // The same request, another answer.
    is_found(Rule::OneExchange, 2, |story| story.exchange("t1", "b1", "t9"));
}

#[test]
fn a_token_that_was_exchanged_unspent_and_is_spent_is_found() {
    is_found(Rule::OneExchange, 2, |story| story.send("e9", "bob's", "t4"));
}

#[test]
fn a_token_that_came_back_without_a_verdict_is_found() {
    is_found(Rule::NoReleaseWithoutVerdict, 2, |story| story.exchange("t3", "b9", "t9"));
    is_found(Rule::NoReleaseWithoutVerdict, 1, |story| story.exchange("t5", "b9", "t9"));
    // Said by somebody else, or too late.
    is_found(Rule::NoReleaseWithoutVerdict, 2, |story| {
        let verdict = Verdict::Release;
        story.done(2, Act::Judge { mailbox: id("carol's"), message: id("t3"), verdict });
        story.exchange("t3", "b9", "t9");
        story.judge("t3", Verdict::Release);
    });
}

#[test]
fn two_opposite_verdicts_are_found() {
    is_found(Rule::OneVerdict, 2, |story| story.judge("t2", Verdict::Decline));
}

#[test]
fn a_burnt_token_that_comes_back_is_found() {
    is_found(Rule::OneVerdict, 2, |story| story.exchange("t2", "b9", "t9"));
}

#[test]
fn a_released_token_that_does_not_come_back_is_found() {
    is_found(Rule::Withheld, 2, |story| {
        story.judge("t3", Verdict::Decline);
        let act = Act::Exchange { old: id("t3"), blinded: id("b9"), fresh: None, retiring: false };
        story.tell(ALICE, act, Outcome::Refused(ProblemKind::NotReleased));
    });
}

#[test]
fn a_sixth_token_is_found() {
    is_found(Rule::Allowance, 2, |story| story.done(ALICE, Act::Issue { tokens: ids(&["t9"]) }));
    is_found(Rule::Allowance, 2, |story| story.done(BOB, Act::Issue { tokens: ids(&["t1"]) }));
}

#[test]
fn a_ledger_that_says_something_else_is_found() {
    is_found(Rule::Books, 1, |story| assert!(story.finale.ledger.remove(&id("t3")).is_some()));
    is_found(Rule::Books, 0, |story| assert_eq!(story.finale.ledger.insert(id("t9"), Standing::Attached), None));
    for (token, standing, most) in [
        ("t1", Standing::Released, 2),
        ("t2", Standing::Attached, 2),
        ("t3", Standing::Released, 1),
        ("t3", Standing::Burnt, 1),
    ] {
        is_found(Rule::Books, most, |story| assert!(story.finale.ledger.insert(id(token), standing).is_some()));
    }
}

#[test]
fn an_issuer_that_counts_otherwise_is_found() {
    is_found(Rule::Books, 0, |story| story.finale.signed.0 = 4);
    is_found(Rule::Books, 0, |story| story.finale.signed.1 = 3);
}

#[test]
fn a_message_that_was_never_shown_is_found() {
    is_found(Rule::Lost, 1, |story| story.send("e9", "bob's", "t5"));
}

#[test]
fn a_message_that_was_there_and_is_not_any_more_is_found() {
    is_found(Rule::Vanished, 2, |story| story.read(&[]));
}

#[test]
fn a_message_in_a_wrong_mailbox_is_found() {
    is_found(Rule::WrongMailbox, 2, |story| {
        story.send("e9", "carol's", "t5");
        story.read(&[("t3", "e4"), ("t5", "e9")]);
    });
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    is_found(Rule::WrongMailbox, 1, |story| story.read(&[("t3", "e4"), ("t5", "e9")]));
}

#[test]
fn a_message_that_is_there_twice_is_found() {
    is_found(Rule::ExactlyOnce, 1, |story| story.read(&[("t3", "e4"), ("t3", "e4")]));
}

#[test]
fn a_message_with_two_names_is_found() {
    is_found(Rule::ExactlyOnce, 3, |story| story.read(&[("t5", "e4")]));
}

#[test]
fn a_message_that_comes_back_after_its_acknowledgement_is_found() {
    is_found(Rule::ExactlyOnce, 3, |story| story.read(&[("t1", "e1"), ("t3", "e4")]));
    is_found(Rule::ExactlyOnce, 1, |story| story.finale.waiting.push(id("t1")));
}

#[test]
fn messages_in_the_wrong_order_are_found() {
    is_found(Rule::Order, 3, |story| {
        story.send("e9", "bob's", "t5");
        story.read(&[("t5", "e9"), ("t3", "e4")]);
    });
    // The first part of what is there shows the later without the earlier.
    is_found(Rule::Order, 3, |story| {
        story.send("e9", "bob's", "t5");
        let shown = vec![Shown { message: id("t5"), envelope: id("e9") }];
        story.done(BOB, Act::Read { mailbox: id("bob's"), shown, whole: false });
    });
}

#[test]
fn a_message_of_a_struck_contact_is_found() {
    is_found(Rule::Struck, 3, |story| story.read(&[("t3", "e4"), ("s2", "e5")]));
}

#[test]
fn a_prekey_that_goes_to_two_is_found() {
    is_found(Rule::OnePrekey, 2, |story| story.claim("c2", "p1"));
    is_found(Rule::OnePrekey, 2, |story| story.claim("c1", "p2"));
    is_found(Rule::OnePrekey, 1, |story| story.claim("c2", "p9"));
}

#[test]
fn a_look_up_token_that_pays_twice_is_found() {
    is_found(Rule::LookUps, 2, |story| story.look_up("l2", "lt1", "y"));
}

#[test]
fn two_answers_for_one_number_are_found() {
    is_found(Rule::LookUps, 2, |story| story.look_up("l2", "lt2", "z"));
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let send = |envelope: &str, token: &str| {
        let (to, envelope, right) = (id("bob's"), id(envelope), Right::Token(id(token)));
        Act::Send { to, envelope, right, message: None }
    };
    for kind in [ProblemKind::TokenAttached, ProblemKind::TokenInvalid, ProblemKind::MailboxUnknown] {
        is_found(Rule::Unfounded, 1, |story| story.tell(ALICE, send("e9", "t5"), Outcome::Refused(kind)));
    }
    // The very same message again has to be confirmed again.
    is_found(Rule::Unfounded, 1, |story| {
        story.tell(ALICE, send("e4", "t3"), Outcome::Refused(ProblemKind::TokenAttached));
    });
    let mut story = sound();
    story.tell(ALICE, send("e9", "t3"), Outcome::Refused(ProblemKind::TokenAttached));
    assert_eq!(story.found(), [], "this one has a reason");
}

#[test]
fn an_answer_that_nobody_got_proves_nothing() {
    let mut story = sound();
    let right = Right::Token(id("t5"));
    let act = Act::Send { to: id("bob's"), envelope: id("e9"), right, message: None };
    story.tell(ALICE, act, Outcome::Unknown);
    assert_eq!(story.found(), [], "it need not have come");
    story.read(&[("t3", "e4"), ("t5", "e9")]);
    assert_eq!(story.found(), [], "it may have come");
}

#[test]
fn what_is_sent_again_is_not_sent_later() {
    let mut story = sound();
    story.send("e9", "bob's", "t5");
    story.finale.ledger.insert(id("t5"), Standing::Attached);
    // Behind e9 it would be in the wrong order, and after the strike nobody should see it.
    story.send("e4", "bob's", "t3");
    story.reply("e3", "s1");
    story.read(&[("t3", "e4"), ("t5", "e9")]);
    assert_eq!(story.found(), []);
}

#[test]
fn a_closed_mailbox_takes_its_messages_with_it() {
    let mut story = sound();
    story.send("e9", "bob's", "t5");
    story.finale.ledger.insert(id("t5"), Standing::Attached);
    assert_eq!(story.found().len(), 1, "lost");
    story.done(BOB, Act::Open { mailbox: id("bob's new one"), closes: Some(id("bob's")) });
    assert_eq!(story.found(), []);
}
