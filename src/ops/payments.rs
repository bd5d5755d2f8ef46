//! Taking the money for a session.
//!
//! The rule: the charge is written down and committed before the provider is asked, the provider is
//! asked outside every transaction, and whatever is heard of it (answer, look-up, callback, the payer
//! coming back from his bank) enters through [`settle`], where the first to bring news moves the
//! state. A doubt is never answered by charging again; `ops::doubts` asks until there is none.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::failover::{self, Started};
use super::fraud::{self, Circumstances, Gate};
use super::references::charge_ref;
use super::saved_cards::{self, Instrument, Presented};
use super::{Announcements, count_ended, escrow_acts, mails, reviews, to_the_end};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::billing::BillingDetails;
use crate::domain::decline::DeclineReason;
use crate::domain::escrow::Escrow;
use crate::domain::fraud::Action;
use crate::domain::id::{ChargeId, PaymentId, SessionId};
use crate::domain::ledger::Movement;
use crate::domain::payment::{
    CaptureMethod, Charge, ChargeFailure, ChargeState, LOOK_UP_AFTER, Payment, PaymentStatus, UnderWay, next_look_up,
};
use crate::domain::refusal::Refusal;
use crate::domain::session::{Payer, Session, State};
use crate::error::{Error, Result};
use crate::mailer;
use crate::providers::{Authentication, CHARGE_TIMEOUT, Capture, ChargeRequest, Facts, Provider, Report, Reversal};
use crate::store::ledger::Booking;
use crate::store::together::{ChangedCharge, Changes, NewCharge};
use crate::store::{self, Connection, Transaction};
use crate::telemetry;
use crate::wire::event::EventRequest;

/// What became of a payer's try.
#[derive(Debug)]
pub enum Try {
    /// Paid or reserved, by this try or an earlier one.
    Paid,
    /// The payer has to prove to his bank that it is he.
    Authenticate,
    /// Not paid, for a reason the payer can act on.
    Declined(ChargeFailure),
    /// Nobody knows yet; the sweep finds out.
    InDoubt,
    /// The session could not be used: it had ended, or another payment was in flight.
    Refused(Refusal),
}

pub(super) fn failure(reason: DeclineReason) -> ChargeFailure {
    ChargeFailure {
        code: reason.code().to_owned(),
        decline_code: reason.decline_code().map(str::to_owned),
        message: reason.merchant_message().to_owned(),
        payer_message: reason.payer_message().to_owned(),
    }
}

/// Tries to pay a session with a card, typed or kept. The same attempt key again gives the same charge's outcome
/// and charges nothing. Runs to its end even when the payer goes away.
///
/// # Errors
/// `Unavailable` when no provider takes such a charge or the database is away, `ProvidersAway` when none of them
/// can be reached; then nothing was taken.
pub async fn pay(
    app: &Arc<App>,
    session: SessionId,
    payer: Payer,
    instrument: impl Into<Instrument>,
    attempt_key: String,
    circumstances: Circumstances,
) -> Result<Try> {
    let (inside, instrument) = (Arc::clone(app), instrument.into());
    to_the_end(app, async move { pay_inside(&inside, &session, payer, instrument, attempt_key, circumstances).await })
        .await
}

async fn pay_inside(
    app: &App,
    session_id: &SessionId,
    payer: Payer,
    instrument: Instrument,
    attempt_key: String,
    circumstances: Circumstances,
) -> Result<Try> {
    let started = match start(app, session_id, payer, instrument, attempt_key, circumstances).await? {
        Start::Charge(started) => started,
        Start::Known(known) => return Ok(known),
    };
    let mut started = *started;
    crash_point!("pay.committed");
    let asked = (started.route.provider.as_ref(), &mut started.request);
    match fraud::assess(app, &started.charge, &started.prepared, asked).await {
        Ok(Gate::Open) => {
            crash_point!("pay.judged");
            failover::charge(app, started).await
        }
        Ok(Gate::Shut) => {
            crash_point!("block.judged");
            drop(started.request.source.token().and_then(|token| app.vault.take(token)));
            let report =
                Report::Declined { reason: DeclineReason::Fraudulent, reference: None, facts: Facts::default() };
            settle(app, &started.charge.id, report).await
        }
        Err(error) => {
            drop(started.request.source.token().and_then(|token| app.vault.take(token)));
            Err(error)
        }
    }
}

enum Start {
    Charge(Box<Started>),
    Known(Try),
}

/// The first transaction: takes the session and writes the charge down.
async fn start(
    app: &App,
    session_id: &SessionId,
    payer: Payer,
    instrument: Instrument,
    attempt_key: String,
    circumstances: Circumstances,
) -> Result<Start> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let session = lock(&mut transaction, session_id).await?;
    // A session without a payment has had no attempt.
    if session.payment_id.is_some()
        && let Some(earlier) = store::payments::find_attempt(&mut transaction, session_id, &attempt_key).await?
    {
        return Ok(Start::Known(outcome(&earlier)));
    }
    let chosen = match saved_cards::choose(app, &mut transaction, &session, instrument, now).await? {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(Start::Known(Try::Refused(refusal))),
    };
    if session.is_usable(now)
        && let Err(refusal) = escrow_acts::keep_for_payment(&mut transaction, &session, now).await?
    {
        drop(transaction);
        escrow_acts::end_if_impossible(app, session_id).await?;
        return Ok(Start::Known(Try::Refused(refusal)));
    }
    let is_first = session.payment_id.is_none();
    let payment_id = session.payment_id.clone().unwrap_or_else(|| PaymentId::generate(now));
    let mut session = match session.start_charge(payer, payment_id.clone(), now) {
        Ok(session) => session,
        Err(refusal) => return Ok(Start::Known(Try::Refused(refusal))),
    };
    let authentication = Authentication::WhenRequired;
    let route = failover::choose(app, &session, (chosen.brand(), chosen.only_provider()), authentication, now)?;
    let Presented { source, method, card, bin, keep_for, pending } =
        chosen.present(app, &*route.provider, &session, now);
    let email = session.payer.as_ref().map(|payer| payer.email.clone()).unwrap_or_default();
    let owner = (&session.merchant_id, session.livemode);
    let mut prepared = fraud::prepare(app, owner, &card, bin, email, circumstances);
    prepared.is_for_escrow = session.escrow.is_some();
    let billing = session.payer.as_ref().map(billing_of).unwrap_or_default();
    let payment = new_payment(&session, payment_id.clone(), now);
    let charge = Charge {
        id: ChargeId::generate(now),
        merchant_id: session.merchant_id.clone(),
        livemode: session.livemode,
        payment_id,
        session_id: session.id.clone(),
        attempt_key,
        attempt_turn: 1,
        provider: route.provider.name().to_owned(),
        provider_reference: None,
        total: session.total,
        state: ChargeState::Pending,
        customer_id: session.customer_id.clone(),
        payment_method: method,
        keeps_card: pending.is_some(),
        billing,
        card,
        facts: Facts::default(),
        assessment: None,
        amount_captured: 0,
        amount_refunded: 0,
        disputed: false,
        amount_withdrawn: 0,
        overdrawn: false,
        fee: None,
        under_way: None,
        created_at: now,
        look_ups: 0,
        closing: false,
    };
    let (return_url, return_state_hash) = failover::way_back(app);
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    if is_first {
        announcements.payment(&mut session, "payment_intent.created", &payment, None);
    }
    let new = NewCharge {
        charge: &charge,
        look_up_at: now + LOOK_UP_AFTER,
        return_state_hash: &return_state_hash,
        keys: &prepared.keys,
    };
    let changes = Changes {
        session: &session,
        started: Some((&payment, new)),
        changed: None,
        bookings: &[],
        events: &announcements.into_events(),
        lease: &app.lease(now),
        now,
    };
    let saved = async {
        if let Some(pending) = &pending {
            store::payment_methods::save(&mut transaction, pending).await?;
        }
        store::together::save(&mut transaction, &changes).await
    }
    .await;
    crash_point!("pay.written");
    let committed = match saved {
        Ok(outgoing) => app.store.commit(transaction).await.map(|()| outgoing),
        Err(error) => Err(error),
    };
    match committed {
        Ok(outgoing) => app.hand_over(outgoing),
        Err(error) => {
            // The provider has not been asked and never will be with this card.
            drop(source.token().and_then(|token| app.vault.take(token)));
            return Err(error);
        }
    }
    let request = ChargeRequest {
        charge_id: charge.id.to_string(),
        money: charge.total,
        source,
        billing: charge.billing.clone(),
        keep_for,
        description: payment.description,
        livemode: charge.livemode,
        capture: match payment.capture_method {
            CaptureMethod::Automatic => Capture::Automatic,
            CaptureMethod::Manual => Capture::Manual,
        },
        authentication,
        return_url,
        statement_descriptor: payment.statement_descriptor,
    };
    Ok(Start::Charge(Box::new(Started { charge, request, route, prepared })))
}

/// What goes to the bank of what the payer said of himself.
fn billing_of(payer: &Payer) -> BillingDetails {
    BillingDetails {
        name: Some(payer.name.clone()).filter(|name| !name.is_empty()),
        email: Some(payer.email.clone()),
        address: payer.address.clone(),
    }
}

fn new_payment(session: &Session, id: PaymentId, now: DateTime<Utc>) -> Payment {
    Payment {
        id,
        merchant_id: session.merchant_id.clone(),
        livemode: session.livemode,
        session_id: session.id.clone(),
        customer_id: session.customer_id.clone(),
        setup_future_usage: session.options.saved_cards.future_usage,
        total: session.total,
        description: session.options.payment_description.clone(),
        receipt_email: session.options.receipt_email.clone(),
        metadata: session.options.payment_metadata.clone(),
        capture_method: session.options.capture_method,
        statement_descriptor: session.options.statement_descriptor.clone(),
        statement_descriptor_suffix: session.options.statement_descriptor_suffix.clone(),
        status: PaymentStatus::Processing,
        amount_received: 0,
        cancellation: None,
        created_at: now,
    }
}

pub(super) async fn lock(connection: &mut Connection, id: &SessionId) -> Result<Session> {
    store::sessions::lock(connection, id).await?.ok_or_else(|| Error::not_found("checkout.session", id.as_str()))
}

/// What a charge means for its payer.
pub fn outcome(charge: &Charge) -> Try {
    match &charge.state {
        ChargeState::Pending => Try::InDoubt,
        ChargeState::RequiresAction { .. } => Try::Authenticate,
        ChargeState::Authorized | ChargeState::Succeeded => Try::Paid,
        ChargeState::Failed(failure) => Try::Declined(failure.clone()),
        ChargeState::Reversed => Try::Declined(failure(DeclineReason::ProcessingError)),
    }
}

/// Takes news of a charge in, from whoever brings it. Safe to call any number of times: the first
/// definite report settles the charge, its payment and its session in one transaction.
///
/// # Errors
/// The database's; the charge then stays in doubt and the sweep asks again.
pub async fn settle(app: &App, charge_id: &ChargeId, report: Report) -> Result<Try> {
    let now = app.clock.now();
    let absent = || Error::not_found("charge", charge_id.as_str());
    let known = store::payments::find_charge(app.store.pool(), charge_id).await?.ok_or_else(absent)?;
    let weighed = fraud::weigh(app, &known, report).await?;
    let (state, reference, facts) = match weighed.report {
        Report::Succeeded { reference, facts } => (ChargeState::Succeeded, Some(reference), facts),
        Report::Authorized { reference, facts } => (ChargeState::Authorized, Some(reference), facts),
        Report::RequiresAction { reference, redirect_url } => {
            (ChargeState::RequiresAction { url: redirect_url }, Some(reference), Facts::default())
        }
        Report::Declined { reason, reference, facts } => (ChargeState::Failed(failure(reason)), reference, facts),
        Report::Reversed { reference } => {
            (ChargeState::Failed(failure(DeclineReason::ProcessingError)), Some(reference), Facts::default())
        }
        Report::Unavailable { .. } => (ChargeState::Failed(failover::unreachable()), None, Facts::default()),
        Report::Pending { .. } => return doubt(app, charge_id, "the provider has not decided", now).await,
        Report::Unknown { detail } => return doubt(app, charge_id, &detail, now).await,
    };
    let mut transaction = app.store.begin().await?;
    let session = store::sessions::lock_of_charge(&mut transaction, charge_id).await?.ok_or_else(absent)?;
    let escrow = escrow_acts::lock_of(&mut transaction, &session).await?;
    let charge = store::payments::lock_charge(&mut transaction, charge_id).await?.ok_or_else(absent)?;
    let payment = store::payments::lock_payment(&mut transaction, &charge.payment_id).await?.ok_or_else(absent)?;
    let takes_money = matches!(state, ChargeState::Succeeded | ChargeState::Authorized);
    let is_news = match (&charge.state, &state) {
        (ChargeState::RequiresAction { .. }, ChargeState::RequiresAction { .. }) => false,
        (open, _) => open.is_open(),
    };
    if !is_news || session.state != State::Processing {
        let is_known = matches!(charge.state, ChargeState::Succeeded | ChargeState::Authorized | ChargeState::Reversed);
        if !takes_money || is_known {
            return Ok(outcome(&charge));
        }
        let is_captured = state == ChargeState::Succeeded;
        let provider_reference = charge.provider_reference.clone().or(reference);
        let charge = Charge { provider_reference, ..charge };
        return give_back(app, transaction, session, charge, is_captured, now).await;
    }
    if charge.closing && !matches!(state, ChargeState::Failed(_)) {
        // It is being voided, which takes this money back; the void settles it.
        return Ok(Try::InDoubt);
    }
    let assessment = weighed.assessment.or(charge.assessment.clone());
    let is_blocked = assessment.as_ref().is_some_and(|assessment| assessment.action == Action::Block);
    let state = match (state, &assessment) {
        (ChargeState::Failed(_), Some(assessment)) if is_blocked => ChargeState::Failed(fraud::blocked(assessment)),
        (state, _) => state,
    };
    let provider_reference = reference.or(charge.provider_reference.clone());
    let mut charge = Charge { state, provider_reference, facts, assessment, ..charge };
    charge.card.country = charge.card.country.or_else(|| charge.facts.issuer_country.take());
    crash_point!("settle.locked");
    let outgoing = record(app, &mut transaction, (session, escrow), payment, &charge, now).await?;
    crash_point!("settle.recorded");
    app.store.commit(transaction).await?;
    crash_point!("settle.committed");
    app.hand_over(outgoing);
    let word = match charge.state {
        ChargeState::Failed(_) if is_blocked => "blocked",
        ChargeState::Failed(_) => "declined",
        ChargeState::RequiresAction { .. } => "requires_action",
        _ => "succeeded",
    };
    metrics::counter!(telemetry::CHARGES_TOTAL, "provider" => charge.provider.clone(), "outcome" => word).increment(1);
    Ok(outcome(&charge))
}

/// The second transaction: what the charge's new state means for payment, session, ledger and events.
async fn record(
    app: &App,
    connection: &mut Connection,
    (mut session, escrow): (Session, Option<Escrow>),
    mut payment: Payment,
    charge: &Charge,
    now: DateTime<Utc>,
) -> Result<Vec<store::outbox::Outgoing>> {
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let mut charge = charge.clone();
    let mut look_up_at = None;
    let mut moved: Vec<Movement> = Vec::new();
    let minor = charge.total.minor;
    match &charge.state {
        ChargeState::RequiresAction { .. } => {
            look_up_at = Some(now + LOOK_UP_AFTER);
            payment.status = PaymentStatus::RequiresAction;
            announcements.payment(&mut session, "payment_intent.requires_action", &payment, Some(&charge));
        }
        ChargeState::Succeeded | ChargeState::Authorized => {
            let is_captured = charge.state == ChargeState::Succeeded;
            let (next, kinds) = session.complete(is_captured, now)?;
            session = next;
            saved_cards::charge_succeeded(
                app,
                connection,
                &mut session,
                &mut payment,
                &mut charge,
                &mut announcements,
                now,
            )
            .await?;
            let movement = if is_captured {
                charge.amount_captured = minor;
                payment.status = PaymentStatus::Succeeded;
                payment.amount_received = minor;
                match &escrow {
                    Some(_) => Movement::Held { amount: minor },
                    None => Movement::Captured { authorized: 0, amount: minor },
                }
            } else {
                payment.status = PaymentStatus::RequiresCapture;
                Movement::Authorized { amount: minor }
            };
            moved.push(movement);
            if let (true, Some(fee)) = (is_captured, charge.facts.fee) {
                charge.fee = Some(fee.max(0));
                moved.extend((fee > 0).then_some(Movement::Fee { amount: fee }));
            }
            let review = reviews::open(app, connection, &mut charge, now).await?;
            announcements.charge(&mut session, "charge.succeeded", &charge);
            let kind =
                if is_captured { "payment_intent.succeeded" } else { "payment_intent.amount_capturable_updated" };
            announcements.payment(&mut session, kind, &payment, Some(&charge));
            if let Some(review) = review {
                let object = crate::wire::review::Review::new(&review);
                announcements.object(&mut session, "review.opened", review.id.as_str(), &object);
            }
            announcements.session(&mut session, &kinds);
            if let Some(escrow) = escrow {
                escrow_acts::payment_taken(connection, escrow, &charge, &mut announcements, now).await?;
            }
            if app.settings.receipts && is_captured {
                send_receipt(app, connection, &session, &charge, now).await?;
            }
        }
        ChargeState::Failed(_) | ChargeState::Reversed | ChargeState::Pending => {
            let (next, kinds) = session.decline(now)?;
            session = next;
            saved_cards::charge_failed(connection, &charge).await?;
            if let Some(escrow) = escrow {
                escrow_acts::payment_declined(connection, escrow, &charge, now).await?;
            }
            payment.status = PaymentStatus::RequiresPaymentMethod;
            announcements.charge(&mut session, "charge.failed", &charge);
            announcements.payment(&mut session, "payment_intent.payment_failed", &payment, Some(&charge));
            announcements.session(&mut session, &kinds);
            if session.state.ended_at().is_some() {
                payment.status = PaymentStatus::Canceled;
                payment.cancellation =
                    Some(crate::domain::payment::Cancellation { reason: Some("abandoned".to_owned()), at: now });
                announcements.payment(&mut session, "payment_intent.canceled", &payment, Some(&charge));
            }
        }
    }
    let changes = Changes {
        session: &session,
        started: None,
        changed: Some((&payment, ChangedCharge { charge: &charge, look_up_at })),
        bookings: &moved.into_iter().map(|movement| (booking(&charge, now), movement)).collect::<Vec<_>>(),
        events: &announcements.into_events(),
        lease: &app.lease(now),
        now,
    };
    let outgoing = store::together::save(connection, &changes).await?;
    count_ended(&session);
    Ok(outgoing)
}

pub(super) fn booking(charge: &Charge, now: DateTime<Utc>) -> Booking<'_> {
    Booking {
        merchant_id: &charge.merchant_id,
        livemode: charge.livemode,
        object_id: charge.id.as_str(),
        currency: charge.total.currency,
        at: now,
    }
}

async fn send_receipt(
    app: &App,
    connection: &mut Connection,
    session: &Session,
    charge: &Charge,
    now: DateTime<Utc>,
) -> Result<()> {
    let sender = mails::sender(connection, &session.merchant_id).await?;
    match mailer::receipt(session, charge, &sender, now) {
        Some(mail) => mails::post(app, connection, mail).await,
        None => Ok(()),
    }
}

/// Leaves a charge in doubt, says so once, and has it looked up soon.
async fn doubt(app: &App, charge_id: &ChargeId, detail: &str, now: DateTime<Utc>) -> Result<Try> {
    let known = store::payments::find_charge(app.store.pool(), charge_id)
        .await?
        .ok_or_else(|| Error::not_found("charge", charge_id.as_str()))?;
    if !known.state.is_open() {
        return Ok(outcome(&known));
    }
    tracing::warn!(charge = %known.id, provider = known.provider, detail,
        "the outcome of a charge is unknown; the provider will be asked again by its id");
    metrics::counter!(telemetry::CHARGES_TOTAL, "provider" => known.provider.clone(), "outcome" => "unknown")
        .increment(1);
    store::payments::look_up_soon(app.store.pool(), &known.id, next_look_up(now, 1)).await?;
    Ok(outcome(&known))
}

/// A provider took or reserved money for a charge that had been settled as not taken. That the money came and is
/// to go back is written down first; the void is repeated by the sweep until it has been answered.
async fn give_back(
    app: &App,
    mut transaction: Transaction,
    mut session: Session,
    charge: Charge,
    is_captured: bool,
    now: DateTime<Utc>,
) -> Result<Try> {
    tracing::error!(charge = %charge.id, session = %session.id, provider = charge.provider,
        "money came for a charge that had been settled as not taken; it is being given back");
    let amount = charge.total.minor;
    let charge = Charge {
        state: ChargeState::Reversed,
        amount_captured: if is_captured { amount } else { 0 },
        under_way: Some(UnderWay::Void),
        ..charge
    };
    let movement =
        if is_captured { Movement::Captured { authorized: 0, amount } } else { Movement::Authorized { amount } };
    store::ledger::book(&mut transaction, &booking(&charge, now), movement).await?;
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    announcements.charge(&mut session, "charge.updated", &charge);
    saved_cards::charge_failed(&mut transaction, &charge).await?;
    store::sessions::save(&mut transaction, &[&session]).await?;
    store::payments::save_charge(&mut transaction, &charge, Some(now + LOOK_UP_AFTER), now).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    super::captures::repeat_void(app, &charge).await?;
    Ok(outcome(&charge))
}

/// Asks the provider to hold no money for a charge, and waits for its answer no longer than for a charge.
pub(super) async fn void(provider: &dyn Provider, charge: &Charge) -> Reversal {
    match tokio::time::timeout(CHARGE_TIMEOUT, provider.void(&charge_ref(charge))).await {
        Ok(answer) => answer,
        Err(_) => Reversal::Unknown { detail: "no answer within the time for a void".to_owned() },
    }
}

/// The provider that a charge names.
pub(super) fn provider_of(app: &App, charge: &Charge) -> Result<Arc<dyn Provider>> {
    app.providers.by_name(&charge.provider).cloned().ok_or_else(|| {
        Error::Internal(format!("charge {} names provider `{}`, which is not configured", charge.id, charge.provider))
    })
}

/// The payer has come back from his bank, as far as he says: the provider is asked what became of it.
/// Gives the session to go on with.
///
/// # Errors
/// `NotFound` for a word that no charge waits for.
pub async fn come_back(app: &Arc<App>, return_state: &str) -> Result<SessionId> {
    let hash: [u8; 32] = Sha256::digest(return_state).into();
    let charge = store::payments::find_by_return_state(app.store.pool(), &hash)
        .await?
        .ok_or_else(|| Error::not_found("charge", ""))?;
    let session = charge.session_id.clone();
    if charge.state.is_open() {
        let inside = Arc::clone(app);
        crash_point!("return.believed");
        to_the_end(app, async move { super::doubts::look_up(&inside, &charge, inside.clock.now()).await }).await?;
    }
    Ok(session)
}
