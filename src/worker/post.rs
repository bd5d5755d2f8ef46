//! One webhook over HTTP: signed, posted, and its answer read as far as it matters.
//! Redirects and proxies are off, names are vetted, the whole attempt has one time limit with the body
//! in it, and of the answer only the beginning is read and less is kept. What follows from the
//! answer is decided by others.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;

use crate::domain::delivery::{Outcome, retry_after_seconds};
use crate::domain::signature::{ed25519_signatures, standard_webhooks_signature, stripe_signature_header};
use crate::worker::bounded_stream::AnswerTooLong;
use crate::worker::connections::{ConnectTimedOut, Connections, HttpClient};
use crate::worker::deliver::DeliverSettings;
use crate::worker::settings::Settings;

/// An answer is read up to here; its status counts however long it would go on.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// So much of an answer is kept for the merchant to see.
const EXCERPT_BYTES_MAX: usize = 1024;

/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 500;

const SENDER: HeaderValue = HeaderValue::from_static("Checkstand/1 (+webhooks)");
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const UNCOMPRESSED: HeaderValue = HeaderValue::from_static("identity");
const STRIPE_SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What is to be sent.
pub struct Message<'m> {
    /// Identifies the event to the receiver, the same on every attempt.
    pub event_id: &'m str,
    /// The exact text that is signed and sent.
    pub body: &'m str,
    /// Where to, and how it is signed.
    pub settings: &'m Settings,
    /// The time of this attempt; it is signed.
    pub now: DateTime<Utc>,
}

/// What came of it.
pub struct Answer {
    /// What the schedule goes by.
    pub outcome: Outcome,
    /// The HTTP status, if there was one, whatever happened afterwards.
    pub status: Option<u16>,
    /// What went wrong, for the merchant.
    pub error: Option<String>,
    /// The beginning of the answer as printable text, if there was an answer.
    pub excerpt: Option<String>,
}

/// Posts messages over pooled connections.
pub struct Poster {
    connections: Connections,
    first_byte_timeout: Duration,
    attempt_timeout: Duration,
}

/// How often a request goes out anew because the receiver says that it has not looked at it.
const UNPROCESSED_MAX: usize = 2;

/// Why no whole answer came, for the merchant.
enum Broken {
    TimedOut(String),
    Failed(String),
}

impl Poster {
    /// Posts within the limits of these settings.
    ///
    /// # Errors
    /// A sentence when no HTTP client can be made.
    pub fn new(settings: &DeliverSettings) -> Result<Poster, String> {
        let DeliverSettings { first_byte_timeout, attempt_timeout, .. } = *settings;
        Ok(Poster { connections: Connections::new(settings)?, first_byte_timeout, attempt_timeout })
    }

    /// Forgets connections that nobody uses.
    pub fn forget_idle(&self) {
        self.connections.forget_idle();
    }

    /// Makes one attempt. It always ends within the time limit.
    pub async fn post(&self, message: Message<'_>) -> Answer {
        let mut status = None;
        let mut read = Vec::new();
        let now = message.now;
        let exchange = self.exchange(message, &mut status, &mut read);
        let result = tokio::time::timeout(self.attempt_timeout, exchange).await;
        let (outcome, error) = match (result, status) {
            (Ok(Ok(retry_after)), Some(status)) => {
                let outcome = Outcome::Answered {
                    status,
                    retry_after_seconds: retry_after.and_then(|value| retry_after_seconds(&value, now)),
                };
                let error = (!outcome.is_delivered()).then(|| refusal(status));
                (outcome, error)
            }
            (Ok(Err(Broken::Failed(error))), _) => (Outcome::Failed, Some(error)),
            (Ok(Err(Broken::TimedOut(error))), _) => (Outcome::TimedOut, Some(error)),
            (Ok(Ok(_)) | Err(_), _) => {
                (Outcome::TimedOut, Some(format!("no complete answer within {} s", self.attempt_timeout.as_secs())))
            }
        };
        Answer { outcome, status, error, excerpt: status.map(|_| excerpt(&read)) }
    }

    /// Leaves what it has learned in `status` and `read` even when it is cut off. Returns the text of
    /// `Retry-After`.
    async fn exchange(
        &self,
        message: Message<'_>,
        status: &mut Option<u16>,
        read: &mut Vec<u8>,
    ) -> Result<Option<String>, Broken> {
        let Message { event_id, body, settings, now } = message;
        let client = self.connections.to(&settings.id, settings.livemode);
        let (timestamp, secrets) = (now.timestamp(), settings.secrets(now));
        let stripe = stripe_signature_header(&secrets, timestamp, body);
        let mut standard = standard_webhooks_signature(&secrets, event_id, timestamp, body);
        standard.push_str(&ed25519_signatures(&settings.key_pairs(now), event_id, timestamp, body));
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = settings.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&settings.headers);
        // The merchant may want to say it himself.
        headers.entry(ACCEPT).or_insert(ANYTHING);
        for (name, value) in [
            (CONTENT_TYPE, JSON),
            (ACCEPT_ENCODING, UNCOMPRESSED),
            (USER_AGENT, SENDER),
            (WEBHOOK_TIMESTAMP, timestamp.into()),
            (STRIPE_SIGNATURE, text(stripe)?),
            (WEBHOOK_ID, text(event_id.to_owned())?),
            (WEBHOOK_SIGNATURE, text(standard)?),
        ] {
            headers.insert(name, value);
        }
        let mut response = match tokio::time::timeout(self.first_byte_timeout, send(&client, request)).await {
            Ok(answered) => answered.map_err(|error| broken(error.source(), error.is_connect()))?,
            Err(_) => {
                let seconds = self.first_byte_timeout.as_secs();
                return Err(Broken::TimedOut(format!("no answer was begun within {seconds} s")));
            }
        };
        *status = Some(response.status().as_u16());
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok().map(str::to_owned));
        let mut total = 0_usize;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                // The status counts, however much comes in however small pieces.
                Err(error) if AnswerTooLong::is_in(&error) => break,
                Err(error) => return Err(broken(Some(&error), false)),
            };
            let Ok(chunk) = frame.into_data() else { continue };
            total = total.saturating_add(chunk.len());
            let kept = chunk.len().min(EXCERPT_BYTES_MAX - read.len());
            read.extend_from_slice(&chunk[..kept]);
            if total >= ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(retry_after)
    }
}

fn text(value: String) -> Result<HeaderValue, Broken> {
    HeaderValue::try_from(value).map_err(|error| Broken::Failed(format!("the request could not be made: {error}")))
}

/// Sends a request, and again when an HTTP/2 receiver says that it has not looked at it.
async fn send(client: &HttpClient, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
    for _ in 0..UNPROCESSED_MAX {
        match client.request(request.clone()).await {
            Err(error) if was_not_processed(&error) => {}
            answered => return answered,
        }
    }
    client.request(request).await
}

/// Whether the receiver is going away in good order or has refused the stream (RFC 9113 section 8.7).
fn was_not_processed(error: &legacy::Error) -> bool {
    causes(error.source()).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        let says = |reason| error.is_remote() && error.reason() == Some(reason);
        error.is_go_away() && says(h2::Reason::NO_ERROR) || error.is_reset() && says(h2::Reason::REFUSED_STREAM)
    })
}

/// An error and those behind it.
fn causes<'e>(first: Option<&'e (dyn Error + 'static)>) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(first, |&error| error.source())
}

fn broken(first: Option<&(dyn Error + 'static)>, is_connect: bool) -> Broken {
    if let Some(timeout) = causes(first).find_map(|error| error.downcast_ref::<ConnectTimedOut>()) {
        return Broken::TimedOut(timeout.to_string());
    }
    let has_timed_out = causes(first).any(|error| {
        error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
            || error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    });
    if has_timed_out && !is_connect {
        return Broken::TimedOut("the connection timed out".to_owned());
    }
    // The last link of the chain says what happened; those before it say where.
    let stage = if is_connect { "no connection: " } else { "no complete answer: " };
    let what = causes(first).last().map_or_else(|| "the request could not be made".to_owned(), ToString::to_string);
    let text = printable(&format!("{stage}{what}"), ERROR_BYTES_MAX);
    if has_timed_out { Broken::TimedOut(text) } else { Broken::Failed(text) }
}

fn refusal(status: u16) -> String {
    match status {
        300..=399 => format!("answered {status}; redirects are not followed"),
        410 => "answered 410: the endpoint is gone".to_owned(),
        _ => format!("answered {status}"),
    }
}

fn excerpt(read: &[u8]) -> String {
    printable(&String::from_utf8_lossy(read), EXCERPT_BYTES_MAX)
}

/// Text without control characters (PostgreSQL takes no NUL, terminals take too much), line ends and
/// tabs turned into spaces, cut to `bytes_max` at a character's edge.
fn printable(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        let character = if matches!(character, '\n' | '\t') { ' ' } else { character };
        if character.is_control() {
            continue;
        }
        if out.len() + character.len_utf8() > bytes_max {
            break;
        }
        out.push(character);
    }
    out
}
