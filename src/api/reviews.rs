//! `/v1/reviews`: payments that a fraud rule holds until the merchant has looked at them.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answer::Found;
use super::fields::{CreatedParam, ExpandParams, page};
use super::guard::{Call, Id};
use crate::domain::id::ReviewId;
use crate::error::Result;
use crate::ops::replay::Answer;
use crate::ops::reviews;
use crate::wire::List;
use crate::wire::error::ErrorEnvelope;
use crate::wire::review::Review;

/// What a list of reviews may be narrowed to.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ListReviews {
    /// When they were opened.
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

/// Lists open reviews, newest first.
#[utoipa::path(get, path = "/v1/reviews", tag = "Reviews", operation_id = "list_reviews", params(ListReviews),
    responses((status = 200, body = List<Review>), (status = "4XX", body = ErrorEnvelope)))]
pub async fn list(call: Call) -> Result<Found<List<Review>>> {
    let params: ListReviews = call.query()?;
    let page = page(params.limit, params.starting_after, params.ending_before, ReviewId::parse)?;
    let created = params.created.unwrap_or_default().filter()?;
    Ok(Found(reviews::list(&call.app, &call.caller, &created, &page).await?))
}

/// Retrieves a review.
#[utoipa::path(get, path = "/v1/reviews/{id}", tag = "Reviews", operation_id = "retrieve_review", params(("id" = String, Path), ExpandParams),
    responses((status = 200, body = Review), (status = "4XX", body = ErrorEnvelope)))]
pub async fn retrieve(Id(id): Id, call: Call) -> Result<Found<Review>> {
    let _: ExpandParams = call.query()?;
    Ok(Found(reviews::retrieve(&call.app, &call.caller, &id).await?))
}

/// The approval of a review.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`expand` only has to decode: there is nothing to expand")]
pub struct ApproveReview {
    /// Paths to expand; there is nothing to expand.
    pub expand: Option<Vec<String>>,
}

/// Approves a review, which takes the money. To refuse it, cancel the payment intent.
#[utoipa::path(post, path = "/v1/reviews/{id}/approve", tag = "Reviews", operation_id = "approve_review", params(("id" = String, Path)),
    request_body(content((ApproveReview = "application/x-www-form-urlencoded"), (ApproveReview = "application/json"))),
    responses((status = 200, body = Review), (status = "4XX", body = ErrorEnvelope)))]
pub async fn approve(Id(id): Id, call: Call) -> Result<Answer> {
    let _: ApproveReview = call.params()?;
    reviews::approve(&call.app, &call.write(), &id).await
}
