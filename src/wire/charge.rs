//! One attempt to take money, in the shape of Stripe's charge.
//!
//! Failed attempts are charges too, so that a merchant sees every try. Of the card it shows brand,
//! last four digits, expiry and fingerprint, never more.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;
use crate::domain::card::CardFunding;
use crate::domain::payment::{self, ChargeState};
use crate::domain::session::Metadata;

/// A charge.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Charge {
    /// `ch_…`
    pub id: String,
    /// Always `charge`.
    pub object: &'static str,
    /// Minor units asked for.
    pub amount: i64,
    /// Minor units taken.
    pub amount_captured: i64,
    /// Minor units given back.
    pub amount_refunded: i64,
    /// Billing details, as far as they are asked for.
    pub billing_details: BillingDetails,
    /// Whether the money was taken.
    pub captured: bool,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Always null.
    pub customer: Option<String>,
    /// Always false.
    pub disputed: bool,
    /// Stripe's error code of a failed charge.
    pub failure_code: Option<String>,
    /// For the merchant.
    pub failure_message: Option<String>,
    /// Mode.
    pub livemode: bool,
    /// Always empty.
    pub metadata: Metadata,
    /// What the network and our rules made of it.
    pub outcome: Option<Outcome>,
    /// Whether the charge succeeded.
    pub paid: bool,
    /// The payment that it tries.
    pub payment_intent: String,
    /// The stored payment method.
    pub payment_method: String,
    /// What may be known of the card.
    pub payment_method_details: PaymentMethodDetails,
    /// Always null.
    pub receipt_email: Option<String>,
    /// Always null.
    pub receipt_url: Option<String>,
    /// Whether all of it was given back.
    pub refunded: bool,
    /// `succeeded`, `pending` or `failed`.
    pub status: &'static str,
}

/// Billing details.
#[derive(Serialize, ToSchema, Debug, Clone, Default)]
pub struct BillingDetails {
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub address: Null,
    /// Always null.
    pub email: Option<String>,
    /// Always null.
    pub name: Option<String>,
    /// Always null.
    pub phone: Option<String>,
}

/// What the network made of a charge.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Outcome {
    /// `approved_by_network` or `declined_by_network`.
    pub network_status: &'static str,
    /// The decline code.
    pub reason: Option<String>,
    /// Always null.
    pub risk_level: Option<String>,
    /// For the merchant.
    pub seller_message: String,
    /// `authorized` or `issuer_declined`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// What a charge was paid with.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct PaymentMethodDetails {
    /// Always `card`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The card.
    pub card: Card,
}

/// What may be known of a card.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Card {
    /// `visa`, `mastercard`, …
    pub brand: String,
    /// Always null until a provider reports checks.
    #[schema(value_type = Option<Object>)]
    pub checks: Null,
    /// Two-letter country of the issuer, where the provider says so.
    pub country: Option<String>,
    /// 1–12.
    pub exp_month: i16,
    /// Four digits.
    pub exp_year: i16,
    /// Equal for equal numbers at this installation; says nothing about the number.
    pub fingerprint: String,
    /// `credit`, `debit`, `prepaid` or `unknown`.
    pub funding: String,
    /// The last four digits.
    pub last4: String,
    /// The network, where the provider says so.
    pub network: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub three_d_secure: Null,
}

impl Charge {
    /// The charge as it stands.
    pub fn new(charge: &payment::Charge) -> Self {
        let taken = matches!(charge.state, ChargeState::Succeeded | ChargeState::Reversed);
        let reversed = charge.state == ChargeState::Reversed;
        let failure = match &charge.state {
            ChargeState::Failed(failure) => Some(failure),
            _ => None,
        };
        let outcome = match (&charge.state, failure) {
            (ChargeState::Pending, _) => None,
            (_, Some(failure)) => Some(Outcome {
                network_status: "declined_by_network",
                reason: Some(failure.decline_code.clone().unwrap_or_else(|| failure.code.clone())),
                risk_level: None,
                seller_message: failure.message.clone(),
                kind: "issuer_declined",
            }),
            _ => Some(Outcome {
                network_status: "approved_by_network",
                reason: None,
                risk_level: None,
                seller_message: "Payment complete.".to_owned(),
                kind: "authorized",
            }),
        };
        Self {
            id: charge.id.to_string(),
            object: "charge",
            amount: charge.total.minor,
            amount_captured: if taken { charge.total.minor } else { 0 },
            amount_refunded: if reversed { charge.total.minor } else { 0 },
            billing_details: BillingDetails::default(),
            captured: taken,
            created: charge.created_at.timestamp(),
            currency: charge.total.currency.code().to_owned(),
            customer: None,
            disputed: false,
            failure_code: failure.map(|failure| failure.code.clone()),
            failure_message: failure.map(|failure| failure.message.clone()),
            livemode: charge.livemode,
            metadata: Metadata::new(),
            outcome,
            paid: taken,
            payment_intent: charge.payment_id.to_string(),
            payment_method: charge.payment_method.clone(),
            payment_method_details: PaymentMethodDetails {
                kind: "card",
                card: Card {
                    brand: charge.card.brand.code().to_owned(),
                    checks: None,
                    country: charge.card.country.clone(),
                    exp_month: i16::from(charge.card.exp_month),
                    exp_year: i16::try_from(charge.card.exp_year).unwrap_or(0),
                    fingerprint: charge.card.fingerprint.clone(),
                    funding: charge.card.funding.map_or("unknown", CardFunding::code).to_owned(),
                    last4: charge.card.last4.clone(),
                    network: None,
                    three_d_secure: None,
                },
            },
            receipt_email: None,
            receipt_url: None,
            refunded: reversed,
            status: match charge.state {
                ChargeState::Pending => "pending",
                ChargeState::Succeeded | ChargeState::Reversed => "succeeded",
                ChargeState::Failed(_) => "failed",
            },
        }
    }
}
