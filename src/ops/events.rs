//! Events as merchants read and resend them.

use serde_json::Value;

use super::Caller;
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::id::{EndpointId, EventId};
use crate::error::{Error, Result};
use crate::store::events::{self, Filter, StoredEvent};
use crate::store::{Page, delivery_queue};
use crate::wire::List;
use crate::wire::event::{DeliveryAttempt, EventDeliveries};

/// Attempts shown of one event.
const ATTEMPTS_SHOWN_MAX: i64 = 100;

/// The stored body with today's number of deliveries owed.
fn render(event: &StoredEvent) -> Result<Value> {
    let mut value: Value = serde_json::from_str(&event.body)
        .map_err(|error| Error::Internal(format!("the body of event {} is not JSON: {error}", event.id)))?;
    value["pending_webhooks"] = event.pending.into();
    Ok(value)
}

/// The endpoint that a request's `webhook_endpoint` names is absent, or disabled.
pub(super) fn absent_endpoint(id: &str) -> Error {
    Error::not_found("enabled webhook_endpoint", id).named_in("webhook_endpoint")
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<StoredEvent> {
    let absent = || Error::not_found("event", id);
    let id = EventId::parse(id).ok_or_else(absent)?;
    events::find(app.store.pool(), &caller.merchant_id, caller.livemode, &id).await?.ok_or_else(absent)
}

/// One event.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<Value> {
    render(&find(app, caller, id).await?)
}

/// A page of events.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page) -> Result<List<Value>> {
    let mut rows = events::list(app.store.pool(), &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/events", rows.iter().map(render).collect::<Result<_>>()?, has_more))
}

/// An event's deliveries: what is owed, what is dead, and every attempt made.
///
/// # Errors
/// `NotFound`.
pub async fn deliveries(app: &App, caller: &Caller, id: &str) -> Result<EventDeliveries> {
    let event = find(app, caller, id).await?;
    let mut connection = app.store.pool().acquire().await?;
    let log =
        delivery_queue::event_log(&mut connection, caller.merchant_id.as_str(), &event.id, ATTEMPTS_SHOWN_MAX).await?;
    Ok(EventDeliveries {
        object: "event_deliveries",
        event: event.id,
        pending: log.pending,
        dead: log.dead,
        attempts: log
            .attempts
            .into_iter()
            .map(|row| DeliveryAttempt {
                webhook_endpoint: row.endpoint_id,
                attempt: row.attempt,
                started_at: row.started_at.timestamp(),
                duration_ms: row.duration_ms,
                status_code: row.status_code,
                error: row.error,
                response_excerpt: row.response_excerpt,
                next_attempt_at: row.next_attempt_at.map(|at| at.timestamp()),
                outcome: row.outcome,
            })
            .collect(),
    })
}

/// Sends an event again, to one endpoint or to every subscribed one, whether or not it arrived
/// before. The worker's poll picks it up within a second.
///
/// # Errors
/// `NotFound` for the event, `Invalid` when there is no enabled endpoint to send it to.
pub async fn resend(app: &App, write: &Write, id: &str, endpoint: Option<&str>) -> Result<Answer> {
    let caller = &write.caller;
    let event = find(app, caller, id).await?;
    let endpoint = match endpoint {
        None => None,
        Some(text) => Some(EndpointId::parse(text).ok_or_else(|| absent_endpoint(text))?),
    };
    write
        .once(app, async |connection, now| {
            let target = endpoint.as_ref().map(EndpointId::as_str);
            let merchant = caller.merchant_id.as_str();
            let sent = delivery_queue::resend(connection, merchant, caller.livemode, &event.id, target, now).await?;
            if sent.is_empty() {
                return Err(match target {
                    Some(target) => absent_endpoint(target),
                    None => {
                        Error::invalid("resource_missing", "", "No enabled webhook endpoint subscribes to this event.")
                    }
                });
            }
            let mut value = render(&event)?;
            value["pending_webhooks"] = sent.len().into();
            Ok((Answer::new(&value), Vec::new()))
        })
        .await
}
