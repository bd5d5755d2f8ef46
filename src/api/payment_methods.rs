//! `/v1/payment_methods`: cards that are kept for customers. They are made by paying, never by number.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{ExpandParams, apply_metadata, page};
use super::guard::{Call, Id};
use super::params::MetadataParam;
use super::saved_card_params::AllowRedisplayParam;
use crate::domain::id::PaymentMethodId;
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::{customers, payment_methods};
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::payment_method::PaymentMethod;

/// Kinds of payment methods.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schema(as = KeptPaymentMethodType)]
pub enum PaymentMethodType {
    /// Cards.
    Card,
}

/// What a list of payment methods may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct ListPaymentMethods {
    /// Whose cards; required.
    pub customer: Option<String>,
    /// Cards that may be shown to the payer that far.
    #[param(inline)]
    pub allow_redisplay: Option<AllowRedisplayParam>,
    /// Only `card`.
    #[serde(rename = "type")]
    #[param(inline)]
    pub kind: Option<PaymentMethodType>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand; there is nothing to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Lists the cards that are kept for a customer, newest first.
#[utoipa::path(get, path = "/v1/payment_methods", tag = "Payment methods", operation_id = "list_payment_methods", params(ListPaymentMethods),
    responses((status = 200, body = List<PaymentMethod>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<PaymentMethod>>> {
    let params: ListPaymentMethods = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, PaymentMethodId::parse)?;
    let Some(customer) = params.customer else {
        let message = "Missing required param: customer. Cards are listed for one customer at a time.";
        return Err(Error::invalid("parameter_missing", "customer", message));
    };
    let customer = customers::named(&call.app, &call.caller, "customer", &customer).await?;
    let redisplay = params.allow_redisplay.map(Into::into);
    let url = "/v1/payment_methods";
    Ok(Found(payment_methods::list(&call.app, &call.caller, &customer, redisplay, &page, url).await?))
}

/// Retrieves a kept card. One that was detached has no customer.
#[utoipa::path(get, path = "/v1/payment_methods/{id}", tag = "Payment methods", operation_id = "retrieve_payment_method", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = PaymentMethod), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<PaymentMethod>> {
    call.query::<ExpandParams>()?;
    Ok(Found(payment_methods::retrieve(&call.app, &call.caller, &id).await?))
}

/// What may be changed of a kept card.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct UpdatePaymentMethod {
    /// Whether its payer may be shown it again; send `always` only with his consent.
    pub allow_redisplay: Option<AllowRedisplayParam>,
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Changes what a merchant notes on a kept card.
#[utoipa::path(post, path = "/v1/payment_methods/{id}", tag = "Payment methods", operation_id = "update_payment_method", params(("id" = String, Path)),
    request_body(content((UpdatePaymentMethod = "application/x-www-form-urlencoded"), (UpdatePaymentMethod = "application/json"))),
    responses((status = 200, body = PaymentMethod), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdatePaymentMethod = call.params()?;
    let redisplay = params.allow_redisplay.map(Into::into);
    payment_methods::update(&call.app, &call.write(), &id, redisplay, |metadata| {
        apply_metadata("metadata", params.metadata, metadata)
    })
    .await
}

/// Gives a kept card up: nothing stays that could be charged.
#[utoipa::path(post, path = "/v1/payment_methods/{id}/detach", tag = "Payment methods", operation_id = "detach_payment_method", params(("id" = String, Path)),
    request_body(content((ExpandParams = "application/x-www-form-urlencoded"), (ExpandParams = "application/json"))),
    responses((status = 200, body = PaymentMethod), (status = "4XX", body = ErrorEnvelope)))]
pub async fn detach(Id(id): Id, call: Call) -> Result<Answer> {
    call.params::<ExpandParams>()?;
    payment_methods::detach(&call.app, &call.write(), &id).await
}
