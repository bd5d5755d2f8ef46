//! Those who move money, behind one trait; they know cards and money, and none of our tables.
//!
//! Rule: *declined* (certainly nothing was taken) and *unknown* (nobody can say) are never mixed
//! up, and a word that a provider says and we do not know is *pending*. Our charge id is the
//! provider's idempotency key. When to ask again, void or refund is decided by the operations.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::card::{CardFunding, DeclineReason};
use crate::domain::money::Money;
use crate::vault::VaultToken;

pub mod simulator;
pub mod simulator_cards;
pub mod simulator_faults;
mod simulator_ledger;

/// How long a caller waits for [`Provider::charge`] before it treats the outcome as unknown. The
/// caller applies it: banks answer within seconds, and a payer does not look at a turning wheel
/// for longer.
pub const CHARGE_TIMEOUT: Duration = Duration::from_secs(20);

/// One company that can take money from a card and give it back.
///
/// Every call may be repeated. None returns an error: what goes wrong is part of the answer,
/// because the caller must do something different for each kind of wrong.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name under which charges remember their provider. Never changes.
    fn name(&self) -> &'static str;

    /// What this provider can do.
    fn capabilities(&self) -> Capabilities;

    /// What the provider knows of the issuer of cards that begin with these six digits.
    fn issuer_facts(&self, _bin: &str) -> IssuerFacts {
        IssuerFacts::default()
    }

    /// Takes the money. The same charge id twice gives the first result and takes nothing. The card
    /// leaves the vault at once and is wiped when the call ends, however it ends.
    async fn charge(&self, request: ChargeRequest) -> Report;

    /// Asks what became of a charge.
    async fn look_up(&self, charge_id: &str) -> LookUp;

    /// Makes sure that no money is held for a charge, whether it was made, is on its way, or was
    /// never made: a charge that arrives after its void is refused.
    async fn void(&self, charge_id: &str) -> Reversal;

    /// Gives money back for a charge that was made. The same refund id twice gives the first
    /// result and returns nothing more.
    async fn refund(&self, request: RefundRequest) -> Reversal;
}

/// What a provider can do, as data, so that nobody has to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Moves real money.
    pub livemode: bool,
    /// Plays with test cards.
    pub testmode: bool,
    /// A void that comes before its charge keeps that charge from happening.
    pub void_in_advance: bool,
    /// Refunds of less than the whole.
    pub partial_refund: bool,
    /// Hours for which the provider remembers a charge id as idempotency key; after that a charge
    /// may only be looked up. `None` means for ever.
    pub idempotency_hours_max: Option<u32>,
}

/// What is known of a card's issuer; empty where the provider does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Credit, debit or prepaid.
    pub funding: Option<CardFunding>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
}

/// A charge to be made.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// Our id of the charge (`ch_…`), and the provider's idempotency key.
    pub charge_id: String,
    /// How much, in minor units; above zero.
    pub money: Money,
    /// Opens the vault.
    pub token: VaultToken,
    /// For the payer's statement and the merchant's overview at the provider.
    pub description: Option<String>,
    /// Whether real money is meant.
    pub livemode: bool,
}

/// Money to be given back.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Our id of the refund (`re_…`), and the provider's idempotency key.
    pub refund_id: String,
    /// The charge to give back from.
    pub charge_id: String,
    /// How much; at most what was charged and not yet given back.
    pub money: Money,
}

/// What became of a charge, as far as the provider says. `reference` is the provider's own id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Report {
    /// The money was taken.
    Succeeded {
        /// The provider's id.
        reference: String,
    },
    /// The money was certainly not taken, and will not be.
    Declined {
        /// Why.
        reason: DeclineReason,
        /// The provider's id, where the attempt got one.
        reference: Option<String>,
    },
    /// The charge was voided or wholly refunded, or refused because its void came first: the
    /// provider holds no money for it, and will not.
    Reversed {
        /// The provider's id.
        reference: String,
    },
    /// The provider has it and has not decided, or said a word that we do not know. Ask again.
    Pending {
        /// The provider's id, where it gave one.
        reference: Option<String>,
    },
    /// Timed out, cut off, or a failure of the provider's server: the money may have been taken.
    /// Only a look-up can tell; never charge under another id instead.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

/// The answer to a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum LookUp {
    /// The provider knows the charge.
    Found(Report),
    /// The provider does not know it *now*. A request may still be on its way: only a void makes
    /// this final.
    NotFound,
    /// The provider did not answer; the cause is in the log.
    Unknown,
}

/// What became of a void or a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reversal {
    /// The money went back.
    Done {
        /// The provider's id of the reversal or of the charge.
        reference: String,
    },
    /// No money moved, because the provider holds none for this charge, or less than was asked for.
    NothingToReverse,
    /// Nobody can say whether it happened. Repeat it.
    Unknown {
        /// What happened, for the log.
        detail: String,
    },
}

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
    use super::*;

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
                partial_refund: false,
                idempotency_hours_max: Some(24),
            }
        }
        async fn charge(&self, _: ChargeRequest) -> Report {
            Report::Pending { reference: None }
        }
        async fn look_up(&self, _: &str) -> LookUp {
            LookUp::Unknown
        }
        async fn void(&self, _: &str) -> Reversal {
            Reversal::NothingToReverse
        }
        async fn refund(&self, _: RefundRequest) -> Reversal {
            Reversal::NothingToReverse
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
