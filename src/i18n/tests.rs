//! Tests of `i18n`: the locale data's own examples, the choice of a locale, and what holds for every amount.

use super::*;
use crate::domain::money::{AMOUNT_MINOR_MAX, Currency};
use proptest::prelude::*;

/// What the locale data itself gives, written by the script that writes the table.
const GOLDEN: &str = include_str!("money_golden.tsv");

fn locale(tag: &str) -> Locale {
    Locale::parse(tag).expect("a locale that we know")
}

fn written(tag: &str, minor: i64, code: &str) -> String {
    let currency = Currency::parse(code).expect("a code from the table");
    format_money(&locale(tag), Money::new(minor, currency))
}

#[test]
fn every_locale_writes_money_as_the_locale_data_does() {
    let mut tags_seen = std::collections::BTreeSet::new();
    for row in GOLDEN.lines() {
        let fields: Vec<&str> = row.split('\t').collect();
        let [tag, code, minor, expected] = fields[..] else { panic!("four fields in {row:?}") };
        assert_eq!(locale(tag).tag(), tag);
        assert_eq!(written(tag, minor.parse().expect("an integer"), code), expected, "{row:?}");
        tags_seen.insert(tag);
    }
    assert_eq!(tags_seen.len(), Locale::all().count());
}

#[test]
fn decimals_are_those_of_the_api_and_nothing_is_rounded() {
    assert_eq!(written("de", 123_450, "eur"), "1.234,50\u{a0}€");
    assert_eq!(written("en", 123_456, "idr"), "IDR\u{a0}1,234.56");
    assert_eq!(written("en", 1_050, "isk"), "ISK\u{a0}10.50");
    assert_eq!(written("en", 5_120, "kwd"), "KWD\u{a0}5.120");
    assert_eq!(written("ja", 500, "jpy"), "￥500");
    assert_eq!(written("en-IN", AMOUNT_MINOR_MAX, "inr"), "₹9,99,99,99,999.99");
    assert_eq!(written("en", 0, "usd"), "$0.00");
    assert_eq!(written("en", -5, "usd"), "-$0.05");
}

#[test]
fn every_value_of_stripes_locale_parameter_gives_a_locale() {
    let values = "bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hr hu id it ja ko lt lv ms mt nb nl pl pt \
                  pt-BR ro ru sk sl sv th tr vi zh zh-HK zh-TW";
    for value in values.split_whitespace() {
        assert_eq!(locale(value).tag(), value);
    }
    assert_eq!(Locale::parse(LOCALE_AUTO), None);
}

#[test]
fn a_tag_that_we_do_not_have_becomes_the_nearest_that_we_have() {
    for (asked, found) in [
        ("DE_ch", "de-CH"),
        ("de-LU", "de"),
        ("de-CH-1996", "de-CH"),
        ("zh-Hant-HK", "zh-HK"),
        ("zh-Hant-TW", "zh-TW"),
        ("zh-Hans-CN", "zh"),
        ("no", "nb"),
        ("nn-NO", "nb"),
        ("es-AR", "es"),
        ("es-PE", "es-419"),
        ("pt-PT", "pt"),
        ("iw-IL", "he"),
        ("en-US-u-nu-latn", "en-US"),
    ] {
        assert_eq!(locale(asked).tag(), found, "{asked}");
    }
    for asked in ["", "*", "xx", "tlh", "d", "de-", "-de", "de--CH", "dé", "de CH", &"de-a".repeat(20)] {
        assert_eq!(Locale::parse(asked), None, "{asked}");
    }
}

#[test]
fn the_session_decides_then_the_browser_then_english() {
    for (session, header, tag) in [
        (Some("fr-CA"), Some("de"), "fr-CA"),
        (Some("auto"), Some("de"), "de"),
        (Some("tlh"), Some("de"), "de"),
        (None, None, "en"),
        (None, Some("tlh, *"), "en"),
        (None, Some("de-CH,de;q=0.9,en;q=0.8"), "de-CH"),
        (None, Some("en;q=0.8, fr;q=0.9, de;q=0.7"), "fr"),
        (None, Some("tlh, fr-BE;q=0.4, de ; q=0.5"), "de"),
        (None, Some("fr;q=0, de;q=0.001"), "de"),
        (None, Some("fr;q=2, es;q=0.1234, it;q=, nl;q=0.1"), "nl"),
        (None, Some("de, fr"), "de"),
        (None, Some(",;,q=1,;q=1"), "en"),
    ] {
        assert_eq!(Locale::negotiate(session, header).tag(), tag, "{session:?} {header:?}");
    }
}

#[test]
fn language_and_direction_follow_from_the_tag() {
    assert_eq!((locale("de-CH").language(), locale("de-CH").direction()), ("de", "ltr"));
    let right_to_left: Vec<&str> =
        Locale::all().filter(|each| each.direction() == "rtl").map(|each| each.tag()).collect();
    assert_eq!(right_to_left, ["ar", "fa", "he"]);
}

#[test]
fn the_generated_table_names_only_currencies_and_tags_that_exist() {
    let own = MONEY_FORMATS.iter().flat_map(|format| format.symbols);
    for (code, symbol) in SHARED_SYMBOLS.iter().chain(own) {
        assert!(Currency::parse(code).is_some() && !symbol.is_empty(), "{code}");
    }
    for format in MONEY_FORMATS {
        for pattern in [format.positive, format.negative] {
            assert_eq!((pattern.matches('¤').count(), pattern.matches('#').count()), (1, 1), "{}", format.tag);
        }
    }
    for (theirs, ours) in TAGS_LIKE_OURS {
        assert!(Locale::known(theirs).is_none() && Locale::known(ours).is_some(), "{theirs}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_negotiation_panic(header in "[a-z*;,=q.0-9 -]{0,80}|.{0,80}") {
        Locale::negotiate(Some(&header), Some(&header));
    }

    #[test]
    fn the_digits_of_an_amount_are_written_once_and_in_order(
        minor: i64,
        code in prop::sample::select(Currency::all().collect::<Vec<_>>()),
        tag in prop::sample::select(Locale::all().map(|each| each.tag()).collect::<Vec<_>>()),
    ) {
        let zero = u32::from(locale(tag).0.zero);
        let text = written(tag, minor, code.code());
        let digits: String = text
            .chars()
            .filter_map(|each| u32::from(each).checked_sub(zero).and_then(|value| char::from_digit(value, 10)))
            .collect();
        let width = usize::from(code.exponent()) + 1;
        prop_assert_eq!(digits, format!("{:0width$}", minor.unsigned_abs()));
    }
}
