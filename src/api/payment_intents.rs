//! `/v1/payment_intents`: what became of a session's payment, and taking reserved money.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, apply_metadata, email, expand, page, seen_text};
use super::guard::{Call, Id};
use super::params::{MetadataParam, Patch};
use crate::domain::id::PaymentId;
use crate::domain::payment::CANCELLATION_REASONS;
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::{captures, payment_reads};
use crate::store::ListFilter;
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::payment_intent::PaymentIntent;

/// Characters in a payment's description, as at Stripe.
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// What a list of payments may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListPaymentIntents {
    /// Creation time.
    #[param(value_type = Option<Object>)]
    pub created: Option<CreatedParam>,
    /// Of one customer.
    pub customer: Option<String>,
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand.
    pub expand: Option<Vec<String>>,
}

/// Lists payments, newest first.
#[utoipa::path(get, path = "/v1/payment_intents", tag = "Payment intents", operation_id = "list_payment_intents", params(ListPaymentIntents),
    responses((status = 200, body = List<PaymentIntent>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<PaymentIntent>>> {
    let params: ListPaymentIntents = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, PaymentId::parse)?;
    let created = params.created.unwrap_or_default().filter()?;
    let filter = ListFilter { customer: params.customer, created, ..ListFilter::default() };
    let expand = expand(params.expand)?;
    Ok(Found(payment_reads::list(&call.app, &call.caller, &filter, &page, &expand).await?))
}

/// Retrieves the payment of a checkout session.
#[utoipa::path(get, path = "/v1/payment_intents/{id}", tag = "Payment intents", operation_id = "retrieve_payment_intent", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = PaymentIntent), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<PaymentIntent>> {
    let params: ExpandParams = call.query()?;
    Ok(Found(payment_reads::retrieve(&call.app, &call.caller, &id, &expand(params.expand)?).await?))
}

/// What may be changed of a payment.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct UpdatePaymentIntent {
    /// The merchant's description; empty clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Patch<String>,
    /// Where a receipt goes; empty clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub receipt_email: Patch<String>,
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Changes a payment's own notes. What is paid is its session's and does not change.
#[utoipa::path(post, path = "/v1/payment_intents/{id}", tag = "Payment intents", operation_id = "update_payment_intent", params(("id" = String, Path)),
    request_body(content((UpdatePaymentIntent = "application/x-www-form-urlencoded"), (UpdatePaymentIntent = "application/json"))),
    responses((status = 200, body = PaymentIntent), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdatePaymentIntent = call.params()?;
    let expand = expand(params.expand)?;
    let description = match params.description {
        Patch::Absent => None,
        Patch::Clear => Some(None),
        Patch::Set(description) => Some(seen_text("description", Some(description), DESCRIPTION_CHARS_MAX)?),
    };
    let receipt_email = match params.receipt_email {
        Patch::Absent => None,
        Patch::Clear => Some(None),
        Patch::Set(address) => Some(email("receipt_email", Some(address))?),
    };
    captures::update(&call.app, &call.write(), &id, &expand, |payment| {
        if let Some(description) = description {
            payment.description = description;
        }
        if let Some(address) = receipt_email {
            payment.receipt_email = address;
        }
        apply_metadata("metadata", params.metadata, &mut payment.metadata)
    })
    .await
}

/// How much to take.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct CapturePaymentIntent {
    /// Minor units; everything that is reserved unless given. The rest is let go.
    pub amount_to_capture: Option<i64>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Takes reserved money.
#[utoipa::path(post, path = "/v1/payment_intents/{id}/capture", tag = "Payment intents", operation_id = "capture_payment_intent", params(("id" = String, Path)),
    request_body(content((CapturePaymentIntent = "application/x-www-form-urlencoded"), (CapturePaymentIntent = "application/json"))),
    responses((status = 200, body = PaymentIntent), (status = "4XX", body = ErrorEnvelope)))]
pub async fn capture(Id(id): Id, call: Call) -> Result<Answer> {
    let params: CapturePaymentIntent = call.params()?;
    let expand = expand(params.expand)?;
    captures::capture(&call.app, &call.write(), &id, params.amount_to_capture, &expand).await
}

/// Why a payment is given up.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct CancelPaymentIntent {
    /// `duplicate`, `fraudulent`, `requested_by_customer` or `abandoned`.
    pub cancellation_reason: Option<String>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Gives up a payment that holds reserved money.
#[utoipa::path(post, path = "/v1/payment_intents/{id}/cancel", tag = "Payment intents", operation_id = "cancel_payment_intent", params(("id" = String, Path)),
    request_body(content((CancelPaymentIntent = "application/x-www-form-urlencoded"), (CancelPaymentIntent = "application/json"))),
    responses((status = 200, body = PaymentIntent), (status = "4XX", body = ErrorEnvelope)))]
pub async fn cancel(Id(id): Id, call: Call) -> Result<Answer> {
    let params: CancelPaymentIntent = call.params()?;
    if let Some(reason) = params.cancellation_reason.as_deref()
        && !CANCELLATION_REASONS.contains(&reason)
    {
        let message = format!("Invalid cancellation_reason: must be one of {}.", CANCELLATION_REASONS.join(", "));
        return Err(Error::invalid("parameter_invalid", "cancellation_reason", message));
    }
    let expand = expand(params.expand)?;
    captures::cancel(&call.app, &call.write(), &id, params.cancellation_reason, &expand).await
}
