//! What a payer types to pay by card, and what may be known of that card afterwards.
//!
//! Rule: a number and a CVC live in types that are wiped when dropped, print nothing and have one
//! door, `expose`. Only the summary may be stored or shown. Nothing here asks whether an account
//! exists or may be charged: that is the provider's word, and a refusal of his is a
//! [`DeclineReason`].

use std::fmt;

use chrono::{Datelike, NaiveDate};
use zeroize::Zeroizing;

pub use super::decline::DeclineReason;

/// Fewest digits of a card number in use (ISO/IEC 7812 allows fewer, no network issues them).
pub const NUMBER_DIGITS_MIN: usize = 12;
/// Most digits of a card number (ISO/IEC 7812-1).
pub const NUMBER_DIGITS_MAX: usize = 19;
/// Longest text looked at in any card field: 19 digits with generous separators. What is longer
/// was not typed from a card.
pub const FIELD_CHARS_MAX: usize = 64;
/// No card is issued for longer than this; a year further away is a typing mistake.
pub const EXPIRY_YEARS_AHEAD_MAX: i32 = 50;

/// Why a card field was refused before anybody was asked to charge it. Closed; the words of
/// [`code`](Self::code) are Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not 12 to 19 digits, or the check digit is wrong.
    #[error("the card number is not a valid number")]
    IncorrectNumber,
    /// No month from 1 to 12 can be read.
    #[error("the expiry month is not a month")]
    InvalidExpiryMonth,
    /// No year can be read, or it is implausibly far away.
    #[error("the expiry year is not a plausible year")]
    InvalidExpiryYear,
    /// A real date, but its month is over.
    #[error("the card has expired")]
    Expired,
    /// Not the number of digits that the brand prints.
    #[error("the security code has the wrong number of digits")]
    InvalidCvc,
}

impl CardError {
    /// Every variant, for tables of wording and tests.
    pub const ALL: [CardError; 5] = [
        CardError::IncorrectNumber,
        CardError::InvalidExpiryMonth,
        CardError::InvalidExpiryYear,
        CardError::Expired,
        CardError::InvalidCvc,
    ];

    /// Stripe's error code.
    pub fn code(self) -> &'static str {
        match self {
            CardError::IncorrectNumber => "incorrect_number",
            CardError::InvalidExpiryMonth => "invalid_expiry_month",
            CardError::InvalidExpiryYear => "invalid_expiry_year",
            CardError::Expired => "expired_card",
            CardError::InvalidCvc => "invalid_cvc",
        }
    }

    /// What to tell the payer beside the field, in English: each sentence says what to do.
    pub fn payer_message(self) -> &'static str {
        match self {
            CardError::IncorrectNumber => "Check the card number: it should match the long number on your card.",
            CardError::InvalidExpiryMonth => "Enter the expiry date as month and year, for example 04 / 30.",
            CardError::InvalidExpiryYear => {
                "Check the expiry year: enter it as printed on your card, for example 04 / 30."
            }
            CardError::Expired => "This card has expired. Check the date or use another card.",
            CardError::InvalidCvc => {
                "Enter the security code: 3 digits on the back of your card, or 4 on the front of an American Express card."
            }
        }
    }
}

/// A card number (PAN) that passed the check digit. Kept on the heap, so that moving it leaves no
/// copy behind, and wiped when dropped. Neither cloned nor printed.
pub struct CardNumber {
    ascii_digits: Box<Zeroizing<[u8; NUMBER_DIGITS_MAX]>>,
    digits: usize,
}

impl CardNumber {
    /// Reads what was typed. Spaces and dashes are dropped, digits of other scripts are read as
    /// digits, anything else is refused.
    ///
    /// # Errors
    /// [`CardError::IncorrectNumber`] unless 12 to 19 digits with a valid Luhn check digit
    /// (ISO/IEC 7812-1 annex B) remain.
    pub fn parse(text: &str) -> Result<CardNumber, CardError> {
        let mut ascii_digits = Box::new(Zeroizing::new([0u8; NUMBER_DIGITS_MAX]));
        let digits = read_digits(text, &mut ascii_digits[..]).ok_or(CardError::IncorrectNumber)?;
        if digits < NUMBER_DIGITS_MIN || !luhn_valid(&ascii_digits[..digits]) {
            return Err(CardError::IncorrectNumber);
        }
        Ok(CardNumber { ascii_digits, digits })
    }

    /// The whole number, digits only. For the provider that charges it and for the fingerprint;
    /// for nobody else.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.ascii_digits[..self.digits]).expect("only ASCII digits are ever written")
    }

    /// The network that issued this range.
    pub fn brand(&self) -> CardBrand {
        CardBrand::of_digits(self.expose())
    }

    /// The last four digits, which may be shown and stored (PCI DSS 3.4.1).
    pub fn last4(&self) -> &str {
        &self.expose()[self.digits - 4..]
    }

    /// The first six digits, which name the issuer and may be stored (PCI DSS 3.4.1).
    pub fn bin(&self) -> &str {
        &self.expose()[..6]
    }
}

impl fmt::Debug for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardNumber(withheld)")
    }
}

/// A card's printed security code. Must not outlive the authorisation that uses it (PCI DSS 3.3.1.2):
/// wiped when dropped, neither cloned nor printed.
pub struct CardCvc {
    ascii_digits: Box<Zeroizing<[u8; 4]>>,
    digits: usize,
}

impl CardCvc {
    /// Reads what was typed for a card of that brand.
    ///
    /// # Errors
    /// [`CardError::InvalidCvc`] unless it has the brand's digits: 4 for American Express, 3 for
    /// the others, either for a brand that is not known.
    pub fn parse(text: &str, brand: CardBrand) -> Result<CardCvc, CardError> {
        let mut ascii_digits = Box::new(Zeroizing::new([0u8; 4]));
        let digits = read_digits(text, &mut ascii_digits[..]).ok_or(CardError::InvalidCvc)?;
        if brand.cvc_digits().contains(&digits) {
            Ok(CardCvc { ascii_digits, digits })
        } else {
            Err(CardError::InvalidCvc)
        }
    }

    /// The code itself, digits only. For the provider's call and nobody else.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.ascii_digits[..self.digits]).expect("only ASCII digits are ever written")
    }
}

impl fmt::Debug for CardCvc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardCvc(withheld)")
    }
}

/// The last month in which a card may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardExpiry {
    month: u8,
    year: u16,
}

impl CardExpiry {
    /// Reads `04 / 30`, `4/30`, `0430`, `04/2030`, `042030`, or `2030-04`, which browsers may fill
    /// in, and judges it against `today`.
    ///
    /// # Errors
    /// [`CardError::InvalidExpiryMonth`], [`CardError::InvalidExpiryYear`] or
    /// [`CardError::Expired`].
    pub fn parse(text: &str, today: NaiveDate) -> Result<CardExpiry, CardError> {
        let (month, year) = split_expiry(text)?;
        Self::from_parts(month, year, today)
    }

    /// Takes month and year as numbers; a year below 100 belongs to this century. Today's month is
    /// still good: a card ends with the last day of its month.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_parts(month: u32, year: u32, today: NaiveDate) -> Result<CardExpiry, CardError> {
        let month =
            u8::try_from(month).ok().filter(|month| (1..=12).contains(month)).ok_or(CardError::InvalidExpiryMonth)?;
        let year = if year < 100 { 2000 + year } else { year };
        let year = u16::try_from(year).map_err(|_| CardError::InvalidExpiryYear)?;
        if EXPIRY_YEARS_AHEAD_MAX < (i32::from(year) - today.year()).abs() {
            return Err(CardError::InvalidExpiryYear);
        }
        if (i32::from(year), u32::from(month)) < (today.year(), today.month()) {
            return Err(CardError::Expired);
        }
        Ok(CardExpiry { month, year })
    }

    /// 1 to 12.
    pub fn month(self) -> u8 {
        self.month
    }

    /// Four digits.
    pub fn year(self) -> u16 {
        self.year
    }
}

/// A card network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CardBrand {
    /// Visa.
    Visa,
    /// Mastercard, both of its ranges.
    Mastercard,
    /// American Express.
    Amex,
    /// Discover.
    Discover,
    /// Diners Club.
    Diners,
    /// JCB.
    Jcb,
    /// China UnionPay.
    UnionPay,
    /// A range that belongs to none of the above.
    Unknown,
}

impl CardBrand {
    /// Every brand.
    pub const ALL: [CardBrand; 8] = [
        CardBrand::Visa,
        CardBrand::Mastercard,
        CardBrand::Amex,
        CardBrand::Discover,
        CardBrand::Diners,
        CardBrand::Jcb,
        CardBrand::UnionPay,
        CardBrand::Unknown,
    ];

    /// Stripe's word for the brand, as stored and sent.
    pub fn code(self) -> &'static str {
        match self {
            CardBrand::Visa => "visa",
            CardBrand::Mastercard => "mastercard",
            CardBrand::Amex => "amex",
            CardBrand::Discover => "discover",
            CardBrand::Diners => "diners",
            CardBrand::Jcb => "jcb",
            CardBrand::UnionPay => "unionpay",
            CardBrand::Unknown => "unknown",
        }
    }

    /// The brand of a stored code word; `None` for a word that is not ours.
    pub fn from_code(code: &str) -> Option<CardBrand> {
        Self::ALL.into_iter().find(|brand| brand.code() == code)
    }

    /// The name to show to people. An unknown brand is just a card ("Card ending in 4242").
    pub fn display_name(self) -> &'static str {
        match self {
            CardBrand::Visa => "Visa",
            CardBrand::Mastercard => "Mastercard",
            CardBrand::Amex => "American Express",
            CardBrand::Discover => "Discover",
            CardBrand::Diners => "Diners Club",
            CardBrand::Jcb => "JCB",
            CardBrand::UnionPay => "UnionPay",
            CardBrand::Unknown => "Card",
        }
    }

    /// How many digits the security code may have.
    fn cvc_digits(self) -> std::ops::RangeInclusive<usize> {
        match self {
            CardBrand::Amex => 4..=4,
            CardBrand::Unknown => 3..=4,
            _ => 3..=3,
        }
    }

    /// The ranges that the networks publish. Where Discover and UnionPay share 62, it counts as
    /// UnionPay, as at Stripe.
    fn of_digits(digits: &str) -> CardBrand {
        let prefix = |length: usize| -> u32 { digits.get(..length).and_then(|text| text.parse().ok()).unwrap_or(0) };
        match (prefix(2), prefix(3), prefix(4)) {
            (40..=49, _, _) => CardBrand::Visa,
            (51..=55, _, _) | (_, _, 2221..=2720) => CardBrand::Mastercard,
            (34 | 37, _, _) => CardBrand::Amex,
            (36 | 38 | 39, _, _) | (_, 300..=305, _) | (_, _, 3095) => CardBrand::Diners,
            (_, _, 3528..=3589) => CardBrand::Jcb,
            (65, _, _) | (_, 644..=649, _) | (_, _, 6011) => CardBrand::Discover,
            (62 | 81, _, _) => CardBrand::UnionPay,
            _ => CardBrand::Unknown,
        }
    }
}

/// How the holder pays the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardFunding {
    /// Billed later.
    Credit,
    /// Taken from an account at once.
    Debit,
    /// Loaded beforehand.
    Prepaid,
}

impl CardFunding {
    /// The funding behind a stored word; `None` for any other word, `unknown` included.
    pub fn from_code(code: &str) -> Option<CardFunding> {
        [CardFunding::Credit, CardFunding::Debit, CardFunding::Prepaid]
            .into_iter()
            .find(|funding| funding.code() == code)
    }

    /// Stripe's word, as stored and sent. What nobody reported is `unknown` there.
    pub fn code(self) -> &'static str {
        match self {
            CardFunding::Credit => "credit",
            CardFunding::Debit => "debit",
            CardFunding::Prepaid => "prepaid",
        }
    }
}

/// All that may be stored, shown and sent of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSummary {
    /// The network.
    pub brand: CardBrand,
    /// The last four digits.
    pub last4: String,
    /// 1 to 12.
    pub exp_month: u8,
    /// Four digits.
    pub exp_year: u16,
    /// Only when a provider reported it.
    pub funding: Option<CardFunding>,
    /// The issuer's ISO 3166-1 alpha-2 country, upper case, only when a provider reported it.
    pub country: Option<String>,
    /// 16 letters and digits that are the same for the same number in one installation, and mean
    /// nothing anywhere else.
    pub fingerprint: String,
}

/// Writes the digits of `text` as ASCII into `target` and says how many; `None` when there is
/// anything but digits, white space and dashes, or more digits than fit.
fn read_digits(text: &str, target: &mut [u8]) -> Option<usize> {
    let mut written = 0;
    for (position, character) in text.chars().enumerate() {
        if position == FIELD_CHARS_MAX {
            return None;
        }
        if let Some(digit) = decimal_digit(character) {
            *target.get_mut(written)? = b'0' + digit;
            written += 1;
        } else if !(character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}')) {
            return None;
        }
    }
    Some(written)
}

/// The value of a digit as keyboards write it: ASCII, Arabic-Indic, Persian, Devanagari, full width.
fn decimal_digit(character: char) -> Option<u8> {
    const ZEROS: [u32; 5] = ['0' as u32, 0x0660, 0x06f0, 0x0966, 0xff10];
    let code = character as u32;
    ZEROS.into_iter().find(|zero| (*zero..zero + 10).contains(&code)).and_then(|zero| u8::try_from(code - zero).ok())
}

/// Luhn's check: from the right, every second digit doubled, digits summed, a multiple of ten.
fn luhn_valid(ascii_digits: &[u8]) -> bool {
    let sum: u32 = ascii_digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, ascii)| {
            let digit = u32::from(ascii - b'0');
            match (place % 2 == 1, digit) {
                (false, digit) => digit,
                (true, digit) if digit < 5 => digit * 2,
                (true, digit) => digit * 2 - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Finds month and year; their plausibility is judged by the caller.
fn split_expiry(text: &str) -> Result<(u32, u32), CardError> {
    let mut groups: Vec<String> = vec![String::new()];
    for (position, character) in text.trim().chars().enumerate() {
        if position == FIELD_CHARS_MAX {
            return Err(CardError::InvalidExpiryMonth);
        }
        match decimal_digit(character) {
            Some(digit) => {
                let last = groups.len() - 1;
                groups[last].push(char::from(b'0' + digit));
            }
            None if character.is_whitespace() || matches!(character, '/' | '-' | '.' | '\u{2010}'..='\u{2015}') => {
                if groups.last().is_some_and(|group| !group.is_empty()) {
                    groups.push(String::new());
                }
            }
            None => return Err(CardError::InvalidExpiryMonth),
        }
    }
    groups.retain(|group| !group.is_empty());
    let (month, year) = match groups.as_slice() {
        [whole] if matches!(whole.len(), 4 | 6) => whole.split_at(2),
        [month] if month.len() < 3 => return Err(CardError::InvalidExpiryYear),
        [year, month] if year.len() == 4 => (month.as_str(), year.as_str()),
        [month, year] => (month.as_str(), year.as_str()),
        _ => return Err(CardError::InvalidExpiryMonth),
    };
    if 2 < month.len() {
        return Err(CardError::InvalidExpiryMonth);
    }
    if !matches!(year.len(), 2 | 4) {
        return Err(CardError::InvalidExpiryYear);
    }
    let month = month.parse().map_err(|_| CardError::InvalidExpiryMonth)?;
    let year = year.parse().map_err(|_| CardError::InvalidExpiryYear)?;
    Ok((month, year))
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
