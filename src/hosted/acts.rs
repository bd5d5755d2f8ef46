//! The pages of an escrow's acts.
//!
//! The rule: a GET shows and changes nothing; the form of an act is shown only while the act is
//! possible, and what the form asks for is checked again when it is done. An act that has become
//! impossible has a page that says why, and whose button ends the session as failed. Nobody sees a deal
//! before the gate has opened.

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};

use super::act_form;
use super::act_words::{Told, is_stuck, told};
use super::browser::{Browser, binding_of};
use super::identity::{gate, knows};
use super::page::{Pages, Policy, Token, amount, locale};
use super::views::{
    ActError, ActOutcomeView, ActTyped, ActView, ContractShown, Deal, Moment, Outcome, Station, TimeLeft, WayBack,
    WrongMoment, WrongMomentView,
};
use crate::domain::escrow::{Act, Actor, Escrow, Mode, Status};
use crate::domain::refusal::Refusal;
use crate::domain::session::State as SessionState;
use crate::error::Result;
use crate::i18n::Locale;
use crate::ops::escrow_acts::{self, HandedIn};
use crate::ops::{identity, sessions, to_the_end};
use crate::server::Peer;
use crate::store::sessions::PageSession;

pub(super) fn moment(at: DateTime<Utc>) -> Moment {
    Moment {
        datetime: at.to_rfc3339_opts(SecondsFormat::Secs, true),
        text: at.format("%Y-%m-%d %H:%M UTC").to_string(),
    }
}

fn status_words(status: Status) -> &'static str {
    match status {
        Status::Pending => "not paid yet",
        Status::Paid => "paid, the money is held",
        Status::Delivered => "delivered, the time for inspection runs",
        Status::Disputed => "disputed, waiting for a decision",
        Status::CancellationRequested => "cancellation asked for, waiting for the seller",
        Status::Refunding => "decided, money is on its way back",
        Status::RefundFailed => "decided, but the bank does not give the money back; waiting for a new decision",
        Status::ReleaseHeld => "the buyer’s part is paid back; the rest waits for a bank’s decision",
        Status::Completed => "completed",
        Status::Cancelled => "cancelled",
    }
}

/// The life of an escrow: what was reached in the order in which it happened, then what lies ahead. It stands at the
/// last that was reached.
fn stations(escrow: &Escrow, now: DateTime<Utc>) -> Vec<Station> {
    let times = &escrow.times;
    let status = escrow.status(now);
    let mut reached = vec![
        ("Opened", Some(escrow.created_at)),
        ("Signed by the seller", times.seller_signed),
        ("Signed by the buyer", times.buyer_signed),
        ("Paid, the money is held", times.paid),
        ("Delivered", times.delivered),
        ("Delivery not accepted", times.delivery_rejected),
        ("Cancellation asked for", times.cancellation_requested),
        ("Cancellation rejected", times.cancellation_rejected),
        ("Disputed", times.disputed),
        ("Decided", times.resolved),
        ("The bank refused to give money back", times.refund_failed),
        ("Paid back to the buyer", times.refunded),
        ("Completed", times.completed),
        ("Cancelled", times.cancelled),
    ];
    reached.retain(|(_, at)| at.is_some());
    // What happened at once stays in the order above.
    reached.sort_by_key(|(_, at)| *at);
    let is_delivered = times.delivered.is_some() && times.delivered > times.delivery_rejected;
    let mut ahead = Vec::new();
    if status == Status::Pending && escrow.mode == Mode::Standard {
        ahead.push(("Signed by the seller", times.seller_signed.is_none()));
        ahead.push(("Signed by the buyer", times.buyer_signed.is_none()));
    }
    ahead.push(("Paid", status == Status::Pending));
    ahead.push(("Delivered", matches!(status, Status::Pending | Status::Paid) && !is_delivered));
    ahead.push(("The seller’s answer", status == Status::CancellationRequested));
    ahead.push(("A decision", matches!(status, Status::Disputed | Status::RefundFailed | Status::ReleaseHeld)));
    ahead.push(("Paid back to the buyer", status == Status::Refunding));
    ahead.push(("Completed", matches!(status, Status::Pending | Status::Paid | Status::Delivered)));
    let here = reached.len().saturating_sub(1);
    let reached = reached.into_iter().enumerate().map(|(place, (label, at))| Station {
        label: label.to_owned(),
        at: at.map(moment),
        is_now: place == here,
    });
    let ahead = ahead.into_iter().filter(|(_, lies_ahead)| *lies_ahead).map(|(label, _)| Station {
        label: label.to_owned(),
        at: None,
        is_now: false,
    });
    reached.chain(ahead).collect()
}

fn contract_shown(escrow: &Escrow) -> Option<ContractShown> {
    let contract = escrow.contract.as_ref()?;
    Some(ContractShown { text: contract.text.clone(), sha256: hex::encode(contract.sha256) })
}

fn days(count: u16) -> String {
    format!("{count} {}", if count == 1 { "day" } else { "days" })
}

pub(super) fn deal(page: &PageSession, escrow: &Escrow, locale: &Locale, now: DateTime<Utc>) -> Deal {
    let words = &escrow.words;
    let said = [
        ("Tracking", &words.tracking_reference),
        ("The seller’s note", &words.delivery_note),
        ("Why the delivery was not accepted", &words.delivery_rejection_reason),
        ("Why the buyer wants to cancel", &words.cancellation_reason),
        ("Why the seller goes on", &words.cancellation_rejection_reason),
        ("The dispute", &words.dispute_text),
    ];
    let act = page.session.escrow.as_ref().map_or(Act::AcceptPay, |ticket| ticket.act);
    let has_seller = escrow.mode != Mode::Instant;
    let is_ahead = matches!(escrow.status(now), Status::Pending | Status::Paid);
    Deal {
        title: escrow.title.clone(),
        fee: (escrow.fee_minor > 0).then(|| amount(&page.session, locale, escrow.fee_minor)),
        delivery: escrow.estimated_delivery_days.filter(|_| is_ahead).map(days),
        inspection: (has_seller && escrow.times.completed.is_none() && escrow.times.cancelled.is_none())
            .then(|| days(escrow.inspection_days)),
        // Who signs reads it in full, where he signs.
        contract: contract_shown(escrow).filter(|_| act != Act::SignContract),
        has_seller,
        amount: amount(&page.session, locale, escrow.total.minor),
        buyer: escrow.buyer_email.clone(),
        seller: escrow.seller_email.clone().unwrap_or_else(|| page.merchant_name.clone()),
        reader: page.session.escrow.as_ref().map_or("buyer", |ticket| ticket.party.as_str()),
        status: status_words(escrow.status(now)).to_owned(),
        completes_at: escrow.completion_deadline().filter(|_| !escrow.at_bank.holds()).map(moment),
        said: said.into_iter().filter_map(|(who, text)| Some((who.to_owned(), text.clone()?))).collect(),
        stations: stations(escrow, now),
    }
}

/// `GET /c/{token}` of a session for an act, behind the gate. Gives nothing when it is a payment that can be made: then the card
/// form follows, with the deal beside it.
pub async fn before_form(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    headers: &HeaderMap,
) -> std::result::Result<Option<Deal>, Response> {
    let Some(ticket) = &page.session.escrow else { return Ok(None) };
    let now = pages.app.clock.now();
    let escrow = match escrow_acts::look(&pages.app, &page.session).await {
        Ok(escrow) => escrow,
        Err(error) => return Err(pages.failure_in(&error, token)),
    };
    let browser = Browser::of(headers, &pages.app.settings);
    let locale = locale(&page.session, headers);
    let deal = deal(page, &escrow, &locale, now);
    let mut response = match escrow_acts::impossible(&page.session, &escrow, now) {
        Some(refusal) => wrong_moment(pages, token, page, deal, refusal, &browser),
        None if ticket.is_payment() => return Ok(Some(deal)),
        None => {
            let asked = Asked { typed: ActTyped::default(), errors: Vec::new() };
            show(pages, token, page, &escrow, deal, asked, &browser, StatusCode::OK)
        }
    };
    browser.remember(&pages.app.settings, response.headers_mut());
    Err(response)
}

struct Asked {
    typed: ActTyped,
    errors: Vec<ActError>,
}

#[allow(clippy::too_many_arguments, reason = "one call renders the form from everything that stands on it")]
fn show(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    escrow: &Escrow,
    deal: Deal,
    asked: Asked,
    browser: &Browser,
    status: StatusCode,
) -> Response {
    let session = &page.session;
    let act = session.escrow.as_ref().map_or(Act::AcceptPay, |ticket| ticket.act);
    let left = (session.expires_at - pages.app.clock.now()).num_seconds();
    let contract = contract_shown(escrow).filter(|_| act == Act::SignContract);
    let view = ActView {
        frame: pages.frame(Some(page), Policy::Form),
        merchant_name: page.merchant_name.clone(),
        deal,
        act,
        contract,
        typed: asked.typed,
        errors: asked.errors,
        time_left: TimeLeft {
            deadline_datetime: session.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            seconds: u32::try_from(left).unwrap_or(0),
        },
        act_path: format!("/c/{token}/act"),
        cancel_path: format!("/c/{token}/cancel"),
        csrf_token: browser.csrf_token(&pages.app.keyring, &session.id),
        reference: session.id.to_string(),
    };
    pages.render(status, Policy::Form, &view)
}

fn wrong_moment(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    deal: Deal,
    refusal: Refusal,
    browser: &Browser,
) -> Response {
    let moment = match refusal {
        Refusal::EscrowAlreadySigned { .. } => WrongMoment::AlreadySigned,
        Refusal::EscrowContractNotSigned => WrongMoment::NotSignedYet,
        Refusal::EscrowPaymentProcessing => WrongMoment::PaymentInFlight,
        Refusal::EscrowDisputedAtBank { is_lost: false } => WrongMoment::AtBank,
        Refusal::EscrowDisputedAtBank { is_lost: true } => WrongMoment::LostAtBank,
        _ => WrongMoment::MovedOn,
    };
    let view = WrongMomentView {
        frame: pages.frame(Some(page), Policy::Form),
        merchant_name: page.merchant_name.clone(),
        deal,
        moment,
        act_path: (moment != WrongMoment::PaymentInFlight).then(|| format!("/c/{token}/act")),
        page_path: format!("/c/{token}"),
        csrf_token: browser.csrf_token(&pages.app.keyring, &page.session.id),
        reference: page.session.id.to_string(),
    };
    pages.render(StatusCode::OK, Policy::Form, &view)
}

/// `POST /c/{token}/act`.
pub async fn act(State(pages): State<Pages>, Token(token): Token, parts: Parts, body: Body) -> Response {
    let browser = Browser::of(&parts.headers, &pages.app.settings);
    let answered = act_inside(&pages, &token, &parts, body, &browser).await;
    let response = answered.unwrap_or_else(|error| pages.failure_in(&error, &token));
    pages.after_form(response, &browser)
}

async fn act_inside(pages: &Pages, token: &str, parts: &Parts, body: Body, browser: &Browser) -> Result<Response> {
    let headers = &parts.headers;
    let page = sessions::find_by_token(&pages.app, token).await?;
    let session = &page.session;
    let done = format!("/c/{token}/done");
    let Some(ticket) = session.escrow.as_ref() else { return Ok(pages.go_to(&format!("/c/{token}"))) };
    // Before anything is read: files are taken only from the user that they are asked of.
    if !gate(pages, &page, headers).await.is_open() {
        return Ok(pages.go_to(&format!("/c/{token}")));
    }
    let form = match act_form::read(pages, session, headers, body, browser).await {
        Ok(form) => form,
        Err(kind) => return Ok(pages.message_in(kind, token)),
    };
    if !session.is_usable(pages.app.clock.now()) {
        return Ok(pages.go_to(&done));
    }
    // Before what was typed is looked at: whoever comes too late need not fill in a form first.
    let (app, id) = (std::sync::Arc::clone(&pages.app), session.id.clone());
    if to_the_end(&pages.app, async move { escrow_acts::end_if_impossible(&app, &id).await }).await? {
        return Ok(pages.go_to(&done));
    }
    if ticket.is_payment() {
        return Ok(pages.go_to(&format!("/c/{token}")));
    }
    let typed = form.typed();
    let (request, name, files) = match form.request(ticket.act) {
        Ok(asked) => asked,
        Err(errors) => {
            let escrow = escrow_acts::look(&pages.app, session).await?;
            let deal = deal(&page, &escrow, &locale(session, headers), pages.app.clock.now());
            let asked = Asked { typed, errors };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Ok(show(pages, token, &page, &escrow, deal, asked, browser, status));
        }
    };
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let ip = parts.extensions.get::<Peer>().map(|Peer(address)| address.ip().to_canonical().to_string());
    let proof = identity::proof(&pages.app, &session.id, binding_of(headers, &pages.app.settings, &session.id)).await?;
    let proof = proof.map(|proof| (proof.binding_id, proof.proven_at));
    let handed_in = HandedIn { request, name, ip, user_agent, proof, files };
    // Done, or ended otherwise: either way the page of the session says so.
    escrow_acts::act(&pages.app, session.id.clone(), handed_in).await?;
    Ok(pages.go_to(&done))
}

/// `GET /c/{token}/act`: where a browser lands that loads the address of the form again.
pub async fn back_to_form(State(pages): State<Pages>, Token(token): Token) -> Response {
    match sessions::find_by_token(&pages.app, &token).await {
        Ok(_) => pages.go_to(&format!("/c/{token}")),
        Err(error) => pages.failure(&error),
    }
}

/// The page of a session for an act that has ended.
pub async fn tell(
    pages: &Pages,
    page: &PageSession,
    headers: &HeaderMap,
    way_back: Option<(String, String)>,
    leave: bool,
) -> Result<Response> {
    let session = &page.session;
    let escrow = escrow_acts::look(&pages.app, session).await?;
    let locale = locale(session, headers);
    let outcome = match session.state {
        SessionState::Completed(_) => Outcome::Completed,
        SessionState::Processing => Outcome::Processing,
        SessionState::Expired(at) if at < session.expires_at => Outcome::Withdrawn,
        SessionState::Pending | SessionState::Expired(_) => Outcome::Expired,
        SessionState::Cancelled(_) => Outcome::Cancelled,
        SessionState::Failed(_) => Outcome::Failed,
    };
    // The link alone shows how it ended, not what the deal was.
    let knows = knows(pages, session, headers).await?;
    let act = session.escrow.as_ref().map_or(Act::AcceptPay, |ticket| ticket.act);
    // Who gives up gives what the buyer's bank has not given already.
    let given_up = matches!(act, Act::CancelEscrow | Act::AcceptCancellation);
    let settled = escrow.state.settlement().filter(|parts| given_up && parts.buyer > parts.lost);
    let minor = settled.map_or(escrow.total.minor, |parts| parts.buyer.saturating_sub(parts.lost));
    let total = if knows { amount(session, &locale, minor) } else { "The money".to_owned() };
    let party = session.escrow.as_ref().map_or(Actor::Buyer, |ticket| ticket.party);
    let status = status_words(escrow.status(pages.app.clock.now()));
    let tries_are_used = session.tries >= crate::domain::session::TRIES_MAX;
    let Told { heading, lead, money, next } =
        told(act, party, outcome, &escrow, &total, status, tries_are_used, &page.merchant_name);
    let leaves_by_itself = leave && matches!(outcome, Outcome::Completed | Outcome::Cancelled);
    let view = ActOutcomeView {
        frame: pages.frame(Some(page), Policy::Hop),
        merchant_name: page.merchant_name.clone(),
        // What is stuck is no success, though the act was done.
        outcome: if given_up && outcome == Outcome::Completed && is_stuck(&escrow) { Outcome::Failed } else { outcome },
        heading,
        lead,
        money,
        next,
        title: knows.then(|| escrow.title.clone()),
        happened_at: session.state.ended_at().map(moment),
        way_back: way_back.map(|(url, domain)| WayBack { url, domain, refresh_seconds: leaves_by_itself.then_some(0) }),
        support_email: page.support_email.clone().filter(|_| outcome != Outcome::Completed),
        reference: session.id.to_string(),
    };
    Ok(pages.render(StatusCode::OK, Policy::Hop, &view))
}
