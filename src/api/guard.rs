//! Who calls, and what they sent: asked before anything else in every handler.
//!
//! The rule: no handler sees a request without a valid key, and a key that is malformed or carries a
//! wrong checksum costs no look-up. Good keys are remembered for a few seconds, so a revoked one
//! works at most that much longer. Bodies are bounded before they are read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Api;
use super::answer::ApiError;
use super::params::{decode_form, decode_json, decode_query};
use crate::app::App;
use crate::domain::api_key::{KeyError, SecretKey};
use crate::domain::id::MerchantId;
use crate::error::{Error, Result};
use crate::ops::Caller;
use crate::ops::replay::{Idempotency, Write};
use crate::server::{Peer, body_read_timed_out};
use crate::store::merchants::{self, ApiKey};
use crate::telemetry::RequestId;

/// Largest body: a session with a hundred line items and full metadata fits several times.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Longest idempotency key, as at Stripe.
const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;

/// How long a key is believed without asking the database.
const KEY_LIFETIME: Duration = Duration::from_secs(3);

/// Keys remembered at most; beyond that the memory is emptied and filled anew.
const KEYS_MAX: usize = 10_000;

/// API keys seen lately, by hash.
#[derive(Default)]
pub struct KeyCache(Mutex<HashMap<[u8; 32], (ApiKey, Instant)>>);

impl KeyCache {
    async fn find(&self, app: &App, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let remembered = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(hash).cloned();
        if let Some((key, seen_at)) = remembered
            && seen_at.elapsed() < KEY_LIFETIME
        {
            return Ok(Some(key));
        }
        let found = merchants::find_key(app.store.pool(), hash).await?;
        let mut keys = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &found {
            Some(key) => {
                if keys.len() >= KEYS_MAX {
                    keys.clear();
                }
                keys.insert(*hash, (key.clone(), Instant::now()));
            }
            None => {
                keys.remove(hash);
            }
        }
        Ok(found)
    }
}

/// The key in the `Authorization` header: Bearer, or Basic with the key as user name.
fn presented_key(headers: &HeaderMap) -> Result<Zeroizing<String>> {
    let missing = || {
        Error::Unauthenticated(
            "You did not provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_SECRET_KEY' (or as the user name of HTTP Basic, with an empty password)."
                .to_owned(),
        )
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    let (scheme, rest) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Zeroizing::new(rest.trim().to_owned()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).map_err(|_| missing())?);
        let text = std::str::from_utf8(&decoded).map_err(|_| missing())?;
        return Ok(Zeroizing::new(text.split(':').next().unwrap_or_default().to_owned()));
    }
    Err(missing())
}

/// Shows a key so that its owner recognises it and nobody else can use it.
fn masked(key: &str) -> String {
    let prefix = key.get(..8).filter(|prefix| prefix.ends_with('_')).unwrap_or("");
    let last4 = if key.len() >= 16 && key.is_ascii() { &key[key.len() - 4..] } else { "" };
    format!("{prefix}****{last4}")
}

async fn authenticate(api: &Api, headers: &HeaderMap, peer: Option<Peer>) -> Result<Caller> {
    let presented = presented_key(headers)?;
    let invalid = || Error::Unauthenticated(format!("Invalid API Key provided: {}", masked(&presented)));
    let key = SecretKey::parse(&presented).map_err(|error| match error {
        KeyError::Publishable => Error::Unauthenticated(
            "This API call cannot be made with a publishable API key. Please use a secret API key.".to_owned(),
        ),
        KeyError::Malformed => invalid(),
    })?;
    let stored = api.keys.find(&api.app, &key.hash()).await?.ok_or_else(invalid)?;
    if stored.revoked_at.is_some() {
        return Err(Error::Unauthenticated(format!("This API key was revoked: {}", masked(&presented))));
    }
    if stored.expires_at.is_some_and(|at| at <= api.app.clock.now()) {
        return Err(Error::Unauthenticated(format!("Expired API Key provided: {}", masked(&presented))));
    }
    // A proxy on this machine is on this machine too, but whom it speaks for is not.
    let is_forwarded = ["forwarded", "x-forwarded-for", "via"].iter().any(|name| headers.contains_key(*name));
    let is_local = !is_forwarded && peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback());
    if stored.loopback_only && !is_local {
        return Err(Error::Unauthenticated(
            "This is a demo key that works from the gateway's own machine only.".to_owned(),
        ));
    }
    Ok(Caller { merchant_id: MerchantId::from_stored(stored.merchant_id), livemode: stored.livemode })
}

/// What a long answer needs to ask again whether its caller is still let in.
pub struct Credentials {
    headers: HeaderMap,
    peer: Option<Peer>,
}

impl<S: Send + Sync> FromRequestParts<S> for Credentials {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { headers: parts.headers.clone(), peer: parts.extensions.get::<Peer>().copied() })
    }
}

impl Credentials {
    /// Who calls, as of now.
    ///
    /// # Errors
    /// `Unauthenticated` when the key was revoked or has run out.
    pub async fn check(&self, api: &Api) -> Result<Caller> {
        authenticate(api, &self.headers, self.peer).await
    }
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/x-www-form-urlencoded`, or without a content type.
    Form,
    /// `application/json`.
    Json,
}

/// One authenticated request.
pub struct Call {
    /// The application.
    pub app: Arc<App>,
    /// Who calls.
    pub caller: Caller,
    request_id: Option<String>,
    idempotency_key: Option<String>,
    method: Method,
    uri: Uri,
    kind: BodyKind,
    body: Bytes,
}

impl FromRequest<Api> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().copied();
        let caller = authenticate(api, &parts.headers, peer).await.map_err(IntoResponse::into_response)?;
        let kind = body_kind(&parts.headers).map_err(IntoResponse::into_response)?;
        let idempotency_key = idempotency_key(&parts.headers).map_err(IntoResponse::into_response)?;
        let body = read(body, BODY_BYTES_MAX).await.map_err(IntoResponse::into_response)?;
        let asked = parts.extensions.get::<Asked>().cloned();
        let call = Self {
            app: Arc::clone(&api.app),
            caller,
            request_id: parts.extensions.get::<RequestId>().map(ToString::to_string),
            idempotency_key,
            method: parts.method,
            uri: parts.uri,
            kind,
            body,
        };
        if let Some(Asked(asked)) = asked {
            // Set once: a request is extracted once.
            let _ = asked.set(call.write());
        }
        Ok(call)
    }
}

/// Where a request with an idempotency key leaves what it asked for.
#[derive(Clone, Default)]
struct Asked(Arc<OnceLock<Write>>);

/// Looks a refused request's idempotency key up. A handler may refuse before its operation looks at the key: the
/// object is gone, the clock or the allow-list says something else by now. When the key was used before, its answer
/// stands, and to another request it says that the key is taken.
pub async fn honour_idempotency_key(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key("idempotency-key") {
        return next.run(request).await;
    }
    let asked = Asked::default();
    request.extensions_mut().insert(asked.clone());
    let response = next.run(request).await;
    let Some(write) = asked.0.get().filter(|_| response.status().is_client_error()) else { return response };
    match write.earlier_answer(&api.app).await {
        Ok(None) => response,
        Ok(Some(answer)) => answer.into_response(),
        Err(error) => error.into_response(),
    }
}

/// The id in the path. It comes from outside and may be anything; operations parse it.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(ApiError::unknown_route(&parts.method, parts.uri.path())),
        }
    }
}

/// What the headers say of the body.
pub fn body_kind(headers: &HeaderMap) -> Result<BodyKind, ApiError> {
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    let media_type = match headers.get(header::CONTENT_TYPE) {
        None => "",
        Some(value) => value.to_str().unwrap_or("?").split(';').next().unwrap_or("").trim(),
    };
    if !plain {
        Err(ApiError::unsupported_media_type())
    } else if media_type.is_empty() || media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(BodyKind::Form)
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Ok(BodyKind::Json)
    } else {
        Err(ApiError::unsupported_media_type())
    }
}

/// The key in the `Idempotency-Key` header.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("");
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_LENGTH_MAX {
        let message =
            format!("An Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} printable ASCII characters.");
        return Err(Error::invalid("idempotency_key_invalid", "", message));
    }
    Ok(Some(text.to_owned()))
}

/// Reads a body of at most so many bytes.
pub async fn read(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(ApiError::body_too_large(bytes_max)),
        Err(error) if body_read_timed_out(&*error) => Err(ApiError::body_too_slow()),
        Err(_) => Err(Error::invalid("parameters_malformed", "", "The request body could not be read.").into()),
    }
}

impl Call {
    /// The parameters of a body.
    ///
    /// # Errors
    /// `Invalid` with the parameter's name.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T> {
        if self.uri.query().is_some_and(|query| !query.is_empty()) {
            let message = "Send the parameters of a POST in its body, not in the URL. Nothing was changed.";
            return Err(Error::invalid("parameters_misplaced", "", message));
        }
        let decoded = match self.kind {
            BodyKind::Form => decode_form(&self.body),
            BodyKind::Json => decode_json(&self.body),
        };
        Ok(decoded?)
    }

    /// The parameters of a query string.
    ///
    /// # Errors
    /// `Invalid` with the parameter's name.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(decode_query(self.uri.query().unwrap_or_default().as_bytes())?)
    }

    /// The request as an operation that writes sees it. The fingerprint is of the bytes sent, so the
    /// same parameters in another order are another request.
    pub fn write(&self) -> Write {
        let idempotency = self.idempotency_key.as_ref().map(|key| {
            let mut hasher = Sha256::new();
            hasher.update([u8::from(self.kind == BodyKind::Json)]);
            hasher.update(self.uri.query().unwrap_or_default().as_bytes());
            hasher.update(b"\n");
            hasher.update(&self.body);
            Idempotency {
                key: key.clone(),
                route: format!("{} {}", self.method, self.uri.path()),
                fingerprint: hasher.finalize().into(),
            }
        });
        Write { caller: self.caller.clone(), request_id: self.request_id.clone(), idempotency }
    }
}
