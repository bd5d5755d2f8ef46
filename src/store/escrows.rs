//! Escrows as rows.
//!
//! The rule: an escrow is changed only under its row lock, which is taken after the locks of sessions
//! and before those of payments. What its rows may say together is decided in `domain::escrow`; a row
//! that no state can express is an internal error.

use chrono::{DateTime, Duration, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder, Row as _};

use super::codec::{metadata_from_row, metadata_to_json};
use super::{Connection, CreatedFilter, Page, inconsistent};
use crate::domain::escrow::{
    Actor, AtBank, Contract, Escrow, EscrowPayment, Mode, State, Status, Suspended, Times, Words,
};
use crate::domain::escrow_money::{Settlement, resolution_word};
use crate::domain::id::{ChargeId, EscrowId, MerchantId, PaymentId, SessionId};
use crate::domain::money::{Currency, Money};
use crate::error::Result;

/// Escrows, each with what the buyer's bank says of its payment.
macro_rules! select {
    () => {
        "select e.*, b.* from escrow e cross join lateral (
             select coalesce(bool_or(d.closed_at is null), false) as bank_is_open,
                 coalesce(bool_or(d.status = 'lost'), false) as bank_is_lost,
                 coalesce(sum(d.amount_withdrawn - d.amount_reinstated) filter (where d.closed_at is null), 0)::int8
                     as bank_taken,
                 coalesce(sum(d.amount_withdrawn - d.amount_reinstated) filter (where d.status = 'lost'), 0)::int8
                     as bank_lost
             from dispute d where d.charge_id = e.charge_id) b"
    };
}

fn hash(id: &str, row: &PgRow, column: &str) -> Result<Option<[u8; 32]>> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    bytes
        .map(|bytes| <[u8; 32]>::try_from(bytes).map_err(|_| inconsistent("escrow", id, "a hash has not 32 bytes")))
        .transpose()
}

fn to_state(id: &str, row: &PgRow) -> Result<State> {
    let broken = |what: &str| inconsistent("escrow", id, what);
    let word: String = row.try_get("status")?;
    let status = Status::parse(&word).ok_or_else(|| broken("unknown status"))?;
    let previous: Option<String> = row.try_get("previous_status")?;
    let previous =
        previous.map(|word| Status::parse(&word).ok_or_else(|| broken("unknown status before"))).transpose()?;
    let deadline: Option<DateTime<Utc>> = row.try_get("completion_deadline")?;
    let paying = row.try_get::<Option<String>, _>("paying_session_id")?.map(SessionId::from_stored);
    let parts: (Option<i64>, Option<i64>, Option<i64>) =
        (row.try_get("settled_buyer")?, row.try_get("settled_seller")?, row.try_get("settled_merchant")?);
    let settlement = match parts {
        (Some(buyer), Some(seller), Some(merchant)) => {
            Some(Settlement { buyer, seller, merchant, lost: row.try_get("settled_lost")? })
        }
        (None, None, None) => None,
        _ => return Err(broken("half a settlement")),
    };
    let from = match row.try_get::<Option<i64>, _>("inspection_left_us")? {
        Some(left) => Suspended::Delivered { left: Duration::microseconds(left) },
        None => Suspended::Paid,
    };
    Ok(match (status, previous, deadline, settlement) {
        (Status::Pending, None, None, None) => State::Pending { paying },
        (Status::Paid, None, None, None) => State::Paid,
        (Status::Delivered, None, Some(deadline), None) => State::Delivered { deadline },
        (Status::Disputed, Some(previous), None, None) => {
            State::Disputed { from, during_cancellation: previous == Status::CancellationRequested }
        }
        (Status::CancellationRequested, Some(_), None, None) => State::CancellationRequested { from },
        (Status::Refunding, None, None, Some(settlement)) => State::Refunding { settlement },
        (Status::RefundFailed, None, None, Some(settlement)) => State::RefundFailed { settlement },
        (Status::ReleaseHeld, None, None, Some(settlement)) => State::ReleaseHeld { settlement },
        (Status::Completed, None, None, Some(settlement)) => State::Completed { settlement },
        (Status::Cancelled, None, None, settlement) => State::Cancelled { settlement },
        _ => return Err(broken("status and what belongs to it disagree")),
    })
}

fn to_words(id: &str, row: &PgRow) -> Result<Words> {
    let broken = |what: &str| inconsistent("escrow", id, what);
    let disputed_by: Option<String> = row.try_get("disputed_by")?;
    let resolution: Option<String> = row.try_get("resolution")?;
    Ok(Words {
        tracking_reference: row.try_get("tracking_reference")?,
        delivery_note: row.try_get("delivery_note")?,
        delivery_rejection_reason: row.try_get("delivery_rejection_reason")?,
        disputed_by: disputed_by
            .map(|word| Actor::parse_party(&word).ok_or_else(|| broken("unknown side")))
            .transpose()?,
        dispute_reason: row.try_get("dispute_reason")?,
        dispute_text: row.try_get("dispute_text")?,
        resolution: resolution
            .map(|word| resolution_word(&word).ok_or_else(|| broken("unknown resolution")))
            .transpose()?,
        cancellation_reason: row.try_get("cancellation_reason")?,
        cancellation_rejection_reason: row.try_get("cancellation_rejection_reason")?,
    })
}

fn to_escrow(row: &PgRow) -> Result<Escrow> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("escrow", &id, what);
    let currency: String = row.try_get("currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| broken("unknown currency"))?;
    let mode: String = row.try_get("mode")?;
    let days = |column: &str| -> Result<Option<u16>> {
        let days: Option<i16> = row.try_get(column)?;
        days.map(|days| u16::try_from(days).map_err(|_| broken("a number of days is negative"))).transpose()
    };
    let contract = match (
        row.try_get::<Option<String>, _>("contract_terms")?,
        row.try_get::<Option<String>, _>("contract_text")?,
        hash(&id, row, "contract_sha256")?,
    ) {
        (Some(terms), Some(text), Some(sha256)) => Some(Contract { terms, text, sha256 }),
        (None, None, None) => None,
        _ => return Err(broken("half a contract")),
    };
    let payment = match (
        row.try_get::<Option<String>, _>("payment_session_id")?,
        row.try_get::<Option<String>, _>("payment_id")?,
        row.try_get::<Option<String>, _>("charge_id")?,
    ) {
        (Some(session), Some(payment), Some(charge)) => Some(EscrowPayment {
            session_id: SessionId::from_stored(session),
            payment_id: PaymentId::from_stored(payment),
            charge_id: ChargeId::from_stored(charge),
        }),
        (None, None, None) => None,
        _ => return Err(broken("half a payment")),
    };
    Ok(Escrow {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        mode: Mode::parse(&mode).ok_or_else(|| broken("unknown mode"))?,
        title: row.try_get("title")?,
        total: Money { minor: row.try_get("amount")?, currency },
        fee_minor: row.try_get("application_fee_amount")?,
        buyer_email: row.try_get("buyer_email")?,
        seller_email: row.try_get("seller_email")?,
        estimated_delivery_days: days("estimated_delivery_days")?,
        inspection_days: days("inspection_days")?.ok_or_else(|| broken("no time for inspection"))?,
        contract,
        metadata: metadata_from_row("escrow", &id, row)?,
        state: to_state(&id, row)?,
        times: Times {
            buyer_signed: row.try_get("buyer_signed_at")?,
            seller_signed: row.try_get("seller_signed_at")?,
            paid: row.try_get("paid_at")?,
            delivered: row.try_get("delivered_at")?,
            delivery_rejected: row.try_get("delivery_rejected_at")?,
            disputed: row.try_get("disputed_at")?,
            resolved: row.try_get("resolved_at")?,
            cancellation_requested: row.try_get("cancellation_requested_at")?,
            cancellation_rejected: row.try_get("cancellation_rejected_at")?,
            completed: row.try_get("completed_at")?,
            cancelled: row.try_get("cancelled_at")?,
            refund_failed: row.try_get("refund_failed_at")?,
            refunded: row.try_get("refunded_at")?,
            released: row.try_get("released_at")?,
        },
        words: to_words(&id, row)?,
        payment,
        returned_minor: row.try_get("amount_returned")?,
        at_bank: AtBank {
            is_open: row.try_get("bank_is_open")?,
            is_lost: row.try_get("bank_is_lost")?,
            taken_minor: row.try_get("bank_taken")?,
            lost_minor: row.try_get("bank_lost")?,
        },
        event_count: row.try_get("event_count")?,
        history_count: row.try_get("history_count")?,
        history_head: hash(&id, row, "history_head")?.ok_or_else(|| broken("no head of the history"))?,
        created_at: row.try_get("created_at")?,
        id: EscrowId::from_stored(id),
    })
}

/// Writes a new escrow; what changes later is written by [`save`].
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, escrow: &Escrow) -> Result<()> {
    let contract = escrow.contract.as_ref();
    sqlx::query(
        "insert into escrow (id, merchant_id, livemode, mode, title, amount, currency, application_fee_amount,
             buyer_email, seller_email, estimated_delivery_days, inspection_days, contract_terms, contract_text,
             contract_sha256, metadata, status, event_count, history_count, history_head, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 'pending', 0, 0, $17, $18)",
    )
    .bind(escrow.id.as_str())
    .bind(escrow.merchant_id.as_str())
    .bind(escrow.livemode)
    .bind(escrow.mode.as_str())
    .bind(&escrow.title)
    .bind(escrow.total.minor)
    .bind(escrow.total.currency.code())
    .bind(escrow.fee_minor)
    .bind(&escrow.buyer_email)
    .bind(&escrow.seller_email)
    .bind(escrow.estimated_delivery_days.map(u16::cast_signed))
    .bind(escrow.inspection_days.cast_signed())
    .bind(contract.map(|contract| contract.terms.as_str()))
    .bind(contract.map(|contract| contract.text.as_str()))
    .bind(contract.map(|contract| contract.sha256.as_slice()))
    .bind(metadata_to_json(&escrow.metadata))
    .bind([0_u8; 32].as_slice())
    .bind(escrow.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes back what can change of an escrow. The caller holds the row's lock.
///
/// # Errors
/// When the database does not answer, or the row would say what no state does.
pub async fn save(connection: &mut Connection, escrow: &Escrow) -> Result<()> {
    let (state, times, words) = (&escrow.state, &escrow.times, &escrow.words);
    let left = state.inspection_left().and_then(|left| left.num_microseconds());
    let paying = match state {
        State::Pending { paying } => paying.as_ref(),
        _ => None,
    };
    let settlement = state.settlement();
    let payment = escrow.payment.as_ref();
    sqlx::query(
        "update escrow set metadata = $2, status = $3, previous_status = $4, inspection_left_us = $5,
             completion_deadline = $6, paying_session_id = $7, payment_session_id = $8, payment_id = $9, charge_id = $10,
             settled_buyer = $11, settled_seller = $12, settled_merchant = $13, resolution = $14,
             tracking_reference = $15, delivery_note = $16, delivery_rejection_reason = $17, disputed_by = $18,
             dispute_reason = $19, dispute_text = $20, cancellation_reason = $21, cancellation_rejection_reason = $22,
             buyer_signed_at = $23, seller_signed_at = $24, paid_at = $25, delivered_at = $26,
             delivery_rejected_at = $27, disputed_at = $28, resolved_at = $29, cancellation_requested_at = $30,
             cancellation_rejected_at = $31, completed_at = $32, cancelled_at = $33, refunded_at = $34,
             released_at = $35, event_count = $36, history_count = $37, history_head = $38,
             refund_failed_at = $39, settled_lost = $40, amount_returned = $41
         where id = $1",
    )
    .bind(escrow.id.as_str())
    .bind(metadata_to_json(&escrow.metadata))
    .bind(state.status().as_str())
    .bind(state.previous().map(Status::as_str))
    .bind(left)
    .bind(escrow.completion_deadline())
    .bind(paying.map(SessionId::as_str))
    .bind(payment.map(|payment| payment.session_id.as_str()))
    .bind(payment.map(|payment| payment.payment_id.as_str()))
    .bind(payment.map(|payment| payment.charge_id.as_str()))
    .bind(settlement.map(|parts| parts.buyer))
    .bind(settlement.map(|parts| parts.seller))
    .bind(settlement.map(|parts| parts.merchant))
    .bind(words.resolution)
    .bind(&words.tracking_reference)
    .bind(&words.delivery_note)
    .bind(&words.delivery_rejection_reason)
    .bind(words.disputed_by.map(Actor::as_str))
    .bind(&words.dispute_reason)
    .bind(&words.dispute_text)
    .bind(&words.cancellation_reason)
    .bind(&words.cancellation_rejection_reason)
    .bind(times.buyer_signed)
    .bind(times.seller_signed)
    .bind(times.paid)
    .bind(times.delivered)
    .bind(times.delivery_rejected)
    .bind(times.disputed)
    .bind(times.resolved)
    .bind(times.cancellation_requested)
    .bind(times.cancellation_rejected)
    .bind(times.completed)
    .bind(times.cancelled)
    .bind(times.refunded)
    .bind(times.released)
    .bind(escrow.event_count)
    .bind(escrow.history_count)
    .bind(escrow.history_head.as_slice())
    .bind(times.refund_failed)
    .bind(settlement.map_or(0, |parts| parts.lost))
    .bind(escrow.returned_minor)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks an escrow for the rest of the transaction. Sessions are locked before it, payments after it.
///
/// # Errors
/// When the database does not answer, the lock is not to be had, or the row is inconsistent.
pub async fn lock(connection: &mut Connection, id: &EscrowId) -> Result<Option<Escrow>> {
    // Two statements: whoever changes a dispute holds this lock too, and a statement sees what was written before it began.
    sqlx::query("select from escrow where id = $1 for update").bind(id.as_str()).execute(&mut *connection).await?;
    find(connection, id).await
}

/// The session whose payment filled an escrow: once there is one it never changes.
///
/// # Errors
/// When the database does not answer.
pub async fn payment_session(connection: &mut Connection, id: &EscrowId) -> Result<Option<SessionId>> {
    let session: Option<Option<String>> = sqlx::query_scalar("select payment_session_id from escrow where id = $1")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(session.flatten().map(SessionId::from_stored))
}

/// An escrow, whoever's.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(database: impl PgExecutor<'_>, id: &EscrowId) -> Result<Option<Escrow>> {
    let row = sqlx::query(concat!(select!(), " where e.id = $1")).bind(id.as_str()).fetch_optional(database).await?;
    row.as_ref().map(to_escrow).transpose()
}

/// A merchant's escrow.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find_merchants(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    id: &EscrowId,
) -> Result<Option<Escrow>> {
    let row = sqlx::query(concat!(select!(), " where e.id = $1 and e.merchant_id = $2 and e.livemode = $3"))
        .bind(id.as_str())
        .bind(merchant.as_str())
        .bind(livemode)
        .fetch_optional(database)
        .await?;
    row.as_ref().map(to_escrow).transpose()
}

/// What a list of escrows may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Where they stand.
    pub status: Option<Status>,
    /// The buyer's or the seller's address.
    pub email: Option<String>,
    /// Bounds on the creation time.
    pub created: CreatedFilter,
}

/// A page of a merchant's escrows, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Escrow>> {
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(concat!(select!(), " where e.merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and e.livemode = ").push_bind(livemode);
    if let Some(status) = filter.status {
        query.push(" and e.status = ").push_bind(status.as_str());
    }
    if let Some(email) = &filter.email {
        query.push(" and (lower(buyer_email) = lower(").push_bind(email);
        query.push(") or lower(seller_email) = lower(").push_bind(email).push("))");
    }
    filter.created.push_to(&mut query);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut escrows = rows.iter().map(to_escrow).collect::<Result<Vec<_>>>()?;
    page.order(&mut escrows);
    Ok(escrows)
}

/// Locks escrows whose time for inspection is over, and those whose release waited for a bank that has decided against the
/// buyer, skipping those that somebody else holds.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn lock_due(connection: &mut Connection, now: DateTime<Utc>, limit: i64) -> Result<Vec<Escrow>> {
    let ids: Vec<String> = sqlx::query_scalar(
        // Neither while the buyer disputes the charge at his bank, nor after the bank has decided for him.
        "select id from escrow e where (completion_deadline <= $1 or status = 'release_held')
             and not exists (select from dispute d where d.charge_id = e.charge_id
                 and (d.closed_at is null or d.status = 'lost'))
         order by completion_deadline limit $2
         for update skip locked",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let rows = sqlx::query(concat!(select!(), " where e.id = any($1) order by e.completion_deadline, e.id"));
    rows.bind(ids).fetch_all(connection).await?.iter().map(to_escrow).collect()
}
