//! Where payers go when they come back from their banks, attempt by attempt.
//!
//! The rule: written once, before the attempt's charge, and never changed: the same attempt sent
//! again leads where it first said. An attempt without a row goes to the gateway's own pages.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::domain::id::SessionId;
use crate::domain::redirect::WayBack;
use crate::error::Result;

/// Notes where an attempt's payer is to come back to; the first note stands.
///
/// # Errors
/// When the database does not answer.
pub async fn note(
    database: impl PgExecutor<'_>,
    session: &SessionId,
    attempt_key: &str,
    way: &WayBack,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(
        "insert into payer_return (session_id, attempt_key, return_url, created_at)
         values ($1, $2, $3, $4) on conflict do nothing",
    )
    .bind(session.as_str())
    .bind(attempt_key)
    .bind(way.as_str())
    .bind(now)
    .execute(database)
    .await?;
    Ok(())
}

/// Where an attempt's payer is to come back to, if it said.
///
/// # Errors
/// When the database does not answer.
pub async fn find(database: impl PgExecutor<'_>, session: &SessionId, attempt_key: &str) -> Result<Option<WayBack>> {
    let url: Option<String> =
        sqlx::query_scalar("select return_url from payer_return where session_id = $1 and attempt_key = $2")
            .bind(session.as_str())
            .bind(attempt_key)
            .fetch_optional(database)
            .await?;
    Ok(url.map(WayBack::from_stored))
}
