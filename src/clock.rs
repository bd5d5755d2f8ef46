//! The only clock: the database's, read through a monotonic instant and an offset.
//!
//! The rule: no code below asks the operating system what time it is. The database is asked at start and
//! again every half minute, so replicas with wrong clocks agree on every deadline; an answer that was long
//! under way says little and changes little. An operation asks once and hands the answer down. Tests move
//! the offset.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// The machine's own time, for a command that has no database to ask and signs for a program beside it.
pub fn machine_now() -> DateTime<Utc> {
    Utc::now()
}

/// What the database's clock showed when it was asked. At `answered_at` it was at least that, and at most
/// `waited` later.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What it showed, some time after it was asked.
    pub database_now: DateTime<Utc>,
    /// From asking it to its answer.
    pub waited: Duration,
    /// When it had answered.
    pub answered_at: Instant,
}

/// Database time without a round trip.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Microseconds since 1970 that the database's clock showed at `origin`.
    origin_micros: AtomicI64,
    /// Microseconds that a test has moved the clock by.
    moved_micros: AtomicI64,
}

impl Clock {
    /// A clock set by one sample, which is not known better than to half of its wait.
    pub fn new(sample: &Sample) -> Self {
        let halfway = micros(sample.waited) / 2;
        Self {
            origin: sample.answered_at,
            origin_micros: AtomicI64::new(sample.database_now.timestamp_micros().saturating_add(halfway)),
            moved_micros: AtomicI64::new(0),
        }
    }

    fn elapsed_micros(&self) -> i64 {
        micros(self.origin.elapsed())
    }

    /// The database's time, in whole microseconds, as PostgreSQL keeps it.
    pub fn now(&self) -> DateTime<Utc> {
        let micros = self
            .origin_micros
            .load(Ordering::Relaxed)
            .saturating_add(self.moved_micros.load(Ordering::Relaxed))
            .saturating_add(self.elapsed_micros());
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Takes a new sample: the clock stays as it is within the sample's bounds, and goes to the nearer one otherwise.
    /// So an answer that was held up for a second does not put it wrong by a second.
    pub fn set(&self, sample: &Sample) {
        let elapsed = micros(sample.answered_at.saturating_duration_since(self.origin));
        let earliest = sample.database_now.timestamp_micros().saturating_sub(elapsed);
        let latest = earliest.saturating_add(micros(sample.waited));
        let origin = self.origin_micros.load(Ordering::Relaxed).clamp(earliest, latest);
        self.origin_micros.store(origin, Ordering::Relaxed);
    }

    /// Moves the clock forward; what a test does instead of waiting.
    pub fn advance(&self, by: chrono::Duration) {
        let micros = by.num_microseconds().unwrap_or(i64::MAX);
        self.moved_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, waited_ms: u64, answered_at: Instant) -> Sample {
        let database_now = DateTime::from_timestamp(second, 0).expect("a time");
        Sample { database_now, waited: Duration::from_millis(waited_ms), answered_at }
    }

    fn shown_at(clock: &Clock, at: Instant) -> i64 {
        clock.origin_micros.load(Ordering::Relaxed) + micros(at - clock.origin)
    }

    #[test]
    fn a_sample_moves_the_clock_only_as_far_as_it_proves_it_wrong() {
        let start = Instant::now();
        let clock = Clock::new(&sample(1000, 20, start));
        assert_eq!(shown_at(&clock, start), 1_000_010_000);
        let later = start + Duration::from_secs(30);
        // Heard two seconds late: the time may have been 30 s after the first sample all the same.
        clock.set(&sample(1028, 2500, later));
        assert_eq!(shown_at(&clock, later), 1_030_010_000);
        // Heard at once: the clock was too fast, then too slow.
        clock.set(&sample(1029, 4, later));
        assert_eq!(shown_at(&clock, later), 1_029_004_000);
        clock.set(&sample(1031, 4, later));
        assert_eq!(shown_at(&clock, later), 1_031_000_000);
    }

    #[test]
    fn what_a_test_has_moved_stays_moved() {
        let clock = Clock::new(&sample(1000, 0, Instant::now()));
        clock.advance(chrono::Duration::hours(1));
        clock.set(&sample(1000, 0, clock.origin));
        assert!(clock.now().timestamp() >= 4600);
    }
}
