//! 3-D Secure by redirect: the page before the payer's bank, and the way back from there.
//!
//! The rule: what the bank's page brings back is believed in nothing. It names a charge by a one-time
//! word, and the provider is asked what became of it. The way back needs no cookie, because a POST
//! from another site carries none, and may be used twice, late, or in another browser.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;

use super::identity::{Gate, gate};
use super::page::{Pages, Policy, amount, locale};
use super::views::{AuthenticateView, BackView, PageFrame};
use crate::domain::payment::ChargeState;
use crate::domain::session::State as SessionState;
use crate::error::Result;
use crate::ops::{confirmations, payments, sessions};

/// `GET /c/{token}/3ds`: on to the bank.
pub async fn leave(State(pages): State<Pages>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    show(&pages, &token, &headers, true).await.unwrap_or_else(|error| pages.failure(&error))
}

/// The page that leads to the bank, by itself or by its link only. A session that waits for no bank goes to
/// the page that tells how it stands.
pub(super) async fn show(pages: &Pages, token: &str, headers: &HeaderMap, leave: bool) -> Result<Response> {
    let page = sessions::find_by_token(&pages.app, token).await?;
    let session = &page.session;
    let charge = match session.state {
        SessionState::Processing => sessions::latest_charge(&pages.app, &session.id).await?,
        _ => None,
    };
    let Some(ChargeState::RequiresAction { url: bank_url }) = charge.map(|charge| charge.state) else {
        return Ok(pages.go_to(&format!("/c/{token}/done")));
    };
    if let Gate::Ask(response) = gate(pages, &page, headers).await {
        return Ok(response);
    }
    let locale = locale(session, headers);
    let bank_domain =
        url::Url::parse(&bank_url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let view = AuthenticateView {
        frame: pages.frame(Some(&page), Policy::Hop),
        merchant_name: page.merchant_name.clone(),
        total: amount(session, &locale, session.total.minor),
        bank_url,
        bank_domain,
        leave,
        status_path: format!("/c/{token}/done"),
        reference: session.id.to_string(),
    };
    Ok(pages.render(StatusCode::OK, Policy::Hop, &view))
}

/// `GET` and `POST /3ds/{state}`: back from the bank, however it sends him. A payer of a merchant's own page goes
/// on there, by a page of ours: his browser may refuse to be redirected to another origin after the bank's form.
pub async fn come_back(State(pages): State<Pages>, Path(state): Path<String>, method: Method) -> Response {
    let back = payments::come_back(&pages.app, &state).await;
    let (session, way_on) = match (back, confirmations::way_on(&pages.app, &state).await) {
        (Ok(session), Ok(way_on)) => (session, way_on),
        (Err(error), _) | (_, Err(error)) => return pages.failure(&error),
    };
    match way_on {
        None => pages.go_to(&format!("/c/{}/done", pages.app.keyring.payer_token(&session))),
        Some(_) if method == Method::POST => pages.go_to(&format!("/3ds/{state}")),
        Some((url, domain)) => {
            let test_mode = session.as_str().starts_with("cs_test_");
            let frame = PageFrame { test_mode, ..pages.frame(None, Policy::Hop) };
            let view = BackView { frame, url, domain, reference: session.to_string() };
            pages.render(StatusCode::OK, Policy::Hop, &view)
        }
    }
}
