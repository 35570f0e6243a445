//! What recipients do with their messages, many of them in one transaction. Each list is decided by itself, in the order in which they came,
//! and names messages of its own mailbox alone: others it neither changes nor learns of.

use std::collections::{HashMap, HashSet};

use postern_protocol::ids::{MailboxId, MessageId, Nullifier};
use postern_protocol::release::Outcome;
use postern_store::{StoreError, Tx};

use crate::db::release::{self, Verdict};
use crate::db::send::TokenState;
use crate::db::{reply, rollout};

/// What to do with the messages of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Delete from the queue. Tokens stay as they are.
    Acknowledge,
    /// Give the tokens back. Declining is this as well: nothing stored tells the two apart.
    Release,
    /// Burn the tokens.
    Spam,
}

/// A list, and what its mailbox's owner says of it.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) mailbox: MailboxId,
    pub(crate) action: Action,
    /// No two alike.
    pub(crate) messages: Vec<MessageId>,
}

/// What was changed altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages that were in a queue and are not any more.
    pub(crate) removed: u64,
    /// Tokens that were given back.
    pub(crate) released: u64,
    /// Tokens that were burnt.
    pub(crate) burnt: u64,
}

/// A message as its mailbox names it.
type Name = (MailboxId, MessageId);

/// Does all of it; as many outcomes, in the same order, and what changed.
///
/// # Errors
/// [`StoreError`]; nothing is done then.
pub(crate) async fn decide(tx: &mut Tx<'_>, acts: &[&Act]) -> Result<(Vec<Outcome>, Tally), StoreError> {
    let names = |wanted: fn(Action) -> bool| {
        let lists = acts.iter().filter(move |act| wanted(act.action));
        lists.flat_map(|act| act.messages.iter().map(move |message| (act.mailbox, *message)))
    };
    let to_remove: HashSet<Name> = names(|action| action == Action::Acknowledge).collect();
    let judged: HashSet<Name> = names(|action| action != Action::Acknowledge).collect();
    let removed = release::remove(tx, &to_remove).await?;
    let gone: HashSet<Name> = to_remove.difference(&removed).copied().collect();
    let tokens = gone.iter().chain(&judged).map(|(_, message)| Nullifier(message.0)).collect();
    let states = release::states(tx, tokens).await?;
    let came = reply::came(tx, gone.clone()).await?;
    let has_row = |name: &Name| states.get(&Nullifier(name.1.0)).is_some_and(|(spent_at, _)| *spent_at == name.0);
    let without: HashSet<Name> = gone.union(&judged).filter(|name| !has_row(name)).copied().collect();
    let unenforced = if without.is_empty() { without } else { rollout::known(tx, without).await? };

    let mut known = Known { removed, states, came, unenforced, moved: HashMap::new() };
    let outcomes = acts.iter().map(|act| known.decide(act)).collect();
    release::judge(tx, &known.moved).await?;
    let moved = |verdict| known.moved.values().filter(|says| **says == verdict).count() as u64;
    let (released, burnt) = (moved(Verdict::Release), moved(Verdict::Burn));
    Ok((outcomes, Tally { removed: known.removed.len() as u64, released, burnt }))
}

/// What was found out in the transaction, and what is about to change.
struct Known {
    removed: HashSet<Name>,
    /// Where tokens were spent, and where they stand.
    states: HashMap<Nullifier, (MailboxId, TokenState)>,
    /// Replies that came once.
    came: HashSet<Name>,
    /// Those that were taken without a token.
    unenforced: HashSet<Name>,
    moved: HashMap<Nullifier, Verdict>,
}

impl Known {
    fn decide(&mut self, act: &Act) -> Outcome {
        let mut outcome = Outcome::default();
        for message in &act.messages {
            let done = match act.action {
                Action::Acknowledge => self.acknowledge((act.mailbox, *message)),
                Action::Release => self.judge((act.mailbox, *message), Verdict::Release),
                Action::Spam => self.judge((act.mailbox, *message), Verdict::Burn),
            };
            let list = if done { &mut outcome.done } else { &mut outcome.refused };
            list.push(*message);
        }
        outcome
    }

    /// Where the token of a message of this mailbox stands; none if it never came here, or its key is gone.
    fn state(&self, (mailbox, message): Name) -> Option<TokenState> {
        self.states.get(&Nullifier(message.0)).filter(|(spent_at, _)| *spent_at == mailbox).map(|(_, state)| *state)
    }

    /// What has left the queue (acknowledged before, or too old) is done; what never came here is refused.
    fn acknowledge(&self, name: Name) -> bool {
        self.removed.contains(&name)
            || self.state(name).is_some()
            || self.came.contains(&name)
            || self.unenforced.contains(&name)
    }

    /// The first verdict counts.
    fn judge(&mut self, name: Name, verdict: Verdict) -> bool {
        // What nothing was spent on has nothing to be given back or burnt: that is done.
        let Some(state) = self.state(name) else { return self.unenforced.contains(&name) };
        let token = Nullifier(name.1.0);
        match (state, verdict) {
            (TokenState::Attached, verdict) => *self.moved.entry(token).or_insert(verdict) == verdict,
            (TokenState::Released | TokenState::Exchanging | TokenState::Exchanged, Verdict::Release) => true,
            (TokenState::Burnt, Verdict::Burn) => true,
            _ => false,
        }
    }
}
