//! One webhook over HTTP: signed, posted, and its answer read as far as it matters.
//! Redirects and proxies are off, names are vetted, the whole attempt has one time limit with the body
//! in it, and of the answer only the beginning is read and less is kept. What follows from the
//! answer is decided by others.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};

use crate::domain::delivery::{Outcome, retry_after_seconds};
use crate::domain::signature::{ed25519_signatures, standard_webhooks_signature, stripe_signature_header};
use crate::worker::connections::{CONNECT_TIMEOUT, Connections};
use crate::worker::deliver::DeliverSettings;
use crate::worker::settings::Settings;

/// An answer is read up to here; its status counts however long it would go on.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// So much of an answer is kept for the merchant to see.
const EXCERPT_BYTES_MAX: usize = 1024;

/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 500;

const SENDER: HeaderValue = HeaderValue::from_static("Checkstand/1 (+webhooks)");
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

/// Why no whole answer came.
enum Broken {
    Http(reqwest::Error),
    /// Connected or not, nothing was answered in the time for that.
    NoFirstByte,
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
            (Ok(Err(Broken::NoFirstByte)), _) => {
                let seconds = self.first_byte_timeout.as_secs();
                (Outcome::TimedOut, Some(format!("no answer was begun within {seconds} s")))
            }
            (Ok(Err(Broken::Http(error))), _) if !error.is_timeout() => (Outcome::Failed, Some(explain(&error))),
            (Ok(Err(Broken::Http(error))), _) if error.is_connect() => {
                (Outcome::TimedOut, Some(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))
            }
            (Ok(Err(Broken::Http(_))), _) => (Outcome::TimedOut, Some("the connection timed out".to_owned())),
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
        let client = self.connections.to(&settings.id, settings.livemode).map_err(Broken::Http)?;
        let (timestamp, secrets) = (now.timestamp(), settings.secrets(now));
        let stripe = stripe_signature_header(&secrets, timestamp, body);
        let mut standard = standard_webhooks_signature(&secrets, event_id, timestamp, body);
        standard.push_str(&ed25519_signatures(&settings.key_pairs(now), event_id, timestamp, body));
        let sending = client
            .post(settings.url.clone())
            .headers(settings.headers.clone())
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT_ENCODING, UNCOMPRESSED)
            .header(USER_AGENT, SENDER)
            .header(STRIPE_SIGNATURE, stripe)
            .header(WEBHOOK_ID, event_id)
            .header(WEBHOOK_TIMESTAMP, timestamp)
            .header(WEBHOOK_SIGNATURE, standard)
            .body(body.to_owned())
            .send();
        let mut response = match tokio::time::timeout(self.first_byte_timeout, sending).await {
            Ok(answered) => answered.map_err(Broken::Http)?,
            Err(_) => return Err(Broken::NoFirstByte),
        };
        *status = Some(response.status().as_u16());
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok().map(str::to_owned));
        let mut total = 0_usize;
        while let Some(chunk) = response.chunk().await.map_err(Broken::Http)? {
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

fn refusal(status: u16) -> String {
    match status {
        300..=399 => format!("answered {status}; redirects are not followed"),
        410 => "answered 410: the endpoint is gone and was disabled".to_owned(),
        _ => format!("answered {status}"),
    }
}

/// The last link of the error's chain says what happened; those before it say where.
fn explain(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = "the request could not be made".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    let stage = match error {
        _ if error.is_builder() => "",
        _ if error.is_connect() => "no connection: ",
        _ => "no complete answer: ",
    };
    printable(&format!("{stage}{text}"), ERROR_BYTES_MAX)
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
