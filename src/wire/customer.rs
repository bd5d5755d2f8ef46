//! A customer in the shape of Stripe's. What this gateway does not keep for customers (balances,
//! sources, invoices, taxes) is there and null, empty or zero.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Deleted, Null};
use crate::domain::customer::{self, PostalAddress};
use crate::domain::session::Metadata;

/// A customer.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Customer {
    /// `cus_…`
    pub id: String,
    /// Always `customer`.
    pub object: &'static str,
    /// Billing address.
    pub address: Option<Address>,
    /// Always 0.
    pub balance: i64,
    /// Always null.
    pub business_name: Option<String>,
    /// Unix seconds.
    pub created: i64,
    /// Always null.
    pub currency: Option<String>,
    /// Always null.
    pub customer_account: Option<String>,
    /// Always null.
    pub default_source: Option<String>,
    /// Always false.
    pub delinquent: bool,
    /// The merchant's words.
    pub description: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub discount: Null,
    /// E-mail address.
    pub email: Option<String>,
    /// Always null.
    pub individual_name: Option<String>,
    /// Always null.
    pub invoice_prefix: Option<String>,
    /// All null.
    pub invoice_settings: InvoiceSettings,
    /// Mode.
    pub livemode: bool,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// Name.
    pub name: Option<String>,
    /// Always 1.
    pub next_invoice_sequence: i64,
    /// Telephone.
    pub phone: Option<String>,
    /// Languages, the most wanted first.
    pub preferred_locales: Vec<String>,
    /// Shipping address.
    pub shipping: Option<Shipping>,
    /// Always `none`.
    pub tax_exempt: &'static str,
    /// Always null.
    pub test_clock: Option<String>,
}

/// A postal address.
#[derive(Serialize, ToSchema, Debug, Clone, Default)]
pub struct Address {
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
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Shipping {
    /// Whereto.
    pub address: Address,
    /// Always null.
    pub carrier: Option<String>,
    /// To whom.
    pub name: String,
    /// His telephone.
    pub phone: Option<String>,
    /// Always null.
    pub tracking_number: Option<String>,
}

/// What invoices would be made with.
#[derive(Serialize, ToSchema, Debug, Clone, Default)]
pub struct InvoiceSettings {
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub custom_fields: Null,
    /// Always null.
    pub default_payment_method: Option<String>,
    /// Always null.
    pub footer: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub rendering_options: Null,
}

/// A customer, or what remains of one.
#[derive(Serialize, ToSchema, Debug, Clone)]
#[serde(untagged)]
pub enum FoundCustomer {
    /// It is there.
    Customer(Box<Customer>),
    /// It was deleted.
    Deleted(Deleted),
}

impl From<&PostalAddress> for Address {
    fn from(address: &PostalAddress) -> Self {
        let PostalAddress { city, country, line1, line2, postal_code, state } = address.clone();
        Self { city, country, line1, line2, postal_code, state }
    }
}

impl Customer {
    /// The customer as it stands.
    pub fn new(customer: &customer::Customer) -> Self {
        Self {
            id: customer.id.to_string(),
            object: "customer",
            address: customer.address.as_ref().map(Address::from),
            balance: 0,
            business_name: None,
            created: customer.created_at.timestamp(),
            currency: None,
            customer_account: None,
            default_source: None,
            delinquent: false,
            description: customer.description.clone(),
            discount: None,
            email: customer.email.clone(),
            individual_name: None,
            invoice_prefix: None,
            invoice_settings: InvoiceSettings::default(),
            livemode: customer.livemode,
            metadata: customer.metadata.clone(),
            name: customer.name.clone(),
            next_invoice_sequence: 1,
            phone: customer.phone.clone(),
            preferred_locales: customer.preferred_locales.clone(),
            shipping: customer.shipping.as_ref().map(|shipping| Shipping {
                address: Address::from(&shipping.address),
                carrier: None,
                name: shipping.name.clone(),
                phone: shipping.phone.clone(),
                tracking_number: None,
            }),
            tax_exempt: "none",
            test_clock: None,
        }
    }
}
