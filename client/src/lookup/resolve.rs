//! From `y` to a record: delta or filter, fingerprints, records. Nothing is asked of a relay: whose card is fetched says who was found.
//!
//! Numbers are resolved in rounds of at most [`ROUND`]; which buckets a round fetches is in `cover`. They come in random order, each file
//! over a circuit of its own. What a round has found is written down when all of it is there: a round that failed fetches the same again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use postern_credentials::directory::{Fingerprints, bucket_of, card_link};
use postern_protocol::directory::Manifest;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::lookup::{FULLY_COVERED, MAX_LOOKUPS, buckets_to_fetch};
use postern_protocol::time::Clock;
use rand::seq::SliceRandom;
use rand_core::CryptoRng;

use super::cover::Cover;
use super::files::is_over;
use super::known::LookedUp;
use super::{Outcome, Progress, Step};
use crate::client::Client;
use crate::error::Result;
use crate::names::short;

/// The most numbers of a round: as many as are evaluated together.
const ROUND: usize = MAX_LOOKUPS;

/// A number that the directory is to be asked about.
struct Open {
    phone: PhoneNumber,
    row: LookedUp,
}

/// Numbers that are settled together.
struct Round {
    /// Those that may be listed.
    candidates: Vec<Open>,
    /// Those that are not.
    missed: Vec<Open>,
    /// How many were looked up together; more than there are if none is of no account.
    numbers: usize,
    /// Filter or delta have said that the candidates are listed.
    is_sure: bool,
    /// The buckets to be fetched.
    buckets: BTreeSet<u32>,
    cover: Cover,
}

/// Counts files.
struct Counter<'a> {
    report: &'a mut (dyn FnMut(Progress) + Send),
    done: usize,
    of: usize,
}

impl Counter<'_> {
    fn next(&mut self) {
        (self.report)(Progress { step: Step::Buckets, done: self.done, of: self.of });
        self.done = self.done.saturating_add(1);
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Sees to it that the present build was asked about every number whose `y` is known.
    pub(super) async fn resolve(
        &mut self,
        numbers: &[PhoneNumber],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let build = self.view().await?.manifest()?.build;
        match Box::pin(self.resolve_once(numbers, progress)).await {
            // The files of the build that we know may be gone since there is another.
            Err(error) if is_over(&error) && self.refresh_view().await?.manifest()?.build != build => {
                Box::pin(self.resolve_once(numbers, progress)).await
            }
            other => other,
        }
    }

    async fn resolve_once(
        &mut self,
        numbers: &[PhoneNumber],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let manifest = self.view().await?.manifest()?;
        let (mut fresh, mut missed) = (Vec::new(), Vec::new());
        for phone in numbers {
            let Some(row) = self.looked_up(phone, manifest.oprf_epoch)? else { continue };
            if !row.is_settled(manifest.build, self.now().seconds()) {
                let list = if row.was_missed_before(manifest.build) { &mut missed } else { &mut fresh };
                list.push(Open { phone: phone.clone(), row });
            }
        }
        let mut rounds = Vec::new();
        if !missed.is_empty() {
            rounds.extend(self.round_of_delta(&manifest, missed, &mut fresh).await?);
        }
        rounds.extend(self.rounds_of_fresh(&manifest, fresh).await?);
        let of = rounds.iter().map(|round| 2 * round.buckets.len()).sum();
        let mut counter = Counter { report: progress, done: 0, of };
        for round in rounds {
            self.settle_round(&manifest, round, &mut counter).await?;
        }
        if of > 0 { self.drop_most_files() } else { Ok(()) }
    }

    /// Of those that the build before had not, the delta says which this one has. One bucket at least is fetched: that somebody had
    /// waited for one of the few who are new would show.
    async fn round_of_delta(
        &mut self,
        manifest: &Manifest,
        missed: Vec<Open>,
        fresh: &mut Vec<Open>,
    ) -> Result<Option<Round>> {
        let Some(delta) = self.delta(manifest).await? else {
            fresh.extend(missed);
            return Ok(None);
        };
        let (new, missed): (Vec<_>, Vec<_>) = missed.into_iter().partition(|open| delta.contains(&open.row.y));
        let label = format!("delta {} {}", manifest.oprf_epoch, manifest.build);
        let numbers = new.len().max(1);
        self.round(manifest, &label, numbers, new, missed, true).map(Some)
    }

    /// Whoever is not in the filter is not listed. The rounds are the same when some have been settled.
    async fn rounds_of_fresh(&mut self, manifest: &Manifest, fresh: Vec<Open>) -> Result<Vec<Round>> {
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let filter = self.filter(manifest).await?;
        let mut ordered = BTreeMap::new();
        for open in fresh {
            ordered.insert(self.cover_order(open.phone.as_str())?, open);
        }
        let (mut ordered, mut rounds) = (ordered.into_values(), Vec::new());
        let label = format!("fresh {}", manifest.oprf_epoch);
        loop {
            let members: Vec<Open> = ordered.by_ref().take(ROUND).collect();
            if members.is_empty() {
                return Ok(rounds);
            }
            let is_listed = |open: &Open| filter.as_ref().is_none_or(|filter| filter.contains(&open.row.y));
            let numbers = members.len();
            let (candidates, missed) = members.into_iter().partition(is_listed);
            rounds.push(self.round(manifest, &label, numbers, candidates, missed, filter.is_some())?);
        }
    }

    fn round(
        &mut self,
        manifest: &Manifest,
        label: &str,
        numbers: usize,
        candidates: Vec<Open>,
        missed: Vec<Open>,
        is_sure: bool,
    ) -> Result<Round> {
        let mut names: Vec<&str> = candidates.iter().chain(&missed).map(|open| open.phone.as_str()).collect();
        names.sort_unstable();
        let mut cover = self.cover(manifest.bits, &[label.as_bytes(), names.join("\n").as_bytes()])?;
        let mut buckets: BTreeSet<u32> = candidates.iter().map(|open| bucket_of(&open.row.y, manifest.bits)).collect();
        let many =
            if is_sure || numbers <= FULLY_COVERED { buckets_to_fetch(numbers, candidates.len()) } else { numbers };
        cover.draw(many.saturating_sub(candidates.len()), &mut buckets);
        Ok(Round { candidates, missed, numbers, is_sure, buckets, cover })
    }

    async fn settle_round(&mut self, manifest: &Manifest, round: Round, counter: &mut Counter<'_>) -> Result<()> {
        let Round { candidates, mut missed, numbers, is_sure, buckets, cover } = round;
        let fingerprints = self.all_fingerprints(manifest, &buckets, counter).await?;
        let mut hits: BTreeMap<u32, Vec<(Open, Range<usize>)>> = BTreeMap::new();
        for open in candidates {
            let bucket = bucket_of(&open.row.y, manifest.bits);
            match fingerprints.get(&bucket).map(|there| there.find(&open.row.y)) {
                Some(places) if !places.is_empty() => hits.entry(bucket).or_default().push((open, places)),
                _ => missed.push(open),
            }
        }
        let mut pages: Vec<u32> = if is_sure || numbers <= FULLY_COVERED {
            buckets.into_iter().collect()
        } else {
            let many = buckets_to_fetch(numbers, hits.values().map(Vec::len).sum());
            let others = buckets.into_iter().filter(|bucket| !hits.contains_key(bucket));
            hits.keys().copied().chain(cover.order(others)).take(many.max(hits.len())).collect()
        };
        pages.shuffle(&mut self.rng);
        counter.of = counter.of.saturating_sub(fingerprints.len().saturating_sub(pages.len()));
        let mut answers = Vec::new();
        for bucket in pages {
            counter.next();
            let records = self.records(manifest, bucket).await?;
            for (open, places) in hits.remove(&bucket).unwrap_or_default() {
                let record = records.open(&open.row.y, places);
                let link = record.and_then(|record| card_link(manifest, &record));
                let outcome =
                    link.map_or(Outcome::NotListed, |link| Outcome::Listed { contact: short(&link.identity.0), link });
                answers.push((open, outcome));
            }
        }
        answers.extend(missed.into_iter().map(|open| (open, Outcome::NotListed)));
        let answers: Vec<_> = answers.iter().map(|(open, outcome)| (&open.phone, &open.row, outcome.clone())).collect();
        self.note_answers(manifest, &answers)
    }

    async fn all_fingerprints(
        &mut self,
        manifest: &Manifest,
        buckets: &BTreeSet<u32>,
        counter: &mut Counter<'_>,
    ) -> Result<BTreeMap<u32, Fingerprints>> {
        let mut order: Vec<u32> = buckets.iter().copied().collect();
        order.shuffle(&mut self.rng);
        let mut all = BTreeMap::new();
        for bucket in order {
            counter.next();
            all.insert(bucket, self.fingerprints(manifest, bucket).await?);
        }
        Ok(all)
    }
}
