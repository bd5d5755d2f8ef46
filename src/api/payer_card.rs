//! The card that a payer's page sends: the one place of the API that sees a card number.
//!
//! The rule: number and code arrive in texts that are wiped when dropped, are judged as the hosted
//! form judges them, and leave as what the vault takes. No answer repeats them.

use std::fmt;

use chrono::NaiveDate;
use serde::de::{Deserialize, Deserializer, Visitor};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::domain::card::{CardBrand, CardCvc, CardError, CardExpiry, CardNumber, FIELD_CHARS_MAX};
use crate::error::{CardRefusal, Error, Result};
use crate::telemetry::mask_card_numbers;
use crate::vault::{EnteredCard, SecurityCode};

/// A text that is wiped when dropped and printed nowhere.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The security code of a kept card.
    ///
    /// # Errors
    /// `Declined` with the parameter at fault.
    pub fn judge_code(&self, brand: CardBrand, param: &'static str) -> Result<SecurityCode> {
        CardCvc::parse(&self.0, brand).map(SecurityCode).map_err(|error| refused(error, param))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretText, E> {
                if text.len() > FIELD_CHARS_MAX {
                    return Err(E::custom(format_args!("must be at most {FIELD_CHARS_MAX} characters.")));
                }
                Ok(SecretText(Zeroizing::new(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A card as the payer typed it.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardParam {
    /// The number; spaces and dashes are dropped.
    #[schema(value_type = String)]
    pub number: SecretText,
    /// 1 to 12.
    pub exp_month: u32,
    /// Two or four digits.
    pub exp_year: u32,
    /// The printed security code.
    #[schema(value_type = String)]
    pub cvc: SecretText,
}

fn refused(error: CardError, param: &'static str) -> Error {
    let message = error.payer_message().to_owned();
    Error::Declined(Box::new(CardRefusal { code: error.code(), decline_code: None, param: Some(param), message }))
}

impl CardParam {
    /// The card as the vault takes it.
    ///
    /// # Errors
    /// `Declined` with the parameter at fault.
    pub fn judge(self, holder_name: String, today: NaiveDate) -> Result<EnteredCard> {
        let number =
            CardNumber::parse(&self.number.0).map_err(|error| refused(error, "payment_method_data[card][number]"))?;
        let expiry = CardExpiry::from_parts(self.exp_month, self.exp_year, today).map_err(|error| {
            let is_month = error == CardError::InvalidExpiryMonth;
            refused(
                error,
                if is_month { "payment_method_data[card][exp_month]" } else { "payment_method_data[card][exp_year]" },
            )
        })?;
        let cvc = CardCvc::parse(&self.cvc.0, number.brand())
            .map_err(|error| refused(error, "payment_method_data[card][cvc]"))?;
        Ok(EnteredCard { number, cvc, expiry, holder_name: Some(holder_name) })
    }
}

/// Whether a text that is to be kept has a card number in it.
pub fn holds_card_number(text: &str) -> bool {
    CardNumber::parse(text).is_ok() || matches!(mask_card_numbers(text), std::borrow::Cow::Owned(_))
}
