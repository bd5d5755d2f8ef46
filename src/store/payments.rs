//! Payments and charges as rows.
//!
//! The rule: a charge is inserted before its provider is asked and settled once, under the lock of
//! its session's row. Two unique indexes stand behind the code: one live charge per session, and one
//! charge for each turn of an attempt key.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row as _};

use super::billing::billing_from_row;
use super::codec::{facts_from_row, metadata_from_row};
use super::fraud::assessment_from_row;
pub use super::payment_writes::{insert_charge, insert_payment, save_charge, save_disputed, save_payment};
use super::{Connection, inconsistent};
use crate::domain::card::{CardBrand, CardFunding, CardSummary};
use crate::domain::id::{ChargeId, CustomerId, MerchantId, PaymentId, PaymentMethodId, SessionId};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{
    Cancellation, CaptureMethod, Charge, ChargeFailure, ChargeState, Payment, PaymentStatus, UnderWay,
};
use crate::domain::payment_method::FutureUsage;
use crate::error::Result;

macro_rules! payment_columns {
    () => {
        "id, merchant_id, livemode, session_id, amount, currency, status, amount_received, capture_method, description,
         receipt_email, statement_descriptor, statement_descriptor_suffix, metadata, cancellation_reason, canceled_at,
         customer_id, setup_future_usage, created_at"
    };
}

macro_rules! charge_columns {
    () => {
        "id, merchant_id, livemode, payment_id, session_id, attempt_key, attempt_turn, provider, provider_reference, amount,
         currency, state, amount_captured, amount_refunded, under_way, capture_amount, action_url, payment_method, card_brand,
         card_last4, card_exp_month, card_exp_year, card_funding, card_country, card_fingerprint, checks, failure_code,
         decline_code, failure_message, payer_message, customer_id, keeps_card, created_at, look_ups,
         closing, outcome, disputed, amount_withdrawn, overdrawn, fee, billing_details"
    };
}

pub(super) use {charge_columns, payment_columns};

fn money(table: &str, id: &str, row: &PgRow) -> Result<Money> {
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| inconsistent(table, id, "unknown currency"))?;
    Ok(Money { minor: row.try_get("amount")?, currency })
}

pub(super) fn to_payment(row: &PgRow) -> Result<Payment> {
    let id: String = row.try_get("id")?;
    let status: String = row.try_get("status")?;
    let capture_method: String = row.try_get("capture_method")?;
    let canceled_at: Option<DateTime<Utc>> = row.try_get("canceled_at")?;
    let reason: Option<String> = row.try_get("cancellation_reason")?;
    let usage: Option<String> = row.try_get("setup_future_usage")?;
    Ok(Payment {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        session_id: SessionId::from_stored(row.try_get("session_id")?),
        customer_id: row.try_get::<Option<String>, _>("customer_id")?.map(CustomerId::from_stored),
        setup_future_usage: usage.as_deref().and_then(FutureUsage::parse),
        total: money("payment", &id, row)?,
        description: row.try_get("description")?,
        receipt_email: row.try_get("receipt_email")?,
        metadata: metadata_from_row("payment", &id, row)?,
        capture_method: CaptureMethod::parse(&capture_method)
            .ok_or_else(|| inconsistent("payment", &id, "unknown capture method"))?,
        statement_descriptor: row.try_get("statement_descriptor")?,
        statement_descriptor_suffix: row.try_get("statement_descriptor_suffix")?,
        status: PaymentStatus::parse(&status).ok_or_else(|| inconsistent("payment", &id, "unknown status"))?,
        amount_received: row.try_get("amount_received")?,
        cancellation: canceled_at.map(|at| Cancellation { reason, at }),
        created_at: row.try_get("created_at")?,
        id: PaymentId::from_stored(id),
    })
}

pub(super) fn to_charge(row: &PgRow) -> Result<Charge> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("charge", &id, what);
    let state: String = row.try_get("state")?;
    let failure_code: Option<String> = row.try_get("failure_code")?;
    let action_url: Option<String> = row.try_get("action_url")?;
    let state = match (state.as_str(), failure_code, action_url) {
        ("pending", None, None) => ChargeState::Pending,
        ("requires_action", None, Some(url)) => ChargeState::RequiresAction { url },
        ("authorized", None, _) => ChargeState::Authorized,
        ("succeeded", None, _) => ChargeState::Succeeded,
        ("reversed", None, _) => ChargeState::Reversed,
        ("failed", Some(code), _) => ChargeState::Failed(ChargeFailure {
            code,
            decline_code: row.try_get("decline_code")?,
            message: row.try_get::<Option<String>, _>("failure_message")?.unwrap_or_default(),
            payer_message: row.try_get::<Option<String>, _>("payer_message")?.unwrap_or_default(),
        }),
        _ => return Err(broken("state, failure and action disagree")),
    };
    let under_way: Option<String> = row.try_get("under_way")?;
    let under_way = match (under_way.as_deref(), row.try_get::<Option<i64>, _>("capture_amount")?) {
        (None, None) => None,
        (Some("capture"), Some(amount)) => Some(UnderWay::Capture { amount }),
        (Some("void"), None) => Some(UnderWay::Void),
        _ => return Err(broken("under_way and capture_amount disagree")),
    };
    let brand: String = row.try_get("card_brand")?;
    let funding: Option<String> = row.try_get("card_funding")?;
    Ok(Charge {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        payment_id: PaymentId::from_stored(row.try_get("payment_id")?),
        session_id: SessionId::from_stored(row.try_get("session_id")?),
        attempt_key: row.try_get("attempt_key")?,
        attempt_turn: row.try_get("attempt_turn")?,
        provider: row.try_get("provider")?,
        provider_reference: row.try_get("provider_reference")?,
        total: money("charge", &id, row)?,
        state,
        customer_id: row.try_get::<Option<String>, _>("customer_id")?.map(CustomerId::from_stored),
        payment_method: PaymentMethodId::from_stored(row.try_get("payment_method")?),
        keeps_card: row.try_get("keeps_card")?,
        card: CardSummary {
            brand: CardBrand::from_code(&brand).ok_or_else(|| broken("unknown card brand"))?,
            last4: row.try_get("card_last4")?,
            exp_month: u8::try_from(row.try_get::<i16, _>("card_exp_month")?).map_err(|_| broken("expiry month"))?,
            exp_year: u16::try_from(row.try_get::<i16, _>("card_exp_year")?).map_err(|_| broken("expiry year"))?,
            funding: funding.as_deref().and_then(CardFunding::from_code),
            country: row.try_get("card_country")?,
            fingerprint: row.try_get("card_fingerprint")?,
        },
        billing: billing_from_row(&id, row)?,
        facts: facts_from_row(&id, row)?,
        assessment: assessment_from_row(&id, row)?,
        amount_captured: row.try_get("amount_captured")?,
        amount_refunded: row.try_get("amount_refunded")?,
        disputed: row.try_get("disputed")?,
        amount_withdrawn: row.try_get("amount_withdrawn")?,
        overdrawn: row.try_get("overdrawn")?,
        fee: row.try_get("fee")?,
        under_way,
        created_at: row.try_get("created_at")?,
        look_ups: row.try_get("look_ups")?,
        closing: row.try_get("closing")?,
        id: ChargeId::from_stored(id),
    })
}

/// Notes why a payment is being given up, before the provider has been asked to let its money go.
///
/// # Errors
/// When the database does not answer.
pub async fn note_cancellation_reason(connection: &mut Connection, id: &PaymentId, reason: Option<&str>) -> Result<()> {
    sqlx::query("update payment set cancellation_reason = $2 where id = $1")
        .bind(id.as_str())
        .bind(reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// Why a payment is being given up, as noted.
///
/// # Errors
/// When the database does not answer.
pub async fn cancellation_reason(connection: &mut Connection, id: &PaymentId) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("select cancellation_reason from payment where id = $1")
        .bind(id.as_str())
        .fetch_one(connection)
        .await?)
}

/// The payments of sessions that ended unpaid, to be given up with them.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn lock_unpaid(connection: &mut Connection, sessions: &[&str]) -> Result<Vec<Payment>> {
    let rows = sqlx::query(concat!(
        "select ",
        payment_columns!(),
        " from payment where session_id = any($1) and status = 'requires_payment_method' order by id for update"
    ))
    .bind(sessions)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_payment).collect()
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

/// The charge that a form already started, the last one where there are several.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_attempt(
    connection: &mut Connection,
    session: &SessionId,
    attempt_key: &str,
) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!(
        "select ",
        charge_columns!(),
        " from charge where session_id = $1 and attempt_key = $2 order by attempt_turn desc limit 1"
    ))
    .bind(session.as_str())
    .bind(attempt_key)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_charge).transpose()
}

/// The charge that its provider knows by this name.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_by_reference(pool: &PgPool, provider: &str, reference: &str) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!(
        "select ",
        charge_columns!(),
        " from charge where provider = $1 and provider_reference = $2 order by id limit 1"
    ))
    .bind(provider)
    .bind(reference)
    .fetch_optional(pool)
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

/// A merchant's payment.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_payment(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &PaymentId,
) -> Result<Option<Payment>> {
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

/// Locks a payment. The caller holds its session's lock already.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock_payment(connection: &mut Connection, id: &PaymentId) -> Result<Option<Payment>> {
    let row = sqlx::query(concat!("select ", payment_columns!(), " from payment where id = $1 for update"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(to_payment).transpose()
}

/// The newest charge of each of these payments.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn latest_charges(database: impl PgExecutor<'_>, payments: &[&str]) -> Result<Vec<Charge>> {
    let rows = sqlx::query(concat!(
        "select distinct on (payment_id) ",
        charge_columns!(),
        " from charge where payment_id = any($1) order by payment_id, id desc"
    ))
    .bind(payments)
    .fetch_all(database)
    .await?;
    rows.iter().map(to_charge).collect()
}

/// A merchant's charge.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_merchants_charge(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &ChargeId,
) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!(
        "select ",
        charge_columns!(),
        " from charge where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(to_charge).transpose()
}

/// The charge that the way back from an authentication belongs to.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_by_return_state(pool: &PgPool, hash: &[u8; 32]) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!("select ", charge_columns!(), " from charge where return_state_hash = $1"))
        .bind(hash.as_slice())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(to_charge).transpose()
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
        " from charge where look_up_at <= $1 order by look_up_at limit $2
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

/// Decides that a charge in doubt is to be voided, and gives it as it stands. None when it has been settled
/// meanwhile; then it must not be.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn close(pool: &PgPool, id: &ChargeId) -> Result<Option<Charge>> {
    let row = sqlx::query(concat!(
        "update charge set closing = true where id = $1 and state in ('pending', 'requires_action') returning ",
        charge_columns!()
    ))
    .bind(id.as_str())
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(to_charge).transpose()
}

/// Makes a charge due for a look-up at once, because its outcome came back unknown.
///
/// # Errors
/// When the database does not answer.
pub async fn look_up_soon(pool: &PgPool, id: &ChargeId, at: DateTime<Utc>) -> Result<()> {
    sqlx::query("update charge set look_up_at = least(look_up_at, $2) where id = $1 and look_up_at is not null")
        .bind(id.as_str())
        .bind(at)
        .execute(pool)
        .await?;
    Ok(())
}
