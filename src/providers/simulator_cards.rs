//! The test cards: which number gets which answer from the simulator.
//!
//! Rule: only numbers that Stripe publishes for testing are here, with the outcome that Stripe gives
//! them, so that tests written for Stripe mean the same here. Any other number is a real card that
//! strayed into test mode and is declined.

use crate::domain::card::{CardFunding, CardNumber, DeclineReason};

/// What the simulated company decides about a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Takes the money.
    Captured,
    /// Refuses.
    Declined(DeclineReason),
}

/// One published test card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestCard {
    /// The number, digits only.
    pub number: &'static str,
    /// What happens to a charge.
    pub verdict: Verdict,
    /// How it is funded.
    pub funding: CardFunding,
    /// What it is for, in a few English words for developers.
    pub purpose: &'static str,
}

const fn succeeds(number: &'static str, purpose: &'static str) -> TestCard {
    TestCard { number, verdict: Verdict::Captured, funding: CardFunding::Credit, purpose }
}

const fn declined(number: &'static str, reason: DeclineReason, purpose: &'static str) -> TestCard {
    TestCard { number, verdict: Verdict::Declined(reason), funding: CardFunding::Credit, purpose }
}

/// Every test card that the simulator knows. 4242424242424241, published for `incorrect_number`, is
/// missing because its check digit is wrong: it is refused before any provider is asked.
///
/// There is no 3-D Secure yet. Cards that insist on it are declined as a bank declines them without
/// it; cards for which it is optional or without a challenge succeed. The cards for a failing CVC,
/// postcode or address check, for raised risk and for a later dispute succeed, as they do at Stripe
/// under rules that block nothing.
pub const TEST_CARDS: &[TestCard] = &[
    succeeds("4242424242424242", "Visa, succeeds"),
    succeeds("5555555555554444", "Mastercard, succeeds"),
    succeeds("378282246310005", "American Express, succeeds (4-digit security code)"),
    succeeds("6011111111111117", "Discover, succeeds"),
    succeeds("3056930009020004", "Diners Club, succeeds"),
    succeeds("3566002020360505", "JCB, succeeds"),
    succeeds("6200000000000005", "UnionPay, succeeds"),
    TestCard {
        number: "4000056655665556",
        verdict: Verdict::Captured,
        funding: CardFunding::Debit,
        purpose: "Visa debit, succeeds",
    },
    declined("4000000000000002", DeclineReason::GenericDecline, "Declined without a reason"),
    declined("4000000000009995", DeclineReason::InsufficientFunds, "Declined: insufficient funds"),
    declined("4000000000009987", DeclineReason::LostCard, "Declined: lost card"),
    declined("4000000000009979", DeclineReason::StolenCard, "Declined: stolen card"),
    declined("4000000000006975", DeclineReason::CardVelocityExceeded, "Declined: over its limit"),
    declined("4000000000000069", DeclineReason::ExpiredCard, "Declined: expired card"),
    declined("4000000000000127", DeclineReason::IncorrectCvc, "Declined: wrong security code"),
    declined("4000000000000119", DeclineReason::ProcessingError, "Declined: processing error"),
    declined("4100000000000019", DeclineReason::Fraudulent, "Blocked as fraud"),
    succeeds("4000000000004954", "Highest risk, succeeds"),
    succeeds("4000000000009235", "Elevated risk, succeeds"),
    succeeds("4000000000000101", "Security code check fails, succeeds"),
    succeeds("4000000000000036", "Postcode check fails, succeeds"),
    succeeds("4000000000000010", "Address checks fail, succeeds"),
    succeeds("4000000000000259", "Succeeds, disputed later"),
    succeeds("4000000000003055", "3-D Secure supported but not required, succeeds"),
    succeeds("4000000032200000", "3-D Secure without a challenge, succeeds"),
    declined("4000000000003220", DeclineReason::AuthenticationRequired, "3-D Secure required"),
    declined("4000002500003155", DeclineReason::AuthenticationRequired, "3-D Secure required"),
    declined("4000002760003184", DeclineReason::AuthenticationRequired, "3-D Secure required"),
    declined("4000008400001629", DeclineReason::AuthenticationRequired, "3-D Secure required, then declined"),
    declined("4000008260003178", DeclineReason::AuthenticationRequired, "3-D Secure required, then insufficient funds"),
    declined("4000008400001280", DeclineReason::GenericDecline, "3-D Secure required, but its look-up fails: declined"),
];

/// What happens to a charge of this card.
pub(super) fn verdict(number: &CardNumber) -> Verdict {
    TEST_CARDS
        .iter()
        .find(|card| card.number == number.expose())
        .map_or(Verdict::Declined(DeclineReason::TestModeLiveCard), |card| card.verdict)
}

/// The funding of the test cards that begin so; `None` where there are none.
pub(super) fn funding(bin: &str) -> Option<CardFunding> {
    TEST_CARDS.iter().find(|card| card.number.starts_with(bin)).map(|card| card.funding)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::card::CardBrand;

    #[test]
    fn every_test_card_is_a_valid_number_of_a_known_brand_and_listed_once() {
        let mut numbers = HashSet::new();
        for card in TEST_CARDS {
            let number = CardNumber::parse(card.number).expect(card.number);
            assert_ne!(number.brand(), CardBrand::Unknown, "{}", card.number);
            assert_eq!(verdict(&number), card.verdict, "{}", card.number);
            assert!(numbers.insert(card.number), "{} is listed twice", card.number);
        }
    }

    #[test]
    fn a_card_that_is_no_test_card_is_declined() {
        let real = CardNumber::parse("4539578763621486").expect("a valid check digit");
        assert_eq!(verdict(&real), Verdict::Declined(DeclineReason::TestModeLiveCard));
    }

    #[test]
    fn cards_of_one_bin_have_one_funding() {
        for card in TEST_CARDS {
            assert_eq!(funding(&card.number[..6]), Some(card.funding), "{}", card.number);
        }
        assert_eq!(funding("453957"), None);
    }
}
