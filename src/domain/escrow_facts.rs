//! What is known of an escrow beside where it stands: its contract, its payment, when what happened,
//! and what people wrote.
//!
//! The rule: plain values. What may change them is `domain::escrow_acts`.

use chrono::{DateTime, Utc};

use super::escrow::Actor;
use super::id::{ChargeId, PaymentId, SessionId};

/// The payment that filled an escrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EscrowPayment {
    /// The session in which it was made.
    pub session_id: SessionId,
    /// The payment.
    pub payment_id: PaymentId,
    /// The charge that took the money.
    pub charge_id: ChargeId,
}

/// A contract: what both sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contract {
    /// The merchant's words.
    pub terms: String,
    /// The whole text as it is shown and signed, parties and price included. Frozen at creation.
    pub text: String,
    /// SHA-256 of `text`.
    pub sha256: [u8; 32],
}

/// When what happened, the last time where it can happen again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// The buyer signed.
    pub buyer_signed: Option<DateTime<Utc>>,
    /// The seller signed.
    pub seller_signed: Option<DateTime<Utc>>,
    /// Paid.
    pub paid: Option<DateTime<Utc>>,
    /// Delivered.
    pub delivered: Option<DateTime<Utc>>,
    /// The delivery was not accepted.
    pub delivery_rejected: Option<DateTime<Utc>>,
    /// Disputed.
    pub disputed: Option<DateTime<Utc>>,
    /// Decided.
    pub resolved: Option<DateTime<Utc>>,
    /// The buyer asked for cancellation.
    pub cancellation_requested: Option<DateTime<Utc>>,
    /// The seller refused cancellation.
    pub cancellation_rejected: Option<DateTime<Utc>>,
    /// Completed.
    pub completed: Option<DateTime<Utc>>,
    /// Cancelled.
    pub cancelled: Option<DateTime<Utc>>,
    /// The provider refused to give money back.
    pub refund_failed: Option<DateTime<Utc>>,
    /// Money went back to the buyer.
    pub refunded: Option<DateTime<Utc>>,
    /// Money went to the seller.
    pub released: Option<DateTime<Utc>>,
}

/// What people wrote, the last words where they can write again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words {
    /// Where the parcel can be followed.
    pub tracking_reference: Option<String>,
    /// The seller's note with the delivery.
    pub delivery_note: Option<String>,
    /// Why the delivery was not accepted.
    pub delivery_rejection_reason: Option<String>,
    /// Who disputed.
    pub disputed_by: Option<Actor>,
    /// One of [`DISPUTE_REASONS`].
    pub dispute_reason: Option<String>,
    /// What the dispute is about.
    pub dispute_text: Option<String>,
    /// `release`, `refund` or `split`.
    pub resolution: Option<&'static str>,
    /// Why the buyer wants to give it up.
    pub cancellation_reason: Option<String>,
    /// Why the seller goes on all the same.
    pub cancellation_rejection_reason: Option<String>,
}

/// What a dispute can be about.
pub const DISPUTE_REASONS: [&str; 5] = ["not_received", "not_as_described", "damaged", "no_agreement", "other"];

/// What the buyer's bank says of the payment that filled an escrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AtBank {
    /// Whether a dispute is not decided.
    pub is_open: bool,
    /// Whether one was decided for the buyer.
    pub is_lost: bool,
    /// Minor units that the bank has taken back and may yet give again.
    pub taken_minor: i64,
    /// Minor units that it has taken back for good.
    pub lost_minor: i64,
}

impl AtBank {
    /// Whether neither time nor one of the two sides releases the money.
    pub fn holds(self) -> bool {
        self.is_open || self.is_lost
    }

    /// Whether money is with the bank until it decides.
    pub fn has_taken_for_now(self) -> bool {
        self.taken_minor > 0
    }
}
