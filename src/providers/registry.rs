//! The providers of an installation, found by name, or in the order in which a charge is offered.
//!
//! Rule: a charge remembers its provider by name, so a name means one provider for ever. In what
//! order several are asked is `domain::routing`'s to decide, and whether the next one may be is the
//! operations'.

use std::sync::Arc;

use super::Provider;
use super::breaker::{Breaker, BreakerSettings};
use crate::domain::money::Currency;
use crate::domain::routing::{Able, Asked, RULES_MAX, Rule, RuleError, route};

/// The providers of this installation, with what is known of their health and who gets which charge.
#[derive(Clone, Default)]
pub struct Registry {
    providers: Vec<Registered>,
    rules: Vec<Rule>,
}

/// A provider and its breaker.
#[derive(Clone)]
pub struct Registered {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// Whether it is being asked at all.
    pub breaker: Arc<Breaker>,
}

/// Two providers claim one name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("two providers are called `{0}`; charges could not tell them apart")]
pub struct DuplicateProvider(pub String);

/// The rules of routing cannot be kept to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RoutingError {
    /// One of them, counted from 1.
    #[error("routing rule {0} {1}")]
    Rule(usize, RuleError),
    /// Beyond [`RULES_MAX`].
    #[error("there are {0} routing rules; at most {RULES_MAX} are read for each charge")]
    TooMany(usize),
}

impl Registry {
    /// The providers in order of preference.
    ///
    /// # Errors
    /// [`DuplicateProvider`] when two share a name.
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> Result<Registry, DuplicateProvider> {
        let mut registry = Registry::default();
        for provider in providers {
            if registry.by_name(provider.name()).is_some() {
                return Err(DuplicateProvider(provider.name().to_owned()));
            }
            let breaker = Arc::new(Breaker::new(BreakerSettings::default()));
            registry.providers.push(Registered { provider, breaker });
        }
        Ok(registry)
    }

    /// The same under these rules, with breakers of these settings.
    ///
    /// # Errors
    /// [`RoutingError`] when a rule makes no sense among these providers.
    pub fn with_routing(mut self, rules: Vec<Rule>, breakers: BreakerSettings) -> Result<Registry, RoutingError> {
        if rules.len() > RULES_MAX {
            return Err(RoutingError::TooMany(rules.len()));
        }
        let names: Vec<&str> = self.providers.iter().map(|registered| registered.provider.name()).collect();
        for (place, rule) in rules.iter().enumerate() {
            rule.check(&names).map_err(|error| RoutingError::Rule(place + 1, error))?;
        }
        for registered in &mut self.providers {
            registered.breaker = Arc::new(Breaker::new(breakers));
        }
        self.rules = rules;
        Ok(self)
    }

    /// Every provider, in order of preference.
    pub fn all(&self) -> &[Registered] {
        &self.providers
    }

    /// A provider and its breaker, by the name that a stored charge has.
    pub fn registered(&self, name: &str) -> Option<&Registered> {
        self.providers.iter().find(|registered| registered.provider.name() == name)
    }

    /// The provider that a stored charge names.
    pub fn by_name(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.registered(name).map(|registered| &registered.provider)
    }

    /// The first provider that works in a mode; `None` when that mode has none.
    pub fn for_mode(&self, livemode: bool) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().map(|registered| &registered.provider).find(|provider| works_in(provider, livemode))
    }

    /// Whether anybody could take such money, whatever the card and whatever the rules.
    pub fn can_take(&self, livemode: bool, currency: Currency, manual_capture: bool) -> bool {
        self.providers.iter().any(|Registered { provider, .. }| {
            let can = provider.capabilities();
            works_in(provider, livemode) && can.currencies.contain(currency) && (can.manual_capture || !manual_capture)
        })
    }

    /// Whom to ask for a charge, in order; nobody when nobody who may take it can.
    pub fn route(&self, asked: &Asked<'_>) -> Vec<&Registered> {
        let able: Vec<Able<'_>> = self
            .providers
            .iter()
            .map(|Registered { provider, .. }| {
                let can = provider.capabilities();
                Able {
                    name: provider.name(),
                    mode: works_in(provider, asked.livemode),
                    currency: can.currencies.contain(asked.money.currency),
                    manual_capture: can.manual_capture,
                    three_d_secure: can.three_d_secure,
                }
            })
            .collect();
        route(&self.rules, asked, &able).into_iter().filter_map(|name| self.registered(name)).collect()
    }
}

fn works_in(provider: &Arc<dyn Provider>, livemode: bool) -> bool {
    let can = provider.capabilities();
    if livemode { can.livemode } else { can.testmode }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::domain::money::Money;
    use crate::providers::{
        Callback, CallbackError, Capabilities, CaptureReport, ChargeRef, ChargeRequest, Currencies, LookUp,
        ReferenceKeeper, RefundRequest, Report, Reversal,
    };

    /// Exists to be found; is never asked for money.
    struct Named(&'static str, bool);

    #[async_trait]
    impl Provider for Named {
        fn name(&self) -> &'static str {
            self.0
        }
        fn capabilities(&self) -> Capabilities {
            Capabilities {
                livemode: self.1,
                testmode: !self.1,
                void_in_advance: false,
                reference_first: false,
                partial_refund: false,
                manual_capture: false,
                three_d_secure: false,
                disputes: false,
                callbacks: false,
                currencies: Currencies::Only(&["eur"]),
                idempotency_hours_max: Some(24),
            }
        }
        async fn charge(&self, _: ChargeRequest, _: &dyn ReferenceKeeper) -> Report {
            Report::Pending { reference: None }
        }
        async fn look_up(&self, _: &ChargeRef) -> LookUp {
            LookUp::Unknown
        }
        async fn void(&self, _: &ChargeRef) -> Reversal {
            Reversal::NothingToReverse
        }
        async fn refund(&self, _: RefundRequest) -> Reversal {
            Reversal::NothingToReverse
        }
        async fn capture(&self, _: &ChargeRef, _: Money) -> CaptureReport {
            CaptureReport::Refused { detail: String::new() }
        }
        fn read_callback(&self, _: &[(String, String)], _: &[u8]) -> Result<Callback, CallbackError> {
            Err(CallbackError::NotSupported)
        }
    }

    fn named(name: &'static str, livemode: bool) -> Arc<dyn Provider> {
        Arc::new(Named(name, livemode))
    }

    #[test]
    fn a_provider_is_found_by_name_and_by_mode() {
        let registry =
            Registry::new([named("toy", false), named("bank", true), named("other_bank", true)]).expect("three names");
        fn found(provider: Option<&Arc<dyn Provider>>) -> Option<&str> {
            provider.map(|provider| provider.name())
        }
        assert_eq!(found(registry.by_name("bank")), Some("bank"));
        assert_eq!(found(registry.by_name("gone")), None);
        assert_eq!(found(registry.for_mode(true)), Some("bank"));
        assert_eq!(found(registry.for_mode(false)), Some("toy"));
    }

    #[test]
    fn a_mode_without_provider_has_none() {
        let registry = Registry::new([named("toy", false)]).expect("one name");
        assert!(registry.for_mode(true).is_none());
    }

    #[test]
    fn two_providers_of_one_name_are_refused() {
        let refused = Registry::new([named("toy", false), named("toy", true)]).err();
        assert_eq!(refused, Some(DuplicateProvider("toy".to_owned())));
    }

    #[test]
    fn rules_are_held_against_the_providers_there_are() {
        let registry = || Registry::new([named("toy", false), named("bank", true)]).expect("two names");
        let to = |name: &str| Rule { providers: vec![name.to_owned()], ..Rule::default() };
        let breakers = BreakerSettings::default();
        let refused =
            registry().with_routing(vec![to("toy"), to("gone")], breakers).err().map(|error| error.to_string());
        let expected = "routing rule 2 names the provider `gone`, which is not configured; configured are: toy, bank";
        assert_eq!(refused.as_deref(), Some(expected));
        let too_many = registry().with_routing(vec![to("toy"); RULES_MAX + 1], breakers).err();
        assert_eq!(too_many, Some(RoutingError::TooMany(RULES_MAX + 1)));
        assert!(registry().with_routing(vec![to("toy"), to("bank")], breakers).is_ok());
    }

    #[test]
    fn money_that_nobody_takes_is_known_beforehand() {
        let registry = Registry::new([named("toy", false)]).expect("one name");
        let [eur, usd] = ["eur", "usd"].map(|code| Currency::parse(code).expect("a known currency"));
        assert!(registry.can_take(false, eur, false));
        for (livemode, currency, manual_capture) in [(true, eur, false), (false, usd, false), (false, eur, true)] {
            assert!(!registry.can_take(livemode, currency, manual_capture));
        }
    }
}
