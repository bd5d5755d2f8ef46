//! What every page shares: the frame, the rendering, the headers.

use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::assets::Assets;
use super::browser::{Browser, evict_from_back_cache};
use super::views::{MessageKind, MessageLink, MessageView, PageFrame};
use crate::app::App;
use crate::domain::money::Money;
use crate::domain::session::Session;
use crate::error::Error;
use crate::headers::HeaderPolicy;
use crate::i18n::{Locale, format_money};
use crate::store::sessions::PageSession;

/// Room for a page, so that its text need not be moved while it grows.
const PAGE_BYTES_USUAL: usize = 16 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub struct Pages {
    /// The application.
    pub app: Arc<App>,
    /// Names of style sheet, script and icon.
    pub assets: Arc<Assets>,
    form_headers: Arc<[(HeaderName, HeaderValue); 3]>,
    hop_headers: Arc<[(HeaderName, HeaderValue); 3]>,
}

/// The token in the address of a page. One that is not even text opens nothing, like any other.
pub struct Token(pub String);

impl FromRequestParts<Pages> for Token {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Response> {
        match Path::from_request_parts(parts, pages).await {
            Ok(Path(token)) => Ok(Self(token)),
            Err(_) => Err(pages.message(MessageKind::UnknownLink)),
        }
    }
}

/// Which policy a page gets: one with the script, or one that may do nothing but look right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The form, and pages that ask.
    Form,
    /// Pages that tell and lead away.
    Hop,
}

impl Pages {
    /// Names and headers for an application.
    pub fn new(app: Arc<App>) -> Self {
        let headers = HeaderPolicy::new(app.settings.is_https());
        let assets = Assets::default();
        let form_headers = Arc::new(headers.payer_page(&assets.script_hash));
        Self { app, assets: Arc::new(assets), form_headers, hop_headers: Arc::new(headers.hop_page()) }
    }

    /// The frame of a page. The texts are English whatever the locale, so is the frame.
    pub fn frame(&self, page: Option<&PageSession>, policy: Policy) -> PageFrame {
        let is_form = policy == Policy::Form;
        PageFrame {
            lang: "en".to_owned(),
            direction: "ltr".to_owned(),
            test_mode: page.is_some_and(|page| !page.session.livemode),
            stylesheet_url: self.assets.stylesheet_url.to_string(),
            accent_stylesheet_url: page
                .and_then(|page| page.accent_color.as_deref())
                .and_then(|color| self.assets.accent_url(color)),
            icon_url: is_form.then(|| self.assets.icon_url.to_string()),
            script: is_form.then(|| (*self.assets.script).clone()),
        }
    }

    /// Renders a page with its policy.
    pub fn render(&self, status: StatusCode, policy: Policy, view: &impl Template) -> Response {
        let headers: [(HeaderName, HeaderValue); 3] = match policy {
            Policy::Form => (*self.form_headers).clone(),
            Policy::Hop => (*self.hop_headers).clone(),
        };
        let mut html = String::with_capacity(PAGE_BYTES_USUAL);
        match view.render_into(&mut html) {
            Ok(()) => (status, headers, html).into_response(),
            Err(error) => {
                tracing::error!(%error, "a page could not be rendered");
                (StatusCode::INTERNAL_SERVER_ERROR, headers, "This page could not be shown.").into_response()
            }
        }
    }

    /// A page that says why another cannot be shown.
    pub fn message(&self, kind: MessageKind) -> Response {
        self.say(kind, None)
    }

    /// The same for a payer who has a payment to go back to.
    pub fn message_in(&self, kind: MessageKind, token: &str) -> Response {
        let link = MessageLink { url: format!("/c/{token}"), label: "Go to the payment".to_owned() };
        self.say(kind, Some(link))
    }

    fn say(&self, kind: MessageKind, link: Option<MessageLink>) -> Response {
        let view = MessageView { frame: self.frame(None, Policy::Hop), kind, request_id: None, link };
        let status = StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.render(status, Policy::Hop, &view)
    }

    /// The page for a failed operation. What is inside is logged here, once.
    pub fn failure(&self, error: &Error) -> Response {
        self.failed(error, |kind| self.message(kind))
    }

    /// The same for a payer who has a payment to go back to.
    pub fn failure_in(&self, error: &Error, token: &str) -> Response {
        self.failed(error, |kind| self.message_in(kind, token))
    }

    fn failed(&self, error: &Error, message: impl Fn(MessageKind) -> Response) -> Response {
        match error {
            // Links that lead nowhere get one page, whoever asks.
            Error::NotFound { .. } => self.message(MessageKind::UnknownLink),
            Error::Unavailable(inside) => {
                tracing::error!(inside, "a payer's page could not be shown because something we depend on is away");
                let mut response = message(MessageKind::Unavailable);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                response
            }
            other => {
                tracing::error!(inside = ?other, "a payer's page failed through a fault of ours");
                message(MessageKind::Internal)
            }
        }
    }

    /// Sends the browser on to another page of ours, after a form or from a page that does not fit.
    pub fn go_to(&self, path: &str) -> Response {
        let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
        (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
    }

    /// Completes the answer to a form: the browser's cookie, and the one that empties its cache.
    pub fn after_form(&self, mut response: Response, browser: &Browser) -> Response {
        browser.remember(&self.app.settings, response.headers_mut());
        evict_from_back_cache(&self.app.settings, response.headers_mut());
        response
    }
}

/// An amount as the payer reads it.
pub fn amount(session: &Session, locale: &Locale, minor: i64) -> String {
    format_money(locale, Money { minor, currency: session.total.currency })
}

/// The payer's locale: what the merchant said, else what the browser says.
pub fn locale(session: &Session, headers: &HeaderMap) -> Locale {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Locale::negotiate(session.options.locale.as_deref(), accepted)
}
