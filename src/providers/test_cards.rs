//! Test cards by a word or by their number, for merchants' tests that have no browser.
//!
//! Rule: only published test cards are found here, so nobody's real number can come in by a test.
//! What each card does is in `simulator_cards`; a word only names one of them.

use chrono::{Datelike, NaiveDate};

use super::simulator_cards::{CardAuthentication, TEST_CARDS, TestCard, Verdict};
use crate::domain::card::{CardBrand, CardCvc, CardExpiry, CardNumber, DeclineReason};
use crate::vault::EnteredCard;

/// Words for cards that are accepted or that ask their payer, with their numbers. Declined cards are
/// named by the reason.
pub const WORDS: &[(&str, &str)] = &[
    ("visa", "4242424242424242"),
    ("visa_debit", "4000056655665556"),
    ("mastercard", "5555555555554444"),
    ("amex", "378282246310005"),
    ("discover", "6011111111111117"),
    ("diners", "3056930009020004"),
    ("jcb", "3566002020360505"),
    ("unionpay", "6200000000000005"),
    ("highest_risk", "4000000000004954"),
    ("elevated_risk", "4000000000009235"),
    ("disputed", "4000000000000259"),
    ("disputed_not_received", "4000000000002685"),
    ("three_d_secure_required", "4000000000003220"),
    ("three_d_secure_declined", "4000008400001629"),
    ("three_d_secure_frictionless", "4000000032200000"),
    ("three_d_secure_optional", "4000000000003055"),
];

/// The name on every card that is used without a browser.
pub const HOLDER_NAME: &str = "Test Payer";

/// Years until a card used without a browser expires.
const YEARS_AHEAD: i32 = 5;

/// The card of a word or a number (spaces and dashes are dropped); `None` unless it is a published one.
pub fn find(text: &str) -> Option<&'static TestCard> {
    if let Some(reason) = DeclineReason::from_word(text) {
        return declined_for(reason);
    }
    let digits: String = match WORDS.iter().find(|(word, _)| *word == text) {
        Some((_, number)) => (*number).to_owned(),
        None => text.chars().filter(|character| !matches!(character, ' ' | '-')).collect(),
    };
    TEST_CARDS.iter().find(|card| card.number == digits)
}

/// The card that its bank declines at once for this reason.
pub fn declined_for(reason: DeclineReason) -> Option<&'static TestCard> {
    TEST_CARDS.iter().find(|card| {
        card.verdict == Verdict::Declined(reason) && card.authentication == CardAuthentication::Unsupported
    })
}

/// The reasons for which a test card is declined at once, as words.
pub fn decline_words() -> Vec<&'static str> {
    let known = DeclineReason::ALL.into_iter().filter(|reason| declined_for(*reason).is_some());
    known.map(DeclineReason::word).collect()
}

/// The card as a payer would type it, with a date to come and a fitting code.
///
/// # Panics
/// Never: the published numbers are valid, which a test checks.
pub fn typed(card: &TestCard, today: NaiveDate) -> EnteredCard {
    let number = CardNumber::parse(card.number).expect("a published test card is a valid number");
    let cvc = if number.brand() == CardBrand::Amex { "1234" } else { "123" };
    let year = u32::try_from(today.year() + YEARS_AHEAD).unwrap_or(0);
    EnteredCard {
        cvc: CardCvc::parse(cvc, number.brand()).expect("the code has the brand's length"),
        expiry: CardExpiry::from_parts(12, year, today).expect("some years from today is no date gone by"),
        number,
        holder_name: Some(HOLDER_NAME.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_a_card_and_every_card_can_be_typed() {
        let today = NaiveDate::from_ymd_opt(2028, 2, 29).expect("a leap day");
        for (word, number) in WORDS {
            assert_eq!(find(word).map(|card| card.number), Some(*number), "{word}");
        }
        for card in TEST_CARDS {
            assert_eq!(typed(card, today).number.expose(), card.number);
            assert_eq!(find(card.number), Some(card));
        }
        for word in decline_words() {
            let reason = DeclineReason::from_word(word).expect(word);
            assert_eq!(find(word).map(|card| card.verdict), Some(Verdict::Declined(reason)));
        }
        assert!(decline_words().len() >= 8, "{:?}", decline_words());
    }

    /// Who writes a test reads the page, so the page has every card and every word.
    #[test]
    fn the_documentation_lists_every_card_with_its_word() {
        let page = include_str!("../../docs/testing.md").replace(' ', "");
        for (word, number) in WORDS {
            assert!(page.contains(&format!("|`{word}`|{number}|")), "{word}");
        }
        for word in decline_words() {
            let number = find(word).map(|card| card.number).unwrap_or_default();
            assert!(page.contains(&format!("|`{word}`|{number}|")), "{word}");
        }
        for card in TEST_CARDS {
            assert!(page.contains(card.number), "{}", card.number);
        }
    }

    #[test]
    fn other_numbers_and_words_are_no_test_cards() {
        for text in ["", "4539578763621486", "4242424242424241", "platinum", "4242", "pm_card_visa"] {
            assert_eq!(find(text), None, "{text}");
        }
        assert_eq!(find("4242 4242-4242 4242").map(|card| card.number), Some("4242424242424242"));
    }
}
