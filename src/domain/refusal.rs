//! Why a request that is well-formed is refused all the same: a closed list with stable codes.
//!
//! The rule: each refusal has one code and one sentence, so merchants can branch on the first and
//! read the second. How it is put into an HTTP answer or a page is the doors' business.

use super::dispute::DisputeStatus;
use super::escrow::Act;
use super::payment::PaymentStatus;
use super::session::StateName;

/// A named refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The session is not in a state from which the request is possible.
    SessionNotOpen(StateName),
    /// A payment for the session is with the provider right now.
    SessionProcessing,
    /// The session's deadline has passed, though it has not been swept yet.
    SessionPastDeadline,
    /// Nobody who could take the money answers just now; nothing was sent to anybody.
    ProvidersAway,
    /// The payment's status does not allow it.
    PaymentUnexpectedState(PaymentStatus),
    /// The payment belongs to a session that is still open, which alone decides about it.
    PaymentOfOpenSession,
    /// No bank waits for the payer of the session to say who he is.
    NobodyAsked,
    /// The charge was captured before.
    ChargeAlreadyCaptured,
    /// Nothing is left to give back.
    ChargeAlreadyRefunded,
    /// The charge took no money.
    ChargeNotRefundable,
    /// The money, or so much of it, is with a payer's bank because he disputes the charge.
    ChargeDisputed {
        /// Minor units that could be given back.
        available: i64,
    },
    /// The buyer of an escrow has asked his bank for its money.
    EscrowDisputedAtBank {
        /// Whether the bank has decided for him.
        is_lost: bool,
    },
    /// The dispute's status does not allow it.
    DisputeUnexpectedState(DisputeStatus),
    /// The kept card is not this customer's, has expired, or cannot be charged here any more.
    PaymentMethodUnusable,
    /// The review was decided otherwise.
    ReviewClosed,
    /// Zero or less.
    AmountTooSmall,
    /// Zero or less is to be captured.
    CaptureTooSmall,
    /// More than is reserved.
    CaptureTooLarge {
        /// Minor units that could be captured.
        available: i64,
    },
    /// More than is left.
    RefundTooLarge {
        /// Minor units that could be given back.
        available: i64,
    },
    /// The escrow's mode has no such act.
    EscrowActionNotInMode {
        /// The act.
        action: &'static str,
        /// The mode.
        mode: &'static str,
    },
    /// The escrow stands where the act is not possible.
    EscrowActionNotInState {
        /// The act.
        action: &'static str,
        /// Where it stands.
        status: &'static str,
    },
    /// The act is the buyer's.
    EscrowTargetNotBuyer {
        /// The act.
        action: &'static str,
    },
    /// The act is the seller's.
    EscrowTargetNotSeller {
        /// The act.
        action: &'static str,
    },
    /// The act is for one of the two sides.
    EscrowTargetNotParty {
        /// The act.
        action: &'static str,
    },
    /// Both have to sign before the buyer pays.
    EscrowContractNotSigned,
    /// This side has signed.
    EscrowAlreadySigned {
        /// Which side.
        party: &'static str,
    },
    /// A payment for the escrow is in flight.
    EscrowPaymentProcessing,
    /// The parts are not the whole.
    EscrowSplitNotWhole {
        /// Minor units that they have to sum to.
        whole: i64,
    },
    /// The money is an escrow's, whose acts alone move it.
    EscrowHoldsPayment,
    /// The session is for an act that this page does not do.
    SessionOfAnotherAct,
}

impl Refusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::SessionNotOpen(_) | Self::SessionPastDeadline => "session_not_open",
            Self::SessionProcessing => "session_processing",
            Self::ProvidersAway => "provider_unavailable",
            Self::PaymentUnexpectedState(_) | Self::PaymentOfOpenSession | Self::NobodyAsked => {
                "payment_intent_unexpected_state"
            }
            Self::ChargeAlreadyCaptured => "charge_already_captured",
            Self::ChargeAlreadyRefunded => "charge_already_refunded",
            Self::ChargeNotRefundable => "charge_not_refundable",
            Self::ChargeDisputed { .. } | Self::EscrowDisputedAtBank { .. } => "charge_disputed",
            Self::DisputeUnexpectedState(_) => "dispute_unexpected_state",
            Self::PaymentMethodUnusable => "payment_method_unusable",
            Self::ReviewClosed => "review_closed",
            Self::AmountTooSmall | Self::CaptureTooSmall => "amount_too_small",
            Self::CaptureTooLarge { .. } | Self::RefundTooLarge { .. } => "amount_too_large",
            Self::EscrowActionNotInMode { .. } => "escrow_action_not_allowed_in_mode",
            Self::EscrowActionNotInState { .. } => "escrow_action_not_allowed_in_state",
            Self::EscrowTargetNotBuyer { .. } => "escrow_target_not_buyer",
            Self::EscrowTargetNotSeller { .. } => "escrow_target_not_seller",
            Self::EscrowTargetNotParty { .. } => "escrow_target_not_party",
            Self::EscrowContractNotSigned => "escrow_contract_not_signed",
            Self::EscrowAlreadySigned { .. } => "escrow_already_signed",
            Self::EscrowPaymentProcessing => "escrow_payment_processing",
            Self::EscrowSplitNotWhole { .. } => "escrow_split_not_whole",
            Self::EscrowHoldsPayment => "escrow_holds_payment",
            Self::SessionOfAnotherAct => "session_of_another_act",
        }
    }

    /// What to tell the developer.
    pub fn message(self) -> String {
        match self {
            Self::SessionNotOpen(state) => {
                format!("Only checkout sessions that are open can do this; this one is {}.", state.as_str())
            }
            Self::SessionProcessing => {
                "A payment for this checkout session is being processed; wait for its outcome and try again.".to_owned()
            }
            Self::SessionPastDeadline => {
                "Only checkout sessions that are open can do this; the deadline of this one has passed.".to_owned()
            }
            Self::ProvidersAway => {
                "No payment provider answers just now. Nothing was sent to any and nothing was charged; try again in a minute."
                    .to_owned()
            }
            Self::PaymentUnexpectedState(status) => {
                format!("The payment intent's status is {}, which does not allow this.", status.as_str())
            }
            Self::PaymentOfOpenSession => {
                "The payment intent belongs to a checkout session that is still open; expire the session instead."
                    .to_owned()
            }
            Self::NobodyAsked => {
                "No bank waits for this checkout session's payer; pay with a card that requires authentication first."
                    .to_owned()
            }
            Self::ChargeAlreadyCaptured => "This payment has been captured already.".to_owned(),
            Self::ChargeAlreadyRefunded => {
                "Everything that was captured has been refunded, or is being refunded.".to_owned()
            }
            Self::ChargeNotRefundable => "This charge took no money, so there is nothing to refund.".to_owned(),
            Self::ChargeDisputed { available } => format!(
                "The payer disputes this charge and his bank has taken the money back; {available} can be refunded beside that."
            ),
            Self::EscrowDisputedAtBank { is_lost: false } => {
                "The buyer disputes this payment at his bank: nothing of it is moved until the bank has decided.".to_owned()
            }
            Self::EscrowDisputedAtBank { is_lost: true } => {
                "The buyer's bank has taken money of this escrow back for him: the merchant decides about the rest with `resolve`."
                    .to_owned()
            }
            Self::DisputeUnexpectedState(status) => {
                format!(
                    "The dispute is {} and takes no answer, or an earlier answer is still on its way to the bank.",
                    status.as_str()
                )
            }
            Self::PaymentMethodUnusable => {
                "The saved payment method is not this customer's, has expired, or cannot be charged any more."
                    .to_owned()
            }
            Self::ReviewClosed => {
                "This review is closed: its payment was cancelled, or nobody decided in time.".to_owned()
            }
            Self::AmountTooSmall | Self::CaptureTooSmall => "The amount must be at least 1 minor unit.".to_owned(),
            Self::CaptureTooLarge { available } => {
                format!("The amount to capture is greater than what is authorized ({available}).")
            }
            Self::RefundTooLarge { available } => {
                format!("The refund is greater than what is left to refund ({available}).")
            }
            Self::EscrowActionNotInMode { action, mode } => {
                format!("An escrow in {mode} mode has no `{action}`.")
            }
            Self::EscrowActionNotInState { action, status } => {
                format!("The escrow is {status}, from where `{action}` is not possible.")
            }
            Self::EscrowTargetNotBuyer { action } => {
                format!("`{action}` is the buyer's to do; this address is not the buyer's.")
            }
            Self::EscrowTargetNotSeller { action } => {
                format!("`{action}` is the seller's to do; this address is not the seller's.")
            }
            Self::EscrowTargetNotParty { action } => {
                format!("`{action}` is not for this address: it belongs to nobody who may do it in this escrow.")
            }
            Self::EscrowContractNotSigned => {
                "Buyer and seller both have to sign the contract before the buyer can pay.".to_owned()
            }
            Self::EscrowAlreadySigned { party } => format!("The {party} has signed this contract already."),
            Self::EscrowPaymentProcessing => {
                "A payment for this escrow is being processed; wait for its outcome and try again.".to_owned()
            }
            Self::EscrowSplitNotWhole { whole } => format!(
                "`refund_amount` and `release_amount` must both be at least 1 and together {whole}, which is what is left of what was paid; \
                 `refund_amount` may be 0 where the buyer has got a part already."
            ),
            Self::EscrowHoldsPayment => {
                "This payment belongs to an escrow: it is refunded by cancelling the escrow or resolving its dispute."
                    .to_owned()
            }
            Self::SessionOfAnotherAct => "This checkout session is for another act.".to_owned(),
        }
    }

    /// The parameter at fault, where it is one.
    pub fn param(self) -> Option<&'static str> {
        match self {
            Self::AmountTooSmall | Self::RefundTooLarge { .. } => Some("amount"),
            Self::PaymentMethodUnusable => Some("payment_method"),
            Self::CaptureTooSmall | Self::CaptureTooLarge { .. } => Some("amount_to_capture"),
            // Only the acts that have a page are asked for by a parameter.
            Self::EscrowActionNotInMode { action, .. } | Self::EscrowActionNotInState { action, .. } => {
                Act::parse(action).map(|_| "action")
            }
            Self::EscrowContractNotSigned | Self::EscrowAlreadySigned { .. } => Some("action"),
            Self::EscrowTargetNotBuyer { .. }
            | Self::EscrowTargetNotSeller { .. }
            | Self::EscrowTargetNotParty { .. } => Some("target_user_email"),
            Self::EscrowSplitNotWhole { .. } => Some("refund_amount"),
            _ => None,
        }
    }
}
