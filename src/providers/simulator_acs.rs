//! The simulated bank's own pages, where a payer says that a payment is his: an access control
//! server, in the words of 3-D Secure.
//!
//! Rule: the bank is another company. Its pages stand on an origin of their own and know nothing of
//! sessions; all that connects them to a charge is an id that nobody can guess. An answer counts
//! once. They need no script, no cookie, and no redirect from a form to another origin, which
//! Chromium would refuse after the payer has answered. Listening is left to others.

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::simulator::Simulator;
use super::simulator_entry::{Answer, Challenge};
use crate::headers::{HOP_PAGE_CONTENT_SECURITY_POLICY, HeaderPolicy, asset_headers, security_headers};
use crate::i18n::{Locale, format_money};

const STYLESHEET: &str = include_str!("../../templates/simulator/bank.css");

/// Letters and digits of a challenge's id: 190 bits, because who knows it may answer for the payer.
pub(super) const CHALLENGE_ID_CHARS: usize = 32;

/// Bytes of a form: one short word.
const FORM_BYTES_MAX: usize = 256;

/// Bytes of the style sheet's hash that stand in its path: enough that two versions never meet.
const STYLESHEET_HASH_BYTES: usize = 8;

/// How often the news of an answer that is to be sent twice goes to the report sink.
const TWICE: usize = 2;

static STYLESHEET_PATH: LazyLock<String> = LazyLock::new(|| {
    let hash = Sha256::digest(STYLESHEET);
    format!("/assets/bank.{}.css", hex::encode(&hash[..STYLESHEET_HASH_BYTES]))
});

/// Where the style sheet is served; the path holds a hash of its content.
pub(crate) fn stylesheet_path() -> &'static str {
    &STYLESHEET_PATH
}

/// The bank's page for a challenge.
pub(super) fn challenge_url(acs_base_url: &str, challenge_id: &str) -> String {
    format!("{acs_base_url}/challenge/{challenge_id}")
}

/// All the pages, with their headers, for the challenges of every simulated company on the database. To be
/// served on an origin that is not the gateway's.
pub fn router(simulator: Arc<Simulator>) -> Router {
    let is_https = simulator.acs_base_url.as_deref().is_some_and(|base| base.starts_with("https://"));
    Router::new()
        .route("/challenge/{id}", get(ask).post(take_answer))
        .route("/challenge/{id}/return", get(go_back))
        .route(stylesheet_path(), get(stylesheet))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(simulator)
        .layer(from_fn_with_state(HeaderPolicy::new(is_https), security_headers))
}

#[derive(Template)]
#[template(path = "simulator/challenge.html")]
struct ChallengePage<'a> {
    merchant: &'a str,
    amount: String,
    action: String,
}

#[derive(Template)]
#[template(path = "simulator/hop.html")]
struct HopPage<'a> {
    title: &'a str,
    return_url: &'a str,
}

#[derive(Template)]
#[template(path = "simulator/twice.html")]
struct TwicePage<'a> {
    return_url: &'a str,
}

#[derive(Template)]
#[template(path = "simulator/stay.html")]
struct StayPage<'a> {
    return_url: &'a str,
}

#[derive(Template)]
#[template(path = "simulator/notice.html")]
struct NoticePage<'a> {
    title: &'a str,
    message: &'a str,
    return_url: Option<&'a str>,
}

/// Shows the question, or why there is none.
async fn ask(State(simulator): State<Arc<Simulator>>, Path(id): Path<String>) -> Response {
    let challenge = match find(&simulator, &id).await {
        Ok(challenge) => challenge,
        Err(response) => return response,
    };
    let (true, Some(money)) = (challenge.is_open(), challenge.money()) else {
        return closed(StatusCode::GONE, &challenge);
    };
    let locale = Locale::negotiate(Some("en"), None);
    let page = ChallengePage {
        merchant: challenge.merchant.as_deref().unwrap_or("the shop"),
        amount: format_money(&locale, money),
        action: format!("/challenge/{id}"),
    };
    show(StatusCode::OK, "form-action 'self'", &page)
}

/// Takes the answer in and goes on to a page of the bank's own, from where the browser leaves.
async fn take_answer(State(simulator): State<Arc<Simulator>>, Path(id): Path<String>, body: Bytes) -> Response {
    let challenge = match find(&simulator, &id).await {
        Ok(challenge) => challenge,
        Err(response) => return response,
    };
    let word = url::form_urlencoded::parse(&body).find_map(|(name, value)| (name == "answer").then_some(value));
    let Some(answer) = word.as_deref().and_then(Answer::from_word) else {
        let message = "The form arrived without an answer. Nothing was decided. Go back and choose one.";
        return notice(StatusCode::BAD_REQUEST, "No answer", message, None);
    };
    match simulator.ledger.answer(&id, answer).await {
        Ok(true) => {
            tracing::info!(charge = challenge.charge_id, answer = answer.word(), "a payer answered the simulated bank");
            if answer == Answer::ApproveTwice {
                tell_twice(&simulator, &challenge.charge_id).await;
            }
        }
        // The same button pressed twice is the same answer, in whichever order the two arrive.
        Ok(false) => match find(&simulator, &id).await {
            Ok(challenge) if challenge.answer() == Some(answer) => {}
            Ok(challenge) => return closed(StatusCode::CONFLICT, &challenge),
            Err(response) => return response,
        },
        Err(error) => return books_away(&error),
    }
    see_other(&format!("/challenge/{id}/return"))
}

async fn tell_twice(simulator: &Simulator, charge_id: &str) {
    match simulator.ledger.find(charge_id).await {
        Ok(Some(entry)) => {
            let report = simulator.report(&entry);
            (0..TWICE).for_each(|_| simulator.behaviour.report(charge_id, &report));
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(charge = charge_id, %error, "the news of an answered challenge could not be sent: the simulator's books cannot be read");
        }
    }
}

/// Takes the browser back, in the way that the answer asks for. May be loaded again and again.
async fn go_back(State(simulator): State<Arc<Simulator>>, Path(id): Path<String>) -> Response {
    let challenge = match find(&simulator, &id).await {
        Ok(challenge) => challenge,
        Err(response) => return response,
    };
    let return_url = challenge.return_url.as_str();
    let hop = |title| show_with(StatusCode::OK, HOP_PAGE_CONTENT_SECURITY_POLICY, &HopPage { title, return_url });
    match challenge.answer() {
        Some(Answer::Approve) => hop("Approved"),
        Some(Answer::Fail) => hop("Not confirmed"),
        Some(Answer::Cancel) => hop("Cancelled"),
        Some(Answer::ApproveTwice) => {
            // Chromium holds redirects after the form to this list as well; they stay on that origin.
            let origin = origin(return_url).unwrap_or_default();
            show(StatusCode::OK, &format!("img-src {origin}; form-action {origin}"), &TwicePage { return_url })
        }
        Some(Answer::ApproveAndStay) => show(StatusCode::OK, "form-action 'none'", &StayPage { return_url }),
        None if challenge.is_open() => see_other(&format!("/challenge/{id}")),
        None => closed(StatusCode::GONE, &challenge),
    }
}

/// The challenge of an address, or the page that says that there is none.
async fn find(simulator: &Simulator, id: &str) -> Result<Challenge, Response> {
    let is_possible = id.len() == CHALLENGE_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_possible {
        return Err(nothing_here().await);
    }
    match simulator.ledger.challenge(id).await {
        Ok(Some(challenge)) => Ok(challenge),
        Ok(None) => Err(nothing_here().await),
        Err(error) => Err(books_away(&error)),
    }
}

/// Answered already, or too late to be.
fn closed(status: StatusCode, challenge: &Challenge) -> Response {
    let (title, message) = match challenge.answer() {
        Some(answer) if answer.passes() => {
            ("Already approved", "This payment was approved before. An answer counts once.")
        }
        Some(_) => ("Already refused", "This payment was refused before. An answer counts once."),
        None => (
            "Too late",
            "This question is no longer open: too much time has passed, or the shop has withdrawn the payment. You were not charged.",
        ),
    };
    notice(status, title, message, Some(&challenge.return_url))
}

fn books_away(error: &sqlx::Error) -> Response {
    tracing::error!(%error, "a page of the simulated bank cannot be shown: the simulator's books cannot be read");
    let message = "The bank cannot be reached just now. Load this page again in a moment.";
    notice(StatusCode::SERVICE_UNAVAILABLE, "Not available", message, None)
}

async fn nothing_here() -> Response {
    let message = "There is no question to answer at this address. Go back to the shop and pay from there.";
    notice(StatusCode::NOT_FOUND, "Nothing here", message, None)
}

fn notice(status: StatusCode, title: &str, message: &str, return_url: Option<&str>) -> Response {
    show(status, "form-action 'none'", &NoticePage { title, message, return_url })
}

/// Shows a page whose policy differs from the strictest one in `sources` only.
fn show(status: StatusCode, sources: &str, page: &impl Template) -> Response {
    let policy = format!("default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; {sources}");
    show_with(status, &policy, page)
}

fn show_with(status: StatusCode, policy: &str, page: &impl Template) -> Response {
    let (Ok(html), Ok(policy)) = (page.render(), HeaderValue::try_from(policy)) else {
        tracing::error!("a page of the simulated bank could not be rendered");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (status, headers, html).into_response()
}

/// After a form always 303: 307 and 308 would carry the form on.
fn see_other(path: &str) -> Response {
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

async fn stylesheet() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (asset_headers(), kind, STYLESHEET).into_response()
}

/// The origin of an absolute http or https URL; `None` for everything else.
pub(super) fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_has_origins() {
        assert_eq!(origin("http://127.0.0.1:4242/3ds/abc?x=1").as_deref(), Some("http://127.0.0.1:4242"));
        assert_eq!(origin("https://pay.shop.example/3ds/abc").as_deref(), Some("https://pay.shop.example"));
        for url in ["javascript:alert(1)", "/3ds/abc", "data:text/html,x", ""] {
            assert_eq!(origin(url), None, "{url}");
        }
    }

    #[test]
    fn what_a_shop_calls_itself_is_text_and_no_markup() {
        let page = ChallengePage {
            merchant: "<script>alert(1)</script>\"",
            amount: "€1.00".to_owned(),
            action: "/challenge/x".to_owned(),
        };
        let html = page.render().expect("renders");
        assert!(!html.contains("<script"), "{html}");
    }
}
