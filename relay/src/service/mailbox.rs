//! Opening a mailbox by grant, and admitting its owner by JWT.

use postern_credentials::jwt;
use postern_protocol::ids::MailboxId;
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_store::StoreError;

use crate::app::App;
use crate::db::{mailbox, read};
use crate::error::Refusal;

/// Whose mailbox, and how long the JWT is good.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) mailbox: MailboxId,
    pub(crate) expires: Timestamp,
}

/// What became of a grant.
pub(crate) struct Opened {
    pub(crate) mailbox: MailboxId,
    /// Whether it was opened just now.
    pub(crate) fresh: bool,
}

/// Opens the mailbox that the grant names, and closes the one that it replaces, in one transaction.
///
/// # Errors
/// `unauthorized` for a JWT that is no grant for this relay; `mailbox-unknown` if the mailbox has been replaced since.
pub(crate) async fn open(app: &App, grant: &str) -> Result<Opened, Refusal> {
    let (claims, mailbox) = verify(app, grant, Purpose::Grant)?;
    let replaces = claims.replaces;
    if replaces == Some(mailbox) {
        return Err(ProblemKind::Unauthorized.into());
    }
    let (process, now) = (app.holder, app.clock.now().seconds());
    let fresh = app
        .db
        .run("mailbox_open", |tx| {
            Box::pin(async move {
                if mailbox::is_closed(tx, &mailbox).await? {
                    return Err(Refusal::detailed(ProblemKind::MailboxUnknown, "A newer mailbox has replaced it."));
                }
                if let Some(older) = &replaces {
                    mailbox::close(tx, older).await?;
                    read::ring(tx, &process, now).await?;
                }
                Ok(mailbox::open(tx, &mailbox).await?)
            })
        })
        .await?;
    if let Some(older) = replaces {
        app.waiters.wake(&older);
    }
    app.counters.mailboxes_opened.inc_by(fresh.into());
    Ok(Opened { mailbox, fresh })
}

/// The owner of a mailbox, by JWT.
///
/// # Errors
/// `unauthorized` for a JWT that does not read mail here; `mailbox-unknown` if there is no such mailbox (any more).
pub(crate) async fn admit(app: &App, token: &str) -> Result<Owner, Refusal> {
    let (claims, mailbox) = verify(app, token, Purpose::Mailbox)?;
    if !exists(app, mailbox).await? {
        return Err(ProblemKind::MailboxUnknown.into());
    }
    Ok(Owner { mailbox, expires: Timestamp::from_seconds(claims.exp) })
}

/// Whether there is such a mailbox.
pub(crate) async fn exists(app: &App, mailbox: MailboxId) -> Result<bool, StoreError> {
    app.db.glance("mailbox_exists", |tx| Box::pin(async move { mailbox::exists(tx, &mailbox).await })).await
}

fn verify(app: &App, token: &str, purpose: Purpose) -> Result<(Claims, MailboxId), Refusal> {
    let issuer = &app.config.issuer;
    let claims = jwt::verify(&issuer.public_key, token, &issuer.name, &app.config.name, purpose, app.clock.now())
        .map_err(|_| ProblemKind::Unauthorized)?;
    let mailbox = claims.sub.parse().map_err(|_| ProblemKind::Unauthorized)?;
    Ok((claims, mailbox))
}
