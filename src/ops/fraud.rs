//! The fraud checks round a charge: before its provider is asked, and by what the provider answers.
//!
//! The rule: a charge is counted by its own committed row, judged once before it is sent, and what was
//! decided is written down before anybody acts on it. A payment that the answer condemns is noted as to
//! be voided before it is, so that no other news of it can complete the session. What the rules say is
//! `domain::fraud`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::payments::{provider_of, void};
use super::references::charge_ref;
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::card::CardSummary;
use crate::domain::decline::DeclineReason;
use crate::domain::fraud::{Action, Assessment, Counter, Facts, Subject, countries_differ, plain_email};
use crate::domain::id::MerchantId;
use crate::domain::network::{Network, is_inside};
use crate::domain::payment::{CaptureMethod, Charge, ChargeFailure};
use crate::error::Result;
use crate::providers::{
    self, Authentication, CHARGE_TIMEOUT, Capture, CaptureReport, ChargeRequest, Provider, Report, Reversal,
};
use crate::store;
use crate::store::fraud::Keys;
use crate::telemetry;

/// What is known of a try beside card and payer: where it came from.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The payer's address, as far as the operator's proxies are to be believed. Never stored.
    pub address: Option<IpAddr>,
}

/// All that the rules need of a try, from before its row is written to the judgement.
pub(super) struct Prepared {
    bin: Option<String>,
    email: String,
    circumstances: Circumstances,
    counters: BTreeMap<Counter, u32>,
    /// Whether the money is to be held in escrow, which only taken money can be.
    pub(super) is_for_escrow: bool,
    /// By what the try is counted, for its row.
    pub(super) keys: Keys,
}

/// Gathers what the rules need of a try, and makes its keys where rules count by them.
pub(super) fn prepare(
    app: &App,
    (merchant, livemode): (&MerchantId, bool),
    card: &CardSummary,
    bin: Option<String>,
    email: String,
    circumstances: Circumstances,
) -> Prepared {
    // An address that is not of the internet is a proxy's or a developer's, and stands for everybody.
    let counted_address = circumstances.address.filter(|address| !is_inside(*address));
    let counters = app.settings.fraud.counters(livemode, merchant.as_str(), counted_address.is_some());
    let mut keys = Keys::default();
    for counter in counters.keys().filter(|counter| counter.subject != Subject::Network || counted_address.is_some()) {
        let text = match (counter.subject, counted_address) {
            (Subject::Card, _) => card.fingerprint.clone(),
            (Subject::Email, _) => plain_email(&email),
            (Subject::Network, Some(address)) => Network::place_of(address).to_string(),
            (Subject::Merchant | Subject::Network, _) => merchant.to_string(),
        };
        keys.set(counter.subject, app.keyring.counting_key(counter.subject.word(), livemode, &text));
    }
    Prepared { bin, email, circumstances, counters, is_for_escrow: false, keys }
}

/// Whether a try goes to its provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Gate {
    /// It does, as the request now says.
    Open,
    /// It does not, and is to be settled as declined.
    Shut,
}

/// Judges a try whose row is committed and whose provider has not been asked.
///
/// # Errors
/// The database's; the try must then not be sent.
pub(super) async fn assess(
    app: &App,
    charge: &Charge,
    prepared: &Prepared,
    (provider, request): (&dyn Provider, &mut ChargeRequest),
) -> Result<Gate> {
    let Prepared { bin, email, circumstances, counters, is_for_escrow, keys } = prepared;
    let pool = app.store.pool();
    let rules = &app.settings.fraud;
    let counts = store::fraud::count(pool, &charge.id, keys, counters, charge.created_at).await?;
    let facts = Facts {
        livemode: charge.livemode,
        merchant: charge.merchant_id.as_str(),
        total: charge.total,
        card: &charge.card,
        bin: bin.as_deref(),
        email,
        address: circumstances.address,
        billing_country: billing_country(charge),
    };
    // Reserved only, where the answer may ask for a review; whoever hears the answer takes the money then.
    // Where a provider cannot reserve, a review is about money that is taken already.
    let can = provider.capabilities();
    let can_reserve = can.manual_capture && !is_for_escrow;
    let country_is_to_come = charge.card.country.is_none() && billing_country(charge).is_some();
    if rules.may_hold_by_answer(charge.livemode, charge.merchant_id.as_str(), country_is_to_come) {
        if can_reserve {
            request.capture = Capture::Manual;
        }
        // Afterwards it would be too late for what an escrow has in a review's place.
        if *is_for_escrow && can.three_d_secure {
            request.authentication = Authentication::Always;
        }
    }
    let Some(found) = rules.before(&facts, &counts) else { return Ok(Gate::Open) };
    let assessment = if *is_for_escrow { found.for_escrow(can.three_d_secure) } else { found };
    store::fraud::note(pool, &charge.id, &assessment).await?;
    crash_point!("block.noted");
    tell(charge, &assessment);
    match assessment.action {
        Action::Allow => {}
        Action::Review if !can_reserve => {}
        Action::Challenge => request.authentication = Authentication::Always,
        Action::Review => request.capture = Capture::Manual,
        Action::Block => return Ok(Gate::Shut),
    }
    Ok(Gate::Open)
}

/// Where the bill goes.
fn billing_country(charge: &Charge) -> Option<&str> {
    charge.billing.address.as_ref().and_then(|address| address.country.as_deref())
}

/// Counts and logs what a rule did. Nothing of the payer is told.
fn tell(charge: &Charge, assessment: &Assessment) {
    let action = assessment.action.word();
    metrics::counter!(telemetry::FRAUD_ASSESSMENTS_TOTAL, "rule" => assessment.rule.clone(), "action" => action)
        .increment(1);
    tracing::info!(charge = %charge.id, rule = assessment.rule, action, "a fraud rule matched");
}

/// A report as the rules leave it, and what they made of the charge.
pub(super) struct Weighed {
    pub(super) report: Report,
    pub(super) assessment: Option<Assessment>,
}

/// Weighs a provider's answer: voids what is not to be, takes what was only reserved for the time being, and
/// leaves the rest as it is. Safe to repeat: voids and captures are.
///
/// # Errors
/// The database's; the charge then stays in doubt.
pub(super) async fn weigh(app: &App, known: &Charge, report: Report) -> Result<Weighed> {
    let unchanged = |report| Ok(Weighed { report, assessment: None });
    let facts = match &report {
        Report::Succeeded { facts, .. } | Report::Authorized { facts, .. } => facts.clone(),
        _ => return unchanged(report),
    };
    if !known.state.is_open() || known.closing {
        return unchanged(report);
    }
    let rules = &app.settings.fraud;
    let merchant = known.merchant_id.as_str();
    // One that was known before has been compared before.
    let differ =
        known.card.country.is_none() && countries_differ(facts.issuer_country.as_deref(), billing_country(known));
    let found = rules.by_answer(known.livemode, merchant, known.assessment.as_ref(), &facts, differ);
    let found = match found {
        Some(found) if asks_for_review(&found) && is_for_escrow(app, known).await? => {
            Some(found.for_escrow_answered(&facts))
        }
        found => found,
    };
    match found {
        Some(assessment) if assessment.action == Action::Block => {
            if !store::fraud::close(app.store.pool(), &known.id, &assessment).await? {
                return unchanged(report);
            }
            tell(known, &assessment);
            crash_point!("weigh.noted");
            let answer = void(provider_of(app, known)?.as_ref(), known).await;
            crash_point!("weigh.voided");
            let report = match answer {
                Reversal::Done { reference } => {
                    Report::Declined { reason: DeclineReason::Fraudulent, reference: Some(reference), facts }
                }
                Reversal::NothingToReverse => {
                    Report::Declined { reason: DeclineReason::Fraudulent, reference: None, facts }
                }
                Reversal::Unknown { detail } => Report::Unknown { detail },
            };
            Ok(Weighed { report, assessment: Some(assessment) })
        }
        Some(assessment) if assessment.action == Action::Review => {
            if known.assessment.as_ref() != Some(&assessment) {
                tell(known, &assessment);
            }
            Ok(Weighed { report, assessment: Some(assessment) })
        }
        assessment => Ok(Weighed { report: take_if_held(app, known, report).await?, assessment }),
    }
}

fn asks_for_review(found: &Assessment) -> bool {
    found.action == Action::Review || found.instead_of == Some(Action::Review)
}

async fn is_for_escrow(app: &App, charge: &Charge) -> Result<bool> {
    let mut connection = app.store.pool().acquire().await?;
    Ok(store::session_acts::escrow_of(&mut connection, &charge.session_id).await?.is_some())
}

/// Takes money that was reserved only until the answer was weighed. What the merchant wants to take himself
/// stays reserved.
async fn take_if_held(app: &App, known: &Charge, report: Report) -> Result<Report> {
    let Report::Authorized { reference, facts } = report else { return Ok(report) };
    let pool = app.store.pool();
    let payment = store::payments::find_payment(pool, &known.merchant_id, known.livemode, &known.payment_id).await?;
    if payment.is_none_or(|payment| payment.capture_method == CaptureMethod::Manual) {
        return Ok(Report::Authorized { reference, facts });
    }
    let provider = provider_of(app, known)?;
    let captured = tokio::time::timeout(CHARGE_TIMEOUT, provider.capture(&charge_ref(known), known.total)).await;
    crash_point!("held.taken");
    Ok(match captured {
        Ok(CaptureReport::Captured { fee, .. }) => {
            Report::Succeeded { reference, facts: providers::Facts { fee, ..facts } }
        }
        // Somebody took a part past us: it is not what the payer agreed to, and all of it goes back.
        Ok(CaptureReport::TakenOtherwise { amount, .. }) => {
            tracing::error!(charge = %known.id, provider = known.provider, amount,
                "another amount than that of the payment was taken at the provider while the answer was weighed; it is given back");
            give_up_held(provider.as_ref(), known, reference).await
        }
        Ok(CaptureReport::Refused { detail }) => {
            tracing::warn!(charge = %known.id, provider = known.provider, detail, "the provider refused to take what it had just reserved");
            give_up_held(provider.as_ref(), known, reference).await
        }
        Ok(CaptureReport::Unknown { detail }) => Report::Unknown { detail },
        Err(_) => Report::Unknown { detail: "no answer within the time for a capture".to_owned() },
    })
}

async fn give_up_held(provider: &dyn Provider, known: &Charge, reference: String) -> Report {
    match void(provider, known).await {
        Reversal::Unknown { detail } => Report::Unknown { detail },
        Reversal::Done { .. } | Reversal::NothingToReverse => Report::Declined {
            reason: DeclineReason::ProcessingError,
            reference: Some(reference),
            facts: providers::Facts::default(),
        },
    }
}

/// How a charge failed that a rule refused: exact for the merchant, without a reason for the payer.
pub(super) fn blocked(assessment: &Assessment) -> ChargeFailure {
    ChargeFailure { message: assessment.merchant_message(), ..super::payments::failure(DeclineReason::Fraudulent) }
}
