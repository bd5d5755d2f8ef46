//! `/v1/checkout/sessions/token/{token}`: a merchant's own page drives a session with the payer's
//! token and no API key.
//!
//! The rule: the token is looked at before anything else, and one that opens nothing gets one answer
//! whatever else is wrong. A browser's page is answered only where payers may be sent back to, by an
//! `Origin` that the merchant's allow-list covers; no answer ever allows credentials, of which there
//! are none. A confirmation is JSON, which no form of a foreign page can send, so it needs no token
//! against forgery beside the one in its address.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::Api;
use super::answer::{ApiError, Found};
use super::checkout_session_params::redirect_refused;
use super::guard::{BodyKind, body_kind, idempotency_key, read};
use super::params::{decode_json_and_wipe, decode_query};
use super::payer_billing::{
    BillingDetailsParam, PayerParam, PaymentMethodDataParam, PaymentMethodOptionsParam, payer_and_instrument,
    refuse_not_collected,
};
use crate::error::{Error, Result};
use crate::ops::confirmations::{self, Confirmation};
use crate::ops::fraud::Circumstances;
use crate::ops::identity;
use crate::ops::sessions;
use crate::server::Peer;
use crate::store::sessions::PageSession;
use crate::wire::error::ErrorEnvelope;
use crate::wire::payer_session::PayerSession;

/// Largest confirmation: a card, a name, a postal address and two addresses of the web.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Longest key of an attempt, as that of an idempotency key.
const ATTEMPT_KEY_CHARS_MAX: usize = 255;

/// How long a browser may remember what a page of the merchant's may send.
const PREFLIGHT_AGE_S: &str = "600";

/// The token in the address. One that is not even text opens nothing, like any other.
pub struct Token(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Path::<String>::from_request_parts(parts, state).await.ok().map(|Path(token)| token)))
    }
}

/// A session that a token opened, for whoever may read the answer.
struct Opened {
    page: Arc<PageSession>,
    origin: Option<HeaderValue>,
}

async fn open(api: &Api, token: &Token, headers: &HeaderMap) -> Result<Opened, ApiError> {
    let Some(token) = &token.0 else { return Err(ApiError::unknown_token()) };
    let page = match sessions::find_by_token(&api.app, token).await {
        Ok(page) => page,
        Err(Error::NotFound { .. }) => return Err(ApiError::unknown_token()),
        Err(error) => return Err(error.into()),
    };
    if !api.pace.may_call(&page.session.id) {
        return Err(Error::RateLimited.into());
    }
    let origin = headers.get(header::ORIGIN).cloned();
    if let Some(origin) = &origin {
        let is_own = match origin.to_str() {
            Ok(origin) => confirmations::is_own_origin(&api.app, &page, origin).await?,
            Err(_) => false,
        };
        if !is_own {
            return Err(ApiError::origin_not_allowed());
        }
    }
    Ok(Opened { page, origin })
}

impl Opened {
    /// The answer, readable by the page that asked.
    fn answer(&self, response: impl IntoResponse) -> Response {
        const EXPOSED: &str = "request-id, retry-after";
        let mut response = response.into_response();
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        response
    }
}

/// Retrieves a checkout session as its payer may see it.
#[utoipa::path(get, path = "/v1/checkout/sessions/token/{token}", tag = "Payer's own page", operation_id = "retrieve_payer_session", params(("token" = String, Path)),
    security(()),
    responses((status = 200, body = PayerSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(
    State(api): State<Api>,
    token: Token,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let opened = open(&api, &token, &headers).await?;
    Ok(opened.answer(show(&api, &opened.page, &method, &uri).await.map(Found)))
}

async fn show(api: &Api, page: &Arc<PageSession>, method: &Method, uri: &Uri) -> Result<PayerSession> {
    let NoParams {} = decode_query(uri.query().unwrap_or_default().as_bytes())?;
    let is_first = page.session.opened_at.is_none() && page.session.is_usable(api.app.clock.now());
    if is_first && method == Method::GET {
        sessions::note_opened(&api.app, &page.session).await;
    }
    confirmations::show(&api.app, page).await
}

/// There are none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// What a payer's page sends to pay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmCheckoutSession {
    /// Names this press of the button, at most 255 characters: sent again it charges nothing and is told what
    /// became of the first. This, or an `Idempotency-Key` header.
    pub attempt_key: Option<String>,
    /// Who pays. May be left out where a kept card is used and its customer has an e-mail address.
    pub payer: Option<PayerParam>,
    /// With a card that is kept for the session's customer: its id. This, or `payment_method_data`.
    pub payment_method: Option<String>,
    /// With a card that was typed.
    pub payment_method_data: Option<PaymentMethodDataParam>,
    /// What a kept card may need.
    pub payment_method_options: Option<PaymentMethodOptionsParam>,
    /// What goes to the payer's bank beside the card: his billing address. Must be there where the session's
    /// `billing_address_collection` is `required`, unless a kept card has one.
    pub billing_details: Option<BillingDetailsParam>,
    /// Where the payer comes back to from his bank, on the merchant's allow-list. Absent: the hosted page.
    pub return_url: Option<String>,
    /// Not taken: `billing_details[address]` is.
    #[schema(value_type = Option<Object>)]
    pub billing_address: Option<NotCollected>,
    /// Not collected yet.
    #[schema(value_type = Option<Object>)]
    pub shipping_address: Option<NotCollected>,
}

/// Kinds of payment methods.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethodType {
    /// A card.
    Card,
}

/// What no session asks its payer for. It is refused, not dropped.
pub struct NotCollected;

impl<'de> Deserialize<'de> for NotCollected {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Pays a checkout session from the merchant's own page.
///
/// The answer is the session afterwards: completed, or processing with a `next_action` that leads to the payer's
/// bank, or processing without one while the outcome is being found out. A card that is declined is a 402.
#[utoipa::path(post, path = "/v1/checkout/sessions/token/{token}/confirm", tag = "Payer's own page", operation_id = "confirm_checkout_session", params(("token" = String, Path)),
    security(()),
    request_body(content((ConfirmCheckoutSession = "application/json"))),
    responses((status = 200, body = PayerSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn confirm(
    State(api): State<Api>,
    token: Token,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let opened = open(&api, &token, &headers).await?;
    let address = peer.map(|Extension(Peer(peer))| api.app.settings.payer_address(peer.ip(), &headers));
    let circumstances = Circumstances { address };
    let answer = match json_body(&uri, &headers, body).await {
        Ok(body) => pay(&api, &opened.page, &headers, &body, circumstances).await.map(Found).map_err(ApiError::from),
        Err(error) => Err(error),
    };
    Ok(opened.answer(answer))
}

async fn json_body(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    if !matches!(body_kind(headers), Ok(BodyKind::Json)) {
        return Err(ApiError::json_wanted());
    }
    if uri.query().is_some_and(|query| !query.is_empty()) {
        let message = "Send the parameters of a POST in its body, not in the URL. Nothing was changed.";
        return Err(Error::invalid("parameters_misplaced", "", message).into());
    }
    Ok(Zeroizing::new(Vec::from(read(body, BODY_BYTES_MAX).await?)))
}

async fn pay(
    api: &Api,
    page: &PageSession,
    headers: &HeaderMap,
    body: &[u8],
    circumstances: Circumstances,
) -> Result<PayerSession> {
    let mut params: ConfirmCheckoutSession = decode_json_and_wipe(body)?;
    let attempt = attempt(params.attempt_key.take(), idempotency_key(headers)?)?;
    refuse_not_collected(&params)?;
    if !identity::is_bound(&api.app, &page.session, None).await? {
        let message =
            "Only the user that this session is for may pay it, after a code by mail. Send him to the session's `url`.";
        return Err(Error::invalid("payer_identity_required", "", message));
    }
    let (payer, instrument) = payer_and_instrument(&api.app, &page.session, &mut params).await?;
    let return_url = match params.return_url {
        Some(url) => Some(
            confirmations::way_back(&api.app, page, &url)
                .await?
                .map_err(|error| redirect_refused("return_url", error))?,
        ),
        None => None,
    };
    confirmations::confirm(&api.app, page, Confirmation { payer, instrument, attempt, return_url, circumstances }).await
}

/// The word that names an attempt. It is kept as a digest, so it may be anything.
fn attempt(param: Option<String>, header: Option<String>) -> Result<String> {
    match (param, header) {
        (Some(param), Some(header)) if param != header => {
            let message = "`attempt_key` and the Idempotency-Key header differ. Send one of them.";
            Err(Error::invalid("parameters_exclusive", "attempt_key", message))
        }
        (Some(key), _) | (None, Some(key)) if key.chars().count() <= ATTEMPT_KEY_CHARS_MAX => Ok(key),
        (None, None) => {
            let message = "Missing required param: attempt_key. Make a new one for each press of the pay button.";
            Err(Error::invalid("parameter_missing", "attempt_key", message))
        }
        _ => {
            let message = format!("`attempt_key` must be at most {ATTEMPT_KEY_CHARS_MAX} characters.");
            Err(Error::invalid("parameter_invalid_string", "attempt_key", message))
        }
    }
}

/// `OPTIONS`: what a browser asks before a page of another origin may send JSON.
pub async fn preflight(State(api): State<Api>, token: Token, headers: HeaderMap) -> Result<Response, ApiError> {
    let opened = open(&api, &token, &headers).await?;
    let allowed: [(HeaderName, HeaderValue); 4] = [
        (header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, idempotency-key")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE_S)),
    ];
    Ok(opened.answer((StatusCode::NO_CONTENT, allowed)))
}
