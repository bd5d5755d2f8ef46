//! Refunds that come back: a payer's bank may refuse money days after the provider sent it.
//!
//! The rule: the message that tells of it is believed in nothing; the refund is read from its provider, and
//! what came back is booked once, under the locks of its session and charge. Money of an escrow is not
//! booked here, because who it belongs to now is for a person to say.

use super::payments::{booking, lock, provider_of};
use super::references::charge_ref;
use super::{Announcements, refunds};
use crate::app::App;
use crate::domain::id::RefundId;
use crate::domain::ledger::Movement;
use crate::domain::payment::{Charge, ChargeState, Refund, RefundState};
use crate::error::{Error, Result};
use crate::providers::{CHARGE_TIMEOUT, RefundLookUp};
use crate::store;
use crate::wire;
use crate::wire::event::EventRequest;

/// Somebody says that there is news of a refund.
///
/// # Errors
/// `Unavailable` when the provider cannot be asked now, so that the message comes again, and the database's.
pub(super) async fn hear(app: &App, charge: &Charge, refund_id: &str) -> Result<()> {
    let pool = app.store.pool();
    let known = match RefundId::parse(refund_id) {
        Some(id) => store::refunds::find(pool, &charge.merchant_id, charge.livemode, &id).await?,
        None => None,
    };
    if let Some(refund) = &known {
        match refund.state {
            _ if refund.charge_id != charge.id => return Ok(()),
            RefundState::Pending => return refunds::repeat(app, refund).await,
            RefundState::Failed { .. } => return Ok(()),
            RefundState::Succeeded => {}
        }
    }
    let provider = provider_of(app, charge)?;
    let asked = charge_ref(charge);
    let answer = tokio::time::timeout(CHARGE_TIMEOUT, provider.look_up_refund(&asked, refund_id)).await;
    match (answer.unwrap_or_else(|_| RefundLookUp::Unknown { detail: "no answer in time".to_owned() }), known) {
        (RefundLookUp::Stands, _) => Ok(()),
        (RefundLookUp::CameBack { amount, reason }, Some(refund)) => {
            came_back(app, &refund, charge, amount, reason).await
        }
        // Given back because the session had ended otherwise: no refund of the merchant's, and none that can fail.
        (RefundLookUp::CameBack { amount, reason }, None) => {
            tracing::error!(charge = %charge.id, provider = charge.provider, amount, reason,
                "money that was given back by itself came back to the account at the provider; a person must send it to the payer");
            Ok(())
        }
        (RefundLookUp::Unknown { detail }, _) => {
            Err(Error::Unavailable(format!("a refund of charge {} cannot be read now: {detail}", charge.id)))
        }
    }
}

async fn came_back(app: &App, known: &Refund, of: &Charge, amount: i64, reason: &str) -> Result<()> {
    let now = app.clock.now();
    let absent = || Error::not_found("refund", known.id.as_str());
    let mut transaction = app.store.begin().await?;
    let mut session = lock(&mut transaction, &of.session_id).await?;
    let mut charge = store::payments::lock_charge(&mut transaction, &of.id).await?.ok_or_else(absent)?;
    let mut refund = store::refunds::lock(&mut transaction, &known.id).await?.ok_or_else(absent)?;
    if refund.state != RefundState::Succeeded {
        return Ok(());
    }
    let left = charge.amount_refunded.checked_sub(amount).filter(|left| *left >= 0);
    let (Some(left), None, ChargeState::Succeeded) = (left, &session.escrow, &charge.state) else {
        tracing::error!(refund = %refund.id, charge = %charge.id, provider = charge.provider, amount, reason,
            "a refund that had succeeded came back to the account at the provider, and it is of an escrow or fits no books; nothing is booked, and a person must send the money to the payer");
        return Ok(());
    };
    if amount != refund.total.minor {
        tracing::error!(refund = %refund.id, charge = %charge.id, provider = charge.provider, amount, reason,
            "another amount came back than was refunded; nothing is booked, and a person must look");
        return Ok(());
    }
    charge.amount_refunded = left;
    refund.state = RefundState::Failed { reason: reason.to_owned() };
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let object = wire::refund::Refund::new(&refund);
    announcements.object(&mut session, "refund.failed", refund.id.as_str(), &object);
    announcements.object(&mut session, "charge.refund.updated", refund.id.as_str(), &object);
    announcements.charge(&mut session, "charge.updated", &charge);
    let mut entry = booking(&charge, now);
    entry.object_id = refund.id.as_str();
    store::ledger::book(&mut transaction, &entry, Movement::RefundReturned { amount }).await?;
    store::payments::save_charge(&mut transaction, &charge, None, now).await?;
    store::refunds::save(&mut transaction, &refund, now).await?;
    store::sessions::save(&mut transaction, &[&session]).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    tracing::warn!(refund = %refund.id, charge = %charge.id, provider = charge.provider, amount, reason,
        "a refund that had succeeded came back: the payer has not got the money, and it is refundable again");
    Ok(())
}
