//! One-time prekeys: the own supply at the relay, and what is claimed of other people's.
//!
//! * **Owner.** `sync` looks how many are left; when it is fewer than half, new keys are made, and they and the exact upload are on disk
//!   before it is sent. A lost answer: the identical bytes again. A key goes from the account in the transaction that stores the message
//!   that was made with it (`open`, `read`).
//! * **Sender.** Who begins an Olm session claims one, anonymously, just before the message is made; never for looking somebody up. Whatever
//!   goes wrong with that, the card's fallback key serves. The claim is not kept: if the answer is lost for good, the owner has one
//!   prekey less, and two attempts to write have nothing in common that the relay could see.

use postern_credentials::prekey::{open_prekey, seal_prekey};
use postern_protocol::card::CardLink;
use postern_protocol::ids::{Base64, DhPublicKey, PrekeyClaim, SealedPrekey};
use postern_protocol::prekeys::{MAX_PREKEYS, OWN_PREKEYS_PATH, PrekeySupply, PrekeyUpload, claim_path};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::card::ROTATE_AFTER;
use crate::channel::{OCTETS, Request};
use crate::client::{Account, Client};
use crate::error::{Error, Result};
use crate::olm::{self, OlmAccountRecord};
use crate::profile::Record;

/// vodozemac keeps 5,000 one-time keys and throws away the oldest for more. So many times a full supply fits in beside the present one.
const FULL_SUPPLIES: u64 = 49;

/// What the first message of an Olm session was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstKey {
    /// A one-time prekey: once they have read the message, nobody can open a copy of it, with all their keys in hand.
    OneTime,
    /// The fallback key, for their one-time prekeys are used up.
    UsedUp,
    /// The fallback key, for the relay handed out none, or could not be reached.
    Unavailable,
    /// The fallback key, for the relay handed out something that is no prekey of theirs: it misbehaves.
    NotTheirs,
}

/// The own supply, as far as it must be known here.
#[derive(Clone, Serialize, Deserialize)]
struct SupplyRecord {
    /// When keys were last made, Unix seconds.
    made: u64,
    /// The exact upload, until the relay has confirmed it.
    upload: Option<Base64>,
}

impl Record for SupplyRecord {
    const KIND: &'static str = "prekey-supply";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Fills the supply up if fewer than half are left; how many prekeys the relay was given. To be called when the mailbox is empty.
    ///
    /// Not again within the time that a message may take, divided by [`FULL_SUPPLIES`] (18 hours if the relay keeps messages for 30 days):
    /// somebody who claims all of them all the time must not have keys thrown away that a message on its way was made with.
    pub(crate) async fn refill_prekeys(&mut self, account: &Account) -> Result<usize> {
        if let Some(record) = self.profile.get::<SupplyRecord>("")? {
            if let Some(upload) = record.upload.clone() {
                return self.upload_prekeys(account, record, upload.0).await;
            }
            let pause = ROTATE_AFTER.saturating_add(account.retention_seconds) / FULL_SUPPLIES;
            let since = self.now().seconds().checked_sub(record.made);
            if since.is_some_and(|since| since < pause) {
                return Ok(0);
            }
        }
        let Some(supply) = self.own_supply(account).await? else { return Ok(0) };
        let full = supply.limit.min(MAX_PREKEYS as u64);
        if supply.unclaimed.saturating_mul(2) >= full {
            return Ok(0);
        }
        let missing = usize::try_from(full.saturating_sub(supply.unclaimed)).unwrap_or(MAX_PREKEYS);
        // The largest number that every database holds.
        let next = supply.batch.checked_add(1).filter(|next| i64::try_from(*next).is_ok());
        let next = next.ok_or(Error::Misbehaved("it has counted more uploads of prekeys than there can be"))?;
        let (record, upload) = self.make_prekeys(account, next, missing)?;
        self.upload_prekeys(account, record, upload).await
    }

    /// How the supply stands; `None` at a relay that knows no prekeys.
    async fn own_supply(&mut self, account: &Account) -> Result<Option<PrekeySupply>> {
        let request = Request::get(&account.relay.url, OWN_PREKEYS_PATH)?;
        match self.at_mailbox(request).await?.json() {
            Err(error) if error.refusal() == Some(ProblemKind::NotFound) => Ok(None),
            supply => supply.map(Some),
        }
    }

    /// Makes keys, and puts them and the upload on disk.
    fn make_prekeys(&mut self, account: &Account, batch: u64, n: usize) -> Result<(SupplyRecord, Vec<u8>)> {
        let mut olm = olm::own_account(&self.profile)?;
        let seal = |key| seal_prekey(&mut self.rng, &account.identity, &account.mailbox, key);
        let sealed: std::result::Result<_, _> = olm::new_one_time_keys(&mut olm, n).into_iter().map(seal).collect();
        let prekeys = sealed.map_err(|_| Error::Internal("a prekey has another length"))?;
        let upload = PrekeyUpload { batch, prekeys }.encode();
        let record = SupplyRecord { made: self.now().seconds(), upload: Some(Base64(upload.clone())) };
        self.profile.tx(&mut self.rng, |t| {
            t.put("", &OlmAccountRecord::of(&olm)?)?;
            t.put("", &record)
        })?;
        Ok((record, upload))
    }

    async fn upload_prekeys(&mut self, account: &Account, record: SupplyRecord, upload: Vec<u8>) -> Result<usize> {
        let given = PrekeyUpload::decode(&upload).map_err(|_| Error::ProfileDamaged("the upload of prekeys"))?;
        let request = Request::new(http::Method::PUT, &account.relay.url, OWN_PREKEYS_PATH)?.body(OCTETS, upload);
        let taken = self.at_mailbox(request).await?.json::<PrekeySupply>();
        // Refused for good: the next round asks how the supply stands, and makes others.
        let settled = match &taken {
            Ok(_) => true,
            Err(error) => matches!(error.refusal(), Some(ProblemKind::PrekeyBatch | ProblemKind::NotFound)),
        };
        if settled {
            self.profile.tx(&mut self.rng, |t| t.put("", &SupplyRecord { upload: None, ..record }))?;
        }
        taken.map(|_| given.prekeys.len())
    }

    /// Claims a prekey of theirs for a first message. Only a failure of the profile is an error.
    pub(crate) async fn claim_prekey(&mut self, link: &CardLink) -> Result<(Option<DhPublicKey>, FirstKey)> {
        let claim = PrekeyClaim(self.random());
        let request = Request::new(http::Method::POST, &link.relay_url, &claim_path(&link.mailbox))?
            .body(OCTETS, claim.0.to_vec())
            .max_answer(SealedPrekey::LEN);
        match self.send_anonymously(&request).await {
            Ok(reply) if reply.status == 204 => Ok((None, FirstKey::UsedUp)),
            Ok(reply) if reply.status == 200 => Ok(match open_prekey(link, &reply.body) {
                Ok(key) => (Some(key), FirstKey::OneTime),
                Err(_) => (None, FirstKey::NotTheirs),
            }),
            Err(Error::Misbehaved(_)) => Ok((None, FirstKey::NotTheirs)),
            Err(error @ (Error::ProfileDamaged(_) | Error::Storage(_))) => Err(error),
            Ok(_) | Err(_) => Ok((None, FirstKey::Unavailable)),
        }
    }
}

#[cfg(test)]
#[path = "prekeys/tests.rs"]
mod tests;
