//! A checkout session as its payer may see it, for a merchant's own page.
//!
//! The rule: it shows what the hosted page shows and nothing more. The merchant's own data (metadata,
//! references, ids of payment and charges, the reasons of a bank that are not for payers) is not in
//! it, because whoever holds the payer's link reads it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::checkout_session::TotalDetails;
use crate::domain::billing::AddressCollection;
use crate::domain::decline::DeclineReason;
use crate::domain::payment::{Charge, ChargeFailure, ChargeState};
use crate::domain::redirect::WayBack;
use crate::domain::session::{Session, State, TRIES_MAX};

/// A checkout session as its payer may see it.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerSession {
    /// `cs_test_…` or `cs_live_…`
    pub id: String,
    /// Always `checkout.payer_session`.
    pub object: &'static str,
    /// Whether card numbers are taken here. Where not, send the payer to `url`.
    pub accepts_card_data: bool,
    /// Minor units, before discounts, shipping and tax.
    pub amount_subtotal: i64,
    /// Minor units: what the payer pays.
    pub amount_total: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// The address that the merchant knows; the payer cannot change it.
    pub customer_email: Option<String>,
    /// Whether `billing_details[address]` must be sent: `auto` or `required`.
    pub billing_address_collection: &'static str,
    /// What the payer typed at his last try. Null where he is a customer whose name and address the merchant keeps.
    pub customer_details: Option<PayerDetails>,
    /// The deadline, Unix seconds.
    pub expires_at: i64,
    /// Seconds left until then by the gateway's clock; 0 when it has passed.
    pub expires_in: i64,
    /// Why the last try failed, while another is possible or the last was used up.
    pub last_payment_error: Option<PayerPaymentError>,
    /// What is bought.
    pub line_items: Vec<PayerLineItem>,
    /// Whether real money moves.
    pub livemode: bool,
    /// The payer's language, as the merchant asked for it.
    pub locale: Option<String>,
    /// Who is paid.
    pub merchant: PayerMerchant,
    /// Always `payment`.
    pub mode: &'static str,
    /// What the payer has to do now beside paying: prove to his bank that it is he.
    pub next_action: Option<PayerNextAction>,
    /// Always `["card"]`.
    pub payment_method_types: Vec<&'static str>,
    /// `unpaid` or `paid`.
    pub payment_status: &'static str,
    /// The cards that are kept for the session's customer and may be offered to its payer, the one used last first.
    pub saved_payment_methods: Vec<PayerSavedCard>,
    /// Where to send the payer once the session has ended, with `session_id` and `status` in its query.
    pub redirect_url: Option<String>,
    /// The full lifecycle: `pending`, `processing`, `completed`, `expired`, `cancelled` or `failed`.
    pub state: &'static str,
    /// `open`, `complete` or `expired`.
    pub status: &'static str,
    /// The word on the pay button, as asked for.
    pub submit_type: Option<String>,
    /// What the total is made of beside the lines.
    pub total_details: TotalDetails,
    /// Tries left before the session fails.
    pub tries_left: u8,
    /// The hosted page; null once the session is not open.
    pub url: Option<String>,
}

/// Who is paid.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct PayerMerchant {
    /// The name that payers know.
    pub name: String,
    /// Where payers get help.
    pub support_email: Option<String>,
    /// `#rrggbb`
    pub accent_color: Option<String>,
}

/// What the payer typed.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerDetails {
    /// E-mail address.
    pub email: String,
    /// The name on the card.
    pub name: String,
}

/// A kept card, as far as whoever holds the link may see it.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerSavedCard {
    /// `pm_…`, for `payment_method`.
    pub id: String,
    /// Always `card`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The card.
    pub card: PayerCard,
    /// Whether its last month is over: it cannot be used any more.
    pub expired: bool,
    /// Whether a billing address goes with it already.
    pub has_billing_address: bool,
    /// Whether the security code must be typed again, for `payment_method_options[card][cvc]`.
    pub requires_cvc: bool,
}

/// What may be seen of a kept card.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerCard {
    /// `visa`, `mastercard`, …
    pub brand: &'static str,
    /// 1–12.
    pub exp_month: u8,
    /// Four digits.
    pub exp_year: u16,
    /// The last four digits.
    pub last4: String,
}

/// One line of what is bought.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerLineItem {
    /// `li_…`
    pub id: String,
    /// Always `item`.
    pub object: &'static str,
    /// Minor units.
    pub amount_subtotal: i64,
    /// Minor units, after discount and tax.
    pub amount_total: i64,
    /// The product's name.
    pub name: String,
    /// The product's description.
    pub description: Option<String>,
    /// Image URLs as the merchant gave them.
    pub images: Vec<String>,
    /// How many.
    pub quantity: i64,
    /// Minor units; null when the price has a fraction of one.
    pub unit_amount: Option<i64>,
    /// Minor units as a decimal string.
    pub unit_amount_decimal: String,
}

/// What the payer has to do.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerNextAction {
    /// Always `redirect_to_url`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where to send him.
    pub redirect_to_url: PayerRedirect,
}

/// Where to send the payer.
#[derive(Serialize, ToSchema, Debug)]
pub struct PayerRedirect {
    /// The bank's page.
    pub url: String,
    /// Where he comes back to afterwards; null: to the hosted page.
    pub return_url: Option<String>,
}

/// Why a try failed, as far as the payer may know.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct PayerPaymentError {
    /// Always `card_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Stripe's code.
    pub code: &'static str,
    /// Stripe's decline code. A card that was reported lost or stolen is `generic_decline` here.
    pub decline_code: Option<&'static str>,
    /// What to tell the payer.
    pub message: String,
}

impl PayerPaymentError {
    /// A failure with what is not for the payer left out. A reason that is not in our list is no
    /// reason to him.
    pub fn new(failure: &ChargeFailure) -> Self {
        let reason = DeclineReason::ALL
            .into_iter()
            .find(|reason| reason.code() == failure.code && reason.decline_code() == failure.decline_code.as_deref())
            .unwrap_or(DeclineReason::GenericDecline)
            .as_payer_sees();
        Self {
            kind: "card_error",
            code: reason.code(),
            decline_code: reason.decline_code(),
            message: failure.payer_message.clone(),
        }
    }
}

/// What the object is made from, read at one moment.
pub struct PayerFacts<'f> {
    /// The session.
    pub session: &'f Session,
    /// Who is paid.
    pub merchant: PayerMerchant,
    /// Its newest charge.
    pub latest: Option<&'f Charge>,
    /// Where that charge's payer comes back to.
    pub return_url: Option<&'f WayBack>,
    /// The hosted page.
    pub page_url: String,
    /// The kept cards that may be offered.
    pub saved_cards: Vec<PayerSavedCard>,
    /// Whether card numbers are taken.
    pub accepts_card_data: bool,
    /// The time.
    pub now: DateTime<Utc>,
}

impl PayerSession {
    /// The session as it stands. One whose deadline has passed unswept is shown as expired already.
    pub fn new(facts: PayerFacts<'_>) -> Self {
        let PayerFacts { session, merchant, latest, return_url, page_url, saved_cards, accepts_card_data, now } = facts;
        let is_overdue = session.state == State::Pending && now >= session.expires_at;
        let mut shown = session.clone();
        if is_overdue {
            shown.state = State::Expired(session.expires_at);
        }
        let state = shown.state.name();
        let last_payment_error = match (shown.state, latest.map(|charge| &charge.state)) {
            (State::Pending | State::Failed(_), Some(ChargeState::Failed(failure))) => {
                Some(PayerPaymentError::new(failure))
            }
            _ => None,
        };
        let next_action = match (shown.state, latest.map(|charge| &charge.state)) {
            (State::Processing, Some(ChargeState::RequiresAction { url })) => Some(PayerNextAction {
                kind: "redirect_to_url",
                redirect_to_url: PayerRedirect {
                    url: url.clone(),
                    return_url: return_url.map(|way| way.as_str().to_owned()),
                },
            }),
            _ => None,
        };
        let lines = session.lines.iter().map(|line| PayerLineItem {
            id: line.id.to_string(),
            object: "item",
            amount_subtotal: line.priced.amount_subtotal,
            amount_total: line.priced.amount_total,
            name: line.priced.name.clone(),
            description: line.priced.description.clone(),
            images: line.priced.images.clone(),
            quantity: line.priced.quantity,
            unit_amount: line.priced.unit_amount,
            unit_amount_decimal: line.priced.unit_amount_decimal.clone(),
        });
        Self {
            id: session.id.to_string(),
            object: "checkout.payer_session",
            accepts_card_data,
            amount_subtotal: session.subtotal_minor,
            amount_total: session.total.minor,
            billing_address_collection: session
                .options
                .billing_address_collection
                .unwrap_or(AddressCollection::Auto)
                .as_str(),
            currency: session.total.currency.code().to_owned(),
            // Whose session it is, is for himself to know: who has the token has not proven to be he.
            customer_email: session.customer_email.clone().filter(|_| session.target_user_email.is_none()),
            customer_details: session
                .payer
                .as_ref()
                // What a kept card brought with it was not typed, and the link may be in anybody's hands.
                .filter(|_| session.target_user_email.is_none() && !session.is_for_known_customer())
                .map(|payer| PayerDetails { email: payer.email.clone(), name: payer.name.clone() }),
            expires_at: session.expires_at.timestamp(),
            expires_in: (session.expires_at - now).num_seconds().max(0),
            last_payment_error,
            line_items: lines.collect(),
            livemode: session.livemode,
            locale: session.options.locale.clone(),
            merchant,
            mode: "payment",
            next_action,
            payment_method_types: vec!["card"],
            payment_status: if session.paid_at.is_some() { "paid" } else { "unpaid" },
            saved_payment_methods: saved_cards,
            redirect_url: shown.way_back().map(|(way, status)| way.for_outcome(&session.id, status)),
            state: state.as_str(),
            status: state.stripe_status(),
            submit_type: session.options.submit_type.clone(),
            total_details: TotalDetails {
                amount_discount: 0,
                amount_shipping: Some(0),
                amount_tax: 0,
                breakdown: None,
            },
            tries_left: if state.stripe_status() == "open" { TRIES_MAX.saturating_sub(session.tries) } else { 0 },
            url: (state.stripe_status() == "open").then_some(page_url),
        }
    }
}
