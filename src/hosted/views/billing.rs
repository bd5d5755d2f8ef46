//! The billing address on the payment form.
//!
//! The rule: it shows what was typed and nothing that is kept. The country's values are ISO codes, which is what
//! browsers fill in for `autocomplete="billing country"`.

use crate::domain::country::COUNTRIES;

/// The block of fields, as typed before.
#[derive(Clone, Debug, Default)]
pub struct BillingBlock {
    /// Whether the session asks for it; else nothing of it is shown.
    pub is_asked: bool,
    /// Two-letter code; may be empty.
    pub country: String,
    /// Street; may be empty.
    pub line1: String,
    /// Postcode; may be empty.
    pub postal_code: String,
    /// City; may be empty.
    pub city: String,
}

impl BillingBlock {
    /// Code and name of each country, and whether it is chosen.
    pub(super) fn countries(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + '_ {
        COUNTRIES.iter().map(|(code, name)| (*code, *name, self.country.eq_ignore_ascii_case(code)))
    }
}
