//! The `[fraud]` section: rules as they stand in the file, made into rules that can be applied.
//!
//! The rule: a rule that says something wrong, too little or too much stops the start with one
//! sentence that names it. Defaults are rules like any other, so a file changes or switches off one of
//! them by its name and leaves the others alone.

use std::collections::{BTreeMap, HashSet};

use chrono::Duration;
use serde::Deserialize;

use crate::domain::charge_facts::RiskLevel;
use crate::domain::email::parse_email;
use crate::domain::fraud::{
    Action, Check, Condition, Counted, Counter, List, Modes, Rule, Rules, Subject, plain_email,
};
use crate::domain::id::MerchantId;
use crate::domain::money::Currency;
use crate::domain::network::Network;

/// Most rules: each is looked at for each payment.
const RULES_MAX: usize = 64;

/// Longest name of a rule, which stands in answers, events and metrics.
const NAME_CHARS_MAX: usize = 40;

/// Most entries of one list: what a person can still look after in a file.
const VALUES_MAX: usize = 10_000;

/// Longest window of a count.
const WINDOW_MINUTES_MAX: u32 = 30 * 24 * 60;

/// Highest limit of a count: so many rows are read at worst before each payment.
const COUNT_MAX: u32 = 1_000;

/// Characters of a card's fingerprint.
const FINGERPRINT_CHARS: usize = 16;

/// Longest that a review may wait for the merchant: no authorisation lasts for longer than a month.
const REVIEW_HOURS_MAX: u32 = 30 * 24;

/// The section.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct FraudConfig {
    /// How long a review waits for the merchant.
    pub review_hours: u32,
    /// The rules by name.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleConfig>,
}

/// A rule as it is written. Which keys belong to it depends on `when`.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// What it looks at.
    pub when: Option<String>,
    /// `allow`, `challenge`, `review`, `block`, or `off`.
    pub action: Option<String>,
    /// `all`, `live` or `test`.
    pub modes: Option<String>,
    /// Merchants that it is for; all unless given.
    pub merchants: Option<Vec<String>>,
    /// What is counted together, or what the list is about.
    pub of: Option<String>,
    /// Tries or declines that are still fine.
    pub max: Option<u32>,
    /// How far back they are counted.
    pub within_minutes: Option<u32>,
    /// Currency of the bounds.
    pub currency: Option<String>,
    /// Highest amount that is still fine, in minor units.
    pub above: Option<i64>,
    /// Lowest amount that is still fine, in minor units.
    pub below: Option<i64>,
    /// What is on the list.
    pub values: Option<Vec<String>>,
    /// `elevated` or `highest`.
    pub level: Option<String>,
}

/// The kinds of rules and the keys that belong to each.
const KINDS: [(&str, &[&str]); 9] = [
    ("tries", &["of", "max", "within_minutes"]),
    ("declines", &["of", "max", "within_minutes"]),
    ("amount", &["currency", "above", "below"]),
    ("list", &["of", "values"]),
    ("country_mismatch", &[]),
    ("cvc_fails", &[]),
    ("postcode_fails", &[]),
    ("address_fails", &[]),
    ("risk", &["level"]),
];

/// Beside the kinds above: an authentication that a rule asked for and that did not take place.
const NOT_AUTHENTICATED: &str = "not_authenticated";

impl FraudConfig {
    /// The rules.
    ///
    /// # Errors
    /// A sentence that says what to do and, where it is about a rule, names it.
    pub fn rules(&self) -> Result<Rules, String> {
        if !(1..=REVIEW_HOURS_MAX).contains(&self.review_hours) {
            return Err(format!("`fraud.review_hours` must be 1 to {REVIEW_HOURS_MAX}"));
        }
        if self.rules.len() > RULES_MAX {
            return Err(format!("`fraud.rules` holds more than {RULES_MAX} rules"));
        }
        let mut rules = BTreeMap::new();
        for (name, written) in &self.rules {
            let about = |problem: String| format!("fraud rule `{name}`: {problem}");
            let name_is_fine = (1..=NAME_CHARS_MAX).contains(&name.len())
                && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            if !name_is_fine {
                return Err(about(format!("a name has 1 to {NAME_CHARS_MAX} characters of a to z, 0 to 9 and _")));
            }
            if let Some(rule) = written.read().map_err(about)? {
                rules.insert(name.clone(), rule);
            }
        }
        Ok(Rules::new(rules))
    }
}

fn one_of(what: &str, word: &str, choices: &[&str]) -> String {
    format!("`{what}` is \"{word}\"; it must be one of {}", choices.join(", "))
}

impl RuleConfig {
    /// The keys that are written, beside those that every rule has.
    fn keys(&self) -> Vec<&'static str> {
        [
            ("of", self.of.is_some()),
            ("max", self.max.is_some()),
            ("within_minutes", self.within_minutes.is_some()),
            ("currency", self.currency.is_some()),
            ("above", self.above.is_some()),
            ("below", self.below.is_some()),
            ("values", self.values.is_some()),
            ("level", self.level.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_written)| is_written.then_some(key))
        .collect()
    }

    fn read(&self) -> Result<Option<Rule>, String> {
        let when = self.when.as_deref().ok_or("`when` is missing")?;
        let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).chain([NOT_AUTHENTICATED]).collect();
        if !kinds.contains(&when) {
            return Err(one_of("when", when, &kinds));
        }
        let own = KINDS.iter().find(|(kind, _)| *kind == when).map_or(&[] as &[&str], |(_, keys)| keys);
        if let Some(foreign) = self.keys().into_iter().find(|key| !own.contains(key)) {
            return Err(format!("`{foreign}` does not belong to a rule with when = \"{when}\""));
        }
        let condition = self.condition(when)?;
        let word = self.action.as_deref().ok_or("`action` is missing")?;
        let action = match Action::from_word(word) {
            Some(action) => action,
            None if word == "off" => return Ok(None),
            None => return Err(one_of("action", word, &["allow", "challenge", "review", "block", "off"])),
        };
        if action == Action::Allow && !matches!(condition, Condition::Listed(_)) {
            return Err("only a list can allow; `action = \"off\"` switches a rule off".to_owned());
        }
        if action == Action::Challenge && condition.needs_answer() {
            return Err("what the provider answers comes too late for a challenge; choose review or block".to_owned());
        }
        let modes = match self.modes.as_deref().unwrap_or("all") {
            "all" => Modes::All,
            "live" => Modes::Live,
            "test" => Modes::Test,
            other => return Err(one_of("modes", other, &["all", "live", "test"])),
        };
        let merchants: HashSet<String> = self.merchants.iter().flatten().cloned().collect();
        if let Some(bad) = merchants.iter().find(|merchant| MerchantId::parse(merchant).is_none()) {
            return Err(format!("`merchants` has \"{bad}\", which is not a merchant's id (acct_…)"));
        }
        Ok(Some(Rule { action, condition, modes, merchants }))
    }

    fn condition(&self, when: &str) -> Result<Condition, String> {
        Ok(match when {
            "tries" => self.velocity(Counted::Tries)?,
            "declines" => self.velocity(Counted::Declines)?,
            "amount" => {
                let code = self.currency.as_deref().ok_or("`currency` is missing")?;
                let currency =
                    Currency::parse(code).ok_or_else(|| format!("`currency` \"{code}\" is not an ISO 4217 code"))?;
                if self.above.is_none() && self.below.is_none() {
                    return Err("`above` or `below` is missing".to_owned());
                }
                if self.above.into_iter().chain(self.below).any(|minor| minor < 1) {
                    return Err("`above` and `below` are minor units of the currency, at least 1".to_owned());
                }
                Condition::Amount { currency, above: self.above, below: self.below }
            }
            "list" => Condition::Listed(self.list()?),
            "country_mismatch" => Condition::CountryMismatch,
            "cvc_fails" => Condition::CheckFailed(Check::Cvc),
            "postcode_fails" => Condition::CheckFailed(Check::Postcode),
            "address_fails" => Condition::CheckFailed(Check::Address),
            "risk" => {
                let word = self.level.as_deref().ok_or("`level` is missing")?;
                let level = RiskLevel::from_word(word).filter(|level| *level > RiskLevel::Normal);
                Condition::Risk(level.ok_or_else(|| one_of("level", word, &["elevated", "highest"]))?)
            }
            _ => Condition::NotAuthenticated,
        })
    }

    fn velocity(&self, counted: Counted) -> Result<Condition, String> {
        let words = Subject::ALL.map(Subject::word);
        let of = self.of.as_deref().ok_or("`of` is missing")?;
        let subject =
            Subject::ALL.into_iter().find(|subject| subject.word() == of).ok_or_else(|| one_of("of", of, &words))?;
        let at_least = self
            .max
            .filter(|max| (1..=COUNT_MAX).contains(max))
            .ok_or_else(|| format!("`max` must be 1 to {COUNT_MAX}"))?;
        let minutes = self
            .within_minutes
            .filter(|minutes| (1..=WINDOW_MINUTES_MAX).contains(minutes))
            .ok_or_else(|| format!("`within_minutes` must be 1 to {WINDOW_MINUTES_MAX}"))?;
        let counter = Counter { subject, counted, window: Duration::minutes(i64::from(minutes)) };
        Ok(Condition::Velocity { counter, at_least })
    }

    fn list(&self) -> Result<List, String> {
        let values = self.values.as_deref().ok_or("`values` is missing")?;
        if values.len() > VALUES_MAX {
            return Err(format!("`values` holds more than {VALUES_MAX} entries"));
        }
        let of = self.of.as_deref().ok_or("`of` is missing")?;
        // Each entry as it is compared, or the first that cannot be one.
        let read = |expected: &str, one: &dyn Fn(&str) -> Option<String>| -> Result<HashSet<String>, String> {
            values
                .iter()
                .map(|value| {
                    one(value.trim()).ok_or_else(|| format!("`values` has \"{}\"; expected {expected}", excerpt(value)))
                })
                .collect()
        };
        let all = |count: usize, of: fn(&u8) -> bool| {
            move |value: &str| (value.len() == count && value.bytes().all(|byte| of(&byte))).then(|| value.to_owned())
        };
        Ok(match of {
            "card" => List::Cards(read(
                "a card's fingerprint, 16 letters and digits",
                &all(FINGERPRINT_CHARS, u8::is_ascii_alphanumeric),
            )?),
            "email" => {
                List::Emails(read("an e-mail address", &|value| parse_email(value).map(|email| plain_email(&email)))?)
            }
            "email_domain" => List::EmailDomains(read("a domain such as mail.example", &|value| {
                parse_email(&format!("x@{value}")).map(|_| value.to_ascii_lowercase())
            })?),
            "network" => List::Networks(
                values
                    .iter()
                    .map(|value| {
                        Network::parse(value.trim()).ok_or_else(|| {
                            format!("`values` has \"{}\"; expected a network such as 203.0.113.0/24", excerpt(value))
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            "country" => List::Countries(read("a country's two letters in capitals", &all(2, u8::is_ascii_uppercase))?),
            "bin" => List::Bins(read("the first six digits of cards", &all(6, u8::is_ascii_digit))?),
            other => {
                return Err(one_of("of", other, &["card", "email", "email_domain", "network", "country", "bin"]));
            }
        })
    }
}

/// The beginning of a foreign text, for a message. A card number that strayed into a list is not repeated.
fn excerpt(text: &str) -> String {
    if text.bytes().filter(u8::is_ascii_digit).count() > 11 {
        return "…".to_owned();
    }
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use config::{File, FileFormat};

    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        let section: FraudConfig = config::Config::builder()
            .add_source(File::from_str("review_hours = 24", FileFormat::Toml))
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| error.to_string())?;
        section.rules()
    }

    #[test]
    fn every_kind_of_rule_is_read() {
        for (body, action) in [
            ("when = 'tries'\nof = 'card'\nmax = 3\nwithin_minutes = 60", "block"),
            ("when = 'declines'\nof = 'network'\nmax = 3\nwithin_minutes = 60\nmodes = 'live'", "challenge"),
            ("when = 'amount'\ncurrency = 'eur'\nabove = 100000", "review"),
            ("when = 'amount'\ncurrency = 'jpy'\nbelow = 50", "block"),
            ("when = 'list'\nof = 'card'\nvalues = ['0123456789abcdEF']", "block"),
            ("when = 'list'\nof = 'email'\nvalues = ['Ada+tag@Mail.Example']", "allow"),
            ("when = 'list'\nof = 'email_domain'\nvalues = ['mail.example']", "block"),
            ("when = 'list'\nof = 'network'\nvalues = ['203.0.113.0/24', '2001:db8::/48']", "block"),
            ("when = 'list'\nof = 'country'\nvalues = ['KP']", "block"),
            (
                "when = 'list'\nof = 'bin'\nvalues = ['400000']\nmerchants = ['acct_0000000000000000000000test']",
                "review",
            ),
            ("when = 'country_mismatch'", "challenge"),
            ("when = 'cvc_fails'", "block"),
            ("when = 'postcode_fails'", "review"),
            ("when = 'address_fails'", "review"),
            ("when = 'risk'\nlevel = 'elevated'", "review"),
            ("when = 'not_authenticated'", "block"),
        ] {
            let read =
                rules(&format!("[rules.mine]\naction = '{action}'\n{body}")).unwrap_or_else(|e| panic!("{body}: {e}"));
            assert_ne!(read, Rules::default(), "{body}");
            assert_eq!(rules(&format!("[rules.mine]\naction = 'off'\n{body}")), Ok(Rules::default()), "{body}");
        }
    }

    #[test]
    fn a_bad_rule_is_named_with_what_is_wrong() {
        for (body, problem) in [
            ("action = 'block'", "`when` is missing"),
            ("when = 'moon'\naction = 'block'", "one of tries, declines"),
            ("when = 'cvc_fails'", "`action` is missing"),
            ("when = 'cvc_fails'\naction = 'explode'", "one of allow, challenge"),
            ("when = 'cvc_fails'\naction = 'challenge'", "too late"),
            ("when = 'cvc_fails'\naction = 'allow'", "only a list can allow"),
            ("when = 'cvc_fails'\naction = 'block'\nmax = 3", "`max` does not belong"),
            ("when = 'tries'\nof = 'card'\naction = 'block'\nwithin_minutes = 60", "`max` must be 1 to"),
            ("when = 'tries'\nof = 'card'\naction = 'block'\nmax = 3\nwithin_minutes = 0", "`within_minutes` must be"),
            ("when = 'tries'\nof = 'shoe'\naction = 'block'\nmax = 3\nwithin_minutes = 5", "one of card, email"),
            ("when = 'amount'\naction = 'block'\nabove = 1", "`currency` is missing"),
            ("when = 'amount'\naction = 'block'\ncurrency = 'euros'\nabove = 1", "not an ISO 4217"),
            ("when = 'amount'\naction = 'block'\ncurrency = 'eur'", "`above` or `below`"),
            ("when = 'amount'\naction = 'block'\ncurrency = 'eur'\nabove = 0", "at least 1"),
            ("when = 'list'\nof = 'network'\naction = 'block'\nvalues = ['203.0.113.1/24']", "expected a network"),
            ("when = 'list'\nof = 'country'\naction = 'block'\nvalues = ['kp']", "two letters in capitals"),
            ("when = 'risk'\naction = 'block'\nlevel = 'normal'", "one of elevated, highest"),
            ("when = 'cvc_fails'\naction = 'block'\nmodes = 'some'", "one of all, live, test"),
            ("when = 'cvc_fails'\naction = 'block'\nmerchants = ['me']", "not a merchant's id"),
        ] {
            let refused = rules(&format!("[rules.mine]\n{body}")).expect_err(body);
            assert!(refused.starts_with("fraud rule `mine`: ") && refused.contains(problem), "{body}: {refused}");
        }
        assert!(
            rules("[rules.'Not fine']\nwhen = 'cvc_fails'\naction = 'block'").expect_err("name").contains("a name has")
        );
        assert!(rules("[rules.mine]\nwhenn = 'x'").expect_err("unknown key").contains("whenn"));
    }

    #[test]
    fn a_card_number_in_a_list_is_not_repeated() {
        let body = "[rules.mine]\nwhen = 'list'\nof = 'card'\naction = 'block'\nvalues = ['4242424242424243x']";
        let refused = rules(body).expect_err("no fingerprint");
        assert!(!refused.contains("4242"), "{refused}");
    }
}
