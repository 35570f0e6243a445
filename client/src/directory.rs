//! The issuer's token keys, as they were seen: pinned, compared, and looked at without telling who looks.
//!
//! An issuer that gave one account a key of its own would know that account's tokens again. So the directory is read anonymously, at the
//! registration already if there is a way, and a key that was only seen when the issuer knew who was looking must turn up there. A key
//! goes from active to retiring to gone and never back.

use postern_credentials::blind_token::VerifyingKey;
use postern_protocol::ids::{Base64, TokenKeyId};
use postern_protocol::time::Clock;
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, KeyState, TOKEN_TYPE};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::{Request, parse_url};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::exchange::ExchangeJob;
use crate::profile::{Record, Tx};
use crate::register::Pins;
use crate::tokens::{TokenOutcome, TokenRecord, end_token};

/// The most keys that a directory of ours lists.
const MOST_KEYS: usize = 64;

/// A token key of the issuer, as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    spki: Base64,
    state: KeyState,
    not_after: Option<u64>,
    /// When it was first seen, Unix seconds.
    first_seen: u64,
    /// Seen without telling who looks: the issuer cannot have made it up for this account.
    anonymously: bool,
}

impl Record for KeyRecord {
    const KIND: &'static str = "token-key";
}

/// When the directory was last looked at.
#[derive(Clone, Serialize, Deserialize, Default)]
struct KeysSeen {
    at: u64,
}

impl Record for KeysSeen {
    const KIND: &'static str = "token-keys-seen";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The key that signs now, for a registration: looked up anonymously if there is a way, so that the issuer cannot give this account
    /// a key of its own by which it would know its tokens again.
    pub(crate) async fn active_key_for_registration(&mut self, pins: &Pins) -> Result<VerifyingKey> {
        let request = Request::get(&pins.issuer_url, DIRECTORY_PATH)?;
        let anonymous = self.anonymous()?.check(&parse_url(&pins.issuer_url)?).is_ok();
        let reply = if anonymous {
            self.send_anonymously(&request).await?
        } else {
            self.authenticated()?.send_protected(&request).await?
        };
        self.take_directory(&reply.json()?, anonymous)?;
        self.active_key()
    }

    /// Looks at the issuer's directory, anonymously, and does what follows from it: tokens of retiring keys are to be exchanged at random
    /// times, tokens of retired keys are written off.
    ///
    /// # Errors
    /// [`Error::PinChanged`] if a key does what keys never do, and what the channel and the issuer say.
    pub async fn refresh_keys(&mut self) -> Result<()> {
        self.look_at_keys().await.map(drop)
    }

    /// [`Self::refresh_keys`]; the directory as served, which is what the log has of it.
    pub(crate) async fn look_at_keys(&mut self) -> Result<Vec<u8>> {
        let pins = self.pins()?;
        let served = self.send_anonymously(&Request::get(&pins.issuer_url, DIRECTORY_PATH)?).await?.success()?;
        let directory =
            serde_json::from_slice(&served).map_err(|_| Error::Misbehaved("its directory does not read"))?;
        self.take_directory(&directory, true)?;
        self.plan_renewals()?;
        Ok(served)
    }

    /// When the directory should be looked at again.
    pub(crate) fn keys_due(&self) -> Result<bool> {
        let every = self.settings()?.exchange_interval_seconds.min(24 * 3600);
        let seen = self.profile.get::<KeysSeen>("")?.unwrap_or_default();
        Ok(seen.at.saturating_add(every) <= self.now().seconds())
    }

    /// The key that signs now, as last seen.
    pub(crate) fn active_key(&self) -> Result<VerifyingKey> {
        let keys = self.profile.list::<KeyRecord>()?;
        let active = keys.into_iter().find(|(_, key)| key.state == KeyState::Active);
        let (_, key) = active.ok_or(Error::Misbehaved("it has no active token key"))?;
        VerifyingKey::from_spki(&key.spki.0).map_err(|_| Error::ProfileDamaged("a token key"))
    }

    fn take_directory(&mut self, directory: &Directory, anonymously: bool) -> Result<()> {
        let now = self.now().seconds();
        let listed = read_directory(directory, now, anonymously)?;
        self.profile.tx(&mut self.rng, |t| {
            let known = t.list::<KeyRecord>()?;
            check_against(&known, &listed, now, anonymously)?;
            for (id, _) in known.iter().filter(|(id, _)| !listed.iter().any(|(other, _)| other == id)) {
                t.delete::<KeyRecord>(id)?;
                write_off(t, id, now)?;
            }
            for (id, mut key) in listed {
                if let Some((_, old)) = known.iter().find(|(other, _)| *other == id) {
                    key.first_seen = old.first_seen;
                    key.anonymously |= old.anonymously;
                }
                t.put(&id, &key)?;
            }
            t.put("", &KeysSeen { at: now })
        })
    }

    /// An exchange at a random time for every unspent token of a retiring key, well before the key is gone.
    fn plan_renewals(&mut self) -> Result<()> {
        let now = self.now();
        let interval = self.settings()?.exchange_interval_seconds;
        for (serial, token) in self.profile.list::<TokenRecord>()? {
            let key = self.profile.get::<KeyRecord>(&token.token()?.input.token_key_id.to_string())?;
            let Some(key) = key.filter(|key| key.state == KeyState::Retiring) else { continue };
            if !token.is_unspent() || self.profile.get::<ExchangeJob>(&serial)?.is_some() {
                continue;
            }
            let left = key.not_after.map_or(interval, |end| end.saturating_sub(now.seconds()));
            let job = ExchangeJob::new(self.some_time_within(interval.min(left / 2)));
            self.profile.tx(&mut self.rng, |t| t.put(&serial, &job))?;
        }
        Ok(())
    }
}

/// Reads the directory, keys by id: exactly one active, all sound.
fn read_directory(directory: &Directory, now: u64, anonymously: bool) -> Result<Vec<(String, KeyRecord)>> {
    if directory.token_keys.len() > MOST_KEYS {
        return Err(Error::Misbehaved("its directory lists too many keys"));
    }
    let mut listed: Vec<(String, KeyRecord)> = Vec::new();
    for entry in directory.token_keys.iter().filter(|entry| entry.token_type == TOKEN_TYPE) {
        let key =
            VerifyingKey::from_spki(&entry.token_key.0).map_err(|_| Error::Misbehaved("a token key is not sound"))?;
        // Directories of others do not say: the first is the one to use (RFC 9578 §4).
        let first = if listed.is_empty() { KeyState::Active } else { KeyState::Retiring };
        let state = entry.state.unwrap_or(first);
        let record = KeyRecord {
            spki: entry.token_key.clone(),
            state,
            not_after: entry.not_after,
            first_seen: now,
            anonymously,
        };
        listed.push((key.key_id().to_string(), record));
    }
    let active = listed.iter().filter(|(_, key)| key.state == KeyState::Active).count();
    if active == 1 { Ok(listed) } else { Err(Error::Misbehaved("its directory has not exactly one active key")) }
}

/// A key only ever goes from active to retiring to gone, and what an account is shown everybody is shown.
fn check_against(
    known: &[(String, KeyRecord)],
    listed: &[(String, KeyRecord)],
    now: u64,
    anonymously: bool,
) -> Result<()> {
    for (id, old) in known {
        match listed.iter().find(|(other, _)| other == id) {
            Some((_, new)) if old.state == KeyState::Retiring && new.state == KeyState::Active => {
                return Err(Error::PinChanged("a token key that was retiring is active again"));
            }
            Some(_) => {}
            // Seen only when the issuer knew who was looking, a short while ago, and nobody else sees it.
            None if anonymously && !old.anonymously && old.first_seen.saturating_add(24 * 3600) > now => {
                return Err(Error::PinChanged("the issuer gave you a token key that it shows to nobody else"));
            }
            None => {}
        }
    }
    Ok(())
}

/// Writes off every token of a key that is gone.
fn write_off(t: &mut Tx<'_>, key_id: &str, now: u64) -> Result<()> {
    for (serial, token) in t.list::<TokenRecord>()? {
        let of: TokenKeyId = token.token()?.input.token_key_id;
        if of.to_string() == key_id {
            end_token(t, &serial, &token, TokenOutcome::Expired, now)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(state: KeyState, first_seen: u64, anonymously: bool) -> KeyRecord {
        KeyRecord { spki: Base64::default(), state, not_after: None, first_seen, anonymously }
    }

    #[test]
    fn a_key_that_comes_back_to_life_is_refused_loudly() {
        let known = [("a".to_owned(), key(KeyState::Retiring, 0, true))];
        let listed = [("a".to_owned(), key(KeyState::Active, 0, true))];
        assert!(matches!(check_against(&known, &listed, 9, true), Err(Error::PinChanged(_))));
        assert!(check_against(&listed, &known, 9, true).is_ok());
    }

    #[test]
    fn a_key_that_only_this_account_was_shown_is_refused_loudly() {
        let known = [("a".to_owned(), key(KeyState::Active, 100, false))];
        let listed = [("b".to_owned(), key(KeyState::Active, 200, true))];
        assert!(matches!(check_against(&known, &listed, 200, true), Err(Error::PinChanged(_))));
        assert!(check_against(&known, &listed, 100 + 24 * 3600, true).is_ok(), "rotated away long since");
        let confirmed = [("a".to_owned(), key(KeyState::Active, 100, true))];
        assert!(check_against(&confirmed, &listed, 200, true).is_ok());
    }
}
