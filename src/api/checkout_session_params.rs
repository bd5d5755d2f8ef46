//! What a merchant may say when a checkout session is made, and what of it is taken.
//!
//! The rule: nothing is dropped silently. A parameter of Stripe's that this gateway does not act on
//! is taken only with the value that means "off" and refused otherwise; a few labels that change
//! nothing for anybody are taken and ignored, and are named here.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::fields::{email, metadata, moment, seen, seen_text, text};
use super::params::MetadataParam;
use super::saved_card_params::{CustomerCreation, ForWhom, SavedPaymentMethodOptions, SetupFutureUsage};
use crate::domain::billing::AddressCollection;
use crate::domain::money::Currency;
use crate::domain::payment;
use crate::domain::pricing::{LineInput, PricedCart, price_lines};
use crate::domain::redirect::{AllowedRedirect, RedirectError, WayBack};
use crate::domain::session::{Options, WaysBack};
use crate::domain::unseen::Lines;
use crate::error::{Error, Result};
use crate::i18n::{LOCALE_AUTO, Locale};
use crate::ops::saved_cards::CUSTOMER_ALWAYS;
use crate::ops::sessions::NewSession;

/// Characters in `client_reference_id`, as at Stripe.
const CLIENT_REFERENCE_CHARS_MAX: usize = 200;
/// Characters in a payment's description, as at Stripe.
const DESCRIPTION_CHARS_MAX: usize = 1000;
/// Characters that a card statement shows, as at Stripe.
const STATEMENT_CHARS_MAX: usize = 22;
/// What a session without line items and description sells.
const LINE_NAME_DEFAULT: &str = "Payment";

/// Parameters of Stripe's that promise something which is not done here. They are refused with a
/// sentence of their own, so that nobody looks for a typing error.
pub const UNSUPPORTED: &[&str] = &[
    "after_expiration",
    "branding_settings",
    "consent_collection",
    "currency_conversion",
    "custom_fields",
    "custom_text",
    "customer_account",
    "customer_update",
    "discounts",
    "excluded_payment_method_types",
    "managed_payments",
    "name_collection",
    "optional_items",
    "payment_method_configuration",
    "payment_method_data",
    "payment_method_options",
    "permissions",
    "redirect_on_completion",
    "setup_intent_data",
    "shipping_address_collection",
    "shipping_options",
    "subscription_data",
    "wallet_options",
    "tax_rates",
    "dynamic_tax_rates",
    "reuse",
    "application_fee_amount",
    "transfer_data",
    "on_behalf_of",
    "shipping",
    "metadata",
    "price",
    "product",
    "recurring",
    "tax_details",
    "transfer_group",
    "unit_label",
];

/// What is sold by one act.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Pay a cart.
    Payment,
}

/// Where the form stands.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum UiMode {
    /// On the gateway's page.
    HostedPage,
    /// The old name of `hosted_page`.
    Hosted,
}

/// The word on the pay button.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SubmitType {
    /// Pay.
    Auto,
    /// Pay.
    Pay,
    /// Book.
    Book,
    /// Donate.
    Donate,
}

/// Ways to pay.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethodType {
    /// Cards.
    Card,
}

/// When the money is taken.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// At once.
    Automatic,
    /// At once.
    AutomaticAsync,
    /// Reserved first, taken with `POST /v1/payment_intents/{id}/capture`.
    Manual,
}

/// Whether the payer is asked for his billing address.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BillingAddressCollection {
    /// Only where it is needed, and it is never needed here.
    Auto,
    /// Always; nobody pays without one.
    Required,
}

/// A parameter whose only value is the one that means "off".
#[derive(Deserialize, ToSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnlyIfRequired {
    /// Off unless needed, and it is never needed here.
    IfRequired,
}

/// A feature that can only be off.
#[derive(Deserialize, ToSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct OnlyOff {
    /// Must be false.
    pub enabled: bool,
}

/// Parameters of a new checkout session.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct CreateCheckoutSession {
    /// `payment`, the default.
    pub mode: Option<Mode>,
    /// What is sold: 1 to 100 lines in one currency.
    pub line_items: Option<Vec<LineItemParam>>,
    /// Instead of `line_items`: what is paid, in minor units.
    pub amount: Option<i64>,
    /// With `amount`: ISO 4217 code. Beside `line_items` it must be theirs.
    pub currency: Option<String>,
    /// With `amount`: what is sold.
    pub description: Option<String>,
    /// Where a payer who paid is sent. `{CHECKOUT_SESSION_ID}` is filled in.
    pub success_url: Option<String>,
    /// Where a payer who gives up is sent.
    pub cancel_url: Option<String>,
    /// Where the payer is sent when the outcome has no URL of its own.
    pub return_url: Option<String>,
    /// Where a payer is sent after the deadline.
    pub expired_url: Option<String>,
    /// Where a payer is sent after the last failed try.
    pub failed_url: Option<String>,
    /// False: a payer who paid is sent on at once, whether or not the webhooks have been taken. Ours.
    pub hold_redirect: Option<bool>,
    /// The merchant's own reference, at most 200 characters.
    pub client_reference_id: Option<String>,
    /// Whose session it is. Excludes `customer_email`, whose place the customer's address takes.
    pub customer: Option<String>,
    /// The payer's address, shown in the form and not changeable there.
    pub customer_email: Option<String>,
    /// The one person who may pay: the page shows nothing of the act until a code sent to this address was typed.
    pub target_user_email: Option<String>,
    /// The merchant's own data: at most 50 keys.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// What the payment carries.
    pub payment_intent_data: Option<PaymentIntentData>,
    /// The deadline in Unix seconds: from one minute from now to the gateway's ceiling; half an hour unless given.
    pub expires_at: Option<i64>,
    /// The payer's language, or `auto`.
    pub locale: Option<String>,
    /// The word on the pay button.
    pub submit_type: Option<SubmitType>,
    /// `hosted_page`, or `hosted` as it was called.
    pub ui_mode: Option<UiMode>,
    /// Only `card`.
    pub payment_method_types: Option<Vec<PaymentMethodType>>,
    /// The new name of `payment_method_types`.
    pub allowed_payment_method_types: Option<Vec<PaymentMethodType>>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
    /// Can only be off.
    pub automatic_tax: Option<OnlyOff>,
    /// Can only be off.
    pub phone_number_collection: Option<OnlyOff>,
    /// Can only be off.
    pub tax_id_collection: Option<OnlyOff>,
    /// Can only be off.
    pub invoice_creation: Option<OnlyOff>,
    /// Can only be off.
    pub adaptive_pricing: Option<OnlyOff>,
    /// Can only be false.
    pub allow_promotion_codes: Option<bool>,
    /// Whether the payer is asked for his billing address: `auto`, the default, does not ask.
    pub billing_address_collection: Option<BillingAddressCollection>,
    /// Whether a customer is made when the session is paid; `if_required`, the default, makes none.
    pub customer_creation: Option<CustomerCreation>,
    /// Which kept cards are offered, and whether the payer is asked to keep his.
    pub saved_payment_method_options: Option<SavedPaymentMethodOptions>,
    /// Only `if_required`.
    pub payment_method_collection: Option<OnlyIfRequired>,
    /// A label; taken and ignored.
    pub integration_identifier: Option<String>,
    /// A label; taken and ignored.
    pub origin_context: Option<String>,
}

/// One line.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct LineItemParam {
    /// What is sold and for how much.
    pub price_data: PriceData,
    /// How many, 1 to 999,999.
    pub quantity: Option<i64>,
    /// Can only be off.
    pub adjustable_quantity: Option<OnlyOff>,
}

/// A price made for this session.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct PriceData {
    /// ISO 4217 code.
    pub currency: String,
    /// What is sold.
    pub product_data: ProductData,
    /// Minor units; this or `unit_amount_decimal`.
    pub unit_amount: Option<i64>,
    /// Minor units with at most twelve decimals.
    pub unit_amount_decimal: Option<String>,
    /// Taken and without effect, since no tax is computed.
    pub tax_behavior: Option<TaxBehavior>,
}

/// Whether tax is part of a price.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum TaxBehavior {
    /// On top.
    Exclusive,
    /// Inside.
    Inclusive,
    /// Not said.
    Unspecified,
}

/// A product made for this session.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some parameters only have to decode: what they may say changes nothing")]
pub struct ProductData {
    /// Shown to the payer.
    pub name: String,
    /// Shown to the payer.
    pub description: Option<String>,
    /// Handed back; the hosted page loads nothing from elsewhere.
    pub images: Option<Vec<String>>,
    /// Handed back in line items.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Taken and without effect, since no tax is computed.
    pub tax_code: Option<String>,
}

/// What the payment carries.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct PaymentIntentData {
    /// When the money is taken; at once unless given.
    pub capture_method: Option<CaptureMethod>,
    /// The payment's description, at most 1000 characters.
    pub description: Option<String>,
    /// The payment's own metadata.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: MetadataParam,
    /// Where a receipt goes.
    pub receipt_email: Option<String>,
    /// Keeps the card for the customer once it was charged, and for what.
    pub setup_future_usage: Option<SetupFutureUsage>,
    /// What the card statement shall say, at most 22 characters.
    pub statement_descriptor: Option<String>,
    /// The end of what the card statement shall say, at most 22 characters.
    pub statement_descriptor_suffix: Option<String>,
}

/// Says of a refused Stripe parameter that it is not a typing error.
pub fn explain_unsupported(error: Error) -> Error {
    match error {
        Error::Invalid { code: "parameter_unknown", param, .. }
            if param.split('[').any(|word| UNSUPPORTED.contains(&word.trim_end_matches(']'))) =>
        {
            let message = format!("`{param}` is not supported by this gateway. Nothing was created.");
            Error::invalid("parameter_unsupported", param, message)
        }
        other => other,
    }
}

fn only_off(param: &str, feature: Option<&OnlyOff>) -> Result<()> {
    match feature {
        Some(OnlyOff { enabled: true }) => {
            let at = format!("{param}[enabled]");
            let message = format!("`{at}` can only be false: this gateway does not do it. Nothing was created.");
            Err(Error::invalid("parameter_unsupported", at, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn currency(param: &str, code: &str) -> Result<Currency> {
    Currency::parse(code).ok_or_else(|| {
        let shown: String = code.chars().filter(|c| c.is_ascii_alphanumeric()).take(8).collect();
        Error::invalid(
            "parameter_invalid",
            param,
            format!("Invalid currency: {shown}. Send a three-letter ISO 4217 code that the gateway charges in."),
        )
    })
}

pub(super) fn way_back(
    param: &str,
    value: Option<String>,
    allowed: &[AllowedRedirect],
    livemode: bool,
) -> Result<Option<WayBack>> {
    let Some(value) = value else { return Ok(None) };
    WayBack::parse(&value, allowed, livemode).map(Some).map_err(|error| redirect_refused(param, error))
}

/// A redirect URL that is not taken, named by its parameter.
pub fn redirect_refused(param: &str, error: RedirectError) -> Error {
    let code = if error == RedirectError::NotAllowed { "redirect_url_not_allowed" } else { "url_invalid" };
    Error::invalid(code, param, format!("`{param}` {}.", error.message()))
}

impl LineItemParam {
    fn input(self, index: usize) -> Result<LineInput> {
        let at = format!("line_items[{index}]");
        only_off(&format!("{at}[adjustable_quantity]"), self.adjustable_quantity.as_ref())?;
        let PriceData { currency: code, product_data, unit_amount, unit_amount_decimal, .. } = self.price_data;
        let images = product_data.images.unwrap_or_default();
        for (place, image) in images.iter().enumerate() {
            let param = format!("{at}[price_data][product_data][images][{place}]");
            let fine =
                image.len() <= 2048 && url::Url::parse(image).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !fine {
                return Err(Error::invalid("url_invalid", &param, format!("`{param}` must be an http or https URL.")));
            }
        }
        seen(&format!("{at}[price_data][product_data][name]"), &product_data.name, Lines::Many)?;
        if let Some(text) = &product_data.description {
            seen(&format!("{at}[price_data][product_data][description]"), text, Lines::Many)?;
        }
        Ok(LineInput {
            name: product_data.name,
            description: product_data.description,
            images,
            product_metadata: metadata(&format!("{at}[price_data][product_data][metadata]"), product_data.metadata)?,
            currency: currency(&format!("{at}[price_data][currency]"), &code)?,
            unit_amount,
            unit_amount_decimal,
            quantity: self.quantity,
        })
    }
}

impl CreateCheckoutSession {
    fn cart(&mut self) -> Result<PricedCart> {
        let given = self.currency.as_deref().map(|code| currency("currency", code)).transpose()?;
        match (self.line_items.take(), self.amount) {
            (Some(_), Some(_)) => Err(Error::invalid(
                "parameters_exclusive",
                "amount",
                "You may pass only one of `line_items` and `amount`.",
            )),
            (Some(lines), None) => {
                if self.description.is_some() {
                    let message = "`description` goes with `amount`; with `line_items`, name each product.";
                    return Err(Error::invalid("parameters_exclusive", "description", message));
                }
                let lines =
                    lines.into_iter().enumerate().map(|(index, line)| line.input(index)).collect::<Result<_>>()?;
                let cart = price_lines(lines).map_err(|error| {
                    Error::invalid(error.code().unwrap_or("parameter_invalid"), error.param(), error.to_string())
                })?;
                match given {
                    Some(currency) if currency != cart.currency => Err(Error::invalid(
                        "parameter_invalid",
                        "currency",
                        "`currency` must be that of the line items, or be left out.",
                    )),
                    _ => Ok(cart),
                }
            }
            (None, Some(amount)) => {
                let Some(currency) = given else {
                    return Err(Error::invalid("parameter_missing", "currency", "Missing required param: currency."));
                };
                let name = self.description.take().filter(|name| !name.trim().is_empty());
                seen("description", name.as_deref().unwrap_or_default(), Lines::Many)?;
                let line = LineInput {
                    name: name.unwrap_or_else(|| LINE_NAME_DEFAULT.to_owned()),
                    description: None,
                    images: Vec::new(),
                    product_metadata: BTreeMap::new(),
                    currency,
                    unit_amount: Some(amount),
                    unit_amount_decimal: None,
                    quantity: Some(1),
                };
                price_lines(vec![line]).map_err(|error| {
                    // To the caller there is no line: what is wrong with it is wrong with the amount.
                    let param = if error.param().contains("[name]") { "description" } else { "amount" };
                    let message = error.to_string().replace(&error.param(), param);
                    Error::invalid(error.code().unwrap_or("parameter_invalid"), param, message)
                })
            }
            (None, None) => Err(Error::invalid(
                "parameter_missing",
                "line_items",
                "Missing required param: line_items (or amount and currency).",
            )),
        }
    }

    fn refuse_what_is_not_done(&self) -> Result<()> {
        only_off("automatic_tax", self.automatic_tax.as_ref())?;
        only_off("phone_number_collection", self.phone_number_collection.as_ref())?;
        only_off("tax_id_collection", self.tax_id_collection.as_ref())?;
        only_off("invoice_creation", self.invoice_creation.as_ref())?;
        only_off("adaptive_pricing", self.adaptive_pricing.as_ref())?;
        if self.allow_promotion_codes == Some(true) {
            let message =
                "`allow_promotion_codes` can only be false: this gateway does not do it. Nothing was created.";
            return Err(Error::invalid("parameter_unsupported", "allow_promotion_codes", message));
        }
        Ok(())
    }

    /// Checks everything that can be checked without the database.
    ///
    /// # Errors
    /// `Invalid` with the first parameter at fault.
    pub fn check(mut self, allowed: &[AllowedRedirect], livemode: bool) -> Result<NewSession> {
        self.refuse_what_is_not_done()?;
        let cart = self.cart()?;
        let way = |param: &str, value: Option<String>| way_back(param, value, allowed, livemode);
        let ways_back = WaysBack {
            success_url: way("success_url", self.success_url)?,
            cancel_url: way("cancel_url", self.cancel_url)?,
            return_url: way("return_url", self.return_url)?,
            expired_url: way("expired_url", self.expired_url)?,
            failed_url: way("failed_url", self.failed_url)?,
        };
        let locale = match self.locale {
            Some(tag) if tag == LOCALE_AUTO || Locale::parse(&tag).is_some() => Some(tag),
            Some(_) => {
                return Err(Error::invalid(
                    "parameter_invalid",
                    "locale",
                    "Invalid locale: must be `auto` or a language tag such as `de` or `pt-BR`.",
                ));
            }
            None => None,
        };
        let data = self.payment_intent_data.unwrap_or(PaymentIntentData {
            capture_method: None,
            description: None,
            metadata: MetadataParam::Absent,
            receipt_email: None,
            setup_future_usage: None,
            statement_descriptor: None,
            statement_descriptor_suffix: None,
        });
        let for_whom = ForWhom {
            customer: self.customer.as_deref(),
            customer_email: self.customer_email.as_deref(),
            creation: self.customer_creation,
        };
        for_whom.check()?;
        let saved_cards = for_whom.saved_cards(data.setup_future_usage, self.saved_payment_method_options)?;
        let statement = |name: &str, value| text(&format!("payment_intent_data[{name}]"), value, STATEMENT_CHARS_MAX);
        let options = Options {
            locale,
            submit_type: self.submit_type.map(|kind| {
                match kind {
                    SubmitType::Auto => "auto",
                    SubmitType::Pay => "pay",
                    SubmitType::Book => "book",
                    SubmitType::Donate => "donate",
                }
                .to_owned()
            }),
            ui_mode: match self.ui_mode {
                Some(UiMode::Hosted) => "hosted",
                _ => "hosted_page",
            }
            .to_owned(),
            customer_creation: self.customer_creation.map(|creation| {
                match creation {
                    CustomerCreation::Always => CUSTOMER_ALWAYS,
                    CustomerCreation::IfRequired => "if_required",
                }
                .to_owned()
            }),
            saved_cards,
            capture_method: match data.capture_method {
                Some(CaptureMethod::Manual) => payment::CaptureMethod::Manual,
                _ => payment::CaptureMethod::Automatic,
            },
            payment_description: seen_text(
                "payment_intent_data[description]",
                data.description,
                DESCRIPTION_CHARS_MAX,
            )?,
            payment_metadata: metadata("payment_intent_data[metadata]", data.metadata)?,
            receipt_email: email("payment_intent_data[receipt_email]", data.receipt_email)?,
            statement_descriptor: statement("statement_descriptor", data.statement_descriptor)?,
            statement_descriptor_suffix: statement("statement_descriptor_suffix", data.statement_descriptor_suffix)?,
            billing_address_collection: self.billing_address_collection.map(|collection| match collection {
                BillingAddressCollection::Auto => AddressCollection::Auto,
                BillingAddressCollection::Required => AddressCollection::Required,
            }),
            goes_back_at_once: self.hold_redirect == Some(false),
        };
        Ok(NewSession {
            cart,
            ways_back,
            client_reference_id: text("client_reference_id", self.client_reference_id, CLIENT_REFERENCE_CHARS_MAX)?,
            customer: self.customer,
            customer_email: email("customer_email", self.customer_email)?,
            target_user_email: email("target_user_email", self.target_user_email)?,
            metadata: metadata("metadata", self.metadata)?,
            options,
            expires_at: self.expires_at.map(|seconds| moment("expires_at", seconds)).transpose()?,
        })
    }
}
