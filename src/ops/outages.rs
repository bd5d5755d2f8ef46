//! What is known of the providers' health: heard from charges and look-ups, told in log and metrics.
//!
//! The rule: every change of a breaker is one line and one count, and nothing else is said, so that an
//! outage does not fill the log. What follows from an open breaker is decided in `failover`.

use std::fmt::Write as _;

use crate::app::App;
use crate::providers::breaker::BreakerState;
use crate::telemetry;

/// Tells of a change, where there is one.
pub(super) fn tell(provider: &str, change: Option<BreakerState>) {
    let Some(state) = change else { return };
    match state {
        BreakerState::Closed => {
            tracing::info!(provider, state = state.word(), "a payment provider answers again and gets its charges");
        }
        BreakerState::HalfOpen | BreakerState::Open => {
            tracing::warn!(
                provider,
                state = state.word(),
                "a payment provider does not answer; charges pass it by until it does, look-ups and refunds go on"
            );
        }
    }
    show(provider, state);
    metrics::counter!(telemetry::PROVIDER_BREAKER_CHANGES_TOTAL, "provider" => provider.to_owned(), "state" => state.word())
        .increment(1);
}

fn show(provider: &str, state: BreakerState) {
    let is_open = f64::from(u8::from(state != BreakerState::Closed));
    metrics::gauge!(telemetry::PROVIDER_BREAKER_OPEN, "provider" => provider.to_owned()).set(is_open);
}

/// Hears whether a provider answered a look-up, which may end its outage.
pub(super) fn hear_look_up(app: &App, provider: &str, is_answered: bool) {
    if let Some(registered) = app.providers.registered(provider) {
        tell(provider, registered.breaker.hear_look_up(is_answered, app.clock.now()));
    }
}

/// Shows every provider in the metrics from the start, so that an absent line is not taken for a healthy provider.
pub fn show_all(app: &App) {
    for registered in app.providers.all() {
        show(registered.provider.name(), registered.breaker.state(app.clock.now()));
    }
}

/// One line a provider, for people.
pub fn summary(app: &App) -> String {
    let mut lines = String::new();
    for registered in app.providers.all() {
        let state = registered.breaker.state(app.clock.now()).word();
        // Writing into a String cannot fail.
        let _ = writeln!(lines, "provider {}: {state}", registered.provider.name());
    }
    lines
}
