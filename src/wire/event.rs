//! Events: what happened, frozen in the bytes that are signed, sent and stored.
//!
//! The rule: a body is written once, when the change commits, and never serialised again. It is made
//! in two halves because the number of deliveries owed is only known inside the statement that
//! stores it. Payloads carry no payer token: `url` is null in every event.

use serde::Serialize;
use utoipa::ToSchema;

use super::API_VERSION;
use crate::domain::id::EventId;

/// An event as it is listed and delivered.
#[derive(Serialize, ToSchema, Debug)]
pub struct Event {
    /// `evt_…`
    pub id: String,
    /// Always `event`.
    pub object: &'static str,
    /// The version of the shapes.
    pub api_version: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// The object as it was.
    pub data: EventData,
    /// Mode.
    pub livemode: bool,
    /// Deliveries still owed.
    pub pending_webhooks: i64,
    /// The request that caused it.
    pub request: EventRequest,
    /// `checkout.session.completed`, …
    #[serde(rename = "type")]
    pub kind: String,
}

/// The object an event is about.
#[derive(Serialize, ToSchema, Debug)]
pub struct EventData {
    /// As it was right after the change.
    #[schema(value_type = Object)]
    pub object: serde_json::Value,
}

/// The request that caused an event; nulls when a payer or time did.
#[derive(Serialize, ToSchema, Debug, Default, Clone)]
pub struct EventRequest {
    /// `req_…`
    pub id: Option<String>,
    /// The request's idempotency key.
    pub idempotency_key: Option<String>,
}

/// What became of an event's deliveries. Ours, in Stripe's manner.
#[derive(Serialize, ToSchema, Debug)]
pub struct EventDeliveries {
    /// Always `event_deliveries`.
    pub object: &'static str,
    /// The event.
    pub event: String,
    /// Deliveries still owed.
    pub pending: i64,
    /// Deliveries given up; resend them when the receiver is mended.
    pub dead: i64,
    /// Attempts, newest first, at most a hundred.
    pub attempts: Vec<DeliveryAttempt>,
}

/// One attempt to deliver an event.
#[derive(Serialize, ToSchema, Debug)]
pub struct DeliveryAttempt {
    /// The endpoint.
    pub webhook_endpoint: String,
    /// Its number since the event was last sent, from 1.
    pub attempt: i32,
    /// Unix seconds.
    pub started_at: i64,
    /// Milliseconds.
    pub duration_ms: i32,
    /// The receiver's status, if it answered.
    pub status_code: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the receiver's answer: foreign text.
    pub response_excerpt: Option<String>,
    /// Unix seconds of the next attempt.
    pub next_attempt_at: Option<i64>,
    /// `delivered`, `retry` or `dead`.
    pub outcome: String,
}

/// The two halves of a body, round the number in `pending_webhooks`.
pub struct EventBody {
    /// Up to the number.
    pub head: String,
    /// From behind the number.
    pub tail: String,
}

#[derive(Serialize)]
struct Head<'a, T> {
    id: &'a str,
    object: &'static str,
    api_version: &'static str,
    created: i64,
    data: Data<'a, T>,
    livemode: bool,
}

#[derive(Serialize)]
struct Data<'a, T> {
    object: &'a T,
}

#[derive(Serialize)]
struct Tail<'a> {
    request: &'a EventRequest,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl EventBody {
    /// Writes the body of an event about `object`.
    ///
    /// # Panics
    /// Never: our objects have string keys and no maps that fail to serialise.
    pub fn new<T: Serialize>(
        id: &EventId,
        kind: &str,
        created: i64,
        livemode: bool,
        object: &T,
        request: &EventRequest,
    ) -> Self {
        let head = Head {
            id: id.as_str(),
            object: "event",
            api_version: API_VERSION,
            created,
            data: Data { object },
            livemode,
        };
        let mut head = serde_json::to_string(&head).expect("wire objects serialise");
        head.pop();
        head.push_str(",\"pending_webhooks\":");
        let mut tail = serde_json::to_string(&Tail { request, kind }).expect("wire objects serialise");
        tail.replace_range(..1, ",");
        Self { head, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_halves_make_one_object() {
        let id = EventId::generate(chrono::Utc::now());
        let body = EventBody::new(&id, "a.b", 5, false, &serde_json::json!({"object": "x"}), &EventRequest::default());
        let whole = format!("{}3{}", body.head, body.tail);
        let value: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
        assert_eq!(value["pending_webhooks"], 3);
        assert_eq!(value["type"], "a.b");
        assert_eq!(value["data"]["object"]["object"], "x");
        assert_eq!(value["request"]["id"], serde_json::Value::Null);
    }
}
