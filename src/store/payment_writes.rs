//! How payments and charges are written: each statement by itself, and as a part of a larger one.
//!
//! The rule: a statement stands here once; the function that runs it alone and `store::together`, which
//! puts it beside others, share its text. The caller holds the locks. Reading is `store::payments`'s.

use chrono::{DateTime, Utc};

use super::Connection;
use super::billing::billing_to_json;
use super::codec::{facts_to_json, metadata_to_json};
use super::fraud::{Keys, assessment_to_json};
use super::together::Statement;
use crate::domain::card::CardFunding;
use crate::domain::id::CustomerId;
use crate::domain::payment::{Charge, ChargeState, Payment, PaymentStatus, UnderWay};
use crate::domain::payment_method::FutureUsage;
use crate::error::Result;

/// Writes a session's payment; the first charge makes it, later ones find it and set it in motion.
///
/// # Errors
/// When the database does not answer.
pub async fn insert_payment(connection: &mut Connection, payment: &Payment) -> Result<()> {
    let mut statement = Statement::default();
    push_insert_payment(&mut statement, payment);
    statement.build().execute(connection).await?;
    Ok(())
}

/// The statement of [`insert_payment`].
pub(super) fn push_insert_payment(statement: &mut Statement, payment: &Payment) {
    statement.push(
        "insert into payment (id, merchant_id, livemode, session_id, amount, currency, status, capture_method,
             description, receipt_email, statement_descriptor, statement_descriptor_suffix, metadata, created_at,
             customer_id, setup_future_usage)
         values (",
    );
    let mut values = statement.separated(", ");
    values
        .push_bind(payment.id.as_str())
        .push_bind(payment.merchant_id.as_str())
        .push_bind(payment.livemode)
        .push_bind(payment.session_id.as_str())
        .push_bind(payment.total.minor)
        .push_bind(payment.total.currency.code())
        .push("'processing'")
        .push_bind(payment.capture_method.as_str())
        .push_bind(&payment.description)
        .push_bind(&payment.receipt_email)
        .push_bind(&payment.statement_descriptor)
        .push_bind(&payment.statement_descriptor_suffix)
        .push_bind(metadata_to_json(&payment.metadata))
        .push_bind(payment.created_at)
        .push_bind(payment.customer_id.as_ref().map(CustomerId::as_str))
        .push_bind(payment.setup_future_usage.map(FutureUsage::as_str));
    statement.push(") on conflict (session_id) do update set status = 'processing'");
}

/// Writes back what can change of a payment. The caller holds its session's lock.
///
/// # Errors
/// When the database does not answer.
pub async fn save_payment(connection: &mut Connection, payment: &Payment) -> Result<()> {
    let mut statement = Statement::default();
    push_save_payment(&mut statement, payment);
    statement.build().execute(connection).await?;
    Ok(())
}

/// The statement of [`save_payment`].
pub(super) fn push_save_payment(statement: &mut Statement, payment: &Payment) {
    let capturable = if payment.status == PaymentStatus::RequiresCapture { payment.total.minor } else { 0 };
    let cancellation = payment.cancellation.as_ref();
    statement
        .push("update payment set status = ")
        .push_bind(payment.status.as_str())
        .push(", amount_received = ")
        .push_bind(payment.amount_received)
        .push(", amount_capturable = ")
        .push_bind(capturable)
        // A reason that was noted before the money was let go stays when something else is saved.
        .push(", cancellation_reason = coalesce(")
        .push_bind(cancellation.and_then(|cancellation| cancellation.reason.as_deref()))
        .push(", cancellation_reason), canceled_at = ")
        .push_bind(cancellation.map(|cancellation| cancellation.at))
        .push(", metadata = ")
        .push_bind(metadata_to_json(&payment.metadata))
        .push(", description = ")
        .push_bind(&payment.description)
        .push(", receipt_email = ")
        .push_bind(&payment.receipt_email)
        .push(", customer_id = ")
        .push_bind(payment.customer_id.as_ref().map(CustomerId::as_str))
        .push(" where id = ")
        .push_bind(payment.id.as_str());
}

/// Writes a charge that is about to be tried.
///
/// # Errors
/// When the database does not answer.
pub async fn insert_charge(
    connection: &mut Connection,
    charge: &Charge,
    look_up_at: DateTime<Utc>,
    return_state_hash: &[u8; 32],
    keys: &Keys,
) -> Result<()> {
    let mut statement = Statement::default();
    push_insert_charge(&mut statement, charge, look_up_at, return_state_hash, keys);
    statement.build().execute(connection).await?;
    Ok(())
}

/// The statement of [`insert_charge`].
pub(super) fn push_insert_charge(
    statement: &mut Statement,
    charge: &Charge,
    look_up_at: DateTime<Utc>,
    return_state_hash: &[u8; 32],
    keys: &Keys,
) {
    statement.push(
        "insert into charge (id, merchant_id, livemode, payment_id, session_id, attempt_key, provider, amount,
             currency, state, payment_method, card_brand, card_last4, card_exp_month, card_exp_year, card_funding,
             card_country, card_fingerprint, created_at, look_up_at, return_state_hash, customer_id, keeps_card, card_key,
             email_key, network_key, merchant_key, attempt_turn, billing_details)
         values (",
    );
    let mut values = statement.separated(", ");
    values
        .push_bind(charge.id.as_str())
        .push_bind(charge.merchant_id.as_str())
        .push_bind(charge.livemode)
        .push_bind(charge.payment_id.as_str())
        .push_bind(charge.session_id.as_str())
        .push_bind(&charge.attempt_key)
        .push_bind(&charge.provider)
        .push_bind(charge.total.minor)
        .push_bind(charge.total.currency.code())
        .push("'pending'")
        .push_bind(charge.payment_method.as_str())
        .push_bind(charge.card.brand.code())
        .push_bind(&charge.card.last4)
        .push_bind(i16::from(charge.card.exp_month))
        .push_bind(i16::try_from(charge.card.exp_year).unwrap_or(i16::MAX))
        .push_bind(charge.card.funding.map(CardFunding::code))
        .push_bind(&charge.card.country)
        .push_bind(&charge.card.fingerprint)
        .push_bind(charge.created_at)
        .push_bind(look_up_at)
        .push_bind(return_state_hash.as_slice())
        .push_bind(charge.customer_id.as_ref().map(CustomerId::as_str))
        .push_bind(charge.keeps_card)
        .push_bind(keys.card.as_ref().map(|key| key.as_slice()))
        .push_bind(keys.email.as_ref().map(|key| key.as_slice()))
        .push_bind(keys.network.as_ref().map(|key| key.as_slice()))
        .push_bind(keys.merchant.as_ref().map(|key| key.as_slice()))
        .push_bind(charge.attempt_turn)
        .push_bind(billing_to_json(&charge.billing));
    statement.push(")");
}

/// Writes back what can change of a charge. `look_up_at` is when the sweep looks at it next, and is
/// needed as long as it can change by itself. The caller holds the locks.
///
/// # Errors
/// When the database does not answer, or a second charge of the session would be alive.
pub async fn save_charge(
    connection: &mut Connection,
    charge: &Charge,
    look_up_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut statement = Statement::default();
    push_save_charge(&mut statement, charge, look_up_at, now);
    statement.build().execute(connection).await?;
    Ok(())
}

/// Writes back what disputes do to a charge, and nothing else of it. The caller holds the locks.
///
/// # Errors
/// When the database does not answer.
pub async fn save_disputed(connection: &mut Connection, charge: &Charge) -> Result<()> {
    sqlx::query("update charge set disputed = $2, amount_withdrawn = $3, overdrawn = $4 where id = $1")
        .bind(charge.id.as_str())
        .bind(charge.disputed)
        .bind(charge.amount_withdrawn)
        .bind(charge.overdrawn)
        .execute(connection)
        .await?;
    Ok(())
}

/// The statement of [`save_charge`].
pub(super) fn push_save_charge(
    statement: &mut Statement,
    charge: &Charge,
    look_up_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) {
    let failure = match &charge.state {
        ChargeState::Failed(failure) => Some(failure),
        _ => None,
    };
    let action_url = match &charge.state {
        ChargeState::RequiresAction { url } => Some(url.as_str()),
        _ => None,
    };
    let (under_way, capture_amount) = match charge.under_way {
        Some(UnderWay::Capture { amount }) => (Some("capture"), Some(amount)),
        Some(UnderWay::Void) => (Some("void"), None),
        None => (None, None),
    };
    statement
        .push("update charge set state = ")
        .push_bind(charge.state.as_str())
        .push(", card_country = ")
        .push_bind(&charge.card.country)
        .push(", provider_reference = ")
        .push_bind(&charge.provider_reference)
        .push(", failure_code = ")
        .push_bind(failure.map(|failure| failure.code.as_str()))
        .push(", decline_code = ")
        .push_bind(failure.and_then(|failure| failure.decline_code.as_deref()))
        .push(", failure_message = ")
        .push_bind(failure.map(|failure| failure.message.as_str()))
        .push(", payer_message = ")
        .push_bind(failure.map(|failure| failure.payer_message.as_str()))
        .push(", settled_at = case when ")
        .push_bind(charge.state.is_open())
        .push(" then null else coalesce(settled_at, ")
        .push_bind(now)
        .push(") end, look_up_at = ")
        .push_bind(look_up_at)
        .push(", amount_captured = ")
        .push_bind(charge.amount_captured)
        .push(", amount_refunded = ")
        .push_bind(charge.amount_refunded)
        .push(", disputed = ")
        .push_bind(charge.disputed)
        .push(", amount_withdrawn = ")
        .push_bind(charge.amount_withdrawn)
        .push(", overdrawn = ")
        .push_bind(charge.overdrawn)
        .push(", fee = ")
        .push_bind(charge.fee)
        .push(", under_way = ")
        .push_bind(under_way)
        .push(", capture_amount = ")
        .push_bind(capture_amount)
        .push(", action_url = ")
        .push_bind(action_url)
        .push(", checks = ")
        .push_bind(facts_to_json(&charge.facts))
        .push(", customer_id = ")
        .push_bind(charge.customer_id.as_ref().map(CustomerId::as_str))
        .push(", payment_method = ")
        .push_bind(charge.payment_method.as_str())
        .push(", outcome = ")
        .push_bind(assessment_to_json(charge.assessment.as_ref()))
        .push(" where id = ")
        .push_bind(charge.id.as_str());
}
