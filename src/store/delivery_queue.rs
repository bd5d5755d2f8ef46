//! The queue of deliveries still owed, and the log of attempts.
//! A claim takes due rows over with a fresh lease, fairly over the endpoints; it changes no indexed column, so
//! that it is cheap (a heap-only update). Marks and releases are fenced by the lease's token, so a worker whose
//! lease ran out changes nothing and logs nothing. Delivered rows leave the queue, dead ones stay, marked, until
//! somebody asks for a resend. When the next attempt is due is decided in `domain/delivery.rs`.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, Row as _};
use uuid::Uuid;

use crate::store::outbox::{Outgoing, subscribed};

/// Where the worker takes its connections from.
pub type Pool = sqlx::PgPool;

pub use super::Failure;

/// Whether the same statement may succeed in a moment: the connection is gone, the server is
/// starting, stopping, out of resources or in recovery, or transactions collided.
pub fn is_passing(error: &Failure) -> bool {
    match error {
        Failure::Io(_) | Failure::Tls(_) | Failure::Protocol(_) | Failure::PoolTimedOut | Failure::WorkerCrashed => {
            true
        }
        Failure::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || ["25006", "55P03"].contains(&&*code)
        }),
        _ => false,
    }
}

/// What one claim may take.
#[derive(Clone, Debug, Default)]
pub struct ClaimRoom {
    /// Rows in all.
    pub total: i64,
    /// Rows of an endpoint that is not named in `places`.
    pub usual: i64,
    /// Rows of the endpoints that differ from that, none for a saturated one.
    pub places: Vec<(String, i64)>,
    /// Endpoints are served in the order of their ids, beginning after this one, so that no endpoint
    /// is always the last when `total` runs out.
    pub after_endpoint: String,
}

/// Takes due rows over, oldest first for each endpoint and never more than its places, with a fresh
/// lease that ends at `lease_until`. Rows of disabled and of paused endpoints stay owed and are not taken; of
/// one whose pause has just ended, one row is.
pub async fn claim(
    connection: &mut PgConnection,
    room: &ClaimRoom,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<Outgoing>, Failure> {
    // The first CTE hops from endpoint to endpoint through the index, so that a backlog of one costs
    // no more than its first row. The locked rows are taken by their ids (ctid), because then no planner ever reads
    // the whole queue to find them; one that changed just before it was locked is left for the next claim. The commit
    // is not waited for to be on disk: a claim that a crash of the database undoes is only made again.
    const SQL: &str = "
        with recursive owed (endpoint_id) as (
            (select endpoint_id from delivery where dead_at is null order by endpoint_id limit 1)
            union all
            select (select d.endpoint_id from delivery d
                    where d.dead_at is null and d.endpoint_id > o.endpoint_id
                    order by d.endpoint_id limit 1)
            from owed o where o.endpoint_id is not null
        ), place as (
            select w.id as endpoint_id,
                   case when h.paused_until is null then coalesce(r.places, $4) else 1 end as places
            from owed o join webhook_endpoint w on w.id = o.endpoint_id and w.status = 'enabled'
            left join unnest($1::text[], $2::int8[]) as r (endpoint_id, places)
                on r.endpoint_id = o.endpoint_id
            left join webhook_endpoint_health h on h.endpoint_id = o.endpoint_id
            where coalesce(r.places, $4) > 0 and (h.paused_until is null or h.paused_until <= $6)
              and (select set_config('synchronous_commit', 'off', true)) = 'off'
            order by w.id <= $5, w.id
        ), candidate as materialized (
            select c.row_id from place p cross join lateral (
                select d.ctid as row_id from delivery d
                where d.endpoint_id = p.endpoint_id and d.dead_at is null and d.due_at <= $6
                  and (d.leased_until is null or d.leased_until <= $6)
                order by d.due_at limit p.places
                for update of d skip locked
            ) c limit $3
        ), claimed as (
            update delivery d
            set leased_until = $7, lease_token = $8, attempts = d.attempts + 1, parked = false
            where d.ctid = any (array(select row_id from candidate))
            returning d.event_id, d.event_created_at, d.endpoint_id, d.merchant_id, d.attempts, d.due_at,
                      d.again
        )
        select c.event_id, c.event_created_at, c.endpoint_id, c.merchant_id, c.attempts,
               coalesce(e.livemode, true) as livemode, coalesce(e.body, '') as body, c.again
        from claimed c
        left join event e on e.created_at = c.event_created_at and e.id = c.event_id
        order by c.due_at";
    let token = Uuid::new_v4();
    let (ids, places): (Vec<&str>, Vec<i64>) = room.places.iter().map(|(id, places)| (id.as_str(), *places)).unzip();
    let rows = sqlx::query(SQL)
        .bind(ids)
        .bind(places)
        .bind(room.total)
        .bind(room.usual)
        .bind(room.after_endpoint.as_str())
        .bind(now)
        .bind(lease_until)
        .bind(token)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Outgoing {
                event_id: row.try_get(0)?,
                event_created_at: row.try_get(1)?,
                endpoint_id: row.try_get(2)?,
                merchant_id: row.try_get(3)?,
                attempt: row.try_get(4)?,
                livemode: row.try_get(5)?,
                body: row.try_get::<&str, _>(6)?.into(),
                again: row.try_get(7)?,
                lease_token: token,
                lease_until,
            })
        })
        .collect()
}

/// What becomes of a row after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it: the row leaves the queue.
    Delivered,
    /// It is due again at this time.
    Retry(DateTime<Utc>),
    /// No further attempt: the row stays, marked, until somebody asks for a resend.
    Dead,
}

impl Verdict {
    /// The word of the attempt log and of the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Delivered => "delivered",
            Verdict::Retry(_) => "retry",
            Verdict::Dead => "dead",
        }
    }
}

/// One attempt that has ended, as it is marked and logged.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The row.
    pub endpoint_id: String,
    /// The row.
    pub event_id: String,
    /// The lease under which the attempt was made.
    pub lease_token: Uuid,
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// The receiver's HTTP status, if it answered.
    pub status_code: Option<i32>,
    /// What went wrong, in a sentence for the merchant. No NUL.
    pub error: Option<String>,
    /// The beginning of the answer. No NUL.
    pub response_excerpt: Option<String>,
    /// What follows from it.
    pub verdict: Verdict,
    /// What it says of the endpoint.
    pub sign: Sign,
    /// The session whose next event may wait for this one, where the endpoint wants them in order.
    pub session_id: Option<String>,
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing: nothing was sent, or it took a delivery as usual.
    Nothing,
    /// It took a delivery after it had failed.
    Recovered,
    /// It took nothing.
    Failed {
        /// The end of its turn, if this was the one delivery that went ahead after a pause.
        probe_until: Option<DateTime<Utc>>,
    },
}

/// Marks a batch of attempts and logs them, in one statement. Returns how many were still ours: the
/// others were taken over meanwhile and are dropped without a trace in the log.
///
/// A row that stays owed gets a token nobody holds, so that marking a batch again, after an answer
/// that was lost on the way, changes nothing.
pub async fn mark(connection: &mut PgConnection, finished: &[Finished], now: DateTime<Utc>) -> Result<u64, Failure> {
    const SQL: &str = "
        with mark as (
            select * from unnest($1::text[], $2::text[], $3::uuid[], $4::text[],
                                 $5::timestamptz[], $6::int4[], $7::timestamptz[], $8::int4[],
                                 $9::int4[], $10::text[], $11::text[])
                with ordinality as m (endpoint_id, event_id, lease_token, outcome, next_at,
                                      attempt, started_at, duration_ms, status_code, error,
                                      response_excerpt, ordinal)
        ), left_queue as (
            delete from delivery d using mark m
            where m.outcome = 'delivered' and d.endpoint_id = m.endpoint_id
              and d.event_id = m.event_id and d.lease_token = m.lease_token
            returning d.merchant_id, m.*
        ), still_owed as (
            update delivery d
            set attempts = m.attempt, due_at = coalesce(m.next_at, d.due_at), leased_until = null,
                dead_at = case when m.outcome = 'dead' then $12::timestamptz end,
                lease_token = gen_random_uuid()
            from mark m
            where m.outcome <> 'delivered' and d.endpoint_id = m.endpoint_id
              and d.event_id = m.event_id and d.lease_token = m.lease_token
            returning d.merchant_id, m.*
        )
        insert into delivery_attempt (merchant_id, endpoint_id, event_id, attempt, started_at,
            duration_ms, status_code, error, response_excerpt, next_attempt_at, outcome)
        select merchant_id, endpoint_id, event_id, attempt, started_at,
               duration_ms, status_code, error, response_excerpt, next_at, outcome
        from (table left_queue union all table still_owed) o
        order by ordinal";
    fn column<'f, T>(finished: &'f [Finished], field: impl Fn(&'f Finished) -> T) -> Vec<T> {
        finished.iter().map(field).collect()
    }
    let done = sqlx::query(SQL)
        .bind(column(finished, |one| one.endpoint_id.as_str()))
        .bind(column(finished, |one| one.event_id.as_str()))
        .bind(column(finished, |one| one.lease_token))
        .bind(column(finished, |one| one.verdict.word()))
        .bind(column(finished, |one| match one.verdict {
            Verdict::Retry(at) => Some(at),
            Verdict::Delivered | Verdict::Dead => None,
        }))
        .bind(column(finished, |one| one.attempt))
        .bind(column(finished, |one| one.started_at))
        .bind(column(finished, |one| one.duration_ms))
        .bind(column(finished, |one| one.status_code))
        .bind(column(finished, |one| one.error.as_deref()))
        .bind(column(finished, |one| one.response_excerpt.as_deref()))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// A row that its holder gives back.
#[derive(Clone, Debug)]
pub struct Release {
    /// The row.
    pub endpoint_id: String,
    /// The row.
    pub event_id: String,
    /// The lease that is given up.
    pub lease_token: Uuid,
    /// Attempts that were made, an interrupted one included.
    pub attempts: i32,
}

/// Gives rows back: they are due at once for any worker. Returns how many were still ours.
pub async fn release(connection: &mut PgConnection, releases: &[Release], now: DateTime<Utc>) -> Result<u64, Failure> {
    const SQL: &str = "
        update delivery d
        set due_at = $5, leased_until = null, attempts = r.attempts, lease_token = gen_random_uuid()
        from unnest($1::text[], $2::text[], $3::uuid[], $4::int4[])
            as r (endpoint_id, event_id, lease_token, attempts)
        where d.endpoint_id = r.endpoint_id and d.event_id = r.event_id
          and d.lease_token = r.lease_token and d.dead_at is null";
    fn column<'r, T>(releases: &'r [Release], field: impl Fn(&'r Release) -> T) -> Vec<T> {
        releases.iter().map(field).collect()
    }
    let done = sqlx::query(SQL)
        .bind(column(releases, |one| one.endpoint_id.as_str()))
        .bind(column(releases, |one| one.event_id.as_str()))
        .bind(column(releases, |one| one.lease_token))
        .bind(column(releases, |one| one.attempts))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// How much is owed, as the metrics tell it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    /// Rows that are not dead, whenever they are due.
    pub owed: i64,
    /// Since when the oldest due row waits of an endpoint that is neither disabled nor paused; throttled rows count.
    pub oldest_due_at: Option<DateTime<Utc>>,
}

/// Counts the queue. It reads all of it, so it is asked every few seconds and not more often.
pub async fn depth(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Depth, Failure> {
    const SQL: &str = "
        select coalesce(sum(q.owed), 0)::int8,
               min(q.oldest) filter (where w.status = 'enabled' and coalesce(h.paused_until <= $1, true))
        from (select endpoint_id, count(*) as owed,
                     min(due_at) filter (where due_at <= $1 and (leased_until is null or leased_until <= $1)) as oldest
              from delivery where dead_at is null group by endpoint_id) q
        left join webhook_endpoint w on w.id = q.endpoint_id
        left join webhook_endpoint_health h on h.endpoint_id = q.endpoint_id";
    let row = sqlx::query(SQL).bind(now).fetch_one(connection).await?;
    Ok(Depth { owed: row.try_get(0)?, oldest_due_at: row.try_get(1)? })
}

/// What delivering to an endpoint needs to know of it.
#[derive(FromRow)]
pub struct DeliveryEndpoint {
    /// Live or test.
    pub livemode: bool,
    /// Where to, as the merchant gave it.
    pub url: String,
    /// Whether it is to be delivered to at all.
    pub enabled: bool,
    /// The signing secret, sealed.
    pub secret_sealed: Vec<u8>,
    /// The secret before it, sealed, if there was a rotation.
    pub previous_secret_sealed: Option<Vec<u8>>,
    /// Until when the secret and the key pair before sign as well.
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// The seed of the key pair, sealed, if there is one.
    pub key_seed_sealed: Option<Vec<u8>>,
    /// The seed before it, sealed, if there was a rotation.
    pub previous_key_seed_sealed: Option<Vec<u8>>,
    /// The merchant's own headers, sealed, if there are any.
    pub custom_headers_sealed: Option<Vec<u8>>,
    /// The merchant's bound on attempts that begin within a second.
    pub events_per_second: Option<i32>,
    /// The merchant's bound on attempts at once.
    pub concurrency: Option<i32>,
    /// Whether the events of one session come one after the other.
    pub ordered: bool,
    /// Failures since the last success.
    pub failures: i32,
    /// The end of the newest pause since then.
    pub paused_until: Option<DateTime<Utc>>,
}

/// Looks an endpoint up for delivery. None if it was deleted.
pub async fn endpoint(connection: &mut PgConnection, endpoint_id: &str) -> Result<Option<DeliveryEndpoint>, Failure> {
    const SQL: &str = "
        select w.livemode, w.url, w.status = 'enabled' as enabled, w.secret_sealed,
               w.previous_secret_sealed, w.previous_secret_until, w.key_seed_sealed,
               w.previous_key_seed_sealed, w.custom_headers_sealed, w.events_per_second, w.concurrency,
               w.ordered, coalesce(h.failures, 0) as failures, h.paused_until
        from webhook_endpoint w left join webhook_endpoint_health h on h.endpoint_id = w.id
        where w.id = $1";
    sqlx::query_as(SQL).bind(endpoint_id).fetch_optional(connection).await
}

/// Drops what is owed to an endpoint that is being deleted, at most `rows_max` of it: the rest is left to
/// [`forget_deleted_endpoints`]. Returns the number of rows.
pub async fn forget_endpoint(connection: &mut PgConnection, endpoint_id: &str, rows_max: i64) -> Result<u64, Failure> {
    // Each half has its own index.
    const SQL: &str = "
        delete from delivery d using (
            select event_id from delivery
            where endpoint_id = $1 and dead_at is null or endpoint_id = $1 and dead_at is not null
            limit $2
        ) o where d.event_id = o.event_id and d.endpoint_id = $1";
    let done = sqlx::query(SQL).bind(endpoint_id).bind(rows_max).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Drops what is owed to endpoints that no longer exist: what was too much to go with its endpoint at once, and an
/// event that was being written while its endpoint was deleted. Nobody would ever claim such a row. Returns the number of rows.
pub async fn forget_deleted_endpoints(connection: &mut PgConnection, rows_max: i64) -> Result<u64, Failure> {
    const SQL: &str = "
        delete from delivery d using (
            select endpoint_id, event_id from delivery o
            where not exists (select 1 from webhook_endpoint w where w.id = o.endpoint_id) limit $1
        ) o where d.endpoint_id = o.endpoint_id and d.event_id = o.event_id";
    let done = sqlx::query(SQL).bind(rows_max).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Owes an event again, due at once and with all its attempts before it: to one endpoint, whatever
/// that subscribes to, or to every endpoint that subscribes to it. Only enabled endpoints of the
/// event's own merchant and mode are meant. An attempt in flight is not waited for; its result is
/// dropped. Returns the endpoints; none if there is no such event or endpoint.
pub async fn resend(
    connection: &mut PgConnection,
    merchant_id: &str,
    livemode: bool,
    event_id: &str,
    endpoint_id: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<String>, Failure> {
    const SQL: &str = concat!(
        "insert into delivery (endpoint_id, event_id, event_created_at, merchant_id,
                               attempts, due_at, lease_token, again)
         select w.id, e.id, e.created_at, e.merchant_id, 0, $5, gen_random_uuid(), true
         from event e
         join webhook_endpoint w on w.merchant_id = e.merchant_id and w.livemode = e.livemode
             and w.status = 'enabled'
         where e.merchant_id = $1 and e.livemode = $2 and e.id = $3
           and case when $4::text is null then ",
        subscribed!(),
        " else w.id = $4 end
         on conflict (endpoint_id, event_id) do update
             set attempts = 0, due_at = excluded.due_at, leased_until = null, dead_at = null,
                 lease_token = excluded.lease_token, again = true
         returning endpoint_id"
    );
    sqlx::query_scalar(SQL)
        .bind(merchant_id)
        .bind(livemode)
        .bind(event_id)
        .bind(endpoint_id)
        .bind(now)
        .fetch_all(connection)
        .await
}

/// One line of the attempt log.
#[derive(Clone, Debug, FromRow)]
pub struct AttemptRow {
    /// Grows with time.
    pub id: i64,
    /// Whom the attempt was made to.
    pub endpoint_id: String,
    /// Its number since the event was last (re)sent, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// The receiver's HTTP status, if it answered.
    pub status_code: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer: foreign text, to be escaped wherever it is shown.
    pub response_excerpt: Option<String>,
    /// When the next attempt is due, if there is one.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// `delivered`, `retry` or `dead`.
    pub outcome: String,
}

/// What became of one event's deliveries, seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    /// Deliveries still owed, dead ones not counted.
    pub pending: i64,
    /// Deliveries given up.
    pub dead: i64,
    /// Attempts, newest first.
    pub attempts: Vec<AttemptRow>,
}

/// The deliveries of one event of a merchant, with at most `limit` attempts. One statement, because a
/// mark between two of them would show an attempt that has ended beside a delivery still owed.
pub async fn event_log(
    connection: &mut PgConnection,
    merchant_id: &str,
    event_id: &str,
    limit: i64,
) -> Result<EventLog, Failure> {
    const SQL: &str = "
        select d.pending, d.dead, a.*
        from (select count(*) filter (where dead_at is null) as pending,
                     count(*) filter (where dead_at is not null) as dead
              from delivery where event_id = $2 and merchant_id = $1) d
        left join lateral (
            select id, endpoint_id, attempt, started_at, duration_ms, status_code, error,
                   response_excerpt, next_attempt_at, outcome
            from delivery_attempt where merchant_id = $1 and event_id = $2
            order by id desc limit $3) a on true
        order by a.id desc";
    let rows = sqlx::query(SQL).bind(merchant_id).bind(event_id).bind(limit).fetch_all(connection).await?;
    let mut log = EventLog::default();
    for row in &rows {
        (log.pending, log.dead) = (row.try_get("pending")?, row.try_get("dead")?);
        // Where no attempt was made there is one row, without one.
        if row.try_get::<Option<i64>, _>("id")?.is_some() {
            log.attempts.push(AttemptRow::from_row(row)?);
        }
    }
    Ok(log)
}
