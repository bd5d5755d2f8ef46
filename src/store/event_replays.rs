//! Replays as rows, and the batch that puts a piece of a range into the queue.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::outbox::{subscribed, type_is_named};
use super::{Connection, Page, inconsistent};
use crate::domain::event_replay::{EventReplay, ReplayState};
use crate::domain::id::{EndpointId, EventId, EventReplayId, MerchantId};
use crate::error::Result;

macro_rules! columns {
    () => {
        "id, merchant_id, livemode, from_at, to_at, types, only_failed, endpoint_id, state, failure, reached_id,
         events_scanned, deliveries, created_at, ended_at"
    };
}

fn to_replay(row: &PgRow) -> Result<EventReplay> {
    let id: String = row.try_get("id")?;
    let ended_at: Option<DateTime<Utc>> = row.try_get("ended_at")?;
    let why: Option<String> = row.try_get("failure")?;
    let state = match (row.try_get::<&str, _>("state")?, ended_at) {
        ("running", None) => ReplayState::Running,
        ("completed", Some(at)) => ReplayState::Completed(at),
        ("cancelled", Some(at)) => ReplayState::Cancelled(at),
        ("failed", Some(at)) => ReplayState::Failed { at, why: why.unwrap_or_default() },
        _ => return Err(inconsistent("event_replay", &id, "unknown state")),
    };
    Ok(EventReplay {
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        from: row.try_get("from_at")?,
        to: row.try_get("to_at")?,
        types: row.try_get("types")?,
        only_failed: row.try_get("only_failed")?,
        endpoint: row.try_get::<Option<String>, _>("endpoint_id")?.map(EndpointId::from_stored),
        state,
        reached: EventId::from_stored(row.try_get("reached_id")?),
        events_scanned: row.try_get("events_scanned")?,
        deliveries: row.try_get("deliveries")?,
        created_at: row.try_get("created_at")?,
        id: EventReplayId::from_stored(id),
    })
}

/// Writes a new replay, unless its merchant has `running_max` of them running in this mode.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(connection: &mut Connection, replay: &EventReplay, running_max: i64) -> Result<bool> {
    // The merchant's row is the lock that keeps two requests from both seeing room for one more.
    sqlx::query("select 1 from merchant where id = $1 for update")
        .bind(replay.merchant_id.as_str())
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query(
        "insert into event_replay (id, merchant_id, livemode, from_at, to_at, types, only_failed, endpoint_id, state,
             reached_id, events_scanned, deliveries, looked_at, created_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, 'running', $9, 0, 0, $10, $10
         where (select count(*) from event_replay
                where merchant_id = $2 and livemode = $3 and state = 'running') < $11",
    )
    .bind(replay.id.as_str())
    .bind(replay.merchant_id.as_str())
    .bind(replay.livemode)
    .bind(replay.from)
    .bind(replay.to)
    .bind(&replay.types)
    .bind(replay.only_failed)
    .bind(replay.endpoint.as_ref().map(EndpointId::as_str))
    .bind(replay.reached.as_str())
    .bind(replay.created_at)
    .bind(running_max)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A merchant's replay.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn find(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    id: &EventReplayId,
) -> Result<Option<EventReplay>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from event_replay where id = $1 and merchant_id = $2 and livemode = $3"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(to_replay).transpose()
}

/// Locks a merchant's replay, waiting for a batch that is being done.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    id: &EventReplayId,
) -> Result<Option<EventReplay>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from event_replay where id = $1 and merchant_id = $2 and livemode = $3 for update"
    ))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_replay).transpose()
}

/// Locks the running replay that was looked at least lately, among those not looked at since `before`. One
/// that somebody else has in hand is passed over.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn lock_next(connection: &mut Connection, before: DateTime<Utc>) -> Result<Option<EventReplay>> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from event_replay where state = 'running' and looked_at < $1
          order by looked_at limit 1 for update skip locked"
    ))
    .bind(before)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_replay).transpose()
}

/// Writes back how far it got.
///
/// # Errors
/// When the database does not answer.
pub async fn save(connection: &mut Connection, replay: &EventReplay, looked_at: DateTime<Utc>) -> Result<()> {
    let why = match &replay.state {
        ReplayState::Failed { why, .. } => Some(why.as_str()),
        _ => None,
    };
    sqlx::query(
        "update event_replay set state = $2, failure = $3, reached_id = $4, events_scanned = $5, deliveries = $6,
             looked_at = $7, ended_at = $8
         where id = $1",
    )
    .bind(replay.id.as_str())
    .bind(replay.state.word())
    .bind(why)
    .bind(replay.reached.as_str())
    .bind(replay.events_scanned)
    .bind(replay.deliveries)
    .bind(looked_at)
    .bind(replay.state.ended_at())
    .execute(connection)
    .await?;
    Ok(())
}

/// A page of a merchant's replays, newest first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn list(pool: &PgPool, merchant: &MerchantId, livemode: bool, page: &Page) -> Result<Vec<EventReplay>> {
    let mut query: QueryBuilder<Postgres> =
        QueryBuilder::new(concat!("select ", columns!(), " from event_replay where merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    page.push_to(&mut query);
    let rows = query.build().fetch_all(pool).await?;
    let mut replays = rows.iter().map(to_replay).collect::<Result<Vec<_>>>()?;
    page.order(&mut replays);
    Ok(replays)
}

/// Whether a merchant's endpoint exists and is enabled.
///
/// # Errors
/// When the database does not answer.
pub async fn is_deliverable(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    endpoint: &EndpointId,
) -> Result<bool> {
    let found = sqlx::query_scalar(
        "select exists (select 1 from webhook_endpoint
                        where id = $1 and merchant_id = $2 and livemode = $3 and status = 'enabled')",
    )
    .bind(endpoint.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_one(connection)
    .await?;
    Ok(found)
}

/// Counts deliveries that are due to the endpoints of a replay and that nobody has taken up, `count_max` at most.
/// Those of paused endpoints are left out, because the others would wait for the pause's end; where all are paused,
/// there is nobody to go on for, and they count.
///
/// # Errors
/// When the database does not answer.
pub async fn backlog(
    connection: &mut Connection,
    replay: &EventReplay,
    now: DateTime<Utc>,
    count_max: i64,
) -> Result<i64> {
    let count = sqlx::query_scalar(
        "with meant as (
             select w.id, coalesce(h.paused_until > $4, false) as is_paused
             from webhook_endpoint w left join webhook_endpoint_health h on h.endpoint_id = w.id
             where w.merchant_id = $1 and w.livemode = $2 and w.status = 'enabled' and ($3::text is null or w.id = $3)
         )
         select count(*) from (
             select 1 from meant m join delivery d on d.endpoint_id = m.id
             where m.is_paused = (select bool_and(is_paused) from meant)
               and d.dead_at is null and d.due_at <= $4 and (d.leased_until is null or d.leased_until <= $4)
             limit $5) due",
    )
    .bind(replay.merchant_id.as_str())
    .bind(replay.livemode)
    .bind(replay.endpoint.as_ref().map(EndpointId::as_str))
    .bind(now)
    .bind(count_max)
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// What one batch did.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Events looked at.
    pub events_scanned: i64,
    /// Deliveries put into the queue.
    pub deliveries: i64,
    /// The last event looked at; `None` when there was none.
    pub reached: Option<EventId>,
}

/// The CTEs that both kinds of batch begin with: the next events of the range by their ids, whatever their type,
/// so that a rare type makes no long search; and those of them that are meant.
macro_rules! looked_at {
    () => {
        concat!(
            "with looked_at as (
            select id, created_at, merchant_id, type, session_id, session_sequence from event
            where merchant_id = $1 and livemode = $2 and created_at >= $3 and created_at < $4 and id > $5
            order by id limit $6
        ), e as (
            select * from looked_at
            where cardinality($7::text[]) = 0 or ",
            type_is_named!("type", "$7::text[]"),
            "
        ), owed as ("
        )
    };
}

macro_rules! counted {
    () => {
        ") select (select count(*) from looked_at) as scanned, (select max(id) from looked_at) as reached,
                  (select count(*) from owed) as deliveries"
    };
}

/// Puts the next piece of a replay's range into the queue, due at `now` with all attempts before it, and where the
/// endpoint wants order, in its place among what is owed of the session. A first attempt that is still to be made
/// is left alone, and so is one that is under way. What is done is the caller's to write down.
///
/// # Errors
/// When the database does not answer.
pub async fn owe_batch(
    connection: &mut Connection,
    replay: &EventReplay,
    events_max: i64,
    now: DateTime<Utc>,
) -> Result<Batch> {
    const ALL: &str = concat!(
        looked_at!(),
        "insert into delivery (endpoint_id, event_id, event_created_at, merchant_id, attempts, due_at, lease_token,
                               again, session_id, session_sequence)
         select w.id, e.id, e.created_at, e.merchant_id, 0, $9, gen_random_uuid(), true,
                case when w.ordered then e.session_id end, case when w.ordered then e.session_sequence end
         from e join webhook_endpoint w on w.merchant_id = $1 and w.livemode = $2 and w.status = 'enabled'
             and case when $8::text is null then ",
        subscribed!(),
        " else w.id = $8 end
         on conflict (endpoint_id, event_id) do update
             set attempts = 0, due_at = excluded.due_at, leased_until = null, dead_at = null,
                 lease_token = excluded.lease_token, parked = false, again = true,
                 session_id = excluded.session_id, session_sequence = excluded.session_sequence
             where delivery.dead_at is not null
                or delivery.attempts > case when delivery.leased_until > $9 then 1 else 0 end
         returning 1",
        counted!(),
    );
    const FAILED: &str = concat!(
        looked_at!(),
        "update delivery d set attempts = 0, due_at = $9, leased_until = null, dead_at = null,
             lease_token = gen_random_uuid(), parked = false, again = true,
             session_id = case when w.ordered then e.session_id end,
             session_sequence = case when w.ordered then e.session_sequence end
         from e join webhook_endpoint w on w.merchant_id = $1 and w.livemode = $2 and w.status = 'enabled'
             and ($8::text is null or w.id = $8)
         where d.event_id = e.id and d.endpoint_id = w.id
           and (d.dead_at is not null
                or exists (select 1 from delivery_attempt a
                           where a.event_id = d.event_id and a.endpoint_id = d.endpoint_id and a.outcome = 'retry'))
         returning 1",
        counted!(),
    );
    let row = sqlx::query(if replay.only_failed { FAILED } else { ALL })
        .bind(replay.merchant_id.as_str())
        .bind(replay.livemode)
        .bind(replay.from)
        .bind(replay.to)
        .bind(replay.reached.as_str())
        .bind(events_max)
        .bind(&replay.types)
        .bind(replay.endpoint.as_ref().map(EndpointId::as_str))
        .bind(now)
        .fetch_one(connection)
        .await?;
    Ok(Batch {
        events_scanned: row.try_get("scanned")?,
        deliveries: row.try_get("deliveries")?,
        reached: row.try_get::<Option<String>, _>("reached")?.map(EventId::from_stored),
    })
}

/// Forgets replays that ended before `before`. Returns the number of rows.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, rows_max: i64) -> Result<u64> {
    let done =
        sqlx::query("delete from event_replay where id in (select id from event_replay where ended_at < $1 limit $2)")
            .bind(before)
            .bind(rows_max)
            .execute(pool)
            .await?;
    Ok(done.rows_affected())
}
