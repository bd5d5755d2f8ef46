//! The ledger's entries. Written in the transaction that settles a movement, never changed.

use chrono::{DateTime, Utc};

use super::Connection;
use super::together::Statement;
use crate::domain::id::MerchantId;
use crate::domain::ledger::Movement;
use crate::domain::money::Currency;
use crate::error::Result;

/// Whose movement it is, and of what.
#[derive(Debug)]
pub struct Booking<'a> {
    /// Whose it is.
    pub merchant_id: &'a MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// The charge or refund that moved the money.
    pub object_id: &'a str,
    /// The currency of the amounts.
    pub currency: Currency,
    /// When.
    pub at: DateTime<Utc>,
}

/// Books a movement. The same movement of the same object cannot be booked twice.
///
/// # Errors
/// When the database does not answer, or the movement was booked before.
pub async fn book(connection: &mut Connection, booking: &Booking<'_>, movement: Movement) -> Result<()> {
    let mut statement = Statement::default();
    push_book(&mut statement, booking, movement);
    statement.build().execute(connection).await?;
    Ok(())
}

/// The statement of [`book`].
pub(super) fn push_book(statement: &mut Statement, booking: &Booking<'_>, movement: Movement) {
    let entries = movement.entries();
    statement.push(
        "insert into ledger_entry (merchant_id, livemode, movement, object_id, account, currency, amount, created_at)
         select ",
    );
    let mut values = statement.separated(", ");
    values
        .push_bind(booking.merchant_id.as_str())
        .push_bind(booking.livemode)
        .push_bind(movement.as_str())
        .push_bind(booking.object_id)
        .push("e.account")
        .push_bind(booking.currency.code())
        .push("e.amount")
        .push_bind(booking.at);
    statement
        .push(" from unnest(")
        .push_bind(entries.iter().map(|entry| entry.account.as_str()).collect::<Vec<_>>())
        .push("::text[], ")
        .push_bind(entries.iter().map(|entry| entry.amount).collect::<Vec<_>>())
        .push("::int8[]) as e (account, amount)");
}
