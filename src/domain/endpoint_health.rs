//! When an endpoint that takes nothing is left alone for a while, and when it is given up.
//! A pause spares the receiver and spares the deliveries: nothing is sent and no attempt is used up. It
//! ends with one delivery that goes ahead of the others; what comes of it decides. Pauses are bounded, so
//! that within the days after which an endpoint is given up it is asked often enough to count.

use chrono::{DateTime, TimeDelta, Utc};

/// So many failures in a row, whatever the deliveries, begin a pause. More than the tries of a few events
/// in test mode: whoever is mending his receiver wants to be asked.
const FAILURES_BEFORE_PAUSE: i32 = 20;

/// The first pause, in seconds. Each further one is twice as long.
const FIRST_PAUSE_SECONDS: i64 = 30;

/// The longest pause, in seconds: 120 tries in five days, more than twice what giving up asks for.
const LIVE_PAUSE_SECONDS_MAX: i64 = 3_600;

/// The longest pause in test mode, in seconds, because a developer is watching.
const TEST_PAUSE_SECONDS_MAX: i64 = 60;

/// An endpoint is given up after so many days without one success, if it failed so often in that time.
pub const GIVEN_UP_AFTER_DAYS: i64 = 5;

/// An endpoint that was asked less often may just not have had its chance.
pub const GIVEN_UP_AFTER_FAILURES: i32 = 50;

/// Why an endpoint is not delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// Its merchant switched it off.
    Requested,
    /// It answered 410.
    Gone,
    /// Days without one success.
    Failing,
}

impl DisabledReason {
    /// The word on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            DisabledReason::Requested => "requested",
            DisabledReason::Gone => "gone",
            DisabledReason::Failing => "failing",
        }
    }
}

/// How long the endpoint is left alone now, after `failures` in a row and `pauses` since the last success.
pub fn pause_after(livemode: bool, failures: i32, pauses: i32) -> Option<TimeDelta> {
    if failures < FAILURES_BEFORE_PAUSE {
        return None;
    }
    let longest = if livemode { LIVE_PAUSE_SECONDS_MAX } else { TEST_PAUSE_SECONDS_MAX };
    let doubled = FIRST_PAUSE_SECONDS << pauses.clamp(0, 16);
    Some(TimeDelta::seconds(doubled.min(longest)))
}

/// Whether the endpoint is given up.
pub fn is_given_up(failing_since: DateTime<Utc>, failures: i32, now: DateTime<Utc>) -> bool {
    failures >= GIVEN_UP_AFTER_FAILURES && now - failing_since >= TimeDelta::days(GIVEN_UP_AFTER_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds = |livemode, failures, pauses| pause_after(livemode, failures, pauses).map(|p| p.num_seconds());
        assert_eq!(seconds(true, 19, 0), None);
        assert_eq!(seconds(true, 20, 0), Some(30));
        assert_eq!(seconds(true, 21, 1), Some(60));
        assert_eq!(seconds(true, 30, 6), Some(1_920));
        assert_eq!(seconds(true, 30, 7), Some(3_600));
        assert_eq!(seconds(true, i32::MAX, i32::MAX), Some(3_600));
        assert_eq!(seconds(false, 20, 9), Some(60));
    }

    #[test]
    fn giving_up_takes_both_time_and_failures() {
        let now = DateTime::from_timestamp(1_767_323_045, 0).expect("a valid time");
        let days = |days| now - TimeDelta::days(days);
        assert!(is_given_up(days(5), 50, now));
        assert!(!is_given_up(days(5), 49, now));
        assert!(!is_given_up(days(5) + TimeDelta::seconds(1), 5_000, now));
    }

    #[test]
    fn pauses_leave_enough_tries_to_give_up() {
        let tries = TimeDelta::days(GIVEN_UP_AFTER_DAYS).num_seconds() / LIVE_PAUSE_SECONDS_MAX;
        assert!(tries > i64::from(GIVEN_UP_AFTER_FAILURES) * 2);
    }
}
