//! Idempotency keys: the first answer to a POST, sealed, committed with the change it reports.
//!
//! Whoever inserts first wins; a second insert of the same key waits for the first one's commit (at
//! most the lock time-out) and then finds it. Keys are kept a day and pruned by the sweep.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Connection;
use crate::domain::id::MerchantId;
use crate::error::Result;

/// An answer to keep.
#[derive(Debug, Clone)]
pub struct NewReply {
    /// The caller's key, at most 255 characters.
    pub key: String,
    /// Method and path of the request.
    pub route: String,
    /// SHA-256 of the request's parameters.
    pub fingerprint: [u8; 32],
    /// HTTP status of the answer.
    pub status: i16,
    /// The answer's body, sealed.
    pub body_sealed: Vec<u8>,
}

/// An answer that was kept.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredReply {
    /// Method and path of the first request.
    pub route: String,
    /// SHA-256 of the first request's parameters.
    pub fingerprint: Vec<u8>,
    /// HTTP status of the answer.
    pub status: i16,
    /// The answer's body, sealed.
    pub body_sealed: Vec<u8>,
}

/// Finds the answer kept under a key.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, merchant: &MerchantId, livemode: bool, key: &str) -> Result<Option<StoredReply>> {
    Ok(sqlx::query_as(
        "select route, fingerprint, status, body_sealed from idempotency_key
         where merchant_id = $1 and livemode = $2 and key = $3",
    )
    .bind(merchant.as_str())
    .bind(livemode)
    .bind(key)
    .fetch_optional(pool)
    .await?)
}

/// Keeps an answer inside the transaction that it reports. False when the key is taken: the caller
/// must then roll back.
///
/// # Errors
/// When the database does not answer, or another request holds the key for too long.
pub async fn insert(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    reply: &NewReply,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query(
        "insert into idempotency_key (merchant_id, livemode, key, route, fingerprint, status, body_sealed, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
    )
    .bind(merchant.as_str())
    .bind(livemode)
    .bind(&reply.key)
    .bind(&reply.route)
    .bind(reply.fingerprint.as_slice())
    .bind(reply.status)
    .bind(&reply.body_sealed)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts another answer in the place of the kept one.
///
/// # Errors
/// When the database does not answer.
pub async fn replace(pool: &PgPool, merchant: &MerchantId, livemode: bool, reply: &NewReply) -> Result<()> {
    sqlx::query(
        "update idempotency_key set status = $4, body_sealed = $5
         where merchant_id = $1 and livemode = $2 and key = $3",
    )
    .bind(merchant.as_str())
    .bind(livemode)
    .bind(&reply.key)
    .bind(reply.status)
    .bind(&reply.body_sealed)
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets answers older than `before`, at most `limit` of them.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from idempotency_key where ctid = any(array(
             select ctid from idempotency_key where created_at < $1 limit $2 for update skip locked))",
    )
    .bind(before)
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
