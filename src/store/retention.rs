//! What is too old to keep: events with their dead deliveries, and the log of attempts.
//!
//! The rule: an event that is still owed to somebody stays, however old. A day that nobody is owed
//! anything of is dropped as a whole, which costs next to nothing; the rest is deleted in batches. The
//! drop waits for its lock for a moment only, because everybody who writes an event waits behind it.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgPool};

use super::{Connection, Store};
use crate::error::Result;

/// How long the drop of a day may make those wait who write events.
const DROP_LOCK_TIMEOUT: &str = "set local lock_timeout = '100ms'";

/// The days that have a partition of their own and lie before `before` as a whole, oldest first, `days_max` at
/// most.
///
/// # Errors
/// When the database does not answer.
pub async fn old_days(connection: &mut Connection, before: DateTime<Utc>, days_max: i64) -> Result<Vec<NaiveDate>> {
    let names: Vec<String> = sqlx::query_scalar(
        r"select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = 'event'::regclass and c.relname ~ '^event_[0-9]{8}$'
          order by c.relname limit $1",
    )
    .bind(days_max)
    .fetch_all(connection)
    .await?;
    let day = |name: &String| NaiveDate::parse_from_str(name.trim_start_matches("event_"), "%Y%m%d").ok();
    Ok(names.iter().filter_map(day).filter(|day| *day < before.date_naive()).collect())
}

/// Drops a day of events, unless something of it is still owed. False when it was left, also when somebody held
/// it for too long.
///
/// # Errors
/// When the database does not answer.
pub async fn drop_day(store: &Store, day: NaiveDate) -> Result<bool> {
    let next = day.succ_opt().unwrap_or(day);
    let name = format!("event_{}", day.format("%Y%m%d"));
    let mut transaction = store.begin().await?;
    let done = async {
        sqlx::query(DROP_LOCK_TIMEOUT).execute(&mut *transaction).await?;
        // Text of digits that chrono wrote; an identifier cannot be a parameter. Who asks for an old event to be sent
        // again holds a lock on its partition until he has committed, so what is owed is asked behind the lock.
        let lock = format!("lock table only event, {name} in access exclusive mode");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        let is_owed: bool = sqlx::query_scalar(
            "select exists (select 1 from delivery
                            where dead_at is null and event_created_at >= $1 and event_created_at < $2)",
        )
        .bind(day.and_time(chrono::NaiveTime::MIN).and_utc())
        .bind(next.and_time(chrono::NaiveTime::MIN).and_utc())
        .fetch_one(&mut *transaction)
        .await?;
        if is_owed {
            return Ok(false);
        }
        sqlx::query(AssertSqlSafe(format!("drop table {name}"))).execute(&mut *transaction).await?;
        Ok(true)
    };
    match done.await {
        Ok(dropped) => {
            store.commit(transaction).await?;
            Ok(dropped)
        }
        // Somebody holds it, or another worker has just dropped it.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("55P03" | "42P01")) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes events from before `before` that nobody is owed: those of days that were not dropped. Returns the
/// number of rows.
///
/// # Errors
/// When the database does not answer.
pub async fn prune_events(pool: &PgPool, before: DateTime<Utc>, rows_max: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from event e using (
             select created_at, id from event o
             where created_at < $1
               and not exists (select 1 from delivery d where d.event_id = o.id and d.dead_at is null)
             limit $2
         ) o where e.created_at = o.created_at and e.id = o.id",
    )
    .bind(before)
    .bind(rows_max)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Forgets deliveries that were given up of events from before `before`. Returns the number of rows.
///
/// # Errors
/// When the database does not answer.
pub async fn prune_dead_deliveries(pool: &PgPool, before: DateTime<Utc>, rows_max: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from delivery d using (
             select endpoint_id, event_id from delivery where dead_at is not null and event_created_at < $1 limit $2
         ) o where d.endpoint_id = o.endpoint_id and d.event_id = o.event_id and d.dead_at is not null",
    )
    .bind(before)
    .bind(rows_max)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes attempts from before `before`, but not those of deliveries that are still owed. Returns the number of
/// rows.
///
/// # Errors
/// When the database does not answer.
pub async fn prune_attempts(pool: &PgPool, before: DateTime<Utc>, rows_max: i64) -> Result<u64> {
    let done = sqlx::query(
        "delete from delivery_attempt where (event_id, id) in (
             select a.event_id, a.id from delivery_attempt a
             where a.started_at < $1
               and not exists (select 1 from delivery d
                               where d.endpoint_id = a.endpoint_id and d.event_id = a.event_id and d.dead_at is null)
             limit $2)",
    )
    .bind(before)
    .bind(rows_max)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
