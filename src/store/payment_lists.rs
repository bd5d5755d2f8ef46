//! Payments and charges as lists: what a merchant looks through, a page at a time. Single rows and
//! everything that is written are in `store/payments.rs`.

use sqlx::{PgExecutor, Postgres, QueryBuilder};

use super::payments::{charge_columns, payment_columns, to_charge, to_payment};
use super::{CreatedFilter, Page};
use crate::domain::id::MerchantId;
use crate::domain::payment::{Charge, Payment};
use crate::error::Result;

/// What a list of payments or charges may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Of one customer.
    pub customer: Option<String>,
    /// Of one payment; for charges.
    pub payment_intent: Option<String>,
    /// Bounds on the time of creation.
    pub created: CreatedFilter,
}

impl Filter {
    fn push_to(&self, query: &mut QueryBuilder<Postgres>, page: &Page) {
        if let Some(customer) = &self.customer {
            query.push(" and customer_id = ").push_bind(customer.clone());
        }
        if let Some(payment) = &self.payment_intent {
            query.push(" and payment_id = ").push_bind(payment.clone());
        }
        self.created.push_to(query);
        page.push_to(query);
    }
}

/// A page of a merchant's payments, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list_payments(
    database: impl PgExecutor<'_>,
    merchant: &MerchantId,
    livemode: bool,
    filter: &Filter,
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
    filter: &Filter,
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
