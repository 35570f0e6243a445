//! Tokens: each is spent once, comes back once, and only if its recipient says so.

use std::collections::{BTreeMap, HashMap};

use postern_protocol::problem::ProblemKind;

use super::{Checked, Rule, View};
use crate::storm::history::{Act, Finale, Id, Outcome, Right, Standing};

pub(super) fn check(view: &View<'_>, checked: &mut Checked) {
    single_spend(view, checked);
    exchanges(view, checked);
    verdicts(view, checked);
    allowance(view, checked);
}

fn single_spend(view: &View<'_>, checked: &mut Checked) {
    let mut confirmed: HashMap<Id, (Id, Id)> = HashMap::new();
    for sent in view.sends.iter().filter(|sent| sent.is_done()) {
        let paid = sent.right.id();
        let first = *confirmed.entry(paid).or_insert((sent.to, sent.envelope));
        checked.ask(Rule::SingleSpend, first == (sent.to, sent.envelope), &[paid], || {
            format!("{paid} was confirmed for {} to {} and for {} to {}", first.1, first.0, sent.envelope, sent.to)
        });
    }
}

fn exchanges(view: &View<'_>, checked: &mut Checked) {
    let mut recipients: HashMap<Id, Id> = HashMap::new();
    for sent in view.sends.iter().filter(|sent| sent.is_done()) {
        recipients.insert(sent.right.id(), sent.to);
    }
    let mut origin: HashMap<Id, Id> = HashMap::new();
    for (old, exchanges) in &view.exchanges {
        let old = *old;
        let mut first: Option<(Id, Option<Id>)> = None;
        for done in exchanges.iter().filter(|exchange| exchange.outcome == Outcome::Done) {
            let same = *first.get_or_insert((done.blinded, done.fresh)) == (done.blinded, done.fresh);
            checked.ask(Rule::OneExchange, same, &[old], || format!("token {old} was exchanged for two"));
            if let Some(fresh) = done.fresh {
                let from = *origin.entry(fresh).or_insert(old);
                checked
                    .ask(Rule::OneExchange, from == old, &[fresh], || format!("token {fresh} came of two exchanges"));
            }
            let judged = view.verdicts_on(old);
            // Whose refusal is known has not released.
            let said = judged.iter().any(|judged| {
                judged.verdict.returns()
                    && judged.began <= done.ended
                    && !matches!(judged.outcome, Outcome::Refused(_))
                    && recipients.get(&old).is_none_or(|recipient| *recipient == judged.mailbox)
            });
            match recipients.get(&old) {
                Some(_) => checked.ask(Rule::NoReleaseWithoutVerdict, said, &[old], || {
                    format!("token {old} came back, and its recipient had not said so")
                }),
                None => checked.ask(Rule::NoReleaseWithoutVerdict, said || done.retiring, &[old], || {
                    format!("token {old} was exchanged, and had been neither released nor retired")
                }),
            }
            let spent_besides = recipients.contains_key(&old) && done.retiring && !said;
            checked.ask(Rule::OneExchange, !spent_besides, &[old], || {
                format!("token {old} was spent and exchanged unspent")
            });
        }
    }
}

fn verdicts(view: &View<'_>, checked: &mut Checked) {
    for (message, judged) in &view.verdicts {
        let message = *message;
        let done =
            |returns: bool| judged.iter().find(|it| it.outcome == Outcome::Done && it.verdict.returns() == returns);
        let (back, burnt) = (done(true), done(false));
        let both = back.is_some() && burnt.is_some();
        checked.ask(Rule::OneVerdict, !both, &[message], || format!("{message} was both released and burnt"));
        let exchanges = view.exchanges_of(message);
        let came_back = exchanges.iter().any(|exchange| exchange.outcome == Outcome::Done);
        checked.ask(Rule::OneVerdict, !(burnt.is_some() && came_back), &[message], || {
            format!("token {message} was burnt and came back")
        });
        let Some(back) = back else { continue };
        for exchange in exchanges.iter().filter(|exchange| exchange.began > back.ended) {
            let withheld = exchange.outcome == Outcome::Refused(ProblemKind::NotReleased);
            checked.ask(Rule::Withheld, !withheld, &[message], || {
                format!("token {message} was released, and then did not come back")
            });
        }
    }
}

fn allowance(view: &View<'_>, checked: &mut Checked) {
    let mut of: BTreeMap<u32, Vec<Id>> = BTreeMap::new();
    let mut owner: HashMap<Id, u32> = HashMap::new();
    for event in view.events {
        let Act::Issue { tokens } = &event.act else { continue };
        for token in tokens {
            let all = of.entry(event.who).or_default();
            if !all.contains(token) {
                all.push(*token);
            }
            let first = *owner.entry(*token).or_insert(event.who);
            checked.ask(Rule::Allowance, first == event.who, &[*token], || format!("two accounts were issued {token}"));
        }
    }
    for (who, tokens) in of {
        checked
            .ask(Rule::Allowance, tokens.len() <= 5, &tokens, || format!("account {who} has {} tokens", tokens.len()));
    }
}

/// Whether ledger and issuer say what the people say.
pub(super) fn books(view: &View<'_>, finale: &Finale, checked: &mut Checked) {
    if finale.ledger.is_empty() {
        return;
    }
    let mut tried: BTreeMap<Id, bool> = BTreeMap::new();
    for sent in &view.sends {
        if let Right::Token(token) = sent.right {
            *tried.entry(token).or_default() |= sent.is_done();
        }
    }
    for (old, exchanges) in &view.exchanges {
        *tried.entry(*old).or_default() |= exchanges.iter().any(|exchange| exchange.outcome == Outcome::Done);
    }
    for (token, confirmed) in &tried {
        let known = finale.ledger.contains_key(token);
        checked.ask(Rule::Books, known || !confirmed, &[*token], || format!("the ledger does not know token {token}"));
    }
    let (mut exchanged, mut may_be_exchanged) = (0, 0);
    for (token, standing) in &finale.ledger {
        let token = *token;
        checked.ask(Rule::Books, tried.contains_key(&token), &[token], || format!("nobody ever showed token {token}"));
        let (exchanges, verdicts) = (view.exchanges_of(token), view.verdicts_on(token));
        let came_back = exchanges.iter().any(|exchange| exchange.outcome == Outcome::Done);
        exchanged += u64::from(came_back);
        may_be_exchanged += u64::from(!exchanges.is_empty());
        let said =
            |returns: bool| verdicts.iter().any(|it| it.verdict.returns() == returns && it.outcome == Outcome::Done);
        let tried = |returns: bool| verdicts.iter().any(|it| it.verdict.returns() == returns);
        let right = match standing {
            Standing::Exchanged => !exchanges.is_empty(),
            _ if came_back => false,
            Standing::Burnt => tried(false) && !said(true),
            Standing::Released => tried(true) && !said(false),
            Standing::Attached => !said(true) && !said(false),
        };
        checked.ask(Rule::Books, right, &[token], || format!("the ledger says that token {token} is {standing:?}"));
    }
    let issued: Vec<Id> = view
        .events
        .iter()
        .flat_map(|event| match &event.act {
            Act::Issue { tokens } => tokens.clone(),
            _ => Vec::new(),
        })
        .collect();
    let issued = issued.into_iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
    checked.ask(Rule::Books, finale.signed.0 >= issued, &[], || {
        format!("the issuer counts {} tokens for accounts, who have {issued}", finale.signed.0)
    });
    checked.ask(Rule::Books, (exchanged..=may_be_exchanged).contains(&finale.signed.1), &[], || {
        format!("the issuer counts {} exchanges; {exchanged} were confirmed, {may_be_exchanged} tried", finale.signed.1)
    });
}
