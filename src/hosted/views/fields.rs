//! The fields of the payment form, and what may be said of each.
//!
//! The rule: the order here is the order on the page, so that what is to be put right is listed as it is met.

/// A field of the payment form. Its name is its `name` and its `id`; hint and error ids are derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckoutField {
    /// E-mail address.
    Email,
    /// The choice between kept cards and another one.
    SavedCard,
    /// Card verification code of the chosen kept card.
    SavedCardCvc,
    /// Card number; may arrive with spaces or hyphens.
    CardNumber,
    /// Expiry; may arrive as `MM / YY`, `MM/YYYY`, `MMYY` or `M/YY`.
    CardExpiry,
    /// Card verification code, 3 or 4 digits.
    CardCvc,
    /// Name on the card.
    CardName,
    /// Country of the billing address.
    BillingCountry,
    /// Its street.
    BillingLine1,
    /// Its postcode.
    BillingPostalCode,
    /// Its city.
    BillingCity,
}

impl CheckoutField {
    /// The field's `name` in the submitted form and its `id` on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::SavedCard => "payment_choice",
            Self::SavedCardCvc => "saved_card_cvc",
            Self::CardNumber => "card_number",
            Self::CardExpiry => "card_expiry",
            Self::CardCvc => "card_cvc",
            Self::CardName => "card_name",
            Self::BillingCountry => "billing_country",
            Self::BillingLine1 => "billing_line1",
            Self::BillingPostalCode => "billing_postal_code",
            Self::BillingCity => "billing_city",
        }
    }
}

/// Something to put right in one field.
#[derive(Clone, Debug)]
pub struct FieldError {
    /// Which field.
    pub field: CheckoutField,
    /// What to do, such as `Enter the 3 digits on the back of your card`.
    pub message: String,
}
