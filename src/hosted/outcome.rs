//! The pages of a session that shows no form: what happened, whether money moved, the way back.
//!
//! The rule: `/done` is where a form's answer leads and it takes the payer on to the shop by itself,
//! for good outcomes and for his own choice; after a failure he goes when he has read. `/status`
//! tells the same and never leaves. The URL of the way back comes from the session's row.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::SecondsFormat;

use super::browser::Browser;
use super::checkout::trusted_form;
use super::identity::{self, Gate};
use super::page::{Pages, Policy, Token, amount, locale};
use super::views::{CancelView, Moment, MoneyMoved, Outcome, OutcomeView, WayBack};
use crate::domain::payment::ChargeState;
use crate::domain::session::{State as SessionState, TRIES_MAX};
use crate::error::{Error, Result};
use crate::ops::{redirect_hold, sessions};
use crate::store::sessions::PageSession;

/// Seconds between two looks at a payment in doubt.
const LOOK_AGAIN_S: u32 = 2;

/// `GET /c/{token}/done`.
pub async fn done(State(pages): State<Pages>, Token(token): Token, headers: HeaderMap) -> Response {
    tell(&pages, &token, &headers, true).await.unwrap_or_else(|error| pages.failure_in(&error, &token))
}

/// `GET /c/{token}/status`.
pub async fn status(State(pages): State<Pages>, Token(token): Token, headers: HeaderMap) -> Response {
    tell(&pages, &token, &headers, false).await.unwrap_or_else(|error| pages.failure_in(&error, &token))
}

async fn tell(pages: &Pages, token: &str, headers: &HeaderMap, leave: bool) -> Result<Response> {
    let page = sessions::find_by_token(&pages.app, token).await?;
    let session = &page.session;
    if leave {
        redirect_hold::wait(&pages.app, session).await;
    }
    if session.is_usable(pages.app.clock.now()) {
        return Ok(pages.go_to(&format!("/c/{token}")));
    }
    let locale = locale(session, headers);
    let total = amount(session, &locale, session.total.minor);
    let (outcome, money) = match session.state {
        SessionState::Completed(_) if session.paid_at.is_none() => {
            (Outcome::Completed, MoneyMoved::Reserved { amount: total })
        }
        SessionState::Completed(_) => (Outcome::Completed, MoneyMoved::Taken { amount: total }),
        SessionState::Processing => (Outcome::Processing, MoneyMoved::NotYetKnown { amount: total }),
        SessionState::Expired(at) if at < session.expires_at => (Outcome::Withdrawn, MoneyMoved::Nothing),
        // Past its deadline, though the sweep has not been by.
        SessionState::Pending | SessionState::Expired(_) => (Outcome::Expired, MoneyMoved::Nothing),
        SessionState::Cancelled(_) => (Outcome::Cancelled, MoneyMoved::Nothing),
        SessionState::Failed(_) => (Outcome::Failed, MoneyMoved::Nothing),
    };
    let charge = match outcome {
        Outcome::Completed | Outcome::Failed | Outcome::Processing => {
            sessions::latest_charge(&pages.app, &session.id).await?
        }
        _ => None,
    };
    let (outcome, money) = match (&charge, outcome) {
        (Some(charge), Outcome::Completed) => match charge.state {
            // What was reserved was let go by the merchant.
            ChargeState::Reversed => (Outcome::Withdrawn, MoneyMoved::Nothing),
            ChargeState::Succeeded => {
                let taken = amount(session, &locale, charge.amount_captured);
                let is_back = charge.amount_refunded == charge.amount_captured;
                let money =
                    if is_back { MoneyMoved::GivenBack { amount: taken } } else { MoneyMoved::Taken { amount: taken } };
                (outcome, money)
            }
            _ => (outcome, money),
        },
        _ => (outcome, money),
    };
    // A payer who came back without finishing at his bank is shown the way there again. He is not sent: he may
    // have come back on purpose.
    if let Some(ChargeState::RequiresAction { .. }) = charge.as_ref().map(|charge| &charge.state) {
        return super::authenticate::show(pages, token, headers, false).await;
    }
    if session.escrow.is_some() && outcome != Outcome::Processing {
        return super::acts::tell(pages, &page, headers, way_back(&page, outcome), leave).await;
    }
    // The link alone shows how it ended, not whose card and address it was.
    let knows = identity::knows(pages, session, headers).await?;
    let payment_method = charge
        .as_ref()
        .filter(|_| knows)
        .filter(|charge| matches!(charge.state, ChargeState::Succeeded | ChargeState::Authorized))
        .map(|charge| format!("{} ending in {}", charge.card.brand.display_name(), charge.card.last4));
    let last_answer = charge.as_ref().and_then(|charge| match &charge.state {
        ChargeState::Failed(failure) => Some(failure.payer_message.as_str()),
        _ => None,
    });
    let detail = (outcome == Outcome::Failed)
        .then(|| format!("All {TRIES_MAX} tries were used. The last answer: {}", last_answer.unwrap_or("none.")));
    let leaves_by_itself = leave && matches!(outcome, Outcome::Completed | Outcome::Cancelled);
    let way_back = way_back(&page, outcome).map(|(url, domain)| WayBack {
        url,
        domain,
        // Zero: a page that leaves later than at once cannot be stopped by one who reads slowly (WCAG 2.2.1).
        refresh_seconds: leaves_by_itself.then_some(0),
    });
    let is_checking = outcome == Outcome::Processing;
    let place = if leave { "done" } else { "status" };
    let view = OutcomeView {
        frame: pages.frame(Some(&page), Policy::Hop),
        merchant_name: page.merchant_name.clone(),
        outcome,
        money,
        detail,
        payment_method,
        happened_at: session.state.ended_at().map(|at| Moment {
            datetime: at.to_rfc3339_opts(SecondsFormat::Secs, true),
            text: at.format("%Y-%m-%d %H:%M UTC").to_string(),
        }),
        receipt_email: (outcome == Outcome::Completed
            && session.paid_at.is_some()
            && pages.app.settings.receipts
            && knows)
            .then(|| session.options.receipt_email.clone().or(session.payer.as_ref().map(|payer| payer.email.clone())))
            .flatten(),
        way_back,
        status_path: is_checking.then(|| format!("/c/{token}/{place}")),
        status_refresh_seconds: is_checking.then_some(LOOK_AGAIN_S),
        support_email: page.support_email.clone().filter(|_| outcome != Outcome::Completed),
        reference: session.id.to_string(),
    };
    Ok(pages.render(StatusCode::OK, Policy::Hop, &view))
}

fn way_back(page: &PageSession, outcome: Outcome) -> Option<(String, String)> {
    let mut session = page.session.clone();
    if outcome == Outcome::Expired {
        session.state = SessionState::Expired(session.expires_at);
    }
    session.way_back().map(|(way, status)| (way.for_outcome(&session.id, status), way.host()))
}

/// `GET /c/{token}/cancel`: asks, because the link cannot be used again afterwards.
pub async fn ask_to_cancel(State(pages): State<Pages>, Token(token): Token, headers: HeaderMap) -> Response {
    let page = match sessions::find_by_token(&pages.app, &token).await {
        Ok(page) => page,
        Err(error) => return pages.failure(&error),
    };
    if !page.session.is_usable(pages.app.clock.now()) {
        return pages.go_to(&format!("/c/{token}/status"));
    }
    if let Gate::Ask(response) = identity::gate(&pages, &page, &headers).await {
        return response;
    }
    let browser = Browser::of(&headers, &pages.app.settings);
    let locale = locale(&page.session, &headers);
    let view = CancelView {
        frame: pages.frame(Some(&page), Policy::Form),
        merchant_name: page.merchant_name.clone(),
        total: amount(&page.session, &locale, page.session.total.minor),
        is_act: page.session.escrow.is_some(),
        takes_money: page.session.is_payment(),
        cancel_path: format!("/c/{token}/cancel"),
        checkout_path: format!("/c/{token}"),
        csrf_token: browser.csrf_token(&pages.app.keyring, &page.session.id),
        reference: page.session.id.to_string(),
    };
    let mut response = pages.render(StatusCode::OK, Policy::Form, &view);
    browser.remember(&pages.app.settings, response.headers_mut());
    response
}

/// `POST /c/{token}/cancel`.
pub async fn cancel(State(pages): State<Pages>, Token(token): Token, headers: HeaderMap, body: Body) -> Response {
    let browser = Browser::of(&headers, &pages.app.settings);
    let response = cancel_inside(&pages, &token, &headers, body, &browser).await;
    pages.after_form(response, &browser)
}

async fn cancel_inside(pages: &Pages, token: &str, headers: &HeaderMap, body: Body, browser: &Browser) -> Response {
    let page = match sessions::find_by_token(&pages.app, token).await {
        Ok(page) => page,
        Err(error) => return pages.failure(&error),
    };
    if let Err(kind) = trusted_form(pages, &page.session, headers, body, browser).await {
        return pages.message_in(kind, token);
    }
    if !identity::gate(pages, &page, headers).await.is_open() {
        return pages.go_to(&format!("/c/{token}"));
    }
    let app = std::sync::Arc::clone(&pages.app);
    let id = page.session.id.clone();
    let ended = crate::ops::to_the_end(&pages.app, async move { sessions::cancel(&app, &id).await }).await;
    match ended {
        // While a payment is in flight nothing is cancelled; the page says that it is being checked.
        Ok(_) | Err(Error::Refused(_)) => pages.go_to(&format!("/c/{token}/done")),
        Err(error) => pages.failure(&error),
    }
}
