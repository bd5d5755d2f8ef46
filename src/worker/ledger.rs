//! Writes what became of deliveries: marks of attempts and releases of rows, in batches.
//! There is no timer: whatever waits when the last batch is written is the next batch. While the
//! database is away, marks are kept and tried again until their leases must have run out; the full
//! queue then holds the attempts back. A mark that the database refuses is dropped alone, not with
//! its neighbours.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::delivery_queue::{self, Failure, Finished, Pool, Release, is_passing};
use crate::store::outbox::LEASE_SECONDS;
use crate::telemetry;
use crate::worker::deliver::ClockFn;

/// Marks in one statement.
const MARKS_BATCH_MAX: usize = 256;

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
    /// Where to write.
    pub pool: Pool,
    /// The time of the marks.
    pub clock: ClockFn,
    /// Attempts that have ended.
    pub marks: mpsc::Receiver<Finished>,
    /// Rows to give back.
    pub releases: mpsc::Receiver<Release>,
    /// When set, what waits is written and the ledger ends.
    pub closing: CancellationToken,
}

impl Ledger {
    /// Writes until it is told to close.
    pub async fn run(mut self) {
        loop {
            let (mut marks, mut releases) = (Vec::new(), Vec::new());
            tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                _ = self.marks.recv_many(&mut marks, MARKS_BATCH_MAX) => {}
                _ = self.releases.recv_many(&mut releases, RELEASES_BATCH_MAX) => {}
            }
            self.write(marks, releases).await;
        }
        // Nobody sends any more, or nobody whose row would not come due by itself.
        loop {
            let (mut marks, mut releases) = (Vec::new(), Vec::new());
            while marks.len() < MARKS_BATCH_MAX
                && let Ok(mark) = self.marks.try_recv()
            {
                marks.push(mark);
            }
            while releases.len() < RELEASES_BATCH_MAX
                && let Ok(release) = self.releases.try_recv()
            {
                releases.push(release);
            }
            if marks.is_empty() && releases.is_empty() {
                return;
            }
            self.write(marks, releases).await;
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
                Ok(written) => return count(&marks, written),
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
                Ok(written) => count(&mark, written),
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
        let mut connection = self.pool.acquire().await?;
        delivery_queue::mark(&mut connection, marks, self.now()).await
    }

    async fn try_release(&self, releases: &[Release]) -> Result<u64, Failure> {
        let mut connection = self.pool.acquire().await?;
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
