//! `/v1/webhook_endpoints`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::Found;
use super::fields::{ExpandParams, PageParams, apply_metadata, metadata, page, text};
use super::guard::{Call, Id};
use super::params::{MetadataParam, Patch};
use crate::domain::id::EndpointId;
use crate::error::{Error, Result};
use crate::ops::endpoints::{self, EndpointChange, NewEndpoint};
use crate::ops::replay::Answer;
use crate::wire::error::ErrorEnvelope;
use crate::wire::webhook_endpoint::WebhookEndpoint;
use crate::wire::{Deleted, List};

/// Event names in one endpoint.
const ENABLED_EVENTS_MAX: usize = 100;
/// Characters in an event name.
const EVENT_NAME_CHARS_MAX: usize = 100;
/// Characters in a description, as at Stripe.
const DESCRIPTION_CHARS_MAX: usize = 5000;

/// A webhook endpoint to make.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct CreateWebhookEndpoint {
    /// Where deliveries go: https, and in test mode http on this machine where the gateway allows it.
    pub url: String,
    /// `*`, event types, or prefixes such as `checkout.session.*`.
    pub enabled_events: Vec<String>,
    /// The merchant's words.
    pub description: Option<String>,
    /// The merchant's own data.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Taken and handed back; every version gets the same shapes.
    pub api_version: Option<String>,
    /// Must be false: there are no connected accounts.
    pub connect: Option<bool>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// What may be changed of an endpoint.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct UpdateWebhookEndpoint {
    /// Where deliveries go.
    pub url: Option<String>,
    /// What is delivered.
    pub enabled_events: Option<Vec<String>>,
    /// The merchant's words; empty clears them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Patch<String>,
    /// Switches deliveries off or on. What is owed meanwhile stays owed.
    pub disabled: Option<bool>,
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

fn check_events(events: &[String]) -> Result<()> {
    if events.is_empty() {
        return Err(Error::invalid(
            "parameter_invalid_empty",
            "enabled_events",
            "Name at least one event, or `*` for all.",
        ));
    }
    if events.len() > ENABLED_EVENTS_MAX {
        let message = format!("At most {ENABLED_EVENTS_MAX} event names are taken; `*` stands for all.");
        return Err(Error::invalid("parameter_invalid", "enabled_events", message));
    }
    for (index, name) in events.iter().enumerate() {
        let stem = name.strip_suffix(".*").unwrap_or(name);
        let fine = name == "*"
            || (name.chars().count() <= EVENT_NAME_CHARS_MAX
                && stem.split('.').all(|word| {
                    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                }));
        if !fine {
            let param = format!("enabled_events[{index}]");
            let message = "An event name looks like `checkout.session.completed`, `checkout.session.*` or `*`.";
            return Err(Error::invalid("parameter_invalid", param, message));
        }
    }
    Ok(())
}

/// Makes a webhook endpoint. The answer holds its signing secret, which is shown only here.
#[utoipa::path(post, path = "/v1/webhook_endpoints", tag = "Webhook endpoints", operation_id = "create_webhook_endpoint",
    request_body(content((CreateWebhookEndpoint = "application/x-www-form-urlencoded"), (CreateWebhookEndpoint = "application/json"))),
    responses((status = 200, body = WebhookEndpoint), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateWebhookEndpoint = call.params()?;
    check_events(&params.enabled_events)?;
    if params.connect == Some(true) {
        return Err(Error::invalid("parameter_unsupported", "connect", "There are no connected accounts here."));
    }
    let new = NewEndpoint {
        url: params.url,
        enabled_events: params.enabled_events,
        description: text("description", params.description, DESCRIPTION_CHARS_MAX)?,
        metadata: metadata("metadata", params.metadata)?,
        api_version: text("api_version", params.api_version, EVENT_NAME_CHARS_MAX)?,
    };
    endpoints::create(&call.app, &call.write(), new).await
}

/// Lists webhook endpoints, newest first.
#[utoipa::path(get, path = "/v1/webhook_endpoints", tag = "Webhook endpoints", operation_id = "list_webhook_endpoints", params(PageParams),
    responses((status = 200, body = List<WebhookEndpoint>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<WebhookEndpoint>>> {
    let params: PageParams = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, EndpointId::parse)?;
    Ok(Found(endpoints::list(&call.app, &call.caller, &page).await?))
}

/// Retrieves a webhook endpoint, without its secret.
#[utoipa::path(get, path = "/v1/webhook_endpoints/{id}", tag = "Webhook endpoints", operation_id = "retrieve_webhook_endpoint", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = WebhookEndpoint), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<WebhookEndpoint>> {
    call.query::<ExpandParams>()?;
    Ok(Found(endpoints::retrieve(&call.app, &call.caller, &id).await?))
}

/// Changes a webhook endpoint.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}", tag = "Webhook endpoints", operation_id = "update_webhook_endpoint", params(("id" = String, Path)),
    request_body(content((UpdateWebhookEndpoint = "application/x-www-form-urlencoded"), (UpdateWebhookEndpoint = "application/json"))),
    responses((status = 200, body = WebhookEndpoint), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdateWebhookEndpoint = call.params()?;
    if let Some(events) = &params.enabled_events {
        check_events(events)?;
    }
    let change = EndpointChange {
        url: params.url,
        enabled_events: params.enabled_events,
        description: match params.description {
            Patch::Absent => None,
            Patch::Clear => Some(None),
            Patch::Set(description) => Some(text("description", Some(description), DESCRIPTION_CHARS_MAX)?),
        },
        disabled: params.disabled,
    };
    endpoints::update(&call.app, &call.write(), &id, change, |metadata| {
        apply_metadata("metadata", params.metadata, metadata)
    })
    .await
}

/// Deletes a webhook endpoint and what is still owed to it.
#[utoipa::path(delete, path = "/v1/webhook_endpoints/{id}", tag = "Webhook endpoints", operation_id = "delete_webhook_endpoint", params(("id" = String, Path)),
    responses((status = 200, body = Deleted), (status = "4XX", body = ErrorEnvelope)))]
pub async fn delete(Id(id): Id, call: Call) -> Result<Found<Deleted>> {
    Ok(Found(endpoints::delete(&call.app, &call.caller, &id).await?))
}
