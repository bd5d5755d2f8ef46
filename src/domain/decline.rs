//! Why a card was not charged, as a closed list in Stripe's words.
//!
//! Rule: a payer never learns that a card was reported lost, stolen or suspect; the merchant does.
//! A decline is certain: nothing was taken. What is *not known* is no decline and has no place here.

/// A provider's definite no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclineReason {
    /// No reason given, or one that this list does not know.
    GenericDecline,
    /// Not enough money or credit.
    InsufficientFunds,
    /// Reported lost.
    LostCard,
    /// Reported stolen.
    StolenCard,
    /// Over the card's limit of amount or uses.
    CardVelocityExceeded,
    /// Thought to be fraud, by the issuer or by the provider's own rules.
    Fraudulent,
    /// Would need the payer's authentication (3-D Secure), which did not take place.
    AuthenticationRequired,
    /// The payer's authentication took place and did not succeed: failed, given up, or too late.
    AuthenticationFailed,
    /// A card that is not a test card, in test mode.
    TestModeLiveCard,
    /// Expired in the issuer's eyes.
    ExpiredCard,
    /// The security code is wrong.
    IncorrectCvc,
    /// A failure on the way to the issuer, reported as a decline: nothing was taken.
    ProcessingError,
    /// No such card number.
    IncorrectNumber,
}

/// What a decline says about a further try with the same card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclineKind {
    /// The same card will be refused again, whoever asks and whenever.
    Hard,
    /// The cause may pass: more money on the account, a new day's limit, an authentication, a
    /// repaired line.
    Soft,
    /// No cause was given.
    Unknown,
}

/// What payers hear of reasons that are not for them.
const DECLINED_WITHOUT_REASON: &str =
    "Your card was declined. You were not charged. Contact your bank, or use another card.";

impl DeclineReason {
    /// Every reason.
    pub const ALL: [DeclineReason; 13] = [
        DeclineReason::GenericDecline,
        DeclineReason::InsufficientFunds,
        DeclineReason::LostCard,
        DeclineReason::StolenCard,
        DeclineReason::CardVelocityExceeded,
        DeclineReason::Fraudulent,
        DeclineReason::AuthenticationRequired,
        DeclineReason::AuthenticationFailed,
        DeclineReason::TestModeLiveCard,
        DeclineReason::ExpiredCard,
        DeclineReason::IncorrectCvc,
        DeclineReason::ProcessingError,
        DeclineReason::IncorrectNumber,
    ];

    /// One word a reason, as stored.
    pub fn word(self) -> &'static str {
        match self {
            DeclineReason::GenericDecline => "generic_decline",
            DeclineReason::InsufficientFunds => "insufficient_funds",
            DeclineReason::LostCard => "lost_card",
            DeclineReason::StolenCard => "stolen_card",
            DeclineReason::CardVelocityExceeded => "card_velocity_exceeded",
            DeclineReason::Fraudulent => "fraudulent",
            DeclineReason::AuthenticationRequired => "authentication_required",
            DeclineReason::AuthenticationFailed => "authentication_failed",
            DeclineReason::TestModeLiveCard => "test_mode_live_card",
            DeclineReason::ExpiredCard => "expired_card",
            DeclineReason::IncorrectCvc => "incorrect_cvc",
            DeclineReason::ProcessingError => "processing_error",
            DeclineReason::IncorrectNumber => "incorrect_number",
        }
    }

    /// The reason behind a stored word; `None` for a word that is not ours.
    pub fn from_word(word: &str) -> Option<DeclineReason> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// Stripe's error `code`: some reasons have one of their own, the others are `card_declined`.
    pub fn code(self) -> &'static str {
        match self {
            DeclineReason::AuthenticationRequired
            | DeclineReason::ExpiredCard
            | DeclineReason::IncorrectCvc
            | DeclineReason::ProcessingError
            | DeclineReason::IncorrectNumber => self.word(),
            DeclineReason::AuthenticationFailed => "payment_intent_authentication_failure",
            _ => "card_declined",
        }
    }

    /// Stripe's `decline_code`, where the error code alone does not say it.
    pub fn decline_code(self) -> Option<&'static str> {
        match self {
            DeclineReason::AuthenticationRequired => Some(self.word()),
            _ => (self.code() == "card_declined").then(|| self.word()),
        }
    }

    /// What it says about a further try.
    pub fn kind(self) -> DeclineKind {
        match self {
            DeclineReason::LostCard
            | DeclineReason::StolenCard
            | DeclineReason::Fraudulent
            | DeclineReason::TestModeLiveCard
            | DeclineReason::ExpiredCard
            | DeclineReason::IncorrectCvc
            | DeclineReason::IncorrectNumber => DeclineKind::Hard,
            DeclineReason::InsufficientFunds
            | DeclineReason::CardVelocityExceeded
            | DeclineReason::AuthenticationRequired
            | DeclineReason::AuthenticationFailed
            | DeclineReason::ProcessingError => DeclineKind::Soft,
            DeclineReason::GenericDecline => DeclineKind::Unknown,
        }
    }

    /// Whether another provider may succeed at once with the same card. Only where the failure lay
    /// on the way: the issuer is the same behind every provider, and asking it again about an empty
    /// account only looks like card testing.
    pub fn may_pass_elsewhere(self) -> bool {
        self == DeclineReason::ProcessingError
    }

    /// The reason as the payer may learn it. Pages and answers to payers start from this one, so
    /// that neither wording nor translation nor code can give the others away.
    pub fn as_payer_sees(self) -> DeclineReason {
        match self {
            DeclineReason::LostCard | DeclineReason::StolenCard | DeclineReason::Fraudulent => {
                DeclineReason::GenericDecline
            }
            open => open,
        }
    }

    /// English for the payer: what happened, that nothing was taken, what to do.
    pub fn payer_message(&self) -> &'static str {
        match self.as_payer_sees() {
            DeclineReason::InsufficientFunds => {
                "Your card was declined because there is not enough money on it. You were not charged. Use another card."
            }
            DeclineReason::CardVelocityExceeded => {
                "Your card was declined because it is over its limit. You were not charged. Contact your bank, or use another card."
            }
            DeclineReason::AuthenticationRequired => {
                "Your bank wants you to confirm this payment, which is not possible here. You were not charged. Use another card."
            }
            DeclineReason::AuthenticationFailed => {
                "Your bank could not confirm that it is you. You were not charged. Try again, or use another card."
            }
            DeclineReason::TestModeLiveCard => {
                "This is a test page and takes test cards only. Your card was not charged. Use a test card such as 4242 4242 4242 4242."
            }
            DeclineReason::ExpiredCard => {
                "Your card has expired. You were not charged. Check the expiry date, or use another card."
            }
            DeclineReason::IncorrectCvc => {
                "The security code is not right. You were not charged. Check the code on your card and try again."
            }
            DeclineReason::ProcessingError => {
                "Your card could not be processed just now. You were not charged. Try again in a moment, or use another card."
            }
            DeclineReason::IncorrectNumber => {
                "The card number is not right. You were not charged. Check the number on your card and try again."
            }
            DeclineReason::GenericDecline
            | DeclineReason::LostCard
            | DeclineReason::StolenCard
            | DeclineReason::Fraudulent => DECLINED_WITHOUT_REASON,
        }
    }

    /// English for the merchant: the whole reason. Not to be shown to the payer.
    pub fn merchant_message(&self) -> &'static str {
        match self {
            DeclineReason::GenericDecline => {
                "The bank declined the payment and gave no reason. The customer can ask the bank or use another card."
            }
            DeclineReason::InsufficientFunds => {
                "The bank declined the payment because the account has insufficient funds."
            }
            DeclineReason::LostCard => {
                "The card was reported lost. The customer was told only that the card was declined."
            }
            DeclineReason::StolenCard => {
                "The card was reported stolen. The customer was told only that the card was declined."
            }
            DeclineReason::CardVelocityExceeded => {
                "The bank declined the payment because the card is over its balance, credit or usage limit."
            }
            DeclineReason::Fraudulent => {
                "The payment was blocked as suspected fraud. The customer was told only that the card was declined."
            }
            DeclineReason::AuthenticationRequired => {
                "The bank requires the customer to authenticate (3-D Secure), and this payment was made without it."
            }
            DeclineReason::AuthenticationFailed => {
                "The customer was asked by the bank to authenticate (3-D Secure) and failed, gave up, or did not answer in time."
            }
            DeclineReason::TestModeLiveCard => {
                "Your card was declined. Your request was in test mode, but used a non test card."
            }
            DeclineReason::ExpiredCard => "The card has expired.",
            DeclineReason::IncorrectCvc => "The security code (CVC) does not match the card.",
            DeclineReason::ProcessingError => {
                "An error occurred while the card was processed. Nothing was charged; the payment may be tried again."
            }
            DeclineReason::IncorrectNumber => "The card number does not belong to any card.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_codes_of_stripe() {
        let cases = [
            (DeclineReason::GenericDecline, "card_declined", Some("generic_decline")),
            (DeclineReason::InsufficientFunds, "card_declined", Some("insufficient_funds")),
            (DeclineReason::LostCard, "card_declined", Some("lost_card")),
            (DeclineReason::StolenCard, "card_declined", Some("stolen_card")),
            (DeclineReason::CardVelocityExceeded, "card_declined", Some("card_velocity_exceeded")),
            (DeclineReason::Fraudulent, "card_declined", Some("fraudulent")),
            (DeclineReason::TestModeLiveCard, "card_declined", Some("test_mode_live_card")),
            (DeclineReason::AuthenticationRequired, "authentication_required", Some("authentication_required")),
            (DeclineReason::AuthenticationFailed, "payment_intent_authentication_failure", None),
            (DeclineReason::ExpiredCard, "expired_card", None),
            (DeclineReason::IncorrectCvc, "incorrect_cvc", None),
            (DeclineReason::ProcessingError, "processing_error", None),
            (DeclineReason::IncorrectNumber, "incorrect_number", None),
        ];
        assert_eq!(cases.len(), DeclineReason::ALL.len());
        for (reason, code, decline_code) in cases {
            assert_eq!(reason.code(), code);
            assert_eq!(reason.decline_code(), decline_code);
        }
    }

    #[test]
    fn words_read_back() {
        for reason in DeclineReason::ALL {
            assert_eq!(DeclineReason::from_word(reason.word()), Some(reason));
        }
        assert_eq!(DeclineReason::from_word("try_again_later"), None);
    }

    #[test]
    fn a_payer_is_not_told_of_loss_theft_or_suspicion() {
        let generic = DeclineReason::GenericDecline.payer_message();
        for hidden in [DeclineReason::LostCard, DeclineReason::StolenCard, DeclineReason::Fraudulent] {
            assert_eq!(hidden.payer_message(), generic);
            assert_eq!(hidden.as_payer_sees(), DeclineReason::GenericDecline);
            assert_ne!(hidden.merchant_message(), DeclineReason::GenericDecline.merchant_message());
        }
    }

    #[test]
    fn only_a_failure_on_the_way_is_worth_another_provider() {
        let elsewhere: Vec<_> = DeclineReason::ALL.into_iter().filter(|reason| reason.may_pass_elsewhere()).collect();
        assert_eq!(elsewhere, [DeclineReason::ProcessingError]);
        assert_eq!(DeclineReason::ProcessingError.kind(), DeclineKind::Soft);
        assert_eq!(DeclineReason::StolenCard.kind(), DeclineKind::Hard);
        assert_eq!(DeclineReason::GenericDecline.kind(), DeclineKind::Unknown);
    }

    #[test]
    fn every_payer_message_says_that_no_money_moved() {
        for reason in DeclineReason::ALL {
            assert!(reason.payer_message().contains("not charged"), "{reason:?}");
        }
    }
}
