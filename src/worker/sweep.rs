//! The loops round `ops::sweep` and the look-ups of `ops::doubts`: a beat every half second, and rarer
//! work on every so many beats.
//!
//! The rule: one failing piece does not keep the others from running, and a beat that finds a full
//! batch goes on at once. The beat is short because the event of an expiry is due within two seconds
//! of the deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::ops::{doubts, escrow_acts, event_replays, reviews, sweep};
use crate::telemetry;

/// Between two looks for due sessions.
const BEAT: Duration = Duration::from_millis(500);

/// Between two samples of the database's clock.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// Between two rounds of throwing old things away and making partitions ahead.
const TIDY_EVERY: Duration = Duration::from_secs(300);

/// Between two cleanings of the vault, whose cards live a minute.
const VAULT_EVERY: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let (mut clock_at, mut tidy_at, mut vault_at) = (start + CLOCK_EVERY, start, start);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        expire(&app, &shutdown).await;
        if let Err(error) = escrow_acts::complete_due(&app).await {
            tracing::error!(error = ?error, "escrows whose inspection is over could not be completed; the next beat tries again");
        }
        let now = Instant::now();
        if now >= vault_at {
            app.vault.forget_expired();
            observe(&app).await;
            if let Err(error) = reviews::expire_due(&app).await {
                tracing::error!(error = ?error, "reviews that nobody decided could not be read; the next round tries again");
            }
            vault_at = now + VAULT_EVERY;
        }
        if now >= clock_at {
            if let Err(error) = sweep::set_clock(&app).await {
                tracing::warn!(error = ?error, "the database's clock could not be read; the last sample runs on");
            }
            clock_at = now + CLOCK_EVERY;
        }
        if now >= tidy_at {
            if let Err(error) = sweep::tidy(&app).await {
                tracing::error!(error = ?error, "old rows could not be thrown away; the next round tries again");
            }
            tidy_at = now + TIDY_EVERY;
        }
    }
}

/// Asks the providers about charges in doubt until `shutdown`. A loop of its own, because a provider may take
/// its time and a session's deadline does not. What a stop cuts off is asked again by whoever comes next.
pub async fn settle_doubts(app: Arc<App>, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = async {
            beat.tick().await;
            doubts::settle_due(&app).await
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            asked = round => if let Err(error) = asked {
                tracing::error!(error = ?error, "charges in doubt could not be read; the next beat tries again");
            }
        }
    }
}

/// Does what replays of events have to do until `shutdown`. A loop of its own, because a batch may take longer than
/// a beat, and replays can wait.
pub async fn replay_events(app: Arc<App>, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        while !shutdown.is_cancelled() {
            match event_replays::go_on(&app).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(error = ?error, "a replay of events could not go on; the next beat tries again");
                    break;
                }
            }
        }
    }
}

async fn expire(app: &App, shutdown: &CancellationToken) {
    loop {
        match sweep::expire_due(app).await {
            Ok(ended) if sweep::was_full(ended) && !shutdown.is_cancelled() => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(error = ?error, "sessions past their deadline could not be ended; the next beat tries again");
                return;
            }
        }
    }
}

async fn observe(app: &App) {
    match sweep::count_overdue(app).await {
        Ok(overdue) => metrics::gauge!(telemetry::SESSIONS_OVERDUE).set(f64::from(overdue)),
        Err(error) => tracing::warn!(error = ?error, "overdue sessions could not be counted"),
    }
    let (open, idle) = app.store.pool_connections();
    let busy = open.saturating_sub(u32::try_from(idle).unwrap_or(u32::MAX));
    metrics::gauge!(telemetry::DATABASE_POOL_CONNECTIONS, "state" => "busy").set(f64::from(busy));
    metrics::gauge!(telemetry::DATABASE_POOL_CONNECTIONS, "state" => "idle").set(f64::from(open - busy));
}
