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
use crate::domain::billing::AddressCollection;
use crate::domain::charge_facts::{
    AuthenticationFlow, AuthenticationResult, CardChecks, CheckResult, Facts, RiskLevel, ThreeDSecure,
};
use crate::domain::id::LineItemId;
use crate::domain::payment::CaptureMethod;
use crate::domain::payment_method::{AllowRedisplay, FutureUsage, SavedCardOptions};
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
    capture_method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_descriptor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_descriptor_suffix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    setup_future_usage: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offer_to_save_card: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redisplay_saved_cards: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    billing_address_collection: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    goes_back_at_once: bool,
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
        capture_method: (options.capture_method == CaptureMethod::Manual).then(|| "manual".to_owned()),
        statement_descriptor: options.statement_descriptor.clone(),
        statement_descriptor_suffix: options.statement_descriptor_suffix.clone(),
        setup_future_usage: options.saved_cards.future_usage.map(|usage| usage.as_str().to_owned()),
        offer_to_save_card: options.saved_cards.offer_to_save,
        redisplay_saved_cards: options
            .saved_cards
            .redisplay
            .as_ref()
            .map(|filters| filters.iter().map(|filter| filter.as_str().to_owned()).collect()),
        billing_address_collection: options.billing_address_collection.map(|word| word.as_str().to_owned()),
        goes_back_at_once: options.goes_back_at_once,
    })
}

/// The options of a session's row.
///
/// # Errors
/// When the row was not written by this file.
pub fn options_from_row(session: &str, row: &PgRow) -> Result<Options> {
    let stored: StoredOptions = read(row, "checkout_session", session, "options")?;
    let broken = |what: &str| inconsistent("checkout_session", session, what);
    let usage = stored.setup_future_usage.as_deref();
    let filters = |words: Vec<String>| words.iter().map(|word| AllowRedisplay::parse(word)).collect::<Option<Vec<_>>>();
    let saved_cards = SavedCardOptions {
        future_usage: usage
            .map(|word| FutureUsage::parse(word).ok_or_else(|| broken("unknown future usage")))
            .transpose()?,
        offer_to_save: stored.offer_to_save_card,
        redisplay: stored
            .redisplay_saved_cards
            .map(|words| filters(words).ok_or_else(|| broken("unknown redisplay filter")))
            .transpose()?,
    };
    Ok(Options {
        saved_cards,
        locale: stored.locale,
        submit_type: stored.submit_type,
        ui_mode: stored.ui_mode,
        customer_creation: stored.customer_creation,
        payment_description: stored.payment_description,
        payment_metadata: stored.payment_metadata,
        receipt_email: stored.receipt_email,
        capture_method: match stored.capture_method {
            None => CaptureMethod::Automatic,
            Some(word) => CaptureMethod::parse(&word).ok_or_else(|| broken("unknown capture method"))?,
        },
        statement_descriptor: stored.statement_descriptor,
        statement_descriptor_suffix: stored.statement_descriptor_suffix,
        billing_address_collection: stored
            .billing_address_collection
            .map(|word| AddressCollection::parse(&word).ok_or_else(|| broken("unknown address collection")))
            .transpose()?,
        goes_back_at_once: stored.goes_back_at_once,
    })
}

#[derive(Serialize, Deserialize, Default)]
struct StoredFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cvc_check: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address_line1_check: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address_postal_code_check: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authentication_flow: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authentication_result: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authentication_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    risk_level: Option<String>,
}

/// What was learnt of a charge to JSON; nothing for nothing.
pub fn facts_to_json(facts: &Facts) -> Option<Json<impl Serialize>> {
    (*facts != Facts::default()).then(|| {
        let secure = facts.three_d_secure.as_ref();
        let check = |result: Option<CheckResult>| result.map(|result| result.word().to_owned());
        Json(StoredFacts {
            cvc_check: check(facts.checks.cvc),
            address_line1_check: check(facts.checks.address_line1),
            address_postal_code_check: check(facts.checks.postal_code),
            authentication_flow: secure.and_then(|secure| secure.flow).map(|flow| flow.word().to_owned()),
            authentication_result: secure.map(|secure| secure.result.word().to_owned()),
            authentication_version: secure.and_then(|secure| secure.version.clone()),
            network: facts.network.clone(),
            risk_level: facts.risk.map(|risk| risk.word().to_owned()),
        })
    })
}

/// What was learnt of a charge, from its row.
///
/// # Errors
/// When the row was not written by this file.
pub fn facts_from_row(charge: &str, row: &PgRow) -> Result<Facts> {
    let broken = |what: &str| inconsistent("charge", charge, &format!("checks: {what}"));
    let stored: Option<Json<StoredFacts>> = row.try_get("checks").map_err(|error| broken(&error.to_string()))?;
    let Some(Json(stored)) = stored else { return Ok(Facts::default()) };
    fn word_to<T>(word: Option<String>, from_word: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
        word.map(|word| from_word(&word).ok_or(word)).transpose()
    }
    let check = |word| word_to(word, CheckResult::from_word).map_err(|word| broken(&word));
    let result =
        word_to(stored.authentication_result, AuthenticationResult::from_word).map_err(|word| broken(&word))?;
    let flow = word_to(stored.authentication_flow, AuthenticationFlow::from_word).map_err(|word| broken(&word))?;
    Ok(Facts {
        checks: CardChecks {
            cvc: check(stored.cvc_check)?,
            address_line1: check(stored.address_line1_check)?,
            postal_code: check(stored.address_postal_code_check)?,
        },
        three_d_secure: result.map(|result| ThreeDSecure { flow, result, version: stored.authentication_version }),
        network: stored.network,
        reusable_reference: None,
        fee: None,
        issuer_country: None,
        risk: word_to(stored.risk_level, RiskLevel::from_word).map_err(|word| broken(&word))?,
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
