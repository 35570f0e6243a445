//! Numbers become `y`: blinded, among dummies, in random order, over the anonymous channel, for a look-up token each.
//!
//! A batch is on disk, with its tokens and blindings, before it is sent. So a lost answer is fetched again by the identical request, which
//! costs nothing more.

use postern_credentials::oprf::{self, Blinding};
use postern_protocol::ids::{OprfOutput, PhoneNumber};
use postern_protocol::lookup::{LOOKUP_PATH, LookupPolicy, LookupRequest, LookupResponse, MAX_LOOKUPS, batch_size};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand::seq::SliceRandom;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::known::LookedUp;
use super::{Progress, Step};
use crate::channel::{JSON, Request};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::hex;
use crate::profile::Record;
use crate::secret::{SecretBytes, SecretText};

/// So often the issuer may say in one run that the tokens are for another time.
const MOST_REFUSALS: u32 = 2;

/// A batch on its way.
#[derive(Clone, Serialize, Deserialize)]
struct Batch {
    window: u64,
    entries: Vec<Entry>,
    /// The exact bytes of the request.
    body: SecretBytes,
}

impl Record for Batch {
    const KIND: &'static str = "lookup-batch";
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    /// The number, or anything for a dummy.
    input: SecretText,
    is_dummy: bool,
    blinding: SecretBytes,
}

impl Entry {
    fn blinding(&self) -> Result<Blinding> {
        const DAMAGED: Error = Error::ProfileDamaged("a look-up on its way");
        let bytes = self.blinding.array().ok_or(DAMAGED)?;
        Blinding::from_bytes(&bytes).map_err(|_| DAMAGED)
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Sees to it that `y` of every number is known; [`Error::LookupBudget`] in `Ok` if the budget did not suffice for all of them.
    pub(super) async fn evaluate(
        &mut self,
        numbers: &[PhoneNumber],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Error>> {
        let mut refusals = 0;
        loop {
            let view = self.view().await?;
            let (policy, epoch) = (view.policy(), view.manifest()?.oprf_epoch);
            let mut left = Vec::new();
            for number in numbers {
                if self.looked_up(number, epoch)?.is_none() {
                    left.push(number.clone());
                }
            }
            progress(Progress {
                step: Step::Numbers,
                done: numbers.len().saturating_sub(left.len()),
                of: numbers.len(),
            });
            if left.is_empty() {
                return Ok(None);
            }
            // What an earlier run has paid for comes first: it may have what is wanted now.
            if self.is_batch_waiting()? {
                self.settle_or_give_up(&mut refusals).await?;
                continue;
            }
            if self.tokens_for(left.len(), &policy).await? == 0 {
                let next = policy.window_at(self.now()).saturating_add(1);
                let until = policy.window_start(next).seconds();
                return Ok(Some(Error::LookupBudget { until, left: left.len() }));
            }
            left.shuffle(&mut self.rng);
            self.begin_batch(&left, &policy)?;
            self.settle_or_give_up(&mut refusals).await?;
        }
    }

    /// [`Self::settle_batch`]; that its tokens are for another time is borne with so often.
    async fn settle_or_give_up(&mut self, refusals: &mut u32) -> Result<()> {
        match self.settle_batch().await {
            Err(error) if error.refusal() == Some(ProblemKind::LookupWindow) && *refusals < MOST_REFUSALS => {
                *refusals += 1;
                Ok(())
            }
            other => other,
        }
    }

    fn is_batch_waiting(&self) -> Result<bool> {
        Ok(self.profile.get::<Batch>("")?.is_some())
    }

    /// Tokens for so many numbers; how many there are. Dummies alone are no reason to ask: asking at this moment tells something.
    async fn tokens_for(&mut self, numbers: usize, policy: &LookupPolicy) -> Result<usize> {
        let have = self.lookup_tokens(policy)?;
        if have >= numbers {
            return Ok(have);
        }
        let settings = self.settings()?;
        let wanted = if settings.lookup_dummies { with_dummies(numbers) } else { numbers };
        self.stock_up(wanted.max(settings.lookup_stock)).await
    }

    /// Puts a batch on disk: some of these numbers, filled up with dummies; a smaller power of two of them if the tokens do not allow that,
    /// for an odd size would say how many tokens were left.
    fn begin_batch(&mut self, left: &[PhoneNumber], policy: &LookupPolicy) -> Result<()> {
        let have = self.lookup_tokens(policy)?;
        let real = left.len().min(MAX_LOOKUPS);
        let has_dummies = self.settings()?.lookup_dummies;
        let filled = batch_size(real);
        let affords = have >= left.len().saturating_add(filled.saturating_sub(real));
        let taken = self.take_lookup_tokens(policy, |there| match has_dummies {
            true if affords && there >= filled => filled,
            true => whole_batch(real.min(there)),
            false => real.min(there),
        })?;
        let Some(taken) = taken else { return Ok(()) };
        let inputs = left.iter().take(real).map(|number| (number.as_str().to_owned(), false));
        let mut inputs: Vec<_> = inputs.take(taken.tokens.len()).collect();
        while inputs.len() < taken.tokens.len() {
            inputs.push((hex(&self.random::<8>()), true));
        }
        inputs.shuffle(&mut self.rng);
        let (mut entries, mut blinded) = (Vec::new(), Vec::new());
        for (input, is_dummy) in inputs {
            let (element, blinding) = oprf::blind(&mut self.rng, input.as_bytes())
                .map_err(|_| Error::Internal("a number cannot be blinded"))?;
            let blinding = SecretBytes::new(blinding.to_bytes().as_slice());
            entries.push(Entry { input: SecretText::new(input), is_dummy, blinding });
            blinded.push(element);
        }
        let request = LookupRequest { window: taken.window, tokens: taken.tokens.clone(), blinded };
        let body = serde_json::to_vec(&request).map_err(|_| Error::Internal("a request does not encode"))?;
        let batch = Batch { window: taken.window, entries, body: SecretBytes::new(body) };
        self.profile.tx(&mut self.rng, |t| {
            taken.settle(t)?;
            t.put("", &batch)
        })
    }

    /// Has the batch on disk evaluated, if there is one. Only a proof lets its answer in.
    async fn settle_batch(&mut self) -> Result<()> {
        let Some(batch) = self.profile.get::<Batch>("")? else { return Ok(()) };
        let view = self.view().await?;
        if !view.policy().accepts(batch.window, self.now()) {
            return self.forget_batch();
        }
        let request = Request::new(http::Method::POST, &self.pins()?.issuer_url, LOOKUP_PATH)?
            .body(JSON, batch.body.expose().to_vec());
        let response: LookupResponse = match self.send_anonymously(&request).await?.json() {
            Err(error) => return self.settle_refused(&batch, error).await,
            Ok(response) => response,
        };
        let mut manifest = view.manifest()?;
        if response.oprf_epoch != manifest.oprf_epoch {
            manifest = self.refresh_view().await?.manifest()?;
        }
        if response.oprf_epoch < manifest.oprf_epoch {
            // First answered under the key before: of no use with the directory of now.
            return self.forget_batch();
        }
        if response.oprf_epoch > manifest.oprf_epoch {
            return Err(Error::Misbehaved("it looks numbers up under a key that its directory is not made with"));
        }
        let outputs = finish(&manifest.oprf_key, &batch, &response)?;
        let found: Vec<_> = batch.entries.iter().zip(outputs).filter(|(entry, _)| !entry.is_dummy).collect();
        self.profile.tx(&mut self.rng, |t| {
            for (entry, y) in found {
                t.put(entry.input.expose(), &LookedUp::new(manifest.oprf_epoch, y))?;
            }
            t.delete::<Batch>("").map(drop)
        })
    }

    /// What was refused is not sent again; its tokens are gone, or were never good.
    async fn settle_refused(&mut self, batch: &Batch, error: Error) -> Result<()> {
        match error.refusal() {
            Some(ProblemKind::LookupWindow) => {
                self.forget_batch()?;
                self.drop_window(batch.window)?;
                self.refresh_view().await?;
            }
            Some(ProblemKind::LookupTokenUsed | ProblemKind::LookupTokenInvalid | ProblemKind::BadRequest) => {
                self.forget_batch()?;
            }
            _ => {}
        }
        Err(error)
    }

    fn forget_batch(&mut self) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| t.delete::<Batch>("").map(drop))
    }
}

fn finish(
    key: &postern_protocol::ids::OprfPublicKey,
    batch: &Batch,
    response: &LookupResponse,
) -> Result<Vec<OprfOutput>> {
    let blindings = batch.entries.iter().map(Entry::blinding).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<(&[u8], &Blinding)> =
        batch.entries.iter().map(|entry| entry.input.expose().as_bytes()).zip(&blindings).collect();
    oprf::finish(key, &inputs, &response.evaluated, &response.proof).map_err(|_| {
        Error::Misbehaved("it does not prove that its look-up was made with the key that everybody is shown")
    })
}

/// The greatest batch without dummies.
fn whole_batch(numbers: usize) -> usize {
    numbers.checked_ilog2().map_or(0, |power| 1 << power)
}

/// So many tokens are used by so many numbers, in batches.
fn with_dummies(numbers: usize) -> usize {
    let rest = numbers % MAX_LOOKUPS;
    numbers.saturating_sub(rest).saturating_add(batch_size(rest))
}

#[cfg(test)]
impl crate::testing::Person {
    /// The numbers of the batch on its way as they are sent; `None` for a dummy.
    pub(super) fn batch_order(&self) -> Vec<Option<String>> {
        let batch = self.profile.get::<Batch>("").unwrap().unwrap();
        let shown = |entry: &Entry| (!entry.is_dummy).then(|| entry.input.expose().to_owned());
        batch.entries.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_costs_one_token_and_only_the_last_batch_has_dummies() {
        assert_eq!([0, 1, 128, 129, 1000].map(with_dummies), [0, 1, 128, 129, 1024]);
        assert_eq!([0, 1, 9, 10, 128].map(whole_batch), [0, 1, 8, 8, 128]);
        assert!(MAX_LOOKUPS.is_power_of_two(), "a full batch needs no dummies");
    }
}
