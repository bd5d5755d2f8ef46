//! What a cart costs: line items in, priced lines and totals out, or the exact field that is wrong.
//!
//! The rule kept here: a price is multiplied before it is rounded, each line is rounded once, and the total is the
//! sum of the lines as the payer sees them. Web addresses of images and the size of metadata are checked where they
//! are read; discounts, taxes and shipping are not priced here.

use std::collections::BTreeMap;
use std::fmt;

use super::money::{AMOUNT_MINOR_MAX, Currency, Money, MoneyError};

/// The most line items a session may have, as at Stripe.
pub const LINES_MAX: usize = 100;
/// The largest quantity of one line, as at Stripe.
pub const QUANTITY_MAX: i64 = 999_999;
/// The longest product name, in characters, as at Stripe.
pub const NAME_CHARS_MAX: usize = 5_000;
/// The longest product description, in characters, as at Stripe.
pub const DESCRIPTION_CHARS_MAX: usize = 40_000;
/// The most images of one product, as at Stripe.
pub const IMAGES_MAX: usize = 8;
/// The most digits behind the point of a `unit_amount_decimal`, as at Stripe.
pub const UNIT_DECIMALS_MAX: usize = 12;

// Twelve digits, the point and twelve decimals: nothing longer is an amount that we take.
const UNIT_DECIMAL_CHARS_MAX: usize = 12 + 1 + UNIT_DECIMALS_MAX;
// A unit price counts in trillionths of a minor unit, so that all twelve decimals are whole numbers. The largest price
// times the largest quantity has 30 digits here; an i128 holds 38.
const PARTS_PER_MINOR: i128 = 1_000_000_000_000;

/// One line as a merchant sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInput {
    /// What is sold; shown to the payer. Not blank, at most [`NAME_CHARS_MAX`] characters.
    pub name: String,
    /// More about it; shown to the payer. At most [`DESCRIPTION_CHARS_MAX`] characters.
    pub description: Option<String>,
    /// Addresses of pictures of it, at most [`IMAGES_MAX`].
    pub images: Vec<String>,
    /// The merchant's own notes about the product, handed through.
    pub product_metadata: BTreeMap<String, String>,
    /// The currency of the price; the same on every line.
    pub currency: Currency,
    /// The price of one in minor units, 0 to [`AMOUNT_MINOR_MAX`]. Exactly one of this and the next is given.
    pub unit_amount: Option<i64>,
    /// The price of one in minor units as a decimal number with at most [`UNIT_DECIMALS_MAX`] decimals.
    pub unit_amount_decimal: Option<String>,
    /// How many, 1 to [`QUANTITY_MAX`].
    pub quantity: Option<i64>,
}

/// One line with its price worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedLine {
    /// What is sold.
    pub name: String,
    /// More about it.
    pub description: Option<String>,
    /// Addresses of pictures of it.
    pub images: Vec<String>,
    /// The merchant's own notes about the product.
    pub product_metadata: BTreeMap<String, String>,
    /// The price of one in minor units; `None` when it is not a whole number of them.
    pub unit_amount: Option<i64>,
    /// The price of one in minor units, exact, without needless zeros: `1250` or `0.5`.
    pub unit_amount_decimal: String,
    /// How many, 1 to [`QUANTITY_MAX`].
    pub quantity: i64,
    /// Price times quantity in minor units, rounded half up.
    pub amount_subtotal: i64,
    /// What this line adds to the total, in minor units. Equal to the subtotal as long as nothing is taken off.
    pub amount_total: i64,
}

/// A cart with its price worked out: 1 to [`LINES_MAX`] lines in one currency, and a total that can be charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedCart {
    /// The lines in the merchant's order.
    pub lines: Vec<PricedLine>,
    /// The currency of every amount here.
    pub currency: Currency,
    /// The sum of the lines' subtotals in minor units.
    pub amount_subtotal: i64,
    /// What the payer pays, in minor units: 1 to [`AMOUNT_MINOR_MAX`].
    pub amount_total: i64,
}

impl PricedCart {
    /// What the payer pays.
    pub fn total(&self) -> Money {
        Money::new(self.amount_total, self.currency)
    }
}

/// The part of a line, or of the whole list, that a pricing error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PricingField {
    /// The list of lines itself, or the sum over it.
    Lines,
    /// A product's name.
    Name,
    /// A product's description.
    Description,
    /// A product's pictures.
    Images,
    /// A price's currency.
    Currency,
    /// A price in whole minor units.
    UnitAmount,
    /// A price as a decimal number of minor units.
    UnitAmountDecimal,
    /// How many of a line.
    Quantity,
}

/// What is wrong with the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PricingErrorKind {
    /// It has to be given and was not.
    Missing,
    /// It is there but blank, or an empty list.
    Empty,
    /// It and `unit_amount` exclude each other.
    Exclusive,
    /// It has more characters or entries than this.
    TooLong(usize),
    /// It is not a plain decimal number with at most [`UNIT_DECIMALS_MAX`] decimals.
    NotADecimal,
    /// It is below zero.
    Negative,
    /// It is not a quantity from 1 to [`QUANTITY_MAX`].
    QuantityOutOfRange,
    /// It is another currency than that of the first line.
    MixedCurrencies,
    /// The total is zero, and there is nothing to pay.
    TotalTooSmall,
    /// The price, the line or the total is above [`AMOUNT_MINOR_MAX`].
    TooLarge,
    /// The total has digits that its currency cannot be charged with; it must be a multiple of this.
    NotChargeableStep(i64),
}

/// Why a cart has no price, and where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct PricingError {
    /// The line, counted from 0; `None` when it is about the list or its total.
    pub line: Option<usize>,
    /// The field of that line.
    pub field: PricingField,
    /// What is wrong with it.
    pub kind: PricingErrorKind,
}

impl PricingError {
    /// The parameter to blame, as Stripe writes it: `line_items[0][price_data][unit_amount]`.
    pub fn param(&self) -> String {
        let path = match self.field {
            PricingField::Lines => "",
            PricingField::Name => "[price_data][product_data][name]",
            PricingField::Description => "[price_data][product_data][description]",
            PricingField::Images => "[price_data][product_data][images]",
            PricingField::Currency => "[price_data][currency]",
            PricingField::UnitAmount => "[price_data][unit_amount]",
            PricingField::UnitAmountDecimal => "[price_data][unit_amount_decimal]",
            PricingField::Quantity => "[quantity]",
        };
        match self.line {
            Some(line) => format!("line_items[{line}]{path}"),
            None => format!("line_items{path}"),
        }
    }

    /// Stripe's error code, or `None` for what Stripe answers with a message only.
    pub fn code(&self) -> Option<&'static str> {
        match self.kind {
            PricingErrorKind::Missing => Some("parameter_missing"),
            PricingErrorKind::Empty => Some("parameter_invalid_empty"),
            PricingErrorKind::Exclusive => Some("parameters_exclusive"),
            PricingErrorKind::TooLong(_) | PricingErrorKind::MixedCurrencies => None,
            PricingErrorKind::NotADecimal
            | PricingErrorKind::Negative
            | PricingErrorKind::QuantityOutOfRange
            | PricingErrorKind::NotChargeableStep(_) => Some("parameter_invalid_integer"),
            PricingErrorKind::TotalTooSmall => Some("amount_too_small"),
            PricingErrorKind::TooLarge => Some("amount_too_large"),
        }
    }
}

impl fmt::Display for PricingErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(formatter, "This value is required."),
            Self::Empty => write!(formatter, "This value must not be empty."),
            Self::Exclusive => {
                write!(formatter, "Give either `unit_amount` or `unit_amount_decimal`, not both.")
            }
            Self::TooLong(most) => {
                write!(formatter, "This value is too long: the limit is {most}.")
            }
            Self::NotADecimal => write!(
                formatter,
                "This value must be a decimal number such as `12.5`, with at most {UNIT_DECIMALS_MAX} decimals."
            ),
            Self::Negative => write!(formatter, "This value must not be below zero."),
            Self::QuantityOutOfRange => {
                write!(formatter, "The quantity must be a whole number from 1 to {QUANTITY_MAX}.")
            }
            Self::MixedCurrencies => {
                write!(formatter, "All line items must have the same currency.")
            }
            Self::TotalTooSmall => write!(formatter, "The total must be above zero."),
            Self::TooLarge => {
                write!(formatter, "The amount must not be above {AMOUNT_MINOR_MAX} in the currency's smallest unit.")
            }
            Self::NotChargeableStep(step_minor) => {
                write!(formatter, "The total in this currency must be a multiple of {step_minor} in its smallest unit.")
            }
        }
    }
}

/// Prices a cart, or names the first thing that is wrong with it. Lines keep their order.
pub fn price_lines(inputs: Vec<LineInput>) -> Result<PricedCart, PricingError> {
    let about_lines = |kind| PricingError { line: None, field: PricingField::Lines, kind };
    if inputs.len() > LINES_MAX {
        return Err(about_lines(PricingErrorKind::TooLong(LINES_MAX)));
    }
    let Some(currency) = inputs.first().map(|first| first.currency) else {
        return Err(about_lines(PricingErrorKind::Empty));
    };

    let mut lines = Vec::with_capacity(inputs.len());
    let mut total = Money::zero(currency);
    for (index, input) in inputs.into_iter().enumerate() {
        let (line, amount) =
            price_line(input, currency).map_err(|(field, kind)| PricingError { line: Some(index), field, kind })?;
        total = total.checked_add(amount).map_err(|_| about_lines(PricingErrorKind::TooLarge))?;
        lines.push(line);
    }

    match total.check_chargeable() {
        Ok(()) => Ok(PricedCart { lines, currency, amount_subtotal: total.minor, amount_total: total.minor }),
        Err(MoneyError::NotChargeableStep { step_minor, .. }) => {
            Err(about_lines(PricingErrorKind::NotChargeableStep(step_minor)))
        }
        Err(MoneyError::AboveMaximum) => Err(about_lines(PricingErrorKind::TooLarge)),
        Err(_) => Err(about_lines(PricingErrorKind::TotalTooSmall)),
    }
}

type FieldError = (PricingField, PricingErrorKind);

fn price_line(input: LineInput, cart: Currency) -> Result<(PricedLine, Money), FieldError> {
    check_wording(&input)?;
    if input.currency != cart {
        return Err((PricingField::Currency, PricingErrorKind::MixedCurrencies));
    }
    let (unit, unit_field) = match (input.unit_amount, &input.unit_amount_decimal) {
        (Some(minor), None) => {
            let unit = UnitPrice::from_minor(minor);
            (unit.map_err(|kind| (PricingField::UnitAmount, kind))?, PricingField::UnitAmount)
        }
        (None, Some(decimal)) => {
            let field = PricingField::UnitAmountDecimal;
            (UnitPrice::parse(decimal).map_err(|kind| (field, kind))?, field)
        }
        (Some(_), Some(_)) => {
            return Err((PricingField::UnitAmountDecimal, PricingErrorKind::Exclusive));
        }
        (None, None) => return Err((PricingField::UnitAmount, PricingErrorKind::Missing)),
    };
    let quantity = input.quantity.ok_or((PricingField::Quantity, PricingErrorKind::Missing))?;
    if !(1..=QUANTITY_MAX).contains(&quantity) {
        return Err((PricingField::Quantity, PricingErrorKind::QuantityOutOfRange));
    }
    let subtotal = unit.times(quantity).ok_or((unit_field, PricingErrorKind::TooLarge))?;
    let line = PricedLine {
        name: input.name,
        description: input.description,
        images: input.images,
        product_metadata: input.product_metadata,
        unit_amount: unit.whole_minor(),
        unit_amount_decimal: unit.to_string(),
        quantity,
        amount_subtotal: subtotal,
        amount_total: subtotal,
    };
    Ok((line, Money::new(subtotal, cart)))
}

fn check_wording(input: &LineInput) -> Result<(), FieldError> {
    if input.name.trim().is_empty() {
        return Err((PricingField::Name, PricingErrorKind::Empty));
    }
    if input.name.chars().count() > NAME_CHARS_MAX {
        return Err((PricingField::Name, PricingErrorKind::TooLong(NAME_CHARS_MAX)));
    }
    let description_chars = input.description.as_deref().unwrap_or("").chars().count();
    if description_chars > DESCRIPTION_CHARS_MAX {
        return Err((PricingField::Description, PricingErrorKind::TooLong(DESCRIPTION_CHARS_MAX)));
    }
    if input.images.len() > IMAGES_MAX {
        return Err((PricingField::Images, PricingErrorKind::TooLong(IMAGES_MAX)));
    }
    Ok(())
}

/// The price of one, in trillionths of a minor unit, 0 to [`AMOUNT_MINOR_MAX`] minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnitPrice(i128);

impl UnitPrice {
    fn from_minor(minor: i64) -> Result<UnitPrice, PricingErrorKind> {
        match minor {
            ..0 => Err(PricingErrorKind::Negative),
            0..=AMOUNT_MINOR_MAX => Ok(UnitPrice(i128::from(minor) * PARTS_PER_MINOR)),
            _ => Err(PricingErrorKind::TooLarge),
        }
    }

    /// Reads digits with an optional point between them. No sign but a minus (which is then refused by its own name),
    /// no exponent, no blanks: whoever sends those has formatted a floating point number.
    fn parse(text: &str) -> Result<UnitPrice, PricingErrorKind> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, decimals) = match unsigned.split_once('.') {
            Some((_, "")) => return Err(PricingErrorKind::NotADecimal),
            Some(parts) => parts,
            None => (unsigned, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > UNIT_DECIMALS_MAX {
            return Err(PricingErrorKind::NotADecimal);
        }
        if unsigned.len() > UNIT_DECIMAL_CHARS_MAX {
            return Err(PricingErrorKind::TooLarge);
        }
        // At most 24 digits are left, so neither step can overflow.
        let parts = whole
            .bytes()
            .chain(decimals.bytes().chain(std::iter::repeat(b'0')).take(UNIT_DECIMALS_MAX))
            .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        if negative && parts != 0 {
            Err(PricingErrorKind::Negative)
        } else if parts > i128::from(AMOUNT_MINOR_MAX) * PARTS_PER_MINOR {
            Err(PricingErrorKind::TooLarge)
        } else {
            Ok(UnitPrice(parts))
        }
    }

    /// The price of `quantity` in minor units, rounded half up once; `None` above [`AMOUNT_MINOR_MAX`].
    fn times(self, quantity: i64) -> Option<i64> {
        let parts = self.0.checked_mul(i128::from(quantity))?;
        let minor = parts.checked_add(PARTS_PER_MINOR / 2)? / PARTS_PER_MINOR;
        i64::try_from(minor).ok().filter(|minor| *minor <= AMOUNT_MINOR_MAX)
    }

    fn whole_minor(self) -> Option<i64> {
        if self.0 % PARTS_PER_MINOR != 0 {
            return None;
        }
        i64::try_from(self.0 / PARTS_PER_MINOR).ok()
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / PARTS_PER_MINOR, self.0 % PARTS_PER_MINOR);
        if decimals == 0 {
            return write!(formatter, "{whole}");
        }
        let padded = format!("{decimals:0width$}", width = UNIT_DECIMALS_MAX);
        write!(formatter, "{whole}.{}", padded.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests;
