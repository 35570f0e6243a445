//! Look-up tokens: a stock of them for each window, asked for as the account and used by nobody in particular.
//!
//! Who asks for tokens and looks somebody up a second later is guessed, since few others do both just then. So `sync` keeps a stock, filled
//! at random times; only when that does not suffice are tokens asked for at once. Nothing is asked for before the first look-up: the larger
//! quota of an account's first window would be gone before it is needed.

use postern_credentials::blind_token::challenge_digest;
use postern_credentials::lookup_token::PendingTokens;
use postern_protocol::ids::{LookupTokenBytes, OprfPublicKey};
use postern_protocol::lookup::{
    AMORTIZED_REQUEST_MEDIA_TYPE, LookupPolicy, LookupToken, LookupTokenResponse, MAX_TOKEN_BATCH, lookup_challenge,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::{Clock, Timestamp};
use postern_protocol::tokens::TOKEN_REQUEST_PATH;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::{Record, Tx};
use crate::secret::SecretBytes;

/// After a failure the next attempt of `sync` is at least so far off, seconds.
const AFTER_FAILURE: u64 = 600;

/// The tokens of one window; its key is the window.
#[derive(Clone, Serialize, Deserialize)]
struct Stock {
    /// [`LookupToken`]s, encoded one after the other.
    tokens: SecretBytes,
}

impl Record for Stock {
    const KIND: &'static str = "lookup-tokens";
}

impl Stock {
    fn len(&self) -> usize {
        self.tokens.expose().len() / LookupToken::LEN
    }

    fn with(&self, tokens: &[LookupToken]) -> Self {
        let mut bytes = zeroize::Zeroizing::new(self.tokens.expose().to_vec());
        tokens.iter().for_each(|token| bytes.extend_from_slice(token.encode().as_bytes()));
        Self { tokens: SecretBytes::new(bytes.as_slice()) }
    }
}

/// A batch that was asked for; on disk before it is sent, so that a lost answer is fetched by the identical request.
#[derive(Clone, Serialize, Deserialize)]
struct Asked {
    window: u64,
    key: OprfPublicKey,
    pending: SecretBytes,
}

impl Record for Asked {
    const KIND: &'static str = "lookup-tokens-asked";
}

/// When `sync` may ask for tokens; there is none before the first look-up.
#[derive(Clone, Serialize, Deserialize)]
struct Refill {
    not_before: Timestamp,
}

impl Record for Refill {
    const KIND: &'static str = "lookup-refill";
}

/// How much can be looked up now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LookupBudget {
    /// Tokens at hand.
    pub stored: usize,
    /// Tokens that may still be asked for in this window.
    pub askable: usize,
    /// When there are new ones, Unix seconds.
    pub until: u64,
}

/// Some tokens, out of the stock.
pub(super) struct Taken {
    pub(super) window: u64,
    pub(super) tokens: Vec<LookupTokenBytes>,
    rest: Stock,
}

impl Taken {
    /// Takes them out on disk, in the transaction that says what they are used for.
    pub(super) fn settle(&self, t: &mut Tx<'_>) -> Result<()> {
        if self.rest.len() == 0 {
            t.delete::<Stock>(&self.window.to_string()).map(drop)
        } else {
            t.put(&self.window.to_string(), &self.rest)
        }
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// How much can be looked up now, and until when.
    ///
    /// # Errors
    /// [`Error::NeedsLogin`], [`Error::PinChanged`], and what the channels and the issuer say.
    pub async fn lookup_budget(&mut self) -> Result<LookupBudget> {
        let view = self.view().await?;
        let allowance = self.lookup_allowance().await?;
        let until = view.policy().window_start(allowance.window.saturating_add(1)).seconds();
        let askable = allowance.quota.saturating_sub(allowance.issued) as usize;
        Ok(LookupBudget { stored: self.lookup_tokens(&view.policy())?, askable, until })
    }

    /// How many tokens are good now; those that are over are erased.
    pub(super) fn lookup_tokens(&mut self, policy: &LookupPolicy) -> Result<usize> {
        let now = self.now();
        let stocks = self.stocks()?;
        let (good, over): (Vec<_>, Vec<_>) = stocks.into_iter().partition(|(window, _)| policy.accepts(*window, now));
        for (window, _) in over {
            self.drop_window(window)?;
        }
        Ok(good.iter().map(|(_, stock)| stock.len()).sum())
    }

    fn stocks(&self) -> Result<Vec<(u64, Stock)>> {
        let rows = self.profile.list::<Stock>()?.into_iter().map(|(window, stock)| Some((window.parse().ok()?, stock)));
        let mut stocks: Vec<_> = rows.collect::<Option<_>>().ok_or(Error::ProfileDamaged("look-up tokens"))?;
        stocks.sort_by_key(|(window, _)| *window);
        Ok(stocks)
    }

    /// Erases the tokens of a window.
    pub(super) fn drop_window(&mut self, window: u64) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| t.delete::<Stock>(&window.to_string()).map(drop))
    }

    /// Tokens of one window, that which ends first; `None` if there are none. `many` says how many of so many.
    pub(super) fn take_lookup_tokens(
        &mut self,
        policy: &LookupPolicy,
        many: impl FnOnce(usize) -> usize,
    ) -> Result<Option<Taken>> {
        self.lookup_tokens(policy)?;
        let Some((window, stock)) = self.stocks()?.into_iter().next() else { return Ok(None) };
        let bytes = stock.tokens.expose();
        let (taken, rest) = bytes.split_at(bytes.len().min(many(stock.len()).saturating_mul(LookupToken::LEN)));
        let tokens = taken.as_chunks::<{ LookupToken::LEN }>().0.iter().map(|token| LookupTokenBytes(*token)).collect();
        Ok(Some(Taken { window, tokens, rest: Stock { tokens: SecretBytes::new(rest) } }))
    }

    /// Sees to it that there are `wanted` tokens, as far as the quota goes; how many there are.
    pub(super) async fn stock_up(&mut self, wanted: usize) -> Result<usize> {
        self.note_refill()?;
        let mut have = match self.settle_asked().await {
            // What was left from an earlier run is not to be had any more.
            Err(error) if is_final(&error) => 0,
            other => other?,
        };
        while have < wanted {
            let allowance = self.lookup_allowance().await?;
            let left = allowance.quota.saturating_sub(allowance.issued) as usize;
            // Whole stocks at a time: how many are missing is how many were used.
            let stock = self.settings()?.lookup_stock.max(1);
            let missing = wanted.saturating_sub(have).div_ceil(stock).saturating_mul(stock);
            let count = left.min(missing).min(MAX_TOKEN_BATCH);
            if count == 0 {
                break;
            }
            self.begin_asking(count).await?;
            have = match self.settle_asked().await {
                // Somebody else of this account was faster.
                Err(error) if error.refusal() == Some(ProblemKind::LookupQuota) => break,
                // The window has ended on the way.
                Err(error) if error.refusal() == Some(ProblemKind::LookupWindow) => {
                    self.refresh_view().await?;
                    self.begin_asking(count).await?;
                    self.settle_asked().await?
                }
                other => other?,
            };
        }
        let policy = self.view().await?.policy();
        self.lookup_tokens(&policy)
    }

    async fn begin_asking(&mut self, count: usize) -> Result<()> {
        const NO_KEY: Error =
            Error::Misbehaved("it shows no key for look-ups at this time (or this machine's clock is wrong)");
        let view = self.view().await?;
        let window = view.policy().window_at(self.now());
        let key = view.window_key(window).ok_or(NO_KEY)?;
        let challenge = challenge_digest(&lookup_challenge(&self.pins()?.issuer_name))
            .map_err(|_| Error::Misbehaved("a server's name is too long"))?;
        let pending = PendingTokens::begin(&mut self.rng, &key, challenge, count)
            .map_err(|_| Error::Misbehaved("its key for look-ups is not sound"))?;
        let asked = Asked { window, key, pending: SecretBytes::new(pending.to_bytes().as_slice()) };
        self.profile.tx(&mut self.rng, |t| t.put("", &asked))
    }

    /// Asks for the batch that is on disk, if there is one; how many tokens there are then.
    async fn settle_asked(&mut self) -> Result<usize> {
        let view = self.view().await?;
        let asked = self.profile.get::<Asked>("")?;
        if let Some(asked) = asked.filter(|asked| view.policy().accepts(asked.window, self.now())) {
            let tokens = match self.ask_for(&asked).await {
                Err(error) if is_final(&error) => {
                    self.forget_asked()?;
                    return Err(error);
                }
                other => other?,
            };
            let name = asked.window.to_string();
            self.profile.tx(&mut self.rng, |t| {
                let stock = t.get::<Stock>(&name)?.unwrap_or(Stock { tokens: SecretBytes::new([]) });
                t.put(&name, &stock.with(&tokens))?;
                t.delete::<Asked>("").map(drop)
            })?;
        } else {
            self.forget_asked()?;
        }
        self.lookup_tokens(&view.policy())
    }

    async fn ask_for(&mut self, asked: &Asked) -> Result<Vec<LookupToken>> {
        const DAMAGED: Error = Error::ProfileDamaged("look-up tokens on their way");
        const BAD: Error = Error::Misbehaved("the look-up tokens that it gave are not of the key that it shows");
        let pending = PendingTokens::from_bytes(asked.pending.expose()).map_err(|_| DAMAGED)?;
        let body = pending.request().encode().map_err(|_| DAMAGED)?;
        let request = Request::new(http::Method::POST, &self.pins()?.issuer_url, TOKEN_REQUEST_PATH)?
            .body(AMORTIZED_REQUEST_MEDIA_TYPE, body);
        let answer = self.at_issuer(request).await?.success()?;
        let answer = LookupTokenResponse::decode(&answer).map_err(|_| BAD)?;
        pending.finish(&asked.key, &answer).map_err(|_| BAD)
    }

    fn forget_asked(&mut self) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| t.delete::<Asked>("").map(drop))
    }

    /// From the first look-up on `sync` keeps a stock.
    fn note_refill(&mut self) -> Result<()> {
        if self.profile.get::<Refill>("")?.is_some() {
            return Ok(());
        }
        let not_before = self.some_time_within(self.settings()?.lookup_refill_seconds);
        self.profile.tx(&mut self.rng, |t| t.put("", &Refill { not_before }))
    }

    /// When `sync` may ask for tokens next; `None` if it never does.
    pub(crate) fn next_refill(&self) -> Result<Option<Timestamp>> {
        let settings = self.settings()?;
        let never = settings.lookup_stock == 0 || settings.lookup_refill_seconds == 0;
        Ok(self.profile.get::<Refill>("")?.filter(|_| !never).map(|refill| refill.not_before))
    }

    /// Fills the stock, if its time has come; how many tokens were added. Which day's window it is does not matter: what is missing is
    /// asked for at a random time in each.
    pub(crate) async fn run_refill(&mut self) -> Result<usize> {
        let settings = self.settings()?;
        let due = self.profile.get::<Refill>("")?.is_some_and(|refill| refill.not_before <= self.now());
        if !due || settings.lookup_stock == 0 {
            return Ok(0);
        }
        let pause = match settings.lookup_refill_seconds {
            0 => 0,
            spread => spread.max(AFTER_FAILURE),
        };
        let not_before = self.some_time_about(pause);
        self.profile.tx(&mut self.rng, |t| t.put("", &Refill { not_before }))?;
        let policy = self.view().await?.policy();
        let before = self.lookup_tokens(&policy)?;
        if before > settings.lookup_stock / 2 {
            return Ok(0);
        }
        let after = self.stock_up(settings.lookup_stock).await?;
        Ok(after.saturating_sub(before))
    }
}

/// Refusals that another attempt does not change.
fn is_final(error: &Error) -> bool {
    matches!(error.refusal(), Some(ProblemKind::LookupQuota | ProblemKind::LookupWindow | ProblemKind::BadRequest))
}
