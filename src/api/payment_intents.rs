//! `/v1/payment_intents`: so far, reading back what became of a session's payment.

use super::answer::Found;
use super::fields::{ExpandParams, expand};
use super::guard::{Call, Id};
use crate::error::Result;
use crate::ops::payments;
use crate::wire::error::ErrorEnvelope;
use crate::wire::payment_intent::PaymentIntent;

/// Retrieves the payment of a checkout session.
#[utoipa::path(get, path = "/v1/payment_intents/{id}", tag = "Payment intents", operation_id = "retrieve_payment_intent", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = PaymentIntent), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<PaymentIntent>> {
    let params: ExpandParams = call.query()?;
    Ok(Found(payments::retrieve(&call.app, &call.caller, &id, &expand(params.expand)?).await?))
}
