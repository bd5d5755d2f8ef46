//! One request to Stripe and what its answer is worth.
//!
//! Rule: an answer is a success, a certain refusal, or lost, and whatever is not plainly one of the
//! first two is lost. Nothing is repeated here, redirects and proxies are off, time and size are
//! bounded, and neither keys nor bodies get into errors or logs.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, RequestBuilder, redirect, retry};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::form::Form;

/// The version of the API that requests and answers are written for. Sent with each request, so that
/// an upgrade of the account changes nothing here.
pub(super) const API_VERSION: &str = "2025-09-30.clover";

/// A connection, name and handshake included, takes this long at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read: a page of a hundred refunds has some 150 KiB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Longest word of an error that goes to the log.
const WORD_CHARS_MAX: usize = 64;

const SENDER: &str = concat!("checkstand/", env!("CARGO_PKG_VERSION"));

/// What a request came to.
pub(super) enum Answer {
    /// Done; this is the object.
    Done(Value),
    /// Certainly not done.
    Refused(Refusal),
    /// Nobody can say whether it was done; this is what happened.
    Lost(String),
}

/// Stripe's words of refusal. They are codes, never sentences: a sentence may quote what was sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(skip)]
    pub(super) status: u16,
    /// The answer is that of an earlier request with the same idempotency key.
    #[serde(skip)]
    pub(super) is_replay: bool,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    param: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Refusal,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripe answered {}", self.status)?;
        for word in [Some(&self.kind), self.code.as_ref(), self.decline_code.as_ref(), self.param.as_ref()] {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_[].-".contains(c);
            let is_word = |word: &&String| {
                let begins_well = word.starts_with(|c: char| c.is_ascii_alphabetic());
                begins_well && word.len() <= WORD_CHARS_MAX && word.chars().all(is_plain)
            };
            if let Some(word) = word.filter(is_word) {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}

/// The HTTP client that both modes share.
///
/// # Errors
/// When TLS cannot be set up, for want of root certificates mostly.
pub(super) fn http_client(https_only: bool) -> Result<Client, reqwest::Error> {
    // Another part of the process may have chosen the provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .https_only(https_only)
            .connect_timeout(CONNECT_TIMEOUT)
    };
    match builder().build() {
        // A server on the machine itself needs no certificates.
        Err(_) if !https_only => builder().tls_certs_only([]).build(),
        built => built,
    }
}

/// Stripe's API as one account and mode sees it.
pub(super) struct Api {
    http: Client,
    base: String,
    headers: HeaderMap,
    omitted: Vec<String>,
    request_timeout: Duration,
    /// What is read with an intent.
    pub(super) expanded: &'static str,
}

impl Api {
    /// `base` is an origin without a slash at its end. `None` for a key that no header can hold.
    pub(super) fn new(
        http: Client,
        base: &str,
        key: &SecretString,
        omitted: Vec<String>,
        request_timeout: Duration,
    ) -> Option<Self> {
        let bearer = Zeroizing::new(format!("Bearer {}", key.expose_secret()));
        let mut bearer = HeaderValue::from_str(&bearer).ok()?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            (ACCEPT, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(SENDER)),
            (HeaderName::from_static("stripe-version"), HeaderValue::from_static(API_VERSION)),
        ]);
        Some(Self { http, base: base.to_owned(), headers, omitted, request_timeout, expanded: "latest_charge" })
    }

    /// With what Stripe keeps of each charge. A key that may not read it is refused everything that asks for it.
    pub(super) fn with_fees(self) -> Self {
        Self { expanded: "latest_charge.balance_transaction", ..self }
    }

    /// An empty form for this server.
    pub(super) fn form(&self) -> Form<'_> {
        Form::new(&self.omitted)
    }

    /// Reads. `path` begins with a slash and may carry a query.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.exchange(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Does.
    pub(super) async fn post(&self, path: &str, form: Form<'_>, idempotency_key: &str) -> Answer {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .header("idempotency-key", idempotency_key)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_body());
        self.exchange(request).await
    }

    async fn exchange(&self, request: RequestBuilder) -> Answer {
        match self.read(request.headers(self.headers.clone()).timeout(self.request_timeout)).await {
            Ok((status, is_replay, body)) => sort(status, is_replay, &body),
            Err(Some(error)) => Answer::Lost(explain(error)),
            Err(None) => Answer::Lost(format!("Stripe's answer is longer than {ANSWER_BYTES_MAX} bytes")),
        }
    }

    /// Status, whether it is a replay, and body; no error stands for a body that is too long.
    async fn read(&self, request: RequestBuilder) -> Result<(u16, bool, Vec<u8>), Option<reqwest::Error>> {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let is_replay = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if ANSWER_BYTES_MAX < body.len() + chunk.len() {
                return Err(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, is_replay, body))
    }
}

fn sort(status: u16, is_replay: bool, body: &[u8]) -> Answer {
    match status {
        200..=299 => match serde_json::from_slice(body) {
            Ok(object) => Answer::Done(object),
            Err(_) => Answer::Lost(format!("Stripe answered {status} with something that is no JSON")),
        },
        // Refused before anything was done. Who says so must be Stripe, hence its form of an error, and not some
        // machine on the way. A conflict (409) says that the same request is under way, which decides nothing.
        400..=404 | 429 => match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) if !error.kind.is_empty() && error.kind != "api_error" => {
                Answer::Refused(Refusal { status, is_replay, ..error })
            }
            _ => Answer::Lost(format!("answered {status} without Stripe's form of an error")),
        },
        _ => Answer::Lost(format!("Stripe answered {status}")),
    }
}

/// The last link of the error's chain says what happened. The address is left out, for it names the payment.
fn explain(error: reqwest::Error) -> String {
    let stage = match &error {
        error if error.is_timeout() => return "Stripe did not answer in time".to_owned(),
        error if error.is_connect() => "no connection to Stripe",
        _ => "no complete answer from Stripe",
    };
    let error = error.without_url();
    let mut cause = error.source();
    let mut text = "the request could not be made".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    format!("{stage}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Option<Refusal> {
        match sort(status, false, body.as_bytes()) {
            Answer::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    #[test]
    fn only_stripes_own_refusals_are_certain() {
        let card =
            r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"lost_card","message":"4242"}}"#;
        let refused = refusal(402, card).expect("a refusal");
        assert_eq!(refused.to_string(), "Stripe answered 402 card_error card_declined lost_card");
        assert!(refusal(429, r#"{"error":{"type":"invalid_request_error","code":"lock_timeout"}}"#).is_some());
        for (status, body) in [
            (500, card),
            (503, card),
            (409, card),
            (402, r#"{"error":{"type":"api_error"}}"#),
            (402, r#"{"error":{}}"#),
            (404, "<html>not here</html>"),
            (301, "{}"),
        ] {
            assert!(refusal(status, body).is_none(), "{status} {body}");
            assert!(matches!(sort(status, false, body.as_bytes()), Answer::Lost(_)), "{status} {body}");
        }
        assert!(matches!(sort(200, false, b"{\"id\":"), Answer::Lost(_)));
    }

    #[test]
    fn a_refusal_is_told_in_codes_only() {
        let body = r#"{"error":{"type":"card_error","code":"no such card: 4242 4242","param":"card[number]",
            "decline_code":"4242"}}"#;
        let refused = refusal(400, body).expect("a refusal");
        assert_eq!(refused.to_string(), "Stripe answered 400 card_error card[number]");
    }
}
