//! The payment of a session and the charges that try it.
//!
//! The rule: a charge is written down before the provider is asked, settles once, and a settled one
//! never moves again except to give money back. Who asks the provider is `ops::payments`; what the
//! session makes of it is `domain::session`.

use chrono::{DateTime, Duration, Utc};

use super::billing::BillingDetails;
use super::card::CardSummary;
use super::charge_facts::Facts;
use super::fraud::Assessment;
use super::id::{ChargeId, CustomerId, MerchantId, PaymentId, PaymentMethodId, RefundId, SessionId};
use super::money::Money;
use super::payment_method::FutureUsage;
use super::refusal::Refusal;
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
    /// The payer has to prove to his bank that it is he.
    RequiresAction,
    /// A charge is in flight or in doubt.
    Processing,
    /// Reserved on the card, to be captured by the merchant.
    RequiresCapture,
    /// Paid.
    Succeeded,
    /// Given up together with its session.
    Canceled,
}

impl PaymentStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::RequiresPaymentMethod,
        Self::RequiresAction,
        Self::Processing,
        Self::RequiresCapture,
        Self::Succeeded,
        Self::Canceled,
    ];

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// When the money of a payment is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CaptureMethod {
    /// At once.
    #[default]
    Automatic,
    /// Reserved first, taken at the merchant's word.
    Manual,
}

impl CaptureMethod {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Automatic, Self::Manual].into_iter().find(|method| method.as_str() == word)
    }
}

/// Why a payment was given up, in Stripe's words.
pub const CANCELLATION_REASONS: [&str; 4] = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];

/// Why money is given back, in Stripe's words.
pub const REFUND_REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];

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
    /// Who pays, where the merchant keeps customers.
    pub customer_id: Option<CustomerId>,
    /// What the card is kept for, as the merchant asked.
    pub setup_future_usage: Option<FutureUsage>,
    /// What is paid.
    pub total: Money,
    /// The merchant's description.
    pub description: Option<String>,
    /// Where a receipt goes.
    pub receipt_email: Option<String>,
    /// The payment's own metadata.
    pub metadata: Metadata,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// What the card statement shall say.
    pub statement_descriptor: Option<String>,
    /// The end of what the card statement shall say.
    pub statement_descriptor_suffix: Option<String>,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Minor units taken: above zero when it has succeeded, and only then.
    pub amount_received: i64,
    /// Why and when it was given up.
    pub cancellation: Option<Cancellation>,
    /// When the first charge started.
    pub created_at: DateTime<Utc>,
}

/// Why and when a payment was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cancellation {
    /// One of [`CANCELLATION_REASONS`]; none when its session ended without it.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
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
    /// The payer has to prove to his bank that it is he, at this address.
    RequiresAction {
        /// Where.
        url: String,
    },
    /// Money was reserved.
    Authorized,
    /// Money was taken.
    Succeeded,
    /// No money was taken.
    Failed(ChargeFailure),
    /// What was reserved was let go, or what was taken was given back because its session had ended
    /// otherwise.
    Reversed,
}

impl ChargeState {
    /// The word in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::RequiresAction { .. } => "requires_action",
            Self::Authorized => "authorized",
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Reversed => "reversed",
        }
    }

    /// Whether the provider may still bring news that settles it.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::RequiresAction { .. })
    }
}

/// What may be under way with reserved money: one thing at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnderWay {
    /// Being taken.
    Capture {
        /// Minor units.
        amount: i64,
    },
    /// Being let go.
    Void,
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
    /// Which of that form's charges it is, from 1: each provider that is asked has one of its own.
    pub attempt_turn: i16,
    /// The provider asked.
    pub provider: String,
    /// The provider's own name for it.
    pub provider_reference: Option<String>,
    /// What was asked for.
    pub total: Money,
    /// Where it stands.
    pub state: ChargeState,
    /// Who pays, where the merchant keeps customers.
    pub customer_id: Option<CustomerId>,
    /// What it was made from: a kept card, or one that is kept if this succeeds, or one that is not.
    pub payment_method: PaymentMethodId,
    /// Whether the card is to be kept when this has succeeded.
    pub keeps_card: bool,
    /// What its payer said of himself.
    pub billing: BillingDetails,
    /// What may be known of the card.
    pub card: CardSummary,
    /// What was learnt beside the outcome.
    pub facts: Facts,
    /// What the fraud checks made of it; `None` when no rule matched.
    pub assessment: Option<Assessment>,
    /// Minor units taken.
    pub amount_captured: i64,
    /// Minor units given back.
    pub amount_refunded: i64,
    /// Whether its payer ever disputed it.
    pub disputed: bool,
    /// Minor units that disputes hold of it, open or lost.
    pub amount_withdrawn: i64,
    /// Whether a provider moved more than was left.
    pub overdrawn: bool,
    /// Minor units that the provider keeps of what was taken, where it says so.
    pub fee: Option<i64>,
    /// What the provider was asked to do with reserved money and has not answered yet.
    pub under_way: Option<UnderWay>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// How often the sweep has asked.
    pub look_ups: i32,
    /// Whether it is being voided: whatever is heard of it now, its money does not stay.
    pub closing: bool,
}

/// Where a refund stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RefundState {
    /// The provider has been asked, or is about to be.
    Pending,
    /// The money went back.
    Succeeded,
    /// The money stayed; why.
    Failed {
        /// Stripe's word, such as `unknown`.
        reason: String,
    },
}

impl RefundState {
    /// The word on the wire and in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Money given back, all of a charge or part of it.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Its id, and our idempotency key at the provider.
    pub id: RefundId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// The charge that it gives back.
    pub charge_id: ChargeId,
    /// The payment of that charge.
    pub payment_id: PaymentId,
    /// How much.
    pub total: Money,
    /// One of [`REFUND_REASONS`].
    pub reason: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Where it stands.
    pub state: RefundState,
    /// The provider's own name for it.
    pub provider_reference: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// How often the sweep has repeated it.
    pub look_ups: i32,
}

impl Charge {
    /// How much a capture takes: all that is reserved unless less is asked for.
    ///
    /// # Errors
    /// Refused unless money is reserved and no other capture is under way.
    pub fn capture(&self, status: PaymentStatus, asked: Option<i64>) -> Result<i64, Refusal> {
        match self.state {
            ChargeState::Succeeded => return Err(Refusal::ChargeAlreadyCaptured),
            ChargeState::Authorized if self.under_way.is_none() => {}
            _ => return Err(Refusal::PaymentUnexpectedState(status)),
        }
        let amount = asked.unwrap_or(self.total.minor);
        if amount < 1 {
            Err(Refusal::CaptureTooSmall)
        } else if amount > self.total.minor {
            Err(Refusal::CaptureTooLarge { available: self.total.minor })
        } else {
            Ok(amount)
        }
    }

    /// Whether reserved money may be let go.
    ///
    /// # Errors
    /// Refused unless money is reserved and nothing else is under way.
    pub fn void(&self, status: PaymentStatus) -> Result<(), Refusal> {
        if self.state == ChargeState::Authorized && self.under_way.is_none() {
            Ok(())
        } else {
            Err(Refusal::PaymentUnexpectedState(status))
        }
    }

    /// Minor units of what was taken that nobody has taken back; below zero where a provider took more.
    pub fn kept(&self) -> i64 {
        self.amount_captured.saturating_sub(self.amount_refunded).saturating_sub(self.amount_withdrawn)
    }

    /// Notes that a provider moved more than was left. Gives whether that is news.
    pub fn note_overdrawn(&mut self) -> bool {
        let is_news = self.kept() < 0 && !self.overdrawn;
        self.overdrawn |= is_news;
        is_news
    }

    /// How much a refund gives back: all that is left unless less is asked for. `pending` is what
    /// other refunds that have not settled ask for: it counts as gone, so that no race gives back more
    /// than was taken. So does what disputes hold: the payer has that back already, or will.
    ///
    /// # Errors
    /// Refused unless that much is left of what was taken.
    pub fn refund(&self, asked: Option<i64>, pending: i64) -> Result<i64, Refusal> {
        if self.state != ChargeState::Succeeded {
            return Err(Refusal::ChargeNotRefundable);
        }
        let undisputed = self.amount_captured.saturating_sub(self.amount_refunded).saturating_sub(pending);
        if undisputed <= 0 {
            return Err(Refusal::ChargeAlreadyRefunded);
        }
        let left = undisputed.saturating_sub(self.amount_withdrawn).max(0);
        let amount = asked.unwrap_or(if left > 0 { left } else { undisputed });
        if amount < 1 {
            Err(Refusal::AmountTooSmall)
        } else if amount > left && amount <= undisputed {
            Err(Refusal::ChargeDisputed { available: left })
        } else if amount > left {
            Err(Refusal::RefundTooLarge { available: left })
        } else {
            Ok(amount)
        }
    }
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
