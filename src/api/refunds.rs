//! `/v1/refunds`: giving money back, all of it or parts.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, apply_metadata, metadata, page};
use super::guard::{Call, Id};
use super::params::MetadataParam;
use crate::domain::id::RefundId;
use crate::domain::payment::REFUND_REASONS;
use crate::error::{Error, Result};
use crate::ops::refunds::{self, NewRefund, RefundOf};
use crate::ops::replay::Answer;
use crate::store::ListFilter;
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::refund::Refund;

/// A refund to make.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct CreateRefund {
    /// The payment; this or `charge`.
    pub payment_intent: Option<String>,
    /// The charge; this or `payment_intent`.
    pub charge: Option<String>,
    /// Minor units; everything that is left unless given.
    pub amount: Option<i64>,
    /// `duplicate`, `fraudulent` or `requested_by_customer`.
    pub reason: Option<String>,
    /// The merchant's own data.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Gives money back.
#[utoipa::path(post, path = "/v1/refunds", tag = "Refunds", operation_id = "create_refund",
    request_body(content((CreateRefund = "application/x-www-form-urlencoded"), (CreateRefund = "application/json"))),
    responses((status = 200, body = Refund), (status = "4XX", body = ErrorEnvelope)))]
pub async fn create(call: Call) -> Result<Answer> {
    let params: CreateRefund = call.params()?;
    let of = RefundOf::one_of(params.payment_intent, params.charge)?;
    if let Some(reason) = params.reason.as_deref()
        && !REFUND_REASONS.contains(&reason)
    {
        let message = format!("Invalid reason: must be one of {}.", REFUND_REASONS.join(", "));
        return Err(Error::invalid("parameter_invalid", "reason", message));
    }
    let metadata = metadata("metadata", params.metadata)?;
    let new = NewRefund { of, amount: params.amount, reason: params.reason, metadata };
    refunds::create(&call.app, &call.write(), new).await
}

/// What a list of refunds may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListRefunds {
    /// Of one charge.
    pub charge: Option<String>,
    /// Of one payment.
    pub payment_intent: Option<String>,
    /// When they were asked for.
    #[param(value_type = Option<Object>)]
    pub created: Option<CreatedParam>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Lists refunds, newest first.
#[utoipa::path(get, path = "/v1/refunds", tag = "Refunds", operation_id = "list_refunds", params(ListRefunds),
    responses((status = 200, body = List<Refund>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Refund>>> {
    let params: ListRefunds = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, RefundId::parse)?;
    let filter = ListFilter {
        charge: params.charge,
        payment_intent: params.payment_intent,
        created: params.created.unwrap_or_default().filter()?,
        ..ListFilter::default()
    };
    Ok(Found(refunds::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves a refund.
#[utoipa::path(get, path = "/v1/refunds/{id}", tag = "Refunds", operation_id = "retrieve_refund", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Refund), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Refund>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(refunds::retrieve(&call.app, &call.caller, &id).await?))
}

/// What may be changed of a refund.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct UpdateRefund {
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Changes a refund's metadata.
#[utoipa::path(post, path = "/v1/refunds/{id}", tag = "Refunds", operation_id = "update_refund", params(("id" = String, Path)),
    request_body(content((UpdateRefund = "application/x-www-form-urlencoded"), (UpdateRefund = "application/json"))),
    responses((status = 200, body = Refund), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdateRefund = call.params()?;
    refunds::update(&call.app, &call.write(), &id, |metadata| apply_metadata("metadata", params.metadata, metadata))
        .await
}
