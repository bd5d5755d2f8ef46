//! `/v1/event_replays`: ranges of events sent again, in the background.

use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::Found;
use super::events::check_types;
use super::fields::{ExpandParams, PageParams, moment, page};
use super::guard::{Call, Id};
use crate::domain::id::EventReplayId;
use crate::error::Result;
use crate::ops::event_replays::{self, NewReplay};
use crate::ops::replay::Answer;
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::event_replay::EventReplay;

/// Which events to send again, and to whom.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct CreateEventReplay {
    /// The first second of the range.
    pub from: i64,
    /// The second behind its last; now unless given.
    pub to: Option<i64>,
    /// Types, or families such as `checkout.session.*`; all unless given.
    pub types: Option<Vec<String>>,
    /// True: only deliveries that failed or were given up.
    pub only_failed: Option<bool>,
    /// One endpoint, whatever it subscribes to; every one that subscribes unless given.
    pub webhook_endpoint: Option<String>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Begins to send a range of events again, whether or not they arrived before.
///
/// The events come with their old ids and bodies, oldest first, and a batch at a time, so that fresh events are
/// not held up.
#[utoipa::path(post, path = "/v1/event_replays", tag = "Events", operation_id = "create_event_replay",
    request_body(content((CreateEventReplay = "application/x-www-form-urlencoded"), (CreateEventReplay = "application/json"))),
    responses((status = 200, body = EventReplay), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateEventReplay = call.params()?;
    let types = params.types.unwrap_or_default();
    check_types(&types)?;
    let new = NewReplay {
        from: moment("from", params.from)?,
        to: params.to.map(|seconds| moment("to", seconds)).transpose()?,
        types,
        only_failed: params.only_failed.unwrap_or(false),
        endpoint: params.webhook_endpoint,
    };
    event_replays::create(&call.app, &call.write(), new).await
}

/// Lists replays, newest first.
#[utoipa::path(get, path = "/v1/event_replays", tag = "Events", operation_id = "list_event_replays", params(PageParams),
    responses((status = 200, body = List<EventReplay>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<EventReplay>>> {
    let params: PageParams = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, EventReplayId::parse)?;
    Ok(Found(event_replays::list(&call.app, &call.caller, &page).await?))
}

/// Retrieves a replay: how far it is.
#[utoipa::path(get, path = "/v1/event_replays/{id}", tag = "Events", operation_id = "retrieve_event_replay", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = EventReplay), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<EventReplay>> {
    call.query::<ExpandParams>()?;
    Ok(Found(event_replays::retrieve(&call.app, &call.caller, &id).await?))
}

/// Calls a replay off. What it has put into the queue is still delivered.
#[utoipa::path(post, path = "/v1/event_replays/{id}/cancel", tag = "Events", operation_id = "cancel_event_replay", params(("id" = String, Path)),
    request_body(content((ExpandParams = "application/x-www-form-urlencoded"), (ExpandParams = "application/json"))),
    responses((status = 200, body = EventReplay), (status = "4XX", body = ErrorEnvelope)))]
pub async fn cancel(Id(id): Id, call: Call) -> Result<Answer> {
    call.params::<ExpandParams>()?;
    event_replays::cancel(&call.app, &call.write(), &id).await
}
