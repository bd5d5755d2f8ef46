//! Requests that share a statement. Under load, sessions that are made at the same time are made in
//! one statement with one commit, and pages asked for at the same time are read in one query.
//!
//! The rule: nothing waits for company. A free worker takes whatever is there, so a lone request goes
//! at once and batches grow only while all workers are busy. An answer is given after the commit. What
//! fails in a batch through one row is tried again row by row, so nobody pays for another's mistake.
//! The queues are bounded: beyond that a request is told to come again.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::id::SessionId;
use crate::error::{Error, Result};
use crate::queue::{Batches, Made, Waiting, queue};
use crate::store::sessions::{self, Created, Creation, PageSession};
use crate::store::{Connection, Failure, SharedConnection, Store, was_refused};
use crate::telemetry;

/// Pages in one query.
const PAGES_PER_BATCH_MAX: usize = 128;

/// A worker without work gives its connection back after this time.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The other ends of the queues, until the workers can be started.
pub struct Unstarted {
    creations: Option<mpsc::Receiver<Waiting<Creation, Made>>>,
    pages: Option<mpsc::Receiver<Waiting<SessionId, Option<Arc<PageSession>>>>>,
}

/// Makes the queues. With `creations_per_batch_max` of 1 each session is made by itself.
pub fn queues(store: &Store, creations_per_batch_max: u16) -> (Batches, Unstarted) {
    if store.shared().is_none() {
        return (Batches::default(), Unstarted { creations: None, pages: None });
    }
    let (pages, page_queue) = queue();
    let (creations, creation_queue) = if creations_per_batch_max > 1 {
        let (creations, waiting) = queue();
        (Some(creations), Some(waiting))
    } else {
        (None, None)
    };
    let batches = Batches { creations, pages: Some(pages) };
    (batches, Unstarted { creations: creation_queue, pages: Some(page_queue) })
}

impl Unstarted {
    /// Starts the workers: one that reads, the others make sessions. After `stop` they finish what
    /// waits, and end.
    pub fn start(self, app: &Arc<App>, creations_per_batch_max: u16, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let mut workers = Vec::new();
        let Some(shared) = app.store.shared() else {
            return workers;
        };
        if let Some(queue) = self.pages {
            workers.extend(start(Pages, app, queue, 1, PAGES_PER_BATCH_MAX, stop));
        }
        if let Some(queue) = self.creations {
            let writers = shared.connections.saturating_sub(1).max(1);
            workers.extend(start(Creations, app, queue, writers, usize::from(creations_per_batch_max), stop));
        }
        workers
    }
}

/// A kind of request that can share a statement.
trait Shared: Copy + Send + Sync + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// Whether a statement whose outcome is unknown may simply be run again.
    const IS_READ: bool;

    /// One answer for each item, in their order. A failure is everybody's.
    fn run(
        self,
        app: &App,
        connection: &mut Connection,
        items: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>, Failure>> + Send;
}

fn start<S: Shared>(
    shared: S,
    app: &Arc<App>,
    queue: mpsc::Receiver<Waiting<S::Item, S::Answer>>,
    workers: u32,
    items_max: usize,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let queue = Arc::new(Mutex::new(queue));
    let worker = || {
        let worker = Worker { shared, app: Arc::clone(app), queue: Arc::clone(&queue), connection: None };
        tokio::spawn(worker.run(items_max, stop.clone()))
    };
    (0..workers).map(|_| worker()).collect()
}

/// What the workers of one kind take from.
type Taken<S> = Arc<Mutex<mpsc::Receiver<Waiting<<S as Shared>::Item, <S as Shared>::Answer>>>>;

struct Worker<S: Shared> {
    shared: S,
    app: Arc<App>,
    queue: Taken<S>,
    connection: Option<SharedConnection>,
}

impl<S: Shared> Worker<S> {
    async fn run(mut self, items_max: usize, stop: CancellationToken) {
        loop {
            let taking = take(&self.queue, items_max, &stop);
            let batch = if self.connection.is_none() {
                taking.await
            } else if let Ok(batch) = tokio::time::timeout(IDLE_AFTER, taking).await {
                batch
            } else {
                self.connection = None;
                continue;
            };
            if batch.is_empty() {
                return;
            }
            let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.item, one.reply)).unzip();
            let answers = match AssertUnwindSafe(self.answers(&items)).catch_unwind().await {
                Ok(Ok(answers)) => answers,
                Ok(Err(error)) => items.iter().map(|_| Err(everybodys(&error))).collect(),
                Err(_) => {
                    // The panic hook has said where. The connection may be in the middle of an answer.
                    self.connection = None;
                    continue;
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever has gone has no use for it.
                let _ = reply.send(answer);
            }
        }
    }

    async fn answers(&mut self, items: &[S::Item]) -> Result<Vec<Result<S::Answer>>> {
        let was_kept = self.connection.is_some();
        match self.once(items).await {
            // The kept connection may have died in its sleep. A reader just tries with a new one.
            Err(error) if S::IS_READ && was_kept && !was_refused(&error) => Ok(self.once(items).await?),
            other => Ok(other?),
        }
    }

    async fn once(&mut self, items: &[S::Item]) -> Result<Vec<Result<S::Answer>>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.app.store.shared_connection().await?,
        };
        let answers = self.shared.run(&self.app, &mut connection, items).await;
        // After a failure it goes back to the pool, which finds out whether it still lives.
        if answers.is_ok() {
            self.connection = Some(connection);
        }
        answers
    }
}

/// Waits for something to do and takes all that is there; nothing once all is done and the process
/// stops. May be dropped at any time without losing anything.
async fn take<T>(queue: &Mutex<mpsc::Receiver<T>>, items_max: usize, stop: &CancellationToken) -> Vec<T> {
    let mut queue = queue.lock().await;
    let mut batch = Vec::new();
    tokio::select! {
        _ = queue.recv_many(&mut batch, items_max) => return batch,
        () = stop.cancelled() => queue.close(),
    }
    queue.recv_many(&mut batch, items_max).await;
    batch
}

/// The same failure for one of many.
fn everybodys(error: &Error) -> Error {
    match error {
        Error::Unavailable(inside) => Error::Unavailable(inside.clone()),
        other => Error::Internal(format!("{other:?}")),
    }
}

#[derive(Clone, Copy)]
struct Creations;

/// Gives what is owed of a new session to the worker.
fn made(app: &App, created: Created) -> Made {
    match created {
        Created::Done(outgoing) => {
            metrics::counter!(telemetry::SESSIONS_CREATED_TOTAL).increment(1);
            app.hand_over(outgoing);
            Made::Done
        }
        Created::KeyTaken => Made::KeyTaken,
    }
}

/// Makes one session, and hands over what is owed of it.
///
/// # Errors
/// The database's.
pub async fn make(app: &App, connection: &mut Connection, creation: &Creation) -> Result<Made, Failure> {
    let lease = app.lease(app.clock.now());
    let created = sessions::create(connection, std::slice::from_ref(creation), &lease).await?;
    Ok(created.into_iter().next().map_or(Made::KeyTaken, |created| made(app, created)))
}

impl Shared for Creations {
    type Item = Creation;
    type Answer = Made;
    const IS_READ: bool = false;

    async fn run(
        self,
        app: &App,
        connection: &mut Connection,
        items: &[Creation],
    ) -> Result<Vec<Result<Made>>, Failure> {
        let lease = app.lease(app.clock.now());
        match sessions::create(connection, items, &lease).await {
            Ok(created) => Ok(created.into_iter().map(|one| Ok(made(app, one))).collect()),
            Err(error) if items.len() > 1 && was_refused(&error) => {
                tracing::warn!(%error, sessions = items.len(), "a batch of sessions was refused; making them one by one");
                let mut answers = Vec::with_capacity(items.len());
                for item in items {
                    answers.push(make(app, connection, item).await.map_err(Error::from));
                }
                Ok(answers)
            }
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy)]
struct Pages;

impl Shared for Pages {
    type Item = SessionId;
    type Answer = Option<Arc<PageSession>>;
    const IS_READ: bool = true;

    async fn run(
        self,
        _: &App,
        connection: &mut Connection,
        items: &[SessionId],
    ) -> Result<Vec<Result<Option<Arc<PageSession>>>>, Failure> {
        let ids: Vec<&str> = items.iter().map(SessionId::as_str).collect();
        let mut found = HashMap::with_capacity(items.len());
        let mut broken = None;
        for page in sessions::find_for_pages(connection, &ids).await? {
            match page {
                Ok(page) => {
                    found.insert(page.session.id.clone(), Arc::new(page));
                }
                Err(error) => broken = Some(error),
            }
        }
        let answer = |id: &SessionId| match (found.get(id), &broken) {
            // Several may ask for the same page.
            (Some(page), _) => Ok(Some(Arc::clone(page))),
            (None, Some(error)) => Err(everybodys(error)),
            (None, None) => Ok(None),
        };
        Ok(items.iter().map(answer).collect())
    }
}
