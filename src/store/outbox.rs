//! The outbox as its writers see it: events, stored together with what is owed of them.
//! A delivery row is born leased to the process that writes it, which delivers from memory after its
//! commit; when the lease runs out, any worker takes the row over. The texts of the statement are
//! macros, so that a writer can store its own rows and their events in one statement.
//! The queue's further life is in `store/delivery_queue.rs`.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, PgConnection, Row as _};
use uuid::Uuid;

/// How long a lease lasts, in seconds. It outlives a whole attempt (15 s) by as much again, which is
/// what a row may wait in memory before its attempt starts.
pub const LEASE_SECONDS: i64 = 30;

/// An event to store, with its body in two halves: the number of endpoints that it is owed to stands
/// between them, because the event itself tells that number as `pending_webhooks` and only the
/// statement that inserts it knows.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// `evt_…`, time-ordered, without a dot.
    pub id: String,
    /// When it happened: the database's clock. It decides the partition.
    pub created_at: DateTime<Utc>,
    /// Whose event it is.
    pub merchant_id: String,
    /// Live or test: only endpoints of the same mode hear of it.
    pub livemode: bool,
    /// The event type, such as `checkout.session.completed`.
    pub kind: String,
    /// The object it is about.
    pub object_id: String,
    /// The session it belongs to, if any.
    pub session_id: Option<String>,
    /// Its gap-free number within that session, from 1.
    pub session_sequence: Option<i32>,
    /// The JSON text up to the number of deliveries.
    pub body_head: String,
    /// The JSON text after it.
    pub body_tail: String,
}

/// To whom new delivery rows belong at first.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Fences the finishing writes.
    pub token: Uuid,
    /// When the rows come due for everybody.
    pub due_at: DateTime<Utc>,
}

impl Lease {
    /// The writing process delivers the rows itself and has [`LEASE_SECONDS`] to do so.
    pub fn held(now: DateTime<Utc>) -> Lease {
        Lease { token: Uuid::new_v4(), due_at: now + TimeDelta::seconds(LEASE_SECONDS) }
    }

    /// The writing process delivers nothing: the rows are due at once for any worker.
    pub fn open(now: DateTime<Utc>) -> Lease {
        Lease { token: Uuid::new_v4(), due_at: now }
    }
}

/// One delivery that the holder of the lease is to attempt.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The event; the receiver tells repeats by it.
    pub event_id: String,
    /// The event's own time.
    pub event_created_at: DateTime<Utc>,
    /// Where it goes.
    pub endpoint_id: String,
    /// Whose it is.
    pub merchant_id: String,
    /// Live or test.
    pub livemode: bool,
    /// The exact text that is signed and sent. Empty when the stored event is gone, which no attempt
    /// can mend.
    pub body: Arc<str>,
    /// Fences the finishing write.
    pub lease_token: Uuid,
    /// When the row comes due for everybody.
    pub lease_until: DateTime<Utc>,
    /// The number of the attempt to be made, from 1.
    pub attempt: i32,
    /// Whether it was asked for again, by a resend or a replay, which counts attempts from 1 anew.
    pub again: bool,
}

/// The condition under which an event's type is among those that are named: all of them, exactly this type, or a
/// family such as `checkout.session.*`.
macro_rules! type_is_named {
    ($kind:literal, $names:literal) => {
        concat!(
            "('*' = any (",
            $names,
            ") or ",
            $kind,
            " = any (",
            $names,
            ") or exists (select 1 from unnest(",
            $names,
            ") as p (pattern) where p.pattern like '%.*' and starts_with(",
            $kind,
            ", left(p.pattern, -1))))"
        )
    };
}
pub(crate) use type_is_named;

/// The condition under which endpoint `w` hears of event `e`.
macro_rules! subscribed {
    () => {
        $crate::store::outbox::type_is_named!("e.type", "w.enabled_events")
    };
}
pub(crate) use subscribed;

/// Two CTEs that read the parameters which [`event_arguments`] gives, `$1` to `$12`: `given_event`, one row
/// for each event with its `ordinal` from 1, and `lease`. Further parameters start at `$13`.
macro_rules! outbox_parameters {
    () => {
        "given_event as (
            select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::boolean[],
                                 $5::text[], $6::text[], $7::text[], $8::int4[],
                                 $9::text[], $10::text[])
                with ordinality as g (id, created_at, merchant_id, livemode, type, object_id,
                                      session_id, session_sequence, body_head, body_tail, ordinal)
        ), lease (token, due_at) as (
            select $11::uuid, $12::timestamptz
        )"
    };
}
pub(crate) use outbox_parameters;

/// Three CTEs that store events and what is owed of them, as part of a larger statement.
///
/// Before them stand [`outbox_parameters`] and a CTE `new_event`: those rows of `given_event` that are
/// to exist. After them `addressed` has, for each, its `ordinal` and `endpoint_ids`, the endpoints
/// that are owed it; the statement returns both, and [`outgoing`] makes the deliveries of them.
macro_rules! outbox_ctes {
    () => {
        concat!(
            "addressed as materialized (
                select e.*, coalesce(t.endpoint_ids, '{}') as endpoint_ids, t.ordered_ids
                from new_event e cross join lateral (
                    select array_agg(w.id) as endpoint_ids,
                           array_agg(w.id) filter (where w.ordered) as ordered_ids
                    from webhook_endpoint w
                    where w.merchant_id = e.merchant_id and w.livemode = e.livemode
                      and w.status = 'enabled' and ",
            $crate::store::outbox::subscribed!(),
            ") t
            ), event_stored as (
                insert into event (id, created_at, merchant_id, livemode, type, object_id,
                                   session_id, session_sequence, body)
                select id, created_at, merchant_id, livemode, type, object_id,
                       session_id, session_sequence,
                       body_head || cardinality(endpoint_ids) || body_tail
                from addressed
            ), delivery_stored as (
                insert into delivery (endpoint_id, event_id, event_created_at, merchant_id,
                                      attempts, due_at, lease_token, session_id, session_sequence)
                select t.endpoint_id, a.id, a.created_at, a.merchant_id, 0, l.due_at, l.token,
                       case when o.ordered then a.session_id end,
                       case when o.ordered then a.session_sequence end
                from addressed a
                cross join unnest(a.endpoint_ids) as t (endpoint_id)
                cross join lateral (select t.endpoint_id = any (a.ordered_ids) as ordered) o
                cross join lease l
            )"
        )
    };
}
pub(crate) use outbox_ctes;

/// The arguments `$1` to `$12` as `outbox_parameters` reads them. Others come behind them.
///
/// # Errors
/// Never for what events hold: a text or a time that cannot be encoded.
pub fn event_arguments(events: &[NewEvent], lease: &Lease) -> Result<PgArguments, sqlx::Error> {
    fn column<'e, T>(events: &'e [NewEvent], field: impl Fn(&'e NewEvent) -> T) -> Vec<T> {
        events.iter().map(field).collect()
    }
    let mut arguments = PgArguments::default();
    let mut add_all = || {
        arguments.add(column(events, |event| event.id.as_str()))?;
        arguments.add(column(events, |event| event.created_at))?;
        arguments.add(column(events, |event| event.merchant_id.as_str()))?;
        arguments.add(column(events, |event| event.livemode))?;
        arguments.add(column(events, |event| event.kind.as_str()))?;
        arguments.add(column(events, |event| event.object_id.as_str()))?;
        arguments.add(column(events, |event| event.session_id.as_deref()))?;
        arguments.add(column(events, |event| event.session_sequence))?;
        arguments.add(column(events, |event| event.body_head.as_str()))?;
        arguments.add(column(events, |event| event.body_tail.as_str()))?;
        arguments.add(lease.token)?;
        arguments.add(lease.due_at)
    };
    add_all().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// The deliveries that follow from a statement's answer: for each stored event its ordinal, from 1,
/// and the endpoints that are owed it. The body is put together exactly as the statement stored it.
pub fn outgoing(
    events: &[NewEvent],
    lease: &Lease,
    addressed: impl IntoIterator<Item = (i64, Vec<String>)>,
) -> Vec<Outgoing> {
    let mut deliveries = Vec::new();
    for (ordinal, endpoint_ids) in addressed {
        let place = usize::try_from(ordinal).ok().and_then(|one| one.checked_sub(1));
        let Some(event) = place.and_then(|place| events.get(place)) else {
            continue;
        };
        let owed = endpoint_ids.len();
        let body: Arc<str> = format!("{}{owed}{}", event.body_head, event.body_tail).into();
        deliveries.extend(endpoint_ids.into_iter().map(|endpoint_id| Outgoing {
            event_id: event.id.clone(),
            event_created_at: event.created_at,
            endpoint_id,
            merchant_id: event.merchant_id.clone(),
            livemode: event.livemode,
            body: Arc::clone(&body),
            lease_token: lease.token,
            lease_until: lease.due_at,
            attempt: 1,
            again: false,
        }));
    }
    deliveries
}

/// Stores events, each with one delivery row for every enabled endpoint of the same merchant and mode
/// that subscribes to it, in one statement. What it returns is for the process that holds the lease;
/// with [`Lease::open`] it is for nobody.
pub async fn append(
    connection: &mut PgConnection,
    events: &[NewEvent],
    lease: &Lease,
) -> Result<Vec<Outgoing>, sqlx::Error> {
    const SQL: &str = concat!(
        "with ",
        crate::store::outbox::outbox_parameters!(),
        ", new_event as (select * from given_event), ",
        crate::store::outbox::outbox_ctes!(),
        " select ordinal, endpoint_ids from addressed where endpoint_ids <> '{}' order by ordinal",
    );
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_with(SQL, event_arguments(events, lease)?).fetch_all(connection).await?;
    let addressed =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(outgoing(events, lease, addressed))
}
