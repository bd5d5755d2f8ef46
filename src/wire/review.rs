//! A payment that is held for its merchant to look at, in the shape of Stripe's review.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use crate::domain::review;

/// A review.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Review {
    /// `prv_…`
    pub id: String,
    /// Always `review`.
    pub object: &'static str,
    /// Always null.
    pub billing_zip: Option<String>,
    /// The charge that holds the money.
    pub charge: Option<String>,
    /// `approved`, `canceled`, or `payment_never_settled` when nobody decided in time; null while it is open.
    pub closed_reason: Option<&'static str>,
    /// Unix seconds.
    pub created: i64,
    /// When the money is let go unless somebody has decided, in Unix seconds. Ours.
    pub expires_at: Option<i64>,
    /// Always null: payers' addresses are not kept.
    pub ip_address: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub ip_address_location: Null,
    /// Mode.
    pub livemode: bool,
    /// Whether it waits for the merchant.
    pub open: bool,
    /// Always `rule`.
    pub opened_reason: &'static str,
    /// The payment.
    pub payment_intent: Option<String>,
    /// `rule` while it is open, then the reason of its closing.
    pub reason: &'static str,
    /// The name of the rule. Ours.
    pub rule: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub session: Null,
}

impl Review {
    /// The review as it stands.
    pub fn new(review: &review::Review) -> Self {
        let closed_reason = review.closed.map(review::ClosedReason::word);
        Self {
            id: review.id.to_string(),
            object: "review",
            billing_zip: None,
            charge: Some(review.charge_id.to_string()),
            closed_reason,
            created: review.created_at.timestamp(),
            expires_at: review.expires_at.map(|at| at.timestamp()),
            ip_address: None,
            ip_address_location: None,
            livemode: review.livemode,
            open: review.closed.is_none(),
            opened_reason: "rule",
            payment_intent: Some(review.payment_id.to_string()),
            reason: closed_reason.unwrap_or("rule"),
            rule: review.rule.clone(),
            session: None,
        }
    }
}
