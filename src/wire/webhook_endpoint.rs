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
    /// Unix seconds.
    pub created: i64,
    /// The merchant's words.
    pub description: Option<String>,
    /// `*`, event types, or prefixes such as `checkout.session.*`.
    pub enabled_events: Vec<String>,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Signs every delivery; only in the answer to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Where deliveries go.
    pub url: String,
}
