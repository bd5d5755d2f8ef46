//! Payments and charges as rows.
//!
//! The rule: a charge is inserted before its provider is asked and settled once, under the lock of
//! its session's row. Two partial unique indexes stand behind the code: one live charge and one
//! attempt key per session.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, inconsistent};
use crate::domain::card::{CardBrand, CardFunding, CardSummary};
use crate::domain::id::{ChargeId, MerchantId, PaymentId, SessionId};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Charge, ChargeFailure, ChargeState, Payment, PaymentStatus};
use crate::error::Result;

macro_rules! payment_columns {
    () => {
        "id, merchant_id, livemode, session_id, amount, currency, status, description, receipt_email, metadata, created_at"
    };
}

macro_rules! charge_columns {
    () => {
        "id, merchant_id, livemode, payment_id, session_id, attempt_key, provider, provider_reference, amount,
         currency, state, payment_method, card_brand, card_last4, card_exp_month, card_exp_year, card_funding,
         card_country, card_fingerprint, failure_code, decline_code, failure_message, payer_message, created_at, look_ups,
         closing"
    };
}

fn money(table: &str, id: &str, row: &PgRow) -> Result<Money> {
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| inconsistent(table, id, "unknown currency"))?;
    Ok(Money { minor: row.try_get("amount")?, currency })
}

fn to_payment(row: &PgRow) -> Result<(Payment, PaymentStatus)> {
    let id: String = row.try_get("id")?;
    let status: String = row.try_get("status")?;
    let status = match status.as_str() {
        "requires_payment_method" => PaymentStatus::RequiresPaymentMethod,
        "processing" => PaymentStatus::Processing,
        "succeeded" => PaymentStatus::Succeeded,
        "canceled" => PaymentStatus::Canceled,
        _ => return Err(inconsistent("payment", &id, "unknown status")),
    };
    let payment = Payment {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        session_id: SessionId::from_stored(row.try_get("session_id")?),
        total: money("payment", &id, row)?,
        description: row.try_get("description")?,
        receipt_email: row.try_get("receipt_email")?,
        metadata: metadata_from_row("payment", &id, row)?,
        created_at: row.try_get("created_at")?,
        id: PaymentId::from_stored(id),
    };
    Ok((payment, status))
}

fn to_charge(row: &PgRow) -> Result<Charge> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("charge", &id, what);
    let state: String = row.try_get("state")?;
    let failure_code: Option<String> = row.try_get("failure_code")?;
    let state = match (state.as_str(), failure_code) {
        ("pending", None) => ChargeState::Pending,
        ("succeeded", None) => ChargeState::Succeeded,
        ("reversed", None) => ChargeState::Reversed,
        ("failed", Some(code)) => ChargeState::Failed(ChargeFailure {
            code,
            decline_code: row.try_get("decline_code")?,
            message: row.try_get::<Option<String>, _>("failure_message")?.unwrap_or_default(),
            payer_message: row.try_get::<Option<String>, _>("payer_message")?.unwrap_or_default(),
        }),
        _ => return Err(broken("state and failure disagree")),
    };
    let brand: String = row.try_get("card_brand")?;
    let funding: Option<String> = row.try_get("card_funding")?;
    Ok(Charge {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        payment_id: PaymentId::from_stored(row.try_get("payment_id")?),
        session_id: SessionId::from_stored(row.try_get("session_id")?),
        attempt_key: row.try_get("attempt_key")?,
        provider: row.try_get("provider")?,
        provider_reference: row.try_get("provider_reference")?,
        total: money("charge", &id, row)?,
        state,
        payment_method: row.try_get("payment_method")?,
        card: CardSummary {
            brand: CardBrand::from_code(&brand).ok_or_else(|| broken("unknown card brand"))?,
            last4: row.try_get("card_last4")?,
            exp_month: u8::try_from(row.try_get::<i16, _>("card_exp_month")?).map_err(|_| broken("expiry month"))?,
            exp_year: u16::try_from(row.try_get::<i16, _>("card_exp_year")?).map_err(|_| broken("expiry year"))?,
            funding: funding.as_deref().and_then(CardFunding::from_code),
            country: row.try_get("card_country")?,
            fingerprint: row.try_get("card_fingerprint")?,
        },
        created_at: row.try_get("created_at")?,
        look_ups: row.try_get("look_ups")?,
        closing: row.try_get("closing")?,
        id: ChargeId::from_stored(id),
    })
}

/// Writes a session's payment; the first charge makes it, later ones find it.
///
/// # Errors
/// When the database does not answer.
pub async fn insert_payment(connection: &mut Connection, payment: &Payment) -> Result<()> {
    sqlx::query(
        "insert into payment (id, merchant_id, livemode, session_id, amount, currency, status, description,
             receipt_email, metadata, created_at)
         values ($1, $2, $3, $4, $5, $6, 'processing', $7, $8, $9, $10)
         on conflict (session_id) do update set status = 'processing'",
    )
    .bind(payment.id.as_str())
    .bind(payment.merchant_id.as_str())
    .bind(payment.livemode)
    .bind(payment.session_id.as_str())
    .bind(payment.total.minor)
    .bind(payment.total.currency.code())
    .bind(&payment.description)
    .bind(&payment.receipt_email)
    .bind(metadata_to_json(&payment.metadata))
    .bind(payment.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets a payment's status; what was received follows from it.
///
/// # Errors
/// When the database does not answer.
pub async fn save_status(connection: &mut Connection, id: &PaymentId, status: PaymentStatus) -> Result<()> {
    sqlx::query(
        "update payment set status = $2, amount_received = case when $2 = 'succeeded' then amount else 0 end
         where id = $1",
    )
    .bind(id.as_str())
    .bind(status.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives up the payments of sessions that ended unpaid.
///
/// # Errors
/// When the database does not answer.
pub async fn cancel_for_sessions(connection: &mut Connection, sessions: &[&str]) -> Result<()> {
    sqlx::query(
        "update payment set status = 'canceled' where session_id = any($1) and status = 'requires_payment_method'",
    )
    .bind(sessions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a charge that is about to be tried.
///
/// # Errors
/// When the database does not answer.
pub async fn insert_charge(connection: &mut Connection, charge: &Charge, look_up_at: DateTime<Utc>) -> Result<()> {
    sqlx::query(
        "insert into charge (id, merchant_id, livemode, payment_id, session_id, attempt_key, provider, amount,
             currency, state, payment_method, card_brand, card_last4, card_exp_month, card_exp_year, card_funding,
             card_country, card_fingerprint, created_at, look_up_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(charge.id.as_str())
    .bind(charge.merchant_id.as_str())
    .bind(charge.livemode)
    .bind(charge.payment_id.as_str())
    .bind(charge.session_id.as_str())
    .bind(&charge.attempt_key)
    .bind(&charge.provider)
    .bind(charge.total.minor)
    .bind(charge.total.currency.code())
    .bind(&charge.payment_method)
    .bind(charge.card.brand.code())
    .bind(&charge.card.last4)
    .bind(i16::from(charge.card.exp_month))
    .bind(i16::try_from(charge.card.exp_year).unwrap_or(i16::MAX))
    .bind(charge.card.funding.map(CardFunding::code))
    .bind(&charge.card.country)
    .bind(&charge.card.fingerprint)
    .bind(charge.created_at)
    .bind(look_up_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// A charge by id.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_charge(pool: &PgPool, id: &ChargeId) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!("select ", charge_columns!(), " from charge where id = $1"))
        .bind(id.as_str())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(to_charge).transpose()
}

/// Locks a charge. The caller holds its session's lock already.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock_charge(connection: &mut Connection, id: &ChargeId) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!("select ", charge_columns!(), " from charge where id = $1 for update"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(to_charge).transpose()
}

/// The charge that a form already started.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_attempt(
    connection: &mut Connection,
    session: &SessionId,
    attempt_key: &str,
) -> Result<Option<Charge>> {
    let row =
        sqlx::query(concat!("select ", charge_columns!(), " from charge where session_id = $1 and attempt_key = $2"))
            .bind(session.as_str())
            .bind(attempt_key)
            .fetch_optional(connection)
            .await?;
    row.as_ref().map(to_charge).transpose()
}

/// The newest charge of a session.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn latest_charge(database: impl PgExecutor<'_>, session: &SessionId) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!(
        "select ",
        charge_columns!(),
        " from charge where session_id = $1 order by id desc limit 1"
    ))
    .bind(session.as_str())
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_charge).transpose()
}

/// A merchant's payment and its status.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_payment(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &PaymentId,
) -> Result<Option<(Payment, PaymentStatus)>> {
    let row = sqlx::query(concat!(
        "select ",
        payment_columns!(),
        " from payment where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_payment).transpose()
}

/// Settles a charge that is pending; false when it has been settled before.
///
/// # Errors
/// When the database does not answer, or a second charge of the session would succeed.
pub async fn settle_charge(
    connection: &mut Connection,
    id: &ChargeId,
    state: &ChargeState,
    reference: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let (word, failure) = match state {
        ChargeState::Pending => return Ok(false),
        ChargeState::Succeeded => ("succeeded", None),
        ChargeState::Reversed => ("reversed", None),
        ChargeState::Failed(failure) => ("failed", Some(failure)),
    };
    let done = sqlx::query(
        "update charge set state = $2, provider_reference = coalesce($3, provider_reference), failure_code = $4,
             decline_code = $5, failure_message = $6, payer_message = $7, settled_at = $8, look_up_at = null
         where id = $1 and state = 'pending'",
    )
    .bind(id.as_str())
    .bind(word)
    .bind(reference)
    .bind(failure.map(|failure| failure.code.as_str()))
    .bind(failure.and_then(|failure| failure.decline_code.as_deref()))
    .bind(failure.map(|failure| failure.message.as_str()))
    .bind(failure.map(|failure| failure.payer_message.as_str()))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes charges in doubt whose look-up is due: sets the next one and gives them to the caller, who
/// asks the provider outside any transaction. Another replica finds them not due.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn claim_look_ups(
    pool: &PgPool,
    now: DateTime<Utc>,
    next: impl Fn(i32) -> DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Charge>> {
    let mut transaction = super::begin(pool).await?;
    let rows = sqlx::query(concat!(
        "select ",
        charge_columns!(),
        " from charge where state = 'pending' and look_up_at <= $1 order by look_up_at limit $2
         for update skip locked"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(&mut *transaction)
    .await?;
    let charges = rows.iter().map(to_charge).collect::<Result<Vec<_>>>()?;
    if !charges.is_empty() {
        sqlx::query(
            "update charge c set look_ups = c.look_ups + 1, look_up_at = g.look_up_at
             from unnest($1::text[], $2::timestamptz[]) as g (id, look_up_at) where c.id = g.id",
        )
        .bind(charges.iter().map(|charge| charge.id.as_str()).collect::<Vec<_>>())
        .bind(charges.iter().map(|charge| next(charge.look_ups + 1)).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(charges)
}

/// Decides that a charge in doubt is to be voided. False when it has been settled meanwhile; then it must not
/// be.
///
/// # Errors
/// When the database does not answer.
pub async fn close(pool: &PgPool, id: &ChargeId) -> Result<bool> {
    let done = sqlx::query("update charge set closing = true where id = $1 and state = 'pending'")
        .bind(id.as_str())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes a charge due for a look-up at once, because its outcome came back unknown.
///
/// # Errors
/// When the database does not answer.
pub async fn look_up_soon(pool: &PgPool, id: &ChargeId, at: DateTime<Utc>) -> Result<()> {
    sqlx::query("update charge set look_up_at = least(look_up_at, $2) where id = $1 and state = 'pending'")
        .bind(id.as_str())
        .bind(at)
        .execute(pool)
        .await?;
    Ok(())
}
