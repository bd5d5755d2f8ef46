//! One try of the payer, at one provider after another until one has an answer that counts.
//!
//! The rule: the next provider is asked only when it is certain that the one before took no money and
//! will not: it said so for a reason of its own, or nothing was ever sent to it. A no of the payer's
//! bank is the same everywhere and is never taken elsewhere; a doubt stays where it is until it is
//! settled. That one charge failed and the next begins is one commit, so that the session is never
//! without a live charge in between, and whatever dies leaves something that the sweep settles.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::fraud::Prepared;
use super::payments::{Try, failure, lock, settle};
use super::references::RowKeeper;
use super::{Announcements, outages};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::card::CardBrand;
use crate::domain::decline::DeclineReason;
use crate::domain::id::ChargeId;
use crate::domain::payment::{CaptureMethod, Charge, ChargeFailure, ChargeState, LOOK_UP_AFTER};
use crate::domain::refusal::Refusal;
use crate::domain::routing::Asked;
use crate::domain::session::{Session, State};
use crate::error::{Error, Result};
use crate::providers::breaker::Permit;
use crate::providers::registry::Registered;
use crate::providers::{Authentication, CHARGE_TIMEOUT, Capture, ChargeRequest, Facts, Provider, Report};
use crate::store::{self, fraud::Keys};
use crate::telemetry;
use crate::vault::{Vault, VaultToken};
use crate::wire::event::EventRequest;

/// Providers asked within one try. A card that three could not process is better typed again later.
const PROVIDERS_PER_TRY_MAX: i16 = 3;

/// Time for all of them together: that for one charge, which the page's own time-out leaves room for.
const TRY_TIMEOUT: Duration = CHARGE_TIMEOUT;

/// With less time left no further provider is asked: banks answer within seconds, and a charge that is cut off
/// is a doubt where there was none.
const NEXT_PROVIDER_TIME_MIN: Duration = Duration::from_secs(8);

/// The provider to ask now, with leave to, and those to ask if it certainly takes nothing.
pub(super) struct Route {
    /// Whom to ask now.
    pub(super) provider: Arc<dyn Provider>,
    permit: Permit,
    others: VecDeque<Registered>,
}

impl Route {
    /// Leaves those that cannot do what is asked out: what a charge needs may have grown since they were chosen.
    fn keep_able(&mut self, request: &ChargeRequest) {
        self.others.retain(|Registered { provider, .. }| {
            let can = provider.capabilities();
            (can.manual_capture || request.capture == Capture::Automatic)
                && (can.three_d_secure || request.authentication == Authentication::WhenRequired)
        });
    }

    /// The first of these that may be asked just now.
    fn first(mut providers: VecDeque<Registered>, now: DateTime<Utc>) -> Option<Self> {
        while let Some(Registered { provider, breaker }) = providers.pop_front() {
            if let Some(permit) = breaker.admit(now) {
                return Some(Self { provider, permit, others: providers });
            }
        }
        None
    }
}

/// A charge that is written down and about to be made.
pub(super) struct Started {
    /// As written.
    pub(super) charge: Charge,
    /// What the provider is asked.
    pub(super) request: ChargeRequest,
    /// Which provider.
    pub(super) route: Route,
    /// What the fraud checks need of it.
    pub(super) prepared: Prepared,
}

/// Chooses who is asked for a session's money.
///
/// # Errors
/// `Unavailable` when no provider takes such a charge, `ProvidersAway` when none can be reached just now.
pub(super) fn choose(
    app: &App,
    session: &Session,
    (brand, only): (CardBrand, Option<Arc<dyn Provider>>),
    authentication: Authentication,
    now: DateTime<Utc>,
) -> Result<Route> {
    let asked = Asked {
        money: session.total,
        brand,
        merchant: &session.merchant_id,
        livemode: session.livemode,
        manual_capture: session.options.capture_method == CaptureMethod::Manual,
        authentication: authentication == Authentication::Always,
    };
    // A kept card's reference belongs to one provider; everything else may go to any.
    let providers: VecDeque<Registered> = match only {
        Some(only) => app.providers.registered(only.name()).cloned().into_iter().collect(),
        None => app.providers.route(&asked).into_iter().cloned().collect(),
    };
    if providers.is_empty() {
        return Err(Error::Unavailable(
            "no configured payment provider takes such a charge: look at the providers and at `routing` in the configuration".to_owned(),
        ));
    }
    Route::first(providers, now).ok_or(Error::Refused(Refusal::ProvidersAway))
}

/// Where the payer comes back to from his bank, and what to know the way back by.
pub(super) fn way_back(app: &App) -> (String, [u8; 32]) {
    let word = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    (format!("{}/3ds/{word}", app.settings.public_url), Sha256::digest(&word).into())
}

/// Wipes the card when the try is over, however it ends.
struct Held<'a>(&'a Vault, VaultToken);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

/// Makes the charge, at the next provider if it must be, and settles what comes of it.
pub(super) async fn charge(app: &App, started: Started) -> Result<Try> {
    let Started { mut charge, mut request, mut route, .. } = started;
    let until = Instant::now() + TRY_TIMEOUT;
    route.keep_able(&request);
    let held = request.source.token().map(|token| Held(&app.vault, token.clone()));
    if let Some(held) = held.as_ref().filter(|_| !route.others.is_empty()) {
        app.vault.hold(&held.1);
    }
    loop {
        let Route { provider, permit, others } = route;
        let time = until.saturating_duration_since(Instant::now());
        let keeper = RowKeeper::new(app, &charge.id);
        let report = tokio::time::timeout(time, provider.charge(request.clone(), &keeper))
            .await
            .unwrap_or_else(|_| Report::Unknown { detail: "no answer within the time for a charge".to_owned() });
        crash_point!("pay.answered");
        let now = app.clock.now();
        let is_answer = !matches!(report, Report::Unknown { .. } | Report::Unavailable { .. });
        outages::tell(provider.name(), permit.hear(is_answer, now));
        let next = worth_another(&report)
            .filter(|_| charge.attempt_turn < PROVIDERS_PER_TRY_MAX)
            .filter(|_| NEXT_PROVIDER_TIME_MIN <= until.saturating_duration_since(Instant::now()))
            .and_then(|failed| Some((failed, Route::first(others, now)?)))
            .filter(|_| held.as_ref().is_some_and(|held| app.vault.lend_again(&held.1)));
        let Some((failed, next)) = next else {
            drop(held);
            return settle(app, &charge.id, report).await;
        };
        let (return_url, return_state_hash) = way_back(app);
        let cause = failed.cause;
        let Some(successor) = pass_on(app, &charge, failed, next.provider.name(), &return_state_hash, now).await?
        else {
            // Somebody else has settled it meanwhile.
            return settle(app, &charge.id, report).await;
        };
        count(&charge, cause);
        request.charge_id = successor.id.to_string();
        request.return_url = return_url;
        charge = successor;
        route = next;
    }
}

/// A charge that was certainly not made, and why.
struct NotMade {
    failure: ChargeFailure,
    reference: Option<String>,
    facts: Facts,
    cause: &'static str,
}

/// Whether the report is a no that another provider may not have. Nothing else is: not a no of the payer's bank,
/// and no doubt.
fn worth_another(report: &Report) -> Option<NotMade> {
    match report {
        Report::Declined { reason, reference, facts } if reason.may_pass_elsewhere() => Some(NotMade {
            failure: failure(*reason),
            reference: reference.clone(),
            facts: facts.clone(),
            cause: "declined",
        }),
        Report::Unavailable { .. } => {
            Some(NotMade { failure: unreachable(), reference: None, facts: Facts::default(), cause: "unavailable" })
        }
        _ => None,
    }
}

/// Why a charge failed that was never sent.
pub(super) fn unreachable() -> ChargeFailure {
    ChargeFailure {
        message: "The payment provider could not be reached. Nothing was sent to it, and nothing was charged; the payment may be tried again.".to_owned(),
        ..failure(DeclineReason::ProcessingError)
    }
}

fn count(charge: &Charge, cause: &'static str) {
    let provider = || charge.provider.clone();
    metrics::counter!(telemetry::CHARGES_TOTAL, "provider" => provider(), "outcome" => cause).increment(1);
    metrics::counter!(telemetry::FAILOVERS_TOTAL, "provider" => provider(), "cause" => cause).increment(1);
}

/// Settles a charge as failed and writes the next one down, in one transaction. `None` when there was nothing
/// left to settle.
async fn pass_on(
    app: &App,
    charge: &Charge,
    failed: NotMade,
    provider: &str,
    return_state_hash: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<Charge>> {
    let mut transaction = app.store.begin().await?;
    let mut session = lock(&mut transaction, &charge.session_id).await?;
    let charge = store::payments::lock_charge(&mut transaction, &charge.id)
        .await?
        .ok_or_else(|| Error::not_found("charge", charge.id.as_str()))?;
    if session.state != State::Processing || charge.state != ChargeState::Pending || charge.closing {
        return Ok(None);
    }
    // Ids of one millisecond have no order, and the newest charge is the one that counts.
    let now = now.max(charge.created_at + chrono::Duration::milliseconds(1));
    let successor = Charge {
        id: ChargeId::generate(now),
        attempt_turn: charge.attempt_turn + 1,
        provider: provider.to_owned(),
        provider_reference: None,
        created_at: now,
        look_ups: 0,
        ..charge.clone()
    };
    let failed = Charge {
        state: ChargeState::Failed(failed.failure),
        provider_reference: failed.reference.or(charge.provider_reference.clone()),
        facts: failed.facts,
        ..charge
    };
    store::payments::save_charge(&mut transaction, &failed, None, now).await?;
    store::payments::insert_charge(
        &mut transaction,
        &successor,
        now + LOOK_UP_AFTER,
        return_state_hash,
        // The payer tried once: one row of the try is counted.
        &Keys::default(),
    )
    .await?;
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    announcements.charge(&mut session, "charge.failed", &failed);
    store::sessions::save(&mut transaction, &[&session]).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    crash_point!("pass.written");
    app.store.commit(transaction).await?;
    crash_point!("pass.committed");
    app.hand_over(outgoing);
    Ok(Some(successor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_and_not_the_banks_own_no_is_taken_elsewhere() {
        let reference = || "r".to_owned();
        let facts = Facts::default;
        for reason in DeclineReason::ALL {
            let report = Report::Declined { reason, reference: None, facts: facts() };
            assert_eq!(worth_another(&report).is_some(), reason.may_pass_elsewhere(), "{reason:?}");
        }
        assert!(worth_another(&Report::Unavailable { detail: String::new() }).is_some());
        for report in [
            Report::Succeeded { reference: reference(), facts: facts() },
            Report::Authorized { reference: reference(), facts: facts() },
            Report::RequiresAction { reference: reference(), redirect_url: String::new() },
            Report::Reversed { reference: reference() },
            Report::Pending { reference: None },
            Report::Unknown { detail: String::new() },
        ] {
            assert!(worth_another(&report).is_none(), "{report:?}");
        }
    }
}
