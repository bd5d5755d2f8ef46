//! Reviews as rows. One is opened and closed in the transaction that moves its charge.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::{Connection, CreatedFilter, Page, inconsistent};
use crate::domain::id::{ChargeId, MerchantId, PaymentId, ReviewId};
use crate::domain::review::{ClosedReason, Review};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, charge_id, payment_id, rule, created_at, expires_at, closed_reason"
    };
}

fn to_review(row: &PgRow) -> Result<Review> {
    let id: String = row.try_get("id")?;
    let closed: Option<String> = row.try_get("closed_reason")?;
    let closed = closed
        .map(|word| {
            ClosedReason::from_word(&word).ok_or_else(|| inconsistent("review", &id, "unknown reason of closing"))
        })
        .transpose()?;
    Ok(Review {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        charge_id: ChargeId::from_stored(row.try_get("charge_id")?),
        payment_id: PaymentId::from_stored(row.try_get("payment_id")?),
        rule: row.try_get("rule")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        closed,
        id: ReviewId::from_stored(id),
    })
}

/// Writes a new review.
///
/// # Errors
/// When the database does not answer, or the charge has one already.
pub async fn insert(connection: &mut Connection, review: &Review) -> Result<()> {
    sqlx::query(
        "insert into review (id, merchant_id, livemode, charge_id, payment_id, rule, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(review.id.as_str())
    .bind(review.merchant_id.as_str())
    .bind(review.livemode)
    .bind(review.charge_id.as_str())
    .bind(review.payment_id.as_str())
    .bind(&review.rule)
    .bind(review.created_at)
    .bind(review.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Closes a review; `None` when it is closed already. The caller holds its session's lock.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn close(
    connection: &mut Connection,
    id: &ReviewId,
    reason: ClosedReason,
    now: DateTime<Utc>,
) -> Result<Option<Review>> {
    let row = sqlx::query(concat!(
        "update review set closed_reason = $2, closed_at = $3 where id = $1 and closed_at is null returning ",
        columns!()
    ))
    .bind(id.as_str())
    .bind(reason.word())
    .bind(now)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_review).transpose()
}

/// A merchant's review.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &ReviewId,
) -> Result<Option<Review>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from review where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_review).transpose()
}

/// A page of a merchant's open reviews, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list_open(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    created: &CreatedFilter,
    page: &Page,
) -> Result<Vec<Review>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from review where closed_at is null and merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    created.push_to(&mut query);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut reviews = rows.iter().map(to_review).collect::<Result<Vec<_>>>()?;
    page.order(&mut reviews);
    Ok(reviews)
}

/// Open reviews that nobody has decided in time.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn due(pool: &PgPool, now: DateTime<Utc>, limit: i64) -> Result<Vec<Review>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from review where closed_at is null and expires_at <= $1 order by expires_at limit $2"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(to_review).collect()
}
