//! What is known of a number: `y` for as long as its epoch lasts, and what the directory said.

use postern_protocol::card::CardLink;
use postern_protocol::directory::Manifest;
use postern_protocol::ids::{OprfOutput, PhoneNumber};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::{Found, Outcome};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::short;
use crate::profile::Record;

/// Whoever was found is looked for again after so long, seconds: people move.
const HIT_GOOD_FOR: u64 = 7 * 24 * 3600;

/// A number's row; its key is the number.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LookedUp {
    epoch: u32,
    pub(super) y: OprfOutput,
    answer: Option<Answer>,
}

impl Record for LookedUp {
    const KIND: &'static str = "looked-up";
}

#[derive(Clone, Serialize, Deserialize)]
struct Answer {
    build: u32,
    at: u64,
    said: Said,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Said {
    Listed { link: String },
    NotListed,
}

impl LookedUp {
    pub(super) const fn new(epoch: u32, y: OprfOutput) -> Self {
        Self { epoch, y, answer: None }
    }

    /// With what this build said at this moment, Unix seconds.
    pub(super) fn answered(&self, build: u32, at: u64, outcome: &Outcome) -> Self {
        let said = match outcome {
            Outcome::Listed { link, .. } => Said::Listed { link: link.to_string() },
            Outcome::NotListed => Said::NotListed,
        };
        Self { answer: Some(Answer { build, at, said }), ..self.clone() }
    }

    /// Whether this build need not be asked.
    pub(super) fn is_settled(&self, build: u32, now: u64) -> bool {
        self.answer.as_ref().is_some_and(|answer| match answer.said {
            Said::Listed { .. } => now < answer.at.saturating_add(HIT_GOOD_FOR),
            Said::NotListed => answer.build >= build,
        })
    }

    /// Whether it was not listed in the build before this one, so that the delta tells whether it is now.
    pub(super) fn was_missed_before(&self, build: u32) -> bool {
        let missed = self.answer.as_ref().filter(|answer| answer.said == Said::NotListed);
        missed.is_some_and(|answer| answer.build.checked_add(1) == Some(build))
    }

    fn outcome(&self) -> Result<Option<Outcome>> {
        let Some(answer) = &self.answer else { return Ok(None) };
        Ok(Some(match &answer.said {
            Said::Listed { link } => {
                let link: CardLink = link.parse().map_err(|_| Error::ProfileDamaged("somebody who was found"))?;
                Outcome::Listed { contact: short(&link.identity.0), link }
            }
            Said::NotListed => Outcome::NotListed,
        }))
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// What is known of these numbers from earlier look-ups; asks nobody. Numbers of which nothing is known are left out.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn found_before(&self, numbers: &[PhoneNumber]) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for phone in numbers {
            let row = self.profile.get::<LookedUp>(phone.as_str())?;
            if let Some(outcome) = row.map(|row| row.outcome()).transpose()?.flatten() {
                found.push(Found { phone: phone.clone(), outcome });
            }
        }
        Ok(found)
    }

    /// The row of a number, if its `y` is of this epoch.
    pub(super) fn looked_up(&self, phone: &PhoneNumber, epoch: u32) -> Result<Option<LookedUp>> {
        Ok(self.profile.get::<LookedUp>(phone.as_str())?.filter(|row| row.epoch == epoch))
    }

    /// Forgets what the directory said about a number; `y` stays. Whether there was anything.
    pub(super) fn forget_answer(&mut self, phone: &PhoneNumber) -> Result<bool> {
        self.profile.tx(&mut self.rng, |t| match t.get::<LookedUp>(phone.as_str())? {
            Some(row) if row.answer.is_some() => {
                t.put(phone.as_str(), &LookedUp { answer: None, ..row })?;
                Ok(true)
            }
            _ => Ok(false),
        })
    }

    /// Writes down what a build said about some numbers.
    pub(super) fn note_answers(
        &mut self,
        manifest: &Manifest,
        answers: &[(&PhoneNumber, &LookedUp, Outcome)],
    ) -> Result<()> {
        let now = self.now().seconds();
        self.profile.tx(&mut self.rng, |t| {
            for (phone, row, outcome) in answers {
                t.put(phone.as_str(), &row.answered(manifest.build, now, outcome))?;
            }
            Ok(())
        })
    }
}
