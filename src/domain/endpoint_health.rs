//! When an endpoint that takes nothing is left alone for a while, and when it is given up.
//! A pause spares the receiver and spares the deliveries: nothing is sent and no attempt is used up. It
//! ends with one delivery that goes ahead of the others; what comes of it decides. Pauses are bounded, so
//! that within the days after which an endpoint is given up it is asked often enough to count.

use chrono::{DateTime, TimeDelta, Utc};

/// The longest pause in test mode, in seconds, whatever live mode has: a developer is watching.
const TEST_PAUSE_SECONDS_MAX: i64 = 60;

/// When an endpoint is left alone and when it is given up: the operator's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthLimits {
    /// So many failures in a row, whatever the deliveries, begin a pause; 0: none ever does.
    pub pause_after_failures: i32,
    /// The first pause, in seconds. Each further one is twice as long.
    pub pause_seconds_first: i64,
    /// The longest, in seconds.
    pub pause_seconds_max: i64,
    /// Given up after so many days without one success; 0: never.
    pub disable_after_days: i64,
    /// And not before so many failures: an endpoint that was asked less often may just not have had its chance.
    pub disable_after_failures: i32,
}

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

impl HealthLimits {
    /// How long the endpoint is left alone now, after `failures` in a row and `pauses` since the last success.
    pub fn pause_after(&self, livemode: bool, failures: i32, pauses: i32) -> Option<TimeDelta> {
        if self.pause_after_failures == 0 || failures < self.pause_after_failures {
            return None;
        }
        let longest = if livemode { i64::MAX } else { TEST_PAUSE_SECONDS_MAX };
        let doubled = self.pause_seconds_first << pauses.clamp(0, 16);
        Some(TimeDelta::seconds(doubled.min(self.pause_seconds_max).min(longest)))
    }

    /// Whether the endpoint is given up.
    pub fn is_given_up(&self, failing_since: DateTime<Utc>, failures: i32, now: DateTime<Utc>) -> bool {
        self.disable_after_days > 0
            && failures >= self.disable_after_failures
            && now - failing_since >= TimeDelta::days(self.disable_after_days)
    }

    /// Whether an endpoint that is paused as long as can be is asked often enough to be given up in time, twice over.
    pub fn can_give_up(&self) -> bool {
        let tries = TimeDelta::days(self.disable_after_days).num_seconds() / self.pause_seconds_max.max(1);
        self.disable_after_days == 0
            || self.pause_after_failures == 0
            || tries >= i64::from(self.disable_after_failures) * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HealthLimits = HealthLimits {
        pause_after_failures: 20,
        pause_seconds_first: 30,
        pause_seconds_max: 3_600,
        disable_after_days: 5,
        disable_after_failures: 50,
    };

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds =
            |livemode, failures, pauses| LIMITS.pause_after(livemode, failures, pauses).map(|p| p.num_seconds());
        assert_eq!(seconds(true, 19, 0), None);
        assert_eq!(seconds(true, 20, 0), Some(30));
        assert_eq!(seconds(true, 21, 1), Some(60));
        assert_eq!(seconds(true, 30, 6), Some(1_920));
        assert_eq!(seconds(true, 30, 7), Some(3_600));
        assert_eq!(seconds(true, i32::MAX, i32::MAX), Some(3_600));
        assert_eq!(seconds(false, 20, 9), Some(60));
        let never = HealthLimits { pause_after_failures: 0, ..LIMITS };
        assert_eq!(never.pause_after(true, i32::MAX, 0), None);
    }

    #[test]
    fn giving_up_takes_both_time_and_failures() {
        let now = DateTime::from_timestamp(1_767_323_045, 0).expect("a valid time");
        let days = |days| now - TimeDelta::days(days);
        assert!(LIMITS.is_given_up(days(5), 50, now));
        assert!(!LIMITS.is_given_up(days(5), 49, now));
        assert!(!LIMITS.is_given_up(days(5) + TimeDelta::seconds(1), 5_000, now));
        let never = HealthLimits { disable_after_days: 0, ..LIMITS };
        assert!(!never.is_given_up(days(500), i32::MAX, now));
    }

    #[test]
    fn pauses_leave_enough_tries_to_give_up() {
        assert!(LIMITS.can_give_up());
        assert!(!HealthLimits { disable_after_failures: 61, ..LIMITS }.can_give_up());
        assert!(!HealthLimits { pause_seconds_max: 7_200, ..LIMITS }.can_give_up());
        assert!(HealthLimits { pause_after_failures: 0, disable_after_failures: 61, ..LIMITS }.can_give_up());
    }
}
