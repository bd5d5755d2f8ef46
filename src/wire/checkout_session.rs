//! The checkout session as merchants see it: Stripe's object with every key, and ours behind it.
//!
//! The rule: one shape for every API version. Keys of things that this gateway does not do are there
//! and null (or empty), so that unmodified SDKs and their users' code find what they look for.

use serde::Serialize;
use utoipa::ToSchema;

use super::customer::{Address, FoundCustomer};
use super::escrow::Escrow;
use super::line_item::LineItem;
use super::payment_intent::PaymentIntent;
use super::{Expand, Expandable, List, Null};
use crate::domain::session::{Metadata, Session};

/// A checkout session.
#[derive(Serialize, ToSchema, Debug)]
pub struct CheckoutSession {
    /// `cs_test_…` or `cs_live_…`
    pub id: String,
    /// Always `checkout.session`.
    pub object: &'static str,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub adaptive_pricing: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub after_expiration: Null,
    /// Always null.
    pub allow_promotion_codes: Option<bool>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub allowed_payment_method_types: Null,
    /// Minor units, before discounts, shipping and tax.
    pub amount_subtotal: Option<i64>,
    /// Minor units: what the payer pays.
    pub amount_total: Option<i64>,
    /// Always off.
    pub automatic_tax: AutomaticTax,
    /// `auto` or `required`, as asked for.
    pub billing_address_collection: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub branding_settings: Null,
    /// Where a payer who gives up is sent.
    pub cancel_url: Option<String>,
    /// The merchant's own reference.
    pub client_reference_id: Option<String>,
    /// Always null.
    pub client_secret: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub collected_information: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub consent: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub consent_collection: Null,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub currency_conversion: Null,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub custom_fields: Vec<serde_json::Value>,
    /// All null.
    pub custom_text: CustomText,
    /// Whose session it is: named when it was made, or made when it was paid.
    pub customer: Option<Expandable<FoundCustomer>>,
    /// Always null.
    pub customer_account: Option<String>,
    /// As asked for, or `if_required`.
    pub customer_creation: Option<String>,
    /// What is known of the payer; null until something is.
    pub customer_details: Option<CustomerDetails>,
    /// The address that the merchant gave.
    pub customer_email: Option<String>,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub discounts: Vec<serde_json::Value>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub excluded_payment_method_types: Null,
    /// The deadline, Unix seconds.
    pub expires_at: i64,
    /// Always null.
    pub integration_identifier: Option<String>,
    /// Always null.
    pub invoice: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub invoice_creation: Null,
    /// Only with `expand[]=line_items`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_items: Option<List<LineItem>>,
    /// Mode.
    pub livemode: bool,
    /// The payer's language, as asked for.
    pub locale: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub managed_payments: Null,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Always `payment`.
    pub mode: &'static str,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub name_collection: Null,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub optional_items: Vec<serde_json::Value>,
    /// Always null.
    pub origin_context: Option<String>,
    /// The payment, once the payer has tried to pay.
    pub payment_intent: Option<Expandable<PaymentIntent>>,
    /// Always null.
    pub payment_link: Option<String>,
    /// Always `if_required`.
    pub payment_method_collection: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub payment_method_configuration_details: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub payment_method_options: Null,
    /// Always `["card"]`.
    pub payment_method_types: Vec<&'static str>,
    /// `unpaid` or `paid`.
    pub payment_status: &'static str,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub permissions: Null,
    /// Always off.
    pub phone_number_collection: PhoneNumberCollection,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub presentment_details: Null,
    /// Always null.
    pub recovered_from: Option<String>,
    /// Always null.
    pub redirect_on_completion: Option<String>,
    /// Where the payer goes when the outcome has no URL of its own.
    pub return_url: Option<String>,
    /// Which kept cards are offered, and whether the payer is asked to keep his; null unless there is a customer
    /// or was asked for.
    pub saved_payment_method_options: Option<SavedPaymentMethodOptions>,
    /// Always null.
    pub setup_intent: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shipping_address_collection: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shipping_cost: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shipping_details: Null,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub shipping_options: Vec<serde_json::Value>,
    /// `open`, `complete` or `expired`: Stripe's view of `state`.
    pub status: &'static str,
    /// The word on the pay button, as asked for.
    pub submit_type: Option<String>,
    /// Always null.
    pub subscription: Option<String>,
    /// Where a payer who paid is sent.
    pub success_url: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub tax_id_collection: Null,
    /// What the total is made of beside the lines.
    pub total_details: TotalDetails,
    /// As asked for.
    pub ui_mode: String,
    /// The hosted page; null once the session is not open, and in events.
    pub url: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub wallet_options: Null,
    /// The act of the escrow; null for payments.
    pub action: Option<&'static str>,
    /// The escrow; null for payments.
    #[schema(value_type = Option<Object>)]
    pub escrow: Option<Expandable<Escrow>>,
    /// The full lifecycle: `pending`, `processing`, `completed`, `expired`, `cancelled` or `failed`.
    pub state: &'static str,
    /// The one person who may act, after a code by mail has proven that he is it; null for whoever has the link.
    pub target_user_email: Option<String>,
    /// Where the payer goes after the deadline.
    pub expired_url: Option<String>,
    /// Where the payer goes after the last failed try.
    pub failed_url: Option<String>,
    /// When a browser first showed the page, Unix seconds.
    pub opened_at: Option<i64>,
    /// When it was completed, Unix seconds.
    pub completed_at: Option<i64>,
    /// When it ended in any way, Unix seconds.
    pub ended_at: Option<i64>,
}

/// Whether tax is computed.
#[derive(Serialize, ToSchema, Debug)]
pub struct AutomaticTax {
    /// Always false.
    pub enabled: bool,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub liability: Null,
    /// Always null.
    pub provider: Option<String>,
    /// Always null.
    pub status: Option<String>,
}

/// Texts of the merchant's own.
#[derive(Serialize, ToSchema, Debug, Default)]
pub struct CustomText {
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub after_submit: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shipping_address: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub submit: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub terms_of_service_acceptance: Null,
}

/// What is known of the payer.
#[derive(Serialize, ToSchema, Debug)]
pub struct CustomerDetails {
    /// The billing address, if the payer was asked for it.
    pub address: Option<Address>,
    /// Always null.
    pub business_name: Option<String>,
    /// As typed by the payer, or as given by the merchant before that.
    pub email: Option<String>,
    /// Always null.
    pub individual_name: Option<String>,
    /// The name on the card.
    pub name: Option<String>,
    /// Always null.
    pub phone: Option<String>,
    /// Always `none`.
    pub tax_exempt: Option<&'static str>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub tax_ids: Null,
}

/// Whether a phone number is asked for.
#[derive(Serialize, ToSchema, Debug)]
pub struct PhoneNumberCollection {
    /// Always false.
    pub enabled: bool,
}

/// What the total is made of beside the lines.
#[derive(Serialize, ToSchema, Debug)]
pub struct TotalDetails {
    /// Minor units.
    pub amount_discount: i64,
    /// Minor units.
    pub amount_shipping: Option<i64>,
    /// Minor units.
    pub amount_tax: i64,
    /// Only with `expand[]=total_details.breakdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
}

/// What a session says of kept cards.
#[derive(Serialize, ToSchema, Debug)]
#[schema(as = CheckoutSessionSavedPaymentMethodOptions)]
pub struct SavedPaymentMethodOptions {
    /// Which are offered, by their `allow_redisplay`; null for the default, `always`.
    pub allow_redisplay_filters: Option<Vec<&'static str>>,
    /// Always `disabled`.
    pub payment_method_remove: Option<&'static str>,
    /// `enabled` or `disabled`.
    pub payment_method_save: Option<&'static str>,
}

impl SavedPaymentMethodOptions {
    fn of(session: &Session) -> Option<Self> {
        let options = &session.options.saved_cards;
        let is_about_any = session.customer_id.is_some() || options.offer_to_save || options.redisplay.is_some();
        is_about_any.then(|| Self {
            allow_redisplay_filters: options
                .redisplay
                .as_ref()
                .map(|filters| filters.iter().map(|filter| filter.as_str()).collect()),
            payment_method_remove: Some("disabled"),
            payment_method_save: Some(if options.offer_to_save { "enabled" } else { "disabled" }),
        })
    }
}

/// Discounts and taxes one by one.
#[derive(Serialize, ToSchema, Debug, Default)]
pub struct Breakdown {
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub discounts: Vec<serde_json::Value>,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub taxes: Vec<serde_json::Value>,
}

impl CheckoutSession {
    /// The session as it stands. `url` is the hosted page's, for answers to the merchant only;
    /// `payment_intent` is the payment where `expand` asks for the object.
    pub fn new(session: &Session, url: Option<String>, payment_intent: Option<PaymentIntent>, expand: &Expand) -> Self {
        let state = session.state.name();
        let way = |way: &Option<crate::domain::redirect::WayBack>| way.as_ref().map(|way| way.as_str().to_owned());
        let email = session.payer.as_ref().map(|payer| payer.email.clone()).or_else(|| session.customer_email.clone());
        let customer_details = email.is_some().then(|| CustomerDetails {
            address: session.payer.as_ref().and_then(|payer| payer.address.as_ref()).map(Address::from),
            business_name: None,
            email,
            individual_name: None,
            name: session.payer.as_ref().map(|payer| payer.name.clone()),
            phone: None,
            tax_exempt: Some("none"),
            tax_ids: None,
        });
        let line_items = expand.wants("line_items").then(|| {
            let lines = session.lines.iter().map(|line| LineItem::new(session, line, expand, "line_items.data."));
            List::new(format!("/v1/checkout/sessions/{}/line_items", session.id), lines.collect(), false)
        });
        Self {
            id: session.id.to_string(),
            object: "checkout.session",
            adaptive_pricing: None,
            after_expiration: None,
            allow_promotion_codes: None,
            allowed_payment_method_types: None,
            amount_subtotal: session.is_payment().then_some(session.subtotal_minor),
            amount_total: session.is_payment().then_some(session.total.minor),
            automatic_tax: AutomaticTax { enabled: false, liability: None, provider: None, status: None },
            billing_address_collection: session
                .options
                .billing_address_collection
                .map(|collection| collection.as_str().to_owned()),
            branding_settings: None,
            cancel_url: way(&session.ways_back.cancel_url),
            client_reference_id: session.client_reference_id.clone(),
            client_secret: None,
            collected_information: None,
            consent: None,
            consent_collection: None,
            created: session.created_at.timestamp(),
            currency: Some(session.total.currency.code().to_owned()),
            currency_conversion: None,
            custom_fields: Vec::new(),
            custom_text: CustomText::default(),
            customer: session.customer_id.as_ref().map(|id| Expandable::Id(id.to_string())),
            customer_account: None,
            customer_creation: Some(
                session.options.customer_creation.clone().unwrap_or_else(|| "if_required".to_owned()),
            ),
            customer_details,
            customer_email: session.customer_email.clone(),
            discounts: Vec::new(),
            excluded_payment_method_types: None,
            expires_at: session.expires_at.timestamp(),
            integration_identifier: None,
            invoice: None,
            invoice_creation: None,
            line_items,
            livemode: session.livemode,
            locale: session.options.locale.clone(),
            managed_payments: None,
            metadata: session.metadata.clone(),
            mode: if session.escrow.is_some() { "escrow" } else { "payment" },
            name_collection: None,
            optional_items: Vec::new(),
            origin_context: None,
            payment_intent: match payment_intent {
                Some(payment) => Some(Expandable::Object(Box::new(payment))),
                None => session.payment_id.as_ref().map(|id| Expandable::Id(id.to_string())),
            },
            payment_link: None,
            payment_method_collection: Some("if_required".to_owned()),
            payment_method_configuration_details: None,
            payment_method_options: None,
            payment_method_types: vec!["card"],
            payment_status: match session.paid_at {
                _ if !session.is_payment() => "no_payment_required",
                Some(_) => "paid",
                None => "unpaid",
            },
            permissions: None,
            phone_number_collection: PhoneNumberCollection { enabled: false },
            presentment_details: None,
            recovered_from: None,
            redirect_on_completion: None,
            return_url: way(&session.ways_back.return_url),
            saved_payment_method_options: SavedPaymentMethodOptions::of(session),
            setup_intent: None,
            shipping_address_collection: None,
            shipping_cost: None,
            shipping_details: None,
            shipping_options: Vec::new(),
            status: state.stripe_status(),
            submit_type: session.options.submit_type.clone(),
            subscription: None,
            success_url: way(&session.ways_back.success_url),
            tax_id_collection: None,
            total_details: TotalDetails {
                amount_discount: 0,
                amount_shipping: Some(0),
                amount_tax: 0,
                breakdown: expand.wants("total_details.breakdown").then(Breakdown::default),
            },
            ui_mode: session.options.ui_mode.clone(),
            url: if state.stripe_status() == "open" { url } else { None },
            wallet_options: None,
            action: session.escrow.as_ref().map(|ticket| ticket.act.as_str()),
            escrow: session.escrow.as_ref().map(|ticket| Expandable::Id(ticket.escrow_id.to_string())),
            state: state.as_str(),
            target_user_email: session.target_user_email.clone(),
            expired_url: way(&session.ways_back.expired_url),
            failed_url: way(&session.ways_back.failed_url),
            opened_at: session.opened_at.map(|at| at.timestamp()),
            completed_at: match session.state {
                crate::domain::session::State::Completed(at) => Some(at.timestamp()),
                _ => None,
            },
            ended_at: session.state.ended_at().map(|at| at.timestamp()),
        }
    }

    /// Shows the escrow whole instead of its id.
    pub fn show_escrow(&mut self, escrow: Option<&crate::domain::escrow::Escrow>) {
        if let Some(escrow) = escrow {
            self.escrow = Some(Expandable::Object(Box::new(Escrow::new(escrow))));
        }
    }
}
