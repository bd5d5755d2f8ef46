//! `/v1/events/stream`: events as they happen, as server-sent events, for a developer's machine that no
//! endpoint can reach.
//!
//! The rule: what is held for a reader is one batch, and the next is read when he has taken it. Who does
//! not read is cut by the server's own time limit. A key that is revoked ends its streams within a
//! heartbeat, and streams are few, because each looks at the database several times a second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Api;
use super::answer::ApiError;
use super::events::check_types;
use super::guard::{Call, Credentials};
use crate::domain::id::EventId;
use crate::error::Error;
use crate::ops::event_stream::Follower;
use crate::server::OpenEnded;
use crate::store::event_stream::StreamedEvent;
use crate::telemetry;
use crate::wire::error::ErrorEnvelope;

/// Streams that one process serves at once, to all merchants and to one in one mode.
const STREAMS_MAX: usize = 64;
const STREAMS_PER_MERCHANT_MAX: usize = 8;

/// Between two looks for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two signs of life, well within the time after which the server and common proxies cut a
/// connection on which nothing moves.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// How long one stream lasts at most. A reader whose machine has vanished keeps no place for longer.
const STREAM_LIFE: Duration = Duration::from_secs(30 * 60);

/// Where a reader says how far he got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whose a stream is: merchant and mode.
type Whose = (String, bool);

/// How many streams each has.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<Whose, usize>>);

/// One stream's place among them.
struct Place {
    streams: Arc<Streams>,
    whose: Whose,
}

impl Streams {
    fn take(self: &Arc<Self>, whose: Whose) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let his = open.get(&whose).copied().unwrap_or(0);
        if open.values().sum::<usize>() >= STREAMS_MAX || his >= STREAMS_PER_MERCHANT_MAX {
            return None;
        }
        open.insert(whose.clone(), his + 1);
        metrics::gauge!(telemetry::EVENT_STREAMS_OPEN).increment(1.0);
        Some(Place { streams: Arc::clone(self), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.whose) {
            Some(his) if *his > 1 => *his -= 1,
            _ => drop(open.remove(&self.whose)),
        }
        metrics::gauge!(telemetry::EVENT_STREAMS_OPEN).decrement(1.0);
    }
}

/// What a stream may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StreamEvents {
    /// Types, or families such as `checkout.session.*`; all unless given.
    #[param(style = DeepObject, explode)]
    pub types: Option<Vec<String>>,
}

/// A stream under way.
struct Serving {
    api: Api,
    credentials: Credentials,
    follower: Follower,
    _place: Place,
    heartbeat_at: Instant,
    ends_at: Instant,
    is_begun: bool,
}

/// Streams events as they happen.
///
/// Each is a server-sent event whose `id` is the event's and whose `data` is its body, byte for byte what endpoints
/// get. `Last-Event-ID` resumes, up to a day back; the last moments before it may come again. A stream lasts half an
/// hour at most and is then to be resumed.
#[utoipa::path(get, path = "/v1/events/stream", tag = "Events", operation_id = "stream_events", params(StreamEvents),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = "4XX", body = ErrorEnvelope)))]
pub async fn stream(
    State(api): State<Api>,
    headers: HeaderMap,
    credentials: Credentials,
    call: Call,
) -> Result<Response, ApiError> {
    let kinds = call.query::<StreamEvents>()?.types.unwrap_or_default();
    check_types(&kinds)?;
    let last = match headers.get(LAST_EVENT_ID) {
        None => None,
        Some(given) => {
            let id = given.to_str().ok().and_then(EventId::parse).ok_or_else(|| {
                Error::invalid("parameter_invalid", "", "`Last-Event-ID` must be the id of an event (evt_…).")
            })?;
            Some(id)
        }
    };
    let whose = (call.caller.merchant_id.to_string(), call.caller.livemode);
    let place = api.streams.take(whose).ok_or_else(ApiError::too_many_streams)?;
    let follower = Follower::start(&call.app, call.caller.clone(), kinds, last).await?;
    let now = Instant::now();
    let serving = Serving {
        api,
        credentials,
        follower,
        _place: place,
        heartbeat_at: now + HEARTBEAT_EVERY,
        ends_at: now + STREAM_LIFE,
        is_begun: false,
    };
    let body = Body::from_stream(futures_util::stream::unfold(serving, next_piece));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Asks nginx not to gather what it hands on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, body).into_response();
    response.extensions_mut().insert(OpenEnded);
    Ok(response)
}

async fn next_piece(mut serving: Serving) -> Option<(Result<Bytes, Infallible>, Serving)> {
    if !serving.is_begun {
        serving.is_begun = true;
        return Some((Ok(Bytes::from_static(b"retry: 1000\n\n")), serving));
    }
    loop {
        let now = Instant::now();
        if now >= serving.ends_at {
            return None;
        }
        if now >= serving.heartbeat_at {
            serving.heartbeat_at = now + HEARTBEAT_EVERY;
            // Whatever refuses the key now, the stream is over; a new one would be told why.
            serving.credentials.check(&serving.api).await.ok()?;
            return Some((Ok(Bytes::from_static(b": still here\n\n")), serving));
        }
        match serving.follower.next(&serving.api.app).await {
            Ok(events) if events.is_empty() => tokio::time::sleep(LOOK_EVERY).await,
            Ok(events) => return Some((Ok(written(&events)), serving)),
            Err(error) => {
                tracing::warn!(error = ?error, "an event stream was ended because the database could not be read");
                return None;
            }
        }
    }
}

fn written(events: &[StreamedEvent]) -> Bytes {
    let mut text = String::new();
    for StreamedEvent { id, body } in events {
        let _ = writeln!(text, "id: {id}");
        // A body is JSON on one line; the form asks for a field a line all the same.
        for line in body.lines() {
            let _ = writeln!(text, "data: {line}");
        }
        text.push('\n');
    }
    text.into()
}
