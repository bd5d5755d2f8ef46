//! Mail: sealed and put into the outbox in the transaction of what it reports, unsealed for whoever sends
//! it or, on a developer's machine, for the mailbox.

use chrono::{DateTime, Utc};

use crate::app::{App, MailRoad};
use crate::domain::id::MerchantId;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::mailer::{Body, Draft, Sender, seal_place};
use crate::store::mails::{NewMail, StoredMail};
use crate::store::{self, Connection};

/// A mail as the development mailbox shows it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// `mail_…`
    pub id: String,
    /// Whose customer it is for.
    pub merchant_id: String,
    /// What kind it is: `receipt` or `identity_code`.
    pub kind: String,
    /// Where it goes.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// Its plain text; what became of it where that is not kept.
    pub body_text: String,
    /// Its HTML; empty where it is not kept.
    pub body_html: String,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// Puts a mail into the outbox. The caller wakes the worker after the commit, see [`wake`].
///
/// # Errors
/// `Unavailable` where no mail is set up, and the database's.
pub(super) async fn post(app: &App, connection: &mut Connection, draft: Draft) -> Result<()> {
    post_by(&app.keyring, app.settings.mail, connection, draft).await
}

/// The same for those who know no more of the application than its keys and its way of mail.
///
/// # Errors
/// `Unavailable` where no mail is set up, and the database's.
pub(super) async fn post_by(
    keyring: &Keyring,
    road: MailRoad,
    connection: &mut Connection,
    draft: Draft,
) -> Result<()> {
    let is_captured = match road {
        MailRoad::Captured => true,
        MailRoad::Smtp => false,
        MailRoad::Off => return Err(Error::Unavailable("no mail server is configured: set smtp_host".to_owned())),
    };
    let mail = NewMail {
        body_sealed: keyring.seal(&seal_place(&draft.id), &draft.body.to_bytes()),
        id: draft.id,
        merchant_id: draft.merchant_id,
        kind: draft.kind,
        recipient: draft.recipient,
        subject: draft.subject,
        session_id: draft.session_id,
        created_at: draft.created_at,
        give_up_at: draft.give_up_at,
        is_captured,
    };
    store::mails::insert(connection, &mail).await
}

/// Has the process's worker look for owed mail now, after the commit that put some there.
pub(super) fn wake(app: &App) {
    app.mail_wake.notify_one();
}

/// The merchant as a mail's sender.
///
/// # Errors
/// The database's.
pub(super) async fn sender(connection: &mut Connection, merchant: &MerchantId) -> Result<Sender> {
    let row = store::merchants::find(connection, merchant).await?;
    Ok(row.map(|row| Sender { name: row.name, support_email: row.support_email }).unwrap_or_default())
}

/// Opens what a mail says.
///
/// # Errors
/// `Internal` when it was sealed with a key that is gone.
pub fn open(app: &App, id: &str, sealed: &[u8]) -> Result<Body> {
    let plain = app.keyring.unseal(&seal_place(id), sealed).map_err(|error| Error::Internal(error.to_string()))?;
    Body::from_bytes(&plain).ok_or_else(|| Error::Internal(format!("the body of mail {id} cannot be read")))
}

/// The newest mails with what they say, for the development mailbox. No other door shows them.
///
/// # Errors
/// The database's.
pub async fn newest(app: &App, limit: i64) -> Result<Vec<Mail>> {
    let rows = store::mails::list(app.store.pool(), limit).await?;
    Ok(rows.into_iter().map(|row| shown(app, row)).collect())
}

fn shown(app: &App, row: StoredMail) -> Mail {
    let body = row.body_sealed.as_deref().map(|sealed| open(app, &row.id, sealed));
    let (body_text, body_html) = match body {
        Some(Ok(body)) => (body.text, body.html),
        Some(Err(_)) => ("It cannot be opened with the present secret keys.".to_owned(), String::new()),
        None => (format!("What it said is not kept. It was {}.", row.state.replace('_', " ")), String::new()),
    };
    Mail {
        id: row.id,
        merchant_id: row.merchant_id,
        kind: row.kind,
        recipient: row.recipient,
        subject: row.subject,
        body_text,
        body_html,
        session_id: row.session_id,
        created_at: row.created_at,
    }
}
