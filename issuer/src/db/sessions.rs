//! Sessions.

use postern_protocol::ids::SessionId;
use postern_protocol::time::Timestamp;
use postern_store::{Row, StoreError, Tx};

use super::{count, time, timestamp};

const INSERT: &str = "insert into sessions (session, account, session_key, label, created, last_used, expires, seq)
    values ($1, $2, $3, $4, $5, $5, $6, 0)";
const FIND: &str = "select account, session_key, expires from sessions where session = $1 and expires > $2";
const OF_ACCOUNT: &str = "select session, label, created, last_used, expires from sessions
    where account = $1 and expires > $2 order by created desc, session";
const ADVANCE: &str = "update sessions set seq = $2, last_used = $3 where session = $1 and seq < $2";
const STANDS_AT: &str = "select 1 from sessions where session = $1 and seq = $2";
const DELETE: &str = "delete from sessions where session = $1 and account = $2";
const DELETE_OF_ACCOUNT: &str = "delete from sessions where account = $1";
/// All but the `$2` that were used last.
const DELETE_BEYOND: &str = "delete from sessions where account = $1 and session not in
    (select session from sessions where account = $1 order by last_used desc, session limit $2)";
const PRUNE: &str = "delete from sessions where expires <= $1";

/// A live session as its calls need it.
#[derive(Clone, Debug)]
pub(crate) struct SessionRow {
    pub account: [u8; 32],
    pub sealed_key: Vec<u8>,
    pub expires: Timestamp,
}

/// A live session as its owner sees it.
#[derive(Clone, Debug)]
pub(crate) struct ListedSession {
    pub session: SessionId,
    pub label: String,
    pub created: Timestamp,
    pub last_used: Timestamp,
    pub expires: Timestamp,
}

/// A new session.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub session: SessionId,
    pub account: &'a [u8; 32],
    pub sealed_key: &'a [u8],
    pub label: &'a str,
    pub created: Timestamp,
    pub expires: Timestamp,
}

/// Records one.
pub(crate) async fn insert(tx: &mut Tx<'_>, new: &NewSession<'_>) -> Result<(), StoreError> {
    let args = [
        new.session.0.into(),
        new.account.into(),
        new.sealed_key.into(),
        new.label.into(),
        time(new.created),
        time(new.expires),
    ];
    tx.execute(INSERT, &args).await.map(drop)
}

/// The session of this id, if it has not expired.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    session: &SessionId,
    now: Timestamp,
) -> Result<Option<SessionRow>, StoreError> {
    let row = tx.fetch_optional(FIND, &[session.0.into(), time(now)]).await?;
    row.map(|row| Ok(SessionRow { account: row.array(0)?, sealed_key: row.blob(1)?, expires: timestamp(row.int(2)?) }))
        .transpose()
}

/// The account's live sessions, newest first.
pub(crate) async fn of_account(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    now: Timestamp,
) -> Result<Vec<ListedSession>, StoreError> {
    tx.fetch_all(OF_ACCOUNT, &[account.into(), time(now)]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<ListedSession, StoreError> {
    Ok(ListedSession {
        session: SessionId(row.array(0)?),
        label: row.text(1)?,
        created: timestamp(row.int(2)?),
        last_used: timestamp(row.int(3)?),
        expires: timestamp(row.int(4)?),
    })
}

/// Accepts the call with this number; false if it, or a higher one, was accepted before.
pub(crate) async fn advance(
    tx: &mut Tx<'_>,
    session: &SessionId,
    seq: u64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(tx.execute(ADVANCE, &[session.0.into(), count(seq), time(now)]).await? == 1)
}

/// Whether the call with this number was the last one that was accepted.
pub(crate) async fn stands_at(tx: &mut Tx<'_>, session: &SessionId, seq: u64) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(STANDS_AT, &[session.0.into(), count(seq)]).await?.is_some())
}

/// Ends a session of this account.
pub(crate) async fn delete(tx: &mut Tx<'_>, session: &SessionId, account: &[u8; 32]) -> Result<(), StoreError> {
    tx.execute(DELETE, &[session.0.into(), account.into()]).await.map(drop)
}

/// Ends all sessions of an account.
pub(crate) async fn delete_of_account(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<(), StoreError> {
    tx.execute(DELETE_OF_ACCOUNT, &[account.into()]).await.map(drop)
}

/// Ends all but the `keep` sessions that were used last.
pub(crate) async fn delete_beyond(tx: &mut Tx<'_>, account: &[u8; 32], keep: u64) -> Result<(), StoreError> {
    tx.execute(DELETE_BEYOND, &[account.into(), count(keep)]).await.map(drop)
}

/// Drops expired sessions.
pub(crate) async fn prune(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PRUNE, &[time(now)]).await
}
