//! Payments and charges as lists: what a merchant looks through, a page at a time. Single rows and
//! everything that is written are in `store/payments.rs`.

use sqlx::{PgExecutor, Postgres, QueryBuilder};

use super::payments::{charge_columns, payment_columns, to_charge, to_payment};
use super::{ListFilter, Page};
use crate::domain::id::MerchantId;
use crate::domain::payment::{Charge, Payment};
use crate::error::Result;

/// A page of a merchant's payments, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list_payments(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    filter: &ListFilter,
    page: &Page,
) -> Result<Vec<Payment>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", payment_columns!(), " from payment where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    filter.push_to(&mut query, page);
    let rows = query.build().fetch_all(database).await?;
    let mut payments = rows.iter().map(to_payment).collect::<Result<Vec<_>>>()?;
    page.order(&mut payments);
    Ok(payments)
}

/// A page of a merchant's charges, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list_charges(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    filter: &ListFilter,
    page: &Page,
) -> Result<Vec<Charge>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", charge_columns!(), " from charge where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    filter.push_to(&mut query, page);
    let rows = query.build().fetch_all(database).await?;
    let mut charges = rows.iter().map(to_charge).collect::<Result<Vec<_>>>()?;
    page.order(&mut charges);
    Ok(charges)
}
