//! What is done to escrows, whoever does it: the payer on his page, a payment, a refund, time.
//!
//! The rule: an act is one transaction that locks sessions (in the order of their ids), then the
//! escrow, then what the money hangs on; checks again what was checked when the session was made; and
//! writes history, books and events with the change. Money that goes back is a refund row first and is
//! asked for after the commit; `ops::refunds` brings the answer back in here.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::refunds;
use super::sessions::save_transition;
use super::{Announcements, count_ended, to_the_end};
use crate::app::App;
use crate::crash::crash_point;
use crate::domain::escrow::{Act, Actor, Escrow, EscrowPayment, Status};
use crate::domain::escrow_acts::{Request, Step};
use crate::domain::escrow_files::{FileKind, safe_file_name};
use crate::domain::id::{AttachmentId, EscrowId, SessionId};
use crate::domain::ledger::Movement;
use crate::domain::payment::{Charge, Refund, RefundState};
use crate::domain::refusal::Refusal;
use crate::domain::session::Session;
use crate::domain::session_acts::EscrowTicket;
use crate::error::{Error, Result};
use crate::store::escrow_evidence::{self, Attachment, Signature};
use crate::store::escrow_history::{self, Entry};
use crate::store::ledger::Booking;
use crate::store::{self, Connection};
use crate::wire::event::EventRequest;

/// Escrows completed in one round of the sweep.
const DUE_PER_ROUND: i64 = 100;

/// Longest text of a browser about itself that is kept as evidence.
const USER_AGENT_CHARS_MAX: usize = 400;

/// The rows that an act needs, locked in order.
pub(super) struct Locked {
    /// The session in which it is done.
    pub own: Option<Session>,
    /// The session whose payment filled the escrow.
    pub paid: Option<Session>,
    /// The escrow.
    pub escrow: Escrow,
}

/// Locks sessions in the order of their ids, then the escrow.
///
/// # Errors
/// `NotFound`, `Unavailable` when the escrow was paid in between, and the database's.
pub(super) async fn lock(connection: &mut Connection, id: &EscrowId, own: Option<&SessionId>) -> Result<Locked> {
    let paid_in = store::escrows::payment_session(connection, id).await?;
    let mut ids: Vec<&SessionId> = own.into_iter().chain(paid_in.as_ref()).collect();
    ids.sort();
    ids.dedup();
    let mut sessions = Vec::new();
    for id in ids {
        sessions.push(super::payments::lock(connection, id).await?);
    }
    let absent = || Error::not_found("escrow", id.as_str());
    let escrow = store::escrows::lock(connection, id).await?.ok_or_else(absent)?;
    if escrow.payment.as_ref().map(|payment| &payment.session_id) != paid_in.as_ref() {
        return Err(Error::Unavailable(format!("escrow {id} was paid while it was being locked; safe to repeat")));
    }
    let mut take = |wanted: Option<&SessionId>| {
        let place = sessions.iter().position(|session| Some(&session.id) == wanted)?;
        Some(sessions.swap_remove(place))
    };
    let own = take(own);
    let paid = take(paid_in.as_ref());
    Ok(Locked { own, paid, escrow })
}

/// Locks the escrow of a session that is locked already; none for a session without one.
///
/// # Errors
/// The database's.
pub(super) async fn lock_of(connection: &mut Connection, session: &Session) -> Result<Option<Escrow>> {
    let Some(ticket) = &session.escrow else { return Ok(None) };
    let absent = || Error::Internal(format!("session {} names an escrow that is not there", session.id));
    store::escrows::lock(connection, &ticket.escrow_id).await?.ok_or_else(absent).map(Some)
}

/// Who does what, for the history.
pub(super) struct Doing<'a> {
    pub act: &'a str,
    pub by: &'a str,
    pub from: Status,
    pub session: Option<&'a SessionId>,
    pub detail: Value,
}

async fn note(connection: &mut Connection, escrow: &mut Escrow, doing: Doing<'_>, now: DateTime<Utc>) -> Result<()> {
    let entry = Entry {
        act: doing.act,
        by: doing.by,
        from: doing.from.as_str(),
        to: escrow.state.status().as_str(),
        session: doing.session.map(SessionId::as_str),
        stands: json!({
            "completion_deadline": escrow.completion_deadline().map(crate::wire::escrow::evidence_time),
            "inspection_left_us": escrow.state.inspection_left().and_then(|left| left.num_microseconds()),
            "settled_lost": escrow.state.settlement().map_or(0, |parts| parts.lost),
            "amount_returned": escrow.returned_minor,
        }),
        detail: doing.detail,
    };
    escrow_history::append(connection, escrow, &entry, now).await
}

/// What stands against giving money back that the buyer's bank has taken: it cannot be given once more. What it forbids
/// beside that is judged with the act itself.
///
/// # Errors
/// The database's.
async fn disputed(connection: &mut Connection, step: &Step) -> Result<Option<Refusal>> {
    let Some(payment) = &step.escrow.payment else { return Ok(None) };
    let Some(amount) = step.refund else { return Ok(None) };
    let charge = store::payments::lock_charge(connection, &payment.charge_id).await?;
    Ok(charge
        .and_then(|charge| charge.refund(Some(amount), 0).err())
        .filter(|refusal| matches!(refusal, Refusal::ChargeDisputed { .. })))
}

/// Saves a step: books what is released, writes down what goes back, adds to the history, announces. The caller
/// appends the events and asks the provider for the refund after the commit.
///
/// # Errors
/// The database's.
pub(super) async fn save_step(
    connection: &mut Connection,
    step: Step,
    doing: Doing<'_>,
    paid: Option<&mut Session>,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<(Escrow, Option<Refund>)> {
    if let Some(refusal) = disputed(connection, &step).await? {
        return Err(refusal.into());
    }
    let Step { mut escrow, events, refund, release } = step;
    if let Some(parts) = release {
        let booking = Booking {
            merchant_id: &escrow.merchant_id,
            livemode: escrow.livemode,
            object_id: escrow.id.as_str(),
            currency: escrow.total.currency,
            at: now,
        };
        let released = Movement::Released { seller: parts.seller, merchant: parts.merchant };
        let lost = Movement::HeldLost { amount: parts.lost };
        for (movement, amount) in [(released, parts.released()), (lost, parts.lost)] {
            if amount > 0 {
                store::ledger::book(connection, &booking, movement).await?;
            }
        }
        crash_point!("step.released");
    }
    let mut made = None;
    if let Some(amount) = refund {
        let broken = || Error::Internal(format!("escrow {} has nothing to give back", escrow.id));
        let (session, payment) = paid.zip(escrow.payment.as_ref()).ok_or_else(broken)?;
        let charge = store::payments::lock_charge(connection, &payment.charge_id).await?.ok_or_else(broken)?;
        let metadata = [("escrow".to_owned(), escrow.id.to_string())].into();
        made = Some(refunds::write_down(connection, session, &charge, amount, metadata, announcements, now).await?);
        store::sessions::save(connection, &[session]).await?;
        crash_point!("step.owed");
    }
    note(connection, &mut escrow, doing, now).await?;
    for event in events {
        announcements.escrow(&mut escrow, event);
    }
    store::escrows::save(connection, &escrow).await?;
    crash_point!("step.saved");
    Ok((escrow, made))
}

/// Asks the provider for a refund that was written down. What is not answered now is asked again by the sweep.
pub(super) async fn ask_for(app: &App, refund: Option<Refund>) {
    let Some(refund) = refund else { return };
    if let Err(error) = refunds::repeat(app, &refund).await {
        tracing::error!(refund = %refund.id, error = ?error, "an escrow's refund could not be settled; it will be repeated");
    }
}

/// What a payer handed in with his act.
#[derive(Debug)]
pub struct HandedIn {
    /// What he wants.
    pub request: Request,
    /// His name under the contract, when he signs.
    pub name: Option<String>,
    /// From where.
    pub ip: Option<String>,
    /// With which browser, as it says.
    pub user_agent: Option<String>,
    /// What proves his address, and when it was proven.
    pub proof: Option<(String, DateTime<Utc>)>,
    /// Files with a dispute.
    pub files: Vec<HandedInFile>,
}

/// A file as it was handed in.
#[derive(Debug)]
pub struct HandedInFile {
    /// Its name, as the browser says.
    pub name: String,
    /// What it is, told by its content.
    pub kind: FileKind,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// Done, once.
    Done,
    /// Not done: the session had ended, or has ended as failed because the act has become impossible.
    Refused(Refusal),
}

/// Does the act that a session is for. Runs to its end even when the payer goes away.
///
/// # Errors
/// `NotFound`, and the database's.
pub async fn act(app: &Arc<App>, session: SessionId, handed_in: HandedIn) -> Result<Acted> {
    let inside = Arc::clone(app);
    to_the_end(app, async move { act_inside(&inside, &session, handed_in).await }).await
}

fn ticket(session: &Session) -> Result<&EscrowTicket> {
    session.escrow.as_ref().ok_or_else(|| Error::Internal(format!("session {} is for no act", session.id)))
}

async fn act_inside(app: &App, id: &SessionId, handed_in: HandedIn) -> Result<Acted> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let Some(escrow_id) = store::session_acts::escrow_of(&mut transaction, id).await? else {
        return Ok(Acted::Refused(Refusal::SessionOfAnotherAct));
    };
    let Locked { own, mut paid, escrow } = lock(&mut transaction, &escrow_id, Some(id)).await?;
    let own = own.ok_or_else(|| Error::not_found("checkout.session", id.as_str()))?;
    let EscrowTicket { act, party, .. } = *ticket(&own)?;
    if act != handed_in.request.act() {
        return Ok(Acted::Refused(Refusal::SessionOfAnotherAct));
    }
    let (mut own, kinds) = match own.clone().complete_act(now) {
        Ok(transition) => transition,
        Err(refusal) => return Ok(Acted::Refused(refusal)),
    };
    let from = escrow.state.status();
    let step = match escrow.perform(handed_in.request, party, now) {
        Ok(step) => step,
        Err(refusal) => {
            drop(transaction);
            end_if_impossible(app, id).await?;
            return Ok(Acted::Refused(refusal));
        }
    };
    if let Some(refusal) = disputed(&mut transaction, &step).await? {
        return Ok(Acted::Refused(refusal));
    }
    let mut detail = detail_of(act, &step.escrow);
    if act == Act::SignContract {
        let signature = Signature {
            escrow_id: escrow_id.clone(),
            party,
            email: own.target_user_email.clone().unwrap_or_default(),
            name: handed_in.name,
            signed_at: now,
            ip: handed_in.ip,
            user_agent: handed_in.user_agent.map(|text| text.chars().take(USER_AGENT_CHARS_MAX).collect()),
            proof: handed_in.proof,
            session_id: Some(own.id.clone()),
            contract_sha256: step.escrow.contract.as_ref().map_or([0; 32], |contract| contract.sha256),
        };
        detail = evidence(&signature);
        escrow_evidence::insert_signature(&mut transaction, &signature).await?;
    }
    for (place, file) in (1..).zip(handed_in.files) {
        let attachment = attached(&own, &escrow_id, party, place, &file, now);
        if let Some(files) = detail["files"].as_array_mut() {
            files.push(json!({
                "id": attachment.id.as_str(),
                "sha256": hex::encode(attachment.sha256),
                "file_name": attachment.file_name,
                "content_type": attachment.kind.content_type(),
                "size": attachment.size_bytes,
            }));
        }
        escrow_evidence::insert_attachment(&mut transaction, &attachment, &file.content).await?;
    }
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let doing = Doing { act: act.as_str(), by: party.as_str(), from, session: Some(id), detail };
    let (_, refund) = save_step(&mut transaction, step, doing, paid.as_mut(), &mut announcements, now).await?;
    announcements.session(&mut own, &kinds);
    store::sessions::save(&mut transaction, &[&own]).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    crash_point!("act.written");
    app.store.commit(transaction).await?;
    crash_point!("act.committed");
    count_ended(&own);
    app.hand_over(outgoing);
    ask_for(app, refund).await;
    Ok(Acted::Done)
}

fn attached(
    session: &Session,
    escrow_id: &EscrowId,
    party: Actor,
    place: i16,
    file: &HandedInFile,
    now: DateTime<Utc>,
) -> Attachment {
    Attachment {
        id: AttachmentId::generate(now),
        escrow_id: escrow_id.clone(),
        merchant_id: session.merchant_id.clone(),
        livemode: session.livemode,
        session_id: session.id.clone(),
        party,
        place,
        file_name: safe_file_name(&file.name, file.kind),
        kind: file.kind,
        sha256: Sha256::digest(&file.content).into(),
        size_bytes: i64::try_from(file.content.len()).unwrap_or(i64::MAX),
        created_at: now,
    }
}

/// What the history keeps of the deal that an escrow is made for.
pub(super) fn deal(escrow: &Escrow) -> Value {
    json!({
        "mode": escrow.mode.as_str(),
        "title": escrow.title,
        "amount": escrow.total.minor,
        "currency": escrow.total.currency.code(),
        "application_fee_amount": escrow.fee_minor,
        "buyer_email": escrow.buyer_email,
        "seller_email": escrow.seller_email,
        "estimated_delivery_days": escrow.estimated_delivery_days,
        "inspection_days": escrow.inspection_days,
        "contract_sha256": escrow.contract.as_ref().map(|contract| hex::encode(contract.sha256)),
    })
}

/// What the history keeps of a signature: all of its evidence, so that the chain covers it.
pub(super) fn evidence(signature: &Signature) -> Value {
    json!({
        "party": signature.party.as_str(),
        "email": signature.email,
        "name": signature.name,
        "ip": signature.ip,
        "user_agent": signature.user_agent,
        "email_proof": signature.proof.as_ref().map(|(id, _)| id),
        "email_proven_at": signature.proof.as_ref().map(|(_, at)| crate::wire::escrow::evidence_time(*at)),
        "contract_sha256": hex::encode(signature.contract_sha256),
    })
}

/// What the history keeps of an act beside who, when and from where to where.
pub(super) fn detail_of(act: Act, escrow: &Escrow) -> Value {
    let words = &escrow.words;
    let settlement = escrow.state.settlement().map(|parts| json!([parts.buyer, parts.seller, parts.merchant]));
    match act {
        Act::Dispute => json!({"reason": words.dispute_reason, "text": words.dispute_text, "files": []}),
        Act::RequestCancellation => json!({"reason": words.cancellation_reason}),
        Act::RejectCancellation => json!({"reason": words.cancellation_rejection_reason}),
        Act::Deliver => json!({"tracking_reference": words.tracking_reference, "note": words.delivery_note,
            "settlement": settlement}),
        Act::RejectDelivery => json!({"reason": words.delivery_rejection_reason}),
        Act::Resolve => json!({"resolution": words.resolution, "settlement": settlement}),
        _ => json!({"settlement": settlement}),
    }
}

/// Why the act of a session is not possible as the escrow stands now; none where it is. While a payment is in
/// flight nobody knows, so nothing is decided.
pub fn impossible(session: &Session, escrow: &Escrow, now: DateTime<Utc>) -> Option<Refusal> {
    let ticket = session.escrow.as_ref()?;
    escrow.check(ticket.act, Some(ticket.party), now).err()
}

/// Ends a session as failed when its act has become impossible. False when it has not, or cannot be told while a
/// payment is in flight.
///
/// # Errors
/// The database's.
pub async fn end_if_impossible(app: &App, id: &SessionId) -> Result<bool> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let session = super::payments::lock(&mut transaction, id).await?;
    let Some(escrow) = lock_of(&mut transaction, &session).await? else { return Ok(false) };
    match impossible(&session, &escrow, now) {
        None | Some(Refusal::EscrowPaymentProcessing) => return Ok(false),
        Some(_) => {}
    }
    let Ok(transition) = session.fail_act(now) else { return Ok(false) };
    let (_, outgoing) = save_transition(app, &mut transaction, transition, &EventRequest::default(), now).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    Ok(true)
}

/// An escrow with what its pages show.
///
/// # Errors
/// The database's.
pub async fn look(app: &App, session: &Session) -> Result<Escrow> {
    let escrow_id = &ticket(session)?.escrow_id;
    store::escrows::find(app.store.pool(), escrow_id)
        .await?
        .ok_or_else(|| Error::Internal(format!("session {} names an escrow that is not there", session.id)))
}

/// Keeps the escrow of a session for the payment that is about to be tried in it. The session is locked.
///
/// # Errors
/// The database's; inside, what stands against paying.
pub(super) async fn keep_for_payment(
    connection: &mut Connection,
    session: &Session,
    now: DateTime<Utc>,
) -> Result<Result<(), Refusal>> {
    let Some(escrow) = lock_of(connection, session).await? else { return Ok(Ok(())) };
    if !session.is_payment() {
        return Ok(Err(Refusal::SessionOfAnotherAct));
    }
    let from = escrow.state.status();
    let mut escrow = match escrow.start_payment(&session.id, now) {
        Ok(escrow) => escrow,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let doing = Doing {
        act: "payment_started",
        by: Actor::Buyer.as_str(),
        from,
        session: Some(&session.id),
        detail: json!({}),
    };
    note(connection, &mut escrow, doing, now).await?;
    store::escrows::save(connection, &escrow).await?;
    Ok(Ok(()))
}

/// The payment that an escrow was kept for was declined.
///
/// # Errors
/// The database's.
pub(super) async fn payment_declined(
    connection: &mut Connection,
    escrow: Escrow,
    charge: &Charge,
    now: DateTime<Utc>,
) -> Result<()> {
    let from = escrow.state.status();
    let mut escrow = escrow.payment_declined(&charge.session_id)?;
    let detail = json!({"charge": charge.id.as_str()});
    let doing = Doing { act: "payment_declined", by: "provider", from, session: Some(&charge.session_id), detail };
    note(connection, &mut escrow, doing, now).await?;
    store::escrows::save(connection, &escrow).await
}

/// The money of an escrow has been taken: it is held from now on. The caller has booked it.
///
/// # Errors
/// The database's.
pub(super) async fn payment_taken(
    connection: &mut Connection,
    escrow: Escrow,
    charge: &Charge,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let from = escrow.state.status();
    let payment = EscrowPayment {
        session_id: charge.session_id.clone(),
        payment_id: charge.payment_id.clone(),
        charge_id: charge.id.clone(),
    };
    let step = escrow.payment_taken(payment, now)?;
    let detail = json!({"charge": charge.id.as_str(), "amount": charge.total.minor});
    let act = Act::AcceptPay.as_str();
    let doing = Doing { act, by: Actor::Buyer.as_str(), from, session: Some(&charge.session_id), detail };
    save_step(connection, step, doing, None, announcements, now).await.map(|_| ())
}

/// The provider has given an escrow's money back, which the caller has booked, or refuses to.
///
/// # Errors
/// The database's.
pub(super) async fn refund_settled(
    connection: &mut Connection,
    escrow: Escrow,
    refund: &Refund,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let from = escrow.state.status();
    let (act, step) = match refund.state {
        RefundState::Pending => return Ok(()),
        RefundState::Succeeded => ("refunded", escrow.refunded(now)?),
        RefundState::Failed { .. } => ("refund_refused", escrow.refund_refused(now)?),
    };
    let detail = json!({"refund": refund.id.as_str(), "amount": refund.total.minor});
    let doing = Doing { act, by: "provider", from, session: None, detail };
    save_step(connection, step, doing, None, announcements, now).await.map(|_| ())
}

/// Completes escrows whose time for inspection is over. Gives the number completed.
///
/// # Errors
/// The database's; then none of the round was completed.
pub async fn complete_due(app: &App) -> Result<usize> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let due = store::escrows::lock_due(&mut transaction, now, DUE_PER_ROUND).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let request = EventRequest::default();
    let mut announcements = Announcements::new(&request, now);
    let mut completed = 0;
    for escrow in due {
        let from = escrow.state.status();
        let Ok(step) = escrow.perform(Request::CompleteWhenDue, Actor::Time, now) else { continue };
        let detail = detail_of(Act::CompleteWhenDue, &step.escrow);
        let act = Act::CompleteWhenDue.as_str();
        let doing = Doing { act, by: Actor::Time.as_str(), from, session: None, detail };
        save_step(&mut transaction, step, doing, None, &mut announcements, now).await?;
        completed += 1;
    }
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    crash_point!("due.written");
    app.store.commit(transaction).await?;
    crash_point!("due.committed");
    app.hand_over(outgoing);
    Ok(completed)
}
