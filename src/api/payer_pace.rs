//! How often one session's payer may call: enough for a page that looks every second, too little for
//! a program that tries things out.
//!
//! The rule: each session has a bucket of its own in this process, so nobody can use up another's.
//! Tokens that open nothing never get here. What limits tries with cards is the session itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::id::SessionId;

/// Calls at once: a page that loads, looks and pays in several windows.
const CALLS_BURST: u32 = 60;

/// One more call each such time: two looks a second, for as long as one likes.
const CALL_EVERY: Duration = Duration::from_millis(500);

/// Sessions remembered at most; beyond that the memory is emptied and filled anew.
const SESSIONS_MAX: usize = 10_000;

/// The buckets.
#[derive(Default)]
pub struct PayerPace(Mutex<HashMap<SessionId, Bucket>>);

struct Bucket {
    calls_left: u32,
    filled_at: Instant,
}

impl PayerPace {
    /// Takes one call out of the session's bucket; false when it is empty.
    pub fn may_call(&self, session: &SessionId) -> bool {
        self.may_call_at(session, Instant::now())
    }

    fn may_call_at(&self, session: &SessionId, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SESSIONS_MAX && !buckets.contains_key(session) {
            buckets.clear();
        }
        let bucket = buckets.entry(session.clone()).or_insert(Bucket { calls_left: CALLS_BURST, filled_at: now });
        let periods = now.saturating_duration_since(bucket.filled_at).as_millis() / CALL_EVERY.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if periods > 0 {
            bucket.calls_left = bucket.calls_left.saturating_add(periods).min(CALLS_BURST);
            bucket.filled_at = if periods >= CALLS_BURST { now } else { bucket.filled_at + CALL_EVERY * periods };
        }
        let may = bucket.calls_left > 0;
        bucket.calls_left = bucket.calls_left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again_and_is_nobody_elses() {
        let pace = PayerPace::default();
        let now = chrono::Utc::now();
        let (session, other) = (SessionId::generate(now, false), SessionId::generate(now, false));
        let start = Instant::now();
        for _ in 0..CALLS_BURST {
            assert!(pace.may_call_at(&session, start));
        }
        assert!(!pace.may_call_at(&session, start));
        assert!(pace.may_call_at(&other, start));
        assert!(!pace.may_call_at(&session, start + CALL_EVERY - Duration::from_millis(1)));
        assert!(pace.may_call_at(&session, start + CALL_EVERY));
        assert!(!pace.may_call_at(&session, start + CALL_EVERY));
        let much_later = start + Duration::from_secs(3600);
        for _ in 0..CALLS_BURST {
            assert!(pace.may_call_at(&session, much_later));
        }
        assert!(!pace.may_call_at(&session, much_later));
    }
}
