//! Amounts of money: whole minor units with their currency, and the table of currencies we take.
//!
//! The rule kept here: an amount is an integer, every sum is checked, and how many decimals a currency has is
//! what Stripe's API says, because merchants send the amounts that they would send to Stripe. Writing an amount
//! for people is left to `i18n`, adding up a cart to `pricing`.

use std::fmt;

/// The largest amount, in minor units, that a price, a line or a total may have.
///
/// Twelve digits, as in Stripe's API. It stays below 2^53, so that a JSON reader which keeps numbers as doubles
/// reads every amount exactly, and it leaves an `i64` room for any sum of 100 lines.
pub const AMOUNT_MINOR_MAX: i64 = 999_999_999_999;

/// The currencies in which Stripe presents charges, without those that were withdrawn (ANG, BGN, HRK, SLL, STD).
/// Sorted, because `Currency::parse` searches it by halves.
#[rustfmt::skip]
const CODES: [[u8; 3]; 140] = [
    *b"aed", *b"afn", *b"all", *b"amd", *b"aoa", *b"ars", *b"aud", *b"awg", *b"azn", *b"bam", *b"bbd", *b"bdt",
    *b"bhd", *b"bif", *b"bmd", *b"bnd", *b"bob", *b"brl", *b"bsd", *b"bwp", *b"byn", *b"bzd", *b"cad", *b"cdf",
    *b"chf", *b"clp", *b"cny", *b"cop", *b"crc", *b"cve", *b"czk", *b"djf", *b"dkk", *b"dop", *b"dzd", *b"egp",
    *b"etb", *b"eur", *b"fjd", *b"fkp", *b"gbp", *b"gel", *b"gip", *b"gmd", *b"gnf", *b"gtq", *b"gyd", *b"hkd",
    *b"hnl", *b"htg", *b"huf", *b"idr", *b"ils", *b"inr", *b"isk", *b"jmd", *b"jod", *b"jpy", *b"kes", *b"kgs",
    *b"khr", *b"kmf", *b"krw", *b"kwd", *b"kyd", *b"kzt", *b"lak", *b"lbp", *b"lkr", *b"lrd", *b"lsl", *b"mad",
    *b"mdl", *b"mga", *b"mkd", *b"mmk", *b"mnt", *b"mop", *b"mru", *b"mur", *b"mvr", *b"mwk", *b"mxn", *b"myr",
    *b"mzn", *b"nad", *b"ngn", *b"nio", *b"nok", *b"npr", *b"nzd", *b"omr", *b"pab", *b"pen", *b"pgk", *b"php",
    *b"pkr", *b"pln", *b"pyg", *b"qar", *b"ron", *b"rsd", *b"rub", *b"rwf", *b"sar", *b"sbd", *b"scr", *b"sek",
    *b"sgd", *b"shp", *b"sle", *b"sos", *b"srd", *b"stn", *b"svc", *b"szl", *b"thb", *b"tjs", *b"tnd", *b"top",
    *b"try", *b"ttd", *b"twd", *b"tzs", *b"uah", *b"ugx", *b"usd", *b"uyu", *b"uzs", *b"vnd", *b"vuv", *b"wst",
    *b"xaf", *b"xcd", *b"xcg", *b"xof", *b"xpf", *b"yer", *b"zar", *b"zmw",
];

/// A currency that we take: a lower-case ISO 4217 code. Holding one proves that it is in our table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads a three-letter ISO 4217 code, in either case as Stripe does; `None` when we do not take that currency.
    pub fn parse(code: &str) -> Option<Currency> {
        let mut letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters.make_ascii_lowercase();
        CODES.binary_search(&letters).ok().map(|_| Currency(letters))
    }

    /// The code as merchants see it, in lower case: `eur`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the currency table holds ASCII letters only")
    }

    /// How many of an amount's last digits stand behind the decimal mark: 0, 2 or 3.
    ///
    /// These are the lists of Stripe's API, not those of ISO 4217. They differ for MGA (0 here, 2 in ISO) and, the
    /// other way round, for ISK and UGX: both have no subunit any more, but Stripe keeps writing them with two
    /// decimals for the sake of old integrations, so that 5 krónur are 500 here. HUF and TWD are charged with two
    /// decimals; only payouts need whole forints and dollars, and we make none.
    pub fn exponent(&self) -> u8 {
        match &self.0 {
            b"bif" | b"clp" | b"djf" | b"gnf" | b"jpy" | b"kmf" | b"krw" | b"mga" | b"pyg" | b"rwf" | b"vnd"
            | b"vuv" | b"xaf" | b"xof" | b"xpf" => 0,
            b"bhd" | b"jod" | b"kwd" | b"omr" | b"tnd" => 3,
            _ => 2,
        }
    }

    /// The number of minor units of which every charge and refund must be a multiple: 1, 10 or 100.
    ///
    /// Card networks carry two decimals at most, so amounts in a three-decimal currency must end in 0. ISK and UGX
    /// exist in whole units only, so theirs must end in 00. This binds what is charged, not the price of one item.
    pub fn charge_step_minor(&self) -> i64 {
        match &self.0 {
            b"isk" | b"ugx" => 100,
            _ if self.exponent() == 3 => 10,
            _ => 1,
        }
    }

    /// Every currency that we take, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Currency> {
        CODES.into_iter().map(Currency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// An amount in one currency. What it means (a price, a charge, a refund) is its holder's business.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// The amount in minor units, 0 to [`AMOUNT_MINOR_MAX`]: cents for EUR, whole yen for JPY.
    pub minor: i64,
    /// The currency that the minor units belong to.
    pub currency: Currency,
}

/// Why a sum of money could not be made, or cannot be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Two amounts in different currencies met; there is no rate here to bring them together.
    #[error("cannot combine an amount in {left} with an amount in {right}")]
    CurrencyMismatch {
        /// The currency of the amount that was to be changed.
        left: Currency,
        /// The currency of the other amount.
        right: Currency,
    },
    /// The result would be below zero.
    #[error("the amount would be below zero")]
    BelowZero,
    /// The amount is zero or below, and nothing can be charged.
    #[error("the amount must be at least 1 in the currency's smallest unit")]
    NotPositive,
    /// The amount is, or would be, above [`AMOUNT_MINOR_MAX`].
    #[error("the amount would be above {AMOUNT_MINOR_MAX} in the currency's smallest unit")]
    AboveMaximum,
    /// The amount has digits that this currency cannot be charged with; see [`Currency::charge_step_minor`].
    #[error("an amount in {currency} must be a multiple of {step_minor} in its smallest unit")]
    NotChargeableStep {
        /// The currency with the coarser step.
        currency: Currency,
        /// The step in minor units, 10 or 100.
        step_minor: i64,
    },
}

impl Money {
    /// An amount of `minor` units in `currency`.
    pub fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// Nothing, in `currency`: where a sum begins.
    pub fn zero(currency: Currency) -> Money {
        Money { minor: 0, currency }
    }

    /// The sum of both; refuses mixed currencies and a result outside 0 to [`AMOUNT_MINOR_MAX`].
    pub fn checked_add(self, other: Money) -> Result<Money, MoneyError> {
        self.same_currency(other)?;
        self.with_minor(i128::from(self.minor) + i128::from(other.minor))
    }

    /// What is left when `other` is taken away; refuses mixed currencies and a result below zero.
    pub fn checked_sub(self, other: Money) -> Result<Money, MoneyError> {
        self.same_currency(other)?;
        self.with_minor(i128::from(self.minor) - i128::from(other.minor))
    }

    /// This amount `quantity` times; refuses a result outside 0 to [`AMOUNT_MINOR_MAX`].
    pub fn checked_mul_quantity(self, quantity: i64) -> Result<Money, MoneyError> {
        self.with_minor(i128::from(self.minor) * i128::from(quantity))
    }

    /// Whether this amount can be charged or refunded: above zero, within [`AMOUNT_MINOR_MAX`], and a multiple of
    /// the currency's step.
    pub fn check_chargeable(self) -> Result<(), MoneyError> {
        let step_minor = self.currency.charge_step_minor();
        if self.minor <= 0 {
            Err(MoneyError::NotPositive)
        } else if self.minor > AMOUNT_MINOR_MAX {
            Err(MoneyError::AboveMaximum)
        } else if self.minor % step_minor != 0 {
            Err(MoneyError::NotChargeableStep { currency: self.currency, step_minor })
        } else {
            Ok(())
        }
    }

    fn same_currency(self, other: Money) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency })
        }
    }

    // Sums are made in 128 bits, where two 64-bit numbers can be added or multiplied without overflow, and are
    // brought back here, so that no operation can wrap or panic whatever the operands are.
    fn with_minor(self, minor: i128) -> Result<Money, MoneyError> {
        match i64::try_from(minor) {
            Ok(minor) if (0..=AMOUNT_MINOR_MAX).contains(&minor) => Ok(Money { minor, ..self }),
            _ if minor < 0 => Err(MoneyError::BelowZero),
            _ => Err(MoneyError::AboveMaximum),
        }
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} (minor units)", self.minor, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("a code from the table")
    }

    #[test]
    fn the_table_is_sorted_and_has_no_code_twice() {
        assert!(CODES.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn every_currency_reads_back_from_its_code() {
        for each in Currency::all() {
            assert_eq!(Currency::parse(each.code()), Some(each));
            assert_eq!(Currency::parse(&each.code().to_uppercase()), Some(each));
        }
    }

    #[test]
    fn codes_that_are_not_currencies_are_refused() {
        for code in ["", "eu", "euro", "eür", "xxx", "xau", "hrk", "e r", " eur", "€"] {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn exponents_and_charge_steps_are_those_of_stripes_api() {
        for (code, exponent, step_minor) in [
            ("eur", 2, 1),
            ("jpy", 0, 1),
            ("mga", 0, 1),
            ("kwd", 3, 10),
            ("tnd", 3, 10),
            ("isk", 2, 100),
            ("ugx", 2, 100),
            ("huf", 2, 1),
            ("twd", 2, 1),
            ("xcg", 2, 1),
        ] {
            assert_eq!(
                (currency(code).exponent(), currency(code).charge_step_minor()),
                (exponent, step_minor),
                "{code}"
            );
        }
        assert_eq!(Currency::all().filter(|each| each.exponent() == 0).count(), 15);
        assert_eq!(Currency::all().filter(|each| each.exponent() == 3).count(), 5);
    }

    #[test]
    fn amounts_in_different_currencies_are_never_combined() {
        let refused = Err(MoneyError::CurrencyMismatch { left: currency("eur"), right: currency("usd") });
        assert_eq!(Money::new(1, currency("eur")).checked_add(Money::new(1, currency("usd"))), refused);
        assert_eq!(Money::new(1, currency("eur")).checked_sub(Money::new(1, currency("usd"))), refused);
    }

    #[test]
    fn results_outside_the_range_are_refused() {
        let largest = Money::new(AMOUNT_MINOR_MAX, currency("eur"));
        let cent = Money::new(1, currency("eur"));
        assert_eq!(largest.checked_add(cent), Err(MoneyError::AboveMaximum));
        assert_eq!(largest.checked_mul_quantity(2), Err(MoneyError::AboveMaximum));
        assert_eq!(cent.checked_sub(largest), Err(MoneyError::BelowZero));
        assert_eq!(cent.checked_mul_quantity(-1), Err(MoneyError::BelowZero));
        assert_eq!(largest.checked_sub(largest), Ok(Money::zero(currency("eur"))));
    }

    #[test]
    fn only_amounts_that_the_currency_carries_can_be_charged() {
        for (minor, code, expected) in [
            (1, "eur", Ok(())),
            (0, "eur", Err(MoneyError::NotPositive)),
            (-5, "eur", Err(MoneyError::NotPositive)),
            (AMOUNT_MINOR_MAX, "eur", Ok(())),
            (AMOUNT_MINOR_MAX + 1, "eur", Err(MoneyError::AboveMaximum)),
            (5_120, "kwd", Ok(())),
            (5_124, "kwd", Err(MoneyError::NotChargeableStep { currency: currency("kwd"), step_minor: 10 })),
            (550, "isk", Err(MoneyError::NotChargeableStep { currency: currency("isk"), step_minor: 100 })),
        ] {
            assert_eq!(Money::new(minor, currency(code)).check_chargeable(), expected, "{minor} {code}");
        }
    }

    proptest! {
        #[test]
        fn no_operands_make_a_sum_wrap_or_panic(left: i64, right: i64) {
            let (left, right) = (Money::new(left, currency("eur")), Money::new(right, currency("eur")));
            let results = [left.checked_add(right), left.checked_sub(right), left.checked_mul_quantity(right.minor)];
            for sum in results.into_iter().flatten() {
                prop_assert!((0..=AMOUNT_MINOR_MAX).contains(&sum.minor));
            }
        }

        #[test]
        fn reading_a_code_never_panics(code in ".{0,5}") {
            if let Some(found) = Currency::parse(&code) {
                prop_assert_eq!(found.code(), code.to_ascii_lowercase());
            }
        }
    }
}
