//! What payers type into the card fields, and what is made of it: tables for the known cases,
//! properties for the rest.

use proptest::prelude::*;

use super::*;

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 20).expect("a real date")
}

#[test]
fn every_test_card_has_its_brand() {
    let cases = [
        ("4242424242424242", CardBrand::Visa),
        ("4000056655665556", CardBrand::Visa),
        ("4100000000000019", CardBrand::Visa),
        ("5555555555554444", CardBrand::Mastercard),
        ("2223003122003222", CardBrand::Mastercard),
        ("378282246310005", CardBrand::Amex),
        ("6011111111111117", CardBrand::Discover),
        ("3056930009020004", CardBrand::Diners),
        ("36227206271667", CardBrand::Diners),
        ("3566002020360505", CardBrand::Jcb),
        ("6200000000000005", CardBrand::UnionPay),
        ("6205500000000000004", CardBrand::UnionPay),
        ("6759649826438453", CardBrand::Unknown),
    ];
    for (number, brand) in cases {
        let parsed = CardNumber::parse(number).expect(number);
        assert_eq!(parsed.brand(), brand, "{number}");
        assert_eq!(parsed.last4(), &number[number.len() - 4..]);
        assert_eq!(parsed.bin(), &number[..6]);
    }
}

#[test]
fn brand_codes_read_back() {
    for brand in CardBrand::ALL {
        assert_eq!(CardBrand::from_code(brand.code()), Some(brand));
    }
    assert_eq!(CardBrand::from_code("maestro"), None);
}

#[test]
fn a_number_may_be_typed_with_spaces_dashes_and_foreign_digits() {
    for text in
        [" 4242 4242 4242 4242 ", "4242-4242-4242-4242", "4242\u{a0}4242\u{2013}4242 4242", "٤٢٤٢ ٤٢٤٢ ٤٢٤٢ ٤٢٤٢"]
    {
        let number = CardNumber::parse(text).expect(text);
        assert_eq!(number.expose(), "4242424242424242");
    }
}

#[test]
fn a_wrong_number_is_refused() {
    let long = "4".repeat(20);
    let padded = format!("4242424242424242{}", " ".repeat(FIELD_CHARS_MAX));
    for text in ["", "4242", "4242424242424241", "424242424242424x", &long, &padded] {
        assert_eq!(CardNumber::parse(text).err(), Some(CardError::IncorrectNumber), "{text}");
    }
}

#[test]
fn nothing_of_number_or_cvc_is_printed() {
    let number = CardNumber::parse("4242424242424242").expect("a test card");
    let cvc = CardCvc::parse("987", CardBrand::Visa).expect("three digits");
    let printed = format!("{number:?} {cvc:?} {number:#?} {cvc:#?}");
    assert!(!printed.contains(|character: char| character.is_ascii_digit()), "{printed}");
}

#[test]
fn the_brand_says_how_long_a_cvc_is() {
    let cases = [
        ("123", CardBrand::Visa, true),
        (" 123 ", CardBrand::Visa, true),
        ("1234", CardBrand::Visa, false),
        ("12", CardBrand::Visa, false),
        ("12345", CardBrand::Unknown, false),
        ("1234", CardBrand::Amex, true),
        ("123", CardBrand::Amex, false),
        ("1234", CardBrand::Unknown, true),
        ("123", CardBrand::Unknown, true),
        ("12a", CardBrand::Visa, false),
        ("", CardBrand::Unknown, false),
    ];
    for (text, brand, accepted) in cases {
        assert_eq!(CardCvc::parse(text, brand).is_ok(), accepted, "{text} {brand:?}");
    }
}

#[test]
fn expiry_dates_are_read_and_judged() {
    let cases = [
        ("11 / 26", Ok((11, 2026))),
        ("1126", Ok((11, 2026))),
        ("12/2034", Ok((12, 2034))),
        ("122034", Ok((12, 2034))),
        ("4/30", Ok((4, 2030))),
        ("04-30", Ok((4, 2030))),
        ("04 30", Ok((4, 2030))),
        ("2030-04", Ok((4, 2030))),
        ("10/26", Err(CardError::Expired)),
        ("12/20", Err(CardError::Expired)),
        ("13/30", Err(CardError::InvalidExpiryMonth)),
        ("00/30", Err(CardError::InvalidExpiryMonth)),
        ("", Err(CardError::InvalidExpiryMonth)),
        ("soon", Err(CardError::InvalidExpiryMonth)),
        ("012/30", Err(CardError::InvalidExpiryMonth)),
        ("1/2/30", Err(CardError::InvalidExpiryMonth)),
        ("12", Err(CardError::InvalidExpiryYear)),
        ("12/", Err(CardError::InvalidExpiryYear)),
        ("12/3", Err(CardError::InvalidExpiryYear)),
        ("12/99", Err(CardError::InvalidExpiryYear)),
        ("12/1900", Err(CardError::InvalidExpiryYear)),
    ];
    for (text, expected) in cases {
        let read = CardExpiry::parse(text, today()).map(|e| (e.month(), e.year()));
        assert_eq!(read, expected, "{text}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}") {
        let _ = CardNumber::parse(&text);
        let _ = CardExpiry::parse(&text, today());
        for brand in CardBrand::ALL {
            let _ = CardCvc::parse(&text, brand);
        }
    }

    #[test]
    fn exactly_one_check_digit_is_right(body in "[0-9]{11,18}") {
        let right = (0..10).filter(|check| CardNumber::parse(&format!("{body}{check}")).is_ok());
        prop_assert_eq!(right.count(), 1);
    }

    #[test]
    fn digits_and_separators_never_panic_an_expiry(text in "[0-9/ .-]{0,12}") {
        let _ = CardExpiry::parse(&text, today());
    }
}
