//! Payments that a rule holds until their merchant has looked at them.
//!
//! The rule: the decision closes the review in the transaction that sets the money in motion, whoever
//! decides and by whichever way: approving, capturing, cancelling, or letting the time run out. What
//! then happens at the provider is a capture or a void like any other.

use chrono::{DateTime, Utc};

use super::captures::{self, Locked, lock_all};
use super::replay::{Answer, Write};
use super::{Announcements, Caller};
use crate::app::App;
use crate::domain::fraud::{Action, Assessment};
use crate::domain::id::ReviewId;
use crate::domain::payment::{CaptureMethod, Charge, ChargeState, LOOK_UP_AFTER, Payment, UnderWay};
use crate::domain::refusal::Refusal;
use crate::domain::review::{ClosedReason, Review};
use crate::domain::session::Session;
use crate::error::{Error, Result};
use crate::store::outbox::Outgoing;
use crate::store::{self, Connection, CreatedFilter, Page};
use crate::wire::event::EventRequest;
use crate::wire::{self, List};

/// Reviews that are closed in one round because nobody decided.
const REVIEWS_PER_ROUND: i64 = 100;

/// Why a payment is given up whose review nobody decided, in Stripe's word for lapsed authorisations.
const LAPSED: &str = "expired";

/// Opens the review of a charge whose money was just reserved, when a rule asks for one, and notes it in the
/// charge. Gives it, to be announced after the charge.
pub(super) async fn open(
    app: &App,
    connection: &mut Connection,
    charge: &mut Charge,
    now: DateTime<Utc>,
) -> Result<Option<Review>> {
    let Some(assessment) = &charge.assessment else { return Ok(None) };
    if assessment.action != Action::Review {
        return Ok(None);
    }
    let review = Review {
        id: ReviewId::generate(now),
        merchant_id: charge.merchant_id.clone(),
        livemode: charge.livemode,
        charge_id: charge.id.clone(),
        payment_id: charge.payment_id.clone(),
        rule: assessment.rule.clone(),
        closed: None,
        created_at: now,
        expires_at: (charge.state == ChargeState::Authorized).then(|| now + app.settings.review_hold),
    };
    store::reviews::insert(connection, &review).await?;
    charge.assessment = Some(Assessment { review: Some(review.id.clone()), ..assessment.clone() });
    Ok(Some(review))
}

/// Closes the review of a charge, if it has one that is open. The caller holds the session's lock and has the
/// money under way.
pub(super) async fn close(
    app: &App,
    connection: &mut Connection,
    (session, charge): (&mut Session, &Charge),
    reason: ClosedReason,
    cause: &EventRequest,
    now: DateTime<Utc>,
) -> Result<Vec<Outgoing>> {
    let Some(id) = charge.assessment.as_ref().and_then(|assessment| assessment.review.as_ref()) else {
        return Ok(Vec::new());
    };
    let Some(review) = store::reviews::close(connection, id, reason, now).await? else { return Ok(Vec::new()) };
    let mut announcements = Announcements::new(cause, now);
    announcements.object(session, "review.closed", review.id.as_str(), &wire::review::Review::new(&review));
    store::sessions::save(connection, &[session]).await?;
    Ok(store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?)
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<Review> {
    let absent = || Error::not_found("review", id);
    let parsed = ReviewId::parse(id).ok_or_else(absent)?;
    store::reviews::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed).await?.ok_or_else(absent)
}

async fn payment_of(app: &App, review: &Review) -> Result<Payment> {
    let pool = app.store.pool();
    store::payments::find_payment(pool, &review.merchant_id, review.livemode, &review.payment_id)
        .await?
        .ok_or_else(|| Error::Internal(format!("review {} is about a payment that is not there", review.id)))
}

/// A merchant's review as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<wire::review::Review> {
    Ok(wire::review::Review::new(&find(app, caller, id).await?))
}

/// A page of a merchant's open reviews.
///
/// # Errors
/// The database's.
pub async fn list(
    app: &App,
    caller: &Caller,
    created: &CreatedFilter,
    page: &Page,
) -> Result<List<wire::review::Review>> {
    let pool = app.store.pool();
    let mut rows = store::reviews::list_open(pool, &caller.merchant_id, caller.livemode, created, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/reviews", rows.iter().map(wire::review::Review::new).collect(), has_more))
}

/// Approves a review: the money is taken, unless the merchant wanted to take it himself. One that is approved
/// already is given as it is.
///
/// # Errors
/// `NotFound`, `Refused` when it was closed otherwise, and those of the idempotency key. A provider that does not
/// answer is no error: the capture goes on by itself.
pub async fn approve(app: &App, write: &Write, id: &str) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    let known_payment = payment_of(app, &known).await?;
    let mut under_way = None;
    let answer = write
        .once(app, async |connection, now| {
            let Locked { mut session, payment, charge } = lock_all(connection, &known_payment).await?;
            let caller = &write.caller;
            let review = store::reviews::find(&mut *connection, &caller.merchant_id, caller.livemode, &known.id)
                .await?
                .ok_or_else(|| Error::not_found("review", id))?;
            match review.closed {
                None => {}
                Some(ClosedReason::Approved) => {
                    return Ok((Answer::new(&wire::review::Review::new(&review)), Vec::new()));
                }
                Some(_) => return Err(Refusal::ReviewClosed.into()),
            }
            let charge = charge.ok_or(Refusal::PaymentUnexpectedState(payment.status))?;
            if charge.state == ChargeState::Authorized && payment.capture_method == CaptureMethod::Automatic {
                let amount = charge.capture(payment.status, None)?;
                let charge = Charge { under_way: Some(UnderWay::Capture { amount }), ..charge.clone() };
                store::payments::save_charge(connection, &charge, Some(now + LOOK_UP_AFTER), now).await?;
                under_way = Some((charge, amount));
            }
            let reason = ClosedReason::Approved;
            let outgoing = close(app, connection, (&mut session, &charge), reason, &write.cause(), now).await?;
            let review = Review { closed: Some(reason), ..review };
            Ok((Answer::new(&wire::review::Review::new(&review)), outgoing))
        })
        .await?;
    if let Some((charge, amount)) = under_way {
        captures::repeat_capture(app, &charge, amount).await?;
    }
    Ok(answer)
}

/// Lets the money of reviews go that nobody decided in time. Gives how many there were. One that cannot be closed
/// does not keep the others from it.
///
/// # Errors
/// The database's, when the reviews cannot be read.
pub async fn expire_due(app: &App) -> Result<usize> {
    let due = store::reviews::due(app.store.pool(), app.clock.now(), REVIEWS_PER_ROUND).await?;
    for review in &due {
        if let Err(error) = expire(app, review).await {
            tracing::error!(review = %review.id, error = ?error, "a review that nobody decided could not be closed; the next round tries again");
        }
    }
    Ok(due.len())
}

async fn expire(app: &App, review: &Review) -> Result<()> {
    let known = payment_of(app, review).await?;
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let Locked { mut session, payment, charge } = lock_all(&mut transaction, &known).await?;
    let Some(charge) = charge.filter(|charge| charge.id == review.charge_id) else { return Ok(()) };
    // The void is written down and due; the sweep of what is under way asks the provider.
    let voided = charge.void(payment.status).is_ok();
    if voided {
        let charge = Charge { under_way: Some(UnderWay::Void), ..charge.clone() };
        store::payments::save_charge(&mut transaction, &charge, Some(now), now).await?;
        store::payments::note_cancellation_reason(&mut transaction, &payment.id, Some(LAPSED)).await?;
    }
    let reason = ClosedReason::PaymentNeverSettled;
    let cause = EventRequest::default();
    let outgoing = close(app, &mut transaction, (&mut session, &charge), reason, &cause, now).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    tracing::warn!(review = %review.id, charge = %charge.id, voided, "nobody decided a review in time; its money is let go");
    Ok(())
}
