//! The log of everything that must be the same for everybody (design §2, §5): append-only, and a thing is in it before anybody
//! is shown it. The tree is made again from the leaves when a process starts, and follows what other processes append.

use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_credentials::key_log::{KeyLog, leaf_hash};
use postern_protocol::ids::{Base64, Sha256Digest};
use postern_protocol::log::{ConsistencyProof, InclusionProof, LogEntries, LogHead, LogLeaf, MAX_ENTRIES};
use postern_protocol::problem::ProblemKind;
use postern_store::Tx;

use crate::app::Issuer;
use crate::db;
use crate::error::Refusal;

/// Leaves read at a time.
const PAGE: u64 = 1000;

/// The tree over the leaves that this process has seen.
#[derive(Debug, Default)]
pub(crate) struct Tree(Mutex<KeyLog>);

impl Tree {
    fn lock(&self) -> MutexGuard<'_, KeyLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs something that is about to be shown, in the transaction that brings it into force.
///
/// # Errors
/// If the database fails.
pub(crate) async fn append(tx: &mut Tx<'_>, leaf: &LogLeaf) -> Result<(), Refusal> {
    let leaf = leaf.encode();
    let hash = leaf_hash(&leaf);
    if !db::log::contains(tx, &hash).await? {
        db::log::append(tx, &hash, &leaf).await?;
    }
    Ok(())
}

/// Logs something that is about to be shown, unless it is logged already, which costs no write.
///
/// # Errors
/// If the database fails; then it must not be shown.
pub(crate) async fn ensure(issuer: &Issuer, leaf: &LogLeaf) -> Result<(), Refusal> {
    let hash = &leaf_hash(&leaf.encode());
    let is_logged: bool = issuer
        .db
        .read("is it logged", |tx| Box::pin(async move { Ok::<_, Refusal>(db::log::contains(tx, hash).await?) }))
        .await?;
    if is_logged {
        return Ok(());
    }
    issuer.db.run("log", |tx| Box::pin(async move { append(tx, leaf).await })).await
}

/// Brings the tree up to date.
async fn catch_up(issuer: &Issuer) -> Result<(), Refusal> {
    loop {
        let from = issuer.log.lock().size();
        let leaves: Vec<Vec<u8>> = issuer
            .db
            .read("new leaves", |tx| {
                Box::pin(async move { Ok::<_, Refusal>(db::log::leaves(tx, from, from.saturating_add(PAGE)).await?) })
            })
            .await?;
        if leaves.is_empty() {
            return Ok(());
        }
        let mut tree = issuer.log.lock();
        // Somebody else may have been faster.
        let have = usize::try_from(tree.size().saturating_sub(from)).unwrap_or(usize::MAX);
        leaves.iter().skip(have).for_each(|leaf| tree.push(leaf));
    }
}

/// The log as it is now, signed.
///
/// # Errors
/// If the database fails.
pub async fn head(issuer: &Issuer) -> Result<LogHead, Refusal> {
    catch_up(issuer).await?;
    Ok(issuer.log.lock().head(&issuer.secrets.identity, issuer.now().seconds()))
}

/// That the log of size `to` extends the one of size `from`.
///
/// # Errors
/// `bad-request` if it never had those sizes, in this order.
pub async fn consistency(issuer: &Issuer, from: u64, to: u64) -> Result<ConsistencyProof, Refusal> {
    catch_up(issuer).await?;
    let proof = issuer.log.lock().consistency(from, to);
    proof.ok_or_else(no_such_size)
}

/// Where a leaf is in the log of that size.
///
/// # Errors
/// `bad-request` if it never had that size; `not-found` if the leaf is not in it.
pub async fn inclusion(issuer: &Issuer, leaf: &Sha256Digest, size: u64) -> Result<InclusionProof, Refusal> {
    catch_up(issuer).await?;
    let tree = issuer.log.lock();
    if size > tree.size() {
        return Err(no_such_size());
    }
    tree.inclusion(leaf, size).ok_or_else(|| ProblemKind::NotFound.into())
}

/// The leaves `from` up to, not including, `to`; the first [`MAX_ENTRIES`] of them.
///
/// # Errors
/// `bad-request` if the log never had those sizes, in this order.
pub async fn entries(issuer: &Issuer, from: u64, to: u64) -> Result<LogEntries, Refusal> {
    let leaves: Vec<Vec<u8>> = issuer
        .db
        .read("leaves", |tx| {
            Box::pin(async move {
                if from > to || to > db::log::size(tx).await? {
                    return Err(no_such_size());
                }
                Ok(db::log::leaves(tx, from, to.min(from.saturating_add(MAX_ENTRIES))).await?)
            })
        })
        .await?;
    Ok(LogEntries { from, entries: leaves.into_iter().map(Base64).collect() })
}

fn no_such_size() -> Refusal {
    Refusal::detailed(ProblemKind::BadRequest, "the log never had these sizes in this order")
}
