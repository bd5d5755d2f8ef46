//! `/v1/disputes`: what payers dispute at their banks, and what the merchant answers.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, apply_metadata, page, text};
use super::guard::{Call, Id};
use super::params::MetadataParam;
use super::test_mode::test_mode_only;
use crate::domain::dispute::{DisputeAnswer, EVIDENCE_CHARS_MAX, EVIDENCE_FIELDS, REASONS};
use crate::domain::id::DisputeId;
use crate::error::{Error, Result};
use crate::ops::disputes::{self, Opening, Reply};
use crate::ops::refunds::RefundOf;
use crate::ops::replay::Answer;
use crate::store::ListFilter;
use crate::wire::List;
use crate::wire::dispute::Dispute;
use crate::wire::error::ErrorEnvelope;

/// Why a test disputes when it does not say.
const REASON_DEFAULT: &str = "fraudulent";

/// What a list of disputes may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListDisputes {
    /// Of one charge.
    pub charge: Option<String>,
    /// Of one payment.
    pub payment_intent: Option<String>,
    /// When they were heard of.
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

/// Lists disputes, newest first.
#[utoipa::path(get, path = "/v1/disputes", tag = "Disputes", operation_id = "list_disputes", params(ListDisputes),
    responses((status = 200, body = List<Dispute>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Dispute>>> {
    let params: ListDisputes = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, DisputeId::parse)?;
    let filter = ListFilter {
        charge: params.charge,
        payment_intent: params.payment_intent,
        created: params.created.unwrap_or_default().filter()?,
        ..ListFilter::default()
    };
    Ok(Found(disputes::list(&call.app, &call.caller, &filter, &page).await?))
}

/// Retrieves a dispute.
#[utoipa::path(get, path = "/v1/disputes/{id}", tag = "Disputes", operation_id = "retrieve_dispute", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Dispute), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Dispute>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(disputes::retrieve(&call.app, &call.caller, &id).await?))
}

/// What a merchant answers.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct UpdateDispute {
    /// Texts by the names that Stripe gives them, as `uncategorized_text`; an empty one takes out what was said. Files
    /// are not taken.
    pub evidence: Option<BTreeMap<String, Option<String>>>,
    /// Whether it goes to the bank now, which is so unless `false` is given; once, and the bank's word is final.
    pub submit: Option<bool>,
    /// Given keys are set, empty ones deleted, an empty value clears all.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

fn evidence(given: BTreeMap<String, Option<String>>) -> Result<Vec<(String, Option<String>)>> {
    given
        .into_iter()
        .map(|(field, value)| {
            let param = format!("evidence[{field}]");
            let known = EVIDENCE_FIELDS.iter().find(|(name, _)| *name == field);
            let Some((_, chars_max)) = known else {
                let names = EVIDENCE_FIELDS.map(|(name, _)| name).join(", ");
                let message = format!("Received unknown parameter: {param}. Evidence is taken as text: {names}.");
                return Err(Error::invalid("parameter_unknown", param, message));
            };
            let value = text(&param, value.filter(|text| !text.is_empty()), *chars_max)?;
            Ok((field, value))
        })
        .collect()
}

/// Answers a dispute with evidence, or changes its metadata.
#[utoipa::path(post, path = "/v1/disputes/{id}", tag = "Disputes", operation_id = "update_dispute", params(("id" = String, Path)),
    request_body(content((UpdateDispute = "application/x-www-form-urlencoded"), (UpdateDispute = "application/json"))),
    responses((status = 200, body = Dispute), (status = "4XX", body = ErrorEnvelope)))]
pub async fn update(Id(id): Id, call: Call) -> Result<Answer> {
    let params: UpdateDispute = call.params()?;
    // Evidence goes to the bank unless it is to wait; notes alone do not.
    let submits = params.submit.unwrap_or(params.evidence.is_some());
    let reply = Reply {
        evidence: evidence(params.evidence.unwrap_or_default())?,
        answer: submits.then_some(DisputeAnswer::Submit),
    };
    disputes::reply(&call.app, &call.write(), &id, reply, |evidence, metadata| {
        let chars: usize = evidence.values().map(|text| text.chars().count()).sum();
        if chars > EVIDENCE_CHARS_MAX {
            let message = format!("All evidence together may have {EVIDENCE_CHARS_MAX} characters.");
            return Err(Error::invalid("parameter_invalid_string", "evidence", message));
        }
        apply_metadata("metadata", params.metadata, metadata)
    })
    .await
}

/// The acceptance of a dispute.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct CloseDispute {
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Accepts a dispute: it is lost, and the payer keeps the money.
#[utoipa::path(post, path = "/v1/disputes/{id}/close", tag = "Disputes", operation_id = "close_dispute", params(("id" = String, Path)),
    request_body(content((CloseDispute = "application/x-www-form-urlencoded"), (CloseDispute = "application/json"))),
    responses((status = 200, body = Dispute), (status = "4XX", body = ErrorEnvelope)))]
pub async fn close(Id(id): Id, call: Call) -> Result<Answer> {
    let _: CloseDispute = call.params()?;
    let reply = Reply { answer: Some(DisputeAnswer::Close), ..Reply::default() };
    disputes::reply(&call.app, &call.write(), &id, reply, |_, _| Ok(())).await
}

/// How a test disputes.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct OpenTestDispute {
    /// The payment; this or `charge`.
    pub payment_intent: Option<String>,
    /// The charge; this or `payment_intent`.
    pub charge: Option<String>,
    /// Minor units; everything that is left unless given.
    pub amount: Option<i64>,
    /// Stripe's word for why, `fraudulent` unless given.
    pub reason: Option<String>,
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Disputes a test payment in its payer's place. The evidence `winning_evidence` wins it, `losing_evidence` loses it.
#[utoipa::path(post, path = "/v1/test_helpers/disputes", tag = "Test helpers", operation_id = "open_test_dispute",
    request_body(content((OpenTestDispute = "application/x-www-form-urlencoded"), (OpenTestDispute = "application/json"))),
    responses((status = 200, body = Dispute), (status = "4XX", body = ErrorEnvelope)))]
pub async fn open_for_test(call: Call) -> Result<Answer> {
    test_mode_only(&call)?;
    let params: OpenTestDispute = call.params()?;
    let of = RefundOf::one_of(params.payment_intent, params.charge)?;
    let reason = params.reason.unwrap_or_else(|| REASON_DEFAULT.to_owned());
    if !REASONS.contains(&reason.as_str()) {
        let message = format!("Invalid reason: must be one of {}.", REASONS.join(", "));
        return Err(Error::invalid("parameter_invalid_value", "reason", message));
    }
    disputes::open_for_test(&call.app, &call.write(), &of, Opening { amount: params.amount, reason }).await
}
