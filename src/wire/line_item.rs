//! A session's line item, with the price and product that it was made from.
//!
//! Prices given as `price_data` belong to their session alone. Stripe shows them as inactive price
//! and product objects; so does this, with ids derived from the line's own.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Expand, Expandable, Null};
use crate::domain::money::Currency;
use crate::domain::session::{Line, Session};

/// A line item.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct LineItem {
    /// `li_…`
    pub id: String,
    /// Always `item`.
    pub object: &'static str,
    /// Always null: the payer cannot change quantities.
    #[schema(value_type = Option<Object>)]
    pub adjustable_quantity: Null,
    /// Minor units.
    pub amount_discount: i64,
    /// Minor units, before discount and tax.
    pub amount_subtotal: i64,
    /// Minor units.
    pub amount_tax: i64,
    /// Minor units, after discount and tax.
    pub amount_total: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// The product's name.
    pub description: String,
    /// Always empty.
    pub metadata: BTreeMap<String, String>,
    /// The price that the line was made from.
    pub price: Price,
    /// How many.
    pub quantity: i64,
}

/// A price made from `price_data`.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Price {
    /// `price_…`
    pub id: String,
    /// Always `price`.
    pub object: &'static str,
    /// Always false: it cannot be used again.
    pub active: bool,
    /// Always `per_unit`.
    pub billing_scheme: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// Lower-case ISO 4217 code.
    pub currency: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub custom_unit_amount: Null,
    /// Mode.
    pub livemode: bool,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub lookup_key: Null,
    /// Always empty.
    pub metadata: BTreeMap<String, String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub nickname: Null,
    /// The product: id, or the object with `expand`.
    pub product: Expandable<Product>,
    /// Always null: one-time.
    #[schema(value_type = Option<Object>)]
    pub recurring: Null,
    /// Always `unspecified`.
    pub tax_behavior: &'static str,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub tiers_mode: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub transform_quantity: Null,
    /// Always `one_time`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Minor units; null when the price has a fraction of one.
    pub unit_amount: Option<i64>,
    /// Minor units as a decimal string.
    pub unit_amount_decimal: String,
}

/// A product made from `product_data`.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Product {
    /// `prod_…`
    pub id: String,
    /// Always `product`.
    pub object: &'static str,
    /// Always false.
    pub active: bool,
    /// Unix seconds.
    pub created: i64,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub default_price: Null,
    /// The description, where given.
    pub description: Option<String>,
    /// Image URLs as given; the hosted page does not load them.
    pub images: Vec<String>,
    /// Mode.
    pub livemode: bool,
    /// Always empty.
    pub marketing_features: Vec<String>,
    /// The product's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The name.
    pub name: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub package_dimensions: Null,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub shippable: Null,
    /// Always null.
    pub statement_descriptor: Option<String>,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub tax_code: Null,
    /// Always `service`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always null.
    pub unit_label: Option<String>,
    /// Unix seconds.
    pub updated: i64,
    /// Always null.
    pub url: Option<String>,
}

impl LineItem {
    /// The line at a session. `path` is where the line stands for `expand`, such as
    /// `line_items.data.`; empty in the list of lines itself.
    pub fn new(session: &Session, line: &Line, expand: &Expand, path: &str) -> Self {
        let body = line.id.as_str().trim_start_matches("li_");
        let currency: Currency = session.total.currency;
        let created = session.created_at.timestamp();
        let priced = &line.priced;
        let product_id = format!("prod_{body}");
        let product = if expand.wants(&format!("{path}price.product")) {
            Expandable::Object(Box::new(Product {
                id: product_id,
                object: "product",
                active: false,
                created,
                default_price: None,
                description: priced.description.clone(),
                images: priced.images.clone(),
                livemode: session.livemode,
                marketing_features: Vec::new(),
                metadata: priced.product_metadata.clone(),
                name: priced.name.clone(),
                package_dimensions: None,
                shippable: None,
                statement_descriptor: None,
                tax_code: None,
                kind: "service",
                unit_label: None,
                updated: created,
                url: None,
            }))
        } else {
            Expandable::Id(product_id)
        };
        Self {
            id: line.id.to_string(),
            object: "item",
            adjustable_quantity: None,
            amount_discount: 0,
            amount_subtotal: priced.amount_subtotal,
            amount_tax: 0,
            amount_total: priced.amount_total,
            currency: currency.code().to_owned(),
            description: priced.name.clone(),
            metadata: BTreeMap::new(),
            price: Price {
                id: format!("price_{body}"),
                object: "price",
                active: false,
                billing_scheme: "per_unit",
                created,
                currency: currency.code().to_owned(),
                custom_unit_amount: None,
                livemode: session.livemode,
                lookup_key: None,
                metadata: BTreeMap::new(),
                nickname: None,
                product,
                recurring: None,
                tax_behavior: "unspecified",
                tiers_mode: None,
                transform_quantity: None,
                kind: "one_time",
                unit_amount: priced.unit_amount,
                unit_amount_decimal: priced.unit_amount_decimal.clone(),
            },
            quantity: priced.quantity,
        }
    }
}
