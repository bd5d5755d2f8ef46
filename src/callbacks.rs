//! Door 5: where providers send their messages, `POST /callbacks/{provider}`.
//!
//! The rule: the provider's signature is the only key, so there is no login, no cookie and no check of
//! the Origin; before it is judged nothing is done but reading a bounded body. So many messages are
//! worked on at once; one more is told to come again. Which charge it names and what became of that is
//! left to the operations.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::ops::callbacks::{Received, receive};
use crate::telemetry::{Door, observe};

/// Longest message: providers' events about one payment have some ten KiB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Messages worked on at once: each is a question to the provider and a connection to the database, of which
/// payers need the most.
const CALLBACKS_AT_ONCE: usize = 6;

/// When one that found no room may come again, in seconds.
const RETRY_AFTER_S: &str = "5";

struct Callbacks {
    app: Arc<App>,
    room: Semaphore,
}

/// The door.
pub fn router(app: Arc<App>) -> Router {
    let callbacks = Arc::new(Callbacks { app, room: Semaphore::new(CALLBACKS_AT_ONCE) });
    Router::new()
        .route("/callbacks/{provider}", post(take))
        .layer(from_fn_with_state(Door::Callbacks, observe))
        .with_state(callbacks)
}

async fn take(
    State(callbacks): State<Arc<Callbacks>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the message is too long, or broke off\n").into_response();
    };
    let Ok(_room) = callbacks.room.try_acquire() else {
        let retry_after = [(header::RETRY_AFTER, RETRY_AFTER_S)];
        return (StatusCode::SERVICE_UNAVAILABLE, retry_after, "too many messages at once; send it again\n")
            .into_response();
    };
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    match receive(&callbacks.app, &provider, &headers, &body).await {
        Ok(Received::Taken | Received::Unrelated) => (StatusCode::OK, "ok\n").into_response(),
        Ok(Received::NotAuthentic) => {
            (StatusCode::BAD_REQUEST, "the signature is missing, wrong or too old\n").into_response()
        }
        Ok(Received::Malformed) => (StatusCode::BAD_REQUEST, "the message cannot be read\n").into_response(),
        Ok(Received::NoSuchProvider) => {
            (StatusCode::NOT_FOUND, "no provider of that name sends messages here\n").into_response()
        }
        Err(error) => {
            tracing::error!(error = ?error, "a provider's callback could not be worked on; it will be sent again");
            (StatusCode::SERVICE_UNAVAILABLE, "send it again\n").into_response()
        }
    }
}
