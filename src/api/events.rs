//! `/v1/events`: what happened, and whether the merchant's backend knows.

use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, page};
use super::guard::{Call, Id};
use crate::domain::event_types::judge_pattern;
use crate::domain::id::EventId;
use crate::error::{Error, Result};
use crate::ops::events;
use crate::ops::replay::Answer;
use crate::store::events::Filter;
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::event::{Event, EventDeliveries};

/// Types in one filter, as at Stripe.
const TYPES_MAX: usize = 20;

/// What a list of events may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct ListEvents {
    /// One type, or a family such as `checkout.session.*`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Several types; instead of `type`.
    #[param(style = DeepObject, explode)]
    pub types: Option<Vec<String>>,
    /// True: everything owed was delivered. False: something is owed or was given up.
    pub delivery_success: Option<bool>,
    /// The object it is about. Ours.
    pub related_object: Option<String>,
    /// When it happened.
    #[param(value_type = Option<Object>, style = DeepObject, explode)]
    pub created: Option<CreatedParam>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand; there is nothing to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Checks the types that a request narrows to. One that no event has would wait, or find nothing, for ever.
pub fn check_types(types: &[String]) -> Result<()> {
    if types.len() > TYPES_MAX {
        let message = format!("At most {TYPES_MAX} types can be asked for.");
        return Err(Error::invalid("parameter_invalid", "types", message));
    }
    for (index, kind) in types.iter().enumerate() {
        let refused = |message| Error::invalid("parameter_invalid", format!("types[{index}]"), message);
        judge_pattern(kind).map_err(refused)?;
    }
    Ok(())
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "Events", operation_id = "list_events", params(ListEvents),
    responses((status = 200, body = List<Event>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Value>>> {
    let params: ListEvents = call.query()?;
    let types = params.types.unwrap_or_default();
    if params.kind.is_some() && !types.is_empty() {
        return Err(Error::invalid("parameters_exclusive", "types", "You may pass only one of `type` and `types`."));
    }
    if let Some(kind) = &params.kind {
        judge_pattern(kind).map_err(|message| Error::invalid("parameter_invalid", "type", message))?;
    }
    check_types(&types)?;
    let filter = Filter {
        kinds: params.kind.into_iter().chain(types).collect(),
        delivery_success: params.delivery_success,
        object_id: params.related_object,
        created: params.created.unwrap_or_default().filter()?,
    };
    let page = page(params.limit, params.starting_after, params.ending_before, EventId::parse)?;
    Ok(Found(events::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves an event.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "Events", operation_id = "retrieve_event", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Event), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Value>> {
    call.query::<ExpandParams>()?;
    Ok(Found(events::retrieve(&call.app, &call.caller, &id).await?))
}

/// Tells what became of an event's deliveries.
#[utoipa::path(get, path = "/v1/events/{id}/deliveries", tag = "Events", operation_id = "retrieve_event_deliveries", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = EventDeliveries), (status = "4XX", body = ErrorEnvelope)))]
pub async fn deliveries(Id(id): Id, call: Call) -> Result<Found<EventDeliveries>> {
    call.query::<ExpandParams>()?;
    Ok(Found(events::deliveries(&call.app, &call.caller, &id).await?))
}

/// Where to send an event again.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ResendEvent {
    /// One endpoint; every subscribed one unless given.
    pub webhook_endpoint: Option<String>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Sends an event again.
#[utoipa::path(post, path = "/v1/events/{id}/resend", tag = "Events", operation_id = "resend_event", params(("id" = String, Path)),
    request_body(content((ResendEvent = "application/x-www-form-urlencoded"), (ResendEvent = "application/json"))),
    responses((status = 200, body = Event), (status = "4XX", body = ErrorEnvelope)))]
pub async fn resend(Id(id): Id, call: Call) -> Result<Answer> {
    let params: ResendEvent = call.params()?;
    events::resend(&call.app, &call.write(), &id, params.webhook_endpoint.as_deref()).await
}
