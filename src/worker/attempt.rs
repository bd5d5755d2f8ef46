//! One attempt at one delivery: the endpoint is looked up, the message posted, and the result turned
//! into a mark. Whatever is wrong with a row (its event is gone, its endpoint's secret cannot be
//! opened) becomes a result like any other, so that it uses up its attempts and its neighbours flow.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use crate::domain::delivery::{JITTER_PER_MILLE_MAX, Mode, Next, Outcome, next_attempt};
use crate::domain::endpoint_health::DisabledReason;
use crate::store::delivery_queue::{Failure, Finished, Release, Sign, Verdict};
use crate::store::endpoint_health::{self, Turn};
use crate::store::outbox::{LEASE_SECONDS, Outgoing};
use crate::telemetry;
use crate::worker::lanes::Showing;
use crate::worker::ledger::Releases;
use crate::worker::post::{Answer, Message, Poster};
use crate::worker::settings::{LookUp, Settings, SettingsCache, Unusable};

/// What attempts share.
pub struct Attempts {
    /// For looking endpoints up.
    pub look_up: LookUp,
    /// Sends.
    pub poster: Poster,
    /// Where results go.
    pub marks: mpsc::Sender<Finished>,
    /// Where rows go that were not attempted.
    pub releases: Releases,
    /// What is known of endpoints for the moment.
    pub settings: Arc<SettingsCache>,
}

/// Between two looks at an endpoint whose one delivery after a pause is somebody else's.
const PROBE_WAIT: TimeDelta = TimeDelta::seconds(1);

/// Whether an attempt may be made now.
enum Gate {
    Open {
        probe_until: Option<DateTime<Utc>>,
        session_id: Option<String>,
    },
    /// Not now: what the lane is to know.
    Shut(Showing),
}

/// The row as it goes back untouched.
pub fn unattempted(item: &Outgoing) -> Release {
    Release { attempts: item.attempt - 1, ..interrupted(item) }
}

/// The row as it goes back after an attempt that was cut off.
pub fn interrupted(item: &Outgoing) -> Release {
    Release {
        endpoint_id: item.endpoint_id.clone(),
        event_id: item.event_id.clone(),
        lease_token: item.lease_token,
        attempts: item.attempt,
    }
}

impl Attempts {
    /// Makes one attempt and hands its result on. `beside` attempts to the same endpoint are under way in this
    /// process, this one included.
    pub async fn run(&self, item: &Outgoing, beside: usize) -> Showing {
        let started_at = self.now();
        let started = Instant::now();
        let made = usize::try_from(item.attempt).unwrap_or(0);
        if item.body.is_empty() {
            let error = "the event is no longer stored; it cannot be sent".to_owned();
            return self.refuse(item, started_at, error, Some(Verdict::Dead)).await;
        }
        // Every claim counts, whether or not its holder lived to tell the result.
        if made > mode_of(item).attempts_max() {
            let error = "all attempts were begun, and the last of them never ended".to_owned();
            return self.refuse(item, started_at, error, Some(Verdict::Dead)).await;
        }
        let settings = match self.settings.get(&self.look_up, &item.endpoint_id).await {
            Ok(settings) => settings,
            Err(Unusable::Unknown(error)) => {
                tracing::warn!(%error, endpoint_id = item.endpoint_id, "an endpoint could not be looked up");
                self.releases.give_back(unattempted(item), "lookup_failed");
                return Showing::Untried;
            }
            Err(Unusable::Broken(error)) => {
                tracing::error!(error, endpoint_id = item.endpoint_id, "an endpoint cannot be delivered to");
                return self.refuse(item, started_at, error, None).await;
            }
            Err(Unusable::Deleted) => {
                let error = "the endpoint was deleted".to_owned();
                return self.refuse(item, started_at, error, Some(Verdict::Dead)).await;
            }
        };
        if !settings.enabled {
            self.releases.give_back(unattempted(item), "endpoint_disabled");
            return Showing::Untried;
        }
        let (probe_until, session_id) = match self.gate(item, &settings, beside).await {
            Ok(Gate::Open { probe_until, session_id }) => (probe_until, session_id),
            Ok(Gate::Shut(showing)) => return showing,
            Err(error) => {
                tracing::warn!(%error, endpoint_id = item.endpoint_id, "whose turn it is could not be found out");
                self.releases.give_back(unattempted(item), "lookup_failed");
                return Showing::Untried;
            }
        };
        // What is sent again is as old as its event: no measure of how soon events leave.
        if item.attempt == 1
            && !item.again
            && let Ok(delay) = (started_at - item.event_created_at).to_std()
        {
            metrics::histogram!(telemetry::WEBHOOK_FIRST_ATTEMPT_DELAY_SECONDS).record(delay);
        }
        let answer = self.post(item, &settings).await;
        let took = started.elapsed();
        metrics::histogram!(telemetry::WEBHOOK_ATTEMPT_DURATION_SECONDS).record(took);
        if answer.outcome.is_gone() {
            self.disable(item, &settings).await;
        }
        let now = self.now();
        let (verdict, sign) = if answer.outcome.is_delivered() {
            (Verdict::Delivered, if settings.is_unwell { Sign::Recovered } else { Sign::Nothing })
        } else {
            (verdict_of(item, answer.outcome, now), Sign::Failed { probe_until })
        };
        self.mark(Finished {
            duration_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            status_code: answer.status.map(i32::from),
            error: answer.error,
            response_excerpt: answer.excerpt,
            sign,
            session_id,
            ..finished(item, started_at, verdict)
        })
        .await;
        match answer.outcome {
            Outcome::Answered { .. } => Showing::Answered(took),
            Outcome::TimedOut | Outcome::Failed => Showing::Silent,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        (self.look_up.clock)()
    }

    /// Whether it is this delivery's turn: by the endpoint's pause, its bounds and its wish for order. The one turn
    /// after a pause is taken last, because whoever has it must send.
    async fn gate(&self, item: &Outgoing, settings: &Settings, beside: usize) -> Result<Gate, Failure> {
        let endpoint_id = item.endpoint_id.as_str();
        if let Some(places) = settings.concurrency.filter(|places| beside > *places) {
            return Ok(Gate::Shut(Showing::Crowded { places }));
        }
        let paused_until = settings.paused_until;
        if let Some(until) = paused_until.filter(|until| self.now() < *until) {
            return Ok(Gate::Shut(Showing::Resting { until }));
        }
        let mut session_id = None;
        if settings.ordered {
            let mut connection = self.look_up.keeper.pool.acquire().await?;
            match endpoint_health::park_behind_earlier(&mut connection, item, self.now()).await? {
                Turn::Free => {}
                Turn::First { session_id: session } => session_id = Some(session),
                Turn::Parked => {
                    metrics::counter!(telemetry::WEBHOOK_RELEASED_TOTAL, "reason" => "out_of_order").increment(1);
                    return Ok(Gate::Shut(Showing::Untried));
                }
            }
        }
        if let Some(events_per_second) = settings.events_per_second {
            let mut connection = self.look_up.keeper.pool.acquire().await?;
            let next = endpoint_health::take_slot(&mut connection, endpoint_id, events_per_second, self.now()).await?;
            if let Some(until) = next {
                return Ok(Gate::Shut(Showing::Resting { until }));
            }
        }
        let mut probe_until = None;
        if let Some(paused_until) = paused_until {
            let now = self.now();
            let until = now + TimeDelta::seconds(LEASE_SECONDS);
            let mut connection = self.look_up.keeper.pool.acquire().await?;
            let won = endpoint_health::take_probe(&mut connection, endpoint_id, paused_until, until).await?;
            self.settings.forget(endpoint_id);
            if !won {
                // Somebody else goes ahead, or is done already: what came of it is read then.
                return Ok(Gate::Shut(Showing::Resting { until: now + PROBE_WAIT }));
            }
            probe_until = Some(until);
        }
        Ok(Gate::Open { probe_until, session_id })
    }

    /// The result of an attempt that ended in a panic.
    pub async fn run_panicked(&self, item: &Outgoing) {
        let error = "the attempt failed inside the sender; see its log".to_owned();
        self.refuse(item, self.now(), error, None).await;
    }

    async fn post(&self, item: &Outgoing, settings: &Settings) -> Answer {
        let message = Message { event_id: &item.event_id, body: &item.body, settings, now: self.now() };
        self.poster.post(message).await
    }

    /// Marks an attempt that could not be made; by the schedule, unless a verdict is given.
    async fn refuse(
        &self,
        item: &Outgoing,
        started_at: DateTime<Utc>,
        error: String,
        verdict: Option<Verdict>,
    ) -> Showing {
        let now = self.now();
        let verdict = verdict.unwrap_or_else(|| verdict_of(item, Outcome::Failed, now));
        let mark = finished(item, started_at, verdict);
        self.mark(Finished { error: Some(error), ..mark }).await;
        Showing::Untried
    }

    async fn mark(&self, mark: Finished) {
        // The ledger outlives the attempts; if it is gone all the same, the row comes due by itself.
        let _ = self.marks.send(mark).await;
    }

    async fn disable(&self, item: &Outgoing, settings: &Settings) {
        let (keeper, endpoint_id) = (&self.look_up.keeper, &item.endpoint_id);
        let done = keeper.disable(endpoint_id, &settings.url_text, DisabledReason::Gone, self.now()).await;
        self.settings.forget(endpoint_id);
        match done {
            Ok(true) => tracing::warn!(endpoint_id, "a webhook endpoint answered 410 Gone and was disabled"),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                error = ?error,
                endpoint_id,
                "a webhook endpoint answered 410 Gone but could not be disabled; its next event will"
            ),
        }
    }
}

fn mode_of(item: &Outgoing) -> Mode {
    if item.livemode { Mode::Live } else { Mode::Test }
}

fn verdict_of(item: &Outgoing, outcome: Outcome, now: DateTime<Utc>) -> Verdict {
    let made = usize::try_from(item.attempt).unwrap_or(0);
    let jitter = rand::random_range(0..=JITTER_PER_MILLE_MAX);
    match next_attempt(mode_of(item), made, outcome, jitter, now) {
        Next::At(at) => Verdict::Retry(at),
        Next::Dead => Verdict::Dead,
    }
}

fn finished(item: &Outgoing, started_at: DateTime<Utc>, verdict: Verdict) -> Finished {
    Finished {
        endpoint_id: item.endpoint_id.clone(),
        event_id: item.event_id.clone(),
        lease_token: item.lease_token,
        attempt: item.attempt,
        started_at,
        duration_ms: 0,
        status_code: None,
        error: None,
        response_excerpt: None,
        verdict,
        sign: Sign::Nothing,
        session_id: None,
    }
}
