//! Events as merchants read them: the stored bytes, with the deliveries still owed.

use chrono::{DateTime, Duration, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::outbox::type_is_named;
use super::{CreatedFilter, Page};
use crate::domain::id::{EventId, MerchantId};
use crate::error::Result;

/// A stored event.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// `evt_…`
    pub id: String,
    /// Its own time, which decides its partition.
    pub created_at: DateTime<Utc>,
    /// Its type.
    pub kind: String,
    /// The exact bytes that were signed and sent.
    pub body: String,
    /// Deliveries still owed, dead ones not counted.
    pub pending: i64,
    /// Deliveries given up.
    pub dead: i64,
}

fn to_event(row: &PgRow) -> Result<StoredEvent> {
    Ok(StoredEvent {
        id: row.try_get("id")?,
        created_at: row.try_get("created_at")?,
        kind: row.try_get("type")?,
        body: row.try_get("body")?,
        pending: row.try_get("pending")?,
        dead: row.try_get("dead")?,
    })
}

macro_rules! selection {
    () => {
        "select e.id, e.created_at, e.type, e.body, d.pending, d.dead from (select * from event where "
    };
}

macro_rules! with_deliveries {
    () => {
        ") e cross join lateral (select count(*) filter (where dead_at is null) as pending,
             count(*) filter (where dead_at is not null) as dead
             from delivery where event_id = e.id) d order by e.id desc"
    };
}

/// A merchant's event. The id tells its day, so one partition is read.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, merchant: &MerchantId, livemode: bool, id: &EventId) -> Result<Option<StoredEvent>> {
    let from = id.created_at();
    let row = sqlx::query(concat!(
        selection!(),
        "created_at >= $1 and created_at < $2 and id = $3 and merchant_id = $4 and livemode = $5",
        with_deliveries!(),
    ))
    .bind(from)
    .bind(from + Duration::milliseconds(1))
    .bind(id.as_str())
    .bind(merchant.as_str())
    .bind(livemode)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(to_event).transpose()
}

/// What a list of events may be narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Types; a trailing `.*` stands for a family, `*` for all.
    pub kinds: Vec<String>,
    /// True: all delivered. False: something is owed or dead.
    pub delivery_success: Option<bool>,
    /// The object it is about.
    pub object_id: Option<String>,
    /// Bounds on its time.
    pub created: CreatedFilter,
}

/// A page of a merchant's events, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<StoredEvent>> {
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(concat!(selection!(), "merchant_id = "));
    query.push_bind(merchant.as_str()).push(" and livemode = ").push_bind(livemode);
    if !filter.kinds.is_empty() {
        query.push(" and exists (select 1 from (select ").push_bind(&filter.kinds);
        query.push("::text[] as names) k where ").push(type_is_named!("event.type", "k.names")).push(")");
    }
    if let Some(object) = &filter.object_id {
        query.push(" and object_id = ").push_bind(object);
    }
    match filter.delivery_success {
        Some(true) => {
            query.push(" and not exists (select 1 from delivery d where d.event_id = event.id)");
        }
        Some(false) => {
            query.push(" and exists (select 1 from delivery d where d.event_id = event.id)");
        }
        None => {}
    }
    filter.created.push_to(&mut query);
    page.push_to(&mut query);
    query.push(with_deliveries!());
    let rows = query.build().fetch_all(pool).await?;
    let mut events = rows.iter().map(to_event).collect::<Result<Vec<_>>>()?;
    // The outer order is newest first already; only a page read upwards has its extra row in front.
    if page.ending_before.is_some() && events.len() > usize::try_from(page.limit).unwrap_or(0) {
        events.rotate_left(1);
    }
    Ok(events)
}

/// Whether an endpoint that will be tried now has yet to be tried with the `checkout.session.completed` of a session that was
/// completed at this time, which is the event's own. Delivered rows are gone and a failed try is in the log, so
/// when all is done this reads one event and finds nothing more. Not tried now is an endpoint that is disabled, one that was
/// paused and has taken nothing since, and an ordered one that an earlier event of the session has failed at.
///
/// # Errors
/// When the database does not answer.
pub async fn is_first_try_owed(pool: &PgPool, session_id: &str, completed_at: DateTime<Utc>) -> Result<bool> {
    let owed = sqlx::query_scalar(
        "select exists (
             select 1 from event e
             join delivery d on d.event_id = e.id and d.dead_at is null
             join webhook_endpoint w on w.id = d.endpoint_id and w.status = 'enabled'
             where e.created_at = $2 and e.session_id = $1 and e.type = 'checkout.session.completed'
               and not exists (select 1 from delivery_attempt a
                               where a.event_id = d.event_id and a.endpoint_id = d.endpoint_id)
               and not exists (select 1 from webhook_endpoint_health h
                               where h.endpoint_id = d.endpoint_id and h.paused_until is not null)
               and not exists (select 1 from delivery p
                               join delivery_attempt a on a.event_id = p.event_id and a.endpoint_id = p.endpoint_id
                               where p.endpoint_id = d.endpoint_id and p.session_id = d.session_id
                                 and p.session_sequence < d.session_sequence and p.dead_at is null))",
    )
    .bind(session_id)
    .bind(completed_at)
    .fetch_one(pool)
    .await?;
    Ok(owed)
}
