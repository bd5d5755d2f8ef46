//! When a webhook that did not arrive is sent again, and when it is given up.
//! Waits grow from seconds to a day, so that a short outage heals soon and a long one still finds the
//! message owed; jitter only ever lengthens a wait, so that a receiver is never asked early. The queue
//! and the sending are elsewhere: here is no clock and no chance, both are handed in.

use chrono::{DateTime, TimeDelta, Utc};

/// Whether real money is behind the event. Test mode gives up within minutes, because a developer is
/// watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Twelve attempts over some three days.
    Live,
    /// Five attempts within ten minutes.
    Test,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A status was received and read: 2xx is success, everything else is not, redirects included.
    Answered {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` asked for, in seconds, as [`retry_after_seconds`] reads it.
        retry_after_seconds: Option<i64>,
    },
    /// The whole attempt, body included, did not end in time.
    TimedOut,
    /// No connection, or one that broke; or the attempt could not be made at all.
    Failed,
}

impl Outcome {
    /// Whether the receiver has taken the message.
    pub fn is_delivered(self) -> bool {
        matches!(self, Outcome::Answered { status: 200..=299, .. })
    }

    /// Whether the receiver said that it is gone for good (410), which disables the endpoint.
    pub fn is_gone(self) -> bool {
        matches!(self, Outcome::Answered { status: 410, .. })
    }
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next attempt is due then.
    At(DateTime<Utc>),
    /// There is no next attempt.
    Dead,
}

/// Jitter adds at most this many thousandths of the wait.
pub const JITTER_PER_MILLE_MAX: u32 = 200;

/// A receiver that did not answer in time is given this long at least, in seconds.
pub const WAIT_AFTER_TIMEOUT_SECONDS: i64 = 60;

/// Live: seconds before attempts 2 to 12, 2.9 days in all.
const LIVE_WAITS_SECONDS: [i64; 11] = [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 86_400];

/// Test: seconds before attempts 2 to 5. With jitter, time-outs and the longest `Retry-After` they
/// still fit into ten minutes.
const TEST_WAITS_SECONDS: [i64; 4] = [5, 30, 90, 180];

/// The longest `Retry-After` that is honoured, in seconds.
const LIVE_RETRY_AFTER_SECONDS_MAX: i64 = 86_400;
const TEST_RETRY_AFTER_SECONDS_MAX: i64 = 90;

impl Mode {
    fn waits(self) -> &'static [i64] {
        match self {
            Mode::Live => &LIVE_WAITS_SECONDS,
            Mode::Test => &TEST_WAITS_SECONDS,
        }
    }

    fn retry_after_seconds_max(self) -> i64 {
        match self {
            Mode::Live => LIVE_RETRY_AFTER_SECONDS_MAX,
            Mode::Test => TEST_RETRY_AFTER_SECONDS_MAX,
        }
    }

    /// How many attempts are made before a delivery is given up.
    pub fn attempts_max(self) -> usize {
        self.waits().len() + 1
    }
}

/// What follows after `attempts_made` attempts, the one with this `outcome` included, which failed at
/// `now`. `jitter` is a random number of thousandths, cut to [`JITTER_PER_MILLE_MAX`].
///
/// `Retry-After` counts on 429 and 503 only; it never shortens the schedule's own wait.
pub fn next_attempt(mode: Mode, attempts_made: usize, outcome: Outcome, jitter: u32, now: DateTime<Utc>) -> Next {
    if outcome.is_gone() {
        return Next::Dead;
    }
    // A count of zero would be a caller's slip; the first wait is the safe answer to it.
    let Some(base) = mode.waits().get(attempts_made.saturating_sub(1)).copied() else {
        return Next::Dead;
    };
    let wait = match outcome {
        Outcome::TimedOut => base.max(WAIT_AFTER_TIMEOUT_SECONDS),
        Outcome::Answered { status: 429 | 503, retry_after_seconds: Some(asked) } => {
            asked.min(mode.retry_after_seconds_max()).max(base)
        }
        Outcome::Answered { .. } | Outcome::Failed => base,
    };
    // Seconds times thousandths are milliseconds.
    let jitter_ms = wait * i64::from(jitter.min(JITTER_PER_MILLE_MAX));
    Next::At(now + TimeDelta::seconds(wait) + TimeDelta::milliseconds(jitter_ms))
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): a number of seconds, or a date. None if it is
/// neither, or lies in the past.
pub fn retry_after_seconds(value: &str, now: DateTime<Utc>) -> Option<i64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for us is a long wait all the same.
        return Some(value.parse().unwrap_or(i64::MAX));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    let seconds = (date.with_timezone(&Utc) - now).num_seconds();
    (seconds >= 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_323_045, 0).expect("a valid time")
    }

    fn answered(status: u16, retry_after_seconds: Option<i64>) -> Outcome {
        Outcome::Answered { status, retry_after_seconds }
    }

    fn wait_ms(mode: Mode, made: usize, outcome: Outcome, jitter: u32) -> Option<i64> {
        match next_attempt(mode, made, outcome, jitter, now()) {
            Next::At(at) => Some((at - now()).num_milliseconds()),
            Next::Dead => None,
        }
    }

    #[test]
    fn the_schedule() {
        use Mode::{Live, Test};
        let failed = Outcome::Failed;
        let rows = [
            (Live, 1, failed, 0, Some(5_000)),
            (Live, 1, failed, 200, Some(6_000)),
            // More jitter than there is.
            (Live, 1, failed, 9_999, Some(6_000)),
            (Live, 2, failed, 100, Some(33_000)),
            (Live, 3, answered(500, None), 0, Some(120_000)),
            (Live, 4, answered(301, None), 0, Some(600_000)),
            (Live, 5, answered(404, None), 0, Some(1_800_000)),
            (Live, 6, failed, 0, Some(3_600_000)),
            (Live, 7, failed, 0, Some(10_800_000)),
            (Live, 8, failed, 0, Some(21_600_000)),
            (Live, 9, failed, 0, Some(43_200_000)),
            (Live, 10, failed, 0, Some(86_400_000)),
            (Live, 11, failed, 0, Some(86_400_000)),
            (Live, 12, failed, 0, None),
            (Live, 500, failed, 0, None),
            (Live, 0, failed, 0, Some(5_000)),
            (Test, 1, failed, 0, Some(5_000)),
            (Test, 4, failed, 0, Some(180_000)),
            (Test, 5, failed, 0, None),
            (Live, 1, Outcome::TimedOut, 0, Some(60_000)),
            (Live, 1, Outcome::TimedOut, 200, Some(72_000)),
            (Live, 3, Outcome::TimedOut, 0, Some(120_000)),
            (Live, 12, Outcome::TimedOut, 0, None),
            (Live, 1, answered(410, None), 0, None),
            (Live, 1, answered(410, Some(5)), 0, None),
            (Live, 1, answered(429, Some(40)), 0, Some(40_000)),
            (Live, 1, answered(503, Some(40)), 200, Some(48_000)),
            (Live, 1, answered(429, Some(1)), 0, Some(5_000)),
            (Live, 4, answered(503, Some(40)), 0, Some(600_000)),
            (Live, 1, answered(429, Some(i64::MAX)), 0, Some(86_400_000)),
            (Live, 1, answered(500, Some(40)), 0, Some(5_000)),
            (Live, 12, answered(429, Some(40)), 0, None),
            (Test, 1, answered(429, Some(3_600)), 0, Some(90_000)),
            (Test, 4, answered(429, Some(3_600)), 0, Some(180_000)),
        ];
        for (mode, made, outcome, jitter, expected) in rows {
            let found = wait_ms(mode, made, outcome, jitter);
            assert_eq!(found, expected, "{mode:?} after {made}: {outcome:?}, jitter {jitter}");
        }
    }

    #[test]
    fn test_mode_ends_within_ten_minutes_whatever_happens() {
        let attempt_ms = 15_000;
        // A time-out lasts a whole attempt; an answer with `Retry-After` takes no time worth counting.
        for (outcome, spent_ms) in [(Outcome::TimedOut, attempt_ms), (answered(429, Some(i64::MAX)), 0)] {
            let total: i64 = (1..)
                .map_while(|made| wait_ms(Mode::Test, made, outcome, JITTER_PER_MILLE_MAX))
                .map(|wait| wait + spent_ms)
                .sum();
            assert!(total <= 600_000, "{outcome:?}: {total}");
        }
        assert_eq!(Mode::Test.attempts_max(), 5);
        assert_eq!(Mode::Live.attempts_max(), 12);
    }

    #[test]
    fn outcomes() {
        for status in [200, 202, 204, 299] {
            assert!(answered(status, None).is_delivered());
        }
        for status in [100, 199, 300, 301, 304, 400, 410, 500] {
            assert!(!answered(status, None).is_delivered());
        }
        assert!(answered(410, None).is_gone());
        assert!(!Outcome::TimedOut.is_delivered() && !Outcome::Failed.is_gone());
    }

    #[test]
    fn retry_after() {
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(i64::MAX)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:04:04 GMT", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after_seconds(text, now()), expected, "{text}");
        }
    }
}
