//! The escrow as merchants see it, with its contract and the files of its disputes.
//!
//! The rule: every key is always there. `status` is the whole lifecycle; `previous_status` says where a
//! suspended escrow came from. No file's bytes and no payer's link are in any object or event.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::escrow;
use crate::domain::session::Metadata;

/// An escrow.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Escrow {
    /// `esc_…`
    pub id: String,
    /// Always `escrow`.
    pub object: &'static str,
    /// Minor units: what the buyer pays.
    pub amount: i64,
    /// Minor units that the merchant keeps when the money is released.
    pub application_fee_amount: i64,
    /// Who pays.
    pub buyer_email: String,
    /// Unix seconds.
    pub buyer_signed_at: Option<i64>,
    /// Why the buyer asked for cancellation.
    pub cancellation_reason: Option<String>,
    /// Why the seller refused it.
    pub cancellation_rejection_reason: Option<String>,
    /// Unix seconds.
    pub cancellation_requested_at: Option<i64>,
    /// Unix seconds.
    pub cancelled_at: Option<i64>,
    /// Unix seconds.
    pub completed_at: Option<i64>,
    /// When it completes by itself; null unless it is delivered.
    pub completion_deadline: Option<i64>,
    /// SHA-256 of the contract's exact text, in hexadecimal; null without a contract.
    pub contract_sha256: Option<String>,
    /// The merchant's words in the contract.
    pub contract_terms: Option<String>,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Unix seconds.
    pub delivered_at: Option<i64>,
    /// The seller's note with the delivery.
    pub delivery_note: Option<String>,
    /// Unix seconds.
    pub delivery_rejected_at: Option<i64>,
    /// Why the last delivery was not accepted.
    pub delivery_rejection_reason: Option<String>,
    /// One of the known reasons.
    pub dispute_reason: Option<String>,
    /// What the dispute is about.
    pub dispute_text: Option<String>,
    /// Unix seconds.
    pub disputed_at: Option<i64>,
    /// `buyer` or `seller`.
    pub disputed_by: Option<&'static str>,
    /// Days until delivery.
    pub estimated_delivery_days: Option<u16>,
    /// Events so far: the number of the newest one about this escrow.
    pub event_count: i32,
    /// Days for inspection.
    pub inspection_days: u16,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// `standard`, `quick` or `instant`.
    pub mode: &'static str,
    /// Unix seconds.
    pub paid_at: Option<i64>,
    /// The payment that filled it.
    pub payment_intent: Option<String>,
    /// Where a disputed escrow, or one whose cancellation was asked for, came from.
    pub previous_status: Option<&'static str>,
    /// When the provider last refused to give money back, in Unix seconds.
    pub refund_failed_at: Option<i64>,
    /// Unix seconds.
    pub refunded_at: Option<i64>,
    /// Unix seconds.
    pub released_at: Option<i64>,
    /// `release`, `refund` or `split`.
    pub resolution: Option<&'static str>,
    /// Unix seconds.
    pub resolved_at: Option<i64>,
    /// Who delivers; null where the merchant does.
    pub seller_email: Option<String>,
    /// Unix seconds.
    pub seller_signed_at: Option<i64>,
    /// Who gets what, once that is decided.
    pub settlement: Option<Settlement>,
    /// `pending`, `paid`, `delivered`, `disputed`, `cancellation_requested`, `refunding`, `refund_failed`, `release_held`, `completed` or
    /// `cancelled`.
    pub status: &'static str,
    /// What it is about.
    pub title: String,
    /// Where the parcel can be followed.
    pub tracking_reference: Option<String>,
}

/// Who gets what, in minor units; together the escrow's amount.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Settlement {
    /// Back to the buyer.
    pub buyer: i64,
    /// To the seller's balance.
    pub seller: i64,
    /// To the merchant's balance: his fee, or all of it where he is the seller.
    pub merchant: i64,
    /// Of the buyer's part, what his bank took back for him in a dispute that was lost.
    pub lost_at_bank: i64,
}

impl Escrow {
    /// The escrow as it stands.
    pub fn new(escrow: &escrow::Escrow) -> Self {
        let at = |moment: Option<DateTime<Utc>>| moment.map(|moment| moment.timestamp());
        let (times, words) = (&escrow.times, &escrow.words);
        Self {
            id: escrow.id.to_string(),
            object: "escrow",
            amount: escrow.total.minor,
            application_fee_amount: escrow.fee_minor,
            buyer_email: escrow.buyer_email.clone(),
            buyer_signed_at: at(times.buyer_signed),
            cancellation_reason: words.cancellation_reason.clone(),
            cancellation_rejection_reason: words.cancellation_rejection_reason.clone(),
            cancellation_requested_at: at(times.cancellation_requested),
            cancelled_at: at(times.cancelled),
            completed_at: at(times.completed),
            completion_deadline: at(escrow.completion_deadline()),
            contract_sha256: escrow.contract.as_ref().map(|contract| hex::encode(contract.sha256)),
            contract_terms: escrow.contract.as_ref().map(|contract| contract.terms.clone()),
            created: escrow.created_at.timestamp(),
            currency: escrow.total.currency.code().to_owned(),
            delivered_at: at(times.delivered),
            delivery_note: words.delivery_note.clone(),
            delivery_rejected_at: at(times.delivery_rejected),
            delivery_rejection_reason: words.delivery_rejection_reason.clone(),
            dispute_reason: words.dispute_reason.clone(),
            dispute_text: words.dispute_text.clone(),
            disputed_at: at(times.disputed),
            disputed_by: words.disputed_by.map(escrow::Actor::as_str),
            estimated_delivery_days: escrow.estimated_delivery_days,
            event_count: escrow.event_count,
            inspection_days: escrow.inspection_days,
            livemode: escrow.livemode,
            metadata: escrow.metadata.clone(),
            mode: escrow.mode.as_str(),
            paid_at: at(times.paid),
            payment_intent: escrow.payment.as_ref().map(|payment| payment.payment_id.to_string()),
            previous_status: escrow.state.previous().map(escrow::Status::as_str),
            refund_failed_at: at(times.refund_failed),
            refunded_at: at(times.refunded),
            released_at: at(times.released),
            resolution: words.resolution,
            resolved_at: at(times.resolved),
            seller_email: escrow.seller_email.clone(),
            seller_signed_at: at(times.seller_signed),
            settlement: escrow.state.settlement().map(|parts| Settlement {
                buyer: parts.buyer,
                seller: parts.seller,
                merchant: parts.merchant,
                lost_at_bank: parts.lost,
            }),
            status: escrow.state.status().as_str(),
            title: escrow.title.clone(),
            tracking_reference: words.tracking_reference.clone(),
        }
    }
}

/// What `contract.signed` tells: the escrow, and who signed.
#[derive(Serialize, Debug)]
pub struct SignedContract {
    /// The escrow as it is now.
    #[serde(flatten)]
    pub escrow: Escrow,
    /// `buyer` or `seller`.
    pub signed_by: &'static str,
}

/// A contract with the evidence of its signatures.
#[derive(Serialize, ToSchema, Debug)]
pub struct EscrowContract {
    /// Always `escrow_contract`.
    pub object: &'static str,
    /// The escrow.
    pub escrow: String,
    /// Mode.
    pub livemode: bool,
    /// The exact text; null where the escrow's mode has no contract.
    pub text: Option<String>,
    /// SHA-256 of `text`, in hexadecimal.
    pub sha256: Option<String>,
    /// Whether both have signed.
    pub is_signed_by_both: bool,
    /// The signatures, the first first.
    pub signatures: Vec<EscrowSignature>,
}

/// A signature with what proves it.
#[derive(Serialize, ToSchema, Debug)]
pub struct EscrowSignature {
    /// `buyer` or `seller`.
    pub party: &'static str,
    /// `page`: typed and agreed to on the hosted page. `creation`: the seller signed by making the escrow.
    pub method: &'static str,
    /// The address of who signed.
    pub email: String,
    /// The name as typed.
    pub name: Option<String>,
    /// RFC 3339, to the microsecond.
    pub signed_at: String,
    /// From where.
    pub ip: Option<String>,
    /// With which browser, as it says.
    pub user_agent: Option<String>,
    /// When a code proved that he reads mail there, as `signed_at`.
    pub email_proven_at: Option<String>,
    /// The session whose page proved the address by a code sent to it.
    pub session: Option<String>,
    /// SHA-256 of the text that was signed, in hexadecimal.
    pub contract_sha256: String,
}

/// A moment as evidence says it.
pub fn evidence_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A file that came with a dispute.
#[derive(Serialize, ToSchema, Debug)]
pub struct EscrowAttachment {
    /// `file_…`
    pub id: String,
    /// Always `escrow_attachment`.
    pub object: &'static str,
    /// `image/png`, `image/jpeg`, `image/webp` or `application/pdf`, told by its content.
    pub content_type: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// The escrow.
    pub escrow: String,
    /// Its name, made safe.
    pub file_name: String,
    /// Mode.
    pub livemode: bool,
    /// `buyer` or `seller`.
    pub party: &'static str,
    /// The session with which it came.
    pub session: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How many bytes it has.
    pub size: i64,
}
