//! What a merchant may say of kept cards when a checkout session is made.
//!
//! The rule: a card is kept for a customer, so whoever asks to keep or offer cards names one, or has
//! one made. Parameters and defaults are Stripe's.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::payment_method::{AllowRedisplay, FutureUsage, SavedCardOptions};
use crate::error::{Error, Result};

/// What the card is kept for once it was charged.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SetupFutureUsage {
    /// For payments with the payer at the page.
    OnSession,
    /// Also for payments without him.
    OffSession,
}

/// Whether a paid session makes a customer.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CustomerCreation {
    /// Yes.
    Always,
    /// Only where it cannot be done without, which is never.
    IfRequired,
}

/// On or off.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum EnabledOrDisabled {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

/// A parameter that can only be off.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnlyDisabled {
    /// Off.
    Disabled,
}

/// Whether a kept card may be shown to its payer.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AllowRedisplayParam {
    /// Always: the payer agreed to it.
    Always,
    /// Where the merchant asks for it.
    Limited,
    /// Nobody has said.
    Unspecified,
}

impl From<AllowRedisplayParam> for AllowRedisplay {
    fn from(param: AllowRedisplayParam) -> Self {
        match param {
            AllowRedisplayParam::Always => Self::Always,
            AllowRedisplayParam::Limited => Self::Limited,
            AllowRedisplayParam::Unspecified => Self::Unspecified,
        }
    }
}

/// Which kept cards are offered, and whether the payer is asked to keep his.
#[derive(Deserialize, ToSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`payment_method_remove` only has to decode: it can only be off")]
pub struct SavedPaymentMethodOptions {
    /// Which kept cards are offered, by their `allow_redisplay`; `always` unless given.
    pub allow_redisplay_filters: Option<Vec<AllowRedisplayParam>>,
    /// Whether the payer is asked if his card shall be kept.
    pub payment_method_save: Option<EnabledOrDisabled>,
    /// Only `disabled`: payers do not remove cards on the page.
    pub payment_method_remove: Option<OnlyDisabled>,
}

/// For whom a session is made, as far as its parameters say.
pub struct ForWhom<'a> {
    /// `customer`
    pub customer: Option<&'a str>,
    /// `customer_email`
    pub customer_email: Option<&'a str>,
    /// `customer_creation`
    pub creation: Option<CustomerCreation>,
}

impl ForWhom<'_> {
    /// Checks that a session is for one customer at most.
    ///
    /// # Errors
    /// `Invalid` with the second of two that exclude each other.
    pub fn check(&self) -> Result<()> {
        let other = match (self.customer, self.customer_email, self.creation) {
            (Some(_), Some(_), _) => "customer_email",
            (Some(_), _, Some(CustomerCreation::Always)) => "customer_creation",
            _ => return Ok(()),
        };
        let message = format!("You may only specify one of these parameters: customer, {other}.");
        Err(Error::invalid("parameters_exclusive", other, message))
    }

    /// What the session does with kept cards.
    ///
    /// # Errors
    /// `Invalid` where it would keep or offer cards for nobody.
    pub fn saved_cards(
        &self,
        usage: Option<SetupFutureUsage>,
        options: Option<SavedPaymentMethodOptions>,
    ) -> Result<SavedCardOptions> {
        let filters = options.as_ref().and_then(|options| options.allow_redisplay_filters.clone());
        let saved_cards = SavedCardOptions {
            future_usage: usage.map(|usage| match usage {
                SetupFutureUsage::OnSession => FutureUsage::OnSession,
                SetupFutureUsage::OffSession => FutureUsage::OffSession,
            }),
            offer_to_save: options.and_then(|options| options.payment_method_save) == Some(EnabledOrDisabled::Enabled),
            redisplay: filters.map(|filters| filters.into_iter().map(AllowRedisplay::from).collect()),
        };
        let keeps = saved_cards.future_usage.is_some() || saved_cards.offer_to_save;
        let makes_one = self.creation == Some(CustomerCreation::Always);
        if self.customer.is_none() && (saved_cards.redisplay.is_some() || (keeps && !makes_one)) {
            let message = if keeps {
                "A card is kept for a customer: send `customer`, or `customer_creation=always`."
            } else {
                "Saved cards are a customer's: send `customer`."
            };
            return Err(Error::invalid("parameter_missing", "customer", message));
        }
        Ok(saved_cards)
    }
}
