//! The only clock: the database's, read through a monotonic instant and an offset.
//!
//! The rule: no code below asks the operating system what time it is. The offset to the database's
//! clock is sampled at start and again every half minute, so replicas with wrong clocks agree on
//! every deadline. An operation asks once and hands the answer down. Tests move the offset.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};

/// The machine's own time, for a command that has no database to ask and signs for a program beside it.
pub fn machine_now() -> DateTime<Utc> {
    Utc::now()
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
    /// A clock set by one sample of the database's time, taken just now.
    pub fn new(database_now: DateTime<Utc>) -> Self {
        Self {
            origin: Instant::now(),
            origin_micros: AtomicI64::new(database_now.timestamp_micros()),
            moved_micros: AtomicI64::new(0),
        }
    }

    fn elapsed_micros(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX)
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

    /// Takes a new sample of the database's time.
    pub fn set(&self, database_now: DateTime<Utc>) {
        let origin = database_now.timestamp_micros().saturating_sub(self.elapsed_micros());
        self.origin_micros.store(origin, Ordering::Relaxed);
    }

    /// Moves the clock forward; what a test does instead of waiting.
    pub fn advance(&self, by: chrono::Duration) {
        let micros = by.num_microseconds().unwrap_or(i64::MAX);
        self.moved_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
