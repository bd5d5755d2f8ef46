//! A merchant's customer: who it is, as far as the merchant says.
//!
//! The rule: a customer belongs to one merchant in one mode. A deleted one stays as an id and nothing
//! else. Which cards are kept for him is `domain::payment_method`'s.

use chrono::{DateTime, Utc};

use super::id::{CustomerId, MerchantId};
use super::session::Metadata;

/// A postal address, as the merchant or the payer wrote it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PostalAddress {
    /// City or town.
    pub city: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Street.
    pub line1: Option<String>,
    /// Flat, floor.
    pub line2: Option<String>,
    /// Postcode.
    pub postal_code: Option<String>,
    /// State or province.
    pub state: Option<String>,
}

/// Where a parcel goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipping {
    /// Whereto.
    pub address: PostalAddress,
    /// To whom.
    pub name: String,
    /// His telephone.
    pub phone: Option<String>,
}

/// A customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    /// Its id.
    pub id: CustomerId,
    /// Whose customer.
    pub merchant_id: MerchantId,
    /// Mode.
    pub livemode: bool,
    /// E-mail address.
    pub email: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Telephone.
    pub phone: Option<String>,
    /// The merchant's words.
    pub description: Option<String>,
    /// Billing address.
    pub address: Option<PostalAddress>,
    /// Shipping address.
    pub shipping: Option<Shipping>,
    /// Languages, the most wanted first.
    pub preferred_locales: Vec<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Customer {
    /// A customer of whom nothing is known yet.
    pub fn new(id: CustomerId, merchant_id: MerchantId, livemode: bool, now: DateTime<Utc>) -> Self {
        Self {
            id,
            merchant_id,
            livemode,
            email: None,
            name: None,
            phone: None,
            description: None,
            address: None,
            shipping: None,
            preferred_locales: Vec::new(),
            metadata: Metadata::new(),
            created_at: now,
            deleted_at: None,
        }
    }

    /// The customer as it is after its deletion: an id, and nothing about the person.
    pub fn deleted(self, now: DateTime<Utc>) -> Self {
        Self { deleted_at: Some(now), ..Self::new(self.id, self.merchant_id, self.livemode, self.created_at) }
    }
}
