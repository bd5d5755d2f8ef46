//! Writes what became of deliveries: marks of attempts and releases of rows, in batches.
//! The first mark after a rest is written at once; under load marks gather for some milliseconds, because a
//! statement for many costs little more than one for few. While the database is away, marks are kept and tried
//! again until their leases must have run out; the full queue then holds the attempts back. A mark that the
//! database refuses is dropped alone, not with its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ops::endpoint_health::EndpointKeeper;
use crate::store::delivery_queue::{self, Failure, Finished, Release, Sign, Verdict, is_passing};
use crate::store::endpoint_health;
use crate::store::outbox::LEASE_SECONDS;
use crate::telemetry;
use crate::worker::deliver::ClockFn;
use crate::worker::settings::SettingsCache;

/// Marks in one statement.
const MARKS_BATCH_MAX: usize = 512;

/// Between the end of one batch of marks and the beginning of the next, unless that is full at once. A delivery that
/// comes in order behind another waits for this as well.
const MARKS_GATHER: Duration = Duration::from_millis(10);

/// Marks that may wait; beyond it the attempts wait with theirs.
pub const MARKS_WAITING_MAX: usize = 1024;

/// Releases in one statement.
const RELEASES_BATCH_MAX: usize = 1024;

/// Releases that may wait. One that finds no place is left out: its row comes due by itself when the
/// lease ends.
pub const RELEASES_WAITING_MAX: usize = 64 * 1024;

/// Between two tries while the database is away.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The one writer of a process.
pub struct Ledger {
    /// Where to write, and who sees to endpoints that fail.
    pub keeper: EndpointKeeper,
    /// The time of the marks.
    pub clock: ClockFn,
    /// Attempts that have ended.
    pub marks: mpsc::Receiver<Finished>,
    /// Rows to give back.
    pub releases: mpsc::Receiver<Release>,
    /// What is known of endpoints, to be read anew when one begins or ends a pause.
    pub endpoints: Arc<SettingsCache>,
    /// Told when something has come due because something else has left.
    pub wake: Arc<Notify>,
    /// When set, what waits is written and the ledger ends.
    pub closing: CancellationToken,
}

impl Ledger {
    /// Writes until it is told to close.
    pub async fn run(mut self) {
        let mut gathered_until = Instant::now();
        loop {
            let (mut marks, mut releases) = (Vec::new(), Vec::new());
            tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                _ = self.marks.recv_many(&mut marks, MARKS_BATCH_MAX) => {}
                _ = self.releases.recv_many(&mut releases, RELEASES_BATCH_MAX) => {}
            }
            if !marks.is_empty() && marks.len() < MARKS_BATCH_MAX {
                let _ = tokio::time::timeout_at(gathered_until, self.closing.cancelled()).await;
                self.take_waiting_marks(&mut marks);
            }
            // However many marks there are, what is given back goes with them.
            self.take_waiting_releases(&mut releases);
            self.write(marks, releases).await;
            gathered_until = Instant::now() + MARKS_GATHER;
        }
        // Nobody sends any more, or nobody whose row would not come due by itself.
        loop {
            let (mut marks, mut releases) = (Vec::new(), Vec::new());
            self.take_waiting_marks(&mut marks);
            self.take_waiting_releases(&mut releases);
            if marks.is_empty() && releases.is_empty() {
                return;
            }
            self.write(marks, releases).await;
        }
    }

    fn take_waiting_marks(&mut self, marks: &mut Vec<Finished>) {
        while marks.len() < MARKS_BATCH_MAX
            && let Ok(mark) = self.marks.try_recv()
        {
            marks.push(mark);
        }
    }

    fn take_waiting_releases(&mut self, releases: &mut Vec<Release>) {
        while releases.len() < RELEASES_BATCH_MAX
            && let Ok(release) = self.releases.try_recv()
        {
            releases.push(release);
        }
    }

    async fn write(&self, marks: Vec<Finished>, releases: Vec<Release>) {
        if !marks.is_empty() {
            self.write_marks(marks).await;
        }
        if !releases.is_empty()
            && let Err(error) = self.try_release(&releases).await
        {
            tracing::warn!(
                %error,
                rows = releases.len(),
                "deliveries could not be given back; they come due when their leases end"
            );
        }
    }

    async fn write_marks(&self, marks: Vec<Finished>) {
        let give_up_at = Instant::now() + Duration::from_secs(LEASE_SECONDS.unsigned_abs());
        loop {
            match self.try_mark(&marks).await {
                Ok(written) => {
                    count(&marks, written);
                    return self.note_signs(&marks).await;
                }
                Err(error) if is_passing(&error) && Instant::now() < give_up_at => {
                    tracing::warn!(%error, marks = marks.len(), "marking deliveries failed; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) if is_passing(&error) => {
                    tracing::error!(
                        %error,
                        marks = marks.len(),
                        "deliveries stay unmarked because the database is away; they will be sent again"
                    );
                    return;
                }
                Err(_) => break,
            }
        }
        for mark in marks {
            let mark = [mark];
            match self.try_mark(&mark).await {
                Ok(written) => {
                    count(&mark, written);
                    self.note_signs(&mark).await;
                }
                Err(error) => tracing::error!(
                    %error,
                    event_id = mark[0].event_id,
                    endpoint_id = mark[0].endpoint_id,
                    "a delivery stays unmarked because the database refused it; it will be sent again"
                ),
            }
        }
    }

    async fn try_mark(&self, marks: &[Finished]) -> Result<u64, Failure> {
        let now = self.now();
        let left: Vec<(&str, &str)> = marks
            .iter()
            .filter(|mark| !matches!(mark.verdict, Verdict::Retry(_)))
            .filter_map(|mark| Some((mark.endpoint_id.as_str(), mark.session_id.as_deref()?)))
            .collect();
        if left.is_empty() {
            let mut connection = self.keeper.pool.acquire().await?;
            return delivery_queue::mark(&mut connection, marks, now).await;
        }
        // In one transaction, so that what waits for a delivery is never left waiting for one that has gone.
        let mut transaction = self.keeper.pool.begin().await?;
        let written = delivery_queue::mark(&mut transaction, marks, now).await?;
        let freed = endpoint_health::unpark(&mut transaction, &left, now).await?;
        transaction.commit().await?;
        if freed > 0 {
            self.wake.notify_one();
        }
        Ok(written)
    }

    /// Notes what the attempts say of their endpoints. A word that is lost is said again by the next attempt.
    async fn note_signs(&self, marks: &[Finished]) {
        let mut failed: BTreeMap<&str, (i32, Option<DateTime<Utc>>)> = BTreeMap::new();
        for mark in marks {
            let endpoint_id = mark.endpoint_id.as_str();
            match mark.sign {
                Sign::Nothing => {}
                Sign::Failed { probe_until } => {
                    let (failures, turn) = failed.entry(endpoint_id).or_default();
                    *failures = failures.saturating_add(1);
                    *turn = turn.or(probe_until);
                }
                Sign::Recovered => {
                    failed.remove(endpoint_id);
                    let forgotten =
                        async { endpoint_health::forget(&mut *self.keeper.pool.acquire().await?, endpoint_id).await };
                    if let Err(error) = forgotten.await {
                        tracing::warn!(%error, endpoint_id, "that an endpoint has recovered could not be noted");
                    }
                    self.endpoints.forget(endpoint_id);
                    self.wake.notify_one();
                }
            }
        }
        for (endpoint_id, (failures, probe_until)) in failed {
            match self.keeper.note_failures(endpoint_id, failures, probe_until, self.now()).await {
                Ok(changed) if changed => self.endpoints.forget(endpoint_id),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = ?error, endpoint_id, "that an endpoint fails could not be noted");
                }
            }
        }
    }

    async fn try_release(&self, releases: &[Release]) -> Result<u64, Failure> {
        let mut connection = self.keeper.pool.acquire().await?;
        delivery_queue::release(&mut connection, releases, self.now()).await
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }
}

fn count(marks: &[Finished], written: u64) {
    for mark in marks {
        metrics::counter!(telemetry::WEBHOOK_ATTEMPTS_TOTAL, "outcome" => mark.verdict.word()).increment(1);
    }
    let stale = (marks.len() as u64).saturating_sub(written);
    if stale > 0 {
        metrics::counter!(telemetry::WEBHOOK_STALE_RESULTS_TOTAL).increment(stale);
        tracing::info!(stale, "results of deliveries were dropped because their rows had been taken over");
    }
}

/// A handle for giving rows back, which never waits.
#[derive(Clone)]
pub struct Releases(pub Arc<mpsc::Sender<Release>>);

impl Releases {
    /// Gives a row back for `reason` (a word for the metrics), if there is a place in the queue.
    pub fn give_back(&self, release: Release, reason: &'static str) {
        metrics::counter!(telemetry::WEBHOOK_RELEASED_TOTAL, "reason" => reason).increment(1);
        let _ = self.0.try_send(release);
    }
}
