//! Stripe's words for a declined card, sorted into ours.
//!
//! Rule: this is asked only where Stripe has said for certain that nothing was taken. A word that is
//! not in the table is then a decline without a reason, never a success and never a doubt.

use crate::domain::decline::DeclineReason;

/// `decline_code`, as Stripe lists them under "Decline codes". Those that say no more than that the
/// bank does not want to (`do_not_honor`, `pickup_card`, `restricted_card`, …) are left to the last
/// line of [`reason`].
const BY_DECLINE_CODE: &[(&str, DeclineReason)] = &[
    ("authentication_not_handled", DeclineReason::AuthenticationFailed),
    ("authentication_required", DeclineReason::AuthenticationRequired),
    ("card_velocity_exceeded", DeclineReason::CardVelocityExceeded),
    ("expired_card", DeclineReason::ExpiredCard),
    ("fraudulent", DeclineReason::Fraudulent),
    ("incorrect_cvc", DeclineReason::IncorrectCvc),
    ("incorrect_number", DeclineReason::IncorrectNumber),
    ("insufficient_funds", DeclineReason::InsufficientFunds),
    ("invalid_cvc", DeclineReason::IncorrectCvc),
    ("invalid_expiry_month", DeclineReason::ExpiredCard),
    ("invalid_expiry_year", DeclineReason::ExpiredCard),
    ("invalid_number", DeclineReason::IncorrectNumber),
    ("issuer_not_available", DeclineReason::ProcessingError),
    ("lost_card", DeclineReason::LostCard),
    ("merchant_blacklist", DeclineReason::Fraudulent),
    ("processing_error", DeclineReason::ProcessingError),
    ("reenter_transaction", DeclineReason::ProcessingError),
    ("stolen_card", DeclineReason::StolenCard),
    ("test_mode_live_card", DeclineReason::TestModeLiveCard),
    ("try_again_later", DeclineReason::ProcessingError),
    ("withdrawal_count_limit_exceeded", DeclineReason::CardVelocityExceeded),
];

/// `code`, where it says more than `card_declined`.
const BY_CODE: &[(&str, DeclineReason)] = &[
    ("authentication_required", DeclineReason::AuthenticationRequired),
    ("expired_card", DeclineReason::ExpiredCard),
    ("incorrect_cvc", DeclineReason::IncorrectCvc),
    ("incorrect_number", DeclineReason::IncorrectNumber),
    ("invalid_cvc", DeclineReason::IncorrectCvc),
    ("invalid_expiry_month", DeclineReason::ExpiredCard),
    ("invalid_expiry_year", DeclineReason::ExpiredCard),
    ("invalid_number", DeclineReason::IncorrectNumber),
    ("payment_intent_authentication_failure", DeclineReason::AuthenticationFailed),
    ("processing_error", DeclineReason::ProcessingError),
];

/// The reason behind a decline that is certain.
pub(super) fn reason(code: Option<&str>, decline_code: Option<&str>) -> DeclineReason {
    let find = |table: &[(&str, DeclineReason)], word: Option<&str>| {
        table.iter().find(|(known, _)| Some(*known) == word).map(|(_, reason)| *reason)
    };
    find(BY_DECLINE_CODE, decline_code).or_else(|| find(BY_CODE, code)).unwrap_or(DeclineReason::GenericDecline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decline_code_says_more_than_the_code() {
        for (code, decline_code, expected) in [
            (Some("card_declined"), Some("insufficient_funds"), DeclineReason::InsufficientFunds),
            (Some("card_declined"), Some("do_not_honor"), DeclineReason::GenericDecline),
            (Some("card_declined"), Some("a_word_of_next_year"), DeclineReason::GenericDecline),
            (Some("card_declined"), None, DeclineReason::GenericDecline),
            (Some("expired_card"), None, DeclineReason::ExpiredCard),
            (Some("incorrect_cvc"), Some("incorrect_cvc"), DeclineReason::IncorrectCvc),
            (Some("payment_intent_authentication_failure"), None, DeclineReason::AuthenticationFailed),
            (Some("card_declined"), Some("stolen_card"), DeclineReason::StolenCard),
            (None, None, DeclineReason::GenericDecline),
        ] {
            assert_eq!(reason(code, decline_code), expected, "{code:?} {decline_code:?}");
        }
    }

    #[test]
    fn the_tables_are_in_order_and_say_nothing_twice() {
        for table in [BY_DECLINE_CODE, BY_CODE] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
