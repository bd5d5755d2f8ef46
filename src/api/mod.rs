//! Door 1: the merchants' REST API under `/v1`, in Stripe's shapes.
//!
//! The rule: every route stands in this table of contents and calls the guard before anything else
//! (`payer_sessions` looks at the payer's token instead, the only credential there); a handler
//! parses, calls one operation and answers. Every answer is JSON, and every failure is the
//! error envelope, unknown routes and panics included. The OpenAPI document is made from the same
//! table.

mod answer;
mod charges;
mod checkout_session_params;
mod checkout_sessions;
mod customers;
mod disputes;
mod escrow_params;
mod escrows;
mod event_replays;
mod event_stream;
mod events;
mod fields;
mod guard;
pub mod params;
mod params_failure;
mod params_form;
mod params_reader;
mod payer_billing;
mod payer_card;
mod payer_pace;
mod payer_sessions;
mod payment_intents;
mod payment_methods;
mod redirect_urls;
pub mod reference;
mod refunds;
mod reviews;
mod saved_card_params;
mod test_mode;
mod webhook_endpoints;

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, options};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answer::ApiError;
pub use self::event_stream::Streams;
pub use self::guard::KeyCache;
pub use self::payer_pace::PayerPace;
use crate::app::App;
use crate::error::Error;
use crate::telemetry::{Door, observe};

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// The application.
    pub app: Arc<App>,
    /// API keys seen lately.
    pub keys: Arc<KeyCache>,
    /// How often payers' pages call.
    pub pace: Arc<PayerPace>,
    /// Event streams under way.
    pub streams: Arc<Streams>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "checkstand",
        description = "A self-hosted gateway for hosted checkout sessions. Paths, parameters and shapes are those of \
            Stripe's API where Stripe has them, so the official Stripe SDKs work unmodified; checkstand is not affiliated \
            with Stripe. Bodies may be forms with bracketed names or JSON. Any POST may carry an Idempotency-Key.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    security(("bearer" = []), ("basic" = [])),
    tags(
        (name = "Checkout sessions", description = "Short-lived, single-use sessions that a payer completes on a hosted page."),
        (name = "Payer's own page", description = "A session driven from the merchant's own page with the payer's token, without an API key."),
        (name = "Payment intents", description = "What became of a session's payment."),
        (name = "Charges", description = "Every try to take money, failed ones too."),
        (name = "Refunds", description = "Money given back."),
        (name = "Disputes", description = "Charges that payers dispute at their banks."),
        (name = "Customers", description = "Whom the merchant sells to."),
        (name = "Payment methods", description = "Cards that are kept for customers."),
        (name = "Reviews", description = "Payments that a fraud rule holds until the merchant has looked at them."),
        (name = "Escrows", description = "Money held between two sides, and sessions for what each of them may do."),
        (name = "Events", description = "What happened, and whether the merchant's backend knows."),
        (name = "Webhook endpoints", description = "Where events are delivered to."),
        (name = "Redirect URLs", description = "Where payers may be sent back to."),
        (name = "Test helpers", description = "Play payer, bank and time in test mode, without a browser."),
    ),
)]
struct Document;

fn table_of_contents() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(checkout_sessions::create, checkout_sessions::list))
        .routes(routes!(checkout_sessions::retrieve, checkout_sessions::update))
        .routes(routes!(checkout_sessions::expire))
        .routes(routes!(checkout_sessions::line_items))
        .routes(routes!(payer_sessions::retrieve))
        .routes(routes!(payer_sessions::confirm))
        .routes(routes!(payment_intents::list))
        .routes(routes!(payment_intents::retrieve, payment_intents::update))
        .routes(routes!(payment_intents::capture))
        .routes(routes!(payment_intents::cancel))
        .routes(routes!(charges::list))
        .routes(routes!(charges::retrieve))
        .routes(routes!(refunds::create, refunds::list))
        .routes(routes!(refunds::retrieve, refunds::update))
        .routes(routes!(disputes::list))
        .routes(routes!(disputes::retrieve, disputes::update))
        .routes(routes!(disputes::close))
        .routes(routes!(customers::create, customers::list))
        .routes(routes!(customers::retrieve, customers::update, customers::delete))
        .routes(routes!(customers::payment_methods))
        .routes(routes!(payment_methods::list))
        .routes(routes!(payment_methods::retrieve, payment_methods::update))
        .routes(routes!(payment_methods::detach))
        .routes(routes!(reviews::list))
        .routes(routes!(reviews::retrieve))
        .routes(routes!(reviews::approve))
        .routes(routes!(escrows::create, escrows::list))
        .routes(routes!(escrows::retrieve, escrows::update))
        .routes(routes!(escrows::create_session))
        .routes(routes!(escrows::deliver))
        .routes(routes!(escrows::reject_delivery))
        .routes(routes!(escrows::cancel))
        .routes(routes!(escrows::resolve))
        .routes(routes!(escrows::contract))
        .routes(routes!(escrows::attachments))
        .routes(routes!(escrows::attachment))
        .routes(routes!(events::list))
        .routes(routes!(event_stream::stream))
        .routes(routes!(events::retrieve))
        .routes(routes!(events::deliveries))
        .routes(routes!(events::resend))
        .routes(routes!(event_replays::create, event_replays::list))
        .routes(routes!(event_replays::retrieve))
        .routes(routes!(event_replays::cancel))
        .routes(routes!(webhook_endpoints::create, webhook_endpoints::list))
        .routes(routes!(webhook_endpoints::retrieve, webhook_endpoints::update, webhook_endpoints::delete))
        .routes(routes!(webhook_endpoints::rotate_secret))
        .routes(routes!(webhook_endpoints::test))
        .routes(routes!(webhook_endpoints::statistics))
        .routes(routes!(redirect_urls::create, redirect_urls::list))
        .routes(routes!(redirect_urls::retrieve, redirect_urls::delete))
        .routes(routes!(test_mode::complete))
        .routes(routes!(test_mode::decline))
        .routes(routes!(test_mode::authenticate))
        .routes(routes!(test_mode::expire))
        .routes(routes!(disputes::open_for_test))
}

/// The OpenAPI 3.1 document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = table_of_contents().into_openapi();
    document.info.version = crate::wire::API_VERSION.to_owned();
    let components = document.components.get_or_insert_with(Default::default);
    for (name, scheme) in [("bearer", HttpAuthScheme::Bearer), ("basic", HttpAuthScheme::Basic)] {
        components.security_schemes.insert(name.to_owned(), SecurityScheme::Http(Http::new(scheme)).into());
    }
    document
}

/// The OpenAPI document as pretty JSON with a line end, as it is committed and served.
///
/// # Panics
/// Never: the document serialises.
pub fn openapi_json() -> String {
    let mut text = openapi().to_pretty_json().expect("an OpenAPI document serialises");
    text.push('\n');
    text
}

/// The door.
pub fn router(app: Arc<App>) -> Router {
    let api = Api { app, keys: Arc::new(KeyCache::default()), pace: Arc::default(), streams: Arc::default() };
    let (routes, _) = table_of_contents().split_for_parts();
    routes
        // Browsers ask before a merchant's own page may send JSON.
        .route("/v1/checkout/sessions/token/{token}", options(payer_sessions::preflight))
        .route("/v1/checkout/sessions/token/{token}/confirm", options(payer_sessions::preflight))
        // Addresses that lead nowhere are routes too, so that they pass through the layers below: SDKs
        // read the request id of every answer.
        .route("/v1", any(unknown_route))
        .route("/v1/", any(unknown_route))
        .route("/v1/{*rest}", any(unknown_route))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(api.clone(), guard::honour_idempotency_key))
        .layer(from_fn(answer::catch_panic))
        .layer(from_fn(echo))
        .layer(from_fn_with_state(Door::Api, observe))
        .with_state(api)
}

async fn unknown_route(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::unknown_route(&method, uri.path())
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::method_not_allowed(&method, uri.path())
}

/// Echoes what Stripe's SDKs read back: the idempotency key and the version.
async fn echo(request: Request, next: Next) -> Response {
    let echoed: Vec<_> = ["idempotency-key", "stripe-version"]
        .into_iter()
        .filter_map(|name| request.headers().get(name).map(|value| (name, value.clone())))
        .collect();
    let mut response = next.run(request).await;
    for (name, value) in echoed {
        response.headers_mut().insert(name, value);
    }
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        ApiError::from(self).into_response()
    }
}

/// Serves the OpenAPI document.
pub async fn serve_openapi(State(document): State<Arc<str>>) -> Response {
    (crate::headers::api_headers(), document.to_string()).into_response()
}
