//! From `y` to a card: filter, fingerprints, records, and the card at its relay, which must be certified for the number.
//!
//! Buckets and cards come in random order, each over a circuit of its own: nothing but the number of requests tells that they are of one
//! address book.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use postern_credentials::directory::{bucket_of, card_link};
use postern_protocol::card::CardLink;
use postern_protocol::directory::Manifest;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand::seq::SliceRandom;
use rand_core::CryptoRng;

use super::files::is_over;
use super::known::LookedUp;
use super::{Outcome, Progress, Step};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::short;

/// A number that the directory is to be asked about.
struct Open {
    phone: PhoneNumber,
    row: LookedUp,
}

/// Somebody whom the directory names.
struct Named {
    open: Open,
    link: CardLink,
}

/// Numbers of one bucket with the places of their records.
type Hits = Vec<(Open, Range<usize>)>;

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Sees to it that the present build was asked about every number whose `y` is known. What fails in `Ok` is a card that could not be
    /// fetched for now; all others are done then.
    pub(super) async fn resolve(
        &mut self,
        numbers: &[PhoneNumber],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Error>> {
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
    ) -> Result<Option<Error>> {
        let manifest = self.view().await?.manifest()?;
        let mut open = Vec::new();
        for phone in numbers {
            if let Some(row) = self.looked_up(phone, manifest.oprf_epoch)?
                && !row.is_settled(manifest.build, self.now().seconds())
            {
                open.push(Open { phone: phone.clone(), row });
            }
        }
        let open = self.ask_delta(&manifest, open).await?;
        let open = self.ask_filter(&manifest, open).await?;
        let named = self.ask_buckets(&manifest, open, progress).await?;
        self.ask_relays(&manifest, named, progress).await
    }

    /// Of those that the build before had not, the delta says which this one has.
    async fn ask_delta(&mut self, manifest: &Manifest, open: Vec<Open>) -> Result<Vec<Open>> {
        let (missed, open): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|open| open.row.was_missed_before(manifest.build));
        if missed.is_empty() {
            return Ok(open);
        }
        let delta = self.delta(manifest).await?;
        let is_new = |open: &Open| delta.as_ref().is_none_or(|delta| delta.contains(&open.row.y));
        let (new, missed) = missed.into_iter().partition(is_new);
        self.note_missed(manifest, missed)?;
        Ok([open, new].into_iter().flatten().collect())
    }

    /// Whoever is not in the filter is not listed, and no bucket is asked for.
    async fn ask_filter(&mut self, manifest: &Manifest, open: Vec<Open>) -> Result<Vec<Open>> {
        if open.is_empty() {
            return Ok(open);
        }
        let Some(filter) = self.filter(manifest).await? else { return Ok(open) };
        let (open, missed) = open.into_iter().partition(|open| filter.contains(&open.row.y));
        self.note_missed(manifest, missed)?;
        Ok(open)
    }

    fn note_missed(&mut self, manifest: &Manifest, missed: Vec<Open>) -> Result<()> {
        let answers: Vec<_> = missed.iter().map(|open| (&open.phone, &open.row, Outcome::NotListed)).collect();
        self.note_answers(manifest, &answers)
    }

    /// Fingerprints of every bucket, then records of those with a hit.
    async fn ask_buckets(
        &mut self,
        manifest: &Manifest,
        open: Vec<Open>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Vec<Named>> {
        let mut buckets: BTreeMap<u32, Vec<Open>> = BTreeMap::new();
        for open in open {
            buckets.entry(bucket_of(&open.row.y, manifest.bits)).or_default().push(open);
        }
        let mut buckets: Vec<_> = buckets.into_iter().collect();
        buckets.shuffle(&mut self.rng);
        let (of, mut with_hits) = (buckets.len(), Vec::new());
        for (done, (bucket, open)) in buckets.into_iter().enumerate() {
            progress(Progress { step: Step::Buckets, done, of });
            let fingerprints = self.fingerprints(manifest, bucket).await?;
            let found = open.into_iter().map(|open| (fingerprints.find(&open.row.y), open));
            let (hits, missed): (Vec<_>, Vec<_>) = found.partition(|(places, _)| !places.is_empty());
            self.note_missed(manifest, missed.into_iter().map(|(_, open)| open).collect())?;
            if !hits.is_empty() {
                with_hits.push((bucket, hits.into_iter().map(|(places, open)| (open, places)).collect::<Hits>()));
            }
        }
        with_hits.shuffle(&mut self.rng);
        let (of, mut named) = (with_hits.len(), Vec::new());
        for (done, (bucket, hits)) in with_hits.into_iter().enumerate() {
            progress(Progress { step: Step::Buckets, done, of });
            named.extend(self.open_records(manifest, bucket, hits).await?);
        }
        Ok(named)
    }

    async fn open_records(&mut self, manifest: &Manifest, bucket: u32, hits: Hits) -> Result<Vec<Named>> {
        let records = self.records(manifest, bucket).await?;
        let (mut named, mut missed) = (Vec::new(), Vec::new());
        for (open, places) in hits {
            let record = records.open(&open.row.y, places);
            match record.and_then(|record| card_link(manifest, &record)) {
                Some(link) => named.push(Named { open, link }),
                None => missed.push(open),
            }
        }
        self.note_missed(manifest, missed)?;
        Ok(named)
    }

    /// The cards. A relay that cannot be reached is not asked for the others.
    async fn ask_relays(
        &mut self,
        manifest: &Manifest,
        mut named: Vec<Named>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Error>> {
        named.shuffle(&mut self.rng);
        let (of, mut failed, mut silent) = (named.len(), None, BTreeSet::new());
        for (done, Named { open, link }) in named.into_iter().enumerate() {
            progress(Progress { step: Step::Cards, done, of });
            if silent.contains(&link.relay_url) {
                continue;
            }
            match self.ask_relay(&open.phone, &link).await {
                Ok(outcome) => self.note_answers(manifest, &[(&open.phone, &open.row, outcome)])?,
                Err(error) if is_local(&error) => return Err(error),
                Err(error) => {
                    silent.insert(link.relay_url);
                    failed.get_or_insert(error);
                }
            }
        }
        Ok(failed)
    }

    /// The card behind a record: only its certificate says whose number it is.
    async fn ask_relay(&mut self, phone: &PhoneNumber, link: &CardLink) -> Result<Outcome> {
        match self.fetch_card(link).await {
            Ok((_, subject)) if subject.phone == *phone && subject.key == link.identity => {
                Ok(Outcome::Listed { contact: short(&link.identity.0), link: link.clone() })
            }
            Ok(_) | Err(Error::CardInvalid(_)) => Ok(Outcome::Mismatch),
            Err(error) => match error.refusal() {
                // The account has gone since the build was made.
                Some(ProblemKind::CardUnknown | ProblemKind::MailboxUnknown) => Ok(Outcome::NotListed),
                _ => Err(error),
            },
        }
    }
}

/// Failures that no other relay mends.
const fn is_local(error: &Error) -> bool {
    matches!(error, Error::ProfileDamaged(_) | Error::Storage(_) | Error::Internal(_) | Error::PinChanged(_))
}
