//! Webhook endpoints as the merchant manages them. How the worker reads them is `delivery_queue`'s.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, Page};
use crate::domain::endpoint_health::DisabledReason;
use crate::domain::id::{EndpointId, MerchantId};
use crate::domain::session::Metadata;
use crate::error::Result;

/// Deliveries that go with a deleted endpoint at once; a statement has its time, and the sweep sees to the rest.
const FORGOTTEN_AT_ONCE_MAX: i64 = 50_000;

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
    /// Why not, if it is known: a word of `DisabledReason`.
    pub disabled_reason: Option<String>,
    /// The API version asked for.
    pub api_version: Option<String>,
    /// Names of the merchant's own headers, in lower case.
    pub custom_header_names: Vec<String>,
    /// The merchant's bound on attempts that begin within a second, 1 to 1000.
    pub events_per_second: Option<i32>,
    /// The merchant's bound on attempts at once, 1 to 64.
    pub concurrency: Option<i32>,
    /// Whether the events of one session come one after the other.
    pub ordered: bool,
    /// The public half of the key pair, if there is one: `whpk_…`.
    pub public_key: Option<String>,
    /// Until when what signed before the last rotation signs as well.
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What is secret of an endpoint, sealed.
#[derive(Clone)]
pub struct Sealed {
    /// The signing secret.
    pub secret: Vec<u8>,
    /// The one before it, while it signs as well.
    pub previous_secret: Option<Vec<u8>>,
    /// The seed of the key pair.
    pub key_seed: Option<Vec<u8>>,
    /// The one before it, while it signs as well.
    pub previous_key_seed: Option<Vec<u8>>,
    /// The merchant's own headers.
    pub custom_headers: Option<Vec<u8>>,
}

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, url, enabled_events, description, metadata, status, disabled_reason, \
         api_version, custom_header_names, events_per_second, concurrency, ordered, public_key, \
         previous_secret_until, created_at"
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
        disabled_reason: row.try_get("disabled_reason")?,
        api_version: row.try_get("api_version")?,
        custom_header_names: row.try_get("custom_header_names")?,
        events_per_second: row.try_get("events_per_second")?,
        concurrency: row.try_get("concurrency")?,
        ordered: row.try_get("ordered")?,
        public_key: row.try_get("public_key")?,
        previous_secret_until: row.try_get("previous_secret_until")?,
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
    sealed: &Sealed,
    endpoints_max: i64,
) -> Result<bool> {
    // The merchant's row is the lock that keeps two creations from both seeing room for one more.
    sqlx::query("select 1 from merchant where id = $1 for update")
        .bind(endpoint.merchant_id.as_str())
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query(
        "insert into webhook_endpoint (id, merchant_id, livemode, url, enabled_events, description, metadata,
             status, secret_sealed, api_version, created_at, custom_header_names, custom_headers_sealed,
             events_per_second, concurrency, ordered, key_seed_sealed, public_key)
         select $1, $2, $3, $4, $5, $6, $7, 'enabled', $8, $9, $10, $12, $13, $14, $15, $16, $17, $18
         where (select count(*) from webhook_endpoint where merchant_id = $2 and livemode = $3) < $11",
    )
    .bind(endpoint.id.as_str())
    .bind(endpoint.merchant_id.as_str())
    .bind(endpoint.livemode)
    .bind(&endpoint.url)
    .bind(&endpoint.enabled_events)
    .bind(&endpoint.description)
    .bind(metadata_to_json(&endpoint.metadata))
    .bind(&sealed.secret)
    .bind(&endpoint.api_version)
    .bind(endpoint.created_at)
    .bind(endpoints_max)
    .bind(&endpoint.custom_header_names)
    .bind(&sealed.custom_headers)
    .bind(endpoint.events_per_second)
    .bind(endpoint.concurrency)
    .bind(endpoint.ordered)
    .bind(&sealed.key_seed)
    .bind(&endpoint.public_key)
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

/// Writes back what an update or a rotation can change, with what is sealed of it: names and values, public and
/// private halves belong together.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, endpoint: &Endpoint, sealed: &Sealed) -> Result<()> {
    sqlx::query(
        "update webhook_endpoint set url = $2, enabled_events = $3, description = $4, metadata = $5, status = $6,
             disabled_reason = $7, custom_header_names = $8, events_per_second = $9, concurrency = $10,
             ordered = $11, public_key = $12, previous_secret_until = $13, secret_sealed = $14,
             previous_secret_sealed = $15, key_seed_sealed = $16, previous_key_seed_sealed = $17,
             custom_headers_sealed = $18
         where id = $1",
    )
    .bind(endpoint.id.as_str())
    .bind(&endpoint.url)
    .bind(&endpoint.enabled_events)
    .bind(&endpoint.description)
    .bind(metadata_to_json(&endpoint.metadata))
    .bind(if endpoint.enabled { "enabled" } else { "disabled" })
    .bind(&endpoint.disabled_reason)
    .bind(&endpoint.custom_header_names)
    .bind(endpoint.events_per_second)
    .bind(endpoint.concurrency)
    .bind(endpoint.ordered)
    .bind(&endpoint.public_key)
    .bind(endpoint.previous_secret_until)
    .bind(&sealed.secret)
    .bind(&sealed.previous_secret)
    .bind(&sealed.key_seed)
    .bind(&sealed.previous_key_seed)
    .bind(&sealed.custom_headers)
    .execute(connection)
    .await?;
    Ok(())
}

/// What is sealed of an endpoint whose row is locked.
///
/// # Errors
/// When the database does not answer.
pub async fn sealed(connection: &mut Connection, id: &EndpointId) -> Result<Sealed> {
    let row = sqlx::query(
        "select secret_sealed, previous_secret_sealed, key_seed_sealed, previous_key_seed_sealed,
                custom_headers_sealed
         from webhook_endpoint where id = $1",
    )
    .bind(id.as_str())
    .fetch_one(connection)
    .await?;
    Ok(Sealed {
        secret: row.try_get(0)?,
        previous_secret: row.try_get(1)?,
        key_seed: row.try_get(2)?,
        previous_key_seed: row.try_get(3)?,
        custom_headers: row.try_get(4)?,
    })
}

/// An enabled endpoint, whosever it is: for the worker, which serves all merchants.
///
/// # Errors
/// When the database does not answer.
pub async fn at_work(connection: &mut Connection, id: &str) -> Result<Option<Endpoint>> {
    let row =
        sqlx::query(concat!("select ", columns!(), " from webhook_endpoint where id = $1 and status = 'enabled'"))
            .bind(id)
            .fetch_optional(connection)
            .await?;
    row.as_ref().map(to_endpoint).transpose()
}

/// Switches an enabled endpoint off, unless its URL was changed meanwhile. Gives it as it is then. What is owed to it
/// stays owed, for the day it is enabled again.
///
/// # Errors
/// When the database does not answer.
pub async fn disable(
    connection: &mut Connection,
    id: &str,
    url: &str,
    reason: DisabledReason,
) -> Result<Option<Endpoint>> {
    let row = sqlx::query(concat!(
        "update webhook_endpoint set status = 'disabled', disabled_reason = $3
         where id = $1 and url = $2 and status = 'enabled' returning ",
        columns!()
    ))
    .bind(id)
    .bind(url)
    .bind(reason.word())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_endpoint).transpose()
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
        super::delivery_queue::forget_endpoint(connection, id.as_str(), FORGOTTEN_AT_ONCE_MAX).await?;
        return Ok(true);
    }
    Ok(false)
}
