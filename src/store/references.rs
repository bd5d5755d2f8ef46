//! Providers' own ids of charges, written down while the charges are being made.
//!
//! The rule: a charge gets one, before money can move under it, and none any more once it is settled
//! or being closed. That is one statement, so nobody can come between.

use sqlx::PgPool;

use crate::domain::id::ChargeId;
use crate::error::Result;

/// What became of writing a provider's reference down.
#[derive(Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The charge has it.
    Now,
    /// The charge has this other one.
    Earlier(String),
    /// The charge is settled or being closed.
    Closed,
}

/// Writes the provider's reference of a charge that is being made, unless it has another, is settled, or is
/// being closed.
///
/// # Errors
/// When the database does not answer.
pub async fn remember_reference(pool: &PgPool, id: &ChargeId, reference: &str) -> Result<Remembered> {
    let written = sqlx::query(
        "update charge set provider_reference = $2
         where id = $1 and state = 'pending' and not closing and coalesce(provider_reference, $2) = $2",
    )
    .bind(id.as_str())
    .bind(reference)
    .execute(pool)
    .await?;
    if written.rows_affected() == 1 {
        return Ok(Remembered::Now);
    }
    let earlier: Option<String> = sqlx::query_scalar("select provider_reference from charge where id = $1")
        .bind(id.as_str())
        .fetch_optional(pool)
        .await?
        .flatten();
    Ok(earlier.filter(|earlier| earlier != reference).map_or(Remembered::Closed, Remembered::Earlier))
}
