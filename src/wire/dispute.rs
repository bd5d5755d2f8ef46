//! A payer's dispute, in the shape of Stripe's dispute.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use crate::domain::dispute::{self, EVIDENCE_FIELDS};
use crate::domain::session::Metadata;

/// Kinds of evidence that are files at Stripe. None is taken here.
const FILE_FIELDS: [&str; 8] = [
    "cancellation_policy",
    "customer_communication",
    "customer_signature",
    "duplicate_charge_documentation",
    "receipt",
    "refund_policy",
    "service_documentation",
    "shipping_documentation",
];

/// And one more, which has a text beside it.
const FURTHER_FILE: &str = "uncategorized_file";

/// A dispute.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Dispute {
    /// `dp_…`
    pub id: String,
    /// Always `dispute`.
    pub object: &'static str,
    /// Minor units that are disputed.
    pub amount: i64,
    /// Minor units of these that came back to the merchant.
    pub amount_reinstated: i64,
    /// Minor units that were taken back for the payer.
    pub amount_withdrawn: i64,
    /// Always empty: `amount_withdrawn`, `amount_reinstated` and `provider_fee` say what was moved.
    #[schema(value_type = Vec<Object>)]
    pub balance_transactions: [Null; 0],
    /// The charge that is disputed.
    pub charge: String,
    /// When it was heard of: Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub enhanced_eligibility_types: [Null; 0],
    /// What the merchant has to say: every field is there, null where nothing was said.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub evidence: BTreeMap<&'static str, EvidenceField>,
    /// Until when it is taken, and how often it was.
    pub evidence_details: EvidenceDetails,
    /// Always null.
    pub intended_submission_method: Option<String>,
    /// Whether it is an inquiry, so that a refund may still end it.
    pub is_charge_refundable: bool,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// The payment of the charge.
    pub payment_intent: String,
    /// Minor units that the provider keeps for it, where it says so.
    pub provider_fee: Option<i64>,
    /// Why, as `fraudulent` or `product_not_received`.
    pub reason: String,
    /// `needs_response`, `under_review`, `won`, `lost`, or `warning_…` for inquiries.
    pub status: &'static str,
}

/// A text, or an empty object.
#[derive(Serialize, Debug, Clone)]
#[serde(untagged)]
pub enum EvidenceField {
    /// A text, or nothing.
    Text(Option<String>),
    /// Nothing, where Stripe has an object.
    Nothing {},
}

/// Until when evidence is taken, and how often it was.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct EvidenceDetails {
    /// Unix seconds, where the provider says so.
    pub due_by: Option<i64>,
    /// Always an empty object.
    pub enhanced_eligibility: BTreeMap<String, String>,
    /// Whether there is any.
    pub has_evidence: bool,
    /// Whether none came in time.
    pub past_due: bool,
    /// How often it was sent to the bank.
    pub submission_count: i32,
    /// Always `manual`.
    pub submission_method: &'static str,
}

impl Dispute {
    /// The dispute as it stands.
    pub fn new(dispute: &dispute::Dispute, now: DateTime<Utc>) -> Self {
        let text = |field: &str| EvidenceField::Text(dispute.evidence.get(field).cloned());
        let texts = EVIDENCE_FIELDS.iter().map(|(field, _)| (*field, text(field)));
        let files = FILE_FIELDS.iter().chain([&FURTHER_FILE]).map(|field| (*field, EvidenceField::Text(None)));
        let evidence = texts.chain(files).chain([("enhanced_evidence", EvidenceField::Nothing {})]).collect();
        let wants_answer = dispute.status.wants_answer();
        Self {
            id: dispute.id.to_string(),
            object: "dispute",
            amount: dispute.total.minor,
            amount_reinstated: dispute.amount_reinstated,
            amount_withdrawn: dispute.amount_withdrawn,
            balance_transactions: [],
            charge: dispute.charge_id.to_string(),
            created: dispute.created_at.timestamp(),
            currency: dispute.total.currency.code().to_owned(),
            enhanced_eligibility_types: [],
            evidence,
            evidence_details: EvidenceDetails {
                due_by: dispute.evidence_due_by.map(|due| due.timestamp()),
                enhanced_eligibility: BTreeMap::new(),
                has_evidence: !dispute.evidence.is_empty(),
                past_due: wants_answer && dispute.evidence_due_by.is_some_and(|due| due < now),
                submission_count: dispute.submission_count,
                submission_method: "manual",
            },
            intended_submission_method: None,
            is_charge_refundable: dispute.amount_withdrawn == 0 && !dispute.status.is_closed(),
            livemode: dispute.livemode,
            metadata: dispute.metadata.clone(),
            payment_intent: dispute.payment_id.to_string(),
            provider_fee: dispute.fee,
            reason: dispute.reason.clone(),
            status: dispute.status.as_str(),
        }
    }
}
