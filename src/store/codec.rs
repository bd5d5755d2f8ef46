//! The jsonb columns: domain values to JSON and back.
//!
//! Domain types do not serialise themselves, because a serialised form is a promise and this one is
//! made to nobody but the next version of this file. New keys need a default for old rows.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;

use super::inconsistent;
use crate::domain::id::LineItemId;
use crate::domain::pricing::PricedLine;
use crate::domain::session::{Line, Metadata, Options};
use crate::error::Result;

#[derive(Serialize, Deserialize)]
struct StoredLine {
    id: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    product_metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit_amount: Option<i64>,
    unit_amount_decimal: String,
    quantity: i64,
    amount_subtotal: i64,
    amount_total: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    submit_type: Option<String>,
    ui_mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_creation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment_description: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    payment_metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt_email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_descriptor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_descriptor_suffix: Option<String>,
}

/// Reads a column straight from its bytes. A session is read for every page, so nothing is built twice.
fn read<T: DeserializeOwned + 'static>(row: &PgRow, table: &str, id: &str, column: &str) -> Result<T> {
    let Json(value) = row.try_get(column).map_err(|error| inconsistent(table, id, &error.to_string()))?;
    Ok(value)
}

/// Lines to JSON.
pub fn lines_to_json(lines: &[Line]) -> Json<impl Serialize> {
    let stored: Vec<StoredLine> = lines
        .iter()
        .map(|Line { id, priced }| StoredLine {
            id: id.to_string(),
            name: priced.name.clone(),
            description: priced.description.clone(),
            images: priced.images.clone(),
            product_metadata: priced.product_metadata.clone(),
            unit_amount: priced.unit_amount,
            unit_amount_decimal: priced.unit_amount_decimal.clone(),
            quantity: priced.quantity,
            amount_subtotal: priced.amount_subtotal,
            amount_total: priced.amount_total,
        })
        .collect();
    Json(stored)
}

/// The lines of a session's row.
///
/// # Errors
/// When the row was not written by this file.
pub fn lines_from_row(session: &str, row: &PgRow) -> Result<Vec<Line>> {
    let stored: Vec<StoredLine> = read(row, "checkout_session", session, "line_items")?;
    Ok(stored
        .into_iter()
        .map(|line| Line {
            id: LineItemId::from_stored(line.id),
            priced: PricedLine {
                name: line.name,
                description: line.description,
                images: line.images,
                product_metadata: line.product_metadata,
                unit_amount: line.unit_amount,
                unit_amount_decimal: line.unit_amount_decimal,
                quantity: line.quantity,
                amount_subtotal: line.amount_subtotal,
                amount_total: line.amount_total,
            },
        })
        .collect())
}

/// Options to JSON.
pub fn options_to_json(options: &Options) -> Json<impl Serialize> {
    Json(StoredOptions {
        locale: options.locale.clone(),
        submit_type: options.submit_type.clone(),
        ui_mode: options.ui_mode.clone(),
        customer_creation: options.customer_creation.clone(),
        payment_description: options.payment_description.clone(),
        payment_metadata: options.payment_metadata.clone(),
        receipt_email: options.receipt_email.clone(),
        statement_descriptor: options.statement_descriptor.clone(),
        statement_descriptor_suffix: options.statement_descriptor_suffix.clone(),
    })
}

/// The options of a session's row.
///
/// # Errors
/// When the row was not written by this file.
pub fn options_from_row(session: &str, row: &PgRow) -> Result<Options> {
    let stored: StoredOptions = read(row, "checkout_session", session, "options")?;
    Ok(Options {
        locale: stored.locale,
        submit_type: stored.submit_type,
        ui_mode: stored.ui_mode,
        customer_creation: stored.customer_creation,
        payment_description: stored.payment_description,
        payment_metadata: stored.payment_metadata,
        receipt_email: stored.receipt_email,
        statement_descriptor: stored.statement_descriptor,
        statement_descriptor_suffix: stored.statement_descriptor_suffix,
    })
}

/// Metadata to JSON.
pub fn metadata_to_json(metadata: &Metadata) -> Json<&Metadata> {
    Json(metadata)
}

/// The metadata of a row.
///
/// # Errors
/// When the row was not written by this file.
pub fn metadata_from_row(table: &str, id: &str, row: &PgRow) -> Result<Metadata> {
    read(row, table, id, "metadata")
}
