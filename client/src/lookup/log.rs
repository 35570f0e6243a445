//! The issuer's public log, as this client follows it (design §2, §5): its head may only grow, and what we are shown must be in it.
//!
//! Everything here is asked for anonymously: an issuer that cannot tell who looks cannot show somebody a log of their own. And nothing
//! that is asked for tells what was seen before: the leaves come in whole pages, and the proofs are made here.

use std::collections::HashSet;

use postern_credentials::key_log::{KeyLog, leaf_hash, verify_head};
use postern_protocol::ids::{Base64, Sha256Digest};
use postern_protocol::log::{ENTRIES_PATH, LOG_PATH, LogEntries, LogHead, LogLeaf, MAX_ENTRIES};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;

/// The largest page of leaves: directories of token keys are the longest, a few kB.
const MOST_PAGE: usize = 4 << 20;

const SPLIT: Error = Error::PinChanged(
    "the issuer shows you something else than it shows others: its public log was rewritten. Both heads of it, signed, are kept as evidence",
);
const NOT_LOGGED: Error = Error::PinChanged(
    "the issuer shows you something else than it shows others: what it gave you is not in its public log",
);
const NOT_WHOLE: Error = Error::PinChanged("the issuer does not show the log that its signed head is of");
const NOT_SIGNED: Error = Error::PinChanged("the head of the issuer's log is not signed by its pinned key");

/// The head believed last, and the log under it.
#[derive(Clone, Serialize, Deserialize)]
struct LogSeen {
    head: LogHead,
    /// The hashes of the leaves, 32 bytes each; none in profiles of before, which fetch them again.
    #[serde(default)]
    leaves: Base64,
}

impl Record for LogSeen {
    const KIND: &'static str = "log-head";
}

impl LogSeen {
    fn hashes(&self) -> impl Iterator<Item = Sha256Digest> {
        self.leaves.0.as_chunks::<32>().0.iter().map(|hash| Sha256Digest(*hash))
    }
}

/// Two heads that cannot both be of one append-only log, each signed by the issuer: anybody can check that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFork {
    /// The one believed before.
    pub seen: LogHead,
    /// The one that does not extend it.
    pub shown: LogHead,
    /// When it was shown, Unix seconds.
    pub at: u64,
}

impl Record for LogFork {
    const KIND: &'static str = "log-fork";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The head of the issuer's log that was believed last; `None` before the first look-up.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn log_head(&self) -> Result<Option<LogHead>> {
        Ok(self.profile.get::<LogSeen>("")?.map(|seen| seen.head))
    }

    /// The evidence, if the issuer was ever caught showing two logs.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn log_fork(&self) -> Result<Option<LogFork>> {
        self.profile.get("")
    }

    /// Fetches the head and what it has brought; believes it if it is signed and extends the one before.
    pub(super) async fn refresh_head(&mut self) -> Result<()> {
        let pins = self.pins()?;
        let head: LogHead = self.send_anonymously(&Request::get(&pins.issuer_url, LOG_PATH)?).await?.json()?;
        verify_head(&head, &pins.issuer_key).map_err(|_| NOT_SIGNED)?;
        let seen = self.profile.get::<LogSeen>("")?;
        if seen.as_ref().is_some_and(|seen| head.size < seen.head.size) {
            return Err(self.note_fork(seen, head)?);
        }
        let (log, leaves) = self.fetch_leaves(&pins.issuer_url, &head, seen.as_ref()).await?;
        if log.root(head.size).as_ref() != Some(&head.root) {
            return Err(NOT_WHOLE);
        }
        if seen.as_ref().is_some_and(|seen| log.root(seen.head.size).as_ref() != Some(&seen.head.root)) {
            return Err(self.note_fork(seen, head)?);
        }
        self.profile.tx(&mut self.rng, |t| t.put("", &LogSeen { head, leaves: Base64(leaves) }))
    }

    /// The log under a head, as the issuer tells it now. Of what is known only whole pages are not asked for again.
    async fn fetch_leaves(
        &mut self,
        issuer_url: &str,
        head: &LogHead,
        seen: Option<&LogSeen>,
    ) -> Result<(KeyLog, Vec<u8>)> {
        let (mut log, mut leaves) = (KeyLog::default(), Vec::new());
        let mut push = |log: &mut KeyLog, hash: &Sha256Digest| {
            log.push_hash(hash);
            leaves.extend_from_slice(hash.as_bytes());
        };
        let known: Vec<_> = seen.into_iter().flat_map(LogSeen::hashes).collect();
        let page = usize::try_from(MAX_ENTRIES).unwrap_or(usize::MAX);
        known.chunks_exact(page).flatten().for_each(|hash| push(&mut log, hash));
        while log.size() < head.size {
            let from = log.size();
            let to = head.size.min(from.saturating_add(MAX_ENTRIES));
            let path = format!("{ENTRIES_PATH}?from={from}&to={to}");
            let request = Request::get(issuer_url, &path)?.max_answer(MOST_PAGE);
            let entries: LogEntries = match self.send_anonymously(&request).await?.json() {
                Err(error) if error.is_passing() => return Err(error),
                // Who will not show it is treated like who cannot.
                entries => entries.map_err(|_| NOT_WHOLE)?,
            };
            let many = u64::try_from(entries.entries.len()).unwrap_or(u64::MAX);
            if entries.from != from || many != to.saturating_sub(from) {
                return Err(NOT_WHOLE);
            }
            entries.entries.iter().for_each(|leaf| push(&mut log, &leaf_hash(&leaf.0)));
        }
        Ok((log, leaves))
    }

    /// Keeps the evidence: two heads that cannot both be of one log.
    fn note_fork(&mut self, seen: Option<LogSeen>, shown: LogHead) -> Result<Error> {
        // The first of several is the one closest to the truth that everybody saw.
        if let (Some(seen), None) = (seen, self.log_fork()?) {
            let fork = LogFork { seen: seen.head, shown, at: self.now().seconds() };
            self.profile.tx(&mut self.rng, |t| t.put("", &fork))?;
        }
        Ok(SPLIT)
    }

    /// Makes sure that all of these are in the log that was seen last.
    pub(super) fn require_logged(&self, leaves: &[LogLeaf]) -> Result<()> {
        let seen = self.profile.get::<LogSeen>("")?.ok_or(NOT_LOGGED)?;
        let logged: HashSet<Sha256Digest> = seen.hashes().collect();
        let is_logged = |leaf: &LogLeaf| logged.contains(&leaf_hash(&leaf.encode()));
        if leaves.iter().all(is_logged) { Ok(()) } else { Err(NOT_LOGGED) }
    }
}
