//! Asking the providers about what is not known: charges without an outcome, captures, voids and
//! refunds that were not answered.
//!
//! The rule: everything here is safe to repeat by our own ids, is claimed before it is done so that
//! replicas do not ask twice, and never charges. One that cannot be settled does not keep the others
//! from it.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use tokio::task::JoinSet;

use super::payments::{provider_of, settle, void};
use super::references::charge_ref;
use super::{captures, disputes, outages, refunds};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::decline::DeclineReason;
use crate::domain::payment::{Charge, ChargeState, GIVE_UP_AFTER, LOOK_UP_AFTER, UnderWay, next_look_up};
use crate::error::Result;
use crate::providers::{CHARGE_TIMEOUT, Facts, LookUp, Provider, Report, Reversal};
use crate::store;

/// Charges asked about in one round of the sweep.
const LOOK_UPS_PER_ROUND: i64 = 50;

/// Things asked about side by side: half of what the pool of connections bears at least.
const LOOK_UPS_AT_ONCE: usize = 8;

/// How long after the session's deadline a payer may still finish at his bank. Then the charge is
/// closed, because a session must not stay open for ever.
const AUTHENTICATION_GRACE: Duration = Duration::minutes(10);

/// One round: gives the number of things asked about.
///
/// # Errors
/// The database's.
pub async fn settle_due(app: &Arc<App>) -> Result<usize> {
    let now = app.clock.now();
    let next = |look_ups| next_look_up(now, look_ups);
    let charges = store::payments::claim_look_ups(app.store.pool(), now, next, LOOK_UPS_PER_ROUND).await?;
    let refunds = store::refunds::claim_due(app.store.pool(), now, next, LOOK_UPS_PER_ROUND).await?;
    let disputes = store::disputes::claim_due(app.store.pool(), now, next, LOOK_UPS_PER_ROUND).await?;
    let asked = charges.len() + refunds.len() + disputes.len();
    // Side by side, so that one slow answer does not keep the others from theirs. A round that is dropped takes
    // its questions with it.
    let mut asking = JoinSet::new();
    for charge in charges {
        if asking.len() >= LOOK_UPS_AT_ONCE {
            asking.join_next().await;
        }
        let app = Arc::clone(app);
        asking.spawn(async move {
            let settled = match charge.under_way {
                Some(UnderWay::Capture { amount }) => captures::repeat_capture(&app, &charge, amount).await,
                Some(UnderWay::Void) => captures::repeat_void(&app, &charge).await,
                None => look_up(&app, &charge, now).await,
            };
            if let Err(error) = settled {
                tracing::error!(charge = %charge.id, error = ?error, "a charge in doubt could not be settled; it will be asked about again");
            }
        });
    }
    for refund in refunds {
        if asking.len() >= LOOK_UPS_AT_ONCE {
            asking.join_next().await;
        }
        let app = Arc::clone(app);
        asking.spawn(async move {
            if let Err(error) = refunds::repeat(&app, &refund).await {
                tracing::error!(refund = %refund.id, error = ?error, "a refund in doubt could not be settled; it will be repeated");
            }
        });
    }
    for dispute in disputes {
        if asking.len() >= LOOK_UPS_AT_ONCE {
            asking.join_next().await;
        }
        let app = Arc::clone(app);
        asking.spawn(async move {
            if let Err(error) = disputes::repeat(&app, &dispute).await {
                tracing::error!(dispute = %dispute.id, error = ?error, "an answer to a dispute could not be settled; it will be repeated");
            }
        });
    }
    while asking.join_next().await.is_some() {}
    disputes::collect(app).await;
    Ok(asked)
}

/// Asks what became of a charge and settles it when the provider knows.
///
/// # Errors
/// The database's.
pub(super) async fn look_up(app: &App, charge: &Charge, now: DateTime<Utc>) -> Result<()> {
    let provider = provider_of(app, charge)?;
    if charge.closing {
        return close(app, charge, provider.as_ref()).await;
    }
    let answer = tokio::time::timeout(CHARGE_TIMEOUT, provider.look_up(&charge_ref(charge))).await;
    let answer = answer.unwrap_or(LookUp::Unknown);
    crash_point!("return.answered");
    outages::hear_look_up(app, &charge.provider, answer != LookUp::Unknown);
    match answer {
        // That a question was not sent says nothing of the charge.
        LookUp::Found(Report::Pending { .. } | Report::Unknown { .. } | Report::Unavailable { .. })
        | LookUp::Unknown => Ok(()),
        LookUp::Found(Report::RequiresAction { .. }) if matches!(charge.state, ChargeState::RequiresAction { .. }) => {
            close_if_too_late(app, charge, provider.as_ref(), now).await
        }
        LookUp::Found(report) => settle(app, &charge.id, report).await.map(|_| ()),
        // The provider does not know the charge. A call may still be under way, so the charge is closed
        // with a void first: after that no money can be taken under its id. Where a void cannot come
        // before its charge, only time closes it.
        LookUp::NotFound if can_be_closed(charge, provider.as_ref(), now) => {
            close(app, charge, provider.as_ref()).await
        }
        LookUp::NotFound => Ok(()),
    }
}

/// The provider has sent word of a charge, so there may be news.
///
/// # Errors
/// The database's.
pub(super) async fn hear(app: &App, charge: &Charge) -> Result<()> {
    if charge.state.is_open() {
        return look_up(app, charge, app.clock.now()).await;
    }
    let provider = provider_of(app, charge)?;
    let answer = match (&charge.state, charge.under_way) {
        (ChargeState::Authorized | ChargeState::Failed(_), None) => {
            tokio::time::timeout(CHARGE_TIMEOUT, provider.look_up(&charge_ref(charge))).await
        }
        _ => return Ok(()),
    };
    match (&charge.state, answer) {
        // A reservation ends by itself after some days, or in the provider's own overview.
        (ChargeState::Authorized, Ok(LookUp::Found(Report::Reversed { .. }))) => captures::note_gone(app, charge).await,
        // Money that came after all is taken in, which gives it back.
        (
            ChargeState::Failed(_),
            Ok(LookUp::Found(report @ (Report::Succeeded { .. } | Report::Authorized { .. }))),
        ) => settle(app, &charge.id, report).await.map(|_| ()),
        _ => Ok(()),
    }
}

/// Whether a charge that its provider does not know may be closed now.
fn can_be_closed(charge: &Charge, provider: &dyn Provider, now: DateTime<Utc>) -> bool {
    let can = provider.capabilities();
    let age = now - charge.created_at;
    // Once it is closing, no reference is remembered for it any more, so nothing can be taken under one. Not while it
    // may still be being made: a message of the provider can be faster than that.
    let takes_nothing = can.reference_first && charge.provider_reference.is_none() && age >= LOOK_UP_AFTER;
    can.void_in_advance || takes_nothing || age >= GIVE_UP_AFTER
}

/// Ends an authentication that the payer never finished.
async fn close_if_too_late(app: &App, charge: &Charge, provider: &dyn Provider, now: DateTime<Utc>) -> Result<()> {
    let session =
        store::sessions::find(app.store.pool(), &charge.merchant_id, charge.livemode, &charge.session_id).await?;
    match session {
        Some(session) if now >= session.expires_at + AUTHENTICATION_GRACE => close(app, charge, provider).await,
        _ => Ok(()),
    }
}

/// Voids a charge, so that no money can be taken under its id any more, and settles it as not taken. That it is
/// to be voided is written down first, under the row's lock: a success that is heard of between the two must not
/// complete the session, for the void takes its money back.
async fn close(app: &App, charge: &Charge, provider: &dyn Provider) -> Result<()> {
    // Read with the lock, because its reference may have been remembered since the charge was read.
    let Some(charge) = &store::payments::close(app.store.pool(), &charge.id).await? else {
        return Ok(());
    };
    let reason = match charge.state {
        ChargeState::RequiresAction { .. } => DeclineReason::AuthenticationRequired,
        _ => DeclineReason::ProcessingError,
    };
    crash_point!("close.noted");
    let answer = void(provider, charge).await;
    crash_point!("close.voided");
    match answer {
        Reversal::Done { .. } | Reversal::NothingToReverse => {
            let report = Report::Declined { reason, reference: None, facts: Facts::default() };
            settle(app, &charge.id, report).await.map(|_| ())
        }
        Reversal::Unknown { .. } => Ok(()),
    }
}
