//! The web pages beside the gateway on a developer's machine, joined into one router: a demo shop,
//! a webhook inbox and a mailbox, served on a port and thus an origin of their own.
//!
//! The rule: they answer under a loopback name or the name they were given, and under no other, so
//! that a site elsewhere cannot have its own name point here and read along. Listening and the
//! gateway itself are left to others.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use url::{Host, Url};

use super::inbox::{self, Inbox, Now};
use super::mailbox::{self, ReadMails};
use super::page::{self, Area, Frame};
use super::shop::{self, Shop};
use super::shop_client::ShopClient;
use crate::domain::signature::SigningSecret;
use crate::headers::{HeaderPolicy, security_headers};
use crate::telemetry::{Door, observe};

/// What the tools need to know.
pub struct ToolsOptions {
    /// Origin of the gateway, such as `http://127.0.0.1:4242`.
    pub api_base: String,
    /// Origin of these pages, such as `http://127.0.0.1:4243`.
    pub tools_base: String,
    /// The demo merchant's secret key, `sk_test_…`. It is shown.
    pub secret_key: String,
    /// Secret of the demo merchant's endpoint at [`inbox::WEBHOOKS_PATH`] of these pages.
    pub webhook_secret: SigningSecret,
    /// Reads the mails that are kept, newest first.
    pub mails: ReadMails,
    /// The receiver's clock: the gateway's, so that a test that moves it moves both.
    pub now: Now,
}

/// All the pages, with every layer they need.
pub fn router(options: ToolsOptions) -> Router {
    let api_base = without_slash(options.api_base);
    let tools_base = without_slash(options.tools_base);
    let inbox = Inbox::new(options.webhook_secret, options.now);
    let shop = Shop {
        client: ShopClient::new(api_base.clone(), options.secret_key.clone()),
        gateway_origin: origin(&api_base),
        tools_base: tools_base.clone(),
        inbox: inbox.clone(),
    };
    let home = Home { api_base, tools_base: tools_base.clone(), secret_key: options.secret_key, inbox: inbox.clone() };
    let own_host: Option<Arc<str>> = Url::parse(&tools_base).ok().and_then(|url| url.host_str().map(Arc::from));
    let headers = HeaderPolicy::new(tools_base.starts_with("https://"));

    let pages = Router::new()
        .route("/", get(show_home).with_state(Arc::new(home)))
        .route(page::stylesheet_path(), get(page::stylesheet))
        .route(page::ICON_PATH, get(page::icon))
        .merge(shop::router(shop))
        .merge(inbox::router(inbox))
        .merge(mailbox::router(Arc::clone(&options.mails)))
        .fallback(nothing_here);
    let guarded = |router: Router| {
        router
            .layer(CatchPanicLayer::new())
            .layer(from_fn_with_state(own_host.clone(), refuse_other_names))
            .layer(from_fn_with_state(headers.clone(), security_headers))
    };
    // Outside of the layer that denies every frame: a mail's HTML may stand in ours.
    let framed = guarded(mailbox::framed_router(options.mails)).layer(map_response(framed_by_ourselves));
    guarded(pages).merge(framed).layer(from_fn_with_state(Door::Tools, observe))
}

fn without_slash(mut base: String) -> String {
    base.truncate(base.trim_end_matches('/').len());
    base
}

fn origin(base: &str) -> String {
    Url::parse(base).map_or_else(|_| base.to_owned(), |url| url.origin().ascii_serialization())
}

async fn framed_by_ourselves(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    response
}

/// Answers only under names that mean this machine. A page elsewhere whose name was pointed at
/// 127.0.0.1 (DNS rebinding) would share this origin otherwise, and read the key and the mails.
async fn refuse_other_names(State(own_host): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| is_known_name(host, own_host.as_deref())) {
        return next.run(request).await;
    }
    let message = "These pages answer under localhost, a loopback address or the address they were \
                   started with, and under no other name.\n";
    (StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

fn is_known_name(host_and_port: &str, own_host: Option<&str>) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host_and_port}/")) else {
        return false;
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    is_loopback || (own_host.is_some() && url.host_str() == own_host)
}

struct Home {
    api_base: String,
    tools_base: String,
    secret_key: String,
    inbox: Inbox,
}

#[derive(Template)]
#[template(path = "dev/home.html")]
struct HomePage<'a> {
    frame: Frame,
    home: &'a Home,
    message_count: usize,
}

async fn show_home(State(home): State<Arc<Home>>) -> Response {
    let message_count = home.inbox.messages().len();
    let shown = HomePage { frame: Frame::of(Area::Home), home: &home, message_count };
    page::page(StatusCode::OK, &shown)
}

async fn nothing_here() -> Response {
    page::message_page(
        StatusCode::NOT_FOUND,
        Area::Home,
        "There is no page at this address",
        "The links above lead to what is here. The API answers on a port of its own.",
    )
}

#[cfg(test)]
mod tests;
