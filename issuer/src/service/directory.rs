//! The directory (design §5, M34, M38): built in the background, served as files that never change.
//!
//! A build has a number that nobody else gets, its files are written under that number, and only when all of them are there does its
//! manifest appear. Who builds holds the lease (ADR 17); whoever begins another build gives up the one that was under way, which from
//! then on neither writes nor appears. All listed accounts are evaluated anew for each build: at 32 µs each, keeping the outputs is not
//! worth another table that says who is who.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use postern_credentials::directory::{self, Account, Build, BuildParams, Previous};
use postern_credentials::oprf::SecretKey;
use postern_protocol::directory::Record;
use postern_protocol::log::LogLeaf;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_store::{Holder, Lease};
use rand_core::Rng;
use tokio::sync::watch;

use super::{blocking, log, lookup};
use crate::app::{Issuer, until_told};
use crate::db;
use crate::db::directory::{BuildRow, Claim, FileKind, FileRow, ListedRow};
use crate::error::Refusal;
use crate::secrets::digest;

/// The lease of building.
const LEASE: &str = "directory";
/// How long a builder may be silent before another one begins, seconds.
const LEASE_SECONDS: u64 = 600;
/// Accounts evaluated at a time.
const PAGE: u64 = 1000;
/// Buckets written at a time: about 2 MB.
const BUCKETS_AT_ONCE: u32 = 16;
/// What a client is told to wait for the first build.
const FIRST_BUILD_SECONDS: u64 = 5;

/// A file that anybody may fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The fingerprints of a bucket.
    Fingerprints(u32),
    /// The records of a bucket.
    Records(u32),
    /// The filter.
    Filter,
    /// What is new.
    Delta,
}

/// The manifest of the latest build, as it was logged.
///
/// # Errors
/// `unavailable` before the first build.
pub async fn manifest(issuer: &Issuer) -> Result<Vec<u8>, Refusal> {
    let latest = latest(issuer).await?;
    latest.map(|row| row.manifest).ok_or_else(|| Refusal::retry_after(ProblemKind::Unavailable, FIRST_BUILD_SECONDS))
}

/// A file of a build, with the digest that caches know it by.
///
/// # Errors
/// `not-found` for a build that is not there (any more), and for a file that it has not.
pub async fn file(issuer: &Issuer, build: u32, file: File) -> Result<([u8; 32], Vec<u8>), Refusal> {
    let (kind, bucket) = match file {
        File::Fingerprints(bucket) => (FileKind::Fingerprints, bucket),
        File::Records(bucket) => (FileKind::Records, bucket),
        File::Filter => (FileKind::Filter, 0),
        File::Delta => (FileKind::Delta, 0),
    };
    let FileRow { digest, bytes } = read_file(issuer, build, kind, bucket).await?.ok_or(ProblemKind::NotFound)?;
    Ok((digest, bytes))
}

async fn read_file(issuer: &Issuer, build: u32, kind: FileKind, bucket: u32) -> Result<Option<FileRow>, Refusal> {
    issuer
        .db
        .read("a file of the directory", |tx| {
            Box::pin(async move { Ok(db::directory::find_file(tx, build, kind, bucket).await?) })
        })
        .await
}

async fn latest(issuer: &Issuer) -> Result<Option<BuildRow>, Refusal> {
    issuer.db.read("latest build", |tx| Box::pin(async move { Ok(db::directory::latest(tx).await?) })).await
}

/// Builds when it is time, until the process is told to stop; then another one may build at once.
pub async fn run(issuer: Arc<Issuer>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(issuer.config.limits.housekeeping_seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let holder = new_holder(&issuer);
        let round = async {
            ticks.tick().await;
            if let Err(error) = build_if_due_as(&issuer, holder).await {
                tracing::warn!(%error, "the directory will be built again");
            }
        };
        tokio::select! {
            () = round => {}
            () = until_told(&mut stopped) => return Lease::give_back(&issuer.db, LEASE, holder).await,
        }
    }
}

/// One for each build: a name that was used before would go on with what it left.
fn new_holder(issuer: &Issuer) -> Holder {
    let mut holder = Holder::default();
    issuer.random.generator().fill_bytes(&mut holder);
    holder
}

/// Builds if the last build is old enough.
///
/// # Errors
/// If the database fails.
pub async fn build_if_due(issuer: &Arc<Issuer>) -> Result<(), Refusal> {
    build_if_due_as(issuer, new_holder(issuer)).await
}

async fn build_if_due_as(issuer: &Arc<Issuer>, holder: Holder) -> Result<(), Refusal> {
    if is_due(issuer).await?
        && let Some(build) = build_as(issuer, holder, Why::Due).await?
    {
        tracing::info!(build, "the directory was built");
    }
    Ok(())
}

async fn is_due(issuer: &Issuer) -> Result<bool, Refusal> {
    let old = |latest: BuildRow| issuer.now() >= latest.created.plus_seconds(issuer.config.lookup.build_seconds);
    Ok(latest(issuer).await?.is_none_or(old))
}

/// Why a build is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is time.
    Due,
    /// Somebody said so.
    Asked,
}

/// Builds the directory of all accounts that are listed now, and drops builds that are too old; returns its number, or `None`
/// if somebody else is building.
///
/// # Errors
/// If the database fails, or the build took so long that it was given up.
pub async fn build(issuer: &Arc<Issuer>) -> Result<Option<u32>, Refusal> {
    build_as(issuer, new_holder(issuer), Why::Asked).await
}

async fn build_as(issuer: &Arc<Issuer>, holder: Holder, why: Why) -> Result<Option<u32>, Refusal> {
    let lease = Lease::take(&issuer.db, LEASE, holder, LEASE_SECONDS, issuer.now()).await?;
    let Some(mut lease) = lease else { return Ok(None) };
    // Whoever had the lease until now may have built.
    let built = match why == Why::Asked || is_due(issuer).await? {
        true => build_under(issuer, holder, &mut lease).await.map(Some),
        false => Ok(None),
    };
    Lease::give_back(&issuer.db, LEASE, holder).await;
    built
}

async fn build_under(issuer: &Arc<Issuer>, holder: Holder, lease: &mut Lease) -> Result<u32, Refusal> {
    let now = issuer.now();
    let (claim, oprf_epoch, previous) = issuer
        .db
        .run("begin a build", |tx| {
            Box::pin(async move {
                let epoch = lookup::next_epoch(tx).await?;
                let claim = db::directory::begin(tx, holder, epoch, now).await?;
                Ok::<_, Refusal>((claim, epoch, db::directory::latest(tx).await?))
            })
        })
        .await?;
    let key = Arc::new(lookup::oprf_secret(issuer, oprf_epoch)?);
    let accounts = evaluate_all(issuer, lease, &key, now).await?;
    let build = make(issuer, &claim, oprf_epoch, &key, previous, accounts, now).await?;
    write_files(issuer, lease, &claim, &build).await?;
    publish(issuer, &claim, &build).await?;
    if let Err(error) = drop_old(issuer, lease).await {
        tracing::warn!(%error, "old builds of the directory are dropped after the next one");
    }
    Ok(claim.build)
}

/// The outputs of all listed accounts.
async fn evaluate_all(
    issuer: &Arc<Issuer>,
    lease: &mut Lease,
    key: &Arc<SecretKey>,
    now: Timestamp,
) -> Result<Vec<Account>, Refusal> {
    let mut accounts = Vec::new();
    let mut last: Option<[u8; 32]> = None;
    loop {
        let after = last.as_ref();
        let page: Vec<ListedRow> = issuer
            .db
            .read("listed accounts", |tx| {
                Box::pin(async move { Ok::<_, Refusal>(db::directory::listed(tx, after, now, PAGE).await?) })
            })
            .await?;
        let Some(end) = page.last() else { return Ok(accounts) };
        last = Some(end.account);
        let (issuer_of_page, key) = (Arc::clone(issuer), Arc::clone(key));
        accounts.extend(blocking(move || evaluate_page(&issuer_of_page, &key, page)).await?);
        lease.keep(issuer.now()).await?;
    }
}

fn evaluate_page(issuer: &Issuer, key: &SecretKey, page: Vec<ListedRow>) -> Result<Vec<Account>, Refusal> {
    let place = |name: &str| issuer.config.relays.iter().position(|relay| relay.name == name);
    let mut accounts = Vec::with_capacity(page.len());
    for row in page {
        // An account at a relay that the configuration does not know any more cannot be reached.
        let Some(relay) = place(&row.relay).and_then(|place| u16::try_from(place).ok()) else { continue };
        let y = key.output(row.phone.as_str().as_bytes());
        let y = y.map_err(|_| Refusal::Failed("a number could not be evaluated"))?;
        accounts.push(Account { y, record: Record { identity: row.identity, mailbox: row.mailbox, relay } });
    }
    Ok(accounts)
}

/// A build with its manifest as it is served.
struct Made {
    build: Build,
    manifest: Vec<u8>,
}

async fn make(
    issuer: &Arc<Issuer>,
    claim: &Claim,
    oprf_epoch: u32,
    key: &SecretKey,
    previous: Option<BuildRow>,
    accounts: Vec<Account>,
    now: Timestamp,
) -> Result<Arc<Made>, Refusal> {
    let entries = match &previous {
        Some(row) => read_file(issuer, row.build, FileKind::Entries, 0).await?.map_or_else(Vec::new, |file| file.bytes),
        None => Vec::new(),
    };
    let (number, oprf_key, issuer) = (claim.build, key.public(), Arc::clone(issuer));
    blocking(move || {
        let previous = previous.as_ref().map(|row| Previous {
            digest: directory::manifest_digest(&row.manifest),
            oprf_epoch: row.oprf_epoch,
            entries: &entries,
        });
        let relays = issuer.config.relays.iter().map(crate::config::RelayConfig::entry).collect();
        let params = BuildParams { build: number, oprf_epoch, oprf_key, created: now.seconds(), relays, previous };
        let build = directory::build(&mut issuer.random.generator(), params, accounts);
        let build = build.map_err(|error| {
            tracing::error!(%error, "building the directory");
            Refusal::Failed("the directory could not be built")
        })?;
        let signed = directory::sign_manifest(&issuer.secrets.identity, build.manifest.clone());
        let manifest = signed.and_then(|signed| signed.encode());
        let manifest = manifest.map_err(|_| Refusal::Failed("a manifest does not encode"))?;
        Ok(Arc::new(Made { build, manifest }))
    })
    .await
}

/// A file to be written.
type NewFile = (FileKind, u32, FileRow);

fn new_file(kind: FileKind, bucket: u32, bytes: Vec<u8>) -> NewFile {
    (kind, bucket, FileRow { digest: digest(&bytes), bytes })
}

async fn write_files(issuer: &Issuer, lease: &mut Lease, claim: &Claim, made: &Arc<Made>) -> Result<(), Refusal> {
    let whole = Arc::clone(made);
    write_some(issuer, claim, &blocking(move || Ok(files_of_the_whole(&whole.build))).await?).await?;
    let buckets = made.build.manifest.buckets();
    let mut from = 0;
    while from < buckets {
        lease.keep(issuer.now()).await?;
        let to = from.saturating_add(BUCKETS_AT_ONCE).min(buckets);
        let made = Arc::clone(made);
        write_some(issuer, claim, &blocking(move || files_of_buckets(&made.build, from..to)).await?).await?;
        from = to;
    }
    Ok(())
}

fn files_of_the_whole(build: &Build) -> Vec<NewFile> {
    let entries = Some((FileKind::Entries, build.entries.clone()));
    let filter = build.filter.clone().map(|file| (FileKind::Filter, file));
    let delta = build.delta.clone().map(|file| (FileKind::Delta, file));
    [entries, filter, delta].into_iter().flatten().map(|(kind, bytes)| new_file(kind, 0, bytes)).collect()
}

fn files_of_buckets(build: &Build, buckets: Range<u32>) -> Result<Vec<NewFile>, Refusal> {
    let missing = || Refusal::Failed("a build lacks a file");
    let mut files = Vec::new();
    for bucket in buckets {
        let fingerprints = build.fingerprints_file(bucket).ok_or_else(missing)?;
        let records = build.records_file(bucket).ok_or_else(missing)?;
        files.push(new_file(FileKind::Fingerprints, bucket, fingerprints));
        files.push(new_file(FileKind::Records, bucket, records));
    }
    Ok(files)
}

async fn write_some(issuer: &Issuer, claim: &Claim, files: &[NewFile]) -> Result<(), Refusal> {
    issuer
        .db
        .run("write files of a build", |tx| {
            Box::pin(async move {
                if !db::directory::is_ours(tx, claim).await? {
                    return Err(given_up());
                }
                for file in files {
                    db::directory::put_file(tx, claim.build, file).await?;
                }
                Ok(())
            })
        })
        .await
}

fn given_up() -> Refusal {
    Refusal::Failed("a build of the directory took too long and was given up")
}

/// The manifest appears, in the log and to everybody.
async fn publish(issuer: &Issuer, claim: &Claim, made: &Made) -> Result<(), Refusal> {
    issuer
        .db
        .run("publish a build", |tx| {
            Box::pin(async move {
                if !db::directory::publish(tx, claim, &made.manifest).await? {
                    return Err(given_up());
                }
                log::append(tx, &LogLeaf::Manifest(made.manifest.clone())).await
            })
        })
        .await
}

/// Drops the files of builds that are too old, and of abandoned ones.
async fn drop_old(issuer: &Issuer, lease: &mut Lease) -> Result<(), Refusal> {
    let keep = issuer.config.lookup.keep_builds;
    let oldest: Option<u32> = issuer
        .db
        .read("oldest build", |tx| {
            Box::pin(async move { Ok::<_, Refusal>(db::directory::oldest_kept(tx, keep).await?) })
        })
        .await?;
    let before = oldest.unwrap_or(0);
    loop {
        lease.keep(issuer.now()).await?;
        let dropping = issuer.db.run("drop builds", |tx| {
            Box::pin(async move { Ok::<_, Refusal>(db::directory::drop_some(tx, before).await?) })
        });
        if dropping.await? == 0 {
            return Ok(());
        }
    }
}
