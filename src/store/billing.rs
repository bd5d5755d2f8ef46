//! Billing details in jsonb columns.
//!
//! The rule: rows from before a column was there read as nothing known. The serialised form is a promise
//! to nobody but the next version of this file.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;

use super::customers::StoredAddress;
use super::inconsistent;
use crate::domain::billing::BillingDetails;
use crate::domain::customer::PostalAddress;
use crate::error::Result;

#[derive(Serialize, Deserialize)]
pub(super) struct StoredBilling {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<StoredAddress>,
}

/// An address to JSON.
pub(super) fn address_to_json(address: Option<&PostalAddress>) -> Option<Json<StoredAddress>> {
    address.cloned().map(StoredAddress::from).map(Json)
}

/// The address in a row's column.
///
/// # Errors
/// When the row was not written by this file.
pub(super) fn address_from_row(table: &str, id: &str, row: &PgRow, column: &str) -> Result<Option<PostalAddress>> {
    let stored: Option<Json<StoredAddress>> =
        row.try_get(column).map_err(|error| inconsistent(table, id, &error.to_string()))?;
    Ok(stored.map(|Json(address)| address.into()))
}

/// What the payer of a charge said of himself to JSON; nothing for nothing.
pub(super) fn billing_to_json(billing: &BillingDetails) -> Option<Json<StoredBilling>> {
    let BillingDetails { name, email, address } = billing.clone();
    (*billing != BillingDetails::default())
        .then(|| Json(StoredBilling { name, email, address: address.map(StoredAddress::from) }))
}

/// The billing details of a charge's row.
///
/// # Errors
/// When the row was not written by this file.
pub(super) fn billing_from_row(charge: &str, row: &PgRow) -> Result<BillingDetails> {
    let stored: Option<Json<StoredBilling>> =
        row.try_get("billing_details").map_err(|error| inconsistent("charge", charge, &error.to_string()))?;
    Ok(stored.map_or_else(BillingDetails::default, |Json(StoredBilling { name, email, address })| BillingDetails {
        name,
        email,
        address: address.map(PostalAddress::from),
    }))
}
