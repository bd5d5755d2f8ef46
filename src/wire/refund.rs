//! Money given back, in the shape of Stripe's refund.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use super::unfilled::UnfilledOfRefund;
use crate::domain::payment::{self, RefundState};
use crate::domain::session::Metadata;

/// A refund.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Refund {
    /// `re_…`
    pub id: String,
    /// Always `refund`.
    pub object: &'static str,
    /// Minor units.
    pub amount: i64,
    /// Always null.
    pub balance_transaction: Option<String>,
    /// The charge that it gives back.
    pub charge: String,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub destination_details: Null,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// The payment of the charge.
    pub payment_intent: String,
    /// `duplicate`, `fraudulent` or `requested_by_customer`.
    pub reason: Option<String>,
    /// Always null.
    pub receipt_number: Option<String>,
    /// Always null.
    pub source_transfer_reversal: Option<String>,
    /// `pending`, `succeeded` or `failed`.
    pub status: &'static str,
    /// Always null.
    pub transfer_reversal: Option<String>,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfRefund,
}

impl Refund {
    /// The refund as it stands.
    pub fn new(refund: &payment::Refund) -> Self {
        Self {
            id: refund.id.to_string(),
            object: "refund",
            amount: refund.total.minor,
            balance_transaction: None,
            charge: refund.charge_id.to_string(),
            created: refund.created_at.timestamp(),
            currency: refund.total.currency.code().to_owned(),
            destination_details: None,
            failure_reason: match &refund.state {
                RefundState::Failed { reason } => Some(reason.clone()),
                _ => None,
            },
            metadata: refund.metadata.clone(),
            payment_intent: refund.payment_id.to_string(),
            reason: refund.reason.clone(),
            receipt_number: None,
            source_transfer_reversal: None,
            status: refund.state.as_str(),
            transfer_reversal: None,
            unfilled: UnfilledOfRefund::default(),
        }
    }
}
