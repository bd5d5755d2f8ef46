//! The payer's way back waits a moment for the merchant's endpoints, which ends the race in which the
//! shopper is back at the shop before the webhook is.
//!
//! The rule: the wait is a courtesy and never an obstacle. It ends at its bound, counted from the
//! completion, so that a page loaded again later waits for nothing; an endpoint that has failed once,
//! is disabled or was given up is not waited for; a database that does not answer ends it too. Who
//! closes the page ends it by that: the future is dropped.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::domain::session::{Session, State};
use crate::store;
use crate::telemetry;

/// Between the first two looks: what a delivery to a quick endpoint takes.
const FIRST_PAUSE: Duration = Duration::from_millis(15);

/// Between two looks at most; each doubles the one before.
const PAUSE_MAX: Duration = Duration::from_millis(240);

/// Waits until nobody has yet to try to deliver the session's completion, or the bound is reached.
pub async fn wait(app: &App, session: &Session) {
    let State::Completed(completed_at) = session.state else { return };
    if session.options.goes_back_at_once {
        return;
    }
    let left = completed_at + app.settings.redirect_hold - app.clock.now();
    let Ok(left) = left.to_std() else { return };
    // A clock that was moved back must not make the wait longer than the operator said.
    let deadline = Instant::now() + left.min(app.settings.redirect_hold.to_std().unwrap_or_default());
    let Ok(_permit) = app.redirect_holds.try_acquire() else {
        metrics::counter!(telemetry::REDIRECT_HOLDS_TOTAL, "ended_by" => "crowd").increment(1);
        return;
    };
    let mut pause = FIRST_PAUSE;
    let ended_by = loop {
        match store::events::is_first_try_owed(app.store.pool(), session.id.as_str(), completed_at).await {
            Ok(false) => break "acknowledged",
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(%error, "whether a payer's way back must wait could not be asked; he goes on");
                break "failure";
            }
        }
        let now = Instant::now();
        if now >= deadline {
            break "deadline";
        }
        tokio::time::sleep_until(deadline.min(now + pause)).await;
        pause = PAUSE_MAX.min(pause * 2);
    };
    metrics::counter!(telemetry::REDIRECT_HOLDS_TOTAL, "ended_by" => ended_by).increment(1);
}
