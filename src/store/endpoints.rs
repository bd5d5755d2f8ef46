//! Webhook endpoints as the merchant manages them. How the worker reads them is `delivery_queue`'s.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, Page};
use crate::domain::id::{EndpointId, MerchantId};
use crate::domain::session::Metadata;
use crate::error::Result;

/// An endpoint without its secret.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Mode.
    pub livemode: bool,
    /// Where deliveries go.
    pub url: String,
    /// `*`, event types, or prefixes such as `checkout.session.*`.
    pub enabled_events: Vec<String>,
    /// The merchant's words.
    pub description: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Whether deliveries are made.
    pub enabled: bool,
    /// The API version asked for.
    pub api_version: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, url, enabled_events, description, metadata, status, api_version, created_at"
    };
}

fn to_endpoint(row: &PgRow) -> Result<Endpoint> {
    let id: String = row.try_get("id")?;
    Ok(Endpoint {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        url: row.try_get("url")?,
        enabled_events: row.try_get("enabled_events")?,
        description: row.try_get("description")?,
        metadata: metadata_from_row("webhook_endpoint", &id, row)?,
        enabled: row.try_get::<String, _>("status")? == "enabled",
        api_version: row.try_get("api_version")?,
        created_at: row.try_get("created_at")?,
        id: EndpointId::from_stored(id),
    })
}

/// Makes an endpoint, unless the merchant has `endpoints_max` of them in this mode already.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(
    connection: &mut Connection,
    endpoint: &Endpoint,
    secret_sealed: &[u8],
    endpoints_max: i64,
) -> Result<bool> {
    // The merchant's row is the lock that keeps two creations from both seeing room for one more.
    sqlx::query("select 1 from merchant where id = $1 for update")
        .bind(endpoint.merchant_id.as_str())
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query(
        "insert into webhook_endpoint (id, merchant_id, livemode, url, enabled_events, description, metadata,
             status, secret_sealed, api_version, created_at)
         select $1, $2, $3, $4, $5, $6, $7, 'enabled', $8, $9, $10
         where (select count(*) from webhook_endpoint where merchant_id = $2 and livemode = $3) < $11",
    )
    .bind(endpoint.id.as_str())
    .bind(endpoint.merchant_id.as_str())
    .bind(endpoint.livemode)
    .bind(&endpoint.url)
    .bind(&endpoint.enabled_events)
    .bind(&endpoint.description)
    .bind(metadata_to_json(&endpoint.metadata))
    .bind(secret_sealed)
    .bind(&endpoint.api_version)
    .bind(endpoint.created_at)
    .bind(endpoints_max)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A merchant's endpoint.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, merchant: &MerchantId, livemode: bool, id: &EndpointId) -> Result<Option<Endpoint>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from webhook_endpoint where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(to_endpoint).transpose()
}

/// Locks a merchant's endpoint for the rest of the transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn lock(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    id: &EndpointId,
) -> Result<Option<Endpoint>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from webhook_endpoint where id = $1 and merchant_id = $2 and livemode = $3 for update"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_endpoint).transpose()
}

/// Writes back what an update can change.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, endpoint: &Endpoint) -> Result<()> {
    sqlx::query(
        "update webhook_endpoint set url = $2, enabled_events = $3, description = $4, metadata = $5, status = $6
         where id = $1",
    )
    .bind(endpoint.id.as_str())
    .bind(&endpoint.url)
    .bind(&endpoint.enabled_events)
    .bind(&endpoint.description)
    .bind(metadata_to_json(&endpoint.metadata))
    .bind(if endpoint.enabled { "enabled" } else { "disabled" })
    .execute(connection)
    .await?;
    Ok(())
}

/// A page of a merchant's endpoints, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, merchant: &MerchantId, livemode: bool, page: &Page) -> Result<Vec<Endpoint>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from webhook_endpoint where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut endpoints = rows.iter().map(to_endpoint).collect::<Result<Vec<_>>>()?;
    page.order(&mut endpoints);
    Ok(endpoints)
}

/// Removes an endpoint and what is still owed to it; the log of attempts stays. False when there is
/// none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    id: &EndpointId,
) -> Result<bool> {
    let done = sqlx::query("delete from webhook_endpoint where id = $1 and merchant_id = $2 and livemode = $3")
        .bind(id.as_str())
        .bind(merchant.as_str())
        .bind(livemode)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 1 {
        super::delivery_queue::forget_endpoint(connection, id.as_str()).await?;
        return Ok(true);
    }
    Ok(false)
}
