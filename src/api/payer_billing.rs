//! Who pays and with what, as a payer's own page sends it: billing details, and a typed or a kept card.
//!
//! The rule: what may be said in two places may not be said in two ways, an address is judged as the hosted
//! form's is, and nothing that holds a card number is kept. A kept card brings the name and the address that
//! it was kept with, which no answer shows.

use serde::Deserialize;
use utoipa::ToSchema;

use super::customers::AddressParam;
use super::fields::email;
use super::payer_card::{CardParam, SecretText, holds_card_number};
use super::payer_sessions::{ConfirmCheckoutSession, NotCollected, PaymentMethodType};
use crate::app::App;
use crate::domain::billing::{AddressFault, AddressPart, is_whole, judge_address};
use crate::domain::customer::PostalAddress;
use crate::domain::refusal::Refusal;
use crate::domain::session::{Payer, Session};
use crate::error::{Error, Result};
use crate::ops::saved_cards::{self, Instrument, Offered, OfferedCard};
use crate::ops::sessions;
use crate::vault::SecurityCode;

/// Longest name on a card, as on the hosted form.
const NAME_CHARS_MAX: usize = 100;

const PAYER_EMAIL: &str = "payer[email]";
const PAYER_NAME: &str = "payer[name]";
const SAVED_CVC: &str = "payment_method_options[card][cvc]";

/// Who pays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayerParam {
    /// E-mail address. Where the merchant gave one it may be left out, and may not differ.
    pub email: Option<String>,
    /// The name on the card, at most 100 characters. A kept card has its own.
    pub name: Option<String>,
    /// Not collected yet.
    #[schema(value_type = Option<String>)]
    pub phone: Option<NotCollected>,
}

/// What goes to the payer's bank beside the card.
#[derive(Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct BillingDetailsParam {
    /// Where the bill goes. Where the session asks for it: country, line1, city and postal_code, as far as the
    /// country has them. Lines have at most 200 characters, a postcode 20.
    pub address: Option<AddressParam>,
    /// The same as `payer[email]`, under Stripe's name.
    pub email: Option<String>,
    /// The same as `payer[name]`, under Stripe's name.
    pub name: Option<String>,
    /// Not collected yet.
    #[schema(value_type = Option<String>)]
    pub phone: Option<NotCollected>,
}

/// With what.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentMethodDataParam {
    /// Always `card`.
    #[serde(rename = "type")]
    pub kind: PaymentMethodType,
    /// The card.
    pub card: CardParam,
}

/// What a kept card may need.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentMethodOptionsParam {
    /// Of the card.
    pub card: Option<SavedCardParam>,
}

/// What a kept card may need.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedCardParam {
    /// The printed security code, where `saved_payment_methods[].requires_cvc` says so.
    #[schema(value_type = Option<String>)]
    pub cvc: Option<SecretText>,
}

fn missing(param: &str) -> Error {
    Error::invalid("parameter_missing", param, format!("Missing required param: {param}."))
}

/// One text that has two names.
fn one_of(
    (first, first_param): (Option<String>, &'static str),
    (second, second_param): (Option<String>, &'static str),
) -> Result<(Option<String>, &'static str)> {
    match (first, second) {
        (Some(first), Some(second)) if first.trim() != second.trim() => {
            let message = format!("`{first_param}` and `{second_param}` differ. Send one of them.");
            Err(Error::invalid("parameters_exclusive", second_param, message))
        }
        (None, Some(second)) => Ok((Some(second), second_param)),
        (first, _) => Ok((first, first_param)),
    }
}

/// Refuses what no session asks its payer for; it is not dropped.
pub fn refuse_not_collected(params: &ConfirmCheckoutSession) -> Result<()> {
    let payers = params.payer.as_ref().is_some_and(|payer| payer.phone.is_some());
    let billing = params.billing_details.as_ref().is_some_and(|billing| billing.phone.is_some());
    let refused = [
        ("payer[phone]", payers),
        ("billing_details[phone]", billing),
        ("billing_address", params.billing_address.is_some()),
        ("shipping_address", params.shipping_address.is_some()),
    ];
    let Some((param, _)) = refused.into_iter().find(|(_, is_given)| *is_given) else { return Ok(()) };
    let message = match param {
        "billing_address" => "Send the billing address as `billing_details[address]`. Nothing was charged.".to_owned(),
        _ => format!("This checkout session does not ask its payer for `{param}`. Nothing was charged."),
    };
    Err(Error::invalid("parameter_unsupported", param, message))
}

/// Who pays and with what, from the parameters of a confirmation.
///
/// # Errors
/// `Invalid` and `Declined` with the parameter at fault, `Refused` for a kept card that is not to be had.
pub async fn payer_and_instrument(
    app: &App,
    session: &Session,
    params: &mut ConfirmCheckoutSession,
) -> Result<(Payer, Instrument)> {
    let offered = match session.customer_id {
        Some(_) => saved_cards::offered(app, session).await?,
        None => Offered::default(),
    };
    let instrument = match (params.payment_method.take(), params.payment_method_data.take()) {
        (Some(_), Some(_)) => {
            let message = "`payment_method` and `payment_method_data` exclude each other. Send one of them.";
            return Err(Error::invalid("parameters_exclusive", "payment_method", message));
        }
        (None, None) => return Err(missing("payment_method_data")),
        (Some(id), None) => Given::Saved(kept_card(&offered, &id)?),
        (None, Some(_)) if params.payment_method_options.is_some() => {
            let message = format!("`{SAVED_CVC}` goes with `payment_method`, a kept card.");
            return Err(Error::invalid("parameters_exclusive", "payment_method_options", message));
        }
        (None, Some(data)) => Given::Typed(data),
    };
    let carries_card_data = match &instrument {
        Given::Typed(_) => true,
        Given::Saved(kept) => kept.needs_code,
    };
    if carries_card_data && !sessions::takes_cards(app, session) {
        let message = "Card numbers are not taken here in live mode. Send the payer to the session's `url`.";
        return Err(Error::invalid("card_data_not_accepted", "payment_method_data", message));
    }
    if params.payer.is_none() && params.billing_details.is_none() && matches!(instrument, Given::Typed(_)) {
        return Err(missing("payer"));
    }
    let billing = params.billing_details.take().unwrap_or_default();
    let (email, name) = match params.payer.take() {
        Some(PayerParam { email, name, .. }) => (email, name),
        None => (None, None),
    };
    let email = one_of((email, PAYER_EMAIL), (billing.email, "billing_details[email]"))?;
    let name = one_of((name, PAYER_NAME), (billing.name, "billing_details[name]"))?;
    let email = payers_email(session.customer_email.as_ref().or(offered.email.as_ref()), email)?;
    match instrument {
        Given::Typed(data) => {
            let name = payers_name(name)?.ok_or_else(|| missing(PAYER_NAME))?;
            let address = billing_address(billing.address, session.wants_billing_address())?;
            let PaymentMethodDataParam { kind: PaymentMethodType::Card, card } = data;
            let card = card.judge(name.clone(), app.clock.now().date_naive())?;
            Ok((Payer { email, name, address }, Instrument::from(card)))
        }
        Given::Saved(kept) => {
            // What is sent is newer than what the card was kept with.
            let name = payers_name(name)?.or_else(|| kept.holder_name.clone()).unwrap_or_default();
            let known = kept.holder_address.clone().filter(|kept| !session.wants_billing_address() || is_whole(kept));
            let must_be_given = session.wants_billing_address() && known.is_none();
            let address = billing_address(billing.address, must_be_given)?.or(known);
            let cvc = params.payment_method_options.take().and_then(|options| options.card).and_then(|card| card.cvc);
            let code = security_code(kept, cvc)?;
            Ok((Payer { email, name, address }, Instrument::Saved { id: kept.id.clone(), code }))
        }
    }
}

/// What was given to pay with.
enum Given<'o> {
    Typed(PaymentMethodDataParam),
    Saved(&'o OfferedCard),
}

/// The kept card of that id, if this session offers it to its payer.
fn kept_card<'o>(offered: &'o Offered, id: &str) -> Result<&'o OfferedCard> {
    let found = offered.cards.iter().find(|card| card.id.as_str() == id && !card.is_expired);
    found.ok_or_else(|| Refusal::PaymentMethodUnusable.into())
}

fn security_code(kept: &OfferedCard, given: Option<SecretText>) -> Result<Option<SecurityCode>> {
    if !kept.needs_code {
        return Ok(None);
    }
    let given = given.ok_or_else(|| missing(SAVED_CVC))?;
    given.judge_code(kept.card.brand, SAVED_CVC).map(Some)
}

/// The address as it was given, whole where the session wants it so.
fn billing_address(given: Option<AddressParam>, must_be_whole: bool) -> Result<Option<PostalAddress>> {
    let path = |part: AddressPart| format!("billing_details[address][{}]", part.name());
    let AddressParam { city, country, line1, line2, postal_code, state } = match given {
        Some(given) => given,
        None if must_be_whole => return Err(missing("billing_details[address]")),
        None => return Ok(None),
    };
    let typed = PostalAddress { city, country, line1, line2, postal_code, state };
    for (part, text) in [
        (AddressPart::Line1, &typed.line1),
        (AddressPart::Line2, &typed.line2),
        (AddressPart::PostalCode, &typed.postal_code),
        (AddressPart::City, &typed.city),
        (AddressPart::State, &typed.state),
    ] {
        if text.as_deref().is_some_and(holds_card_number) {
            let message = format!("`{}` holds a card number.", path(part));
            return Err(Error::invalid("parameter_invalid_string", path(part), message));
        }
    }
    judge_address(typed, must_be_whole).map_err(|faults| {
        let (part, fault) = faults.first().copied().unwrap_or((AddressPart::Country, AddressFault::Missing));
        let param = path(part);
        match fault {
            AddressFault::Missing => missing(&param),
            AddressFault::UnknownCountry => {
                let message = "A country is two letters (ISO 3166-1 alpha-2), such as `DE`.";
                Error::invalid("country_code_invalid", param, message)
            }
            AddressFault::TooLong => {
                let message = format!("Invalid string: `{param}` must be at most {} characters.", part.chars_max());
                Error::invalid("parameter_invalid_string", param, message)
            }
            AddressFault::Unprintable => {
                let message = format!("Invalid string: `{param}` must not hold control characters.");
                Error::invalid("parameter_invalid_string", param, message)
            }
        }
    })
}

fn payers_email(known: Option<&String>, (given, param): (Option<String>, &'static str)) -> Result<String> {
    match (known, given) {
        (Some(known), None) => Ok(known.clone()),
        (Some(known), Some(given)) if given.trim().eq_ignore_ascii_case(known) => Ok(known.clone()),
        (Some(_), Some(_)) => {
            let message = "The merchant has set the e-mail address of this session's payer; it cannot be changed.";
            Err(Error::invalid("parameter_invalid", param, message))
        }
        (None, Some(given)) if holds_card_number(&given) => {
            Err(Error::invalid("email_invalid", param, format!("`{param}` holds a card number.")))
        }
        (None, given) => email(param, given)?.ok_or_else(|| missing(param)),
    }
}

fn payers_name((given, param): (Option<String>, &'static str)) -> Result<Option<String>> {
    let Some(given) = given else { return Ok(None) };
    let name = given.trim();
    let is_name = !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
    if !is_name || holds_card_number(name) {
        let message = format!("`{param}` must be the name on the card, at most {NAME_CHARS_MAX} characters.");
        return Err(Error::invalid("parameter_invalid_string", param, message));
    }
    Ok(Some(name.to_owned()))
}
