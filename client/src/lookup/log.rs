//! The issuer's public log, as this client follows it (design §2, §5): its head may only grow, and what we are shown must be in it.
//!
//! Everything here is asked for anonymously: an issuer that cannot tell who looks cannot show somebody a log of their own.

use postern_credentials::key_log::{LogError, leaf_hash, verify_contains, verify_extends, verify_head};
use postern_protocol::log::{
    CONSISTENCY_PATH, ConsistencyProof, INCLUSION_PATH, InclusionProof, LOG_PATH, LogHead, LogLeaf,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::hex;
use crate::profile::Record;

const SPLIT: Error = Error::PinChanged(
    "the issuer shows you something else than it shows others: its public log was rewritten. Both heads of it, signed, are kept as evidence",
);
const NOT_LOGGED: Error = Error::PinChanged(
    "the issuer shows you something else than it shows others: what it gave you is not in its public log",
);
const NOT_SIGNED: Error = Error::PinChanged("the head of the issuer's log is not signed by its pinned key");

const NO_PROOF: ConsistencyProof = ConsistencyProof { hashes: Vec::new() };

/// The head believed last.
#[derive(Clone, Serialize, Deserialize)]
struct HeadSeen {
    head: LogHead,
}

impl Record for HeadSeen {
    const KIND: &'static str = "log-head";
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

/// A leaf that was proved to be in the log; its key is the leaf's hash. It stays in, since each head extends the one before.
#[derive(Serialize, Deserialize)]
struct LeafSeen {}

impl Record for LeafSeen {
    const KIND: &'static str = "log-leaf";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The head of the issuer's log that was believed last; `None` before the first look-up.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn log_head(&self) -> Result<Option<LogHead>> {
        Ok(self.profile.get::<HeadSeen>("")?.map(|seen| seen.head))
    }

    /// The evidence, if the issuer was ever caught showing two logs.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn log_fork(&self) -> Result<Option<LogFork>> {
        self.profile.get("")
    }

    /// Fetches the head; believes it if it is signed and extends the one before.
    pub(super) async fn refresh_head(&mut self) -> Result<LogHead> {
        let pins = self.pins()?;
        let head: LogHead = self.send_anonymously(&Request::get(&pins.issuer_url, LOG_PATH)?).await?.json()?;
        verify_head(&head, &pins.issuer_key).map_err(|_| NOT_SIGNED)?;
        if let Some(seen) = self.log_head()? {
            self.check_extends(&seen, &head, &pins.issuer_url).await?;
        }
        self.profile.tx(&mut self.rng, |t| t.put("", &HeadSeen { head: head.clone() }))?;
        Ok(head)
    }

    async fn check_extends(&mut self, seen: &LogHead, new: &LogHead, issuer_url: &str) -> Result<()> {
        let proof = if new.size > seen.size && seen.size > 0 {
            let path = format!("{CONSISTENCY_PATH}?from={}&to={}", seen.size, new.size);
            match self.send_anonymously(&Request::get(issuer_url, &path)?).await?.json() {
                Err(error) if error.is_passing() => return Err(error),
                // Who will not prove it is treated like who cannot.
                proof => proof.unwrap_or(NO_PROOF),
            }
        } else {
            NO_PROOF
        };
        if verify_extends(seen, new, &proof).is_ok() {
            return Ok(());
        }
        let fork = LogFork { seen: seen.clone(), shown: new.clone(), at: self.now().seconds() };
        // The first of several is the one closest to the truth that everybody saw.
        if self.log_fork()?.is_none() {
            self.profile.tx(&mut self.rng, |t| t.put("", &fork))?;
        }
        Err(SPLIT)
    }

    /// Makes sure that a leaf is in the log of this head. A leaf that was found before is not asked for again.
    pub(super) async fn require_logged(&mut self, head: &LogHead, leaf: &LogLeaf) -> Result<()> {
        let leaf = leaf.encode();
        let hash = leaf_hash(&leaf);
        let name = hex(hash.as_bytes());
        if self.profile.get::<LeafSeen>(&name)?.is_some() {
            return Ok(());
        }
        let path = format!("{INCLUSION_PATH}?leaf={hash}&size={}", head.size);
        let reply = self.send_anonymously(&Request::get(&self.pins()?.issuer_url, &path)?).await?;
        let proof: InclusionProof = reply.json().map_err(|error| match error.refusal() {
            Some(ProblemKind::NotFound) => NOT_LOGGED,
            _ => error,
        })?;
        verify_contains(head, &leaf, &proof).map_err(|_: LogError| NOT_LOGGED)?;
        self.profile.tx(&mut self.rng, |t| t.put(&name, &LeafSeen {}))
    }
}
