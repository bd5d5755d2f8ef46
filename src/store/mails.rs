//! Mails kept for the development mailbox.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Connection;
use crate::error::Result;

/// A mail.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Mail {
    /// `mail_…`
    pub id: String,
    /// Whose customer it is for.
    pub merchant_id: String,
    /// What kind it is: `receipt`.
    pub kind: String,
    /// Where it goes.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// Its plain text.
    pub body_text: String,
    /// Its HTML.
    pub body_html: String,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// Writes a mail in the transaction of what it reports.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, mail: &Mail) -> Result<()> {
    sqlx::query(
        "insert into mail (id, merchant_id, kind, recipient, subject, body_text, body_html, session_id, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&mail.id)
    .bind(&mail.merchant_id)
    .bind(&mail.kind)
    .bind(&mail.recipient)
    .bind(&mail.subject)
    .bind(&mail.body_text)
    .bind(&mail.body_html)
    .bind(&mail.session_id)
    .bind(mail.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest mails.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, limit: i64) -> Result<Vec<Mail>> {
    Ok(sqlx::query_as(
        "select id, merchant_id, kind, recipient, subject, body_text, body_html, session_id, created_at
         from mail order by id desc limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Forgets mails written before `before`, at most `limit` of them.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done =
        sqlx::query("delete from mail where ctid = any(array(select ctid from mail where created_at < $1 limit $2))")
            .bind(before)
            .bind(limit)
            .execute(pool)
            .await?;
    Ok(done.rows_affected())
}
