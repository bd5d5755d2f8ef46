//! The payment of a session and the charges that try it.
//!
//! The rule: a charge is written down before the provider is asked, settles once, and a settled one
//! never moves again except to give money back. Who asks the provider is `ops::payments`; what the
//! session makes of it is `domain::session`.

use chrono::{DateTime, Duration, Utc};

use super::card::CardSummary;
use super::id::{ChargeId, MerchantId, PaymentId, SessionId};
use super::money::Money;
use super::session::Metadata;

/// How long after a charge was written the sweep first asks the provider about it. Longer than the
/// process that started it waits for its answer, so that the two rarely ask at once.
pub const LOOK_UP_AFTER: Duration = Duration::seconds(25);

/// A charge that the provider does not know after this time is closed with a void, so that a call
/// still under way somewhere can no longer take money, and then counts as declined.
pub const GIVE_UP_AFTER: Duration = Duration::seconds(60);

/// Longest wait between two look-ups of a charge in doubt.
const LOOK_UP_PAUSE_MAX_S: i64 = 60;

/// A payment's status, in Stripe's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentStatus {
    /// No charge has succeeded and none is in flight.
    RequiresPaymentMethod,
    /// A charge is in flight or in doubt.
    Processing,
    /// Paid.
    Succeeded,
    /// Given up together with its session.
    Canceled,
}

impl PaymentStatus {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// A payment: at most one per session, made when the first charge starts.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// The session that it pays.
    pub session_id: SessionId,
    /// What is paid.
    pub total: Money,
    /// The merchant's description.
    pub description: Option<String>,
    /// Where a receipt goes.
    pub receipt_email: Option<String>,
    /// The payment's own metadata.
    pub metadata: Metadata,
    /// When the first charge started.
    pub created_at: DateTime<Utc>,
}

/// Why a charge failed, in three layers: Stripe's code, its decline code, words for the merchant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargeFailure {
    /// `card_declined`, `expired_card`, …
    pub code: String,
    /// `insufficient_funds`, …
    pub decline_code: Option<String>,
    /// For the merchant.
    pub message: String,
    /// For the payer: what to do now.
    pub payer_message: String,
}

/// Where a charge stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChargeState {
    /// The provider has been asked, or is about to be; nobody knows yet.
    Pending,
    /// Money was taken.
    Succeeded,
    /// No money was taken.
    Failed(ChargeFailure),
    /// Money was taken and given back, because its session had ended otherwise.
    Reversed,
}

/// One attempt to take money.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Its id, and our idempotency key at the provider.
    pub id: ChargeId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// The payment that it tries.
    pub payment_id: PaymentId,
    /// The session that it pays.
    pub session_id: SessionId,
    /// The number of the form that was sent; the same form sent twice is one charge.
    pub attempt_key: String,
    /// The provider asked.
    pub provider: String,
    /// The provider's own name for it.
    pub provider_reference: Option<String>,
    /// What was asked for.
    pub total: Money,
    /// Where it stands.
    pub state: ChargeState,
    /// The stored payment method's id.
    pub payment_method: String,
    /// What may be known of the card.
    pub card: CardSummary,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// How often the sweep has asked.
    pub look_ups: i32,
    /// Whether it is being voided: whatever is heard of it now, its money does not stay.
    pub closing: bool,
}

/// When the sweep asks again: after 2, 4, 8 … seconds, at most a minute, so that an outage of the
/// provider is not answered with a flood and ends for the payer within a minute.
pub fn next_look_up(now: DateTime<Utc>, look_ups: i32) -> DateTime<Utc> {
    let exponent = look_ups.clamp(1, 6).unsigned_abs();
    now + Duration::seconds((1_i64 << exponent).min(LOOK_UP_PAUSE_MAX_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_back_off_to_a_minute() {
        let now = DateTime::from_timestamp(0, 0).expect("in range");
        let pauses: Vec<i64> = (0..9).map(|count| (next_look_up(now, count) - now).num_seconds()).collect();
        assert_eq!(pauses, [2, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
