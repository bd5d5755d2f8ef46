//! The ledger's entries. Written in the transaction that settles a movement, never changed.

use chrono::{DateTime, Utc};

use super::Connection;
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
    let entries = movement.entries();
    sqlx::query(
        "insert into ledger_entry (merchant_id, livemode, movement, object_id, account, currency, amount, created_at)
         select $1, $2, $3, $4, e.account, $5, e.amount, $6 from unnest($7::text[], $8::int8[]) as e (account, amount)",
    )
    .bind(booking.merchant_id.as_str())
    .bind(booking.livemode)
    .bind(movement.as_str())
    .bind(booking.object_id)
    .bind(booking.currency.code())
    .bind(booking.at)
    .bind(entries.iter().map(|entry| entry.account.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.amount).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
