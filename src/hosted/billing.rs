//! The billing address that the payment form asks for: read, judged, and told field by field.
//!
//! The rule: it is read only where the session asks for it, and what was typed is shown again whatever was wrong
//! with it. An address that came with a kept card is never typed and never shown.

use super::checkout::{Form, holds_card_number};
use super::views::{BillingBlock, CheckoutField, FieldError};
use crate::domain::billing::{AddressFault, AddressPart, judge_address};
use crate::domain::customer::PostalAddress;
use crate::domain::session::Session;

/// Characters of a field that are put back into a page; more were never meant as an address.
const SHOWN_CHARS_MAX: usize = 400;

/// What was typed, for a session that asks for it.
pub(super) fn typed(session: &Session, form: &Form) -> BillingBlock {
    if !session.wants_billing_address() {
        return BillingBlock::default();
    }
    let field = |field: CheckoutField| form.field(field.name()).trim().chars().take(SHOWN_CHARS_MAX).collect();
    BillingBlock {
        is_asked: true,
        country: field(CheckoutField::BillingCountry),
        line1: field(CheckoutField::BillingLine1),
        postal_code: field(CheckoutField::BillingPostalCode),
        city: field(CheckoutField::BillingCity),
    }
}

/// The block of a form that is shown first, or again after a try: with the address of that try.
pub(super) fn block(session: &Session, address: Option<&PostalAddress>) -> BillingBlock {
    let PostalAddress { city, country, line1, postal_code, .. } = address.cloned().unwrap_or_default();
    if !session.wants_billing_address() {
        return BillingBlock::default();
    }
    BillingBlock {
        is_asked: true,
        country: country.unwrap_or_default(),
        line1: line1.unwrap_or_default(),
        postal_code: postal_code.unwrap_or_default(),
        city: city.unwrap_or_default(),
    }
}

/// Reads the address, or says of each field what to put right. `None` where the session asks for none.
pub(super) fn read(typed: &BillingBlock) -> Result<Option<PostalAddress>, Vec<FieldError>> {
    if !typed.is_asked {
        return Ok(None);
    }
    let mut errors = Vec::new();
    for (field, text, message) in [
        (CheckoutField::BillingLine1, &typed.line1, "Enter your street and number, not a card number."),
        (CheckoutField::BillingPostalCode, &typed.postal_code, "Enter your postcode, not a card number."),
        (CheckoutField::BillingCity, &typed.city, "Enter your city, not a card number."),
    ] {
        if holds_card_number(text) {
            errors.push(FieldError { field, message: message.to_owned() });
        }
    }
    let text = |text: &str| Some(text.to_owned());
    let given = PostalAddress {
        country: text(&typed.country),
        line1: text(&typed.line1),
        postal_code: text(&typed.postal_code),
        city: text(&typed.city),
        ..PostalAddress::default()
    };
    match judge_address(given, true) {
        Ok(address) if errors.is_empty() => Ok(address),
        Ok(_) => Err(errors),
        Err(faults) => {
            for (part, fault) in faults {
                let Some((field, message)) = told(part, fault) else { continue };
                if !errors.iter().any(|error| error.field == field) {
                    errors.push(FieldError { field, message });
                }
            }
            errors.sort_by_key(|error| error.field as u8);
            Err(errors)
        }
    }
}

/// Which field is at fault, and what to do. The form has no field for the other parts.
fn told(part: AddressPart, fault: AddressFault) -> Option<(CheckoutField, String)> {
    let (field, missing, name) = match part {
        AddressPart::Country => {
            let message = "Choose the country of your billing address.";
            return Some((CheckoutField::BillingCountry, message.to_owned()));
        }
        AddressPart::Line1 => {
            (CheckoutField::BillingLine1, "Enter the street and number of your billing address.", "street")
        }
        AddressPart::PostalCode => {
            (CheckoutField::BillingPostalCode, "Enter the postcode of your billing address.", "postcode")
        }
        AddressPart::City => (CheckoutField::BillingCity, "Enter the city of your billing address.", "city"),
        AddressPart::Line2 | AddressPart::State => return None,
    };
    let message = match fault {
        AddressFault::Missing | AddressFault::UnknownCountry => missing.to_owned(),
        AddressFault::TooLong => format!("Enter the {name} with at most {} characters.", part.chars_max()),
        AddressFault::Unprintable => format!("Enter the {name} in letters and digits only."),
    };
    Some((field, message))
}
