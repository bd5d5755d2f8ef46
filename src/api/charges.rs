//! `/v1/charges`: every try to take money, failed ones too.

use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, page};
use super::guard::{Call, Id};
use crate::domain::id::ChargeId;
use crate::error::Result;
use crate::ops::charges;
use crate::store::ListFilter;
use crate::wire::List;
use crate::wire::charge::Charge;
use crate::wire::error::ErrorEnvelope;

/// What a list of charges may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListCharges {
    /// Of one payment.
    pub payment_intent: Option<String>,
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
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Lists charges, newest first.
#[utoipa::path(get, path = "/v1/charges", tag = "Charges", operation_id = "list_charges", params(ListCharges),
    responses((status = 200, body = List<Charge>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Charge>>> {
    let params: ListCharges = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, ChargeId::parse)?;
    let filter = ListFilter {
        customer: params.customer,
        payment_intent: params.payment_intent,
        created: params.created.unwrap_or_default().filter()?,
        ..ListFilter::default()
    };
    Ok(Found(charges::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves a charge.
#[utoipa::path(get, path = "/v1/charges/{id}", tag = "Charges", operation_id = "retrieve_charge", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Charge), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Charge>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(charges::retrieve(&call.app, &call.caller, &id).await?))
}
