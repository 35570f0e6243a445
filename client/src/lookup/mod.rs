//! Look-ups (design §5, M25–M27): from phone numbers to card links, while nobody learns who asks or for which number.
//!
//! That a number is somebody's is the issuer's word: the record is in a directory that it has signed, under the number's `y`, and everybody
//! is shown the same one. The card is fetched, and its certificate held against the number, when somebody writes: no earlier, for it shows
//! the relay whom it is about.
//!
//! | file | what |
//! |---|---|
//! | `view` | policy, keys and manifest, as everybody is shown them |
//! | `log` | the issuer's public log, which says that everybody is |
//! | `tokens` | the stock of look-up tokens, and what may still be asked for |
//! | `evaluate` | numbers become `y`, blinded and among dummies |
//! | `files`, `resolve` | filter, buckets, records |
//! | `cover` | buckets that stand in for those who are not found |
//! | `known` | what was found before |
//! | `import` | address books |
//!
//! A number costs one token in an epoch of the issuer's key, dummies that fill a batch up one each; what is known costs nothing. Whatever
//! a failure interrupts is kept as far as it came: the same call goes on from there.

mod cover;
mod evaluate;
mod files;
mod import;
mod known;
mod log;
mod resolve;
mod tokens;
mod view;

use std::collections::BTreeSet;
use std::fmt;

use postern_protocol::card::CardLink;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;

pub use self::import::{Format, Imported, ImportedEntry, parse_contacts};
pub use self::log::LogFork;
pub use self::tokens::LookupBudget;
use crate::client::Client;
use crate::contact::ContactRecord;
use crate::error::{Error, Result};

/// What came of looking a number up. `Debug` shows no number.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The number.
    pub phone: PhoneNumber,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// Whether somebody is listed. `Debug` shows nobody.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody.
    Listed {
        /// Where the card is; what [`crate::send::Target::Link`] takes.
        link: CardLink,
        /// The first letters of the identity key, hex: the id that the contact has once it is one.
        contact: String,
    },
    /// Nobody, or nobody who wants to be found.
    NotListed,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed { .. } => "Listed",
            Self::NotListed => "NotListed",
        })
    }
}

/// How far a look-up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// So many are done,
    pub done: usize,
    /// of so many.
    pub of: usize,
}

/// What a look-up is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Numbers are evaluated.
    Numbers,
    /// Buckets of the directory are fetched.
    Buckets,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Looks numbers up. What is known from before costs no token and no request; results are in the order of the numbers.
    ///
    /// If tokens must be asked for, that happens now, as the account, a moment before the anonymous look-up: let `sync` keep a stock.
    ///
    /// # Errors
    /// [`Error::LookupBudget`] if the budget does not suffice: what could be done is done, and [`Self::found_before`] has it.
    /// [`Error::PinChanged`] if the issuer shows us something else than others; [`Error::Misbehaved`] for files or answers that do not
    /// prove themselves. [`Error::NotAnonymous`], [`Error::NeedsLogin`], and what the channels and the servers say: the same call goes
    /// on from where it came to.
    pub async fn find(
        &mut self,
        numbers: &[PhoneNumber],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Vec<Found>> {
        self.profile.verify()?;
        let mut seen = BTreeSet::new();
        let numbers: Vec<_> = numbers.iter().filter(|number| seen.insert(*number)).cloned().collect();
        let short = Box::pin(self.evaluate(&numbers, progress)).await?;
        Box::pin(self.resolve(&numbers, progress)).await?;
        match short {
            Some(error) => Err(error),
            None => self.found_before(&numbers),
        }
    }

    /// Whom to write to under a number: a contact, or whoever is found.
    pub(crate) async fn link_of(&mut self, phone: &PhoneNumber) -> Result<CardLink> {
        match self.contact_link(phone.as_str()) {
            Err(Error::NotFound(what)) => {
                // Who has written, or was declined, is somebody whom a decision is due on, not a stranger.
                if self.people()?.iter().any(|(_, person): &(_, ContactRecord)| person.phone == *phone) {
                    return Err(Error::NotFound(what));
                }
            }
            other => return other,
        }
        let found = self.find(std::slice::from_ref(phone), &mut |_| {}).await?;
        match found.into_iter().next().map(|found| found.outcome) {
            Some(Outcome::Listed { link, .. }) => Ok(link),
            Some(Outcome::NotListed) | None => Err(Error::NotListed),
        }
    }

    /// Looks again, at the newest build, for somebody whose card or mailbox is gone; `false` if they were not found by number.
    pub(crate) async fn look_again(&mut self, phone: &PhoneNumber) -> Result<bool> {
        if !self.forget_answer(phone)? {
            return Ok(false);
        }
        self.refresh_view().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
