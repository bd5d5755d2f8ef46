//! Mail as an outbox: rows that are owed, leased by a worker, sent or given up.
//!
//! The rule: what a mail says is sealed before it comes here and is wiped by the statement that ends the
//! mail. Captured mails, which only a developer's machine has, keep theirs until they are pruned. Every
//! finishing write is fenced by the lease token.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::Connection;
use crate::error::Result;

/// Characters of a mail server's answer that are kept.
const ERROR_CHARS_MAX: usize = 300;

/// A mail to be written.
#[derive(Debug, Clone)]
pub struct NewMail {
    /// `mail_…`
    pub id: String,
    /// Whose customer it is for.
    pub merchant_id: String,
    /// What kind it is: `receipt` or `identity_code`.
    pub kind: &'static str,
    /// Where it goes.
    pub recipient: String,
    /// Its subject, which says nothing that is secret.
    pub subject: String,
    /// What it says, sealed.
    pub body_sealed: Vec<u8>,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// From when on it is of no use any more.
    pub give_up_at: DateTime<Utc>,
    /// Captured for the development mailbox instead of being owed.
    pub is_captured: bool,
}

/// A mail as it is kept.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredMail {
    /// `mail_…`
    pub id: String,
    /// Whose customer it is for.
    pub merchant_id: String,
    /// What kind it is.
    pub kind: String,
    /// Where it goes.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// What it says, sealed; nothing once it is sent or given up.
    pub body_sealed: Option<Vec<u8>>,
    /// `captured`, `owed`, `sent` or `given_up`.
    pub state: String,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// A mail that this process may send now.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LeasedMail {
    /// `mail_…`
    pub id: String,
    /// What kind it is.
    pub kind: String,
    /// Where it goes.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// What it says, sealed.
    pub body_sealed: Vec<u8>,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// From when on it is of no use any more.
    pub give_up_at: DateTime<Utc>,
    /// Attempts before this one.
    pub attempts: i32,
    /// Fences what is written about this attempt.
    pub lease_token: Uuid,
}

/// Writes a mail in the transaction of what it reports.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, mail: &NewMail) -> Result<()> {
    sqlx::query(
        "insert into mail (id, merchant_id, kind, recipient, subject, body_sealed, session_id, created_at,
                           give_up_at, state, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&mail.id)
    .bind(&mail.merchant_id)
    .bind(mail.kind)
    .bind(&mail.recipient)
    .bind(&mail.subject)
    .bind(&mail.body_sealed)
    .bind(&mail.session_id)
    .bind(mail.created_at)
    .bind(mail.give_up_at)
    .bind(if mail.is_captured { "captured" } else { "owed" })
    .bind((!mail.is_captured).then_some(mail.created_at))
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest mails.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, limit: i64) -> Result<Vec<StoredMail>> {
    Ok(sqlx::query_as(
        "select id, merchant_id, kind, recipient, subject, body_sealed, state, session_id, created_at
         from mail order by id desc limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Takes up to `limit` due mails until `lease_until`. Those that another process takes at this moment are
/// passed over; those whose time is over are taken as well, to be given up.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(
    pool: &PgPool,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<LeasedMail>> {
    Ok(sqlx::query_as(
        "update mail m set lease_token = gen_random_uuid(), due_at = $2
         from (select id from mail where state = 'owed' and due_at <= $1
               order by due_at limit $3 for update skip locked) due
         where m.id = due.id
         returning m.id, m.kind, m.recipient, m.subject, m.body_sealed, m.session_id, m.created_at, m.give_up_at,
                   m.attempts, m.lease_token",
    )
    .bind(now)
    .bind(lease_until)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// How a mail ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The mail server took it.
    Sent,
    /// It cannot or need not be sent any more.
    GivenUp,
}

/// Ends a mail and wipes what it says; false when somebody else holds its lease.
///
/// # Errors
/// When the database does not answer.
pub async fn end(pool: &PgPool, mail: &LeasedMail, end: End, error: Option<&str>, now: DateTime<Utc>) -> Result<bool> {
    let done = sqlx::query(
        "update mail set state = $3, body_sealed = null, due_at = null, ended_at = $4, lease_token = null,
             attempts = attempts + case when $3 = 'sent' or $5 is not null then 1 else 0 end,
             server_trouble = false, last_error = $5
         where id = $1 and lease_token = $2 and state = 'owed'",
    )
    .bind(&mail.id)
    .bind(mail.lease_token)
    .bind(match end {
        End::Sent => "sent",
        End::GivenUp => "given_up",
    })
    .bind(now)
    .bind(error.map(shortened))
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Owes a mail again, from `due_at` on; false when somebody else holds its lease.
///
/// # Errors
/// When the database does not answer.
pub async fn retry(
    pool: &PgPool,
    mail: &LeasedMail,
    due_at: DateTime<Utc>,
    error: &str,
    server_trouble: bool,
) -> Result<bool> {
    let done = sqlx::query(
        "update mail set due_at = $3, attempts = attempts + 1, server_trouble = $4, last_error = $5, lease_token = null
         where id = $1 and lease_token = $2 and state = 'owed'",
    )
    .bind(&mail.id)
    .bind(mail.lease_token)
    .bind(due_at)
    .bind(server_trouble)
    .bind(shortened(error))
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives leased mails back that this process will not send, due at once.
///
/// # Errors
/// When the database does not answer.
pub async fn release(pool: &PgPool, mails: &[LeasedMail], now: DateTime<Utc>) -> Result<()> {
    let (ids, tokens): (Vec<&str>, Vec<Uuid>) = mails.iter().map(|mail| (mail.id.as_str(), mail.lease_token)).unzip();
    sqlx::query(
        "update mail m set due_at = $3, lease_token = null
         from unnest($1::text[], $2::uuid[]) as g (id, token)
         where m.id = g.id and m.lease_token = g.token and m.state = 'owed'",
    )
    .bind(ids)
    .bind(tokens)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives an owed mail up because a newer one takes its place, whoever holds its lease.
///
/// # Errors
/// When the database does not answer.
pub async fn supersede(connection: &mut Connection, id: &str, now: DateTime<Utc>) -> Result<()> {
    sqlx::query(
        "update mail set state = 'given_up', body_sealed = null, due_at = null, ended_at = $2, lease_token = null,
             last_error = 'superseded' where id = $1 and state = 'owed'",
    )
    .bind(id)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// How much mail is owed, and how long the oldest due one has waited, in seconds.
///
/// # Errors
/// When the database does not answer.
pub async fn depth(pool: &PgPool, now: DateTime<Utc>) -> Result<(i64, f64)> {
    Ok(sqlx::query_as(
        "select count(*), coalesce(extract(epoch from $1 - min(created_at)), 0)::float8 from mail where state = 'owed'",
    )
    .bind(now)
    .fetch_one(pool)
    .await?)
}

/// Forgets mails written before `before` that nobody is to send any more, at most `limit` of them.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from mail where ctid = any(array(
             select ctid from mail where created_at < $1 and (state <> 'owed' or give_up_at < $1) limit $2))",
    )
    .bind(before)
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

fn shortened(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).collect()
}
