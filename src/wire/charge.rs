//! One attempt to take money, in the shape of Stripe's charge.
//!
//! Failed attempts are charges too, so that a merchant sees every try. Of the card it shows brand,
//! last four digits, expiry and fingerprint, never more.

use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Address;
use super::unfilled::{
    UnfilledOfBillingDetails, UnfilledOfCard, UnfilledOfCharge, UnfilledOfOutcome, UnfilledOfThreeDSecure,
};
use crate::domain::billing;
use crate::domain::card::CardFunding;
use crate::domain::charge_facts::{AuthenticationFlow, CardChecks, CheckResult, RiskLevel};
use crate::domain::fraud::{Action, Assessment, Stage};
use crate::domain::id::ReviewId;
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
    /// Minor units given back of what was taken; what was reserved and let go is not among them.
    pub amount_refunded: i64,
    /// What its payer said of himself.
    pub billing_details: BillingDetails,
    /// Whether the money was taken.
    pub captured: bool,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Who paid, where the merchant keeps customers.
    pub customer: Option<String>,
    /// Whether its payer ever disputed it at his bank.
    pub disputed: bool,
    /// Stripe's error code of a failed charge.
    pub failure_code: Option<String>,
    /// For the merchant.
    pub failure_message: Option<String>,
    /// Mode.
    pub livemode: bool,
    /// Always empty.
    pub metadata: Metadata,
    /// What the network and the fraud rules made of it.
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
    /// Minor units that the provider keeps of what was taken, where it says so.
    pub provider_fee: Option<i64>,
    /// Whether all of it was given back; a reservation that was let go counts, as at Stripe.
    pub refunded: bool,
    /// The review that the merchant decides, if a rule asked for one.
    pub review: Option<String>,
    /// `succeeded`, `pending` or `failed`.
    pub status: &'static str,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfCharge,
}

/// Billing details.
#[derive(Serialize, ToSchema, Debug, Clone, Default)]
pub struct BillingDetails {
    /// Where the bill goes; null where he was not asked.
    pub address: Option<Address>,
    /// E-mail address.
    pub email: Option<String>,
    /// The name on the card.
    pub name: Option<String>,
    /// Always null.
    pub phone: Option<String>,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfBillingDetails,
}

/// What the network and the fraud rules made of a charge.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Outcome {
    /// `approved_by_network`, `declined_by_network`, `not_sent_to_network`, or `reversed_after_approval`.
    pub network_status: &'static str,
    /// The decline code; `rule` where a fraud rule decided, `highest_risk_level` or `elevated_risk_level` where
    /// the provider's opinion did.
    pub reason: Option<String>,
    /// `normal`, `elevated` or `highest`, where anybody has an opinion.
    pub risk_level: Option<String>,
    /// The name of the fraud rule that decided.
    pub rule: Option<String>,
    /// What the rule asks for, where something stricter was done in its place: `review`, for a payment into an escrow.
    pub rule_stricter_than: Option<&'static str>,
    /// For the merchant.
    pub seller_message: String,
    /// `authorized`, `issuer_declined`, `manual_review` or `blocked`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfOutcome,
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
    /// What came of the checks that the provider made.
    pub checks: Option<Checks>,
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
    /// What came of the authentication, when the payer's bank was asked.
    pub three_d_secure: Option<ThreeDSecure>,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfCard,
}

/// What came of the checks that the provider made.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Checks {
    /// `pass`, `fail`, `unavailable` or `unchecked`.
    pub address_line1_check: Option<&'static str>,
    /// The same for the postal code.
    pub address_postal_code_check: Option<&'static str>,
    /// The same for the CVC.
    pub cvc_check: Option<&'static str>,
}

/// What came of the authentication.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct ThreeDSecure {
    /// `challenge` or `frictionless`.
    pub authentication_flow: Option<&'static str>,
    /// `authenticated`, `attempt_acknowledged`, `not_supported`, `failed` or `processing_error`.
    pub result: &'static str,
    /// Always null.
    pub result_reason: Option<String>,
    /// The protocol's version.
    pub version: Option<String>,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfThreeDSecure,
}

impl Outcome {
    /// What the network and the fraud rules made of a charge; `None` while nobody has decided.
    fn new(charge: &payment::Charge) -> Option<Self> {
        let provider_risk = charge.facts.risk;
        let assessment = charge.assessment.as_ref();
        let risk = assessment.map(|assessment| assessment.risk(provider_risk)).or(provider_risk);
        let rule_reason = assessment.map(|assessment| match (assessment.stage, provider_risk) {
            (Stage::Answer, Some(RiskLevel::Highest)) => "highest_risk_level",
            (Stage::Answer, Some(RiskLevel::Elevated)) => "elevated_risk_level",
            _ => "rule",
        });
        let rule = assessment.map(|assessment| assessment.rule.clone());
        let risk_level = risk.map(|risk| risk.word().to_owned());
        let action = assessment.map(|assessment| assessment.action);
        let rule_stricter_than = assessment.and_then(|assessment| assessment.instead_of).map(Action::word);
        let failure = match &charge.state {
            ChargeState::Pending | ChargeState::RequiresAction { .. } => return None,
            ChargeState::Failed(failure) => failure,
            ChargeState::Authorized | ChargeState::Succeeded | ChargeState::Reversed => {
                let message = assessment.map(Assessment::merchant_message);
                return Some(Self {
                    network_status: "approved_by_network",
                    reason: rule_reason.map(str::to_owned),
                    risk_level,
                    rule,
                    rule_stricter_than,
                    seller_message: message.unwrap_or_else(|| "Payment complete.".to_owned()),
                    kind: if action == Some(Action::Review) { "manual_review" } else { "authorized" },
                    unfilled: UnfilledOfOutcome::default(),
                });
            }
        };
        let seller_message = failure.message.clone();
        if action == Some(Action::Block) {
            let sent = assessment.is_some_and(|assessment| assessment.stage == Stage::Answer);
            return Some(Self {
                network_status: if sent { "reversed_after_approval" } else { "not_sent_to_network" },
                reason: rule_reason.map(str::to_owned),
                risk_level,
                rule,
                rule_stricter_than,
                seller_message,
                kind: "blocked",
                unfilled: UnfilledOfOutcome::default(),
            });
        }
        let decline_code = failure.decline_code.clone().unwrap_or_else(|| failure.code.clone());
        // The provider itself refused it for its risk and asked no bank.
        let by_provider = decline_code == "fraudulent" && provider_risk == Some(RiskLevel::Highest);
        Some(Self {
            network_status: if by_provider { "not_sent_to_network" } else { "declined_by_network" },
            reason: Some(if by_provider { "highest_risk_level".to_owned() } else { decline_code }),
            risk_level,
            rule,
            rule_stricter_than,
            seller_message,
            kind: if by_provider { "blocked" } else { "issuer_declined" },
            unfilled: UnfilledOfOutcome::default(),
        })
    }
}

impl BillingDetails {
    fn new(billing: &billing::BillingDetails) -> Self {
        let address = billing.address.as_ref().map(Address::from);
        Self { address, email: billing.email.clone(), name: billing.name.clone(), ..Self::default() }
    }
}

impl Charge {
    /// The charge as it stands.
    pub fn new(charge: &payment::Charge) -> Self {
        let approved = matches!(charge.state, ChargeState::Authorized | ChargeState::Succeeded | ChargeState::Reversed);
        let facts = &charge.facts;
        let failure = match &charge.state {
            ChargeState::Failed(failure) => Some(failure),
            _ => None,
        };
        Self {
            id: charge.id.to_string(),
            object: "charge",
            amount: charge.total.minor,
            amount_captured: charge.amount_captured,
            amount_refunded: charge.amount_refunded,
            billing_details: BillingDetails::new(&charge.billing),
            captured: charge.amount_captured > 0,
            created: charge.created_at.timestamp(),
            currency: charge.total.currency.code().to_owned(),
            customer: charge.customer_id.as_ref().map(ToString::to_string),
            disputed: charge.disputed,
            failure_code: failure.map(|failure| failure.code.clone()),
            failure_message: failure.map(|failure| failure.message.clone()),
            livemode: charge.livemode,
            metadata: Metadata::new(),
            outcome: Outcome::new(charge),
            paid: approved,
            payment_intent: charge.payment_id.to_string(),
            payment_method: charge.payment_method.to_string(),
            payment_method_details: PaymentMethodDetails {
                kind: "card",
                card: Card {
                    brand: charge.card.brand.code().to_owned(),
                    checks: (facts.checks != CardChecks::default()).then(|| Checks {
                        address_line1_check: facts.checks.address_line1.map(CheckResult::word),
                        address_postal_code_check: facts.checks.postal_code.map(CheckResult::word),
                        cvc_check: facts.checks.cvc.map(CheckResult::word),
                    }),
                    country: charge.card.country.clone(),
                    exp_month: i16::from(charge.card.exp_month),
                    exp_year: i16::try_from(charge.card.exp_year).unwrap_or(0),
                    fingerprint: charge.card.fingerprint.clone(),
                    funding: charge.card.funding.map_or("unknown", CardFunding::code).to_owned(),
                    last4: charge.card.last4.clone(),
                    network: facts.network.clone(),
                    three_d_secure: facts.three_d_secure.as_ref().map(|secure| ThreeDSecure {
                        authentication_flow: secure.flow.map(AuthenticationFlow::word),
                        result: secure.result.word(),
                        result_reason: None,
                        version: secure.version.clone(),
                        unfilled: UnfilledOfThreeDSecure::default(),
                    }),
                    unfilled: UnfilledOfCard::default(),
                },
            },
            receipt_email: None,
            receipt_url: None,
            provider_fee: charge.fee,
            refunded: (charge.state == ChargeState::Reversed && charge.under_way.is_none())
                || (charge.amount_captured > 0 && charge.amount_refunded == charge.amount_captured),
            review: charge.assessment.as_ref().and_then(|found| found.review.as_ref()).map(ReviewId::to_string),
            status: match charge.state {
                ChargeState::Pending | ChargeState::RequiresAction { .. } => "pending",
                ChargeState::Authorized | ChargeState::Succeeded | ChargeState::Reversed => "succeeded",
                ChargeState::Failed(_) => "failed",
            },
            unfilled: UnfilledOfCharge::default(),
        }
    }
}
