//! A circuit breaker: after many charges in a row of time without an answer, a provider is left alone
//! for a moment instead of being offered payers one after the other.
//!
//! Rule: only charges are held back. Look-ups, captures, voids and refunds always go through, because
//! money that is in doubt comes before everything; a look-up that is answered may end an outage, and
//! none can begin one. The time is the caller's; what changed is handed back for others to tell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, Utc};

/// Answers remembered: enough to tell an outage from bad luck, few enough to notice one at once.
const WINDOW_ANSWERS_MAX: usize = 20;

/// Older answers say nothing about now.
const WINDOW_AGE_MAX: Duration = Duration::seconds(60);

/// Longest time without a try, however long the outage: after it ends nobody waits longer than this.
const OPEN_MAX: Duration = Duration::seconds(60);

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Charges without an answer among the last ones before it opens, if they are also at least half of them. Zero: never.
    pub failures_min: u32,
    /// How long it stays open at first; doubled after each probe that fails, up to a minute.
    pub open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures_min: 5, open: Duration::seconds(10) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Charges go through.
    Closed,
    /// One charge or look-up at a time goes through, to see whether the provider is back.
    HalfOpen,
    /// No charge goes through.
    Open,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [BreakerState; 3] = [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        }
    }
}

/// One provider's breaker in this process.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// When, and whether there was an answer.
    heard: VecDeque<(DateTime<Utc>, bool)>,
    /// Since when no charge goes through; none while closed.
    open_until: Option<DateTime<Utc>>,
    is_probed: bool,
    /// Times it opened since it was last closed.
    openings: u32,
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Breaker {
        Breaker { settings, inner: Mutex::default() }
    }

    /// Where it stands.
    pub fn state(&self, now: DateTime<Utc>) -> BreakerState {
        self.inner().state(now)
    }

    /// Lets a charge through, or not. Half open, the first one is the probe and others wait for it.
    pub fn admit(self: &Arc<Self>, now: DateTime<Utc>) -> Option<Permit> {
        let mut inner = self.inner();
        let is_probe = match inner.state(now) {
            BreakerState::Closed => false,
            BreakerState::HalfOpen if !inner.is_probed => true,
            BreakerState::HalfOpen | BreakerState::Open => return None,
        };
        inner.is_probed = is_probe;
        Some(Permit { breaker: Arc::clone(self), is_probe })
    }

    /// Hears whether a look-up was answered. Gives the new state where that changed it.
    pub fn hear_look_up(&self, is_answered: bool, now: DateTime<Utc>) -> Option<BreakerState> {
        let mut inner = self.inner();
        (inner.state(now) == BreakerState::HalfOpen).then(|| inner.end_probe(is_answered, now, &self.settings))
    }

    fn hear_charge(&self, is_probe: bool, is_answered: bool, now: DateTime<Utc>) -> Option<BreakerState> {
        let mut inner = self.inner();
        match inner.state(now) {
            BreakerState::Closed => inner.count(is_answered, now, &self.settings),
            // A look-up may have been faster than the probe; and what began before the outage says nothing new.
            BreakerState::HalfOpen if is_probe => Some(inner.end_probe(is_answered, now, &self.settings)),
            BreakerState::HalfOpen | BreakerState::Open => None,
        }
    }

    /// A panic elsewhere leaves at worst one answer uncounted.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn state(&self, now: DateTime<Utc>) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    fn count(&mut self, is_answered: bool, now: DateTime<Utc>, settings: &BreakerSettings) -> Option<BreakerState> {
        self.heard.push_back((now, is_answered));
        while self.heard.len() > WINDOW_ANSWERS_MAX
            || self.heard.front().is_some_and(|(at, _)| WINDOW_AGE_MAX <= now - *at)
        {
            self.heard.pop_front();
        }
        let failures = self.heard.iter().filter(|(_, is_answered)| !is_answered).count();
        let is_many = 0 < settings.failures_min && settings.failures_min as usize <= failures;
        (is_many && self.heard.len() <= 2 * failures).then(|| self.open(now, settings))
    }

    fn open(&mut self, now: DateTime<Utc>, settings: &BreakerSettings) -> BreakerState {
        let doublings = self.openings.min(16);
        let pause = settings.open.checked_mul(1 << doublings).unwrap_or(OPEN_MAX).min(OPEN_MAX);
        self.open_until = Some(now + pause);
        self.openings = self.openings.saturating_add(1);
        self.is_probed = false;
        self.heard.clear();
        BreakerState::Open
    }

    fn end_probe(&mut self, is_answered: bool, now: DateTime<Utc>, settings: &BreakerSettings) -> BreakerState {
        if !is_answered {
            return self.open(now, settings);
        }
        *self = Inner::default();
        BreakerState::Closed
    }
}

/// Leave to ask for one charge. Dropped unheard, it counts for nothing.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Permit {
    /// Hears whether the charge was answered, by whatever word. Gives the new state where that changed it.
    pub fn hear(mut self, is_answered: bool, now: DateTime<Utc>) -> Option<BreakerState> {
        let is_probe = std::mem::take(&mut self.is_probe);
        self.breaker.hear_charge(is_probe, is_answered, now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.inner().is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("in range")
    }

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new(BreakerSettings { failures_min: 3, open: Duration::seconds(10) }))
    }

    /// One charge after the other at that second: `+` answered, `-` not.
    fn charges(breaker: &Arc<Breaker>, second: i64, answers: &str) -> BreakerState {
        for answer in answers.chars() {
            if let Some(permit) = breaker.admit(at(second)) {
                permit.hear(answer == '+', at(second));
            }
        }
        breaker.state(at(second))
    }

    #[test]
    fn it_opens_by_count_and_ratio() {
        for (answers, expected) in [
            ("+++++", Closed),
            ("--", Closed),
            ("---", Open),
            ("+-+-+-", Open),
            ("+-+-++-", Closed),
            ("+++++---", Closed),
            ("+++++-----", Open),
            ("++++++++++++++++++++++++++++++----------", Open),
        ] {
            assert_eq!(charges(&breaker(), 0, answers), expected, "{answers}");
        }
        let never = Arc::new(Breaker::new(BreakerSettings { failures_min: 0, ..BreakerSettings::default() }));
        assert_eq!(charges(&never, 0, "--------------------------"), Closed);
    }

    #[test]
    fn old_answers_are_forgotten() {
        let breaker = breaker();
        assert_eq!(charges(&breaker, 0, "--"), Closed);
        assert_eq!(charges(&breaker, 60, "--"), Closed);
        assert_eq!(charges(&breaker, 61, "-"), Open);
    }

    #[test]
    fn one_probe_at_a_time_closes_it_or_opens_it_for_longer() {
        let breaker = breaker();
        charges(&breaker, 0, "---");
        assert!(breaker.admit(at(9)).is_none());
        assert_eq!(breaker.state(at(10)), HalfOpen);
        let probe = breaker.admit(at(10)).expect("the probe");
        assert!(breaker.admit(at(10)).is_none());
        assert_eq!(probe.hear(false, at(12)), Some(Open));
        assert!(breaker.admit(at(31)).is_none());
        // A probe that comes to nothing makes room for the next.
        drop(breaker.admit(at(32)).expect("the next probe"));
        let probe = breaker.admit(at(32)).expect("and the next");
        assert_eq!(probe.hear(true, at(33)), Some(Closed));
        assert_eq!(charges(&breaker, 33, "--"), Closed);
        assert_eq!(charges(&breaker, 33, "-"), Open);
        assert_eq!(breaker.state(at(43)), HalfOpen);
    }

    #[test]
    fn it_never_stays_open_for_longer_than_a_minute() {
        let breaker = breaker();
        charges(&breaker, 0, "---");
        let mut second = 10;
        for _ in 0..40 {
            let probe = breaker.admit(at(second)).expect("a minute is over");
            assert_eq!(probe.hear(false, at(second)), Some(Open));
            second += 60;
        }
    }

    #[test]
    fn a_look_up_ends_an_outage_and_never_begins_one() {
        let breaker = breaker();
        for _ in 0..10 {
            assert_eq!(breaker.hear_look_up(false, at(0)), None);
        }
        let early = breaker.admit(at(0)).expect("closed");
        charges(&breaker, 0, "---");
        assert_eq!(breaker.hear_look_up(true, at(5)), None);
        assert_eq!(breaker.hear_look_up(false, at(10)), Some(Open));
        assert_eq!(early.hear(true, at(11)), None);
        let probe = breaker.admit(at(30)).expect("the probe");
        assert_eq!(breaker.hear_look_up(true, at(30)), Some(Closed));
        assert_eq!(probe.hear(false, at(31)), None);
        assert_eq!(breaker.state(at(31)), Closed);
    }
}
