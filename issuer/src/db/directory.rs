//! Builds of the directory and their files.

use postern_protocol::ids::{MailboxId, PhoneNumber, SigningPublicKey};
use postern_protocol::time::Timestamp;
use postern_store::{Holder, Row, StoreError, Tx};

use super::{count, time, timestamp};

const LISTED: &str = "select account, phone, identity_key, mailbox, relay from accounts
    where account > $1 and state = 'active' and listed = 1 and certificate_expires > $2 order by account limit $3";

const BUILDING: &str = "select build, holder from directory_builds where state = 'building'";
const ABANDON: &str = "update directory_builds set state = 'abandoned' where state = 'building'";
const LAST_BUILD: &str = "select max(build) from directory_builds";
const BEGIN: &str = "insert into directory_builds (build, state, holder, oprf_epoch, created, manifest)
    values ($1, 'building', $2, $3, $4, null)";
const IS_OURS: &str = "select 1 from directory_builds where build = $1 and holder = $2 and state = 'building'";
const PUBLISH: &str = "update directory_builds set state = 'published', manifest = $3
    where build = $1 and holder = $2 and (state = 'building' or (state = 'published' and manifest = $3))";
const LATEST: &str = "select build, oprf_epoch, created, manifest from directory_builds
    where state = 'published' order by build desc limit 1";
const LATEST_EPOCH: &str =
    "select oprf_epoch from directory_builds where state = 'published' order by build desc limit 1";

/// Only its holder writes a build's files, and each once: what is there is this file, from a commit that nobody heard of.
const PUT_FILE: &str = "insert into directory_files (build, kind, bucket, digest, bytes) values ($1, $2, $3, $4, $5)
    on conflict (build, kind, bucket) do nothing";
const FIND_FILE: &str = "select f.digest, f.bytes from directory_files f join directory_builds b on b.build = f.build
    where f.build = $1 and f.kind = $2 and f.bucket = $3 and b.state = 'published'";

const OLDEST_KEPT: &str = "select build from directory_builds where state = 'published'
    order by build desc limit 1 offset $1";
/// A few at a time, so that nobody waits for the whole of it.
const DROP_FILES: &str = "delete from directory_files where (build, kind, bucket) in
    (select f.build, f.kind, f.bucket from directory_files f join directory_builds b on b.build = f.build
    where b.state = 'abandoned' or (b.state = 'published' and b.build < $1) limit 64)";
/// The last row stays whatever it is: the next number is counted from it.
const DROP_BUILDS: &str = "delete from directory_builds where state <> 'building' and build < $1
    and not exists (select 1 from directory_files f where f.build = directory_builds.build)";

/// What files there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Fingerprints,
    Records,
    Filter,
    Delta,
    Entries,
}

impl FileKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Fingerprints => "fingerprints",
            Self::Records => "records",
            Self::Filter => "filter",
            Self::Delta => "delta",
            Self::Entries => "entries",
        }
    }
}

/// An account that wants to be found.
#[derive(Clone, Debug)]
pub(crate) struct ListedRow {
    pub account: [u8; 32],
    pub phone: PhoneNumber,
    pub identity: SigningPublicKey,
    pub mailbox: MailboxId,
    pub relay: String,
}

/// The build that is served.
#[derive(Clone, Debug)]
pub(crate) struct BuildRow {
    pub build: u32,
    pub oprf_epoch: u32,
    pub created: Timestamp,
    pub manifest: Vec<u8>,
}

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct FileRow {
    /// SHA-256 of the bytes.
    pub digest: [u8; 32],
    pub bytes: Vec<u8>,
}

/// Who builds what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub build: u32,
    pub holder: Holder,
}

/// The next listed accounts after this one, at most `limit`.
pub(crate) async fn listed(
    tx: &mut Tx<'_>,
    after: Option<&[u8; 32]>,
    now: Timestamp,
    limit: u64,
) -> Result<Vec<ListedRow>, StoreError> {
    let after = after.map_or_else(Vec::new, |account| account.to_vec());
    tx.fetch_all(LISTED, &[after.into(), time(now), count(limit)]).await?.iter().map(read_listed).collect()
}

fn read_listed(row: &Row) -> Result<ListedRow, StoreError> {
    Ok(ListedRow {
        account: row.array(0)?,
        phone: row.text(1)?.parse().map_err(|_| StoreError::Column { index: 1, expected: "a phone number" })?,
        identity: SigningPublicKey(row.array(2)?),
        mailbox: MailboxId(row.array(3)?),
        relay: row.text(4)?,
    })
}

/// Begins the next build. One that somebody else has begun and not finished is given up with it.
pub(crate) async fn begin(
    tx: &mut Tx<'_>,
    holder: Holder,
    oprf_epoch: u32,
    now: Timestamp,
) -> Result<Claim, StoreError> {
    if let Some(row) = tx.fetch_optional(BUILDING, &[]).await? {
        if row.array(1)? == holder {
            // Begun before, and nobody heard of the commit.
            return Ok(Claim { build: number(row.int(0)?, 0)?, holder });
        }
        tx.execute(ABANDON, &[]).await?;
    }
    let last = tx.fetch_optional(LAST_BUILD, &[]).await?.map_or(Ok(None), |row| row.opt_int(0))?.unwrap_or(0);
    let build = number(last.saturating_add(1), 0)?;
    tx.execute(BEGIN, &[count(build.into()), holder.into(), count(oprf_epoch.into()), time(now)]).await?;
    Ok(Claim { build, holder })
}

/// Whether it was not given up meanwhile.
pub(crate) async fn is_ours(tx: &mut Tx<'_>, claim: &Claim) -> Result<bool, StoreError> {
    let args = [count(claim.build.into()), claim.holder.into()];
    Ok(tx.fetch_optional(IS_OURS, &args).await?.is_some())
}

/// From now on it is served, however often this is done; false if it was given up meanwhile.
pub(crate) async fn publish(tx: &mut Tx<'_>, claim: &Claim, manifest: &[u8]) -> Result<bool, StoreError> {
    let args = [count(claim.build.into()), claim.holder.into(), manifest.into()];
    Ok(tx.execute(PUBLISH, &args).await? == 1)
}

/// The build that is served.
pub(crate) async fn latest(tx: &mut Tx<'_>) -> Result<Option<BuildRow>, StoreError> {
    let row = tx.fetch_optional(LATEST, &[]).await?;
    row.map(|row| {
        Ok(BuildRow {
            build: number(row.int(0)?, 0)?,
            oprf_epoch: number(row.int(1)?, 1)?,
            created: timestamp(row.int(2)?),
            manifest: row.blob(3)?,
        })
    })
    .transpose()
}

/// The epoch of the build that is served.
pub(crate) async fn latest_epoch(tx: &mut Tx<'_>) -> Result<Option<u32>, StoreError> {
    tx.fetch_optional(LATEST_EPOCH, &[]).await?.map(|row| number(row.int(0)?, 0)).transpose()
}

/// Adds a file to a build that its holder has made sure, in this transaction, is still its own.
pub(crate) async fn put_file(
    tx: &mut Tx<'_>,
    build: u32,
    (kind, bucket, file): &(FileKind, u32, FileRow),
) -> Result<(), StoreError> {
    let FileRow { digest, bytes } = file;
    let (build, bucket) = (count(build.into()), count((*bucket).into()));
    let args = [build, kind.text().into(), bucket, digest.into(), bytes.as_slice().into()];
    tx.execute(PUT_FILE, &args).await.map(drop)
}

/// A file of a build that is published.
pub(crate) async fn find_file(
    tx: &mut Tx<'_>,
    build: u32,
    kind: FileKind,
    bucket: u32,
) -> Result<Option<FileRow>, StoreError> {
    let row = tx.fetch_optional(FIND_FILE, &[count(build.into()), kind.text().into(), count(bucket.into())]).await?;
    row.map(|row| Ok(FileRow { digest: row.array(0)?, bytes: row.blob(1)? })).transpose()
}

/// The oldest of the `keep` newest builds; `None` while there are not so many.
pub(crate) async fn oldest_kept(tx: &mut Tx<'_>, keep: u32) -> Result<Option<u32>, StoreError> {
    let row = tx.fetch_optional(OLDEST_KEPT, &[count(keep.saturating_sub(1).into())]).await?;
    row.map(|row| number(row.int(0)?, 0)).transpose()
}

/// Drops some files of builds before this one and of abandoned ones, and what builds have none left; 0 when no file is left.
pub(crate) async fn drop_some(tx: &mut Tx<'_>, before: u32) -> Result<u64, StoreError> {
    let dropped = tx.execute(DROP_FILES, &[count(before.into())]).await?;
    tx.execute(DROP_BUILDS, &[count(before.into())]).await?;
    Ok(dropped)
}

fn number(stored: i64, index: usize) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| StoreError::Column { index, expected: "a number of 32 bits" })
}
