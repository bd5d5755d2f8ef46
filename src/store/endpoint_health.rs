//! How endpoints fare, and whose turn it is: failures in a row and pauses, slots of those with a bound on
//! their rate, and deliveries that wait for an earlier one of the same session.
//! An endpoint that is well costs nothing here: it has no row. When to pause and when to give up is
//! decided in `domain/endpoint_health.rs`.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection, Row as _};

use super::Failure;
use crate::domain::id::EndpointId;
use crate::store::outbox::Outgoing;

/// What may begin ahead of its slot: at a thousand a second no timer is exact, and a tenth of a second's
/// worth at once is still the rate that was asked for.
const SLOT_AHEAD: TimeDelta = TimeDelta::milliseconds(100);

/// How an endpoint fares that is not well.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Health {
    /// The first failure after the last success.
    pub failing_since: DateTime<Utc>,
    /// Failures since then.
    pub failures: i32,
    /// Pauses since then.
    pub pauses: i32,
    /// The end of the newest pause.
    pub paused_until: Option<DateTime<Utc>>,
}

/// Counts failures of an endpoint. None if it was deleted.
pub async fn note_failures(
    connection: &mut PgConnection,
    endpoint_id: &str,
    failures: i32,
    now: DateTime<Utc>,
) -> Result<Option<Health>, Failure> {
    const SQL: &str = "
        insert into webhook_endpoint_health as h (endpoint_id, failing_since, failures)
        select id, $3, $2 from webhook_endpoint where id = $1
        on conflict (endpoint_id) do update set failures = least(h.failures::int8 + $2, 2147483647)::int4
        returning failing_since, failures, pauses, paused_until";
    sqlx::query_as(SQL).bind(endpoint_id).bind(failures).bind(now).fetch_optional(connection).await
}

/// Begins a pause, unless one is under way; the turn of the probe that failed, which ends at `probe_until`, is
/// none. True if this call did it.
pub async fn pause(
    connection: &mut PgConnection,
    endpoint_id: &str,
    until: DateTime<Utc>,
    probe_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool, Failure> {
    const SQL: &str = "
        update webhook_endpoint_health set paused_until = $2, pauses = pauses + 1
        where endpoint_id = $1 and (paused_until is null or paused_until <= $3 or paused_until = $4)";
    let done = sqlx::query(SQL).bind(endpoint_id).bind(until).bind(now).bind(probe_until).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the one turn after a pause that ended at `paused_until`: until `probe_until` nobody else gets it.
/// False if somebody else was first, or the endpoint is well.
pub async fn take_probe(
    connection: &mut PgConnection,
    endpoint_id: &str,
    paused_until: DateTime<Utc>,
    probe_until: DateTime<Utc>,
) -> Result<bool, Failure> {
    const SQL: &str = "
        update webhook_endpoint_health set paused_until = $3 where endpoint_id = $1 and paused_until = $2";
    let done = sqlx::query(SQL).bind(endpoint_id).bind(paused_until).bind(probe_until).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets that an endpoint failed: it took something, or its merchant changed it.
pub async fn forget(connection: &mut PgConnection, endpoint_id: &str) -> Result<(), Failure> {
    sqlx::query("delete from webhook_endpoint_health where endpoint_id = $1")
        .bind(endpoint_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the next slot of an endpoint with a bound on its rate, if it has come. Otherwise gives the time at
/// which the next one comes. One row for all processes, so that the bound is the endpoint's.
pub async fn take_slot(
    connection: &mut PgConnection,
    endpoint_id: &str,
    events_per_second: i32,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Failure> {
    const SQL: &str = "
        with taken as (
            insert into webhook_endpoint_pace as p (endpoint_id, next_slot_at)
            select id, $2::timestamptz + $3 from webhook_endpoint where id = $1
            on conflict (endpoint_id) do update set next_slot_at = greatest(p.next_slot_at, $2) + $3
                where p.next_slot_at <= $2::timestamptz + $4
            returning 1
        )
        select case when not exists (select 1 from taken) then p.next_slot_at end
        from (values (1)) as v left join webhook_endpoint_pace p on p.endpoint_id = $1";
    let interval = TimeDelta::microseconds(1_000_000 / i64::from(events_per_second.max(1)));
    let next: Option<DateTime<Utc>> = sqlx::query_scalar(SQL)
        .bind(endpoint_id)
        .bind(now)
        .bind(interval)
        .bind(SLOT_AHEAD)
        .fetch_one(connection)
        .await?;
    Ok(next.map(|at| at - SLOT_AHEAD))
}

/// What order an endpoint that asks for it demands of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It belongs to no session, was written before the endpoint asked for order, or the endpoint asks for it no more.
    Free,
    /// It is the first of this session that is still owed.
    First {
        /// The session.
        session_id: String,
    },
    /// An earlier one is owed: it was parked, with its attempt not used up.
    Parked,
}

/// Whether it is this delivery's turn in its session; parks it if not. A parked row comes due when the one before it
/// leaves ([`unpark`]), and by itself soon after that one is due, should the word be lost.
pub async fn park_behind_earlier(
    connection: &mut PgConnection,
    item: &Outgoing,
    now: DateTime<Utc>,
) -> Result<Turn, Failure> {
    // Whether the endpoint wants order is read again, because what a process remembers of it may be seconds old, and
    // nothing wakes what is parked after the wish was taken back ([`unpark_all`]).
    // The earlier row is locked: whoever is finishing it right now is waited for, and whoever comes after
    // us finds our row parked. So the word that it has left cannot slip through in between.
    const SQL: &str = "
        with own as (
            select session_id, session_sequence from delivery
            where endpoint_id = $1 and event_id = $2 and session_id is not null
              and exists (select 1 from webhook_endpoint w where w.id = $1 and w.ordered)
        ), earlier as materialized (
            select greatest(p.due_at, p.leased_until) as due_at from delivery p
            where p.endpoint_id = $1 and p.session_id = (select session_id from own)
              and p.session_sequence < (select session_sequence from own) and p.dead_at is null
            order by p.session_sequence desc limit 1 for share
        ), parked as (
            update delivery d
            set due_at = greatest(e.due_at, $4) + interval '1 second', leased_until = null, attempts = $5,
                parked = true, lease_token = gen_random_uuid()
            from earlier e where d.endpoint_id = $1 and d.event_id = $2 and d.lease_token = $3
            returning 1
        )
        select session_id, exists (select 1 from earlier) from own";
    let found = sqlx::query(SQL)
        .bind(&item.endpoint_id)
        .bind(&item.event_id)
        .bind(item.lease_token)
        .bind(now)
        .bind(item.attempt - 1)
        .fetch_optional(connection)
        .await?;
    let Some(row) = found else { return Ok(Turn::Free) };
    if row.try_get(1)? {
        return Ok(Turn::Parked);
    }
    Ok(Turn::First { session_id: row.try_get(0)? })
}

/// Makes parked deliveries of these endpoints' sessions due now, because one of them has left the queue. Returns
/// how many there were.
pub async fn unpark(
    connection: &mut PgConnection,
    sessions: &[(&str, &str)],
    now: DateTime<Utc>,
) -> Result<u64, Failure> {
    // Only the next one of each: those behind it would be parked again.
    const SQL: &str = "
        update delivery d set due_at = $3, leased_until = null, parked = false, lease_token = gen_random_uuid()
        from unnest($1::text[], $2::text[]) as s (endpoint_id, session_id) cross join lateral (
            select n.event_id, n.parked from delivery n
            where n.endpoint_id = s.endpoint_id and n.session_id = s.session_id and n.dead_at is null
            order by n.session_sequence limit 1
        ) n
        where d.endpoint_id = s.endpoint_id and d.event_id = n.event_id and n.parked and d.parked";
    let (endpoints, sessions): (Vec<&str>, Vec<&str>) = sessions.iter().copied().unzip();
    let done = sqlx::query(SQL).bind(endpoints).bind(sessions).bind(now).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Parked deliveries that are made due at once when an endpoint wants order no more: a statement has its time. More
/// than these come due one after the other, as those before them are.
const UNPARKED_AT_ONCE_MAX: i64 = 50_000;

/// Makes parked deliveries of an endpoint due now, because it wants order no more; [`UNPARKED_AT_ONCE_MAX`] at most.
/// Returns how many there were.
pub async fn unpark_all(
    connection: &mut PgConnection,
    endpoint_id: &EndpointId,
    now: DateTime<Utc>,
) -> Result<u64, Failure> {
    const SQL: &str = "
        update delivery d set due_at = $2, leased_until = null, parked = false, lease_token = gen_random_uuid()
        from (select event_id from delivery where endpoint_id = $1 and parked and dead_at is null
              order by due_at limit $3) p
        where d.endpoint_id = $1 and d.event_id = p.event_id and d.parked";
    let parked = sqlx::query(SQL).bind(endpoint_id.as_str()).bind(now).bind(UNPARKED_AT_ONCE_MAX);
    let done = parked.execute(connection).await?;
    Ok(done.rows_affected())
}

/// Attempts looked at for an endpoint's statistics: the newest ones, so that a busy endpoint's are read as
/// fast as a quiet one's.
pub const ATTEMPTS_COUNTED_MAX: i64 = 10_000;

/// Owed deliveries counted; more are as bad.
pub const OWED_COUNTED_MAX: i64 = 10_000;

/// What the newest attempts at an endpoint came to.
#[derive(Clone, Debug, FromRow)]
pub struct Statistics {
    /// Attempts in the window.
    pub attempts: i64,
    /// Those that delivered.
    pub delivered: i64,
    /// Those that another one follows.
    pub retried: i64,
    /// Those after which a delivery was given up.
    pub dead: i64,
    /// Half of the attempts were faster, in milliseconds.
    pub duration_ms_p50: Option<i32>,
    /// One in twenty was slower, in milliseconds.
    pub duration_ms_p95: Option<i32>,
    /// Deliveries still owed, counted up to [`OWED_COUNTED_MAX`].
    pub owed: i64,
    /// When the oldest of them that is due was due.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// The newest attempt that failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// Its event.
    pub failed_event: Option<String>,
    /// What the receiver answered to it.
    pub failed_status: Option<i32>,
    /// What went wrong with it.
    pub failed_error: Option<String>,
}

/// What came of the attempts since `since`, of the newest [`ATTEMPTS_COUNTED_MAX`].
pub async fn statistics(
    connection: &mut PgConnection,
    endpoint_id: &EndpointId,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Statistics, Failure> {
    // The log is read backwards through its index, which stands in the order of time.
    const SQL: &str = "
        with newest as materialized (
            select id, started_at, duration_ms, outcome, event_id, status_code, error
            from delivery_attempt where endpoint_id = $1 order by id desc limit $4
        ), within as (
            select * from newest where started_at >= $2
        ), counted as (
            select count(*) as attempts,
                   count(*) filter (where outcome = 'delivered') as delivered,
                   count(*) filter (where outcome = 'retry') as retried,
                   count(*) filter (where outcome = 'dead') as dead,
                   percentile_disc(0.5) within group (order by duration_ms) as duration_ms_p50,
                   percentile_disc(0.95) within group (order by duration_ms) as duration_ms_p95
            from within
        ), failed as (
            select started_at as failed_at, event_id as failed_event, status_code as failed_status,
                   error as failed_error
            from within where outcome <> 'delivered' order by id desc limit 1
        )
        select c.*, f.*,
               (select count(*) from (select 1 from delivery where endpoint_id = $1 and dead_at is null
                                      limit $5) o) as owed,
               (select min(due_at) from delivery
                where endpoint_id = $1 and dead_at is null and due_at <= $3
                  and (leased_until is null or leased_until <= $3)) as oldest_due_at
        from counted c left join failed f on true";
    sqlx::query_as(SQL)
        .bind(endpoint_id.as_str())
        .bind(since)
        .bind(now)
        .bind(ATTEMPTS_COUNTED_MAX)
        .bind(OWED_COUNTED_MAX)
        .fetch_one(connection)
        .await
}

/// How an endpoint fares. None if it is well.
pub async fn find(connection: &mut PgConnection, endpoint_id: &EndpointId) -> Result<Option<Health>, Failure> {
    sqlx::query_as(
        "select failing_since, failures, pauses, paused_until from webhook_endpoint_health where endpoint_id = $1",
    )
    .bind(endpoint_id.as_str())
    .fetch_optional(connection)
    .await
}
