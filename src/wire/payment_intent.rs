//! A payment in the shape of Stripe's payment intent.
//!
//! It belongs to its session: it cannot be confirmed or cancelled by itself while the session is
//! open, and its status follows the newest charge.

use serde::Serialize;
use utoipa::ToSchema;

use super::charge::Charge;
use super::unfilled::UnfilledOfPaymentIntent;
use super::{Expandable, Null};
use crate::domain::id::ReviewId;
use crate::domain::payment::{self, Payment, PaymentStatus};
use crate::domain::payment_method::FutureUsage;
use crate::domain::session::Metadata;

/// A payment intent.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct PaymentIntent {
    /// `pi_…`
    pub id: String,
    /// Always `payment_intent`.
    pub object: &'static str,
    /// Minor units.
    pub amount: i64,
    /// Minor units that can still be captured.
    pub amount_capturable: i64,
    /// Minor units taken.
    pub amount_received: i64,
    /// Unix seconds.
    pub canceled_at: Option<i64>,
    /// Why it was given up.
    pub cancellation_reason: Option<String>,
    /// `automatic` or `manual`.
    pub capture_method: &'static str,
    /// Always null: payers act on the hosted page.
    pub client_secret: Option<String>,
    /// Always `automatic`.
    pub confirmation_method: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Who pays, where the merchant keeps customers.
    pub customer: Option<String>,
    /// The merchant's description.
    pub description: Option<String>,
    /// Why the newest charge failed.
    pub last_payment_error: Option<LastPaymentError>,
    /// The newest charge: id, or the object with `expand`.
    pub latest_charge: Option<Expandable<Charge>>,
    /// Mode.
    pub livemode: bool,
    /// The payment's own metadata.
    pub metadata: Metadata,
    /// What the payer has to do: prove to his bank that it is he.
    pub next_action: Option<NextAction>,
    /// The stored payment method of the newest charge.
    pub payment_method: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub payment_method_options: Null,
    /// Always `["card"]`.
    pub payment_method_types: Vec<&'static str>,
    /// Where a receipt goes.
    pub receipt_email: Option<String>,
    /// The review of the newest charge, if a rule asked for one.
    pub review: Option<String>,
    /// What the card is kept for, as the session asked: `on_session` or `off_session`.
    pub setup_future_usage: Option<&'static str>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shipping: Null,
    /// What the card statement shall say.
    pub statement_descriptor: Option<String>,
    /// The end of what the card statement shall say.
    pub statement_descriptor_suffix: Option<String>,
    /// `requires_payment_method`, `requires_action`, `processing`, `requires_capture`, `succeeded` or `canceled`.
    pub status: &'static str,
    /// Keys that are never filled.
    #[serde(flatten)]
    pub unfilled: UnfilledOfPaymentIntent,
}

/// What the payer has to do.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct NextAction {
    /// Always `redirect_to_url`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where to send him.
    pub redirect_to_url: RedirectToUrl,
}

/// Where to send the payer.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct RedirectToUrl {
    /// The bank's page.
    pub url: Option<String>,
    /// Always null: the way back is the gateway's own.
    pub return_url: Option<String>,
}

/// Why the newest charge failed.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct LastPaymentError {
    /// Always `card_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Stripe's code.
    pub code: String,
    /// Stripe's decline code.
    pub decline_code: Option<String>,
    /// For the merchant.
    pub message: String,
    /// The failed charge.
    pub charge: String,
}

impl PaymentIntent {
    /// The payment with its status and newest charge.
    pub fn new(payment: &Payment, latest: Option<&payment::Charge>, expand_charge: bool) -> Self {
        let last_payment_error = latest.and_then(|charge| match &charge.state {
            payment::ChargeState::Failed(failure) => Some(LastPaymentError {
                kind: "card_error",
                code: failure.code.clone(),
                decline_code: failure.decline_code.clone(),
                message: failure.message.clone(),
                charge: charge.id.to_string(),
            }),
            _ => None,
        });
        let next_action = latest.and_then(|charge| match &charge.state {
            payment::ChargeState::RequiresAction { url } => Some(NextAction {
                kind: "redirect_to_url",
                redirect_to_url: RedirectToUrl { url: Some(url.clone()), return_url: None },
            }),
            _ => None,
        });
        Self {
            id: payment.id.to_string(),
            object: "payment_intent",
            amount: payment.total.minor,
            amount_capturable: if payment.status == PaymentStatus::RequiresCapture { payment.total.minor } else { 0 },
            amount_received: payment.amount_received,
            canceled_at: payment.cancellation.as_ref().map(|cancellation| cancellation.at.timestamp()),
            cancellation_reason: payment.cancellation.as_ref().and_then(|cancellation| cancellation.reason.clone()),
            capture_method: payment.capture_method.as_str(),
            client_secret: None,
            confirmation_method: "automatic",
            created: payment.created_at.timestamp(),
            currency: payment.total.currency.code().to_owned(),
            customer: payment.customer_id.as_ref().map(ToString::to_string),
            description: payment.description.clone(),
            last_payment_error,
            latest_charge: latest.map(|charge| {
                if expand_charge {
                    Expandable::Object(Box::new(Charge::new(charge)))
                } else {
                    Expandable::Id(charge.id.to_string())
                }
            }),
            livemode: payment.livemode,
            metadata: payment.metadata.clone(),
            next_action,
            payment_method: latest.map(|charge| charge.payment_method.to_string()),
            payment_method_options: None,
            payment_method_types: vec!["card"],
            receipt_email: payment.receipt_email.clone(),
            review: latest.and_then(|charge| charge.assessment.as_ref()?.review.as_ref()).map(ReviewId::to_string),
            setup_future_usage: payment.setup_future_usage.map(FutureUsage::as_str),
            shipping: None,
            statement_descriptor: payment.statement_descriptor.clone(),
            statement_descriptor_suffix: payment.statement_descriptor_suffix.clone(),
            status: payment.status.as_str(),
            unfilled: UnfilledOfPaymentIntent::default(),
        }
    }
}
