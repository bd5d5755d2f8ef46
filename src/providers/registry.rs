//! The providers of an installation, found by name or by mode.
//!
//! Rule: a charge remembers its provider by name, so a name means one provider for ever. Which of
//! several gets a new charge is decided by the operations.

use std::sync::Arc;

use super::Provider;

/// The providers of this installation.
#[derive(Clone, Default)]
pub struct Registry {
    providers: Vec<Arc<dyn Provider>>,
}

/// Two providers claim one name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("two providers are called `{0}`; charges could not tell them apart")]
pub struct DuplicateProvider(pub &'static str);

impl Registry {
    /// The providers in order of preference.
    ///
    /// # Errors
    /// [`DuplicateProvider`] when two share a name.
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> Result<Registry, DuplicateProvider> {
        let mut registry = Registry::default();
        for provider in providers {
            if registry.by_name(provider.name()).is_some() {
                return Err(DuplicateProvider(provider.name()));
            }
            registry.providers.push(provider);
        }
        Ok(registry)
    }

    /// The provider that a stored charge names.
    pub fn by_name(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    /// The provider for new charges in a mode; `None` when that mode has none.
    pub fn for_mode(&self, livemode: bool) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| {
            let capabilities = provider.capabilities();
            if livemode { capabilities.livemode } else { capabilities.testmode }
        })
    }
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
        let found = |provider: Option<&Arc<dyn Provider>>| provider.map(|provider| provider.name());
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
        assert_eq!(refused, Some(DuplicateProvider("toy")));
    }
}
