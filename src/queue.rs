//! Where requests wait to share a statement with others of their kind.
//!
//! The rule: a queue is bounded, and beyond its bound a request is told to come again at once. Who
//! takes from it, and what the shared statement is, is `ops::batching`'s.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::domain::id::SessionId;
use crate::error::{Error, Result};
use crate::store::sessions::{Creation, PageSession};

/// Requests that may wait for a worker: a second of what a small machine does. Each holds a session
/// and its answer, some 8 kB.
const WAITING_MAX: usize = 4096;

/// What a session's making has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It exists, and what is owed of it is with the worker.
    Done,
    /// Its idempotency key is taken; nothing was written.
    KeyTaken,
}

/// One request that waits.
pub struct Waiting<T, R> {
    /// What is asked for.
    pub item: T,
    /// Takes the answer; nobody may be there any more.
    pub reply: oneshot::Sender<Result<R>>,
}

/// A queue and the end that workers take from.
pub fn queue<T, R>() -> (Queue<T, R>, mpsc::Receiver<Waiting<T, R>>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Queue(sender), receiver)
}

/// Where requests of one kind wait for a worker.
pub struct Queue<T, R>(mpsc::Sender<Waiting<T, R>>);

impl<T, R> Queue<T, R> {
    /// Hands an item in and waits for its answer. The item is worked on even when nobody waits any
    /// more.
    ///
    /// # Errors
    /// `Unavailable` when the queue is full or the process is stopping, and the statement's own.
    pub async fn ask(&self, item: T) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Waiting { item, reply }).map_err(|error| {
            Error::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => {
                    format!("{WAITING_MAX} requests wait for the database already: it is too slow for what is asked")
                }
                mpsc::error::TrySendError::Closed(_) => "the process is stopping".to_owned(),
            })
        })?;
        let gone = || Error::Unavailable("the process stopped, or a worker panicked, before the answer".to_owned());
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The queues of a process; none where it has too few connections to set some aside.
#[derive(Default)]
pub struct Batches {
    /// Sessions to be made.
    pub creations: Option<Queue<Creation, Made>>,
    /// Sessions whose pages are asked for.
    pub pages: Option<Queue<SessionId, Option<Arc<PageSession>>>>,
}
