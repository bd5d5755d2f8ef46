//! Daily partitions of the event table, made ahead.
//!
//! Two replicas may make the same one at once; the loser's error is the winner's success. Rows that
//! came to the default partition because no worker ran for a week stay there; their day then has no
//! partition of its own, which costs nothing but a slower retention.

use chrono::{DateTime, Days, Duration, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

use super::Connection;
use crate::error::{Error, Result};

/// Makes the partitions for today and the days up to `ahead` from now.
///
/// # Errors
/// When the database does not answer.
pub async fn ensure(connection: &mut Connection, now: DateTime<Utc>, ahead: Duration) -> Result<()> {
    let last = (now + ahead).date_naive();
    let mut day = now.date_naive();
    while day <= last {
        create(connection, day).await?;
        let Some(next) = day.checked_add_days(Days::new(1)) else {
            break;
        };
        day = next;
    }
    Ok(())
}

async fn create(connection: &mut Connection, day: NaiveDate) -> Result<()> {
    let name = format!("event_{}", day.format("%Y%m%d"));
    let (exists,): (bool,) =
        sqlx::query_as("select to_regclass($1) is not null").bind(&name).fetch_one(&mut *connection).await?;
    if exists {
        return Ok(());
    }
    let next = day.succ_opt().unwrap_or(day);
    // The text holds nothing but digits that chrono wrote; an identifier cannot be a parameter.
    let sql = format!("create table {name} partition of event for values from ('{day} 00:00Z') to ('{next} 00:00Z')");
    match sqlx::query(AssertSqlSafe(sql)).execute(connection).await {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P07" | "42P17" | "23505")) => {
            Ok(())
        }
        // Rows of that day are in the default partition already.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("23514") => {
            tracing::warn!(
                partition = name,
                "events of this day are in event_default; the day gets no partition of its own"
            );
            Ok(())
        }
        Err(error) => Err(Error::from(error)),
    }
}
