//! What the user may choose; kept in the profile.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use postern_protocol::time::Clock;

use crate::channel::Route;
use crate::client::Client;
use crate::error::Result;
use crate::profile::Record;

/// The user's choices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How anonymous requests travel.
    pub route: Route,
    /// A verdict is sent at a random time within so many seconds (M18, M33). 0: at once, which shows when you read.
    pub release_delay_seconds: u64,
    /// How long on average between two questions whether a token came back, seconds; each gap is random. 0: at every sync.
    pub exchange_interval_seconds: u64,
    /// So many look-up tokens are kept at hand once somebody was looked up, so that asking for tokens and looking up do not fall
    /// together. 0: none, they are asked for when they are needed.
    pub lookup_stock: usize,
    /// `sync` asks for missing look-up tokens at a random time within so many seconds. 0: at once.
    pub lookup_refill_seconds: u64,
    /// Look-ups are filled up with dummies to a power of two, so that nobody sees how many numbers there were; dummies use tokens too.
    pub lookup_dummies: bool,
    /// What this session is called in the list of sessions; at most 64 bytes.
    pub session_label: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route: Route::Unset,
            release_delay_seconds: 6 * 3600,
            exchange_interval_seconds: 12 * 3600,
            lookup_stock: 50,
            lookup_refill_seconds: 12 * 3600,
            lookup_dummies: true,
            session_label: "postern".to_owned(),
        }
    }
}

impl Record for Settings {
    const KIND: &'static str = "settings";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The choices, defaults where none was made.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.profile.get("")?.unwrap_or_default())
    }

    /// Changes the choices.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) -> Result<Settings> {
        self.profile.tx(&mut self.rng, |t| {
            let mut settings = t.get::<Settings>("")?.unwrap_or_default();
            change(&mut settings);
            t.put("", &settings)?;
            Ok(settings)
        })
    }
}
