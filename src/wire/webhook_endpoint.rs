//! A webhook endpoint. Its secret is shown once, in the answer that makes it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use crate::domain::session::Metadata;

/// A webhook endpoint.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct WebhookEndpoint {
    /// `we_…`
    pub id: String,
    /// Always `webhook_endpoint`.
    pub object: &'static str,
    /// The version asked for; every version gets the same shapes.
    pub api_version: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub application: Null,
    /// Deliveries at once, where the endpoint has a bound of its own. Ours.
    pub concurrency: Option<i32>,
    /// Unix seconds.
    pub created: i64,
    /// Names of the headers that every delivery carries besides; their values are never shown. Ours.
    pub custom_header_names: Vec<String>,
    /// The merchant's words.
    pub description: Option<String>,
    /// Why it is disabled: `requested`, `gone` (it answered 410) or `failing` (days without one success). Ours.
    pub disabled_reason: Option<String>,
    /// `*`, event types, or prefixes such as `checkout.session.*`.
    pub enabled_events: Vec<String>,
    /// Deliveries that begin within a second, where the endpoint has a bound. Ours.
    pub events_per_second: Option<i32>,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Whether the events of one session come one after the other. Ours.
    pub ordered: bool,
    /// Until when the secret before the last rotation signs as well, in Unix seconds. Ours.
    pub previous_secret_expires_at: Option<i64>,
    /// Verifies the `v1a` signatures, where the endpoint has them: `whpk_…`. Ours.
    pub public_key: Option<String>,
    /// Signs every delivery; only in the answers to the creation and to a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Where deliveries go.
    pub url: String,
}

/// What a receiver said to a test.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct EndpointTest {
    /// Always `webhook_endpoint_test`.
    pub object: &'static str,
    /// The endpoint.
    pub webhook_endpoint: String,
    /// The id that the test carried; it is stored nowhere.
    pub event: String,
    /// Mode.
    pub livemode: bool,
    /// Whether the receiver took it.
    pub delivered: bool,
    /// The receiver's status, if it answered.
    pub status_code: Option<u16>,
    /// Milliseconds.
    pub duration_ms: i32,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the receiver's answer: foreign text.
    pub response_excerpt: Option<String>,
}

/// What came of the newest attempts at an endpoint, at most ten thousand of them.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct EndpointStatistics {
    /// Always `webhook_endpoint_statistics`.
    pub object: &'static str,
    /// The endpoint.
    pub webhook_endpoint: String,
    /// How far back the attempts reach, in hours.
    pub window_hours: i64,
    /// Attempts.
    pub attempts: i64,
    /// Attempts that delivered.
    pub delivered: i64,
    /// Attempts that another one follows.
    pub retried: i64,
    /// Attempts after which a delivery was given up.
    pub dead: i64,
    /// The part of the attempts that delivered, as a decimal from 0 to 1 with four places; null without any.
    pub success_rate: Option<String>,
    /// Half of the attempts took less, in milliseconds.
    pub duration_ms_p50: Option<i32>,
    /// One attempt in twenty took more, in milliseconds.
    pub duration_ms_p95: Option<i32>,
    /// Deliveries owed now, dead ones not counted; 10000 stands for that many and more.
    pub pending: i64,
    /// Since when the oldest of them is due, in Unix seconds.
    pub oldest_due_at: Option<i64>,
    /// The newest attempt that failed.
    pub last_failure: Option<EndpointFailure>,
    /// The first failure after the last success, in Unix seconds; null while all is well.
    pub failing_since: Option<i64>,
    /// Failures since then.
    pub failures: i32,
    /// Until when nothing is sent, because too many failed in a row, in Unix seconds.
    pub paused_until: Option<i64>,
}

/// An attempt that failed.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct EndpointFailure {
    /// When it began, in Unix seconds.
    pub at: i64,
    /// The event.
    pub event: String,
    /// The receiver's status, if it answered.
    pub status_code: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
}
