//! One mailbox's supply of prekeys at the relay in memory.

use std::collections::{HashMap, VecDeque};

use postern_protocol::ids::{PrekeyClaim, SealedPrekey};
use postern_protocol::prekeys::{PrekeySupply, PrekeyUpload};
use postern_protocol::problem::ProblemKind;

use super::http::{Asked, Told};

/// How many a mailbox has.
pub(crate) const LIMIT: usize = 100;

/// What there is, and what was handed out.
#[derive(Default)]
pub(crate) struct Supply {
    pub(crate) unclaimed: VecDeque<SealedPrekey>,
    pub(crate) claimed: HashMap<PrekeyClaim, SealedPrekey>,
    pub(crate) last: Option<PrekeyUpload>,
    /// As at a relay that knows no prekeys.
    pub(crate) unknown: bool,
}

impl Supply {
    pub(super) fn answer(&mut self, asked: &Asked) -> Told {
        match asked.method.as_str() {
            _ if self.unknown => Told::problem(ProblemKind::NotFound),
            "PUT" => self.add(asked),
            "POST" => self.claim(asked),
            _ => self.look(),
        }
    }

    fn add(&mut self, asked: &Asked) -> Told {
        let upload = PrekeyUpload::decode(&asked.body).unwrap();
        match &self.last {
            Some(last) if *last == upload => {}
            Some(last) if last.batch >= upload.batch => return Told::problem(ProblemKind::PrekeyBatch),
            _ => {
                let room = LIMIT - self.unclaimed.len();
                self.unclaimed.extend(upload.prekeys.iter().take(room));
                self.last = Some(upload);
            }
        }
        self.look()
    }

    fn look(&self) -> Told {
        let batch = self.last.as_ref().map_or(0, |last| last.batch);
        Told::json(200, &PrekeySupply { unclaimed: self.unclaimed.len() as u64, limit: LIMIT as u64, batch })
    }

    fn claim(&mut self, asked: &Asked) -> Told {
        let claim = PrekeyClaim::from_slice(&asked.body).unwrap();
        let known = self.claimed.get(&claim).copied();
        match known.or_else(|| self.unclaimed.pop_front()) {
            Some(sealed) => {
                self.claimed.insert(claim, sealed);
                Told::bytes(200, sealed.0.to_vec())
            }
            None => Told::bytes(204, Vec::new()),
        }
    }
}
