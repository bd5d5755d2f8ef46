//! A kept card in the shape of Stripe's payment method: brand, last four digits, expiry, fingerprint,
//! never more, and nothing that could be charged with.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use super::customer::Address;
use crate::domain::card::CardFunding;
use crate::domain::payment_method;
use crate::domain::session::Metadata;

/// A payment method.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct PaymentMethod {
    /// `pm_…`
    pub id: String,
    /// Always `payment_method`.
    pub object: &'static str,
    /// `always`, `limited` or `unspecified`: whether its payer may be shown it again.
    pub allow_redisplay: &'static str,
    /// What the payer said of himself when it was kept; null once it is detached.
    pub billing_details: BillingDetails,
    /// The card.
    pub card: KeptCard,
    /// When it was kept, Unix seconds.
    pub created: i64,
    /// For whom it is kept; null once it is detached.
    pub customer: Option<String>,
    /// Always null.
    pub customer_account: Option<String>,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Always `card`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// What the payer said of himself.
#[derive(Serialize, ToSchema, Debug, Clone)]
#[schema(as = PaymentMethodBillingDetails)]
pub struct BillingDetails {
    /// Where the bill went; all null where that was not asked.
    pub address: Address,
    /// E-mail address.
    pub email: Option<String>,
    /// The name on the card.
    pub name: Option<String>,
    /// Always null.
    pub phone: Option<String>,
    /// Always null.
    pub tax_id: Option<String>,
}

/// What may be known of a kept card.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct KeptCard {
    /// `visa`, `mastercard`, …
    pub brand: &'static str,
    /// Always null: checks belong to charges.
    #[schema(value_type = Option<Object>)]
    pub checks: Null,
    /// Two-letter country of the issuer, where the provider says so.
    pub country: Option<String>,
    /// The brand to show.
    pub display_brand: &'static str,
    /// 1–12.
    pub exp_month: u8,
    /// Four digits.
    pub exp_year: u16,
    /// Equal for equal numbers at this installation; says nothing about the number.
    pub fingerprint: String,
    /// `credit`, `debit`, `prepaid` or `unknown`.
    pub funding: &'static str,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub generated_from: Null,
    /// The last four digits.
    pub last4: String,
    /// The networks that it can be charged through.
    pub networks: Networks,
    /// Always null.
    pub regulated_status: Option<String>,
    /// Whether its bank can ask the payer.
    pub three_d_secure_usage: ThreeDSecureUsage,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub wallet: Null,
}

/// The networks of a card.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Networks {
    /// The card's brand.
    pub available: Vec<&'static str>,
    /// Always null.
    pub preferred: Option<String>,
}

/// Whether 3-D Secure is possible.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct ThreeDSecureUsage {
    /// Always true: only a charge finds out otherwise.
    pub supported: bool,
}

impl PaymentMethod {
    /// The card as it stands.
    pub fn new(method: &payment_method::PaymentMethod) -> Self {
        let brand = method.card.brand.code();
        Self {
            id: method.id.to_string(),
            object: "payment_method",
            allow_redisplay: method.allow_redisplay.as_str(),
            billing_details: BillingDetails {
                address: method.holder_address.as_ref().map(Address::from).unwrap_or_default(),
                email: method.holder_email.clone(),
                name: method.holder_name.clone(),
                phone: None,
                tax_id: None,
            },
            card: KeptCard {
                brand,
                checks: None,
                country: method.card.country.clone(),
                display_brand: brand,
                exp_month: method.card.exp_month,
                exp_year: method.card.exp_year,
                fingerprint: method.card.fingerprint.clone(),
                funding: method.card.funding.map_or("unknown", CardFunding::code),
                generated_from: None,
                last4: method.card.last4.clone(),
                networks: Networks { available: vec![brand], preferred: None },
                regulated_status: None,
                three_d_secure_usage: ThreeDSecureUsage { supported: true },
                wallet: None,
            },
            created: method.created_at.timestamp(),
            customer: method.customer_id.as_ref().map(ToString::to_string),
            customer_account: None,
            livemode: method.livemode,
            metadata: method.metadata.clone(),
            kind: "card",
        }
    }
}
