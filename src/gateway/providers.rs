//! The configured providers, put together: who there is, who gets which charge, and how the simulated
//! companies behave.
//!
//! The rule: a word in the settings that means nothing stops the start with one sentence. What the
//! rules decide is in `domain::routing`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Duration;
use secrecy::ExposeSecret;

use crate::config::{Config, RoutingRule, TestModeProvider};
use crate::domain::card::CardBrand;
use crate::domain::id::MerchantId;
use crate::domain::money::Currency;
use crate::domain::routing::Rule;
use crate::error::{Error, Result};
use crate::providers::breaker::BreakerSettings;
use crate::providers::simulator::Simulator;
use crate::providers::simulator_faults::{Fault, SimulatorBehaviour, SimulatorFees, Times};
use crate::providers::stripe::{self, Stripe};
use crate::providers::{Provider, Registry};
use crate::store::Store;
use crate::vault::Vault;

/// Simulated companies at most: enough to try every rule, few enough to ask one after the other.
const SIMULATORS_MAX: usize = 8;

/// Longest name of a provider: it becomes a label of metrics and stands in every charge.
const NAME_CHARS_MAX: usize = 32;

/// Everybody who can take money, and the handles that the development set-up needs of the simulated ones.
pub(super) struct Providers {
    pub(super) registry: Registry,
    /// The first company, whose bank's pages serve all of them.
    pub(super) bank: Arc<Simulator>,
    /// How each simulated company behaves, by name.
    pub(super) simulators: BTreeMap<String, SimulatorBehaviour>,
}

fn refuse<T>(problem: String) -> Result<T> {
    Err(Error::Unavailable(problem))
}

/// Puts the providers together.
///
/// # Errors
/// A sentence about the setting that is wrong.
pub(super) fn open(config: &Config, store: &Store, vault: &Arc<Vault>, stripe: Option<Stripe>) -> Result<Providers> {
    let faults = faults(config)?;
    let mut simulators = BTreeMap::new();
    let mut companies = Vec::new();
    for name in names(config)? {
        let behaviour = SimulatorBehaviour::default();
        behaviour.set_latency_ms(config.simulator_latency_ms);
        behaviour.set_fees(SimulatorFees {
            basis_points: config.simulator_fee_basis_points,
            fixed: config.simulator_fee_fixed,
            dispute: config.simulator_dispute_fee,
        });
        for (_, fault, times) in faults.iter().filter(|(of, _, _)| of == name) {
            behaviour.set(*fault, *times);
        }
        simulators.insert(name.to_owned(), behaviour.clone());
        let (pool, bank_url) = (store.pool().clone(), config.simulator_bank_url());
        companies.push(Arc::new(Simulator::named(name, pool, Arc::clone(vault), behaviour, bank_url)));
    }
    let Some(bank) = companies.first().map(Arc::clone) else {
        return refuse("`simulator_names` must name at least one company".to_owned());
    };
    let mut providers: Vec<Arc<dyn Provider>> =
        companies.into_iter().map(|company| company as Arc<dyn Provider>).collect();
    if let Some(stripe) = stripe {
        providers.push(Arc::new(stripe));
    }
    let registry = match Registry::new(providers) {
        Ok(registry) => registry,
        Err(error) => return refuse(error.to_string()),
    };
    let breakers = BreakerSettings {
        failures_min: config.breaker_failures_min,
        open: Duration::seconds(i64::from(config.breaker_open_seconds)),
    };
    let mut rules = rules(config)?;
    rules.push(of_test_mode(config));
    match registry.with_routing(rules, breakers) {
        Ok(registry) => Ok(Providers { registry, bank, simulators }),
        Err(error) => refuse(error.to_string()),
    }
}

/// The last rule: without another, test mode plays with the simulated companies or tries Stripe out, and never goes
/// from the one to the other.
fn of_test_mode(config: &Config) -> Rule {
    let providers = match config.test_mode_provider {
        TestModeProvider::Simulator => config.simulator_names.clone(),
        TestModeProvider::Stripe => vec![stripe::NAME.to_owned()],
    };
    Rule { livemode: Some(false), providers, ..Rule::default() }
}

/// Whether the settings about providers make sense, as far as that can be seen without starting.
///
/// # Errors
/// A sentence about the setting that is wrong.
pub fn check(config: &Config) -> Result<()> {
    faults(config)?;
    let mut names = names(config)?;
    if [&config.stripe_live_secret_key, &config.stripe_test_secret_key]
        .iter()
        .any(|key| !key.expose_secret().is_empty())
    {
        names.push(stripe::NAME);
    }
    for (place, rule) in rules(config)?.iter().enumerate() {
        if let Err(error) = rule.check(&names) {
            return refuse(format!("routing rule {} {error}", place + 1));
        }
    }
    Ok(())
}

fn names(config: &Config) -> Result<Vec<&str>> {
    let names: Vec<&str> = config.simulator_names.iter().map(String::as_str).collect();
    let is_name = |name: &&str| {
        (1..=NAME_CHARS_MAX).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    if names.len() > SIMULATORS_MAX || !names.iter().all(is_name) {
        return refuse(format!(
            "`simulator_names` takes up to {SIMULATORS_MAX} names of a-z, 0-9 and _, each up to {NAME_CHARS_MAX} long"
        ));
    }
    Ok(names)
}

fn faults(config: &Config) -> Result<Vec<(String, Fault, Times)>> {
    let read = |text: &String| {
        let (name, rest) = text.split_once(':')?;
        let (fault, times) = rest.split_once(':')?;
        let is_known = config.simulator_names.iter().any(|known| known == name);
        is_known.then_some((name.to_owned(), Fault::from_word(fault)?, Times::parse(times)?))
    };
    let wrong = |text: &String| {
        let words = Fault::ALL.map(Fault::word).join(", ");
        Error::Unavailable(format!(
            "`simulator_faults` has \"{text}\"; wanted is \"name:fault:times\" with a name of `simulator_names`, a count or \"always\", and one of {words}"
        ))
    };
    config.simulator_faults.iter().map(|text| read(text).ok_or_else(|| wrong(text))).collect()
}

fn rules(config: &Config) -> Result<Vec<Rule>> {
    let numbered = config.routing.iter().enumerate();
    numbered
        .map(|(place, settings)| {
            rule(settings).map_err(|problem| Error::Unavailable(format!("routing rule {} {problem}", place + 1)))
        })
        .collect()
}

fn rule(settings: &RoutingRule) -> std::result::Result<Rule, String> {
    fn each<T>(words: &[String], what: &str, read: impl Fn(&str) -> Option<T>) -> std::result::Result<Vec<T>, String> {
        words
            .iter()
            .map(|word| read(word).ok_or_else(|| format!("names {what} `{word}`, which does not exist")))
            .collect()
    }
    let livemode = match settings.mode.as_deref() {
        None => None,
        Some("test") => Some(false),
        Some("live") => Some(true),
        Some(other) => return Err(format!("has the mode `{other}`; wanted is test or live")),
    };
    Ok(Rule {
        currencies: each(&settings.currencies, "the currency", Currency::parse)?,
        brands: each(&settings.brands, "the card brand", CardBrand::from_code)?,
        amount_min: settings.amount_min,
        amount_max: settings.amount_max,
        merchants: each(&settings.merchants, "the merchant id", MerchantId::parse)?,
        livemode,
        providers: settings.providers.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::read(None, []).expect("the defaults are fine");
        config.simulator_names = vec!["simulator".to_owned(), "second".to_owned()];
        change(&mut config);
        config
    }

    fn to_second() -> RoutingRule {
        RoutingRule { providers: vec!["second".to_owned()], ..RoutingRule::default() }
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let sensible = config(|config| {
            config.simulator_faults = words(&["second:decline_softly:3", "simulator:fail_after:always"]);
            config.routing = vec![
                RoutingRule {
                    currencies: words(&["eur"]),
                    brands: words(&["amex", "visa"]),
                    amount_min: Some(1),
                    amount_max: Some(500),
                    merchants: words(&["acct_00000000000000000000000001"]),
                    mode: Some("test".to_owned()),
                    ..to_second()
                },
                to_second(),
            ];
        });
        check(&sensible).expect("makes sense");
    }

    #[test]
    fn what_makes_none_is_refused_in_one_sentence() {
        let word = |word: &str| vec![word.to_owned()];
        let rule = |rule: RoutingRule| config(|config| config.routing = vec![to_second(), rule]);
        let table = [
            (config(|config| config.simulator_names = word("Second!")), "`simulator_names` takes up to 8 names"),
            (config(|config| config.simulator_faults = word("third:fail_after:1")), "\"third:fail_after:1\""),
            (config(|config| config.simulator_faults = word("second:explode:1")), "one of refuse_connection, "),
            (config(|config| config.simulator_faults = word("second:fail_after:often")), "a count or \"always\""),
            (rule(RoutingRule::default()), "routing rule 2 names no providers"),
            (rule(RoutingRule { providers: word("bank"), ..to_second() }), "configured are: simulator, second"),
            (
                rule(RoutingRule { currencies: word("EURO"), ..to_second() }),
                "the currency `EURO`, which does not exist",
            ),
            (rule(RoutingRule { brands: word("plastic"), ..to_second() }), "the card brand `plastic`"),
            (rule(RoutingRule { merchants: word("corner"), ..to_second() }), "the merchant id `corner`"),
            (rule(RoutingRule { mode: Some("both".to_owned()), ..to_second() }), "has the mode `both`"),
            (rule(RoutingRule { amount_min: Some(1), ..to_second() }), "takes exactly one currency"),
            (
                rule(RoutingRule { currencies: word("eur"), amount_min: Some(9), amount_max: Some(8), ..to_second() }),
                "9..8, where no amount lies",
            ),
        ];
        for (config, expected) in table {
            match check(&config) {
                Err(Error::Unavailable(sentence)) => assert!(sentence.contains(expected), "{sentence}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
