//! What the tools' pages share: the frame round each page, its content security policy, the style
//! sheet and the icon, and how a moment is written.
//!
//! The rule: a page is complete HTML that loads one style sheet and one icon of its own origin and
//! runs no script. What a page says is its own business, and the headers that every answer carries
//! are added by the router.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest as _, Sha256};

use crate::headers::asset_headers;

const STYLESHEET: &str = include_str!("../../templates/assets/dev.css");
const ICON: &str = include_str!("../../templates/assets/icon.svg");

/// Where the icon is served.
pub const ICON_PATH: &str = "/icon.svg";

/// The policy of a page without anything special: one style sheet, the icon, no script, no frame.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                           form-action 'self'; frame-ancestors 'none'";

/// Bytes of the style sheet's hash that stand in its path: enough that two versions never meet.
const STYLESHEET_HASH_BYTES: usize = 6;

static STYLESHEET_PATH: LazyLock<String> = LazyLock::new(|| {
    let hash = Sha256::digest(STYLESHEET);
    format!("/assets/dev.{}.css", hex::encode(&hash[..STYLESHEET_HASH_BYTES]))
});

/// Where the style sheet is served; the path holds a hash of its content.
pub fn stylesheet_path() -> &'static str {
    &STYLESHEET_PATH
}

/// Which part of the tools a page belongs to; marks its link in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The page that says what is here.
    Home,
    /// The demo shop.
    Shop,
    /// The webhook inbox.
    Inbox,
    /// The mailbox.
    Mailbox,
}

impl Area {
    /// Path of the area's first page.
    pub fn path(self) -> &'static str {
        match self {
            Area::Home => "/",
            Area::Shop => "/shop",
            Area::Inbox => "/inbox",
            Area::Mailbox => "/mailbox",
        }
    }

    /// What the link to it says.
    pub fn label(self) -> &'static str {
        match self {
            Area::Home => "Start",
            Area::Shop => "Demo shop",
            Area::Inbox => "Webhook inbox",
            Area::Mailbox => "Mailbox",
        }
    }
}

/// What every page has in common.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where the page belongs.
    pub area: Area,
    /// Where the browser goes by itself, and after how many seconds.
    pub refresh: Option<Refresh>,
}

/// A meta refresh.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Seconds until then.
    pub seconds: u32,
    /// A path of ours, with its query.
    pub path: String,
}

impl Frame {
    /// The frame of a page in `area` that stays as it is.
    pub fn of(area: Area) -> Frame {
        Frame { area, refresh: None }
    }

    /// The links at the top.
    pub fn areas(&self) -> [Area; 4] {
        [Area::Home, Area::Shop, Area::Inbox, Area::Mailbox]
    }

    /// Where the style sheet is.
    pub fn stylesheet_path(&self) -> &'static str {
        stylesheet_path()
    }
}

/// A page with the usual policy.
pub fn page<T: Template>(status: StatusCode, template: &T) -> Response {
    page_with_policy(status, HeaderValue::from_static(PAGE_POLICY), template)
}

/// A page that shows a frame of our own origin.
pub fn page_with_frame<T: Template>(template: &T) -> Response {
    let policy = format!("{PAGE_POLICY}; frame-src 'self'");
    let policy = HeaderValue::try_from(policy).expect("the policy is printable ASCII");
    page_with_policy(StatusCode::OK, policy, template)
}

/// A page with a form whose answer may redirect to `origin`, such as `http://127.0.0.1:4242`.
///
/// Chromium applies `form-action` to the redirect after a POST as well, so the origin must be
/// named. One that does not fit into the policy is left out of it.
pub fn page_with_form_to<T: Template>(status: StatusCode, origin: &str, template: &T) -> Response {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'\'');
    let policy = if origin.bytes().all(fits) {
        PAGE_POLICY.replace("form-action 'self'", &format!("form-action 'self' {origin}"))
    } else {
        PAGE_POLICY.to_owned()
    };
    let policy = HeaderValue::try_from(policy).expect("the policy is printable ASCII");
    page_with_policy(status, policy, template)
}

fn page_with_policy<T: Template>(status: StatusCode, policy: HeaderValue, template: &T) -> Response {
    match template.render() {
        Ok(html) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (header::CONTENT_SECURITY_POLICY, policy),
            ];
            (status, headers, html).into_response()
        }
        Err(error) => {
            tracing::error!(cause = %error, "a page of the development tools could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The style sheet.
pub async fn stylesheet() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (asset_headers(), kind, STYLESHEET).into_response()
}

/// The icon. Its path has no hash, so it is not kept for long.
pub async fn icon() -> Response {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, ICON).into_response()
}

#[derive(Template)]
#[template(path = "dev/message.html")]
struct MessagePage<'a> {
    frame: Frame,
    title: &'a str,
    message: &'a str,
}

/// A page that says one thing, such as why there is nothing at this address.
pub fn message_page(status: StatusCode, area: Area, title: &str, message: &str) -> Response {
    page(status, &MessagePage { frame: Frame::of(area), title, message })
}

/// A moment, as the pages show it. Always UTC, as in the log.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// For `<time datetime>`: RFC 3339 with milliseconds.
    pub fn machine(&self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// `12:03:04`, for lists of what happened just now.
    pub fn time(&self) -> String {
        self.0.format("%H:%M:%S").to_string()
    }

    /// `2026-01-02 12:03:04.567 UTC`.
    pub fn full(&self) -> String {
        self.0.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
    }
}
