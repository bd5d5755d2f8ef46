//! The demo shop's backend: what a merchant's server says to the public API, and how a refusal of
//! it is read.
//!
//! The rule: the shop knows nothing that a merchant does not know. It has a base address and a key,
//! sends form bodies with an idempotency key, and waits for a bounded time for a bounded answer.

use std::time::Duration;

use serde_json::Value;
use url::form_urlencoded::Serializer;

/// From the beginning of a call to its last byte. The gateway itself gives up on a provider sooner.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is read: a session with a hundred lines has about a tenth of it.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a foreign answer that are quoted when it is not JSON.
const QUOTE_CHARS_MAX: usize = 500;

/// A call that did not do what the shop wanted, for the developer who looks at the page.
#[derive(Clone, Debug, Default)]
pub struct ApiFailure {
    /// What was called, such as `POST /v1/checkout/sessions`.
    pub call: String,
    /// What went wrong: the API's message, or why there is no answer.
    pub message: String,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The error's `type`.
    pub kind: Option<String>,
    /// The error's `code`.
    pub code: Option<String>,
    /// The parameter at fault.
    pub param: Option<String>,
    /// The `Request-Id` to look for in the log.
    pub request_id: Option<String>,
}

/// A merchant's client of the API.
#[derive(Clone)]
pub struct ShopClient {
    http: reqwest::Client,
    api_base: String,
    secret_key: String,
}

impl ShopClient {
    /// A client of the API at `api_base` (an origin without a slash at its end) with a secret key.
    ///
    /// # Panics
    /// When the process can make no HTTP client at all: with neither proxy nor certificates, that
    /// is out of memory.
    pub fn new(api_base: String, secret_key: String) -> ShopClient {
        // reqwest takes the process's TLS provider and panics without one; whoever came first is right.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_TIMEOUT)
            // The gateway of a developer's machine speaks plain http. Trusting nobody, the client
            // also starts in a container that has no root certificates.
            .tls_certs_only([])
            .build()
            .expect("a client without proxy and certificates can be made");
        ShopClient { http, api_base, secret_key }
    }

    /// Creates a checkout session from form parameters such as `line_items[0][quantity]`.
    ///
    /// # Errors
    /// When the API refuses or does not answer.
    pub async fn create_session(
        &self,
        parameters: &[(String, String)],
        idempotency_key: &str,
    ) -> Result<Value, ApiFailure> {
        let path = "/v1/checkout/sessions";
        let body = Serializer::new(String::new()).extend_pairs(parameters).finish();
        let request = self
            .http
            .post(format!("{}{path}", self.api_base))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("idempotency-key", idempotency_key)
            .body(body);
        self.call(format!("POST {path}"), request).await
    }

    /// Reads a checkout session. `id` must be letters, digits and underscores.
    ///
    /// # Errors
    /// When the API refuses or does not answer.
    pub async fn retrieve_session(&self, id: &str) -> Result<Value, ApiFailure> {
        let path = format!("/v1/checkout/sessions/{id}");
        let request = self.http.get(format!("{}{path}", self.api_base));
        self.call(format!("GET {path}"), request).await
    }

    async fn call(&self, call: String, request: reqwest::RequestBuilder) -> Result<Value, ApiFailure> {
        let failed = |message: String| ApiFailure { call: call.clone(), message, ..ApiFailure::default() };
        let no_answer = |error: reqwest::Error| {
            failed(format!("The gateway at {} did not answer: {}.", self.api_base, explain(&error)))
        };
        let mut answer = request.bearer_auth(&self.secret_key).send().await.map_err(no_answer)?;
        let status = answer.status();
        let request_id = answer.headers().get("request-id").and_then(|id| id.to_str().ok());
        let request_id = request_id.map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(failed("The answer is larger than any that this shop expects.".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        if let (true, Some(value)) = (status.is_success(), &value) {
            return Ok(value.clone());
        }
        let error = value.unwrap_or_default()["error"].take();
        let field = |name: &str| error[name].as_str().map(str::to_owned);
        let message = field("message").unwrap_or_else(|| {
            let quote: String = String::from_utf8_lossy(&body).chars().take(QUOTE_CHARS_MAX).collect();
            format!("The answer is not what the API promises: {quote:?}")
        });
        Err(ApiFailure {
            status: Some(status.as_u16()),
            kind: field("type"),
            code: field("code"),
            param: field("param"),
            request_id,
            ..failed(message)
        })
    }
}

/// An error with its causes: the outermost one only says that sending failed.
fn explain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
