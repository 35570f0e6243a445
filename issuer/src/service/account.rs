//! Whether an account can be found, and its end: by its owner, or by the operator.
//!
//! The directory follows with its next build; sessions end at once. What a JWT was given out for before ends with the JWT.

use postern_protocol::directory::ListingRequest;
use postern_protocol::ids::PhoneNumber;

use super::sessions::{self, Caller};
use crate::app::Issuer;
use crate::db;
use crate::error::Refusal;

/// Lists the caller's account, or not, from the next build of the directory on.
///
/// # Errors
/// `call-replayed`; unauthorised if the session was revoked meanwhile.
pub async fn set_listed(issuer: &Issuer, caller: &Caller, request: ListingRequest) -> Result<(), Refusal> {
    let now = issuer.now();
    issuer
        .db
        .run("set the listing", |tx| {
            Box::pin(async move {
                sessions::accept(tx, caller, now).await?;
                Ok(db::register::set_listed(tx, &caller.account, request.listed).await?)
            })
        })
        .await
}

/// Deletes the caller's account: identity, certificate, login and number are erased, all sessions end. What stays is that the
/// number, which cannot be read off its row any more, has had its tokens.
///
/// # Errors
/// As [`set_listed`]; so a repetition is unauthorised, for its session is gone.
pub async fn delete(issuer: &Issuer, caller: &Caller) -> Result<(), Refusal> {
    let now = issuer.now();
    issuer
        .db
        .run("delete an account", |tx| {
            Box::pin(async move {
                // Deleted before, in a commit that nobody heard of: the session went with it.
                if tx.may_have_committed() && db::register::find(tx, &caller.account).await?.is_none() {
                    return Ok(());
                }
                sessions::accept(tx, caller, now).await?;
                db::register::delete(tx, &caller.account).await?;
                Ok(db::sessions::delete_of_account(tx, &caller.account).await?)
            })
        })
        .await
}

/// Revokes the account of a number, for the operator: its certificate leaves the directory, its sessions end, and no login
/// succeeds until the number registers again. False if it has no account, or its account is revoked already.
///
/// # Errors
/// If the database fails.
pub async fn revoke(issuer: &Issuer, phone: &PhoneNumber) -> Result<bool, Refusal> {
    let account = &issuer.secrets.account_id(phone);
    issuer
        .db
        .run("revoke an account", |tx| {
            Box::pin(async move {
                let mut revoked = db::register::revoke(tx, account).await?;
                // Or by this very transaction, in a commit that nobody heard of.
                revoked |= tx.may_have_committed() && db::register::is_revoked(tx, account).await?;
                db::sessions::delete_of_account(tx, account).await?;
                Ok(revoked)
            })
        })
        .await
}
