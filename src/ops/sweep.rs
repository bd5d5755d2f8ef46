//! What time makes due, one round at a time: deadlines, doubts, things too old to keep.
//!
//! The rule: a round is safe to repeat and to run on every replica at once; rows that somebody else
//! holds are skipped. The loop round it is `worker::sweep`'s.

use chrono::{DateTime, Utc};

use super::sessions::save_transitions;
use crate::app::App;
use crate::crash::crash_point;
use crate::error::Result;
use crate::store;
use crate::wire::event::EventRequest;

/// Sessions expired in one transaction: large enough to be cheap, small enough to be short.
const SESSIONS_PER_ROUND: i64 = 500;

/// A session this far past its deadline has been missed by several rounds.
const OVERDUE_AFTER: chrono::Duration = chrono::Duration::seconds(5);

/// Overdue sessions counted; more are as bad.
const OVERDUE_COUNTED_MAX: i64 = 1_000;

/// Budgets are of an hour; a day's are kept for whoever wonders.
const BUDGETS_KEPT: chrono::Duration = chrono::Duration::days(1);

/// Rows pruned in one statement.
const PRUNED_PER_ROUND: i64 = 5_000;

/// Days of events that one round looks at: the oldest. More than one only after a change of the setting, or where old
/// days are still owed.
const DAYS_PER_ROUND: i64 = 400;

/// Times that a round prunes events and attempts: with [`PRUNED_PER_ROUND`], more in five minutes than a busy gateway
/// writes.
const PRUNINGS_PER_ROUND: u32 = 40;

/// Ends sessions whose deadline has passed. Gives the number ended; a full batch means that more
/// are due.
///
/// # Errors
/// The database's; then none of the round was ended.
pub async fn expire_due(app: &App) -> Result<usize> {
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let due = store::sessions::lock_due(&mut transaction, now, SESSIONS_PER_ROUND).await?;
    let mut transitions: Vec<_> = due.into_iter().filter_map(|session| session.expire_when_due(now)).collect();
    if transitions.is_empty() {
        return Ok(0);
    }
    let request = EventRequest::default();
    let outgoing = save_transitions(app, &mut transaction, &mut transitions, &request, now).await?;
    crash_point!("expire.written");
    app.store.commit(transaction).await?;
    crash_point!("expire.committed");
    app.hand_over(outgoing);
    Ok(transitions.len())
}

/// Counts sessions that should have been ended some rounds ago, at most a thousand.
///
/// # Errors
/// The database's.
pub async fn count_overdue(app: &App) -> Result<u32> {
    store::sessions::count_due(app.store.pool(), app.clock.now() - OVERDUE_AFTER, OVERDUE_COUNTED_MAX).await
}

/// Whether a round of [`expire_due`] was full.
pub fn was_full(ended: usize) -> bool {
    i64::try_from(ended).unwrap_or(i64::MAX) >= SESSIONS_PER_ROUND
}

/// Forgets kept answers, mails and budgets that are too old and deliveries that nobody can make any
/// more, and makes event partitions ahead.
///
/// # Errors
/// The database's.
pub async fn tidy(app: &App) -> Result<()> {
    let now = app.clock.now();
    let pool = app.store.pool();
    store::idempotency::prune(pool, now - app.settings.idempotency_retention, PRUNED_PER_ROUND).await?;
    store::mails::prune(pool, now - app.settings.mail_retention, PRUNED_PER_ROUND).await?;
    store::identity::prune_budgets(pool, now - BUDGETS_KEPT, PRUNED_PER_ROUND).await?;
    prune_events(app, now).await?;
    let mut connection = pool.acquire().await?;
    store::partitions::ensure(&mut connection, now, store::PARTITIONS_AHEAD).await
}

/// Forgets events, dead deliveries, attempts and replays that are older than the operator keeps them, and what is
/// owed to endpoints that have been deleted.
async fn prune_events(app: &App, now: DateTime<Utc>) -> Result<()> {
    let pool = app.store.pool();
    let (events_before, attempts_before) = (now - app.settings.event_retention, now - app.settings.attempt_retention);
    let mut connection = pool.acquire().await?;
    let days = store::retention::old_days(&mut connection, events_before, DAYS_PER_ROUND).await?;
    drop(connection);
    for day in days {
        store::retention::drop_day(&app.store, day).await?;
    }
    for _ in 0..PRUNINGS_PER_ROUND {
        let pruned = store::retention::prune_dead_deliveries(pool, events_before, PRUNED_PER_ROUND).await?
            + store::retention::prune_events(pool, events_before, PRUNED_PER_ROUND).await?
            + store::retention::prune_attempts(pool, attempts_before, PRUNED_PER_ROUND).await?
            + store::event_replays::prune(pool, events_before, PRUNED_PER_ROUND).await?
            + store::delivery_queue::forget_deleted_endpoints(&mut *pool.acquire().await?, PRUNED_PER_ROUND).await?;
        if pruned == 0 {
            break;
        }
    }
    Ok(())
}

/// Takes a new sample of the database's clock.
///
/// # Errors
/// The database's; the clock then runs on by itself.
pub async fn set_clock(app: &App) -> Result<()> {
    app.clock.set(&app.store.clock_sample().await?);
    Ok(())
}
