//! Which providers a charge is offered to, and in what order.
//!
//! The rule: the operator's rules are read from the top and the first that fits decides alone; where
//! none fits, all providers stand in the order in which they were registered. Of the providers named,
//! those that cannot do what the charge needs are left out. Whether one of them is reachable just now
//! is not asked here.

use thiserror::Error;

use super::card::CardBrand;
use super::id::MerchantId;
use super::money::{Currency, Money};

/// Most rules: far above what anybody keeps in his head, and read for every charge.
pub const RULES_MAX: usize = 100;

/// One rule. An empty list and an absent bound ask for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Any of these.
    pub currencies: Vec<Currency>,
    /// Any of these.
    pub brands: Vec<CardBrand>,
    /// At least so many minor units of the one currency named.
    pub amount_min: Option<i64>,
    /// At most so many minor units of the one currency named.
    pub amount_max: Option<i64>,
    /// Any of these.
    pub merchants: Vec<MerchantId>,
    /// Real money or test cards.
    pub livemode: Option<bool>,
    /// Who is asked, in this order.
    pub providers: Vec<String>,
}

/// What a charge is and needs.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How much of what.
    pub money: Money,
    /// The card's.
    pub brand: CardBrand,
    /// Who is paid.
    pub merchant: &'a MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// Whether the money is to be reserved only.
    pub manual_capture: bool,
    /// Whether the payer must be authenticated by his bank.
    pub authentication: bool,
}

/// A provider as far as this decision needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Able<'a> {
    /// Its name.
    pub name: &'a str,
    /// Works in the charge's mode.
    pub mode: bool,
    /// Takes the charge's currency.
    pub currency: bool,
    /// Reserves first and takes later.
    pub manual_capture: bool,
    /// Has payers authenticated.
    pub three_d_secure: bool,
}

/// What is wrong with a rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RuleError {
    /// Nobody to ask.
    #[error("names no providers")]
    NoProviders,
    /// Not one of ours.
    #[error("names the provider `{name}`, which is not configured; configured are: {configured}")]
    UnknownProvider {
        /// The name.
        name: String,
        /// Those that there are.
        configured: String,
    },
    /// Asking one twice is what a charge may never do.
    #[error("names the provider `{0}` twice")]
    ProviderTwice(String),
    /// An amount means nothing without its currency.
    #[error("bounds the amount, which takes exactly one currency beside it")]
    AmountWithoutCurrency,
    /// No amount lies in it.
    #[error("bounds the amount to {min}..{max}, where no amount lies")]
    AmountImpossible {
        /// From.
        min: i64,
        /// To.
        max: i64,
    },
}

impl Rule {
    /// Whether the rule decides about this charge.
    fn fits(&self, asked: &Asked<'_>) -> bool {
        let currency = self.currencies.is_empty() || self.currencies.contains(&asked.money.currency);
        let brand = self.brands.is_empty() || self.brands.contains(&asked.brand);
        let merchant = self.merchants.is_empty() || self.merchants.contains(asked.merchant);
        let amount = self.amount_min.is_none_or(|min| min <= asked.money.minor)
            && self.amount_max.is_none_or(|max| asked.money.minor <= max);
        currency && brand && merchant && amount && self.livemode.is_none_or(|livemode| livemode == asked.livemode)
    }

    /// Whether the rule makes sense among these providers.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn check(&self, configured: &[&str]) -> Result<(), RuleError> {
        if self.providers.is_empty() {
            return Err(RuleError::NoProviders);
        }
        for (place, name) in self.providers.iter().enumerate() {
            if !configured.contains(&name.as_str()) {
                return Err(RuleError::UnknownProvider { name: name.clone(), configured: configured.join(", ") });
            }
            if self.providers[..place].contains(name) {
                return Err(RuleError::ProviderTwice(name.clone()));
            }
        }
        if self.amount_min.is_none() && self.amount_max.is_none() {
            return Ok(());
        }
        if self.currencies.len() != 1 {
            return Err(RuleError::AmountWithoutCurrency);
        }
        let (min, max) = (self.amount_min.unwrap_or(1), self.amount_max.unwrap_or(i64::MAX));
        if min < 1 || max < min { Err(RuleError::AmountImpossible { min, max }) } else { Ok(()) }
    }
}

impl Able<'_> {
    fn can(&self, asked: &Asked<'_>) -> bool {
        self.mode
            && self.currency
            && (self.manual_capture || !asked.manual_capture)
            && (self.three_d_secure || !asked.authentication)
    }
}

/// The names of the providers to ask, in order; `able` stands in order of registration. Empty when nobody who
/// may take the charge can.
pub fn route<'a>(rules: &[Rule], asked: &Asked<'_>, able: &[Able<'a>]) -> Vec<&'a str> {
    let named = |name: &String| able.iter().find(|provider| provider.name == name);
    let in_order: Vec<&Able<'a>> = match rules.iter().find(|rule| rule.fits(asked)) {
        Some(rule) => rule.providers.iter().filter_map(named).collect(),
        None => able.iter().collect(),
    };
    in_order.into_iter().filter(|provider| provider.can(asked)).map(|provider| provider.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("a known currency")
    }

    fn acct(number: u8) -> MerchantId {
        MerchantId::from_stored(format!("acct_{number}"))
    }

    fn to(providers: &[&str]) -> Rule {
        Rule { providers: providers.iter().map(|name| (*name).to_owned()).collect(), ..Rule::default() }
    }

    fn able(name: &str) -> Able<'_> {
        Able { name, mode: true, currency: true, manual_capture: true, three_d_secure: true }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            Rule { brands: vec![CardBrand::Amex], ..to(&["c"]) },
            Rule {
                currencies: vec![currency("eur")],
                amount_min: Some(1_000),
                amount_max: Some(2_000),
                ..to(&["b", "c"])
            },
            Rule { currencies: vec![currency("chf"), currency("usd")], ..to(&["b"]) },
            Rule { merchants: vec![acct(7)], ..to(&["c", "b", "a"]) },
            Rule { livemode: Some(true), ..to(&["c"]) },
        ];
        let table = [
            (500, "eur", CardBrand::Visa, 1, false, "a b c"),
            (500, "eur", CardBrand::Amex, 7, true, "c"),
            (999, "eur", CardBrand::Visa, 1, false, "a b c"),
            (1_000, "eur", CardBrand::Visa, 7, false, "b c"),
            (2_000, "eur", CardBrand::Visa, 1, true, "b c"),
            (2_001, "eur", CardBrand::Visa, 1, true, "c"),
            (1_500, "gbp", CardBrand::Visa, 1, false, "a b c"),
            (1_500, "usd", CardBrand::Visa, 7, false, "b"),
            (1_500, "chf", CardBrand::Mastercard, 1, false, "b"),
            (1_500, "gbp", CardBrand::Visa, 7, true, "c b a"),
        ];
        let providers = ["a", "b", "c"].map(able);
        for (minor, code, brand, merchant, livemode, expected) in table {
            let merchant = acct(merchant);
            let money = Money { minor, currency: currency(code) };
            let asked =
                Asked { money, brand, merchant: &merchant, livemode, manual_capture: false, authentication: false };
            assert_eq!(route(&rules, &asked, &providers).join(" "), expected, "{minor} {code} {brand:?}");
        }
    }

    #[test]
    fn who_cannot_is_left_out_whether_named_or_not() {
        let providers = [
            Able { mode: false, ..able("mode") },
            Able { currency: false, ..able("currency") },
            Able { manual_capture: false, ..able("capture") },
            Able { three_d_secure: false, ..able("authentication") },
            able("all"),
        ];
        let merchant = acct(1);
        let money = Money { minor: 1, currency: currency("eur") };
        for rules in [vec![], vec![to(&["mode", "currency", "capture", "authentication", "all"])]] {
            for (manual_capture, authentication, expected) in [
                (false, false, "capture authentication all"),
                (true, false, "authentication all"),
                (false, true, "capture all"),
                (true, true, "all"),
            ] {
                let asked = Asked {
                    money,
                    brand: CardBrand::Visa,
                    merchant: &merchant,
                    livemode: false,
                    manual_capture,
                    authentication,
                };
                assert_eq!(route(&rules, &asked, &providers).join(" "), expected);
            }
        }
        // A rule that fits decides even when nobody it names can.
        let asked = Asked {
            money,
            brand: CardBrand::Visa,
            merchant: &merchant,
            livemode: false,
            manual_capture: false,
            authentication: false,
        };
        assert!(route(&[to(&["mode"])], &asked, &providers).is_empty());
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let eur = || vec![currency("eur")];
        let bounded = |min, max| Rule { currencies: eur(), amount_min: min, amount_max: max, ..to(&["a"]) };
        let unknown = RuleError::UnknownProvider { name: "z".to_owned(), configured: "a, b".to_owned() };
        let impossible = |min, max| Err(RuleError::AmountImpossible { min, max });
        let table = [
            (to(&["a", "b"]), Ok(())),
            (to(&[]), Err(RuleError::NoProviders)),
            (to(&["a", "z"]), Err(unknown)),
            (to(&["a", "a"]), Err(RuleError::ProviderTwice("a".to_owned()))),
            (Rule { amount_min: Some(5), ..to(&["a"]) }, Err(RuleError::AmountWithoutCurrency)),
            (bounded(Some(5), Some(5)), Ok(())),
            (bounded(None, Some(5)), Ok(())),
            (bounded(Some(6), Some(5)), impossible(6, 5)),
            (bounded(Some(-1), None), impossible(-1, i64::MAX)),
            (bounded(None, Some(0)), impossible(1, 0)),
        ];
        for (rule, expected) in table {
            assert_eq!(rule.check(&["a", "b"]), expected, "{rule:?}");
        }
    }
}
