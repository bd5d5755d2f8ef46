//! The delivery loop: what was written here is delivered from memory, what is due in the database is
//! claimed, and both are started in fair turns as far as there are places.
//! One task decides (`lanes`), one task an attempt sends (`attempt`, `post`), one task writes results
//! (`ledger`). A delivery that cannot start while its lease covers a whole attempt is given back, so
//! nothing is ever sent under a lease that could run out under way.
//!
//! Metrics:
//! - `checkstand_webhook_attempts_total{outcome}`: attempts by `delivered`, `retry` and `dead`
//! - `checkstand_webhook_attempt_duration_seconds`: histogram, name look-up to the answer's end
//! - `checkstand_webhook_first_attempt_delay_seconds`: histogram, the event to the beginning of its first attempt;
//!   resends and replays are left out
//! - `checkstand_webhook_in_flight`, `checkstand_webhook_waiting`: attempts under way; held in memory
//! - `checkstand_webhook_owed`: rows of the queue that are not dead
//! - `checkstand_webhook_oldest_due_seconds`: the one to alert on; throttled rows count
//! - `checkstand_webhook_released_total{reason}`: rows given back without an attempt
//! - `checkstand_webhook_stale_results_total`: results dropped because another worker had the row
//! - `checkstand_webhook_endpoints_disabled_total{reason}`: endpoints that answered 410 or failed for days
//! - `checkstand_webhook_endpoint_pauses_total`: endpoints that were left alone for a while

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::ops::endpoint_health::EndpointKeeper;
use crate::store::delivery_queue::{self, ClaimRoom, Depth, Failure, Pool};
use crate::store::outbox::{LEASE_SECONDS, Lease, Outgoing};
use crate::telemetry;
use crate::worker::attempt::{Attempts, interrupted, unattempted};
use crate::worker::lanes::{Lanes, Showing};
use crate::worker::ledger::{Ledger, MARKS_WAITING_MAX, RELEASES_WAITING_MAX, Releases};
use crate::worker::post::Poster;
use crate::worker::settings::{LookUp, SettingsCache};

/// The time, which is the database's.
pub type ClockFn = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Deliveries that may wait for the loop to take them up. It takes them up at once, so this only has
/// to outlast a moment.
const OFFERS_MAX: usize = 8192;

/// Offers taken up in one turn of the loop.
const OFFERS_BATCH_MAX: usize = 256;

/// How often the database is asked for what has come due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest rest that is slept through: timers know nothing shorter.
const REST_MIN: Duration = Duration::from_millis(1);

/// How many polls go by between two looks at the size of the queue.
const POLLS_PER_DEPTH: u32 = 10;

/// How many polls go by before idle endpoints and their connections are forgotten.
const POLLS_PER_FORGETTING: u32 = 60;

/// What an attempt's lease must outlast beyond the time limit of the request: looking the endpoint up
/// before it and writing the result after it.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// After the last attempt, this much for writing the results, when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How the worker delivers.
#[derive(Clone, Debug)]
pub struct DeliverSettings {
    /// Attempts at once.
    pub concurrency_total: usize,
    /// Attempts at once to one endpoint.
    pub concurrency_per_endpoint: usize,
    /// Limit from the beginning of an attempt to the head of the answer.
    pub first_byte_timeout: Duration,
    /// Limit of a whole attempt, body included. With the margin it must be less than a lease.
    pub attempt_timeout: Duration,
    /// Whether endpoints in test mode may be on the machine itself.
    pub allow_loopback: bool,
    /// Who is asked for the endpoints' addresses; the machine's own resolver where there are none.
    pub name_servers: Arc<[SocketAddr]>,
    /// Certificates of authorities that are trusted besides the machine's own.
    pub authorities: Arc<[CertificateDer<'static>]>,
}

impl Default for DeliverSettings {
    fn default() -> DeliverSettings {
        DeliverSettings {
            concurrency_total: 256,
            concurrency_per_endpoint: 16,
            // Leaves an answer that is begun late some time to end.
            first_byte_timeout: Duration::from_secs(12),
            attempt_timeout: Duration::from_secs(15),
            allow_loopback: false,
            name_servers: Arc::default(),
            authorities: Arc::default(),
        }
    }
}

/// The writers' side: hands over what was just committed. Cheap to clone.
#[derive(Clone)]
pub struct DeliverQueue {
    offers: mpsc::Sender<Outgoing>,
    releases: Releases,
    wake: Arc<Notify>,
    endpoints: Arc<SettingsCache>,
}

impl DeliverQueue {
    /// The lease to write new deliveries under: held by this process while its worker takes offers,
    /// otherwise nobody's.
    pub fn lease(&self, now: DateTime<Utc>) -> Lease {
        if self.offers.is_closed() { Lease::open(now) } else { Lease::held(now) }
    }

    /// Hands over deliveries after their commit. Never waits: what finds no place is given back in the
    /// background and comes due at once.
    pub fn offer(&self, deliveries: Vec<Outgoing>) {
        for delivery in deliveries {
            if let Err(error) = self.offers.try_send(delivery) {
                self.releases.give_back(unattempted(&error.into_inner()), "overflow");
            }
        }
    }

    /// Has an endpoint looked up anew, because it was changed here.
    pub fn forget_endpoint(&self, endpoint_id: &str) {
        self.endpoints.forget(endpoint_id);
    }

    /// Has the database asked now for what is due, as after a resend or on a word from elsewhere.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// The owner's side: stops the worker.
#[must_use = "dropping it stops the worker"]
pub struct DeliverWorker {
    stop: oneshot::Sender<Duration>,
    tasks: [JoinHandle<()>; 2],
}

impl DeliverWorker {
    /// Starts nothing more, gives attempts under way this long to end, and gives the rest back for
    /// others. Returns when all of it is written, or a few seconds later if the database is away.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(grace);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the delivery worker ended badly");
            }
        }
    }
}

/// Starts the worker.
///
/// # Errors
/// A sentence if no HTTP client can be made. Missing root certificates only fail deliveries over https.
pub fn start(
    keeper: EndpointKeeper,
    clock: ClockFn,
    settings: DeliverSettings,
) -> Result<(DeliverQueue, DeliverWorker), String> {
    assert!(
        settings.attempt_timeout + LEASE_MARGIN < Duration::from_secs(LEASE_SECONDS.unsigned_abs()),
        "a lease must outlast a whole attempt"
    );
    let poster = Poster::new(&settings)?;
    let (offers, offered) = mpsc::channel(OFFERS_MAX);
    let (marks, marked) = mpsc::channel(MARKS_WAITING_MAX);
    let (releases, released) = mpsc::channel(RELEASES_WAITING_MAX);
    let (stop, stopping) = oneshot::channel();
    let releases = Releases(Arc::new(releases));
    let wake = Arc::new(Notify::new());
    let endpoints = Arc::new(SettingsCache::default());
    let closing = CancellationToken::new();
    let ledger = Ledger {
        keeper: keeper.clone(),
        clock: Arc::clone(&clock),
        marks: marked,
        releases: released,
        endpoints: Arc::clone(&endpoints),
        wake: Arc::clone(&wake),
        closing: closing.clone(),
    };
    let attempts = Arc::new(Attempts {
        look_up: LookUp { keeper, clock, allow_loopback: settings.allow_loopback },
        poster,
        marks,
        releases: releases.clone(),
        settings: Arc::clone(&endpoints),
    });
    let dispatcher = Dispatcher {
        attempts,
        lanes: Lanes::new(settings.concurrency_total, settings.concurrency_per_endpoint),
        settings,
        running: JoinSet::new(),
        in_flight: HashMap::new(),
        claim: None,
        claim_wanted: true,
    };
    let dispatching = dispatcher.run(offered, Arc::clone(&wake), stopping, closing.clone());
    let ledgering = async move {
        let late = async {
            closing.cancelled().await;
            tokio::time::sleep(FLUSH_TIMEOUT).await;
        };
        tokio::select! {
            () = ledger.run() => {}
            () = late => tracing::error!(
                "results of deliveries could not be written before the end; they will be sent again"
            ),
        }
    };
    let tasks = [tokio::spawn(dispatching), tokio::spawn(ledgering)];
    Ok((DeliverQueue { offers, releases, wake, endpoints }, DeliverWorker { stop, tasks }))
}

type Claim = JoinHandle<(ClaimRoom, Result<Vec<Outgoing>, Failure>)>;
type Ended = Result<(Id, Showing), JoinError>;

struct Dispatcher {
    attempts: Arc<Attempts>,
    settings: DeliverSettings,
    lanes: Lanes,
    running: JoinSet<Showing>,
    in_flight: HashMap<Id, Arc<Outgoing>>,
    claim: Option<Claim>,
    claim_wanted: bool,
}

impl Dispatcher {
    async fn run(
        mut self,
        mut offered: mpsc::Receiver<Outgoing>,
        wake: Arc<Notify>,
        mut stopping: oneshot::Receiver<Duration>,
        closing: CancellationToken,
    ) {
        // Whatever ends this task ends the ledger too.
        let _closing = closing.drop_guard();
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut polls = 0_u32;
        let mut offers = Vec::with_capacity(OFFERS_BATCH_MAX);
        let grace = loop {
            let rest = rest(self.lanes.next_rested_at(), self.now());
            tokio::select! {
                grace = &mut stopping => break grace.unwrap_or(self.settings.attempt_timeout),
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                claimed = claimed(&mut self.claim) => self.claimed(claimed),
                _ = offered.recv_many(&mut offers, OFFERS_BATCH_MAX), if !offered.is_closed() => {
                    for offer in offers.drain(..) {
                        self.take_up(offer, "overflow");
                    }
                }
                () = wake.notified() => self.claim_wanted = true,
                () = tokio::time::sleep(rest) => {}
                _ = poll.tick() => {
                    polls = polls.wrapping_add(1);
                    self.poll(polls);
                }
            }
            self.claim_wanted |= self.lanes.wake(self.now());
            self.start_what_can_start();
            if self.claim_wanted && self.claim.is_none() && self.lanes.has_room() {
                self.start_claim();
            }
        };
        self.stop(&mut offered, grace).await;
    }

    fn now(&self) -> DateTime<Utc> {
        (self.attempts.look_up.clock)()
    }

    /// The least end of a lease under which an attempt may start now.
    fn lease_needed_until(&self) -> DateTime<Utc> {
        self.now() + self.settings.attempt_timeout + LEASE_MARGIN
    }

    fn take_up(&mut self, item: Outgoing, reason: &'static str) {
        if let Some(item) = self.lanes.push(item) {
            self.attempts.releases.give_back(unattempted(&item), reason);
        }
    }

    fn start_what_can_start(&mut self) {
        let lease_needed_until = self.lease_needed_until();
        while let Some(item) = self.lanes.start_next() {
            if item.lease_until < lease_needed_until {
                self.attempts.releases.give_back(unattempted(&item), "waited_too_long");
                self.claim_wanted |= self.lanes.ended(&item.endpoint_id, Showing::Untried);
                continue;
            }
            let item = Arc::new(item);
            let (attempts, outgoing) = (Arc::clone(&self.attempts), Arc::clone(&item));
            let beside = self.lanes.in_flight_to(&item.endpoint_id);
            // Boxed, because the runtime moves what it is given several times, and this is large.
            let task = self.running.spawn(Box::pin(async move { attempts.run(&outgoing, beside).await }));
            self.in_flight.insert(task.id(), item);
        }
    }

    fn ended(&mut self, ended: Ended) {
        let (id, showing) = match &ended {
            Ok((id, showing)) => (*id, *showing),
            Err(error) => (error.id(), Showing::Untried),
        };
        let Some(item) = self.in_flight.remove(&id) else {
            return;
        };
        let wants_claim = self.lanes.ended(&item.endpoint_id, showing);
        // What the claim under way brings is asked when it is here.
        self.claim_wanted |= wants_claim && self.claim.is_none();
        if matches!(showing, Showing::Resting { .. } | Showing::Crowded { .. }) {
            self.lanes.put_back(Outgoing::clone(&item));
        }
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(event_id = item.event_id, endpoint_id = item.endpoint_id, "a delivery attempt panicked");
            // Sending a mark may wait for a place, and this loop never waits for one thing only.
            let attempts = Arc::clone(&self.attempts);
            tokio::spawn(async move { attempts.run_panicked(&item).await });
        }
    }

    fn poll(&mut self, polls: u32) {
        for item in self.lanes.take_expired(self.lease_needed_until()) {
            self.attempts.releases.give_back(unattempted(&item), "waited_too_long");
        }
        self.claim_wanted = true;
        metrics::gauge!(telemetry::WEBHOOK_IN_FLIGHT).set(gauge(self.lanes.in_flight()));
        metrics::gauge!(telemetry::WEBHOOK_WAITING).set(gauge(self.lanes.waiting()));
        if polls % POLLS_PER_DEPTH == 1 {
            tokio::spawn(measure_depth(self.attempts.look_up.keeper.pool.clone(), self.now()));
            self.lanes.forget_places_wanted();
        }
        if polls.is_multiple_of(POLLS_PER_FORGETTING) {
            self.lanes.forget_idle();
            self.attempts.poster.forget_idle();
        }
    }

    fn start_claim(&mut self) {
        let room = self.lanes.room();
        self.claim_wanted = false;
        let pool = self.attempts.look_up.keeper.pool.clone();
        let now = self.now();
        let lease_until = now + TimeDelta::seconds(LEASE_SECONDS);
        // A task of its own, so that nothing cancels it half-way through the connection's protocol.
        self.claim = Some(tokio::spawn(async move {
            let rows = match pool.acquire().await {
                Ok(mut connection) => delivery_queue::claim(&mut connection, &room, now, lease_until).await,
                Err(error) => Err(error),
            };
            (room, rows)
        }));
    }

    fn claimed(&mut self, claimed: <Claim as Future>::Output) {
        self.claim = None;
        match claimed {
            Ok((room, Ok(rows))) => {
                for item in self.lanes.claimed(&room, rows) {
                    self.attempts.releases.give_back(unattempted(&item), "overflow");
                }
                self.claim_wanted |= self.lanes.wants_claim();
            }
            Ok((_, Err(error))) => {
                tracing::warn!(%error, "due deliveries could not be claimed; trying again in a second");
            }
            Err(error) => tracing::error!(%error, "claiming due deliveries ended badly"),
        }
    }

    async fn stop(&mut self, offered: &mut mpsc::Receiver<Outgoing>, grace: Duration) {
        let deadline = Instant::now() + grace;
        offered.close();
        let mut unstarted = Vec::new();
        while let Ok(offer) = offered.try_recv() {
            unstarted.push(offer);
        }
        if let Some(claim) = self.claim.take()
            && let Ok(Ok((_, Ok(rows)))) = tokio::time::timeout_at(deadline, claim).await
        {
            unstarted.extend(rows);
        }
        unstarted.extend(self.lanes.take_waiting());
        for item in &unstarted {
            self.attempts.releases.give_back(unattempted(item), "stopping");
        }
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await {
            self.ended(ended);
        }
        self.running.shutdown().await;
        for item in self.in_flight.values() {
            self.attempts.releases.give_back(interrupted(item), "stopping");
        }
        tracing::info!(
            unstarted = unstarted.len(),
            interrupted = self.in_flight.len(),
            "webhook delivery stopped; what is left was given back"
        );
    }
}

/// The answer to the claim under way; never, if there is none.
async fn claimed(claim: &mut Option<Claim>) -> <Claim as Future>::Output {
    match claim {
        Some(claim) => claim.await,
        None => std::future::pending().await,
    }
}

/// How long nothing comes of lanes that rest; not beyond a poll, because the clock may be moved.
fn rest(next_rested_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let rest = next_rested_at.map_or(POLL_INTERVAL, |at| (at - now).to_std().unwrap_or_default());
    rest.clamp(REST_MIN, POLL_INTERVAL)
}

async fn measure_depth(pool: Pool, now: DateTime<Utc>) {
    let depth = match pool.acquire().await {
        Ok(mut connection) => delivery_queue::depth(&mut connection, now).await,
        Err(error) => Err(error),
    };
    match depth {
        Ok(Depth { owed, oldest_due_at }) => {
            let age = oldest_due_at.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
            let owed = usize::try_from(owed).unwrap_or_default();
            metrics::gauge!(telemetry::WEBHOOK_OWED).set(gauge(owed));
            metrics::gauge!(telemetry::WEBHOOK_OLDEST_DUE_SECONDS).set(age.as_secs_f64());
        }
        Err(error) => tracing::warn!(%error, "the delivery queue could not be measured"),
    }
}

fn gauge(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
