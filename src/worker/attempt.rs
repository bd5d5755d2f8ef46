//! One attempt at one delivery: the endpoint is looked up, the message posted, and the result turned
//! into a mark. Whatever is wrong with a row (its event is gone, its endpoint's secret cannot be
//! opened) becomes a result like any other, so that it uses up its attempts and its neighbours flow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{OnceCell, mpsc};
use url::Url;

use crate::domain::address::{UrlPolicy, judge_webhook_url};
use crate::domain::delivery::{JITTER_PER_MILLE_MAX, Mode, Next, Outcome, next_attempt};
use crate::domain::signature::SigningSecret;
use crate::store::delivery_queue::{self, Failure, Finished, Pool, Release, Verdict, is_passing};
use crate::store::outbox::Outgoing;
use crate::telemetry;
use crate::worker::deliver::{ClockFn, OpenSecretFn};
use crate::worker::lanes::Showing;
use crate::worker::ledger::Releases;
use crate::worker::post::{Answer, Message, Poster};

/// How long an endpoint's settings are believed: a change of URL, secret or status takes this long to
/// reach every process.
const SETTINGS_LIFE: Duration = Duration::from_secs(2);

/// Endpoints remembered at once.
const SETTINGS_MAX: usize = 4096;

/// What attempts share.
pub struct Attempts {
    /// For looking endpoints up.
    pub pool: Pool,
    /// The time.
    pub clock: ClockFn,
    /// Opens sealed secrets.
    pub open_secret: OpenSecretFn,
    /// Sends.
    pub poster: Poster,
    /// Whether test endpoints may be on the machine itself.
    pub allow_loopback: bool,
    /// Where results go.
    pub marks: mpsc::Sender<Finished>,
    /// Where rows go that were not attempted.
    pub releases: Releases,
    /// What is known of endpoints for the moment.
    pub settings: SettingsCache,
}

/// An endpoint, ready for use.
struct Settings {
    livemode: bool,
    enabled: bool,
    /// As the merchant gave it, and as it was judged.
    url_text: String,
    url: Url,
    secret: SigningSecret,
    previous: Option<(SigningSecret, DateTime<Utc>)>,
}

/// Why an endpoint cannot be used.
enum Unusable {
    /// The database is away.
    Unknown(Failure),
    /// The row says so, and only a change of the row will mend it.
    Broken(String),
    /// There is no such endpoint any more.
    Deleted,
}

type Slot = Arc<OnceCell<Arc<Settings>>>;

/// Remembers endpoints for [`SETTINGS_LIFE`]; concurrent look-ups of one endpoint are one query.
#[derive(Default)]
pub struct SettingsCache(Mutex<HashMap<String, (Instant, Slot)>>);

impl SettingsCache {
    fn slot(&self, endpoint_id: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((since, slot)) = slots.get(endpoint_id)
            && now.duration_since(*since) < SETTINGS_LIFE
        {
            return Arc::clone(slot);
        }
        if slots.len() >= SETTINGS_MAX {
            slots.retain(|_, (since, _)| now.duration_since(*since) < SETTINGS_LIFE);
        }
        if slots.len() >= SETTINGS_MAX {
            slots.clear();
        }
        let slot = Slot::default();
        slots.insert(endpoint_id.to_owned(), (now, Arc::clone(&slot)));
        slot
    }

    fn forget(&self, endpoint_id: &str) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(endpoint_id);
    }
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
    /// Makes one attempt and hands its result on.
    pub async fn run(&self, item: &Outgoing) -> Showing {
        let started_at = (self.clock)();
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
        let settings = match self.settings_of(&item.endpoint_id).await {
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
        if item.attempt == 1
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
        let now = (self.clock)();
        let verdict =
            if answer.outcome.is_delivered() { Verdict::Delivered } else { verdict_of(item, answer.outcome, now) };
        self.mark(Finished {
            duration_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            status_code: answer.status.map(i32::from),
            error: answer.error,
            response_excerpt: answer.excerpt,
            ..finished(item, started_at, verdict)
        })
        .await;
        match answer.outcome {
            Outcome::Answered { .. } => Showing::Answered(took),
            Outcome::TimedOut | Outcome::Failed => Showing::Silent,
        }
    }

    /// The result of an attempt that ended in a panic.
    pub async fn run_panicked(&self, item: &Outgoing) {
        let error = "the attempt failed inside the sender; see its log".to_owned();
        self.refuse(item, (self.clock)(), error, None).await;
    }

    async fn post(&self, item: &Outgoing, settings: &Settings) -> Answer {
        let now = (self.clock)();
        let mut secrets = vec![settings.secret.clone()];
        if let Some((previous, until)) = &settings.previous
            && now < *until
        {
            secrets.push(previous.clone());
        }
        self.poster
            .post(Message {
                event_id: &item.event_id,
                body: &item.body,
                url: &settings.url,
                may_be_loopback: !settings.livemode,
                secrets: &secrets,
                now,
            })
            .await
    }

    /// Marks an attempt that could not be made; by the schedule, unless a verdict is given.
    async fn refuse(
        &self,
        item: &Outgoing,
        started_at: DateTime<Utc>,
        error: String,
        verdict: Option<Verdict>,
    ) -> Showing {
        let now = (self.clock)();
        let verdict = verdict.unwrap_or_else(|| verdict_of(item, Outcome::Failed, now));
        let mark = finished(item, started_at, verdict);
        self.mark(Finished { error: Some(error), ..mark }).await;
        Showing::Untried
    }

    async fn mark(&self, mark: Finished) {
        // The ledger outlives the attempts; if it is gone all the same, the row comes due by itself.
        let _ = self.marks.send(mark).await;
    }

    async fn settings_of(&self, endpoint_id: &str) -> Result<Arc<Settings>, Unusable> {
        let slot = self.settings.slot(endpoint_id);
        slot.get_or_try_init(|| self.look_up(endpoint_id)).await.cloned()
    }

    async fn look_up(&self, endpoint_id: &str) -> Result<Arc<Settings>, Unusable> {
        let found = match self.pool.acquire().await {
            Ok(mut connection) => delivery_queue::endpoint(&mut connection, endpoint_id).await,
            Err(error) => Err(error),
        };
        let row = match found {
            Ok(Some(row)) => row,
            Ok(None) => return Err(Unusable::Deleted),
            Err(error) if is_passing(&error) => return Err(Unusable::Unknown(error)),
            Err(error) => {
                return Err(Unusable::Broken(format!("the endpoint's row cannot be read: {error}")));
            }
        };
        let policy = UrlPolicy { livemode: row.livemode, allow_loopback: self.allow_loopback };
        let url = judge_webhook_url(&row.url, policy)
            .map_err(|reason| Unusable::Broken(format!("the endpoint's URL is refused: {reason}")))?;
        let open = |sealed: &[u8]| {
            (self.open_secret)(endpoint_id, sealed)
                .map_err(|error| Unusable::Broken(format!("the endpoint's signing secret cannot be opened: {error}")))
        };
        let previous = match (row.previous_secret_sealed, row.previous_secret_until) {
            (Some(sealed), Some(until)) if until > (self.clock)() => Some((open(&sealed)?, until)),
            _ => None,
        };
        Ok(Arc::new(Settings {
            livemode: row.livemode,
            enabled: row.enabled,
            secret: open(&row.secret_sealed)?,
            url_text: row.url,
            url,
            previous,
        }))
    }

    async fn disable(&self, item: &Outgoing, settings: &Settings) {
        let done = match self.pool.acquire().await {
            Ok(mut connection) => {
                delivery_queue::disable_endpoint(&mut connection, &item.endpoint_id, &settings.url_text).await
            }
            Err(error) => Err(error),
        };
        self.settings.forget(&item.endpoint_id);
        match done {
            Ok(true) => {
                metrics::counter!(telemetry::WEBHOOK_ENDPOINTS_DISABLED_TOTAL).increment(1);
                tracing::warn!(endpoint_id = item.endpoint_id, "a webhook endpoint answered 410 Gone and was disabled");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(
                %error,
                endpoint_id = item.endpoint_id,
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
    }
}
