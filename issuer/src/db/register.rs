//! Accounts, and the answers that make registering idempotent.

use postern_protocol::ids::{LoginSalt, MailboxId, PhoneNumber, SigningPublicKey};
use postern_protocol::time::Timestamp;
use postern_store::{Row, StoreError, Tx};

use super::{count, counted, time, timestamp};

const FIND: &str =
    "select login_salt, login_verifier, certificate_expires, mailbox, relay, tokens_issued, setup_until, registered, listed
    from accounts where account = $1 and state = 'active'";
const FIND_EARLIER: &str = "select mailbox, relay, tokens_issued, setup_until from accounts where account = $1";
const INSERT: &str = "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
    login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $11)";
const REPLACE: &str =
    "update accounts set identity_key = $2, certificate = $3, certificate_expires = $4, login_salt = $5,
    login_verifier = $6, mailbox = $7, relay = $8, registered = $9, phone = $10, state = 'active',
    listed = case when state = 'deleted' then 1 else listed end where account = $1";
const TAKE: &str = "update accounts set tokens_issued = tokens_issued + $2
    where account = $1 and tokens_issued + $2 <= $3";
const SET_LISTED: &str = "update accounts set listed = $2 where account = $1 and state = 'active'";
/// All that the row held, but for what keeps the number from having its tokens twice.
const DELETE: &str = "update accounts set state = 'deleted', phone = '', identity_key = $2, certificate = $2,
    login_salt = $2, login_verifier = $2 where account = $1";
const REVOKE: &str = "update accounts set state = 'revoked' where account = $1 and state = 'active'";
const IS_REVOKED: &str = "select 1 from accounts where account = $1 and state = 'revoked'";

const FIND_ANSWER: &str = "select body_digest, answer from registrations where cookie_digest = $1";
const INSERT_ANSWER: &str =
    "insert into registrations (cookie_digest, body_digest, answer, expires) values ($1, $2, $3, $4)";
const PRUNE_ANSWERS: &str = "delete from registrations where expires <= $1";

/// An account as far as decisions need it.
#[derive(Clone, Debug)]
pub(crate) struct AccountRow {
    pub login_salt: LoginSalt,
    pub sealed_verifier: Vec<u8>,
    pub certificate_expires: Timestamp,
    pub mailbox: MailboxId,
    pub relay: String,
    pub tokens_issued: u64,
    pub setup_until: Timestamp,
    pub registered: Timestamp,
    pub listed: bool,
}

/// What is left of a number's earlier registrations, also after it was deleted or revoked.
#[derive(Clone, Debug)]
pub(crate) struct EarlierRow {
    pub mailbox: MailboxId,
    pub relay: String,
    pub tokens_issued: u64,
    pub setup_until: Timestamp,
}

/// What a registration writes.
#[derive(Debug)]
pub(crate) struct Identity<'a> {
    pub key: SigningPublicKey,
    pub certificate: &'a [u8],
    pub certificate_expires: Timestamp,
    pub login_salt: LoginSalt,
    pub sealed_verifier: &'a [u8],
    pub mailbox: MailboxId,
    pub relay: &'a str,
    pub registered: Timestamp,
}

/// The account of this id, unless it was deleted or revoked.
pub(crate) async fn find(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<Option<AccountRow>, StoreError> {
    tx.fetch_optional(FIND, &[account.into()]).await?.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<AccountRow, StoreError> {
    Ok(AccountRow {
        login_salt: LoginSalt(row.array(0)?),
        sealed_verifier: row.blob(1)?,
        certificate_expires: timestamp(row.int(2)?),
        mailbox: MailboxId(row.array(3)?),
        relay: row.text(4)?,
        tokens_issued: counted(row.int(5)?, 5)?,
        setup_until: timestamp(row.int(6)?),
        registered: timestamp(row.int(7)?),
        listed: row.int(8)? != 0,
    })
}

/// Whether this number ever registered, and what it had then.
pub(crate) async fn find_earlier(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<Option<EarlierRow>, StoreError> {
    let row = tx.fetch_optional(FIND_EARLIER, &[account.into()]).await?;
    row.map(|row| {
        Ok(EarlierRow {
            mailbox: MailboxId(row.array(0)?),
            relay: row.text(1)?,
            tokens_issued: counted(row.int(2)?, 2)?,
            setup_until: timestamp(row.int(3)?),
        })
    })
    .transpose()
}

/// Whether the account is to be in the directory.
pub(crate) async fn set_listed(tx: &mut Tx<'_>, account: &[u8; 32], listed: bool) -> Result<(), StoreError> {
    tx.execute(SET_LISTED, &[account.into(), i64::from(listed).into()]).await.map(drop)
}

/// Erases the account.
pub(crate) async fn delete(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<(), StoreError> {
    tx.execute(DELETE, &[account.into(), Vec::new().into()]).await.map(drop)
}

/// Revokes the account; false if it was not active.
pub(crate) async fn revoke(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<bool, StoreError> {
    Ok(tx.execute(REVOKE, &[account.into()]).await? == 1)
}

/// Whether the account is revoked.
pub(crate) async fn is_revoked(tx: &mut Tx<'_>, account: &[u8; 32]) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(IS_REVOKED, &[account.into()]).await?.is_some())
}

/// A first registration; no tokens yet.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    phone: &PhoneNumber,
    identity: &Identity<'_>,
    setup_until: Timestamp,
) -> Result<(), StoreError> {
    let args = [
        account.into(),
        phone.as_str().into(),
        identity.key.0.into(),
        identity.certificate.into(),
        time(identity.certificate_expires),
        identity.login_salt.0.into(),
        identity.sealed_verifier.into(),
        identity.mailbox.0.into(),
        identity.relay.into(),
        time(setup_until),
        time(identity.registered),
    ];
    tx.execute(INSERT, &args).await.map(drop)
}

/// A later registration: everything new but the tokens, and the choice to be listed of an account that was not deleted.
pub(crate) async fn replace(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    phone: &PhoneNumber,
    identity: &Identity<'_>,
) -> Result<(), StoreError> {
    let args = [
        account.into(),
        identity.key.0.into(),
        identity.certificate.into(),
        time(identity.certificate_expires),
        identity.login_salt.0.into(),
        identity.sealed_verifier.into(),
        identity.mailbox.0.into(),
        identity.relay.into(),
        time(identity.registered),
        phone.as_str().into(),
    ];
    tx.execute(REPLACE, &args).await.map(drop)
}

/// Takes `n` of the account's tokens; false if that would be more than `limit` altogether (M6).
pub(crate) async fn take_allowance(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    n: u64,
    limit: u64,
) -> Result<bool, StoreError> {
    Ok(tx.execute(TAKE, &[account.into(), count(n), count(limit)]).await? == 1)
}

/// The digest of the request that used this cookie, and the sealed answer.
pub(crate) async fn find_answer(tx: &mut Tx<'_>, cookie: &[u8; 32]) -> Result<Option<([u8; 32], Vec<u8>)>, StoreError> {
    let row = tx.fetch_optional(FIND_ANSWER, &[cookie.into()]).await?;
    row.map(|row| Ok((row.array(0)?, row.blob(1)?))).transpose()
}

/// Uses the cookie up.
pub(crate) async fn insert_answer(
    tx: &mut Tx<'_>,
    cookie: &[u8; 32],
    body: &[u8; 32],
    sealed_answer: Vec<u8>,
    expires: Timestamp,
) -> Result<(), StoreError> {
    let args = [cookie.into(), body.into(), sealed_answer.into(), time(expires)];
    tx.execute(INSERT_ANSWER, &args).await.map(drop)
}

/// Drops answers that need not be given again.
pub(crate) async fn prune_answers(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PRUNE_ANSWERS, &[time(now)]).await
}
