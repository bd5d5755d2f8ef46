//! What a page needs to speak a payer's language: which locale to use, and amounts of money written as it writes them.
//!
//! The rule kept here: an amount on a page is the amount that is charged. The number of decimals is the API's, never
//! a locale's habit, and nothing is rounded. The words of the pages are left to `html` and its templates.

pub mod identity_words;
mod money_formats;

use std::fmt;

use crate::domain::money::Money;
use money_formats::{MONEY_FORMATS, SHARED_SYMBOLS};

/// The `locale` value with which a merchant leaves the choice to the payer's browser, as at Stripe.
pub const LOCALE_AUTO: &str = "auto";

/// The locale used where nothing that we know was asked for.
const LOCALE_DEFAULT: &str = "en";
/// The longest language tag that is looked at, in bytes; RFC 5646 section 4.4.1 advises 35.
const TAG_BYTES_MAX: usize = 35;
/// How many ranges of an `Accept-Language` header are looked at. Browsers send fewer than ten.
const LANGUAGE_RANGES_MAX: usize = 32;

/// Tags of others that have the same meaning as one of ours, or whose readers write money like one of ours. What is
/// not listed loses its last part until something is found: `de-LU` becomes `de`.
const TAGS_LIKE_OURS: &[(&str, &str)] = &[
    // Traditional script is for Taiwan unless a place says otherwise.
    ("zh-hant-hk", "zh-HK"),
    ("zh-hant-mo", "zh-HK"),
    ("zh-mo", "zh-HK"),
    ("zh-hant", "zh-TW"),
    // The macrolanguage, the other written form, and codes that were replaced.
    ("no", "nb"),
    ("nn", "nb"),
    ("iw", "he"),
    ("in", "id"),
    ("tl", "fil"),
    ("de-li", "de-CH"),
    ("en-ie", "en-GB"),
    // Spanish of the Americas where the decimal mark is a point; the rest writes a comma, as `es` does.
    ("es-cu", "es-419"),
    ("es-do", "es-419"),
    ("es-gt", "es-419"),
    ("es-hn", "es-419"),
    ("es-ni", "es-419"),
    ("es-pa", "es-419"),
    ("es-pe", "es-419"),
    ("es-pr", "es-419"),
    ("es-sv", "es-419"),
    ("es-us", "es-419"),
];

/// How one locale writes money. In the patterns `¤` stands for the symbol and `#` for the number.
struct MoneyFormat {
    tag: &'static str,
    positive: &'static str,
    negative: &'static str,
    group: &'static str,
    decimal: &'static str,
    /// The digit for zero; the other nine follow it in Unicode.
    zero: char,
    /// Whole parts with fewer digits than this are not grouped.
    grouping_digits_min: usize,
    /// How many digits the second and later groups have. The first, before the decimal mark, always has three.
    group_size_next: usize,
    /// Symbols that differ from the shared ones, by currency.
    symbols: &'static [(&'static str, &'static str)],
}

/// A locale that we know. Holding one proves that amounts can be written in it.
#[derive(Clone, Copy)]
pub struct Locale(&'static MoneyFormat);

impl Locale {
    /// The locale for a language tag such as `de-CH`, in any case, or the nearest that we know (`de` for `de-LU`).
    ///
    /// `None` when we know nothing near it, and for [`LOCALE_AUTO`]. Every other value of Stripe's `locale`
    /// parameter gives a locale.
    pub fn parse(tag: &str) -> Option<Locale> {
        let well_formed =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if tag.len() > TAG_BYTES_MAX {
            return None;
        }
        let lower = tag.replace('_', "-").to_ascii_lowercase();
        if !lower.split('-').all(well_formed) {
            return None;
        }
        let mut shortened = lower.as_str();
        loop {
            let like = TAGS_LIKE_OURS.iter().find(|(theirs, _)| *theirs == shortened);
            if let Some(found) = Locale::known(like.map_or(shortened, |(_, ours)| ours)) {
                return Some(found);
            }
            (shortened, _) = shortened.rsplit_once('-')?;
        }
    }

    /// The locale of a page: what the session asks for, or else what the browser prefers, or else English.
    ///
    /// `session_locale` is the merchant's `locale` parameter, `accept_language` the header's value (RFC 9110 section
    /// 12.5.4). Neither can fail: what cannot be read is passed over.
    pub fn negotiate(session_locale: Option<&str>, accept_language: Option<&str>) -> Locale {
        session_locale
            .and_then(Locale::parse)
            .or_else(|| accept_language.and_then(Locale::preferred))
            .unwrap_or_default()
    }

    /// Every locale that we know, in alphabetical order of tags.
    pub fn all() -> impl Iterator<Item = Locale> {
        MONEY_FORMATS.iter().map(Locale)
    }

    /// The tag in its usual writing, for `lang` attributes: `de-CH`, `es-419`.
    pub fn tag(&self) -> &'static str {
        self.0.tag
    }

    /// The language without place, for finding words: `de` for `de-CH`.
    pub fn language(&self) -> &'static str {
        self.0.tag.split('-').next().unwrap_or(self.0.tag)
    }

    /// The direction of its writing, for `dir` attributes: `ltr` or `rtl`.
    pub fn direction(&self) -> &'static str {
        match self.language() {
            "ar" | "fa" | "he" => "rtl",
            _ => "ltr",
        }
    }

    fn known(tag: &str) -> Option<Locale> {
        Locale::all().find(|locale| locale.tag().eq_ignore_ascii_case(tag))
    }

    fn preferred(accept_language: &str) -> Option<Locale> {
        let mut best: Option<(u16, Locale)> = None;
        for range in accept_language.split(',').take(LANGUAGE_RANGES_MAX) {
            let (tag, weight) = match range.split_once(';') {
                Some((tag, parameter)) => (tag, parse_weight(parameter)),
                None => (range, Some(WEIGHT_MAX)),
            };
            let (Some(locale), Some(weight)) = (Locale::parse(tag.trim()), weight) else {
                continue;
            };
            // Among equals the first wins, and a weight of 0 means "not this one".
            if weight > best.map_or(0, |(highest, _)| highest) {
                best = Some((weight, locale));
            }
        }
        best.map(|(_, locale)| locale)
    }
}

impl Default for Locale {
    fn default() -> Locale {
        Locale::known(LOCALE_DEFAULT).expect("the default locale is in the generated table")
    }
}

impl PartialEq for Locale {
    fn eq(&self, other: &Locale) -> bool {
        self.tag() == other.tag()
    }
}

impl Eq for Locale {}

impl fmt::Debug for Locale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.tag())
    }
}

const WEIGHT_MAX: u16 = 1_000;

/// Reads `q=0.8` in thousandths, with at most three decimals (RFC 9110 section 12.4.2).
fn parse_weight(parameter: &str) -> Option<u16> {
    let parameter = parameter.trim();
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(WEIGHT_MAX),
        _ => None,
    }
}

/// An amount as the locale writes it, exact to the minor unit and never rounded: `1.234,50 €` for `de`.
///
/// It may hold no-break spaces and direction marks, which belong to it. A negative amount (a discount in a summary)
/// gets its sign where the locale puts it.
pub fn format_money(locale: &Locale, money: Money) -> String {
    let format = locale.0;
    let number = format_number(format, money.minor.unsigned_abs(), money.currency.exponent());
    let code = money.currency.code();
    let upper_case;
    let symbol = match [format.symbols, SHARED_SYMBOLS].iter().find_map(|table| symbol_in(table, code)) {
        Some(symbol) => symbol,
        None => {
            upper_case = code.to_ascii_uppercase();
            &upper_case
        }
    };
    let pattern = if money.minor < 0 { format.negative } else { format.positive };
    let mut text = String::with_capacity(number.len() + symbol.len() + pattern.len());
    let mut marks = pattern.chars().peekable();
    while let Some(mark) = marks.next() {
        match mark {
            '¤' => {
                text.push_str(symbol);
                // A symbol that ends like a word is kept apart from digits that would touch it: `CHF 5`, but `$5`.
                let word = symbol.ends_with(|last: char| last.is_alphanumeric() || last == '.');
                if word && marks.peek() == Some(&'#') {
                    text.push('\u{a0}');
                }
            }
            '#' => text.push_str(&number),
            _ => text.push(mark),
        }
    }
    text
}

fn symbol_in(table: &[(&'static str, &'static str)], code: &str) -> Option<&'static str> {
    table.iter().find(|(listed, _)| *listed == code).map(|(_, symbol)| *symbol)
}

fn format_number(format: &MoneyFormat, minor: u64, exponent: u8) -> String {
    let decimals = usize::from(exponent);
    // At least one digit stays before the decimal mark.
    let digits = format!("{minor:0width$}", width = decimals + 1);
    let whole_digits = digits.len() - decimals;
    let mut number = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.bytes().enumerate() {
        if index == whole_digits {
            number.push_str(format.decimal);
        } else if index > 0 && index < whole_digits && group_ends(format, whole_digits, whole_digits - index) {
            number.push_str(format.group);
        }
        let local = u32::from(format.zero) + u32::from(digit - b'0');
        number.push(char::from_u32(local).unwrap_or(char::from(digit)));
    }
    number
}

/// Whether a group mark stands before the last `digits_left` digits of the whole part.
fn group_ends(format: &MoneyFormat, whole_digits: usize, digits_left: usize) -> bool {
    whole_digits >= format.grouping_digits_min
        && digits_left >= 3
        && (digits_left - 3).is_multiple_of(format.group_size_next)
}

#[cfg(test)]
mod tests;
