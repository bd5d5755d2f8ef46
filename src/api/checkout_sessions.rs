//! `/v1/checkout/sessions`.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::checkout_session_params::{CreateCheckoutSession, explain_unsupported};
use super::fields::{CreatedParam, ExpandParams, PageParams, apply_metadata, expand, page};
use super::guard::{Call, Id};
use super::params::MetadataParam;
use crate::domain::id::{LineItemId, SessionId};
use crate::domain::session::StateName;
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::{redirect_urls, sessions};
use crate::store::sessions::Filter;
use crate::wire::List;
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::error::ErrorEnvelope;
use crate::wire::line_item::LineItem;

/// Makes a checkout session.
#[utoipa::path(post, path = "/v1/checkout/sessions", tag = "Checkout sessions", operation_id = "create_checkout_session",
    request_body(content((CreateCheckoutSession = "application/x-www-form-urlencoded"), (CreateCheckoutSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateCheckoutSession = call.params().map_err(explain_unsupported)?;
    let expand = expand(params.expand.clone())?;
    let allowed = redirect_urls::remembered(&call.app, &call.caller).await?;
    let new = match params.check(&allowed, call.caller.livemode) {
        Ok(new) => new,
        // The list may have grown since it was read.
        Err(refused) => {
            let now_allowed = Box::pin(redirect_urls::all(&call.app, &call.caller)).await?;
            if now_allowed == allowed {
                return Err(refused);
            }
            call.params::<CreateCheckoutSession>()?.check(&now_allowed, call.caller.livemode)?
        }
    };
    sessions::create(&call.app, &call.write(), new, &expand).await
}

/// Stripe's view of a session's state.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum StatusParam {
    /// Pending or processing.
    Open,
    /// Completed.
    Complete,
    /// Expired, cancelled or failed.
    Expired,
}

/// Part of `customer_details`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct CustomerDetailsParam {
    /// The payer's address.
    pub email: String,
}

/// What a list of sessions may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListCheckoutSessions {
    /// Stripe's view of the state.
    #[param(inline)]
    pub status: Option<StatusParam>,
    /// The full state.
    pub state: Option<String>,
    /// The payment.
    pub payment_intent: Option<String>,
    /// The payer.
    #[param(value_type = Option<Object>, style = DeepObject, explode)]
    pub customer_details: Option<CustomerDetailsParam>,
    /// The customer.
    pub customer: Option<String>,
    /// Customers have no accounts of their own, so no session has one.
    pub customer_account: Option<String>,
    /// Payment links are not made, so no session has one.
    pub payment_link: Option<String>,
    /// Subscriptions are not made, so no session has one.
    pub subscription: Option<String>,
    /// The merchant's own reference.
    pub client_reference_id: Option<String>,
    /// Creation time.
    #[param(value_type = Option<Object>, style = DeepObject, explode)]
    pub created: Option<CreatedParam>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Lists checkout sessions, newest first.
#[utoipa::path(get, path = "/v1/checkout/sessions", tag = "Checkout sessions", operation_id = "list_checkout_sessions", params(ListCheckoutSessions),
    responses((status = 200, body = List<CheckoutSession>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<CheckoutSession>>> {
    let params: ListCheckoutSessions = call.query()?;
    let never_set = [&params.customer_account, &params.payment_link, &params.subscription];
    if never_set.into_iter().any(Option::is_some) {
        return Ok(Found(List::new("/v1/checkout/sessions", Vec::new(), false)));
    }
    if let Some(state) = params.state.as_deref()
        && StateName::parse(state).is_none()
    {
        let known: Vec<&str> = StateName::ALL.iter().map(|state| state.as_str()).collect();
        return Err(Error::invalid(
            "parameter_invalid",
            "state",
            format!("Invalid state: must be one of {}.", known.join(", ")),
        ));
    }
    let filter = Filter {
        status: params.status.map(|status| {
            match status {
                StatusParam::Open => "open",
                StatusParam::Complete => "complete",
                StatusParam::Expired => "expired",
            }
            .to_owned()
        }),
        state: params.state,
        payment_intent: params.payment_intent,
        customer: params.customer,
        customer_email: params.customer_details.map(|details| details.email),
        client_reference_id: params.client_reference_id,
        created: params.created.unwrap_or_default().filter()?,
    };
    let page = page(params.limit, params.starting_after, params.ending_before, SessionId::parse)?;
    let expand = expand(params.expand)?;
    Ok(Found(sessions::list(&call.app, &call.caller, &filter, &page, &expand).await?))
}

/// Retrieves a checkout session.
#[utoipa::path(get, path = "/v1/checkout/sessions/{id}", tag = "Checkout sessions", operation_id = "retrieve_checkout_session", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<CheckoutSession>> {
    let params: ExpandParams = call.query()?;
    Ok(Found(sessions::retrieve(&call.app, &call.caller, &id, &expand(params.expand)?).await?))
}

/// What may be changed of a session.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct UpdateCheckoutSession {
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Changes a checkout session's metadata.
#[utoipa::path(post, path = "/v1/checkout/sessions/{id}", tag = "Checkout sessions", operation_id = "update_checkout_session", params(("id" = String, Path)),
    request_body(content((UpdateCheckoutSession = "application/x-www-form-urlencoded"), (UpdateCheckoutSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdateCheckoutSession = call.params().map_err(explain_unsupported)?;
    let expand = expand(params.expand)?;
    sessions::update(&call.app, &call.write(), &id, &expand, |metadata| {
        apply_metadata("metadata", params.metadata, metadata)
    })
    .await
}

/// Ends an open checkout session.
#[utoipa::path(post, path = "/v1/checkout/sessions/{id}/expire", tag = "Checkout sessions", operation_id = "expire_checkout_session", params(("id" = String, Path)),
    request_body(content((ExpandParams = "application/x-www-form-urlencoded"), (ExpandParams = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn expire(Id(id): Id, call: Call) -> Result<Answer> {
    let params: ExpandParams = call.params()?;
    sessions::expire(&call.app, &call.write(), &id, &expand(params.expand)?).await
}

/// Lists a checkout session's line items in the order they were given.
#[utoipa::path(get, path = "/v1/checkout/sessions/{id}/line_items", tag = "Checkout sessions", operation_id = "list_checkout_session_line_items", params(("id" = String, Path), PageParams),
    responses((status = 200, body = List<LineItem>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn line_items(Id(id): Id, call: Call) -> Result<Found<List<LineItem>>> {
    let params: PageParams = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, LineItemId::parse)?;
    Ok(Found(sessions::line_items(&call.app, &call.caller, &id, &page, &expand(params.expand)?).await?))
}
