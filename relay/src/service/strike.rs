//! Strikes: what an owner wants refused without the sender's knowing, as nullifiers or as a revealed seed (design §3).

use std::ops::Range;

use postern_credentials::reply_credential::{
    Context, KeyPeriod, MemberSecret, Params, ReplyNullifier, strike as nullifiers_of,
};
use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::{
    EpochNullifiers, MAX_HANDOVER, MAX_REVEALED_SLOTS, MAX_STRIKES, REPLY_NULLIFIER_LEN, ReplyPolicy, Reveal, Strikes,
};
use postern_protocol::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::db::mailbox;
use crate::db::strike::{self, InEpoch, RevealRow};
use crate::error::Refusal;

/// How far ahead an owner may strike, periods.
const PERIODS_AHEAD: u32 = 6;
/// Names the use of the seal key, and the hash of a seed.
const REVEALED: &[u8] = b"postern/reply-reveal/v1";

/// The epochs of which replies are accepted at this moment: the present one, and in the grace the one before it.
pub(crate) fn live_epochs(policy: &ReplyPolicy, now: Timestamp) -> Range<u32> {
    let oldest = policy.epoch_at(now.minus_seconds(u64::from(policy.grace_seconds)));
    oldest..policy.epoch_at(now).saturating_add(1)
}

/// Strikes and lifts, in one transaction; what is in both lists is struck. Repeating is harmless.
///
/// # Errors
/// `bad-request` for broken lists, more than [`MAX_STRIKES`], or an epoch too long ago or too far ahead; `strike-limit` if there would be
/// too many (and then nothing changes); `mailbox-unknown` if the mailbox was closed meanwhile.
pub(crate) async fn apply(app: &App, mailbox: MailboxId, strikes: &Strikes) -> Result<(), Refusal> {
    let (to_strike, to_lift) = (decode(app, &strikes.strike)?, decode(app, &strikes.lift)?);
    let total: usize = to_strike.iter().chain(&to_lift).map(|list| list.nullifiers.len()).sum();
    if total > MAX_STRIKES {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "At most 1024 nullifiers at a time."));
    }
    let limit = app.config.limits.strikes_per_mailbox;
    let (to_strike, to_lift) = (&to_strike, &to_lift);
    app.db
        .run("reply_strikes", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(ProblemKind::MailboxUnknown.into());
                }
                for list in to_lift {
                    strike::lift(tx, &mailbox, list).await?;
                }
                let mut fresh = 0;
                for list in to_strike {
                    fresh += strike::strike(tx, &mailbox, list).await?;
                }
                if fresh > 0 && strike::count(tx, &mailbox).await? > limit {
                    return Err(ProblemKind::StrikeLimit.into());
                }
                Ok(())
            })
        })
        .await
}

fn decode(app: &App, lists: &[EpochNullifiers]) -> Result<Vec<InEpoch>, Refusal> {
    let policy = &app.config.replies;
    let now = policy.epoch_at(app.clock.now());
    let furthest = policy.period_of(now).saturating_add(PERIODS_AHEAD);
    let read = |list: &EpochNullifiers| {
        if list.epoch.saturating_add(1) < now || policy.period_of(list.epoch) > furthest {
            return Err(Refusal::detailed(ProblemKind::BadRequest, "An epoch is too long ago or too far ahead."));
        }
        let (nullifiers, rest) = list.nullifiers.0.as_chunks::<REPLY_NULLIFIER_LEN>();
        if !rest.is_empty() {
            return Err(Refusal::detailed(ProblemKind::BadRequest, "A nullifier has 8 bytes."));
        }
        Ok(InEpoch { epoch: list.epoch, nullifiers: nullifiers.iter().copied().map(ReplyNullifier).collect() })
    };
    lists.iter().map(read).collect()
}

/// Strikes all that comes from a seed, until its last period is over. Repeating is harmless.
///
/// # Errors
/// `bad-request` for bytes that are no member secret, a number of slots or a period that makes no sense; `strike-limit` if the mailbox has
/// too many; `mailbox-unknown` if the mailbox was closed meanwhile.
pub(crate) async fn reveal(app: &App, mailbox: MailboxId, reveal: &Reveal) -> Result<(), Refusal> {
    let policy = &app.config.replies;
    let live = live_epochs(policy, app.clock.now());
    let epoch_now = live.end.saturating_sub(1);
    let secret = check(policy, &live, reveal)?;
    let context = context(&mailbox, reveal.key_version, reveal.period);
    let row = RevealRow {
        key_version: reveal.key_version,
        period: reveal.period,
        digest: Sha256::new_with_prefix(REVEALED).chain_update(reveal.secret.expose()).finalize().into(),
        last_period: reveal.last_period,
        slots: reveal.slots,
        sealed: app.seal.seal(&mut (app.rng)(), &context, reveal.secret.expose()),
        expanded_epoch: epoch_now,
    };
    let struck = derive(app, mailbox, &row, secret, live.collect()).await?;
    let limit = app.config.limits.reveals_per_mailbox;
    let (row, struck) = (&row, &struck);
    app.db
        .run("reply_reveal", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(ProblemKind::MailboxUnknown.into());
                }
                let before = strike::count_reveals(tx, &mailbox).await?;
                strike::put_reveal(tx, &mailbox, row).await?;
                let after = strike::count_reveals(tx, &mailbox).await?;
                if after > before && after > limit {
                    return Err(ProblemKind::StrikeLimit.into());
                }
                for list in struck {
                    strike::strike(tx, &mailbox, list).await?;
                }
                Ok(())
            })
        })
        .await
}

fn check(policy: &ReplyPolicy, live: &Range<u32>, reveal: &Reveal) -> Result<MemberSecret, Refusal> {
    let ahead = u32::try_from(MAX_HANDOVER).unwrap_or(u32::MAX);
    let furthest = policy.period_of(live.end.saturating_sub(1)).saturating_add(ahead);
    let periods = policy.period_of(live.start) <= reveal.period
        && reveal.period <= reveal.last_period
        && reveal.last_period <= furthest;
    if !periods {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "These periods are over, or too far ahead."));
    }
    if !(1..=MAX_REVEALED_SLOTS).contains(&reveal.slots) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "A contact has 1 to 256 slots."));
    }
    MemberSecret::from_stored(reveal.secret.expose())
        .map_err(|_| Refusal::detailed(ProblemKind::BadRequest, "These bytes are no member secret."))
}

/// Derives the strikes of the live epochs from the mailbox's revealed seeds, where that was not done yet. At most once an epoch.
///
/// # Errors
/// `internal` if a seed was not sealed here: the root secret has been changed.
pub(crate) async fn expand(app: &App, mailbox: MailboxId) -> Result<(), Refusal> {
    // Whoever comes meanwhile waits, and finds it done.
    let _turn = app.expanding.lock().await;
    let live = live_epochs(&app.config.replies, app.clock.now());
    let epoch_now = live.end.saturating_sub(1);
    let due = app
        .db
        .read("reply_reveals_due", |tx| Box::pin(async move { strike::due(tx, &mailbox, epoch_now).await }))
        .await?;
    for row in &due {
        let secret = open(app, &mailbox, row)?;
        // With its last epoch done, a row is only behind by the present one.
        let missing = live.clone().filter(|epoch| *epoch != row.expanded_epoch).collect();
        let struck = derive(app, mailbox, row, secret, missing).await?;
        let struck = &struck;
        app.db
            .run("reply_expand", |tx| {
                Box::pin(async move {
                    if strike::expanded(tx, &mailbox, row, epoch_now).await? {
                        for list in struck {
                            strike::strike(tx, &mailbox, list).await?;
                        }
                    }
                    Ok::<_, Refusal>(())
                })
            })
            .await?;
    }
    Ok(())
}

/// The strikes of a seed in those of the epochs that lie in its periods. At most 512 multiplications, beside the requests' threads.
async fn derive(
    app: &App,
    mailbox: MailboxId,
    row: &RevealRow,
    secret: MemberSecret,
    epochs: Vec<u32>,
) -> Result<Vec<InEpoch>, Refusal> {
    let (policy, relay) = (app.config.replies, app.relay_id);
    let (key_version, first, last) = (row.key_version, row.period, row.last_period);
    let params = Params::new(row.slots).ok_or(ProblemKind::Internal)?;
    let in_epoch = move |epoch| {
        let period = policy.period_of(epoch);
        if !(first..=last).contains(&period) {
            return None;
        }
        let secret = (first..period).fold(secret.clone(), |secret, _| secret.next());
        let context = Context { relay, of: KeyPeriod { mailbox, key_version, period }, epoch };
        Some(InEpoch { epoch, nullifiers: nullifiers_of(params, &context, &secret, &[]) })
    };
    let all = tokio::task::spawn_blocking(move || epochs.into_iter().filter_map(in_epoch).collect());
    all.await.map_err(|_| ProblemKind::Internal.into())
}

fn open(app: &App, mailbox: &MailboxId, row: &RevealRow) -> Result<MemberSecret, Refusal> {
    let opened = app.seal.open(&context(mailbox, row.key_version, row.period), &row.sealed).map_err(|_| {
        tracing::error!("a revealed seed was not sealed with this relay's secret");
        ProblemKind::Internal
    })?;
    MemberSecret::from_stored(&opened).map_err(|_| ProblemKind::Internal.into())
}

/// The row that a seed is sealed for.
fn context(mailbox: &MailboxId, key_version: u32, period: u32) -> Vec<u8> {
    [REVEALED, &mailbox.0, &key_version.to_be_bytes(), &period.to_be_bytes()].concat()
}
