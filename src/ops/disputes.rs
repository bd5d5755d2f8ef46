//! Disputes: taken in as providers tell of them, answered as merchants want.
//!
//! The rule: however a dispute is heard of (a message, a sweep, the answer to an answer), it is read from its
//! provider and enters through [`take_in`], which books what it moved once. An answer to the bank is
//! written down before the provider is asked, and repeated until it has been taken.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::payments::{booking, provider_of};
use super::references::charge_ref;
use super::refunds::{self, RefundOf};
use super::replay::{Answer, Write};
use super::{Announcements, Caller, doubts, escrow_acts, test_mode};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::dispute::{self, Dispute, DisputeAnswer, DisputeNews, DisputeStatus, Evidence, Heard};
use crate::domain::id::{ChargeId, DisputeId};
use crate::domain::payment::{Charge, ChargeState, LOOK_UP_AFTER, UnderWay};
use crate::domain::refusal::Refusal;
use crate::domain::session::Metadata;
use crate::error::{Error, Result};
use crate::providers::{CHARGE_TIMEOUT, DisputeLookUp, DisputeRequest, Provider};
use crate::store::ListFilter;
use crate::store::{self, Page};
use crate::wire::event::EventRequest;
use crate::wire::{self, List};

fn render(app: &App, dispute: &Dispute) -> wire::dispute::Dispute {
    wire::dispute::Dispute::new(dispute, app.clock.now())
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<Dispute> {
    let absent = || Error::not_found("dispute", id);
    let parsed = DisputeId::parse(id).ok_or_else(absent)?;
    store::disputes::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed).await?.ok_or_else(absent)
}

/// A merchant's dispute as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<wire::dispute::Dispute> {
    Ok(render(app, &find(app, caller, id).await?))
}

/// A page of a merchant's disputes.
///
/// # Errors
/// The database's.
pub async fn list(
    app: &App,
    caller: &Caller,
    filter: &ListFilter,
    page: &Page,
) -> Result<List<wire::dispute::Dispute>> {
    let pool = app.store.pool();
    let mut rows = store::disputes::list(pool, &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/disputes", rows.iter().map(|dispute| render(app, dispute)).collect(), has_more))
}

/// What a merchant says about a dispute.
#[derive(Debug, Default)]
pub struct Reply {
    /// Texts to set, or to take out.
    pub evidence: Vec<(String, Option<String>)>,
    /// Asks for the provider.
    pub answer: Option<DisputeAnswer>,
}

/// Notes evidence and metadata, and answers the bank where that is wanted.
///
/// # Errors
/// `NotFound`, `Refused` once the bank waits no more, those of `change`, and of the idempotency key. A provider
/// that does not answer is no error: the answer goes on by itself.
pub async fn reply(
    app: &App,
    write: &Write,
    id: &str,
    reply: Reply,
    change: impl FnOnce(&Evidence, &mut Metadata) -> Result<()>,
) -> Result<Answer> {
    let known = find(app, &write.caller, id).await?;
    let mut made = None;
    let answer = write
        .once(app, async |connection, now| {
            let absent = || Error::not_found("dispute", known.id.as_str());
            let session = store::sessions::lock_of_charge(connection, &known.charge_id).await?;
            let mut session = session.ok_or_else(absent)?;
            store::payments::lock_charge(connection, &known.charge_id).await?.ok_or_else(absent)?;
            let locked =
                store::disputes::lock_by_reference(connection, &known.provider, &known.provider_reference).await?;
            let mut dispute = locked.ok_or_else(absent)?;
            dispute.note_evidence(reply.evidence)?;
            if let Some(answer) = reply.answer {
                dispute.answer(answer)?;
            }
            change(&dispute.evidence, &mut dispute.metadata)?;
            store::disputes::save(connection, &dispute, Some(now + LOOK_UP_AFTER)).await?;
            let object = wire::dispute::Dispute::new(&dispute, now);
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            announcements.object(&mut session, dispute::UPDATED, dispute.id.as_str(), &object);
            store::sessions::save(connection, &[&session]).await?;
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            made = reply.answer.map(|_| dispute);
            crash_point!("dispute.written");
            Ok((Answer::new(&object), outgoing))
        })
        .await?;
    let Some(dispute) = made.filter(|_| !answer.replayed) else { return Ok(answer) };
    crash_point!("dispute.committed");
    repeat(app, &dispute).await?;
    let answer = Answer::new(&retrieve(app, &write.caller, dispute.id.as_str()).await?);
    write.keep_instead(app, &answer).await?;
    Ok(answer)
}

/// Answers the bank through the provider, as often as it takes, and takes in how the dispute stands then.
///
/// # Errors
/// The database's.
pub(super) async fn repeat(app: &App, dispute: &Dispute) -> Result<()> {
    let Some(asked) = dispute.under_way else { return Ok(()) };
    let absent = || Error::not_found("charge", dispute.charge_id.as_str());
    let charge = store::payments::find_charge(app.store.pool(), &dispute.charge_id).await?.ok_or_else(absent)?;
    let provider = provider_of(app, &charge)?;
    let (known, reference) = (charge_ref(&charge), dispute.provider_reference.as_str());
    let answering = async {
        match asked {
            DisputeAnswer::Submit => provider.submit_evidence(&known, reference, &dispute.evidence).await,
            DisputeAnswer::Close => provider.close_dispute(&known, reference).await,
        }
    };
    let answer = tokio::time::timeout(CHARGE_TIMEOUT, answering).await;
    crash_point!("dispute.answered");
    match answer.unwrap_or_else(|_| DisputeLookUp::Unknown { detail: "no answer in time".to_owned() }) {
        DisputeLookUp::Found(news) => take_in(app, &charge.id, reference, &news, Some(asked)).await.map(|_| ()),
        DisputeLookUp::NotFound => {
            tracing::error!(dispute = %dispute.id, charge = %charge.id, provider = charge.provider,
                "the provider does not know a dispute that it told of; a person must look");
            Ok(())
        }
        DisputeLookUp::Unknown { detail } => {
            tracing::warn!(dispute = %dispute.id, charge = %charge.id, provider = charge.provider, detail,
                "whether an answer to a dispute was taken is unknown; it will be repeated");
            Ok(())
        }
    }
}

/// Whether word of a dispute was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It was, or is about nothing of ours.
    Taken,
    /// Not now: it has to be told again.
    Again,
}

/// Somebody says that there is news of a dispute: it is read from the provider and taken in.
///
/// # Errors
/// The database's.
pub(super) async fn hear(app: &App, charge: &Charge, reference: &str) -> Result<Word> {
    if charge.state.is_open() {
        // A dispute is proof of a charge whose answer was lost.
        doubts::look_up(app, charge, app.clock.now()).await?;
    }
    let provider = provider_of(app, charge)?;
    let known = charge_ref(charge);
    let looked_up = tokio::time::timeout(CHARGE_TIMEOUT, provider.look_up_dispute(&known, reference)).await;
    match looked_up {
        Ok(DisputeLookUp::Found(news)) => take_in(app, &charge.id, reference, &news, None).await,
        Ok(DisputeLookUp::NotFound) => Ok(Word::Taken),
        Ok(DisputeLookUp::Unknown { detail }) => {
            tracing::warn!(charge = %charge.id, provider = charge.provider, detail, "a dispute cannot be read now");
            Ok(Word::Again)
        }
        Err(_) => Ok(Word::Again),
    }
}

fn opened(charge: &Charge, reference: &str, news: &DisputeNews, now: DateTime<Utc>) -> Dispute {
    let first = if news.withdrawn > 0 { DisputeStatus::NeedsResponse } else { DisputeStatus::WarningNeedsResponse };
    Dispute {
        id: DisputeId::generate(now),
        merchant_id: charge.merchant_id.clone(),
        livemode: charge.livemode,
        charge_id: charge.id.clone(),
        payment_id: charge.payment_id.clone(),
        provider: charge.provider.clone(),
        provider_reference: reference.to_owned(),
        total: news.money,
        reason: news.reason.clone(),
        // One that is over when it is first heard of is announced as begun, then as ended.
        status: news.status.filter(|status| !status.is_closed()).unwrap_or(first),
        amount_withdrawn: 0,
        amount_reinstated: 0,
        fee: None,
        evidence: Evidence::new(),
        evidence_due_by: news.evidence_due_by,
        submission_count: news.submissions.unwrap_or(0),
        metadata: Metadata::new(),
        under_way: None,
        created_at: now,
        closed_at: None,
        look_ups: 0,
    }
}

/// Takes in how a dispute stands: the row, the charge, the books and the events in one transaction. Safe to call
/// any number of times, in any order. `answered` is what the provider was asked for, once it has taken it.
///
/// # Errors
/// The database's.
async fn take_in(
    app: &App,
    charge_id: &ChargeId,
    reference: &str,
    news: &DisputeNews,
    answered: Option<DisputeAnswer>,
) -> Result<Word> {
    let now = app.clock.now();
    let absent = || Error::not_found("charge", charge_id.as_str());
    let mut transaction = app.store.begin().await?;
    let mut session = store::sessions::lock_of_charge(&mut transaction, charge_id).await?.ok_or_else(absent)?;
    let escrow = escrow_acts::lock_of(&mut transaction, &session).await?;
    let mut charge = store::payments::lock_charge(&mut transaction, charge_id).await?.ok_or_else(absent)?;
    if charge.amount_captured == 0 {
        let may_yet_be = charge.state.is_open()
            || (charge.state == ChargeState::Authorized && matches!(charge.under_way, Some(UnderWay::Capture { .. })));
        if !may_yet_be {
            tracing::error!(charge = %charge.id, provider = charge.provider, reference,
                "a payer disputes a charge that took nothing by our books; a person must look");
        }
        return Ok(if may_yet_be { Word::Again } else { Word::Taken });
    }
    if news.money.currency != charge.total.currency {
        tracing::error!(charge = %charge.id, provider = charge.provider, reference,
            "a dispute is in another currency than its charge; a person must look");
        return Ok(Word::Taken);
    }
    let locked = store::disputes::lock_by_reference(&mut transaction, &charge.provider, reference).await?;
    if locked.as_ref().is_some_and(|dispute| dispute.charge_id != charge.id) {
        tracing::error!(charge = %charge.id, provider = charge.provider, reference, "a dispute is another charge's; a person must look");
        return Ok(Word::Taken);
    }
    let is_new = locked.is_none();
    let mut dispute = locked.unwrap_or_else(|| opened(&charge, reference, news, now));
    let before = (dispute.outstanding(), dispute.under_way, dispute.fee);
    let Heard { movements, mut events, contradicts } = dispute.hear(news, now);
    if contradicts {
        tracing::error!(dispute = %dispute.id, charge = %charge.id, provider = charge.provider,
            "the provider tells another end of a dispute than before; what it told first stays in the books, and a person must look");
    }
    if answered.is_some() && dispute.under_way == answered {
        dispute.under_way = None;
    }
    if is_new {
        events.insert(0, dispute::CREATED);
    }
    if events.is_empty() && movements.is_empty() && (before.1, before.2) == (dispute.under_way, dispute.fee) {
        return Ok(Word::Taken);
    }
    charge.disputed = true;
    charge.amount_withdrawn = charge.amount_withdrawn.saturating_add(dispute.outstanding() - before.0);
    if charge.note_overdrawn() {
        tracing::error!(dispute = %dispute.id, charge = %charge.id, provider = charge.provider,
            "the provider withdrew more than was left of a charge; a person must look");
    }
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let object = wire::dispute::Dispute::new(&dispute, now);
    for kind in &events {
        announcements.object(&mut session, kind, dispute.id.as_str(), &object);
    }
    // The row first: nothing is booked for a dispute that turns out to be another's.
    store::disputes::save(&mut transaction, &dispute, Some(now + LOOK_UP_AFTER)).await?;
    for movement in movements {
        let mut entry = booking(&charge, now);
        entry.object_id = dispute.id.as_str();
        store::ledger::book(&mut transaction, &entry, movement).await?;
    }
    store::payments::save_disputed(&mut transaction, &charge).await?;
    store::sessions::save(&mut transaction, &[&session]).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    crash_point!("dispute.recorded");
    app.store.commit(transaction).await?;
    crash_point!("dispute.taken");
    app.hand_over(outgoing);
    let (status, reason) = (dispute.status.as_str(), dispute.reason.as_str());
    tracing::warn!(dispute = %dispute.id, charge = %charge.id, provider = charge.provider, status, reason, "a payer disputes a charge");
    if let Some(escrow) = escrow {
        tracing::error!(escrow = %escrow.id, dispute = %dispute.id, status,
            "the money of an escrow is disputed at the buyer's bank: it is not released while that is open; if it is lost, the merchant decides with resolve");
    }
    Ok(Word::Taken)
}

/// Takes in what companies have to tell that send no messages. One that cannot be taken in is told again, and does
/// not keep the others from it.
pub async fn collect(app: &App) {
    for registered in app.providers.all() {
        let provider = &registered.provider;
        for unheard in provider.unheard_disputes().await {
            match hear_of(app, provider, &unheard.charge_id, &unheard.reference).await {
                Ok(Word::Taken) => provider.dispute_heard(&unheard.reference).await,
                Ok(Word::Again) => {}
                Err(error) => {
                    tracing::error!(charge = unheard.charge_id, error = ?error, "a dispute could not be taken in; the next beat tries again");
                }
            }
        }
    }
}

async fn hear_of(app: &App, provider: &Arc<dyn Provider>, charge_id: &str, reference: &str) -> Result<Word> {
    let Some(id) = ChargeId::parse(charge_id) else { return Ok(Word::Taken) };
    let found = store::payments::find_charge(app.store.pool(), &id).await?;
    match found.filter(|charge| charge.provider == provider.name()) {
        Some(charge) => hear(app, &charge, reference).await,
        None => Ok(Word::Taken),
    }
}

/// Disputes a charge in its payer's place, at a simulated company, and takes that in as if it had told us.
///
/// # Errors
/// `NotFound`, `Refused` where so much is not left, and those of the idempotency key.
pub async fn open_for_test(app: &App, write: &Write, of: &RefundOf, opening: Opening) -> Result<Answer> {
    if let Some(earlier) = write.earlier_answer(app).await? {
        return Ok(earlier);
    }
    let charge = refunds::charge_of(app, &write.caller, of).await?;
    let provider = provider_of(app, &charge)?;
    let request = DisputeRequest {
        charge: charge_ref(&charge),
        key: test_mode::attempt_key(write),
        amount: opening.amount,
        reason: opening.reason,
    };
    let Some(reference) = provider.open_dispute(request).await else {
        return Err(match opening.amount {
            Some(asked) if asked > charge.kept() && charge.kept() > 0 => {
                Refusal::RefundTooLarge { available: charge.kept() }.into()
            }
            Some(asked) if asked < 1 => Refusal::AmountTooSmall.into(),
            _ if charge.amount_withdrawn > 0 => Refusal::ChargeDisputed { available: charge.kept().max(0) }.into(),
            _ if charge.amount_captured > 0 => Refusal::ChargeAlreadyRefunded.into(),
            _ => Refusal::ChargeNotRefundable.into(),
        });
    };
    if hear(app, &charge, &reference).await? == Word::Taken {
        provider.dispute_heard(&reference).await;
    }
    let taken = store::disputes::find_by_reference(app.store.pool(), &charge.provider, &reference).await?;
    let dispute =
        taken.ok_or_else(|| Error::Unavailable(format!("the dispute of charge {} is on its way", charge.id)))?;
    let answer = Answer::new(&render(app, &dispute));
    write.once(app, async |_, _| Ok((answer.clone(), Vec::new()))).await
}

/// How a test disputes.
#[derive(Debug)]
pub struct Opening {
    /// Minor units; all that is left unless given.
    pub amount: Option<i64>,
    /// One of [`dispute::REASONS`].
    pub reason: String,
}

/// The charge that a provider's message about a dispute means.
///
/// # Errors
/// The database's.
pub(super) async fn charge_of(app: &App, provider: &Arc<dyn Provider>, reference: &str) -> Result<Option<Charge>> {
    store::payments::find_by_reference(app.store.pool(), provider.name(), reference).await
}
