//! Who is served next: one lane for each endpoint, with a bound on what it has in flight and on what
//! waits for it in memory, and a ring of the lanes that could start something.
//! A slow endpoint fills its own lane and no other. One that gave no answer last time gets a single
//! place until it answers again, so that many dead ones cannot take all places between them. Pure
//! bookkeeping: starting, sending and claiming are done elsewhere.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::store::delivery_queue::ClaimRoom;
use crate::store::outbox::Outgoing;

/// Deliveries that may wait in memory for one endpoint, and for all of them together.
const LANE_WAITING_MAX: usize = 1024;
const WAITING_MAX: usize = 16 * 1024;

/// Bytes of their bodies, likewise.
const LANE_WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An endpoint that answers is claimed for ahead of its free places: about as much as it takes in this time, going
/// by its last answer, because that starts within moments. A claim of many rows costs little more than one of few.
const CLAIM_AHEAD: Duration = Duration::from_secs(2);

/// How many rows, and bytes of bodies, may be in memory for one endpoint because of claims; the rest of what may
/// wait is for what is written here.
const LANE_CLAIMED_MAX: usize = 256;
const LANE_CLAIMED_BYTES_MAX: usize = LANE_WAITING_BYTES_MAX / 2;

/// How far ahead of all free places of the process, in multiples of them, and how many rows in one claim.
const CLAIM_AHEAD_TOTAL: usize = 8;
const CLAIM_ROWS_MAX: usize = 384;

/// One place in so many is not filled by claims. What is claimed has mostly failed before, so after a
/// restart it may hang in every place it gets; what was just written still finds some free.
const PLACES_PER_UNCLAIMED: usize = 4;

/// The endpoint's side of an attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    /// It answered, whatever it said, after this time.
    Answered(Duration),
    /// It could not be reached, or did not answer in time.
    Silent,
    /// No attempt was made.
    Untried,
    /// No attempt was made, and none is to begin before this time: the endpoint is paused, or its rate is
    /// used up. The delivery goes back to the head of its lane.
    Resting {
        /// When the next one may begin.
        until: DateTime<Utc>,
    },
    /// No attempt was made, because the endpoint wants no more than this at once. The delivery goes back to
    /// the head of its lane.
    Crowded {
        /// Attempts at once.
        places: usize,
    },
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    waiting: VecDeque<Outgoing>,
    waiting_bytes: usize,
    /// The size of a body, going by the largest of late.
    body_bytes: usize,
    /// Whether it stands in the ring.
    queued: bool,
    silent: bool,
    /// How many times its places are claimed for it, 1 unless it answers within a second.
    ahead: usize,
    /// Whether the database may hold more that is due.
    backlog: bool,
    /// Nothing starts before.
    resting_until: Option<DateTime<Utc>>,
    /// What the endpoint itself wants at once, as far as is known.
    places_wanted: Option<usize>,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            in_flight: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            body_bytes: 0,
            queued: false,
            silent: false,
            ahead: 1,
            backlog: false,
            resting_until: None,
            places_wanted: None,
        }
    }
}

impl Lane {
    fn places(&self, places_each: usize) -> usize {
        let places = if self.silent { 1 } else { places_each };
        places.min(self.places_wanted.unwrap_or(usize::MAX))
    }

    fn is_plain(&self) -> bool {
        let Lane { silent, ahead, backlog, .. } = *self;
        !silent && ahead == 1 && !backlog && self.resting_until.is_none() && self.places_wanted.is_none()
    }

    /// What may be in flight and wait here because of claims; of a process whose memory is half full, only what can
    /// start.
    fn places_claimed(&self, places_each: usize, is_crowded: bool) -> usize {
        match *self {
            Lane { resting_until: Some(_), .. } => 0,
            Lane { silent: true, .. } => 1,
            Lane { places_wanted: Some(places), .. } => places,
            Lane { .. } if is_crowded => places_each,
            Lane { ahead, body_bytes, .. } => {
                let claimed_max = LANE_CLAIMED_MAX.min(LANE_CLAIMED_BYTES_MAX / body_bytes.max(1));
                places_each.saturating_mul(ahead).min(claimed_max).max(places_each)
            }
        }
    }

    fn load(&self) -> usize {
        self.in_flight + self.waiting.len()
    }

    /// The next ones are to be here before the last of these has gone.
    fn wants_claim(&self, places_each: usize, is_crowded: bool) -> bool {
        let half_empty = self.load() * 2 <= self.places_claimed(places_each, is_crowded);
        self.backlog && !self.silent && self.resting_until.is_none() && half_empty
    }
}

/// All lanes of a process.
#[derive(Debug)]
pub struct Lanes {
    lanes: HashMap<String, Lane>,
    ring: VecDeque<String>,
    in_flight: usize,
    waiting: usize,
    waiting_bytes: usize,
    places_total: usize,
    places_each: usize,
    /// Where the last claim stopped for want of places.
    after_endpoint: String,
    backlog: bool,
    resting: BTreeSet<(DateTime<Utc>, String)>,
}

impl Lanes {
    /// `places_total` attempts at once, `places_each` of them to one endpoint.
    pub fn new(places_total: usize, places_each: usize) -> Lanes {
        Lanes {
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            in_flight: 0,
            waiting: 0,
            waiting_bytes: 0,
            places_total,
            places_each,
            after_endpoint: String::new(),
            backlog: false,
            resting: BTreeSet::new(),
        }
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Attempts under way to one endpoint.
    pub fn in_flight_to(&self, endpoint_id: &str) -> usize {
        self.lanes.get(endpoint_id).map_or(0, |lane| lane.in_flight)
    }

    /// Deliveries waiting in memory.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a delivery; hands it back if there is no place for it to wait.
    pub fn push(&mut self, item: Outgoing) -> Option<Outgoing> {
        let endpoint_id = item.endpoint_id.clone();
        let lane = self.lanes.entry(endpoint_id.clone()).or_default();
        let bytes = item.body.len();
        lane.body_bytes = (lane.body_bytes - lane.body_bytes / 8).max(bytes);
        let can_start = lane.resting_until.is_none()
            && lane.load() < lane.places(self.places_each)
            && self.in_flight + self.ring.len() < self.places_total;
        let lane_is_full = lane.waiting.len() >= LANE_WAITING_MAX
            || !lane.waiting.is_empty() && lane.waiting_bytes + bytes > LANE_WAITING_BYTES_MAX;
        let all_are_full = self.waiting >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX;
        // What waits for others keeps nothing waiting that need not wait.
        if lane_is_full || all_are_full && !can_start {
            // It will be found in the database.
            lane.backlog = true;
            return Some(item);
        }
        lane.waiting.push_back(item);
        lane.waiting_bytes += bytes;
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.queue(&endpoint_id);
        None
    }

    /// The next delivery that can start now, counted as in flight from here on.
    pub fn start_next(&mut self) -> Option<Outgoing> {
        while self.in_flight < self.places_total {
            let endpoint_id = self.ring.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&endpoint_id) else {
                continue;
            };
            lane.queued = false;
            // It may have gone to rest while it stood in the ring.
            let is_free = lane.resting_until.is_none() && lane.in_flight < lane.places(self.places_each);
            let Some(item) = lane.waiting.pop_front_if(|_| is_free) else {
                continue;
            };
            lane.in_flight += 1;
            self.in_flight += 1;
            lane.waiting_bytes -= item.body.len();
            self.waiting_bytes -= item.body.len();
            self.waiting -= 1;
            self.queue(&endpoint_id);
            return Some(item);
        }
        None
    }

    /// Takes an attempt that [`Lanes::start_next`] gave out as ended. True if it is time for a claim.
    pub fn ended(&mut self, endpoint_id: &str, showing: Showing) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let is_crowded = self.is_crowded();
        let Some(lane) = self.lanes.get_mut(endpoint_id) else {
            return false;
        };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match showing {
            Showing::Answered(after) => {
                lane.silent = false;
                let times = CLAIM_AHEAD.as_micros() / after.as_micros().max(1);
                lane.ahead = usize::try_from(times).unwrap_or(usize::MAX).max(1);
            }
            Showing::Silent => {
                lane.silent = true;
                lane.ahead = 1;
            }
            Showing::Untried => {}
            Showing::Resting { until } => {
                if let Some(before) = lane.resting_until.replace(until) {
                    self.resting.remove(&(before, endpoint_id.to_owned()));
                }
                self.resting.insert((until, endpoint_id.to_owned()));
            }
            Showing::Crowded { places } => lane.places_wanted = Some(places),
        }
        let lane_wants = lane.wants_claim(self.places_each, is_crowded);
        if lane.load() == 0 && lane.is_plain() {
            self.lanes.remove(endpoint_id);
        } else {
            self.queue(endpoint_id);
        }
        lane_wants || self.wants_claim_for_any()
    }

    fn wants_claim_for_any(&self) -> bool {
        self.backlog && self.in_flight * 2 <= self.places_total
    }

    /// Whether it is time for another claim when one has ended.
    pub fn wants_claim(&self) -> bool {
        let is_crowded = self.is_crowded();
        self.wants_claim_for_any() || self.lanes.values().any(|lane| lane.wants_claim(self.places_each, is_crowded))
    }

    /// Whether what waits takes up half of what may wait.
    fn is_crowded(&self) -> bool {
        self.waiting * 2 > WAITING_MAX || self.waiting_bytes * 2 > WAITING_BYTES_MAX
    }

    fn free_for_claims(&self) -> usize {
        let for_claims = self.places_total - self.places_total / PLACES_PER_UNCLAIMED;
        let free = for_claims.saturating_sub(self.in_flight);
        // Work that could start and may not shows that all places are taken.
        if self.ring.is_empty() { free } else { 0 }
    }

    /// Whether a claim may take anything now.
    pub fn has_room(&self) -> bool {
        self.free_for_claims() > 0
    }

    /// Takes back a delivery that [`Lanes::start_next`] gave out and that was not attempted: it is the next one.
    pub fn put_back(&mut self, item: Outgoing) {
        let endpoint_id = item.endpoint_id.clone();
        let lane = self.lanes.entry(endpoint_id.clone()).or_default();
        lane.waiting_bytes += item.body.len();
        self.waiting_bytes += item.body.len();
        lane.waiting.push_front(item);
        self.waiting += 1;
        self.queue(&endpoint_id);
    }

    /// When the next lane has rested.
    pub fn next_rested_at(&self) -> Option<DateTime<Utc>> {
        self.resting.first().map(|(at, _)| *at)
    }

    /// Lets lanes start again that have rested until `now`. True if there was one.
    pub fn wake(&mut self, now: DateTime<Utc>) -> bool {
        let mut woke = false;
        while let Some((at, _)) = self.resting.first()
            && *at <= now
            && let Some((_, endpoint_id)) = self.resting.pop_first()
        {
            if let Some(lane) = self.lanes.get_mut(&endpoint_id) {
                lane.resting_until = None;
            }
            self.queue(&endpoint_id);
            woke = true;
        }
        woke
    }

    /// Forgets what endpoints want at once, which their merchants may have changed: it is soon told again.
    pub fn forget_places_wanted(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.places_wanted = None);
    }

    fn queue(&mut self, endpoint_id: &str) {
        let Some(lane) = self.lanes.get_mut(endpoint_id) else {
            return;
        };
        let is_free = lane.resting_until.is_none() && lane.in_flight < lane.places(self.places_each);
        if !lane.queued && !lane.waiting.is_empty() && is_free {
            lane.queued = true;
            self.ring.push_back(endpoint_id.to_owned());
        }
    }

    /// What a claim may take now; nothing at all if `total` is 0.
    pub fn room(&self) -> ClaimRoom {
        let (free, is_crowded) = (self.free_for_claims(), self.is_crowded());
        let ahead = if self.in_flight * 2 <= self.places_total { CLAIM_AHEAD_TOTAL } else { 1 };
        let places = self.lanes.iter().map(|(id, lane)| {
            let places = lane.places_claimed(self.places_each, is_crowded).saturating_sub(lane.load());
            (id.clone(), wide(places))
        });
        ClaimRoom {
            total: wide((free * ahead).min(CLAIM_ROWS_MAX)),
            usual: wide(self.places_each),
            places: places.collect(),
            after_endpoint: self.after_endpoint.clone(),
        }
    }

    /// Takes the answer to a claim in. Hands back what has found no place, which is rare: more was
    /// offered while the claim was under way.
    pub fn claimed(&mut self, room: &ClaimRoom, rows: Vec<Outgoing>) -> Vec<Outgoing> {
        let mut taken: HashMap<&str, i64> = HashMap::new();
        for row in &rows {
            *taken.entry(&row.endpoint_id).or_default() += 1;
        }
        self.backlog = wide(rows.len()) >= room.total;
        self.after_endpoint = rows
            .iter()
            .filter(|_| self.backlog)
            .map(|row| (row.endpoint_id <= room.after_endpoint, &row.endpoint_id))
            .max()
            .map(|(_, endpoint_id)| endpoint_id.clone())
            .unwrap_or_default();
        for (endpoint_id, places) in &room.places {
            if let Some(lane) = self.lanes.get_mut(endpoint_id) {
                let taken = taken.remove(endpoint_id.as_str()).unwrap_or(0);
                // A claim that came to its own end says nothing of those it had not come to.
                lane.backlog = taken >= *places || self.backlog && (taken > 0 || lane.backlog);
            }
        }
        for (endpoint_id, taken) in taken {
            let lane = self.lanes.entry(endpoint_id.to_owned()).or_default();
            lane.backlog = taken >= room.usual || self.backlog;
        }
        rows.into_iter().filter_map(|row| self.push(row)).collect()
    }

    /// Removes what waits under a lease that ends before `lease_needed_until`: were it started, its
    /// lease could run out under way.
    pub fn take_expired(&mut self, lease_needed_until: DateTime<Utc>) -> Vec<Outgoing> {
        self.take(|item| item.lease_until < lease_needed_until)
    }

    /// Removes everything that waits.
    pub fn take_waiting(&mut self) -> Vec<Outgoing> {
        self.take(|_| true)
    }

    fn take(&mut self, unwanted: impl Fn(&Outgoing) -> bool) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut().filter(|lane| !lane.waiting.is_empty()) {
            let (out, kept): (Vec<_>, Vec<_>) = lane.waiting.drain(..).partition(|item| unwanted(item));
            lane.waiting = kept.into();
            lane.waiting_bytes = lane.waiting.iter().map(|item| item.body.len()).sum();
            lane.backlog |= !out.is_empty();
            taken.extend(out);
        }
        self.waiting -= taken.len();
        self.waiting_bytes -= taken.iter().map(|item| item.body.len()).sum::<usize>();
        taken
    }

    /// Forgets what is remembered of endpoints that have nothing to do, so that the memory of deleted
    /// ones does not stay for ever.
    pub fn forget_idle(&mut self) {
        self.lanes.retain(|_, lane| lane.load() > 0 || lane.queued || lane.resting_until.is_some());
    }
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
