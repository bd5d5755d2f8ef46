//! The demo shop of a developer's machine: a merchant's shop as small as one can be, on an origin
//! of its own.
//!
//! The rule: it uses the public API and webhooks, as any merchant would, and believes what a good
//! merchant believes: the payer's address bar and the session that is read back are hints, the
//! verified webhook is the truth. Talking to the API is left to `shop_client`, receiving webhooks to
//! `inbox`.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::Value;
use url::form_urlencoded;

use super::inbox::{Inbox, Message};
use super::page::{Area, Frame, Refresh, message_page, page, page_with_form_to};
use super::shop_client::{ApiFailure, ShopClient};
use crate::domain::money::{Currency, Money};
use crate::i18n::{Locale, format_money};

/// The most of one product that the form offers: enough to see a quantity in a line.
const QUANTITY_MAX: u8 = 9;

/// The form has five short fields.
const FORM_BYTES_MAX: usize = 4 * 1024;

/// Longest session id that is looked up.
const SESSION_ID_BYTES_MAX: usize = 255;

/// How often the thank-you page looks for the webhook by itself, once a second.
const WAITING_ROUNDS_MAX: u32 = 20;
const WAITING_SECONDS: u32 = 1;

/// Currencies of the shop, the first being the usual one. Yen have no decimals, which is why they are here.
const CURRENCIES: [&str; 3] = ["eur", "usd", "jpy"];

/// The events that settle what became of a session.
const OUTCOMES: [&str; 6] = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "checkout.session.cancelled",
    "checkout.session.failed",
];

struct Product {
    key: &'static str,
    name: &'static str,
    description: &'static str,
    /// In minor units, in the order of [`CURRENCIES`].
    prices_minor: [i64; 3],
    /// How many the form proposes.
    quantity: u8,
}

const PRODUCTS: [Product; 3] = [
    Product {
        key: "coffee",
        name: "Coffee beans, 250 g",
        description: "Washed, from Sidama. Peach, honey, black tea.",
        prices_minor: [12_50, 13_90, 2_100],
        quantity: 1,
    },
    Product {
        key: "mug",
        name: "Stoneware mug",
        description: "Holds a third of a litre and survives the dishwasher.",
        prices_minor: [18_00, 19_50, 3_000],
        quantity: 1,
    },
    Product {
        key: "poster",
        name: "Poster, A2",
        description: "How coffee grows, in two colours on heavy paper.",
        prices_minor: [24_00, 26_00, 4_000],
        quantity: 0,
    },
];

/// What the shop needs.
#[derive(Clone)]
pub struct Shop {
    /// The merchant's client of the API.
    pub client: ShopClient,
    /// Origin of the gateway, where a bought cart redirects to.
    pub gateway_origin: String,
    /// Origin of these pages, without a slash at its end.
    pub tools_base: String,
    /// Where the merchant's webhooks arrive.
    pub inbox: Inbox,
}

/// The shop's routes.
pub fn router(shop: Shop) -> Router {
    Router::new()
        .route("/shop", get(show_shop))
        .route("/shop/buy", post(buy).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)))
        .route("/shop/thanks", get(show_thanks))
        .with_state(Arc::new(shop))
}

struct ShopItem {
    product: &'static Product,
    price: String,
    quantities: Vec<u8>,
    quantity: u8,
}

#[derive(Template)]
#[template(path = "dev/shop.html")]
struct ShopPage {
    frame: Frame,
    currencies: [&'static str; 3],
    currency: &'static str,
    items: Vec<ShopItem>,
    cancelled: bool,
    nothing_chosen: bool,
    failure: Option<ApiFailure>,
}

/// The field's value, the first one if there are several.
fn field(encoded: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(encoded).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn currency_place(encoded: &[u8]) -> usize {
    let asked = field(encoded, "currency");
    let place = |asked: String| CURRENCIES.iter().position(|code| code.eq_ignore_ascii_case(&asked));
    asked.and_then(place).unwrap_or(0)
}

fn written(minor: i64, currency: &str) -> String {
    match Currency::parse(currency) {
        Some(currency) => format_money(&Locale::default(), Money::new(minor, currency)),
        None => format!("{minor} {currency}"),
    }
}

impl ShopPage {
    fn is_current(&self, currency: &str) -> bool {
        self.currency == currency
    }

    fn new(currency_place: usize, quantities: [u8; 3]) -> ShopPage {
        let currency = CURRENCIES[currency_place];
        let item = |(product, quantity): (&'static Product, u8)| ShopItem {
            product,
            price: written(product.prices_minor[currency_place], currency),
            quantities: (0..=QUANTITY_MAX).collect(),
            quantity,
        };
        ShopPage {
            frame: Frame::of(Area::Shop),
            currencies: CURRENCIES,
            currency,
            items: PRODUCTS.iter().zip(quantities).map(item).collect(),
            cancelled: false,
            nothing_chosen: false,
            failure: None,
        }
    }
}

async fn show_shop(State(shop): State<Arc<Shop>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let quantities = PRODUCTS.each_ref().map(|product| product.quantity);
    let mut shown = ShopPage::new(currency_place(query.as_bytes()), quantities);
    shown.cancelled = field(query.as_bytes(), "cancelled").is_some();
    page_with_form_to(StatusCode::OK, &shop.gateway_origin, &shown)
}

async fn buy(State(shop): State<Arc<Shop>>, headers: HeaderMap, form: String) -> Response {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return message_page(
            StatusCode::FORBIDDEN,
            Area::Shop,
            "That form is not ours",
            "Another site sent this order. Orders are taken from the shop's own page only.",
        );
    }
    let form = form.as_bytes();
    let place = currency_place(form);
    let quantities = PRODUCTS.each_ref().map(|product| {
        let asked: Option<u8> = field(form, product.key).and_then(|text| text.parse().ok());
        asked.unwrap_or(0).min(QUANTITY_MAX)
    });
    let mut shown = ShopPage::new(place, quantities);
    if quantities == [0; 3] {
        shown.nothing_chosen = true;
        return page_with_form_to(StatusCode::BAD_REQUEST, &shop.gateway_origin, &shown);
    }

    let order_id = format!("order_{:016x}", rand::random::<u64>());
    let parameters = session_parameters(&shop.tools_base, &order_id, place, quantities);
    let created = shop.client.create_session(&parameters, &format!("create-{order_id}")).await;
    let failure = match created {
        Ok(session) => match payment_page(&session) {
            Some(location) => {
                return (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response();
            }
            None => ApiFailure {
                call: "POST /v1/checkout/sessions".to_owned(),
                message: "The session has no `url` that a payer could be sent to.".to_owned(),
                ..ApiFailure::default()
            },
        },
        Err(failure) => failure,
    };
    shown.failure = Some(failure);
    page_with_form_to(StatusCode::BAD_GATEWAY, &shop.gateway_origin, &shown)
}

/// What the shop asks the API for: the parameters of a session as any merchant writes them.
fn session_parameters(
    tools_base: &str,
    order_id: &str,
    currency_place: usize,
    quantities: [u8; 3],
) -> Vec<(String, String)> {
    let way_back = format!("{tools_base}/shop/thanks?session_id={{CHECKOUT_SESSION_ID}}");
    let mut parameters = vec![
        ("mode".to_owned(), "payment".to_owned()),
        ("client_reference_id".to_owned(), order_id.to_owned()),
        ("metadata[order_id]".to_owned(), order_id.to_owned()),
        ("success_url".to_owned(), way_back.clone()),
        ("cancel_url".to_owned(), format!("{tools_base}/shop?cancelled=1")),
        // Every other outcome comes back here too, and the page says which one it was.
        ("return_url".to_owned(), way_back),
    ];
    let chosen = PRODUCTS.iter().zip(quantities).filter(|(_, quantity)| *quantity > 0);
    for (line, (product, quantity)) in chosen.enumerate() {
        let price = product.prices_minor[currency_place];
        for (name, value) in [
            ("[price_data][currency]", CURRENCIES[currency_place].to_owned()),
            ("[price_data][unit_amount]", price.to_string()),
            ("[price_data][product_data][name]", product.name.to_owned()),
            ("[price_data][product_data][description]", product.description.to_owned()),
            ("[quantity]", quantity.to_string()),
        ] {
            parameters.push((format!("line_items[{line}]{name}"), value));
        }
    }
    parameters
}

fn payment_page(session: &Value) -> Option<HeaderValue> {
    let url = session["url"].as_str()?;
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    is_web.then(|| HeaderValue::from_str(url).ok())?
}

/// What the session that was read back says.
struct SessionFacts {
    status: String,
    payment_status: String,
    total: Option<String>,
    email: Option<String>,
    order_id: Option<String>,
}

impl SessionFacts {
    fn of(session: &Value) -> SessionFacts {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let total = session["amount_total"].as_i64().zip(session["currency"].as_str());
        SessionFacts {
            // `state` is the whole story; `status` has Stripe's three values.
            status: text(&session["state"]).or_else(|| text(&session["status"])).unwrap_or_default(),
            payment_status: text(&session["payment_status"]).unwrap_or_default(),
            total: total.map(|(minor, currency)| written(minor, currency)),
            email: text(&session["customer_details"]["email"]),
            order_id: text(&session["metadata"]["order_id"]),
        }
    }
}

/// What the page says first, in the light of the webhook and of nothing else.
struct Outcome {
    tone: &'static str,
    title: &'static str,
    lead: &'static str,
}

/// `address_status` only chooses how to wait.
fn outcome(webhook: Option<&Message>, address_status: Option<&str>) -> Outcome {
    let unpaid = |message: &Message| message.value()["data"]["object"]["payment_status"] == "unpaid";
    let (tone, title, lead) = match webhook.map(|message| (message.kind.as_str(), unpaid(message))) {
        None if address_status.is_some_and(|status| status != "completed") => (
            "waiting",
            "We are checking what happened",
            "The shop is waiting for the webhook that says how the session ended.",
        ),
        None => (
            "waiting",
            "Thanks! We are confirming your payment",
            "The shop is waiting for the webhook that says how it went.",
        ),
        Some(("checkout.session.completed", true)) => (
            "waiting",
            "Thanks! Your payment is on its way",
            "The order is placed; the money arrives later, and another webhook will say so.",
        ),
        Some(("checkout.session.completed" | "checkout.session.async_payment_succeeded", _)) => {
            ("good", "Thank you, your order is paid", "The webhook says so, so the shop packs it now.")
        }
        Some(("checkout.session.expired", _)) => {
            ("bad", "Time ran out", "The session expired before it was paid. Nothing is packed.")
        }
        Some(("checkout.session.cancelled", _)) => ("bad", "The payment was cancelled", "Nothing is packed."),
        Some(_) => ("bad", "The payment did not go through", "Nothing is packed."),
    };
    Outcome { tone, title, lead }
}

#[derive(Template)]
#[template(path = "dev/thanks.html")]
struct ThanksPage {
    frame: Frame,
    outcome: Outcome,
    session_id: String,
    address_status: Option<&'static str>,
    session: Result<SessionFacts, ApiFailure>,
    webhook: Option<Arc<Message>>,
    look_again_path: String,
}

async fn show_thanks(State(shop): State<Arc<Shop>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let query = query.as_bytes();
    let is_id = |id: &String| {
        (1..=SESSION_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let Some(session_id) = field(query, "session_id").filter(is_id) else {
        return message_page(
            StatusCode::BAD_REQUEST,
            Area::Shop,
            "Which session?",
            "The address has no session_id. The gateway puts it there when it sends the payer back.",
        );
    };
    let said = field(query, "status").unwrap_or_default();
    let address_status = ["completed", "cancelled", "expired", "failed"].into_iter().find(|status| *status == said);
    let round: u32 = field(query, "n").and_then(|n| n.parse().ok()).unwrap_or(0);

    let session = shop.client.retrieve_session(&session_id).await;
    let webhook = shop.inbox.newest_about(&session_id, &OUTCOMES);
    let mut path = format!("/shop/thanks?session_id={session_id}");
    if let Some(status) = address_status {
        path.push_str("&status=");
        path.push_str(status);
    }
    let refresh = (webhook.is_none() && round < WAITING_ROUNDS_MAX)
        .then(|| Refresh { seconds: WAITING_SECONDS, path: format!("{path}&n={}", round + 1) });
    let shown = ThanksPage {
        frame: Frame { area: Area::Shop, refresh },
        outcome: outcome(webhook.as_deref(), address_status),
        session_id,
        address_status,
        session: session.map(|session| SessionFacts::of(&session)),
        webhook,
        look_again_path: path,
    };
    page(StatusCode::OK, &shown)
}

#[cfg(test)]
mod tests;
