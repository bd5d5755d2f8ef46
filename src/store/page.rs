//! Keyset pages and time filters, shared by every list.
//!
//! The rule: a page is found by the id of its neighbour, never by an offset, so its cost does not
//! grow with its depth and new rows do not shift it.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

/// Which page of a list, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// Rows on the page, 1 to 100.
    pub limit: i64,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
}

impl Page {
    /// Adds the cursor, the order and the limit (one more than asked for, to see whether there is
    /// more) to a query that ends in conditions.
    pub fn push_to(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(after) = &self.starting_after {
            query.push(" and id < ").push_bind(after.clone());
        }
        if let Some(before) = &self.ending_before {
            query.push(" and id > ").push_bind(before.clone());
            query.push(" order by id asc limit ");
        } else {
            query.push(" order by id desc limit ");
        }
        query.push_bind(self.limit.saturating_add(1));
    }

    /// Turns rows that were read upwards into newest first. The extra row stays at the far end.
    pub fn order<T>(&self, rows: &mut Vec<T>) {
        if self.ending_before.is_some() {
            let extra = rows.len() > self.row_count();
            let last = if extra { rows.pop() } else { None };
            rows.reverse();
            rows.extend(last);
        }
    }

    /// Cuts the extra row off; true when there was one.
    pub fn cut<T>(&self, rows: &mut Vec<T>) -> bool {
        let has_more = rows.len() > self.row_count();
        rows.truncate(self.row_count());
        has_more
    }

    fn row_count(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(0)
    }
}

/// Bounds on the time of creation.
#[derive(Debug, Default, Clone)]
pub struct CreatedFilter {
    /// Later than.
    pub gt: Option<DateTime<Utc>>,
    /// Then or later.
    pub gte: Option<DateTime<Utc>>,
    /// Earlier than.
    pub lt: Option<DateTime<Utc>>,
    /// Then or earlier.
    pub lte: Option<DateTime<Utc>>,
}

impl CreatedFilter {
    /// Adds the bounds to a query's conditions. The API counts in whole seconds, so are these.
    pub fn push_to(&self, query: &mut QueryBuilder<Postgres>) {
        for (operator, bound) in [(" > ", self.gt), (" >= ", self.gte), (" < ", self.lt), (" <= ", self.lte)] {
            if let Some(bound) = bound {
                query.push(" and date_trunc('second', created_at)").push(operator).push_bind(bound);
            }
        }
    }
}

/// What a list of payments, or of what belongs to them, may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct ListFilter {
    /// Of one customer; for payments and charges.
    pub customer: Option<String>,
    /// Of one charge; for refunds and disputes.
    pub charge: Option<String>,
    /// Of one payment; for all but payments.
    pub payment_intent: Option<String>,
    /// Bounds on the time of creation.
    pub created: CreatedFilter,
}

impl ListFilter {
    /// Adds the conditions, and with them the page, to a query that ends in conditions.
    pub fn push_to(&self, query: &mut QueryBuilder<Postgres>, page: &Page) {
        let Self { customer, charge, payment_intent, created } = self;
        for (column, id) in [("customer_id", customer), ("charge_id", charge), ("payment_id", payment_intent)] {
            if let Some(id) = id {
                query.push(" and ").push(column).push(" = ").push_bind(id.clone());
            }
        }
        created.push_to(query);
        page.push_to(query);
    }
}
