//! Merchants, their API keys and their redirect URLs.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder};

use super::Page;
use crate::domain::id::{ApiKeyId, MerchantId, RedirectUrlId};
use crate::domain::redirect::AllowedRedirect;
use crate::error::Result;

/// A merchant.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Merchant {
    /// `acct_…`
    pub id: String,
    /// Shown to payers.
    pub name: String,
    /// Shown to payers who need help.
    pub support_email: Option<String>,
    /// `#rrggbb`.
    pub accent_color: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// An API key as it may be shown: everything but the key.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiKey {
    /// `key_…`
    pub id: String,
    /// Whose it is.
    pub merchant_id: String,
    /// Mode.
    pub livemode: bool,
    /// The operator's name for it.
    pub name: String,
    /// The last four characters.
    pub last4: String,
    /// Whether it works from this machine only.
    pub loopback_only: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a merchant; one that is there already is left as it is.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(pool: &PgPool, merchant: &Merchant) -> Result<bool> {
    let done = sqlx::query(
        "insert into merchant (id, name, support_email, accent_color, created_at)
         values ($1, $2, $3, $4, $5) on conflict (id) do nothing",
    )
    .bind(&merchant.id)
    .bind(&merchant.name)
    .bind(&merchant.support_email)
    .bind(&merchant.accent_color)
    .bind(merchant.created_at)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A merchant by id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(database: impl PgExecutor<'_>, id: &MerchantId) -> Result<Option<Merchant>> {
    Ok(sqlx::query_as("select id, name, support_email, accent_color, created_at from merchant where id = $1")
        .bind(id.as_str())
        .fetch_optional(database)
        .await?)
}

/// Merchants, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, limit: i64) -> Result<Vec<Merchant>> {
    Ok(sqlx::query_as(
        "select id, name, support_email, accent_color, created_at from merchant order by id desc limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Makes an API key; the same key twice is one key.
///
/// # Errors
/// When the merchant does not exist or the database does not answer.
pub async fn insert_key(pool: &PgPool, key: &ApiKey, hash: &[u8; 32]) -> Result<bool> {
    let done = sqlx::query(
        "insert into api_key (id, merchant_id, livemode, name, key_hash, last4, loopback_only, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (key_hash) do nothing",
    )
    .bind(&key.id)
    .bind(&key.merchant_id)
    .bind(key.livemode)
    .bind(&key.name)
    .bind(hash.as_slice())
    .bind(&key.last4)
    .bind(key.loopback_only)
    .bind(key.created_at)
    .bind(key.expires_at)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The key with this hash, revoked and expired ones too.
///
/// # Errors
/// When the database does not answer.
pub async fn find_key(pool: &PgPool, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    Ok(sqlx::query_as(
        "select id, merchant_id, livemode, name, last4, loopback_only, created_at, expires_at, revoked_at
         from api_key where key_hash = $1",
    )
    .bind(hash.as_slice())
    .fetch_optional(pool)
    .await?)
}

/// A merchant's keys, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list_keys(pool: &PgPool, merchant: &MerchantId, limit: i64) -> Result<Vec<ApiKey>> {
    Ok(sqlx::query_as(
        "select id, merchant_id, livemode, name, last4, loopback_only, created_at, expires_at, revoked_at
         from api_key where merchant_id = $1 order by id desc limit $2",
    )
    .bind(merchant.as_str())
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Revokes a key; false when there is none to revoke.
///
/// # Errors
/// When the database does not answer.
pub async fn revoke_key(pool: &PgPool, id: &ApiKeyId, now: DateTime<Utc>) -> Result<bool> {
    let done = sqlx::query("update api_key set revoked_at = $2 where id = $1 and revoked_at is null")
        .bind(id.as_str())
        .bind(now)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// A row of the allow-list.
#[derive(Debug, Clone)]
pub struct StoredRedirect {
    /// Its id.
    pub id: RedirectUrlId,
    /// Mode.
    pub livemode: bool,
    /// What it allows.
    pub allowed: AllowedRedirect,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

type RedirectRow = (String, bool, String, String, Option<i32>, String, DateTime<Utc>);

fn to_redirect(row: RedirectRow) -> StoredRedirect {
    let (id, livemode, scheme, host, port, path_prefix, created_at) = row;
    StoredRedirect {
        id: RedirectUrlId::from_stored(id),
        livemode,
        allowed: AllowedRedirect { scheme, host, port: port.and_then(|port| u16::try_from(port).ok()), path_prefix },
        created_at,
    }
}

/// What became of a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectInserted {
    /// It is there now.
    Done,
    /// An equal one was there before; nothing was written.
    AlreadyThere,
    /// It is one too many; the caller must roll back.
    TooMany,
}

/// Adds an entry to the allow-list of a merchant who may have `redirects_max` in one mode.
///
/// # Errors
/// When the merchant does not exist or the database does not answer.
pub async fn insert_redirect(
    connection: &mut super::Connection,
    merchant: &MerchantId,
    redirect: &StoredRedirect,
    redirects_max: i64,
) -> Result<RedirectInserted> {
    // The merchant's row is the lock that keeps two creations from both seeing room for one more.
    sqlx::query("select 1 from merchant where id = $1 for update")
        .bind(merchant.as_str())
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query(
        "insert into redirect_url (id, merchant_id, livemode, scheme, host, port, path_prefix, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
    )
    .bind(redirect.id.as_str())
    .bind(merchant.as_str())
    .bind(redirect.livemode)
    .bind(&redirect.allowed.scheme)
    .bind(&redirect.allowed.host)
    .bind(redirect.allowed.port.map(i32::from))
    .bind(&redirect.allowed.path_prefix)
    .bind(redirect.created_at)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(RedirectInserted::AlreadyThere);
    }
    let (count,): (i64,) = sqlx::query_as("select count(*) from redirect_url where merchant_id = $1 and livemode = $2")
        .bind(merchant.as_str())
        .bind(redirect.livemode)
        .fetch_one(connection)
        .await?;
    Ok(if count > redirects_max { RedirectInserted::TooMany } else { RedirectInserted::Done })
}

/// A page of the allow-list, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list_redirects(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    page: &Page,
) -> Result<Vec<StoredRedirect>> {
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(
        "select id, livemode, scheme, host, port, path_prefix, created_at from redirect_url where merchant_id = ",
    );
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    page.push_to(&mut query);
    let mut rows: Vec<RedirectRow> = query.build_query_as().fetch_all(database).await?;
    page.order(&mut rows);
    Ok(rows.into_iter().map(to_redirect).collect())
}

/// One entry.
///
/// # Errors
/// When the database does not answer.
pub async fn find_redirect(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    id: &RedirectUrlId,
) -> Result<Option<StoredRedirect>> {
    let row: Option<RedirectRow> = sqlx::query_as(
        "select id, livemode, scheme, host, port, path_prefix, created_at from redirect_url
         where merchant_id = $1 and livemode = $2 and id = $3",
    )
    .bind(merchant.as_str())
    .bind(livemode)
    .bind(id.as_str())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(to_redirect))
}

/// Removes an entry; false when there is none. Sessions made under it keep their URLs.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_redirect(pool: &PgPool, merchant: &MerchantId, livemode: bool, id: &RedirectUrlId) -> Result<bool> {
    let done = sqlx::query("delete from redirect_url where merchant_id = $1 and livemode = $2 and id = $3")
        .bind(merchant.as_str())
        .bind(livemode)
        .bind(id.as_str())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
