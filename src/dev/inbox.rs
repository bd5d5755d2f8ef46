//! The webhook inbox of a developer's machine: receives deliveries as a merchant's backend would,
//! and shows them.
//!
//! The rule: a message counts as verified only if both of its signatures, Stripe's and Standard
//! Webhooks', were made with the endpoint's secret over the very bytes that came in; one that is
//! not is kept and shown all the same, with the reason, and never beside a verified one under the
//! same event. Everything is in memory and bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::page::{Area, Frame, Moment, Refresh, message_page, page};
use crate::domain::signature::{SigningSecret, TOLERANCE_SECONDS, verify_standard, verify_stripe};
use crate::headers::api_headers;

/// Where deliveries are posted to.
pub const WEBHOOKS_PATH: &str = "/webhooks";

/// Messages that are kept; the oldest give way. A day of trying things out.
pub const MESSAGES_MAX: usize = 500;

/// Largest body that is taken, several times the largest event.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of all kept bodies together, so that the inbox never weighs more than the gateway.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Characters of an id, a type or a header that are kept: all of these come from outside.
const TEXT_CHARS_MAX: usize = 500;

/// Seconds after which the list looks again.
const REFRESH_SECONDS: u32 = 5;

/// The headers that are worth keeping: what a receiver checks, and who says that it sent it.
const HEADERS_KEPT: [&str; 6] =
    ["stripe-signature", "webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "user-agent"];

/// The receiver's clock.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// One event as it was received, and how often. Also a message that is no event, or not ours.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its number in this inbox, from 1.
    pub number: u64,
    /// `evt_…` from the body, or else `webhook-id`; empty when there is neither.
    pub event_id: String,
    /// The event's type; empty when the body has none.
    pub kind: String,
    /// The id of the object that the event is about.
    pub object_id: Option<String>,
    /// What `Stripe-Signature` proved, or why nothing.
    pub stripe: Result<(), String>,
    /// What the Standard Webhooks headers proved, or why nothing.
    pub standard: Result<(), String>,
    /// The headers worth keeping, of the latest delivery.
    pub headers: Vec<(&'static str, String)>,
    /// The body of the first delivery, as it came.
    pub body: String,
    /// Whether a repeat had another body than the first delivery; a sender must never do that.
    pub body_changed: bool,
    /// When it came first.
    pub received_at: DateTime<Utc>,
    /// When it came last.
    pub last_received_at: DateTime<Utc>,
    /// How often it came, from 1.
    pub attempt_count: u32,
}

impl Message {
    /// Whether both signatures are right.
    pub fn verified(&self) -> bool {
        self.stripe.is_ok() && self.standard.is_ok()
    }

    /// Why it is not verified.
    pub fn reason(&self) -> Option<String> {
        let failures: Vec<String> = [("Stripe-Signature", &self.stripe), ("webhook-signature", &self.standard)]
            .into_iter()
            .filter_map(|(scheme, result)| Some(format!("{scheme}: {}", result.as_ref().err()?)))
            .collect();
        (!failures.is_empty()).then(|| failures.join("; "))
    }

    /// The body as JSON, or as text where it is none.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| Value::String(self.body.clone()))
    }

    /// The body for people: indented where it is JSON.
    pub fn pretty(&self) -> String {
        serde_json::from_str::<Value>(&self.body)
            .and_then(|value| serde_json::to_string_pretty(&value))
            .unwrap_or_else(|_| self.body.clone())
    }

    /// When it came first.
    pub fn first(&self) -> Moment {
        Moment(self.received_at)
    }

    /// When it came last.
    pub fn last(&self) -> Moment {
        Moment(self.last_received_at)
    }
}

#[derive(Default)]
struct Ring {
    /// Oldest first, by the latest delivery.
    messages: VecDeque<Arc<Message>>,
    bodies_bytes: usize,
    last_number: u64,
}

/// The inbox. Clones share one content.
#[derive(Clone)]
pub struct Inbox {
    secret: SigningSecret,
    now: Now,
    ring: Arc<Mutex<Ring>>,
}

impl Inbox {
    /// An empty inbox of the endpoint that has this secret.
    pub fn new(secret: SigningSecret, now: Now) -> Inbox {
        Inbox { secret, now, ring: Arc::default() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // What is in the ring is whole after every statement, so a panic elsewhere spoils nothing.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every message, newest first.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.ring().messages.iter().rev().cloned().collect()
    }

    /// The message with this number, if it is still kept.
    pub fn message(&self, number: u64) -> Option<Arc<Message>> {
        self.ring().messages.iter().find(|message| message.number == number).cloned()
    }

    /// The newest verified message about this object whose type is one of `kinds`.
    pub fn newest_about(&self, object_id: &str, kinds: &[&str]) -> Option<Arc<Message>> {
        let is_it = |message: &&Arc<Message>| {
            message.verified()
                && message.object_id.as_deref() == Some(object_id)
                && kinds.contains(&message.kind.as_str())
        };
        self.ring().messages.iter().rev().find(is_it).cloned()
    }

    /// Judges a delivery and keeps it.
    pub fn receive(&self, headers: &HeaderMap, body: &[u8]) -> Arc<Message> {
        let now = (self.now)();
        let text = String::from_utf8_lossy(body).into_owned();
        let event: Value = serde_json::from_str(&text).unwrap_or_default();
        let field = |value: &Value| value.as_str().map(shortened);
        let message = Message {
            number: 0,
            event_id: field(&event["id"]).or_else(|| header(headers, "webhook-id").map(shortened)).unwrap_or_default(),
            kind: field(&event["type"]).unwrap_or_default(),
            object_id: field(&event["data"]["object"]["id"]),
            stripe: self.check_stripe(headers, body, now),
            standard: self.check_standard(headers, body, now),
            headers: HEADERS_KEPT
                .into_iter()
                .filter_map(|name| Some((name, shortened(header(headers, name)?))))
                .collect(),
            body: text,
            body_changed: false,
            received_at: now,
            last_received_at: now,
            attempt_count: 1,
        };
        self.ring().keep(message)
    }

    fn check_stripe(&self, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<(), String> {
        let value = header(headers, "stripe-signature").ok_or("the header is missing")?;
        let secrets = std::slice::from_ref(&self.secret);
        verify_stripe(secrets, value, body, now.timestamp(), TOLERANCE_SECONDS).map_err(|error| error.to_string())
    }

    fn check_standard(&self, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<(), String> {
        let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| header(headers, name).ok_or_else(|| format!("the {name} header is missing")));
        let secrets = std::slice::from_ref(&self.secret);
        verify_standard(secrets, id?, timestamp?, signature?, body, now.timestamp(), TOLERANCE_SECONDS)
            .map_err(|error| error.to_string())
    }
}

impl Ring {
    fn keep(&mut self, message: Message) -> Arc<Message> {
        let is_repeat = |kept: &Arc<Message>| {
            !message.event_id.is_empty() && kept.event_id == message.event_id && kept.verified() == message.verified()
        };
        let place = self.messages.iter().position(is_repeat);
        let kept = if let Some(known) = place.and_then(|place| self.messages.remove(place)) {
            let mut known = Arc::unwrap_or_clone(known);
            known.attempt_count = known.attempt_count.saturating_add(1);
            known.body_changed |= known.body != message.body;
            known.last_received_at = message.last_received_at;
            (known.stripe, known.standard) = (message.stripe, message.standard);
            known.headers = message.headers;
            known
        } else {
            self.last_number += 1;
            self.bodies_bytes += message.body.len();
            Message { number: self.last_number, ..message }
        };
        let kept = Arc::new(kept);
        self.messages.push_back(Arc::clone(&kept));
        while self.messages.len() > MESSAGES_MAX || self.bodies_bytes > BODIES_BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bodies_bytes -= oldest.body.len();
        }
        kept
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// The inbox's routes.
pub fn router(inbox: Inbox) -> Router {
    Router::new()
        .route(WEBHOOKS_PATH, post(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/inbox", get(list))
        .route("/inbox.json", get(list_json))
        .route("/inbox/{number}", get(show))
        .with_state(inbox)
}

fn json_answer(status: StatusCode, value: &Value) -> Response {
    (status, api_headers(), value.to_string()).into_response()
}

async fn receive(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> Response {
    let message = inbox.receive(&headers, &body);
    match message.reason() {
        None => json_answer(StatusCode::OK, &json!({ "received": true })),
        Some(reason) => {
            let answer = json!({ "received": false, "reason": reason });
            json_answer(StatusCode::BAD_REQUEST, &answer)
        }
    }
}

#[derive(Template)]
#[template(path = "dev/inbox.html")]
struct InboxPage {
    frame: Frame,
    messages: Vec<Arc<Message>>,
    refreshes: bool,
}

async fn list(State(inbox): State<Inbox>, RawQuery(query): RawQuery) -> Response {
    let refreshes = query.as_deref() != Some("refresh=off");
    let refresh = Refresh { seconds: REFRESH_SECONDS, path: "/inbox".to_owned() };
    let frame = Frame { area: Area::Inbox, refresh: refreshes.then_some(refresh) };
    page(StatusCode::OK, &InboxPage { frame, messages: inbox.messages(), refreshes })
}

async fn list_json(State(inbox): State<Inbox>) -> Response {
    let messages = inbox.messages();
    let entries = messages.iter().map(|message| {
        json!({
            "event_id": message.event_id,
            "type": message.kind,
            "verified": message.verified(),
            "reason": message.reason(),
            "received_at": message.first().machine(),
            "last_received_at": message.last().machine(),
            "attempt_count": message.attempt_count,
            "body_changed": message.body_changed,
            "body": message.value(),
        })
    });
    json_answer(StatusCode::OK, &entries.collect())
}

#[derive(Template)]
#[template(path = "dev/delivery.html")]
struct DeliveryPage {
    frame: Frame,
    message: Arc<Message>,
    pretty: String,
}

async fn show(State(inbox): State<Inbox>, Path(number): Path<String>) -> Response {
    let Some(message) = number.parse().ok().and_then(|number| inbox.message(number)) else {
        return message_page(
            StatusCode::NOT_FOUND,
            Area::Inbox,
            "No such delivery",
            "It was never here, or newer ones took its place, or checkstand was restarted: the inbox lives in memory.",
        );
    };
    let pretty = message.pretty();
    page(StatusCode::OK, &DeliveryPage { frame: Frame::of(Area::Inbox), message, pretty })
}

#[cfg(test)]
mod tests;
