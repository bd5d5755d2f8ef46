//! Door 2: the payer's pages under `/c/{token}`.
//!
//! The rule: a GET changes nothing but the note that the page was opened; a POST answers with a page
//! or with 303 to a page of ours, never with a redirect to another origin (browsers differ in what
//! they do then, and one strands a payer who has paid). A session that is not open never renders the
//! form. Tokens that open nothing all get the same page.

mod act_form;
mod act_words;
mod acts;
mod assets;
mod authenticate;
mod billing;
mod browser;
mod checkout;
pub mod identity;
mod outcome;
mod page;
mod saved_cards;
pub mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub use self::assets::Assets;
use self::page::Pages;
use self::views::MessageKind;
use crate::app::App;
use crate::headers::CSP_REPORT_PATH;
use crate::telemetry::{self, Door, observe};

/// The door.
pub fn router(app: Arc<App>) -> Router {
    let pages = Pages::new(app);
    let assets = pages.assets.router().layer(from_fn_with_state(Door::Assets, observe));
    Router::new()
        .route("/c/{token}", get(checkout::form))
        .route("/c/{token}/pay", get(checkout::back_to_form).post(checkout::pay))
        .route("/c/{token}/act", get(acts::back_to_form).post(acts::act))
        .route("/c/{token}/identity/send", get(checkout::back_to_form).post(identity::send))
        .route("/c/{token}/identity/confirm", get(checkout::back_to_form).post(identity::confirm))
        .route("/c/{token}/cancel", get(outcome::ask_to_cancel).post(outcome::cancel))
        .route("/c/{token}/3ds", get(authenticate::leave))
        .route("/3ds/{state}", get(authenticate::come_back).post(authenticate::come_back))
        .route("/c/{token}/done", get(outcome::done))
        .route("/c/{token}/status", get(outcome::status))
        .route(CSP_REPORT_PATH, post(csp_report))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(pages.clone(), catch_panic))
        .layer(from_fn_with_state(Door::Hosted, observe))
        .with_state(pages)
        .merge(assets)
}

/// The page for an address that leads nowhere; also the whole service's answer outside the API.
pub fn unknown_page(app: &Arc<App>) -> Response {
    Pages::new(Arc::clone(app)).message(MessageKind::UnknownLink)
}

async fn method_not_allowed(pages: axum::extract::State<Pages>) -> Response {
    pages.message(MessageKind::MethodNotAllowed)
}

async fn catch_panic(pages: axum::extract::State<Pages>, request: Request, next: Next) -> Response {
    let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(next.run(request))).await;
    caught.unwrap_or_else(|_| pages.message(MessageKind::Internal))
}

/// Takes a browser's report that something on a page was blocked. A report names the page's address,
/// token included, so it is counted and thrown away unread.
async fn csp_report(method: Method) -> Response {
    debug_assert_eq!(method, Method::POST);
    metrics::counter!(telemetry::CSP_REPORTS_TOTAL).increment(1);
    StatusCode::NO_CONTENT.into_response()
}
