//! What the process tells about itself: a request id for each request, one log line and two metrics for each answer.
//!
//! Rule: what is told is chosen, field by field. A route is named by its template, because a payer's path holds the token that
//! opens the session; headers, queries and bodies are never told. Counting what happens inside an operation is left to it.

mod catalogue;
mod json_lines;
mod log_lines;
mod masking;
#[cfg(test)]
mod reference_tests;

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, Span};

pub use catalogue::*;
pub use log_lines::{LogFormat, TelemetryError, flush_log, init};
pub use masking::mask_card_numbers;

/// The response header that carries the [`RequestId`].
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("request-id");

/// The route label of a request that no route matches. One value for all of them: paths are chosen by strangers.
const NO_ROUTE: &str = "unmatched";

/// The status under which a request is counted that was dropped before its answer, nearly always because the client left. It is
/// never sent; the number is the one proxies use.
const DROPPED_STATUS: u16 = 499;

/// The surface a request came in by; a label of metrics and a field of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The merchants' API.
    Api,
    /// The payers' pages.
    Hosted,
    /// Providers' messages.
    Callbacks,
    /// Style sheets and scripts of the pages.
    Assets,
    /// Health, metrics and whatever else is for the operator.
    Operations,
    /// Demo shop, inbox and mailbox of a developer's machine.
    Tools,
}

impl Door {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Door::Api => "api",
            Door::Hosted => "hosted",
            Door::Callbacks => "callbacks",
            Door::Assets => "assets",
            Door::Operations => "operations",
            Door::Tools => "tools",
        }
    }
}

/// Names one request in its answer, in every log line about it and in what a merchant tells support: `req_` and 24 characters of
/// base32 (RFC 4648 section 6, in lower case), 120 random bits. Mostly letters, so that it never looks like a card number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 28]);

impl RequestId {
    /// A new random id.
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut text = *b"req_........................";
        let mut bits: u128 = rand::random();
        for place in &mut text[4..] {
            *place = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        Self(text)
    }

    /// The id as text, 28 ASCII characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII characters only")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Middleware round a door: gives the request its [`RequestId`] (an extension, and a header of the answer), opens the span that
/// log lines inside belong to, and tells of the end of the request.
///
/// Apply it with `axum::middleware::from_fn_with_state(Door::…, observe)` as a `layer` of the router, so that it runs after
/// routing and sees the template, and outside the layer that catches panics. An id sent by the client is ignored. Applied twice,
/// the outer one counts.
pub async fn observe(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<RequestId>().is_some() {
        return next.run(request).await;
    }
    let id = RequestId::random();
    request.extensions_mut().insert(id);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route_name = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let method = method_name(request.method());
    // An ERROR span passes every filter, so a lone error line still says which request it is about.
    let span =
        tracing::error_span!("request", request_id = id.as_str(), door = door.as_str(), method, route = route_name);

    let unanswered =
        Unanswered { door, route, method, span: span.clone(), started_at: Instant::now(), is_answered: false };
    let mut response = next.run(request).instrument(span).await;
    unanswered.answered_with(response.status().as_u16());

    let id = HeaderValue::from_str(id.as_str()).expect("the alphabet of request ids is that of header values");
    response.headers_mut().insert(REQUEST_ID_HEADER, id);
    response
}

/// The standard methods by name; a client can invent others, and a label must not follow it.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// A request in hand. If its client leaves or the server's request timeout passes, the handler is dropped where it stands, and
/// this guard tells of it.
struct Unanswered {
    door: Door,
    route: Option<MatchedPath>,
    method: &'static str,
    span: Span,
    started_at: Instant,
    is_answered: bool,
}

impl Unanswered {
    fn answered_with(mut self, status: u16) {
        self.is_answered = true;
        self.count(status);
        let duration_ms = self.duration_ms();
        self.span.in_scope(|| {
            if status >= 500 {
                tracing::error!(status, duration_ms, "answered a request with a server error");
            } else {
                tracing::info!(status, duration_ms, "answered a request");
            }
        });
    }

    fn count(&self, status: u16) {
        let route = self.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
        let door = self.door.as_str();
        metrics::histogram!(HTTP_REQUEST_DURATION_SECONDS, "door" => door, "route" => route.clone(), "method" => self.method)
            .record(self.started_at.elapsed());
        metrics::counter!(
            HTTP_REQUESTS_TOTAL, "door" => door, "route" => route, "method" => self.method, "status" => status.to_string()
        )
        .increment(1);
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.count(DROPPED_STATUS);
        let duration_ms = self.duration_ms();
        self.span.in_scope(|| {
            tracing::info!(
                status = DROPPED_STATUS,
                duration_ms,
                "dropped a request before its answer: the client left, or the request timeout passed"
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn observed_router() -> Router {
        Router::new()
            .route(
                "/telemetry-test/{token}",
                get(|axum::Extension(id): axum::Extension<RequestId>| async move { id.to_string() }),
            )
            .route("/telemetry-test-slow", get(std::future::pending::<()>))
            .fallback(async || StatusCode::NOT_FOUND)
            .layer(axum::middleware::from_fn_with_state(Door::Tools, observe))
            .layer(axum::middleware::from_fn_with_state(Door::Hosted, observe))
    }

    async fn answer_to(path: &str) -> Response {
        let request =
            Request::builder().uri(path).header("request-id", "req_mine").body(Body::empty()).expect("a request");
        observed_router().oneshot(request).await.expect("infallible")
    }

    #[test]
    fn ids_have_their_form_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| RequestId::random()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let random = id.as_str().strip_prefix("req_").expect("the prefix");
            assert!(random.len() == 24 && random.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')), "{id}");
        }
    }

    #[tokio::test]
    async fn the_handler_and_the_answer_have_the_same_new_id() {
        let response = answer_to("/telemetry-test/canary-token").await;
        let header = response.headers()[REQUEST_ID_HEADER].to_str().expect("text").to_owned();
        let body = axum::body::to_bytes(response.into_body(), 100).await.expect("a body");
        assert_eq!(header.as_bytes(), body);
        assert_ne!(header, "req_mine");
    }

    #[tokio::test]
    async fn metrics_name_the_template_and_never_the_path() {
        prometheus();
        answer_to("/telemetry-test/canary-token").await;
        answer_to("/telemetry-test-unknown/canary-token").await;
        let text = render();
        let counted = r#"checkstand_http_requests_total{door="hosted",route="/telemetry-test/{token}",method="GET",status="200"}"#;
        assert!(text.contains(counted), "{text}");
        assert!(text.contains(r#"route="unmatched",method="GET",status="404""#), "{text}");
        assert!(text.contains(r#"route="/telemetry-test/{token}",method="GET",le="0.001""#), "{text}");
        assert!(!text.contains("canary-token"), "{text}");
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_counted() {
        prometheus();
        {
            let mut answer = std::pin::pin!(answer_to("/telemetry-test-slow"));
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context).is_ready())).await;
            assert!(!polled, "the handler never answers");
        }
        assert!(render().contains(r#"route="/telemetry-test-slow",method="GET",status="499""#));
    }
}
