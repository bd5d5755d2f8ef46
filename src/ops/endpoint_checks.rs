//! How a merchant finds out whether an endpoint works: a test send, and what came of the newest attempts.
//!
//! The rule: a test goes to the one endpoint, signed and with all that a delivery carries, and is written down
//! nowhere; it counts neither for nor against the endpoint.

use chrono::Duration;

use super::Caller;
use super::endpoints::{parse, render};
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::event_types::TEST_EVENT;
use crate::domain::id::EventId;
use crate::error::{Error, Result};
use crate::store::{endpoint_health, endpoints};
use crate::wire::event::EventBody;
use crate::wire::webhook_endpoint::{EndpointFailure, EndpointStatistics, EndpointTest};

/// Hours that statistics reach back unless asked otherwise.
pub const WINDOW_HOURS_DEFAULT: i64 = 24;

/// Most hours that they may.
pub const WINDOW_HOURS_MAX: i64 = 168;

/// Sends a test event to an endpoint, disabled ones included, and tells what its receiver said.
///
/// # Errors
/// `NotFound`, `Invalid` while another test of the merchant runs, and those of the idempotency key.
pub async fn test(app: &App, write: &Write, id: &str) -> Result<Answer> {
    if let Some(earlier) = write.earlier_answer(app).await? {
        return Ok(earlier);
    }
    let (caller, endpoint_id) = (&write.caller, parse(id)?);
    let endpoint = endpoints::find(app.store.pool(), &caller.merchant_id, caller.livemode, &endpoint_id)
        .await?
        .ok_or_else(|| Error::not_found("webhook_endpoint", id))?;
    let now = app.clock.now();
    let event_id = EventId::generate(now);
    let object = render(&endpoint, None, now);
    let body = EventBody::new(&event_id, TEST_EVENT, now.timestamp(), endpoint.livemode, &object, &write.cause());
    let body = format!("{}1{}", body.head, body.tail);
    let posted = (app.post_once)(&endpoint.merchant_id, endpoint_id.as_str(), event_id.as_str(), body).await?;
    let answer = Answer::new(&EndpointTest {
        object: "webhook_endpoint_test",
        webhook_endpoint: endpoint_id.to_string(),
        event: event_id.to_string(),
        livemode: endpoint.livemode,
        delivered: posted.delivered,
        status_code: posted.status,
        duration_ms: posted.duration_ms,
        error: posted.error,
        response_excerpt: posted.excerpt,
    });
    write.once(app, async |_, _| Ok((answer, Vec::new()))).await
}

/// What came of the attempts at an endpoint in the last `window_hours`.
///
/// # Errors
/// `NotFound`, and `Invalid` for hours out of bounds.
pub async fn statistics(app: &App, caller: &Caller, id: &str, window_hours: Option<i64>) -> Result<EndpointStatistics> {
    let hours = window_hours.unwrap_or(WINDOW_HOURS_DEFAULT);
    if !(1..=WINDOW_HOURS_MAX).contains(&hours) {
        let message = format!("`window_hours` must be between 1 and {WINDOW_HOURS_MAX}.");
        return Err(Error::invalid("parameter_invalid_integer", "window_hours", message));
    }
    let endpoint_id = parse(id)?;
    let found = endpoints::find(app.store.pool(), &caller.merchant_id, caller.livemode, &endpoint_id).await?;
    found.ok_or_else(|| Error::not_found("webhook_endpoint", id))?;
    let now = app.clock.now();
    let mut connection = app.store.pool().acquire().await?;
    let counted = endpoint_health::statistics(&mut connection, &endpoint_id, now - Duration::hours(hours), now).await?;
    let health = endpoint_health::find(&mut connection, &endpoint_id).await?;
    Ok(EndpointStatistics {
        object: "webhook_endpoint_statistics",
        webhook_endpoint: endpoint_id.to_string(),
        window_hours: hours,
        attempts: counted.attempts,
        delivered: counted.delivered,
        retried: counted.retried,
        dead: counted.dead,
        success_rate: share(counted.delivered, counted.attempts),
        duration_ms_p50: counted.duration_ms_p50,
        duration_ms_p95: counted.duration_ms_p95,
        pending: counted.owed,
        oldest_due_at: counted.oldest_due_at.map(|at| at.timestamp()),
        last_failure: counted.failed_at.map(|at| EndpointFailure {
            at: at.timestamp(),
            event: counted.failed_event.unwrap_or_default(),
            status_code: counted.failed_status,
            error: counted.failed_error,
        }),
        failing_since: health.map(|health| health.failing_since.timestamp()),
        failures: health.map_or(0, |health| health.failures),
        paused_until: health.and_then(|health| health.paused_until).filter(|at| *at > now).map(|at| at.timestamp()),
    })
}

/// A part of a whole as a decimal of four places, cut and never rounded up to a whole; none of nothing.
fn share(part: i64, whole: i64) -> Option<String> {
    let scaled = part.checked_mul(10_000)?.checked_div(whole)?;
    Some(format!("{}.{:04}", scaled / 10_000, scaled % 10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_decimals() {
        for (part, whole, text) in
            [(0, 3, "0.0000"), (2, 3, "0.6666"), (9_999_999, 10_000_000, "0.9999"), (3, 3, "1.0000")]
        {
            assert_eq!(share(part, whole).as_deref(), Some(text));
        }
        assert_eq!(share(0, 0), None);
    }
}
