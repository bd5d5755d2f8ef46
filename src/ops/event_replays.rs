//! Replays: made, shown and called off by merchants, done by the worker a batch at a time.
//!
//! The rule: a replay never fills the queue. The next batch is made when what is due to its endpoints
//! has nearly been sent, so a fresh event waits behind little of it at the same endpoint and behind
//! nothing at others, whose places are their own. A batch and the note of how far it got are one
//! commit: whatever dies, the next worker goes on there.

use chrono::{DateTime, Duration, Utc};

use super::Caller;
use super::events::absent_endpoint;
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::event_replay::{EventReplay, ReplayState};
use crate::domain::id::{EndpointId, EventId, EventReplayId};
use crate::error::{Error, Result};
use crate::store::{self, Page};
use crate::telemetry;
use crate::wire::List;
use crate::wire::event_replay::EventReplay as WireReplay;

/// Replays of one merchant in one mode that run at once.
const RUNNING_MAX: i64 = 4;

/// Events of one batch: with every endpoint that a merchant may have, a statement of a few thousand rows.
const EVENTS_PER_BATCH: i64 = 200;

/// While so many deliveries are due to a replay's endpoints, its next batch waits.
const BACKLOG_MAX: i64 = 500;

/// A replay that had to wait is looked at again after this.
const LOOK_AGAIN_AFTER: Duration = Duration::milliseconds(200);

/// What a merchant asks for.
#[derive(Debug)]
pub struct NewReplay {
    /// The first moment of the range.
    pub from: DateTime<Utc>,
    /// The moment behind its last; now unless given.
    pub to: Option<DateTime<Utc>>,
    /// Types; a trailing `.*` stands for a family. None stands for all.
    pub types: Vec<String>,
    /// Whether only failed deliveries are made again.
    pub only_failed: bool,
    /// One endpoint, as it was written; every one that subscribes unless given.
    pub endpoint: Option<String>,
}

fn absent(id: &str) -> Error {
    Error::not_found("event_replay", id)
}

/// Begins a replay; the worker goes on with it.
///
/// # Errors
/// `Invalid` for a range that is none and for an endpoint that is absent or disabled, and those of the
/// idempotency key.
pub async fn create(app: &App, write: &Write, new: NewReplay) -> Result<Answer> {
    let caller = &write.caller;
    let endpoint = match &new.endpoint {
        None => None,
        Some(text) => Some(EndpointId::parse(text).ok_or_else(|| absent_endpoint(text))?),
    };
    write
        .once(app, async |connection, now| {
            let to = new.to.unwrap_or(now).min(now);
            if new.from >= to {
                let message = "`from` must be before `to`, and in the past.";
                return Err(Error::invalid("parameter_invalid", "from", message));
            }
            if let Some(endpoint) = &endpoint
                && !store::event_replays::is_deliverable(connection, &caller.merchant_id, caller.livemode, endpoint)
                    .await?
            {
                return Err(absent_endpoint(endpoint.as_str()));
            }
            let replay = EventReplay {
                id: EventReplayId::generate(now),
                merchant_id: caller.merchant_id.clone(),
                livemode: caller.livemode,
                from: new.from,
                to,
                types: new.types,
                only_failed: new.only_failed,
                endpoint,
                state: ReplayState::Running,
                reached: EventId::first_at(new.from),
                events_scanned: 0,
                deliveries: 0,
                created_at: now,
            };
            if !store::event_replays::insert(connection, &replay, RUNNING_MAX).await? {
                let message = format!("At most {RUNNING_MAX} replays run at once; wait for one or cancel it.");
                return Err(Error::invalid("event_replays_limit", "", message));
            }
            Ok((Answer::new(&WireReplay::new(&replay)), Vec::new()))
        })
        .await
}

/// One replay.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<WireReplay> {
    let parsed = EventReplayId::parse(id).ok_or_else(|| absent(id))?;
    let found = store::event_replays::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed).await?;
    Ok(WireReplay::new(&found.ok_or_else(|| absent(id))?))
}

/// A page of replays, newest first.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, page: &Page) -> Result<List<WireReplay>> {
    let mut rows = store::event_replays::list(app.store.pool(), &caller.merchant_id, caller.livemode, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/event_replays", rows.iter().map(WireReplay::new).collect(), has_more))
}

/// Calls a replay off; what it has put into the queue stays there. One that has ended is left as it is.
///
/// # Errors
/// `NotFound`, and those of the idempotency key.
pub async fn cancel(app: &App, write: &Write, id: &str) -> Result<Answer> {
    let caller = &write.caller;
    let parsed = EventReplayId::parse(id).ok_or_else(|| absent(id))?;
    write
        .once(app, async |connection, now| {
            let locked = store::event_replays::lock(connection, &caller.merchant_id, caller.livemode, &parsed).await?;
            let mut replay = locked.ok_or_else(|| absent(id))?;
            if replay.state == ReplayState::Running {
                replay.state = ReplayState::Cancelled(now);
                store::event_replays::save(connection, &replay, now).await?;
            }
            Ok((Answer::new(&WireReplay::new(&replay)), Vec::new()))
        })
        .await
}

/// Does one batch of one running replay. True when there may be more to do at once.
///
/// # Errors
/// The database's; then the batch was not done.
pub async fn go_on(app: &App) -> Result<bool> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let Some(mut replay) = store::event_replays::lock_next(&mut transaction, now - LOOK_AGAIN_AFTER).await? else {
        return Ok(false);
    };
    let mut deliveries = 0;
    if store::event_replays::backlog(&mut transaction, &replay, now, BACKLOG_MAX).await? < BACKLOG_MAX {
        deliveries = take_a_batch(&mut transaction, &mut replay, now).await?;
    }
    store::event_replays::save(&mut transaction, &replay, now).await?;
    app.store.commit(transaction).await?;
    metrics::counter!(telemetry::EVENT_REPLAYS_DELIVERIES_TOTAL).increment(u64::try_from(deliveries).unwrap_or(0));
    if deliveries > 0 {
        app.deliveries_are_due();
    }
    if let Some(at) = replay.state.ended_at() {
        tracing::info!(
            replay = replay.id.as_str(),
            deliveries = replay.deliveries,
            seconds = (at - replay.created_at).num_seconds(),
            state = replay.state.word(),
            "a replay of events has ended"
        );
    }
    Ok(true)
}

async fn take_a_batch(connection: &mut store::Connection, replay: &mut EventReplay, now: DateTime<Utc>) -> Result<i64> {
    if let Some(endpoint) = &replay.endpoint
        && !store::event_replays::is_deliverable(connection, &replay.merchant_id, replay.livemode, endpoint).await?
    {
        let why = "The endpoint was disabled or deleted.".to_owned();
        replay.state = ReplayState::Failed { at: now, why };
        return Ok(0);
    }
    let batch = store::event_replays::owe_batch(connection, replay, EVENTS_PER_BATCH, now).await?;
    replay.events_scanned += batch.events_scanned;
    replay.deliveries += batch.deliveries;
    if let Some(reached) = batch.reached {
        replay.reached = reached;
    }
    if batch.events_scanned < EVENTS_PER_BATCH {
        replay.state = ReplayState::Completed(now);
    }
    Ok(batch.deliveries)
}
