//! Taking reserved money later, or letting it go.
//!
//! The rule: what was asked for is written down before the provider is asked and repeated by the
//! sweep until it has answered, so a capture that was answered by silence still becomes known. One
//! thing at a time may be under way with one charge.

use chrono::{DateTime, Utc};

use super::payment_reads::{find, find_with_charge};
use super::payments::{booking, lock, provider_of, void};
use super::references::charge_ref;
use super::replay::{Answer, Write};
use super::{Announcements, reviews};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::ledger::Movement;
use crate::domain::money::Money;
use crate::domain::payment::{Cancellation, Charge, ChargeState, LOOK_UP_AFTER, Payment, PaymentStatus, UnderWay};
use crate::domain::refusal::Refusal;
use crate::domain::review::ClosedReason;
use crate::domain::session::{Session, SessionEvent};
use crate::error::{Error, Result};
use crate::providers::{CHARGE_TIMEOUT, CaptureReport, Reversal};
use crate::store::together::{ChangedCharge, Changes};
use crate::store::{self, Connection};
use crate::wire::Expand;
use crate::wire::event::EventRequest;
use crate::wire::payment_intent::PaymentIntent;

/// A payment with its session and newest charge, locked in that order.
pub(super) struct Locked {
    pub(super) session: Session,
    pub(super) payment: Payment,
    pub(super) charge: Option<Charge>,
}

pub(super) async fn lock_all(connection: &mut Connection, known: &Payment) -> Result<Locked> {
    let absent = || Error::not_found("payment_intent", known.id.as_str());
    let session = lock(connection, &known.session_id).await?;
    let payment = store::payments::lock_payment(connection, &known.id).await?.ok_or_else(absent)?;
    let charge = store::payments::latest_charge(&mut *connection, &known.session_id).await?;
    Ok(Locked { session, payment, charge })
}

fn render(payment: &Payment, charge: Option<&Charge>, expand: &Expand) -> Answer {
    Answer::new(&PaymentIntent::new(payment, charge, expand.wants("latest_charge")))
}

/// Changes a payment's own notes.
///
/// # Errors
/// `NotFound`, those of `change`, and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    expand: &Expand,
    change: impl FnOnce(&mut Payment) -> Result<()>,
) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    write
        .once(app, async |connection, _| {
            let Locked { mut payment, charge, .. } = lock_all(connection, &known).await?;
            change(&mut payment)?;
            store::payments::save_payment(connection, &payment).await?;
            Ok((render(&payment, charge.as_ref(), expand), Vec::new()))
        })
        .await
}

/// Takes reserved money: all of it, or `amount`, and lets the rest go.
///
/// # Errors
/// `NotFound`, `Refused`, `Unavailable` when the provider's answer is not known yet (the capture goes on by
/// itself), and those of the idempotency key.
pub async fn capture(app: &App, write: &Write, id: &str, amount: Option<i64>, expand: &Expand) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    let mut under_way = None;
    let answer = write
        .once(app, async |connection, now| {
            let Locked { mut session, payment, charge } = lock_all(connection, &known).await?;
            let charge = charge.ok_or(Refusal::PaymentUnexpectedState(payment.status))?;
            let amount = charge.capture(payment.status, amount)?;
            let charge = Charge { under_way: Some(UnderWay::Capture { amount }), ..charge };
            store::payments::save_charge(connection, &charge, Some(now + LOOK_UP_AFTER), now).await?;
            let approved = ClosedReason::Approved;
            let outgoing =
                reviews::close(app, connection, (&mut session, &charge), approved, &write.cause(), now).await?;
            under_way = Some((charge.clone(), amount));
            crash_point!("capture.written");
            Ok((render(&payment, Some(&charge), expand), outgoing))
        })
        .await?;
    let Some((charge, amount)) = under_way.filter(|_| !answer.replayed) else { return Ok(answer) };
    crash_point!("capture.committed");
    repeat_capture(app, &charge, amount).await?;
    finish(app, write, &known, expand).await
}

/// Gives up a payment that holds reserved money; that of an open session is its session's to decide.
///
/// # Errors
/// `NotFound`, `Refused`, and those of the idempotency key.
pub async fn cancel(app: &App, write: &Write, id: &str, reason: Option<String>, expand: &Expand) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    let mut under_way = None;
    let answer = write
        .once(app, async |connection, now| {
            let Locked { mut session, payment, charge } = lock_all(connection, &known).await?;
            if session.state.ended_at().is_none() {
                return Err(Refusal::PaymentOfOpenSession.into());
            }
            let charge = charge.ok_or(Refusal::PaymentUnexpectedState(payment.status))?;
            charge.void(payment.status)?;
            let charge = Charge { under_way: Some(UnderWay::Void), ..charge };
            store::payments::save_charge(connection, &charge, Some(now + LOOK_UP_AFTER), now).await?;
            store::payments::note_cancellation_reason(connection, &payment.id, reason.as_deref()).await?;
            let canceled = ClosedReason::Canceled;
            let outgoing =
                reviews::close(app, connection, (&mut session, &charge), canceled, &write.cause(), now).await?;
            under_way = Some(charge.clone());
            crash_point!("void.written");
            Ok((render(&payment, Some(&charge), expand), outgoing))
        })
        .await?;
    let Some(charge) = under_way.filter(|_| !answer.replayed) else { return Ok(answer) };
    crash_point!("void.committed");
    repeat_void(app, &charge).await?;
    finish(app, write, &known, expand).await
}

/// The answer after the provider's: the payment as it is now, which also becomes the kept answer.
async fn finish(app: &App, write: &Write, known: &Payment, expand: &Expand) -> Result<Answer> {
    let (payment, charge) = find_with_charge(app, &write.caller, known.id.as_str()).await?;
    let answer = render(&payment, charge.as_ref(), expand);
    write.keep_instead(app, &answer).await?;
    Ok(answer)
}

/// Asks the provider to capture, as often as it takes, and books what it says.
///
/// # Errors
/// The database's.
pub(super) async fn repeat_capture(app: &App, charge: &Charge, amount: i64) -> Result<()> {
    let provider = provider_of(app, charge)?;
    let money = Money { minor: amount, currency: charge.total.currency };
    let report = match tokio::time::timeout(CHARGE_TIMEOUT, provider.capture(&charge_ref(charge), money)).await {
        Ok(report) => report,
        Err(_) => CaptureReport::Unknown { detail: "no answer within the time for a capture".to_owned() },
    };
    crash_point!("capture.answered");
    let settled = match report {
        CaptureReport::Captured { fee, .. } => Settled::Captured { amount, fee },
        // What the provider took is what the merchant has, whatever he asked for here.
        CaptureReport::TakenOtherwise { amount: taken, fee, .. } if (1..=charge.total.minor).contains(&taken) => {
            tracing::error!(charge = %charge.id, provider = charge.provider, asked = amount, taken,
                "another amount than was asked for had been captured past this gateway; what was taken is booked, and a person must look");
            Settled::Captured { amount: taken, fee }
        }
        CaptureReport::TakenOtherwise { amount: taken, .. } => {
            tracing::error!(charge = %charge.id, provider = charge.provider, asked = amount, taken,
                "the provider says that it took an amount that was never reserved; nothing is booked until a person has looked");
            return Ok(());
        }
        CaptureReport::Refused { detail } => {
            tracing::warn!(charge = %charge.id, provider = charge.provider, detail, "the provider refused a capture for good; what is still reserved is let go");
            return repeat_void(app, charge).await;
        }
        CaptureReport::Unknown { detail } => {
            tracing::warn!(charge = %charge.id, provider = charge.provider, detail, "the outcome of a capture is unknown; it will be repeated");
            return Ok(());
        }
    };
    settle(app, charge, settled).await
}

/// Asks the provider to let reserved money go, as often as it takes, and books what it says.
///
/// # Errors
/// The database's.
pub(super) async fn repeat_void(app: &App, charge: &Charge) -> Result<()> {
    let answer = void(provider_of(app, charge)?.as_ref(), charge).await;
    crash_point!("void.answered");
    match answer {
        Reversal::Done { .. } | Reversal::NothingToReverse => settle(app, charge, Settled::Gone).await,
        Reversal::Unknown { detail } => {
            tracing::warn!(charge = %charge.id, provider = charge.provider, detail, "the outcome of a void is unknown; it will be repeated");
            Ok(())
        }
    }
}

/// Books that the provider let reserved money go without our asking.
///
/// # Errors
/// The database's.
pub(super) async fn note_gone(app: &App, known: &Charge) -> Result<()> {
    let now = app.clock.now();
    let absent = || Error::not_found("charge", known.id.as_str());
    let mut transaction = app.store.begin().await?;
    lock(&mut transaction, &known.session_id).await?;
    let charge = store::payments::lock_charge(&mut transaction, &known.id).await?.ok_or_else(absent)?;
    if charge.state != ChargeState::Authorized || charge.under_way.is_some() {
        return Ok(());
    }
    // As a void that is under way and answered, so that a stop in between is mended by the sweep.
    let charge = Charge { under_way: Some(UnderWay::Void), ..charge };
    store::payments::save_charge(&mut transaction, &charge, Some(now + LOOK_UP_AFTER), now).await?;
    app.store.commit(transaction).await?;
    tracing::warn!(charge = %charge.id, provider = charge.provider, "a reservation is gone: it expired, or was let go at the provider");
    settle(app, &charge, Settled::Gone).await
}

enum Settled {
    Captured { amount: i64, fee: Option<i64> },
    Gone,
}

async fn settle(app: &App, known: &Charge, settled: Settled) -> Result<()> {
    let now: DateTime<Utc> = app.clock.now();
    let absent = || Error::not_found("charge", known.id.as_str());
    let mut transaction = app.store.begin().await?;
    let mut session = lock(&mut transaction, &known.session_id).await?;
    let mut payment = store::payments::lock_payment(&mut transaction, &known.payment_id).await?.ok_or_else(absent)?;
    let charge = store::payments::lock_charge(&mut transaction, &known.id).await?.ok_or_else(absent)?;
    if charge.under_way.is_none() {
        return Ok(());
    }
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let reserved = charge.total.minor;
    let mut moved: Vec<Movement> = Vec::new();
    let mut charge = Charge { under_way: None, ..charge };
    match settled {
        Settled::Captured { amount, fee } => {
            charge.state = ChargeState::Succeeded;
            charge.amount_captured = amount;
            payment.status = PaymentStatus::Succeeded;
            payment.amount_received = amount;
            session.paid_at = Some(now);
            moved.push(Movement::Captured { authorized: reserved, amount });
            charge.fee = fee.map(|fee| fee.max(0));
            moved.extend(charge.fee.filter(|fee| *fee > 0).map(|amount| Movement::Fee { amount }));
            announcements.charge(&mut session, "charge.captured", &charge);
            announcements.payment(&mut session, "payment_intent.succeeded", &payment, Some(&charge));
            announcements.session(&mut session, &[SessionEvent::AsyncPaymentSucceeded]);
        }
        // Money that came after all had been settled without it: the payment goes on as it is.
        Settled::Gone if charge.state == ChargeState::Reversed => {
            if charge.amount_captured > 0 {
                // What a dispute took has gone to the payer without us.
                let amount = charge.kept().max(0);
                charge.amount_refunded = charge.amount_refunded.saturating_add(amount);
                moved.extend((amount > 0).then_some(Movement::Refunded { amount }));
            } else {
                moved.push(Movement::Voided { amount: reserved });
            }
            announcements.charge(&mut session, "charge.refunded", &charge);
        }
        Settled::Gone => {
            charge.state = ChargeState::Reversed;
            let reason = store::payments::cancellation_reason(&mut transaction, &payment.id).await?;
            payment.status = PaymentStatus::Canceled;
            payment.cancellation = Some(Cancellation { reason, at: now });
            moved.push(Movement::Voided { amount: reserved });
            announcements.charge(&mut session, "charge.updated", &charge);
            announcements.payment(&mut session, "payment_intent.canceled", &payment, Some(&charge));
            announcements.session(&mut session, &[SessionEvent::AsyncPaymentFailed]);
        }
    }
    let changes = Changes {
        session: &session,
        started: None,
        changed: Some((&payment, ChangedCharge { charge: &charge, look_up_at: None })),
        bookings: &moved.into_iter().map(|movement| (booking(&charge, now), movement)).collect::<Vec<_>>(),
        events: &announcements.into_events(),
        lease: &app.lease(now),
        now,
    };
    let outgoing = store::together::save(&mut transaction, &changes).await?;
    crash_point!("reserved.recorded");
    app.store.commit(transaction).await?;
    crash_point!("reserved.committed");
    app.hand_over(outgoing);
    Ok(())
}
