//! The gate before an act: a session with a target user shows it only to a browser that has proven itself.
//!
//! The rule: a GET sends nothing, because mail scanners open links; what stands behind the gate is not named
//! before it; and the binding is a cookie of its own for each session, which the way back from a payer's bank
//! does not need. Whether a code is right is judged elsewhere; this shows and asks.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::browser::{Browser, binding_of, remember_binding};
use super::checkout::trusted_form;
use super::page::{Pages, Policy, Token, locale};
use super::views::{IdentityStep, IdentityView};
use crate::domain::identity::{Turn, counted_network, mask_email};
use crate::domain::session::{Session, State as SessionState};
use crate::error::Result;
use crate::i18n::identity_words::{IdentityWords, fill};
use crate::ops::identity::{self, Judged, OutCode, Sent};
use crate::ops::sessions;
use crate::server::Peer;
use crate::store::sessions::PageSession;

/// Seconds that a binding outlives the session's deadline, so that a payer whose payment is still in flight
/// is known when he comes back.
const BINDING_AFTER_DEADLINE_S: i64 = 3600;

/// What stands before an act.
pub enum Gate {
    /// Nothing: the session is for whoever has its link, or this browser has proven itself.
    Open,
    /// This page, instead of the act.
    Ask(Response),
}

impl Gate {
    /// Whether the act may be shown or done.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

/// The gate of a session for the browser that sent `headers`. To be asked before any page that shows an act
/// and by any form that does one; a form sends an [`Gate::Ask`] back to `/c/{token}`.
pub async fn gate(pages: &Pages, page: &PageSession, headers: &HeaderMap) -> Gate {
    if page.session.target_user_email.is_none() {
        return Gate::Open;
    }
    // Boxed, because most sessions are for nobody in particular and their futures are moved for each page.
    match Box::pin(ask(pages, page, headers)).await {
        Ok(gate) => gate,
        Err(error) => Gate::Ask(pages.failure(&error)),
    }
}

async fn ask(pages: &Pages, page: &PageSession, headers: &HeaderMap) -> Result<Gate> {
    if knows(pages, &page.session, headers).await? {
        return Ok(Gate::Open);
    }
    let browser = Browser::of(headers, &pages.app.settings);
    let mut response = show(pages, page, headers, &browser, Said::Nothing).await?;
    browser.remember(&pages.app.settings, response.headers_mut());
    Ok(Gate::Ask(response))
}

/// Whether a browser may see what is private of a session: always where it is for nobody in particular.
pub(super) async fn knows(pages: &Pages, session: &Session, headers: &HeaderMap) -> Result<bool> {
    if session.target_user_email.is_none() {
        return Ok(true);
    }
    let cookie = binding_of(headers, &pages.app.settings, &session.id);
    identity::is_bound(&pages.app, session, cookie).await
}

/// What the last form came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Malformed,
    Wrong(u8),
    Dead,
    Wait(u32),
    Busy,
}

async fn show(
    pages: &Pages,
    page: &PageSession,
    headers: &HeaderMap,
    browser: &Browser,
    said: Said,
) -> Result<Response> {
    let session = &page.session;
    let standing = identity::standing(&pages.app, &session.id, browser.id()).await?;
    let words = IdentityWords::of(&locale(session, headers));
    let address = mask_email(session.target_user_email.as_deref().unwrap_or_default());
    let merchant = page.merchant_name.as_str();
    let seconds = match (said, standing.turn) {
        (Said::Wait(seconds), _) | (_, Turn::Wait(seconds)) => seconds.to_string(),
        _ => String::new(),
    };
    let minutes = standing.code.as_ref().map_or(0, |code| code.left.num_minutes().max(1)).to_string();
    let tries = match said {
        Said::Wrong(tries) => tries.to_string(),
        _ => String::new(),
    };
    let filled = |sentence: &str| {
        let values = [
            ("merchant", merchant),
            ("address", &address),
            ("seconds", &seconds),
            ("minutes", &minutes),
            ("tries", &tries),
        ];
        fill(sentence, &values)
    };
    let step = match (said, &standing.code, standing.turn) {
        (Said::Busy, ..) => IdentityStep::Busy,
        (_, Some(_), _) => IdentityStep::Code,
        (_, None, Turn::Spent) => IdentityStep::Spent,
        (_, None, _) => IdentityStep::Ask,
    };
    let error = match said {
        Said::Malformed => Some(words.malformed),
        Said::Wrong(1) => Some(words.wrong_last),
        Said::Wrong(0) | Said::Dead => Some(words.dead),
        Said::Wrong(_) => Some(words.wrong),
        Said::Wait(_) => Some(words.wait),
        Said::Nothing if step == IdentityStep::Ask && standing.had_code => Some(words.dead),
        Said::Nothing | Said::Busy => None,
    };
    let (lead, note) = match step {
        IdentityStep::Ask => (words.ask_lead, words.ask_note),
        IdentityStep::Code => (words.code_lead, ""),
        IdentityStep::Spent => (words.spent_lead, ""),
        IdentityStep::Busy => (words.busy_lead, ""),
    };
    let resend = match standing.turn {
        Turn::Now => words.resend_note,
        Turn::Wait(_) => words.resend_wait,
        Turn::Spent => "",
    };
    let status = match (said, step) {
        (Said::Wait(_) | Said::Busy, _) => StatusCode::TOO_MANY_REQUESTS,
        (Said::Malformed | Said::Wrong(_) | Said::Dead, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Said::Nothing, _) => StatusCode::OK,
    };
    let token = pages.app.keyring.payer_token(&session.id);
    let mut frame = pages.frame(Some(page), Policy::Form);
    words.lang.clone_into(&mut frame.lang);
    let view = IdentityView {
        frame,
        words,
        step,
        merchant_name: merchant.to_owned(),
        lead: filled(lead),
        note: filled(note),
        error: error.map(filled),
        is_held_up: matches!(standing.code, Some(OutCode { is_held_up: true, .. })),
        hint: filled(words.code_hint),
        resend: filled(resend),
        not_yours: filled(words.not_yours),
        support_email: page.support_email.clone(),
        send_path: format!("/c/{token}/identity/send"),
        confirm_path: format!("/c/{token}/identity/confirm"),
        csrf_token: browser.csrf_token(&pages.app.keyring, &session.id),
        reference: session.id.to_string(),
    };
    let mut response = pages.render(status, Policy::Form, &view);
    if let Said::Wait(seconds) = said {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// `POST /c/{token}/identity/send`: the payer wants a code.
pub async fn send(
    State(pages): State<Pages>,
    Token(token): Token,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let browser = Browser::of(&headers, &pages.app.settings);
    let network = peer
        .and_then(|Extension(Peer(address))| counted_network(pages.app.settings.payer_address(address.ip(), &headers)));
    let response = match sessions::find_by_token(&pages.app, &token).await {
        Ok(page) => send_inside(&pages, &token, &page, network, &headers, body, &browser)
            .await
            .unwrap_or_else(|error| pages.failure_in(&error, &token)),
        Err(error) => pages.failure(&error),
    };
    pages.after_form(response, &browser)
}

async fn send_inside(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    network: Option<String>,
    headers: &HeaderMap,
    body: Body,
    browser: &Browser,
) -> Result<Response> {
    if let Err(kind) = trusted_form(pages, &page.session, headers, body, browser).await {
        return Ok(pages.message_in(kind, token));
    }
    let app = Arc::clone(&pages.app);
    let (id, browser_id) = (page.session.id.clone(), browser.id().to_owned());
    let locale = locale(&page.session, headers);
    let act = page.session.escrow.as_ref().map(|ticket| ticket.act.as_str());
    let sending = async move { identity::send_code(&app, &id, act, &browser_id, network.as_deref(), &locale).await };
    match crate::ops::to_the_end(&pages.app, sending).await? {
        Sent::Made | Sent::Spent | Sent::NotOpen => Ok(pages.go_to(&format!("/c/{token}"))),
        Sent::Wait(seconds) => show(pages, page, headers, browser, Said::Wait(seconds)).await,
        Sent::Busy => show(pages, page, headers, browser, Said::Busy).await,
    }
}

/// `POST /c/{token}/identity/confirm`: the payer has typed a code.
pub async fn confirm(State(pages): State<Pages>, Token(token): Token, headers: HeaderMap, body: Body) -> Response {
    let browser = Browser::of(&headers, &pages.app.settings);
    let response = match sessions::find_by_token(&pages.app, &token).await {
        Ok(page) => confirm_inside(&pages, &token, &page, &headers, body, &browser)
            .await
            .unwrap_or_else(|error| pages.failure_in(&error, &token)),
        Err(error) => pages.failure(&error),
    };
    pages.after_form(response, &browser)
}

async fn confirm_inside(
    pages: &Pages,
    token: &str,
    page: &PageSession,
    headers: &HeaderMap,
    body: Body,
    browser: &Browser,
) -> Result<Response> {
    let session = &page.session;
    let form = match trusted_form(pages, session, headers, body, browser).await {
        Ok(form) => form,
        Err(kind) => return Ok(pages.message_in(kind, token)),
    };
    let is_over = !session.is_usable(pages.app.clock.now()) && session.state != SessionState::Processing;
    if is_over || knows(pages, session, headers).await? {
        return Ok(pages.go_to(&format!("/c/{token}")));
    }
    let (app, owned, browser_id) = (Arc::clone(&pages.app), session.clone(), browser.id().to_owned());
    let typed = zeroize::Zeroizing::new(form.field("code").to_owned());
    // To the end: a browser that goes away must not leave the guess half judged.
    let judging = async move { identity::confirm(&app, &owned, &browser_id, &typed).await };
    let said = match crate::ops::to_the_end(&pages.app, judging).await? {
        Judged::Right { token: binding } => {
            let mut response = pages.go_to(&format!("/c/{token}"));
            let left = (session.expires_at - pages.app.clock.now()).num_seconds().max(0);
            let lifetime_s = left + BINDING_AFTER_DEADLINE_S;
            remember_binding(&pages.app.settings, &session.id, &binding, lifetime_s, response.headers_mut());
            return Ok(response);
        }
        Judged::Malformed => Said::Malformed,
        Judged::Wrong { tries_left } => Said::Wrong(tries_left),
        Judged::Dead => Said::Dead,
    };
    show(pages, page, headers, browser, said).await
}
