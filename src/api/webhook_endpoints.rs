//! `/v1/webhook_endpoints`.

use secrecy::SecretString;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{ExpandParams, PageParams, apply_metadata, metadata, page, text};
use super::guard::{Call, Id};
use super::params::{MetadataParam, Patch};
use crate::domain::event_types::{EVENT_NAME_CHARS_MAX, judge_pattern};
use crate::domain::id::EndpointId;
use crate::error::{Error, Result};
use crate::ops::endpoint_secrets::HeadersChange;
use crate::ops::endpoints::{self, EndpointChange, EndpointOptions, NewEndpoint};
use crate::ops::replay::Answer;
use crate::ops::{endpoint_checks, endpoint_secrets};
use crate::wire::error::ErrorEnvelope;
use crate::wire::webhook_endpoint::{EndpointStatistics, EndpointTest, WebhookEndpoint};
use crate::wire::{Deleted, List};

/// Event names in one endpoint.
const ENABLED_EVENTS_MAX: usize = 100;
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
    /// Headers that every delivery is to carry besides, at most ten; their values are never shown. Ours.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub custom_headers: SecretEntries,
    /// Deliveries that may begin within a second, 1 to 1000. Ours.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub events_per_second: Patch<i64>,
    /// Deliveries at once, 1 to 64; the gateway's own bound holds beside it. Ours.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub concurrency: Patch<i64>,
    /// True: the events of one session come one after the other. Ours.
    pub ordered: Option<bool>,
    /// True: an Ed25519 signature (`v1a`) beside the secret's. Ours.
    pub ed25519: Option<bool>,
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
    /// Given names are set, empty ones deleted, an empty value clears all. Ours.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub custom_headers: SecretEntries,
    /// Deliveries that may begin within a second, 1 to 1000; empty for no bound. Ours.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub events_per_second: Patch<i64>,
    /// Deliveries at once, 1 to 64; empty for the gateway's own bound alone. Ours.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub concurrency: Patch<i64>,
    /// Whether the events of one session come one after the other; from the next event on. Ours.
    pub ordered: Option<bool>,
    /// Whether an Ed25519 signature (`v1a`) stands beside the secret's. Switched on anew it is another key. Ours.
    pub ed25519: Option<bool>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// How to replace a secret.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct RotateSecret {
    /// Hours that the old secret signs as well, 0 to 168; 24 unless given.
    pub overlap_hours: Option<i64>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// A test takes nothing.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct TestWebhookEndpoint {
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// How far back statistics reach.
#[derive(Deserialize, IntoParams, ToSchema, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct StatisticsParams {
    /// Hours, 1 to 168; 24 unless given.
    pub window_hours: Option<i64>,
    /// Paths to expand; there is nothing to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Entries whose values are secret: `Debug` shows nothing of them.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub struct SecretEntries(MetadataParam);

impl std::fmt::Debug for SecretEntries {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretEntries")
    }
}

impl SecretEntries {
    fn change(self) -> HeadersChange {
        match self.0 {
            MetadataParam::Absent => HeadersChange::default(),
            MetadataParam::Clear => HeadersChange { clears: true, entries: Vec::new() },
            MetadataParam::Entries(entries) => {
                let entries = entries.into_iter().map(|(name, value)| (name, value.map(SecretString::from))).collect();
                HeadersChange { clears: false, entries }
            }
        }
    }
}

fn change_of(patch: Patch<i64>) -> Option<Option<i64>> {
    match patch {
        Patch::Absent => None,
        Patch::Clear => Some(None),
        Patch::Set(value) => Some(Some(value)),
    }
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
        let refused = |message| Error::invalid("parameter_invalid", format!("enabled_events[{index}]"), message);
        judge_pattern(name).map_err(refused)?;
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
        options: EndpointOptions {
            custom_headers: params.custom_headers.change(),
            events_per_second: change_of(params.events_per_second),
            concurrency: change_of(params.concurrency),
            ordered: params.ordered,
            ed25519: params.ed25519,
        },
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
        options: EndpointOptions {
            custom_headers: params.custom_headers.change(),
            events_per_second: change_of(params.events_per_second),
            concurrency: change_of(params.concurrency),
            ordered: params.ordered,
            ed25519: params.ed25519,
        },
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

/// Replaces the signing secret, and the key pair if there is one. The old ones sign as well for some hours. The answer
/// holds the new secret, which is shown only here.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}/rotate_secret", tag = "Webhook endpoints", operation_id = "rotate_webhook_endpoint_secret", params(("id" = String, Path)),
    request_body(content((RotateSecret = "application/x-www-form-urlencoded"), (RotateSecret = "application/json"))),
    responses((status = 200, body = WebhookEndpoint), (status = "4XX", body = ErrorEnvelope)))]
pub async fn rotate_secret(Id(id): Id, call: Call) -> Result<Answer> {
    let params: RotateSecret = call.params()?;
    endpoint_secrets::rotate(&call.app, &call.write(), &id, params.overlap_hours).await
}

/// Sends a signed test event (`webhook_endpoint.test`) to this endpoint alone, and tells what its receiver said.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}/test", tag = "Webhook endpoints", operation_id = "test_webhook_endpoint", params(("id" = String, Path)),
    request_body(content((TestWebhookEndpoint = "application/x-www-form-urlencoded"), (TestWebhookEndpoint = "application/json"))),
    responses((status = 200, body = EndpointTest), (status = "4XX", body = ErrorEnvelope)))]
pub async fn test(Id(id): Id, call: Call) -> Result<Answer> {
    call.params::<TestWebhookEndpoint>()?;
    endpoint_checks::test(&call.app, &call.write(), &id).await
}

/// Tells what came of the newest attempts at an endpoint, and how it fares now.
#[utoipa::path(get, path = "/v1/webhook_endpoints/{id}/statistics", tag = "Webhook endpoints", operation_id = "retrieve_webhook_endpoint_statistics", params(("id" = String, Path), StatisticsParams),
    responses((status = 200, body = EndpointStatistics), (status = "4XX", body = ErrorEnvelope)))]
pub async fn statistics(Id(id): Id, call: Call) -> Result<Found<EndpointStatistics>> {
    let params: StatisticsParams = call.query()?;
    Ok(Found(endpoint_checks::statistics(&call.app, &call.caller, &id, params.window_hours).await?))
}
