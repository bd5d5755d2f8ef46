//! Answers of the API: objects as they are, failures in the envelope.
//!
//! The rule: SDKs choose their exception by HTTP status, so each kind of failure has one. An internal
//! failure is logged here, once, with its inside half; the outside sees the request id.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::params::ParamError;
use super::reference::ERRORS_PATH;
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::headers::api_headers;
use crate::ops::replay::Answer;
use crate::telemetry::RequestId;
use crate::wire::error::{ErrorBody, ErrorEnvelope};

/// A failure on its way out.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        let doc_url = code.map(|code| format!("{ERRORS_PATH}#{code}"));
        Self { status, body: Box::new(ErrorBody { kind, code, decline_code: None, message, param: None, doc_url }) }
    }

    /// No such route.
    pub fn unknown_route(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let message = format!(
            "Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing slash; if you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier."
        );
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", None, message)
    }

    /// The route does not know the method.
    pub fn method_not_allowed(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let message = format!("This URL does not accept {method} ({method}: {path}).");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", None, message)
    }

    /// The body is longer than anything the API takes.
    pub fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("The request body is too large; at most {limit_bytes} bytes are accepted.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", Some("request_too_large"), message)
    }

    /// The body did not arrive in time.
    pub fn body_too_slow() -> Self {
        let message = "The request body did not arrive in time.".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", Some("request_timeout"), message)
    }

    /// A payer's token that opens nothing, whatever the reason: one answer for all of them.
    pub fn unknown_token() -> Self {
        let message = "There is no checkout session for this token.".to_owned();
        let mut answer = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("resource_missing"), message);
        answer.body.param = Some("token".to_owned());
        answer
    }

    /// There are as many event streams as there may be.
    pub fn too_many_streams() -> Self {
        let message = "Too many event streams are open. Close one, or list events with GET /v1/events.".to_owned();
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit"), message)
    }

    /// A page of another origin calls with a payer's token.
    pub fn origin_not_allowed() -> Self {
        let message = "Pages of this origin may not use the payer's token. Allow it with POST /v1/redirect_urls, \
            or call without an Origin header."
            .to_owned();
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", Some("origin_not_allowed"), message)
    }

    /// The body is of a kind that payers' requests do not have.
    pub fn json_wanted() -> Self {
        let message = "Send the parameters as application/json, without compression.".to_owned();
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", Some("unsupported_media_type"), message)
    }

    /// The body is of a kind that the API does not read.
    pub fn unsupported_media_type() -> Self {
        let message =
            "Send parameters as application/x-www-form-urlencoded or application/json, without compression.".to_owned();
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", Some("unsupported_media_type"), message)
    }
}

impl From<ParamError> for Error {
    fn from(error: ParamError) -> Self {
        Self::Invalid { code: error.code.as_str(), param: error.param, message: error.message }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let invalid = "invalid_request_error";
        match error {
            Error::Refused(away @ Refusal::ProvidersAway) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", Some(away.code()), message)
            }
            Error::Refused(refusal) => {
                let mut answer = Self::new(StatusCode::BAD_REQUEST, invalid, Some(refusal.code()), message);
                answer.body.param = refusal.param().map(str::to_owned);
                answer
            }
            Error::Declined(refusal) => {
                let mut answer = Self::new(StatusCode::PAYMENT_REQUIRED, "card_error", Some(refusal.code), message);
                answer.body.decline_code = refusal.decline_code;
                answer.body.param = refusal.param.map(str::to_owned);
                answer
            }
            Error::RateLimited => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit"), message)
            }
            Error::Invalid { code, param, message } => {
                let mut answer = Self::new(StatusCode::BAD_REQUEST, invalid, Some(code), message);
                answer.body.param = (!param.is_empty()).then_some(param);
                answer
            }
            Error::NotFound { .. } => {
                let mut answer = Self::new(StatusCode::NOT_FOUND, invalid, Some("resource_missing"), message);
                answer.body.param = Some("id".to_owned());
                answer
            }
            Error::Unauthenticated(_) => Self::new(StatusCode::UNAUTHORIZED, invalid, None, message),
            Error::IdempotencyMismatch(_) => Self::new(StatusCode::BAD_REQUEST, "idempotency_error", None, message),
            Error::IdempotencyInUse(_) => {
                Self::new(StatusCode::CONFLICT, "idempotency_error", Some("idempotency_key_in_use"), message)
            }
            Error::Unavailable(inside) => {
                tracing::error!(inside, "a request could not be answered because something we depend on is away");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", Some("service_unavailable"), message)
            }
            Error::Internal(inside) => {
                tracing::error!(inside, "a request failed through a fault of ours");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", None, message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = json(status, &ErrorEnvelope { error: *self.body });
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"checkstand\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An object as JSON.
///
/// # Panics
/// Never: our objects serialise.
pub fn json<T: Serialize>(status: StatusCode, object: &T) -> Response {
    let body = serde_json::to_string(object).expect("wire objects serialise");
    (status, api_headers(), body).into_response()
}

/// An object that was found.
pub struct Found<T>(pub T);

impl<T: Serialize> IntoResponse for Found<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (status, api_headers(), self.body).into_response();
        if self.replayed {
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// Turns a handler's panic into the envelope; the panic hook has logged where it was.
pub async fn catch_panic(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().copied();
    let caught = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(next.run(request))).await;
    caught.unwrap_or_else(|_| {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        ApiError::from(Error::Internal(format!("the handler of request {id} panicked"))).into_response()
    })
}
