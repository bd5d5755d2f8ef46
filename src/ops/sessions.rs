//! Checkout sessions: made, read, changed and ended.
//!
//! A session is made in one statement (`store::sessions::create`), under load together with others
//! (`batching`); every other change locks its row.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};

use super::replay::{Answer, Write};
use super::{Announcements, Caller, batching, count_ended, customers};
use crate::app::{App, MailRoad};
use crate::domain::id::{LineItemId, SessionId};
use crate::domain::payment::{self, Cancellation, Payment, PaymentStatus};
use crate::domain::pricing::PricedCart;
use crate::domain::refusal::Refusal;
use crate::domain::session::{
    LifetimeError, Line, Metadata, Options, Session, SessionEvent, State, Transition, WaysBack, deadline,
};
use crate::error::{Error, Result};
use crate::queue::Made;
use crate::store::sessions::{Creation, Filter, PageSession};
use crate::store::{self, Connection, Page};
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::event::EventRequest;
use crate::wire::line_item::LineItem;
use crate::wire::payment_intent::PaymentIntent;
use crate::wire::{Expand, Expandable, List};

/// A session as a merchant asks for it, checked by the door.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The cart with its prices.
    pub cart: PricedCart,
    /// The ways back, covered by the allow-list.
    pub ways_back: WaysBack,
    /// The merchant's own reference.
    pub client_reference_id: Option<String>,
    /// The customer's id, as it was sent.
    pub customer: Option<String>,
    /// The e-mail address that the merchant knows.
    pub customer_email: Option<String>,
    /// The one who may act, after he has proven that he reads mail there.
    pub target_user_email: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Everything that decides nothing.
    pub options: Options,
    /// The deadline asked for.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The hosted page's URL.
pub fn page_url(app: &App, session: &SessionId) -> String {
    format!("{}/c/{}", app.settings.public_url, app.keyring.payer_token(session))
}

/// The deadline of a new session.
///
/// # Errors
/// `Invalid` when the one asked for is out of bounds.
pub(super) fn lifetime(ceiling: Duration, asked: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    deadline(asked, ceiling, now).map_err(|error| {
        let message = match error {
            LifetimeError::TooShort => "`expires_at` must be at least 1 minute from now.".to_owned(),
            LifetimeError::TooLong => {
                format!("`expires_at` must be at most {} minutes from now.", ceiling.num_minutes())
            }
        };
        Error::invalid("parameter_invalid", "expires_at", message)
    })
}

/// Refuses a session for one user where nobody could send him a code.
///
/// # Errors
/// `Invalid` when the gateway sends no mail.
pub(super) fn must_be_reachable(app: &App, target: Option<&str>) -> Result<()> {
    if target.is_some() && app.settings.mail == MailRoad::Off {
        let message = "`target_user_email` needs a gateway that sends mail, and this one has no mail server (`smtp_host`). Nothing was created.";
        return Err(Error::invalid("parameter_unsupported", "target_user_email", message));
    }
    Ok(())
}

/// Makes a session.
///
/// # Errors
/// `Invalid` for a deadline out of bounds, those of the idempotency key, and the database's.
pub async fn create(app: &App, write: &Write, new: NewSession, expand: &Expand) -> Result<Answer> {
    let now = app.clock.now();
    let expires_at = lifetime(app.settings.session_lifetime_max, new.expires_at, now)?;
    must_be_reachable(app, new.target_user_email.as_deref())?;
    let caller = &write.caller;
    let customer_id = match &new.customer {
        Some(id) => Some(Box::pin(customers::named(app, caller, "customer", id)).await?),
        None => None,
    };
    let lines = new.cart.lines.iter().map(|priced| Line { id: LineItemId::generate(now), priced: priced.clone() });
    let mut session = Session {
        id: SessionId::generate(now, caller.livemode),
        merchant_id: caller.merchant_id.clone(),
        livemode: caller.livemode,
        state: State::Pending,
        total: new.cart.total(),
        subtotal_minor: new.cart.amount_subtotal,
        lines: lines.collect(),
        ways_back: new.ways_back,
        client_reference_id: new.client_reference_id,
        customer_email: new.customer_email,
        customer_id,
        target_user_email: new.target_user_email,
        payer: None,
        metadata: new.metadata,
        options: new.options,
        escrow: None,
        payment_id: None,
        tries: 0,
        event_count: 0,
        created_at: now,
        expires_at,
        opened_at: None,
        paid_at: None,
    };
    let cause = write.cause();
    let mut announcements = Announcements::new(&cause, now);
    announcements.session(&mut session, &[SessionEvent::Created]);
    let event = announcements
        .into_events()
        .into_iter()
        .next()
        .ok_or_else(|| Error::Internal("a creation has one event".to_owned()))?;
    let answer = if session.customer_id.is_some() && expand.wants("customer") {
        let mut connection = app.store.pool().acquire().await?;
        Answer::new(&Box::pin(render(app, &mut connection, &session, expand)).await?)
    } else {
        Answer::new(&CheckoutSession::new(&session, Some(page_url(app, &session.id)), None, expand))
    };
    let creation = Creation { reply: write.reply(app, &answer), session, event };
    let made = match &app.batches.creations {
        Some(queue) => queue.ask(creation).await,
        None => Box::pin(make_alone(app, creation)).await,
    };
    match made.map_err(|error| in_use(error, write))? {
        Made::Done => Ok(answer),
        Made::KeyTaken => Box::pin(write.answer_of_the_winner(app)).await,
    }
}

async fn make_alone(app: &App, creation: Creation) -> Result<Made> {
    let mut connection = app.store.pool().acquire().await?;
    Ok(batching::make(app, &mut connection, &creation).await?)
}

/// A lock time-out while storing a key means that its first request is still running.
fn in_use(error: Error, write: &Write) -> Error {
    match (&error, &write.idempotency) {
        (Error::Unavailable(detail), Some(idempotency)) if detail.contains("lock timeout") => {
            Error::IdempotencyInUse(idempotency.key.clone())
        }
        _ => error,
    }
}

/// A session's JSON, with the payment where `expand` asks for it.
pub(super) async fn render(
    app: &App,
    connection: &mut Connection,
    session: &Session,
    expand: &Expand,
) -> Result<CheckoutSession> {
    let payment = match &session.payment_id {
        Some(id) if expand.wants("payment_intent") => {
            let merchant = &session.merchant_id;
            let found = store::payments::find_payment(&mut *connection, merchant, session.livemode, id).await?;
            let latest = store::payments::latest_charge(&mut *connection, &session.id).await?;
            let expand_charge = expand.wants("payment_intent.latest_charge");
            found.map(|payment| PaymentIntent::new(&payment, latest.as_ref(), expand_charge))
        }
        _ => None,
    };
    let mut object = CheckoutSession::new(session, Some(page_url(app, &session.id)), payment, expand);
    if let (Some(id), true) = (&session.customer_id, expand.wants("customer")) {
        let found = customers::as_found(connection, &session.merchant_id, session.livemode, id).await?;
        object.customer = found.map(|customer| Expandable::Object(Box::new(customer)));
    }
    if let Some(ticket) = session.escrow.as_ref().filter(|_| expand.wants("escrow")) {
        object.show_escrow(store::escrows::find(&mut *connection, &ticket.escrow_id).await?.as_ref());
    }
    Ok(object)
}

/// Reads a merchant's session.
///
/// # Errors
/// `NotFound`.
pub async fn find(app: &App, caller: &Caller, id: &str) -> Result<Session> {
    let absent = || Error::not_found("checkout.session", id);
    let id = SessionId::parse(id).ok_or_else(absent)?;
    store::sessions::find(app.store.pool(), &caller.merchant_id, caller.livemode, &id).await?.ok_or_else(absent)
}

/// A merchant's session as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str, expand: &Expand) -> Result<CheckoutSession> {
    if !["payment_intent", "customer", "escrow"].iter().any(|path| expand.wants(path)) {
        let session = find(app, caller, id).await?;
        return Ok(CheckoutSession::new(&session, Some(page_url(app, &session.id)), None, expand));
    }
    let absent = || Error::not_found("checkout.session", id);
    let parsed = SessionId::parse(id).ok_or_else(absent)?;
    let mut snapshot = app.store.snapshot().await?;
    let found = store::sessions::find(&mut *snapshot, &caller.merchant_id, caller.livemode, &parsed).await?;
    render(app, &mut snapshot, &found.ok_or_else(absent)?, expand).await
}

/// A page of a merchant's sessions.
///
/// # Errors
/// The database's.
pub async fn list(
    app: &App,
    caller: &Caller,
    filter: &Filter,
    page: &Page,
    expand: &Expand,
) -> Result<List<CheckoutSession>> {
    let mut snapshot = app.store.snapshot().await?;
    let mut sessions =
        store::sessions::list(&mut *snapshot, &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut sessions);
    let mut data = Vec::with_capacity(sessions.len());
    for session in &sessions {
        data.push(render(app, &mut snapshot, session, expand).await?);
    }
    Ok(List::new("/v1/checkout/sessions", data, has_more))
}

/// A page of a session's lines. They are few and frozen, so they are cut from the session's own.
///
/// # Errors
/// `NotFound`, and `Invalid` for a page that begins at a line of another session.
pub async fn line_items(app: &App, caller: &Caller, id: &str, page: &Page, expand: &Expand) -> Result<List<LineItem>> {
    let session = find(app, caller, id).await?;
    let all: Vec<LineItem> = session.lines.iter().map(|line| LineItem::new(&session, line, expand, "")).collect();
    let position = |param: &str, id: &str| {
        all.iter().position(|line| line.id == id).ok_or_else(|| {
            let message = format!("`{param}` must be the id of a line item of this session.");
            Error::invalid("resource_missing", param, message)
        })
    };
    let limit = usize::try_from(page.limit).unwrap_or(0);
    let (start, end, has_more) = if let Some(before) = &page.ending_before {
        let end = position("ending_before", before)?;
        let start = end.saturating_sub(limit);
        (start, end, start > 0)
    } else {
        let after = page.starting_after.as_ref().map(|after| position("starting_after", after)).transpose()?;
        let start = after.map_or(0, |place| place + 1);
        let end = all.len().min(start + limit);
        (start, end, end < all.len())
    };
    let data = all.into_iter().skip(start).take(end - start).collect();
    Ok(List::new(format!("/v1/checkout/sessions/{}/line_items", session.id), data, has_more))
}

/// Changes a session's metadata. Allowed in every state: it is the merchant's own note.
///
/// # Errors
/// `NotFound`, those of `change`, and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    expand: &Expand,
    change: impl FnOnce(&mut Metadata) -> Result<()>,
) -> Result<Answer> {
    let session_id = find(app, &write.caller, id).await?.id;
    let rendered = write
        .once(app, async |connection, _| {
            let mut session = lock(connection, &session_id).await?;
            change(&mut session.metadata)?;
            store::sessions::save(connection, &[&session]).await?;
            let answer = Answer::new(&render(app, connection, &session, expand).await?);
            Ok((answer, Vec::new()))
        })
        .await?;
    Ok(rendered)
}

async fn lock(connection: &mut Connection, id: &SessionId) -> Result<Session> {
    store::sessions::lock(connection, id).await?.ok_or_else(|| Error::not_found("checkout.session", id.as_str()))
}

/// Saves a session that ended without being paid or was only opened, gives its payment up, and appends
/// the events; what is owed is to be handed over after the commit.
pub(super) async fn save_transition(
    app: &App,
    connection: &mut Connection,
    (session, kinds): Transition,
    request: &EventRequest,
    now: DateTime<Utc>,
) -> Result<(Session, Vec<store::outbox::Outgoing>)> {
    let mut sessions = vec![(session, kinds)];
    let outgoing = save_transitions(app, connection, &mut sessions, request, now).await?;
    sessions.pop().map(|(session, _)| (session, outgoing)).ok_or_else(|| Error::Internal("no transition".to_owned()))
}

/// The same for many at once.
pub(super) async fn save_transitions(
    app: &App,
    connection: &mut Connection,
    transitions: &mut [Transition],
    request: &EventRequest,
    now: DateTime<Utc>,
) -> Result<Vec<store::outbox::Outgoing>> {
    let mut announcements = Announcements::new(request, now);
    let ended: Vec<String> = transitions
        .iter()
        .filter(|(session, _)| session.state.ended_at().is_some() && session.payment_id.is_some())
        .map(|(session, _)| session.id.to_string())
        .collect();
    let unpaid = if ended.is_empty() {
        Vec::new()
    } else {
        store::payments::lock_unpaid(connection, &ended.iter().map(String::as_str).collect::<Vec<_>>()).await?
    };
    for (session, kinds) in transitions.iter_mut() {
        announcements.session(session, kinds);
        let session_id = session.id.clone();
        for payment in unpaid.iter().filter(|payment| payment.session_id == session_id) {
            let given_up = Payment {
                status: PaymentStatus::Canceled,
                cancellation: Some(Cancellation { reason: Some("abandoned".to_owned()), at: now }),
                ..payment.clone()
            };
            announcements.payment(session, "payment_intent.canceled", &given_up, None);
            store::payments::save_payment(connection, &given_up).await?;
        }
    }
    let sessions: Vec<&Session> = transitions.iter().map(|(session, _)| session).collect();
    store::sessions::save(connection, &sessions).await?;
    let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
    sessions.into_iter().for_each(count_ended);
    Ok(outgoing)
}

/// Ends an open session at the merchant's word.
///
/// # Errors
/// `NotFound`, `Refused` unless it is open, and those of the idempotency key.
pub async fn expire(app: &App, write: &Write, id: &str, expand: &Expand) -> Result<Answer> {
    let session_id = find(app, &write.caller, id).await?.id;
    write
        .once(app, async |connection, now| {
            let session = lock(connection, &session_id).await?;
            let transition = session.expire_by_merchant(now)?;
            let (session, outgoing) = save_transition(app, connection, transition, &write.cause(), now).await?;
            Ok((Answer::new(&render(app, connection, &session, expand).await?), outgoing))
        })
        .await
}

/// The session that a payer's token opens.
///
/// # Errors
/// `NotFound` for every token that opens nothing, whatever the reason.
pub async fn find_by_token(app: &App, token: &str) -> Result<Arc<PageSession>> {
    let absent = || Error::not_found("checkout.session", "");
    let id = app.keyring.open_payer_token(token).ok_or_else(absent)?;
    let found = match &app.batches.pages {
        Some(queue) => queue.ask(id).await?,
        None => Box::pin(find_alone(app, &id)).await?,
    };
    found.ok_or_else(absent)
}

async fn find_alone(app: &App, id: &SessionId) -> Result<Option<Arc<PageSession>>> {
    let mut connection = app.store.pool().acquire().await?;
    let mut found = store::sessions::find_for_pages(&mut connection, &[id.as_str()]).await?;
    Ok(found.pop().transpose()?.map(Arc::new))
}

/// Whether anybody would take the money of a card that is typed here or sent here: a provider for the mode, and
/// for live cards the operator's word that their numbers may pass through this gateway.
pub fn takes_cards(app: &App, session: &Session) -> bool {
    let may_be_entered = !session.livemode || app.settings.card_entry_live;
    may_be_entered && app.providers.for_mode(session.livemode).is_some()
}

/// The newest charge of a session, for what a page says about it.
///
/// # Errors
/// The database's.
pub async fn latest_charge(app: &App, id: &SessionId) -> Result<Option<payment::Charge>> {
    store::payments::latest_charge(app.store.pool(), id).await
}

/// Notes that a browser has shown the session, once.
///
/// # Errors
/// The database's.
pub async fn open(app: &Arc<App>, id: &SessionId) -> Result<()> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let session = lock(&mut transaction, id).await?;
    let Some(transition) = session.open(now) else {
        return Ok(());
    };
    let (_, outgoing) = save_transition(app, &mut transaction, transition, &EventRequest::default(), now).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    Ok(())
}

/// Notes the first opening before the session is shown, so that the event comes before whatever the payer
/// does with it. That it could not be noted keeps nobody from paying.
pub async fn note_opened(app: &Arc<App>, session: &Session) {
    let inside = Arc::clone(app);
    let id = session.id.clone();
    let noted = super::to_the_end(app, async move { open(&inside, &id).await }).await;
    if let Err(error) = noted {
        tracing::warn!(session = %session.id, error = ?error, "the first opening of a session could not be noted");
    }
}

/// Ends a session at the payer's word. One that has ended already is given back as it is: the payer
/// gets the page that fits.
///
/// # Errors
/// `Refused` while a payment is in flight, and the database's.
pub async fn cancel(app: &Arc<App>, id: &SessionId) -> Result<Session> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let session = lock(&mut transaction, id).await?;
    if session.state.ended_at().is_some() {
        return Ok(session);
    }
    let transition = match session.clone().cancel(now) {
        Ok(transition) => transition,
        // The deadline has passed and the sweep has not been by: the payer's click ends it as expired.
        Err(Refusal::SessionPastDeadline) => match session.clone().expire_when_due(now) {
            Some(transition) => transition,
            None => return Ok(session),
        },
        Err(refusal) => return Err(refusal.into()),
    };
    let (session, outgoing) = save_transition(app, &mut transaction, transition, &EventRequest::default(), now).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    Ok(session)
}
