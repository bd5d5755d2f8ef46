//! Giving money back.
//!
//! The rule: a refund is written down under its charge's lock before the provider is asked, and what
//! is pending counts as gone, so that no race gives back more than was taken. The refund's id is the
//! provider's idempotency key: a refund without an answer is repeated until it has one.

use chrono::{DateTime, Utc};

use super::payment_reads::find as find_payment;
use super::payments::{booking, lock, provider_of};
use super::references::charge_ref;
use super::replay::{Answer, Write};
use super::{Announcements, Caller, escrow_acts};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::id::{ChargeId, RefundId};
use crate::domain::ledger::Movement;
use crate::domain::money::Money;
use crate::domain::payment::{Charge, LOOK_UP_AFTER, Refund, RefundState};
use crate::domain::refusal::Refusal;
use crate::domain::session::{Metadata, Session};
use crate::error::{Error, Result};
use crate::providers::{CHARGE_TIMEOUT, RefundRequest, Reversal};
use crate::store::ListFilter;
use crate::store::{self, Connection, Page};
use crate::wire::event::EventRequest;
use crate::wire::{self, List};

/// What is to be given back.
#[derive(Debug)]
pub struct NewRefund {
    /// The charge, or the payment whose successful charge it is.
    pub of: RefundOf,
    /// Minor units; everything that is left unless given.
    pub amount: Option<i64>,
    /// One of Stripe's reasons.
    pub reason: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
}

/// What a refund is of.
#[derive(Debug)]
pub enum RefundOf {
    /// A charge.
    Charge(String),
    /// A payment.
    Payment(String),
}

impl RefundOf {
    /// From the two parameters that name it.
    ///
    /// # Errors
    /// `Invalid` unless exactly one of them is given.
    pub fn one_of(payment: Option<String>, charge: Option<String>) -> Result<Self> {
        match (payment, charge) {
            (Some(payment), None) => Ok(Self::Payment(payment)),
            (None, Some(charge)) => Ok(Self::Charge(charge)),
            (Some(_), Some(_)) => {
                let message = "You may pass only one of `payment_intent` and `charge`.";
                Err(Error::invalid("parameters_exclusive", "charge", message))
            }
            (None, None) => {
                let message = "Missing required param: payment_intent (or charge).";
                Err(Error::invalid("parameter_missing", "payment_intent", message))
            }
        }
    }
}

pub(super) async fn charge_of(app: &App, caller: &Caller, of: &RefundOf) -> Result<Charge> {
    let pool = app.store.pool();
    match of {
        RefundOf::Charge(id) => {
            let absent = || Error::not_found("charge", id);
            let parsed = ChargeId::parse(id).ok_or_else(absent)?;
            store::payments::find_merchants_charge(pool, &caller.merchant_id, caller.livemode, &parsed)
                .await?
                .ok_or_else(absent)
        }
        RefundOf::Payment(id) => {
            let payment = find_payment(app, caller, id).await?;
            store::payments::latest_charge(pool, &payment.session_id)
                .await?
                .ok_or_else(|| Refusal::ChargeNotRefundable.into())
        }
    }
}

/// Gives money back.
///
/// # Errors
/// `Invalid` for what is to be refunded, `Refused` for more than is left, and those of the idempotency key. A
/// provider that does not answer is not an error: the refund stays pending and goes on by itself.
pub async fn create(app: &App, write: &Write, new: NewRefund) -> Result<Answer> {
    let param = match &new.of {
        RefundOf::Charge(_) => "charge",
        RefundOf::Payment(_) => "payment_intent",
    };
    let known = charge_of(app, &write.caller, &new.of).await.map_err(|error| error.named_in(param))?;
    let mut made = None;
    let answer = write
        .once(app, async |connection, now| {
            let mut session = lock(connection, &known.session_id).await?;
            if session.escrow.is_some() {
                return Err(Refusal::EscrowHoldsPayment.into());
            }
            let absent = || Error::not_found("charge", known.id.as_str());
            let charge = store::payments::lock_charge(connection, &known.id).await?.ok_or_else(absent)?;
            let pending = store::refunds::pending_minor(connection, &charge.id).await?;
            let amount = charge.refund(new.amount, pending)?;
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            let refund = pending_refund(&charge, amount, new.reason, new.metadata, now);
            write_row(connection, &mut session, &refund, &mut announcements, now).await?;
            store::sessions::save(connection, &[&session]).await?;
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            let answer = Answer::new(&wire::refund::Refund::new(&refund));
            made = Some(refund);
            crash_point!("refund.written");
            Ok((answer, outgoing))
        })
        .await?;
    // A refund that lost the race for its key was rolled back and must not reach the provider.
    let Some(refund) = made.filter(|_| !answer.replayed) else { return Ok(answer) };
    crash_point!("refund.committed");
    repeat(app, &refund).await?;
    let now = retrieve_row(app, &write.caller, refund.id.as_str()).await?;
    let answer = Answer::new(&wire::refund::Refund::new(&now));
    write.keep_instead(app, &answer).await?;
    Ok(answer)
}

fn pending_refund(
    charge: &Charge,
    amount: i64,
    reason: Option<String>,
    metadata: Metadata,
    now: DateTime<Utc>,
) -> Refund {
    Refund {
        id: RefundId::generate(now),
        merchant_id: charge.merchant_id.clone(),
        livemode: charge.livemode,
        charge_id: charge.id.clone(),
        payment_id: charge.payment_id.clone(),
        total: Money { minor: amount, currency: charge.total.currency },
        reason,
        metadata,
        state: RefundState::Pending,
        provider_reference: None,
        created_at: now,
        look_ups: 0,
    }
}

async fn write_row(
    connection: &mut Connection,
    session: &mut Session,
    refund: &Refund,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    store::refunds::insert(connection, refund, now + LOOK_UP_AFTER).await?;
    announcements.object(session, "refund.created", refund.id.as_str(), &wire::refund::Refund::new(refund));
    Ok(())
}

/// Writes down a refund that an escrow decided on. Session and charge are locked; the caller saves the session, and
/// asks the provider after the commit.
///
/// # Errors
/// `Refused` for more than is left, and the database's.
pub(super) async fn write_down(
    connection: &mut Connection,
    session: &mut Session,
    charge: &Charge,
    amount: i64,
    metadata: Metadata,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<Refund> {
    let under_way = store::refunds::pending_minor(connection, &charge.id).await?;
    let amount = charge.refund(Some(amount), under_way)?;
    let refund = pending_refund(charge, amount, Some("requested_by_customer".to_owned()), metadata, now);
    write_row(connection, session, &refund, announcements, now).await?;
    Ok(refund)
}

/// Asks the provider to give the money back, as often as it takes, and books what it says.
///
/// # Errors
/// The database's.
pub(super) async fn repeat(app: &App, refund: &Refund) -> Result<()> {
    let charge = store::payments::find_charge(app.store.pool(), &refund.charge_id)
        .await?
        .ok_or_else(|| Error::not_found("charge", refund.charge_id.as_str()))?;
    let provider = provider_of(app, &charge)?;
    let request = RefundRequest { refund_id: refund.id.to_string(), charge: charge_ref(&charge), money: refund.total };
    let answer = match tokio::time::timeout(CHARGE_TIMEOUT, provider.refund(request)).await {
        Ok(answer) => answer,
        Err(_) => Reversal::Unknown { detail: "no answer within the time for a refund".to_owned() },
    };
    crash_point!("refund.answered");
    let (state, reference) = match answer {
        Reversal::Done { reference } => (RefundState::Succeeded, Some(reference)),
        Reversal::NothingToReverse => (RefundState::Failed { reason: "unknown".to_owned() }, None),
        Reversal::Unknown { detail } => {
            tracing::warn!(refund = %refund.id, charge = %charge.id, provider = charge.provider, detail,
                "the outcome of a refund is unknown; it will be repeated");
            return Ok(());
        }
    };
    settle(app, refund, state, reference).await
}

async fn settle(app: &App, known: &Refund, state: RefundState, reference: Option<String>) -> Result<()> {
    let now = app.clock.now();
    let absent = || Error::not_found("refund", known.id.as_str());
    let session_id =
        store::payments::find_charge(app.store.pool(), &known.charge_id).await?.ok_or_else(absent)?.session_id;
    let mut transaction = app.store.begin().await?;
    let mut session = lock(&mut transaction, &session_id).await?;
    let escrow = escrow_acts::lock_of(&mut transaction, &session).await?;
    let mut charge = store::payments::lock_charge(&mut transaction, &known.charge_id).await?.ok_or_else(absent)?;
    let mut refund = store::refunds::lock(&mut transaction, &known.id).await?.ok_or_else(absent)?;
    if refund.state != RefundState::Pending {
        return Ok(());
    }
    refund.state = state;
    refund.provider_reference = reference;
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let object = wire::refund::Refund::new(&refund);
    if refund.state == RefundState::Succeeded {
        charge.amount_refunded = charge
            .amount_refunded
            .checked_add(refund.total.minor)
            .filter(|refunded| *refunded <= charge.amount_captured)
            .ok_or_else(|| Error::Internal(format!("refund {} exceeds what charge {} took", refund.id, charge.id)))?;
        if charge.note_overdrawn() {
            tracing::error!(refund = %refund.id, charge = %charge.id, provider = charge.provider,
                "the provider gave money back that a dispute had taken already; a person must look");
        }
        let mut entry = booking(&charge, now);
        entry.object_id = refund.id.as_str();
        let amount = refund.total.minor;
        let movement = if escrow.is_some() { Movement::Returned { amount } } else { Movement::Refunded { amount } };
        store::ledger::book(&mut transaction, &entry, movement).await?;
        announcements.object(&mut session, "refund.updated", refund.id.as_str(), &object);
        announcements.charge(&mut session, "charge.refunded", &charge);
        store::payments::save_charge(&mut transaction, &charge, None, now).await?;
    } else {
        announcements.object(&mut session, "refund.failed", refund.id.as_str(), &object);
        if let Some(escrow) = &escrow {
            tracing::error!(escrow = %escrow.id, refund = %refund.id, charge = %charge.id,
                "the provider refuses to give an escrow's money back; it stays held until the merchant decides again with resolve");
        }
    }
    if let Some(escrow) = escrow {
        escrow_acts::refund_settled(&mut transaction, escrow, &refund, &mut announcements, now).await?;
    }
    store::refunds::save(&mut transaction, &refund, now).await?;
    store::sessions::save(&mut transaction, &[&session]).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    crash_point!("refund.recorded");
    app.store.commit(transaction).await?;
    crash_point!("refund.settled");
    app.hand_over(outgoing);
    Ok(())
}

async fn retrieve_row(app: &App, caller: &Caller, id: &str) -> Result<Refund> {
    let absent = || Error::not_found("refund", id);
    let parsed = RefundId::parse(id).ok_or_else(absent)?;
    store::refunds::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed).await?.ok_or_else(absent)
}

/// A merchant's refund as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<wire::refund::Refund> {
    Ok(wire::refund::Refund::new(&retrieve_row(app, caller, id).await?))
}

/// A page of a merchant's refunds.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, filter: &ListFilter, page: &Page) -> Result<List<wire::refund::Refund>> {
    let pool = app.store.pool();
    let mut rows = store::refunds::list(pool, &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/refunds", rows.iter().map(wire::refund::Refund::new).collect(), has_more))
}

/// Changes a refund's metadata.
///
/// # Errors
/// `NotFound`, those of `change`, and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    change: impl FnOnce(&mut Metadata) -> Result<()>,
) -> Result<Answer> {
    let known = retrieve_row(app, &write.caller, id).await?;
    write
        .once(app, async |connection, now| {
            let absent = || Error::not_found("refund", known.id.as_str());
            let charge = store::payments::lock_charge(connection, &known.charge_id).await?.ok_or_else(absent)?;
            let mut refund = store::refunds::lock(connection, &known.id).await?.ok_or_else(absent)?;
            debug_assert_eq!(charge.id, refund.charge_id);
            change(&mut refund.metadata)?;
            store::refunds::save(connection, &refund, now).await?;
            Ok((Answer::new(&wire::refund::Refund::new(&refund)), Vec::new()))
        })
        .await
}
