//! Disputes as rows. One is written when its provider first tells of it, under the lock of its charge;
//! behind the code stands a unique index on the provider's name for it, so that it is never two.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, ListFilter, Page, inconsistent};
use crate::domain::dispute::{Dispute, DisputeAnswer, DisputeStatus, Evidence};
use crate::domain::id::{ChargeId, DisputeId, MerchantId, PaymentId};
use crate::domain::money::{Currency, Money};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, charge_id, payment_id, provider, provider_reference, amount, currency, reason, status,
         amount_withdrawn, amount_reinstated, fee, evidence, evidence_due_by, submission_count, metadata, under_way,
         created_at, closed_at, look_ups"
    };
}

fn to_dispute(row: &PgRow) -> Result<Dispute> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("dispute", &id, what);
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| broken("unknown currency"))?;
    let status: String = row.try_get("status")?;
    let under_way: Option<String> = row.try_get("under_way")?;
    let Json(evidence): Json<Evidence> = row.try_get("evidence").map_err(|error| broken(&error.to_string()))?;
    Ok(Dispute {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        charge_id: ChargeId::from_stored(row.try_get("charge_id")?),
        payment_id: PaymentId::from_stored(row.try_get("payment_id")?),
        provider: row.try_get("provider")?,
        provider_reference: row.try_get("provider_reference")?,
        total: Money { minor: row.try_get("amount")?, currency },
        reason: row.try_get("reason")?,
        status: DisputeStatus::parse(&status).ok_or_else(|| broken("unknown status"))?,
        amount_withdrawn: row.try_get("amount_withdrawn")?,
        amount_reinstated: row.try_get("amount_reinstated")?,
        fee: row.try_get("fee")?,
        evidence,
        evidence_due_by: row.try_get("evidence_due_by")?,
        submission_count: row.try_get("submission_count")?,
        metadata: metadata_from_row("dispute", &id, row)?,
        under_way: under_way.as_deref().and_then(DisputeAnswer::parse),
        created_at: row.try_get("created_at")?,
        closed_at: row.try_get("closed_at")?,
        look_ups: row.try_get("look_ups")?,
        id: DisputeId::from_stored(id),
    })
}

/// Writes a dispute, new or changed. `look_up_at` is when the sweep repeats what is under way. The caller holds the
/// lock of its charge.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, dispute: &Dispute, look_up_at: Option<DateTime<Utc>>) -> Result<()> {
    sqlx::query(
        "insert into dispute (id, merchant_id, livemode, charge_id, payment_id, provider, provider_reference, amount,
             currency, reason, status, amount_withdrawn, amount_reinstated, fee, evidence, evidence_due_by,
             submission_count, metadata, under_way, created_at, closed_at, look_up_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
         on conflict (id) do update set status = excluded.status, amount_withdrawn = excluded.amount_withdrawn,
             amount_reinstated = excluded.amount_reinstated, fee = excluded.fee, evidence = excluded.evidence,
             evidence_due_by = excluded.evidence_due_by, submission_count = excluded.submission_count,
             metadata = excluded.metadata, under_way = excluded.under_way, closed_at = excluded.closed_at,
             look_up_at = excluded.look_up_at, look_ups = case when excluded.look_up_at is null then 0 else dispute.look_ups end",
    )
    .bind(dispute.id.as_str())
    .bind(dispute.merchant_id.as_str())
    .bind(dispute.livemode)
    .bind(dispute.charge_id.as_str())
    .bind(dispute.payment_id.as_str())
    .bind(&dispute.provider)
    .bind(&dispute.provider_reference)
    .bind(dispute.total.minor)
    .bind(dispute.total.currency.code())
    .bind(&dispute.reason)
    .bind(dispute.status.as_str())
    .bind(dispute.amount_withdrawn)
    .bind(dispute.amount_reinstated)
    .bind(dispute.fee)
    .bind(Json(&dispute.evidence))
    .bind(dispute.evidence_due_by)
    .bind(dispute.submission_count)
    .bind(metadata_to_json(&dispute.metadata))
    .bind(dispute.under_way.map(DisputeAnswer::as_str))
    .bind(dispute.created_at)
    .bind(dispute.closed_at)
    .bind(dispute.under_way.and(look_up_at))
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks a dispute by its provider's name for it. The caller holds the lock of its charge already.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock_by_reference(
    connection: &mut Connection,
    provider: &str,
    reference: &str,
) -> Result<Option<Dispute>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from dispute where provider = $1 and provider_reference = $2 for update"
    ))
    .bind(provider)
    .bind(reference)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_dispute).transpose()
}

/// A dispute by its provider's name for it.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_by_reference(pool: &PgPool, provider: &str, reference: &str) -> Result<Option<Dispute>> {
    let row =
        sqlx::query(concat!("select ", columns!(), " from dispute where provider = $1 and provider_reference = $2"))
            .bind(provider)
            .bind(reference)
            .fetch_optional(pool)
            .await?;
    row.as_ref().map(to_dispute).transpose()
}

/// A merchant's dispute.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &DisputeId,
) -> Result<Option<Dispute>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from dispute where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_dispute).transpose()
}

/// A page of a merchant's disputes, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    filter: &ListFilter,
    page: &Page,
) -> Result<Vec<Dispute>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from dispute where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    filter.push_to(&mut query, page);
    let rows = query.build().fetch_all(pool).await?;
    let mut disputes = rows.iter().map(to_dispute).collect::<Result<Vec<_>>>()?;
    page.order(&mut disputes);
    Ok(disputes)
}

/// Takes disputes whose answer is under way and sets when it is repeated next.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn claim_due(
    pool: &PgPool,
    now: DateTime<Utc>,
    next: impl Fn(i32) -> DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Dispute>> {
    let mut transaction = super::begin(pool).await?;
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from dispute where look_up_at <= $1 order by look_up_at limit $2 for update skip locked"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(&mut *transaction)
    .await?;
    let disputes = rows.iter().map(to_dispute).collect::<Result<Vec<_>>>()?;
    if !disputes.is_empty() {
        sqlx::query(
            "update dispute d set look_ups = d.look_ups + 1, look_up_at = g.look_up_at
             from unnest($1::text[], $2::timestamptz[]) as g (id, look_up_at) where d.id = g.id",
        )
        .bind(disputes.iter().map(|dispute| dispute.id.as_str()).collect::<Vec<_>>())
        .bind(disputes.iter().map(|dispute| next(dispute.look_ups + 1)).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(disputes)
}
