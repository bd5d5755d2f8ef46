//! A payment that a rule held back for its merchant to look at.
//!
//! Rule: a review is opened with the reservation that it is about and closed once, by whoever decides
//! first: the merchant, or time. What becomes of the money is the payment's business.

use chrono::{DateTime, Utc};

use super::id::{ChargeId, MerchantId, PaymentId, ReviewId};

/// Why a review was closed, in Stripe's words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClosedReason {
    /// The merchant wants the money.
    Approved,
    /// The merchant gave the payment up.
    Canceled,
    /// Nobody decided in time, so the money was let go.
    PaymentNeverSettled,
}

impl ClosedReason {
    /// Every reason.
    pub const ALL: [ClosedReason; 3] =
        [ClosedReason::Approved, ClosedReason::Canceled, ClosedReason::PaymentNeverSettled];

    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            ClosedReason::Approved => "approved",
            ClosedReason::Canceled => "canceled",
            ClosedReason::PaymentNeverSettled => "payment_never_settled",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<ClosedReason> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

/// A review.
#[derive(Clone, Debug)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Whether it is about real money.
    pub livemode: bool,
    /// The charge that holds the money.
    pub charge_id: ChargeId,
    /// The payment of that charge.
    pub payment_id: PaymentId,
    /// The rule that asked for it.
    pub rule: String,
    /// Why it was closed; `None` while it is open.
    pub closed: Option<ClosedReason>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When the money is let go unless somebody has decided; `None` where it is taken already.
    pub expires_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for reason in ClosedReason::ALL {
            assert_eq!(ClosedReason::from_word(reason.word()), Some(reason));
        }
        assert_eq!(ClosedReason::from_word("disputed"), None);
    }
}
