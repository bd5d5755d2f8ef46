//! Taking the money for a session.
//!
//! The rule: the charge is written down and committed before the provider is asked, the provider is
//! asked outside every transaction, and whatever is heard of it (answer, look-up, callback) enters
//! through [`settle`], where the first to bring news moves the state. A doubt is never answered by
//! charging again; the sweep asks the provider until there is none.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;

use super::sessions::save_transition;
use super::{Caller, to_the_end};
use crate::app::App;
use crate::domain::decline::DeclineReason;
use crate::domain::id::{ChargeId, PaymentId, SessionId};
use crate::domain::payment::{
    Charge, ChargeFailure, ChargeState, GIVE_UP_AFTER, LOOK_UP_AFTER, Payment, PaymentStatus, next_look_up,
};
use crate::domain::refusal::Refusal;
use crate::domain::session::{Payer, Session, State};
use crate::error::{Error, Result};
use crate::mailer;
use crate::providers::{CHARGE_TIMEOUT, ChargeRequest, LookUp, Provider, Report, Reversal};
use crate::store;
use crate::telemetry;
use crate::vault::{EnteredCard, KeptCard};
use crate::wire::Expand;
use crate::wire::event::EventRequest;
use crate::wire::payment_intent::PaymentIntent;

/// Charges asked about in one round of the sweep.
const LOOK_UPS_PER_ROUND: i64 = 50;

/// Charges asked about side by side: half of what the pool of connections bears at least.
const LOOK_UPS_AT_ONCE: usize = 8;

/// What became of a payer's try.
#[derive(Debug)]
pub enum Try {
    /// Paid, by this try or an earlier one.
    Paid,
    /// Not paid, for a reason the payer can act on.
    Declined(ChargeFailure),
    /// Nobody knows yet; the sweep finds out.
    InDoubt,
    /// The session could not be used: it had ended, or another payment was in flight.
    Refused(Refusal),
}

fn failure(reason: DeclineReason) -> ChargeFailure {
    ChargeFailure {
        code: reason.code().to_owned(),
        decline_code: reason.decline_code().map(str::to_owned),
        message: reason.merchant_message().to_owned(),
        payer_message: reason.payer_message().to_owned(),
    }
}

/// Tries to pay a session with a card. The same attempt key again gives the same charge's outcome
/// and charges nothing. Runs to its end even when the payer goes away.
///
/// # Errors
/// `Unavailable` when no provider serves the mode or the database is away. When it went away after the
/// provider was asked, the sweep settles the charge.
pub async fn pay(
    app: &Arc<App>,
    session: SessionId,
    payer: Payer,
    card: EnteredCard,
    attempt_key: String,
) -> Result<Try> {
    let inside = Arc::clone(app);
    to_the_end(app, async move { pay_inside(&inside, &session, payer, card, attempt_key).await }).await
}

async fn pay_inside(
    app: &App,
    session_id: &SessionId,
    payer: Payer,
    card: EnteredCard,
    attempt_key: String,
) -> Result<Try> {
    let started = match start(app, session_id, payer, card, attempt_key).await? {
        Start::Charge(started) => started,
        Start::Known(known) => return Ok(known),
    };
    let Started { charge, request, provider } = *started;
    let report = match tokio::time::timeout(CHARGE_TIMEOUT, provider.charge(request)).await {
        Ok(report) => report,
        Err(_) => Report::Unknown { detail: "no answer within the time for a charge".to_owned() },
    };
    settle(app, &charge.id, report).await
}

struct Started {
    charge: Charge,
    request: ChargeRequest,
    provider: Arc<dyn Provider>,
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
    card: EnteredCard,
    attempt_key: String,
) -> Result<Start> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let session = lock(&mut transaction, session_id).await?;
    if let Some(earlier) = store::payments::find_attempt(&mut transaction, session_id, &attempt_key).await? {
        return Ok(Start::Known(outcome(&earlier)));
    }
    let provider = app
        .providers
        .for_mode(session.livemode)
        .cloned()
        .ok_or_else(|| Error::Unavailable("no payment provider is configured for this mode".to_owned()))?;
    let payment_id = session.payment_id.clone().unwrap_or_else(|| PaymentId::generate(now));
    let session = match session.start_charge(payer, payment_id.clone(), now) {
        Ok(session) => session,
        Err(refusal) => return Ok(Start::Known(Try::Refused(refusal))),
    };
    let KeptCard { token, mut summary, bin } = app.vault.keep(card);
    let facts = provider.issuer_facts(&bin);
    summary.funding = facts.funding;
    summary.country = facts.country;
    let payment = Payment {
        id: payment_id.clone(),
        merchant_id: session.merchant_id.clone(),
        livemode: session.livemode,
        session_id: session.id.clone(),
        total: session.total,
        description: session.options.payment_description.clone(),
        receipt_email: session.options.receipt_email.clone(),
        metadata: session.options.payment_metadata.clone(),
        created_at: now,
    };
    let charge = Charge {
        id: ChargeId::generate(now),
        merchant_id: session.merchant_id.clone(),
        livemode: session.livemode,
        payment_id,
        session_id: session.id.clone(),
        attempt_key,
        provider: provider.name().to_owned(),
        provider_reference: None,
        total: session.total,
        state: ChargeState::Pending,
        payment_method: token.as_str().to_owned(),
        card: summary,
        created_at: now,
        look_ups: 0,
        closing: false,
    };
    let saved = async {
        store::payments::insert_payment(&mut transaction, &payment).await?;
        store::payments::insert_charge(&mut transaction, &charge, now + LOOK_UP_AFTER).await?;
        store::sessions::save(&mut transaction, &[&session]).await
    }
    .await;
    let committed = match saved {
        Ok(()) => app.store.commit(transaction).await,
        Err(error) => Err(error),
    };
    if let Err(error) = committed {
        // The provider has not been asked and never will be with this card.
        drop(app.vault.take(&token));
        return Err(error);
    }
    let request = ChargeRequest {
        charge_id: charge.id.to_string(),
        money: charge.total,
        token,
        description: payment.description,
        livemode: charge.livemode,
    };
    Ok(Start::Charge(Box::new(Started { charge, request, provider })))
}

async fn lock(connection: &mut store::Connection, id: &SessionId) -> Result<Session> {
    store::sessions::lock(connection, id).await?.ok_or_else(|| Error::not_found("checkout.session", id.as_str()))
}

fn outcome(charge: &Charge) -> Try {
    match &charge.state {
        ChargeState::Pending => Try::InDoubt,
        ChargeState::Succeeded => Try::Paid,
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
    let (state, reference) = match report {
        Report::Succeeded { reference } => (ChargeState::Succeeded, Some(reference)),
        Report::Declined { reason, reference } => (ChargeState::Failed(failure(reason)), reference),
        Report::Reversed { reference } => {
            (ChargeState::Failed(failure(DeclineReason::ProcessingError)), Some(reference))
        }
        Report::Pending { .. } => {
            return doubt(app, &known, "the provider has not decided", now).await;
        }
        Report::Unknown { detail } => return doubt(app, &known, &detail, now).await,
    };
    let mut transaction = app.store.begin().await?;
    let session = lock(&mut transaction, &known.session_id).await?;
    let charge = store::payments::lock_charge(&mut transaction, charge_id).await?.ok_or_else(absent)?;
    if charge.state != ChargeState::Pending {
        drop(transaction);
        if state == ChargeState::Succeeded && charge.state != ChargeState::Succeeded {
            reverse(app, &charge).await?;
        }
        return Ok(outcome(&charge));
    }
    if charge.closing && state == ChargeState::Succeeded {
        // It is being voided, which takes this money back; the void settles it.
        return Ok(Try::InDoubt);
    }
    let transition = match &state {
        ChargeState::Succeeded => session.clone().complete(now),
        _ => session.clone().decline(now),
    };
    let Ok(transition) = transition else {
        // No path leads here while a live charge keeps its session in `processing`; should one ever
        // do, no money may be kept for a session that ended otherwise.
        drop(transaction);
        tracing::error!(charge = %charge.id, session = %session.id, state = session.state.name().as_str(),
            "a charge settled for a session that is not processing; its money is being given back");
        if state == ChargeState::Succeeded {
            reverse(app, &charge).await?;
        }
        return Ok(Try::InDoubt);
    };
    store::payments::settle_charge(&mut transaction, charge_id, &state, reference.as_deref(), now).await?;
    let status = match state {
        ChargeState::Succeeded => PaymentStatus::Succeeded,
        _ => PaymentStatus::RequiresPaymentMethod,
    };
    store::payments::save_status(&mut transaction, &charge.payment_id, status).await?;
    let (session, outgoing) = save_transition(app, &mut transaction, transition, &EventRequest::default(), now).await?;
    if let (State::Completed(_), true) = (session.state, app.settings.receipts) {
        send_receipt(&mut transaction, &session, &charge, now).await?;
    }
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    let word = if state == ChargeState::Succeeded { "succeeded" } else { "declined" };
    metrics::counter!(telemetry::CHARGES_TOTAL, "provider" => charge.provider.clone(), "outcome" => word).increment(1);
    Ok(outcome(&Charge { state, ..charge }))
}

/// A merchant's payment as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str, expand: &Expand) -> Result<PaymentIntent> {
    let absent = || Error::not_found("payment_intent", id);
    let parsed = PaymentId::parse(id).ok_or_else(absent)?;
    let pool = app.store.pool();
    let found = store::payments::find_payment(pool, &caller.merchant_id, caller.livemode, &parsed).await?;
    let (payment, status) = found.ok_or_else(absent)?;
    let latest = store::payments::latest_charge(pool, &payment.session_id).await?;
    Ok(PaymentIntent::new(&payment, status, latest.as_ref(), expand.wants("latest_charge")))
}

async fn send_receipt(
    connection: &mut store::Connection,
    session: &Session,
    charge: &Charge,
    now: DateTime<Utc>,
) -> Result<()> {
    let merchant = store::merchants::find(&mut *connection, &session.merchant_id).await?;
    let name = merchant.map(|merchant| merchant.name).unwrap_or_default();
    if let Some(mail) = mailer::receipt(session, charge, &name, now) {
        store::mails::insert(connection, &mail).await?;
    }
    Ok(())
}

/// Leaves a charge in doubt and has it looked up soon.
async fn doubt(app: &App, charge: &Charge, detail: &str, now: DateTime<Utc>) -> Result<Try> {
    if charge.state != ChargeState::Pending {
        return Ok(outcome(charge));
    }
    tracing::warn!(charge = %charge.id, provider = charge.provider, detail,
        "the outcome of a charge is unknown; the provider will be asked again by its id");
    metrics::counter!(telemetry::CHARGES_TOTAL, "provider" => charge.provider.clone(), "outcome" => "unknown")
        .increment(1);
    store::payments::look_up_soon(app.store.pool(), &charge.id, next_look_up(now, 1)).await?;
    Ok(Try::InDoubt)
}

/// Makes sure that the provider holds no money for a charge.
async fn reverse(app: &App, charge: &Charge) -> Result<()> {
    let provider = provider_of(app, charge)?;
    match provider.void(charge.id.as_str()).await {
        Reversal::Done { reference } => {
            tracing::warn!(charge = %charge.id, reference, "money taken for a charge that had been settled otherwise was given back");
            Ok(())
        }
        Reversal::NothingToReverse => Ok(()),
        Reversal::Unknown { detail } => Err(Error::Unavailable(format!(
            "charge {} must be given back at the provider and the void did not go through: {detail}",
            charge.id
        ))),
    }
}

fn provider_of(app: &App, charge: &Charge) -> Result<Arc<dyn Provider>> {
    app.providers.by_name(&charge.provider).cloned().ok_or_else(|| {
        Error::Internal(format!("charge {} names provider `{}`, which is not configured", charge.id, charge.provider))
    })
}

/// One round of the sweep: asks the providers about charges in doubt. Gives the number asked about.
///
/// # Errors
/// The database's. One charge that cannot be settled does not keep the others from it.
pub async fn look_up_doubts(app: &Arc<App>) -> Result<usize> {
    let now = app.clock.now();
    let doubts = store::payments::claim_look_ups(
        app.store.pool(),
        now,
        |look_ups| next_look_up(now, look_ups),
        LOOK_UPS_PER_ROUND,
    )
    .await?;
    // Side by side, so that one slow answer does not keep the others from theirs. A round that is dropped takes
    // its questions with it.
    let asked = doubts.len();
    let mut asking = JoinSet::new();
    for charge in doubts {
        if asking.len() >= LOOK_UPS_AT_ONCE {
            asking.join_next().await;
        }
        let app = Arc::clone(app);
        asking.spawn(async move {
            if let Err(error) = look_up(&app, &charge, now).await {
                tracing::error!(charge = %charge.id, error = ?error, "a charge in doubt could not be settled; it will be asked about again");
            }
        });
    }
    while asking.join_next().await.is_some() {}
    Ok(asked)
}

async fn look_up(app: &App, charge: &Charge, now: DateTime<Utc>) -> Result<()> {
    let provider = provider_of(app, charge)?;
    if charge.closing {
        return close(app, charge, provider.as_ref()).await;
    }
    let answer = tokio::time::timeout(CHARGE_TIMEOUT, provider.look_up(charge.id.as_str())).await;
    match answer.unwrap_or(LookUp::Unknown) {
        LookUp::Found(report @ (Report::Succeeded { .. } | Report::Declined { .. } | Report::Reversed { .. })) => {
            settle(app, &charge.id, report).await?;
        }
        LookUp::Found(Report::Pending { .. } | Report::Unknown { .. }) | LookUp::Unknown => {}
        // The provider does not know the charge. A call may still be under way, so the charge is closed
        // with a void first: after that no money can be taken under its id. Where a void cannot come
        // before its charge, only time closes it.
        LookUp::NotFound if provider.capabilities().void_in_advance || now - charge.created_at >= GIVE_UP_AFTER => {
            close(app, charge, provider.as_ref()).await?;
        }
        LookUp::NotFound => {}
    }
    Ok(())
}

/// Voids a charge and settles it as not taken. That it is to be voided is written down first, under the row's
/// lock: a success that is heard of between the two must not complete the session, for the void takes its
/// money back.
async fn close(app: &App, charge: &Charge, provider: &dyn Provider) -> Result<()> {
    if !store::payments::close(app.store.pool(), &charge.id).await? {
        return Ok(());
    }
    match provider.void(charge.id.as_str()).await {
        Reversal::Done { reference } => {
            settle(app, &charge.id, Report::Reversed { reference }).await?;
        }
        Reversal::NothingToReverse => {
            let reason = DeclineReason::ProcessingError;
            settle(app, &charge.id, Report::Declined { reason, reference: None }).await?;
        }
        Reversal::Unknown { .. } => {}
    }
    Ok(())
}
