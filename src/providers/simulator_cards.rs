//! The test cards: which number gets which answer from the simulator.
//!
//! Rule: only numbers that Stripe publishes for testing are here, with the outcome that Stripe gives
//! them, so that tests written for Stripe mean the same here. Any other number is a real card that
//! strayed into test mode and is declined.

use super::{
    Authentication, AuthenticationFlow, AuthenticationResult, CardChecks, CheckResult, Facts, RiskLevel, ThreeDSecure,
};
use crate::domain::card::{CardFunding, CardNumber, DeclineReason};
use crate::domain::customer::PostalAddress;

/// The version of 3-D Secure that the simulated banks speak.
pub(super) const THREE_D_SECURE_VERSION: &str = "2.2.0";

/// What the simulated bank decides about a charge, once it knows who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Grants the money.
    Approved,
    /// Refuses.
    Declined(DeclineReason),
}

/// What a card makes of 3-D Secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardAuthentication {
    /// Its bank takes no part.
    Unsupported,
    /// Its bank asks the payer when it is told to.
    Optional,
    /// Its bank asks the payer each time.
    Required,
    /// Its bank is satisfied each time without asking.
    Frictionless,
    /// Its bank would ask, and cannot be reached for it.
    LookUpFails,
}

/// One published test card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestCard {
    /// The number, digits only.
    pub number: &'static str,
    /// What happens to a charge; after authentication, where that takes place.
    pub verdict: Verdict,
    /// What it makes of 3-D Secure.
    pub authentication: CardAuthentication,
    /// What the bank says of what was typed.
    pub checks: CardChecks,
    /// The company's opinion.
    pub risk: RiskLevel,
    /// How it is funded.
    pub funding: CardFunding,
    /// Why its payer disputes the charge when the money has been taken; `None` for payers who do not.
    pub dispute: Option<&'static str>,
    /// What it is for, in a few English words for developers.
    pub purpose: &'static str,
}

/// The security code is always typed and here always right. Of an address see [`check_address`].
const CHECKS: CardChecks = CardChecks { cvc: Some(CheckResult::Pass), address_line1: None, postal_code: None };

const fn succeeds(number: &'static str, purpose: &'static str) -> TestCard {
    TestCard {
        number,
        verdict: Verdict::Approved,
        authentication: CardAuthentication::Unsupported,
        checks: CHECKS,
        risk: RiskLevel::Normal,
        funding: CardFunding::Credit,
        dispute: None,
        purpose,
    }
}

const fn declined(number: &'static str, reason: DeclineReason, purpose: &'static str) -> TestCard {
    TestCard { verdict: Verdict::Declined(reason), ..succeeds(number, purpose) }
}

const fn at_risk(card: TestCard, risk: RiskLevel) -> TestCard {
    TestCard { risk, ..card }
}

const fn disputed(card: TestCard, reason: &'static str) -> TestCard {
    TestCard { dispute: Some(reason), ..card }
}

const fn checked(card: TestCard, checks: CardChecks) -> TestCard {
    TestCard { checks, ..card }
}

const fn secured(authentication: CardAuthentication, card: TestCard) -> TestCard {
    TestCard { authentication, ..card }
}

const FAIL: Option<CheckResult> = Some(CheckResult::Fail);

use CardAuthentication::{Frictionless, LookUpFails, Optional, Required};

/// Every test card that the simulator knows. 4242424242424241, published for `incorrect_number`, is
/// missing because its check digit is wrong: it is refused before any provider is asked.
///
/// The cards for failing checks and for raised risk succeed here; what they are
/// for stands in the facts of the report, and the fraud rules make of it what they will.
pub const TEST_CARDS: &[TestCard] = &[
    succeeds("4242424242424242", "Visa, succeeds"),
    succeeds("5555555555554444", "Mastercard, succeeds"),
    succeeds("378282246310005", "American Express, succeeds (4-digit security code)"),
    succeeds("6011111111111117", "Discover, succeeds"),
    succeeds("3056930009020004", "Diners Club, succeeds"),
    succeeds("3566002020360505", "JCB, succeeds"),
    succeeds("6200000000000005", "UnionPay, succeeds"),
    TestCard { funding: CardFunding::Debit, ..succeeds("4000056655665556", "Visa debit, succeeds") },
    declined("4000000000000002", DeclineReason::GenericDecline, "Declined without a reason"),
    declined("4000000000009995", DeclineReason::InsufficientFunds, "Declined: insufficient funds"),
    declined("4000000000009987", DeclineReason::LostCard, "Declined: lost card"),
    declined("4000000000009979", DeclineReason::StolenCard, "Declined: stolen card"),
    declined("4000000000006975", DeclineReason::CardVelocityExceeded, "Declined: over its limit"),
    declined("4000000000000069", DeclineReason::ExpiredCard, "Declined: expired card"),
    checked(
        declined("4000000000000127", DeclineReason::IncorrectCvc, "Declined: wrong security code"),
        CardChecks { cvc: FAIL, ..CHECKS },
    ),
    declined("4000000000000119", DeclineReason::ProcessingError, "Declined: processing error"),
    at_risk(declined("4100000000000019", DeclineReason::Fraudulent, "Blocked as fraud"), RiskLevel::Highest),
    at_risk(succeeds("4000000000004954", "Highest risk, succeeds"), RiskLevel::Highest),
    at_risk(succeeds("4000000000009235", "Elevated risk, succeeds"), RiskLevel::Elevated),
    checked(succeeds("4000000000000101", "Security code check fails, succeeds"), CardChecks { cvc: FAIL, ..CHECKS }),
    checked(succeeds("4000000000000036", "Postcode check fails, succeeds"), CardChecks { postal_code: FAIL, ..CHECKS }),
    checked(
        succeeds("4000000000000010", "Address checks fail, succeeds"),
        CardChecks { address_line1: FAIL, postal_code: FAIL, ..CHECKS },
    ),
    disputed(succeeds("4000000000000259", "Succeeds, then disputed as fraudulent"), "fraudulent"),
    disputed(succeeds("4000000000002685", "Succeeds, then disputed as not received"), "product_not_received"),
    secured(Optional, succeeds("4000000000003055", "3-D Secure supported but not required, succeeds")),
    secured(Frictionless, succeeds("4000000032200000", "3-D Secure without a challenge, succeeds")),
    secured(Required, succeeds("4000000000003220", "3-D Secure required, then succeeds")),
    secured(Required, succeeds("4000002500003155", "3-D Secure required, then succeeds")),
    secured(Required, succeeds("4000002760003184", "3-D Secure required, then succeeds")),
    secured(
        Required,
        declined("4000008400001629", DeclineReason::GenericDecline, "3-D Secure required, then declined"),
    ),
    secured(
        Required,
        declined("4000008260003178", DeclineReason::InsufficientFunds, "3-D Secure required, then insufficient funds"),
    ),
    secured(
        LookUpFails,
        declined(
            "4000008400001280",
            DeclineReason::GenericDecline,
            "3-D Secure required, but its look-up fails: declined",
        ),
    ),
];

/// What the company does with a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// Whether the payer is asked first. Then the verdict holds for a payer who passes.
    pub(super) challenge: bool,
    pub(super) verdict: Verdict,
    pub(super) facts: Facts,
    /// Why the payer disputes it afterwards.
    pub(super) dispute: Option<&'static str>,
}

/// A number that the company remembers: the digits that tell one test card from the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RememberedCard {
    pub(super) bin: String,
    pub(super) last4: String,
}

impl RememberedCard {
    pub(super) fn of(number: &CardNumber) -> RememberedCard {
        RememberedCard { bin: number.bin().to_owned(), last4: number.last4().to_owned() }
    }

    /// The number of the test card that it stands for.
    pub(super) fn number(&self) -> Option<CardNumber> {
        let card = TEST_CARDS
            .iter()
            .find(|card| card.number.starts_with(self.bin.as_str()) && card.number.ends_with(self.last4.as_str()))?;
        CardNumber::parse(card.number).ok()
    }
}

/// What happens to a charge of this card. Without a place where payers can be asked, a card that
/// must have its payer asked is declined.
pub(super) fn rule(number: &CardNumber, wanted: Authentication, can_challenge: bool) -> Ruling {
    let network = Some(number.brand().code().to_owned());
    let Some(card) = TEST_CARDS.iter().find(|card| card.number == number.expose()) else {
        let facts = Facts { network, ..Facts::default() };
        return Ruling {
            challenge: false,
            verdict: Verdict::Declined(DeclineReason::TestModeLiveCard),
            facts,
            dispute: None,
        };
    };
    let mut ruling = Ruling {
        challenge: false,
        verdict: card.verdict,
        dispute: card.dispute,
        facts: Facts { checks: card.checks, three_d_secure: None, network, risk: Some(card.risk), ..Facts::default() },
    };
    let wanted = wanted == Authentication::Always;
    match card.authentication {
        CardAuthentication::Required if can_challenge => ruling.challenge = true,
        CardAuthentication::Required => {
            ruling.verdict = Verdict::Declined(DeclineReason::AuthenticationRequired);
        }
        CardAuthentication::Optional if wanted && can_challenge => ruling.challenge = true,
        CardAuthentication::Optional | CardAuthentication::Unsupported if wanted => {
            ruling.facts.three_d_secure = ended(None, AuthenticationResult::NotSupported);
        }
        CardAuthentication::Optional | CardAuthentication::Unsupported => {}
        CardAuthentication::Frictionless => {
            ruling.facts.three_d_secure =
                ended(Some(AuthenticationFlow::Frictionless), AuthenticationResult::Authenticated);
        }
        CardAuthentication::LookUpFails => {
            ruling.facts.three_d_secure = ended(None, AuthenticationResult::ProcessingError);
        }
    }
    ruling
}

/// What the bank says of the address that was given: right, unless the card is one whose checks fail. Those
/// fail whatever was given, so that a rule about them can be tried on any page.
pub(super) fn check_address(checks: &mut CardChecks, address: Option<&PostalAddress>) {
    let Some(address) = address else { return };
    let pass = |given: &Option<String>| given.as_ref().map(|_| CheckResult::Pass);
    checks.address_line1 = checks.address_line1.or_else(|| pass(&address.line1));
    checks.postal_code = checks.postal_code.or_else(|| pass(&address.postal_code));
}

/// An authentication that ended so.
pub(super) fn ended(flow: Option<AuthenticationFlow>, result: AuthenticationResult) -> Option<ThreeDSecure> {
    let version = (result != AuthenticationResult::NotSupported).then(|| THREE_D_SECURE_VERSION.to_owned());
    Some(ThreeDSecure { flow, result, version })
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

    fn number(digits: &str) -> CardNumber {
        CardNumber::parse(digits).expect(digits)
    }

    #[test]
    fn every_test_card_is_a_valid_number_of_a_known_brand_and_listed_once() {
        let mut numbers = HashSet::new();
        for card in TEST_CARDS {
            let number = number(card.number);
            assert_ne!(number.brand(), CardBrand::Unknown, "{}", card.number);
            assert!(numbers.insert(card.number), "{} is listed twice", card.number);
            let ruling = rule(&number, Authentication::WhenRequired, true);
            assert_eq!((ruling.verdict, ruling.facts.risk), (card.verdict, Some(card.risk)), "{}", card.number);
        }
    }

    #[test]
    fn a_card_that_is_no_test_card_is_declined() {
        let ruling = rule(&number("4539578763621486"), Authentication::Always, true);
        assert_eq!(ruling.verdict, Verdict::Declined(DeclineReason::TestModeLiveCard));
        assert!(!ruling.challenge);
    }

    #[test]
    fn who_is_asked_depends_on_card_and_wish() {
        use Authentication::{Always, WhenRequired};
        use AuthenticationResult::{Authenticated, NotSupported, ProcessingError};
        let cases = [
            ("4242424242424242", WhenRequired, false, None),
            ("4242424242424242", Always, false, Some(NotSupported)),
            ("4000000000003055", WhenRequired, false, None),
            ("4000000000003055", Always, true, None),
            ("4000000000003220", WhenRequired, true, None),
            ("4000000000003220", Always, true, None),
            ("4000000032200000", WhenRequired, false, Some(Authenticated)),
            ("4000000032200000", Always, false, Some(Authenticated)),
            ("4000008400001280", WhenRequired, false, Some(ProcessingError)),
        ];
        for (digits, wanted, challenge, result) in cases {
            let ruling = rule(&number(digits), wanted, true);
            assert_eq!(ruling.challenge, challenge, "{digits} {wanted:?}");
            assert_eq!(ruling.facts.three_d_secure.map(|ended| ended.result), result, "{digits} {wanted:?}");
        }
    }

    #[test]
    fn without_a_place_to_ask_nobody_is_asked_and_who_must_be_is_declined() {
        for card in TEST_CARDS {
            let ruling = rule(&number(card.number), Authentication::Always, false);
            assert!(!ruling.challenge, "{}", card.number);
            let refused = ruling.verdict == Verdict::Declined(DeclineReason::AuthenticationRequired);
            assert_eq!(refused, card.authentication == CardAuthentication::Required, "{}", card.number);
        }
    }

    #[test]
    fn a_remembered_card_is_the_same_card_again() {
        for card in TEST_CARDS {
            let again = RememberedCard::of(&number(card.number)).number().expect(card.number);
            assert_eq!(again.expose(), card.number);
        }
        assert!(RememberedCard { bin: "453957".to_owned(), last4: "1486".to_owned() }.number().is_none());
    }

    #[test]
    fn cards_of_one_bin_have_one_funding() {
        for card in TEST_CARDS {
            assert_eq!(funding(&card.number[..6]), Some(card.funding), "{}", card.number);
        }
        assert_eq!(funding("453957"), None);
    }
}
