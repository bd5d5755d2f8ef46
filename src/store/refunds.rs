//! Refunds as rows. A refund is inserted before its provider is asked and settled once, under the
//! lock of its charge, so that the sum of all never exceeds what was captured.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, ListFilter, Page, inconsistent};
use crate::domain::id::{ChargeId, MerchantId, PaymentId, RefundId};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Refund, RefundState};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, charge_id, payment_id, amount, currency, reason, metadata, state,
         provider_reference, failure_reason, created_at, look_ups"
    };
}

fn to_refund(row: &PgRow) -> Result<Refund> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("refund", &id, what);
    let state: String = row.try_get("state")?;
    let failure: Option<String> = row.try_get("failure_reason")?;
    let state = match (state.as_str(), failure) {
        ("pending", None) => RefundState::Pending,
        ("succeeded", None) => RefundState::Succeeded,
        ("failed", Some(reason)) => RefundState::Failed { reason },
        _ => return Err(broken("state and failure disagree")),
    };
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| broken("unknown currency"))?;
    Ok(Refund {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        charge_id: ChargeId::from_stored(row.try_get("charge_id")?),
        payment_id: PaymentId::from_stored(row.try_get("payment_id")?),
        total: Money { minor: row.try_get("amount")?, currency },
        reason: row.try_get("reason")?,
        metadata: metadata_from_row("refund", &id, row)?,
        state,
        provider_reference: row.try_get("provider_reference")?,
        created_at: row.try_get("created_at")?,
        look_ups: row.try_get("look_ups")?,
        id: RefundId::from_stored(id),
    })
}

/// Writes a refund that is about to be made.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, refund: &Refund, look_up_at: DateTime<Utc>) -> Result<()> {
    sqlx::query(
        "insert into refund (id, merchant_id, livemode, charge_id, payment_id, amount, currency, reason, metadata,
             state, created_at, look_up_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $11)",
    )
    .bind(refund.id.as_str())
    .bind(refund.merchant_id.as_str())
    .bind(refund.livemode)
    .bind(refund.charge_id.as_str())
    .bind(refund.payment_id.as_str())
    .bind(refund.total.minor)
    .bind(refund.total.currency.code())
    .bind(&refund.reason)
    .bind(metadata_to_json(&refund.metadata))
    .bind(refund.created_at)
    .bind(look_up_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The sum of a charge's refunds that have not settled. The caller holds the charge's lock.
///
/// # Errors
/// When the database does not answer.
pub async fn pending_minor(connection: &mut Connection, charge: &ChargeId) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "select coalesce(sum(amount), 0)::int8 from refund where charge_id = $1 and state = 'pending'",
    )
    .bind(charge.as_str())
    .fetch_one(connection)
    .await?)
}

/// Locks a refund. The caller holds its charge's lock already.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock(connection: &mut Connection, id: &RefundId) -> Result<Option<Refund>> {
    let row = sqlx::query(concat!("select ", columns!(), " from refund where id = $1 for update"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(to_refund).transpose()
}

/// Writes back what can change of a refund.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, refund: &Refund, now: DateTime<Utc>) -> Result<()> {
    let failure = match &refund.state {
        RefundState::Failed { reason } => Some(reason.as_str()),
        _ => None,
    };
    sqlx::query(
        "update refund set state = $2, failure_reason = $3, provider_reference = $4, metadata = $5,
             settled_at = case when $2 = 'pending' then null else coalesce(settled_at, $6) end,
             look_up_at = case when $2 = 'pending' then look_up_at end
         where id = $1",
    )
    .bind(refund.id.as_str())
    .bind(refund.state.as_str())
    .bind(failure)
    .bind(&refund.provider_reference)
    .bind(metadata_to_json(&refund.metadata))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// A merchant's refund.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &RefundId,
) -> Result<Option<Refund>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from refund where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_refund).transpose()
}

/// A page of a merchant's refunds, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    filter: &ListFilter,
    page: &Page,
) -> Result<Vec<Refund>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from refund where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    filter.push_to(&mut query, page);
    let rows = query.build().fetch_all(pool).await?;
    let mut refunds = rows.iter().map(to_refund).collect::<Result<Vec<_>>>()?;
    page.order(&mut refunds);
    Ok(refunds)
}

/// Takes refunds whose outcome is unknown and sets when they are repeated next.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn claim_due(
    pool: &PgPool,
    now: DateTime<Utc>,
    next: impl Fn(i32) -> DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Refund>> {
    let mut transaction = super::begin(pool).await?;
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from refund where look_up_at <= $1 order by look_up_at limit $2 for update skip locked"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(&mut *transaction)
    .await?;
    let refunds = rows.iter().map(to_refund).collect::<Result<Vec<_>>>()?;
    if !refunds.is_empty() {
        sqlx::query(
            "update refund r set look_ups = r.look_ups + 1, look_up_at = g.look_up_at
             from unnest($1::text[], $2::timestamptz[]) as g (id, look_up_at) where r.id = g.id",
        )
        .bind(refunds.iter().map(|refund| refund.id.as_str()).collect::<Vec<_>>())
        .bind(refunds.iter().map(|refund| next(refund.look_ups + 1)).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(refunds)
}
