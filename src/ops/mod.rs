//! Does: short transactions round one decision each, shared by every door.
//!
//! The rule: lock, decide, save, append. An operation that moves money is two of these with the
//! provider's call between them, never inside. Locks are taken in the order session, charge, payment,
//! outbox. What is owed to webhook endpoints is handed to the worker after the commit.

pub mod batching;
pub mod endpoints;
pub mod events;
pub mod merchants;
pub mod payments;
pub mod redirect_urls;
pub mod replay;
pub mod sessions;
pub mod sweep;

use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::domain::id::{EventId, MerchantId};
use crate::domain::session::{Session, SessionEvent};
use crate::error::{Error, Result};
use crate::store::outbox::NewEvent;
use crate::telemetry;
use crate::wire::Expand;
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::event::{EventBody, EventRequest};

/// Who calls the API.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key's merchant.
    pub merchant_id: MerchantId,
    /// The key's mode.
    pub livemode: bool,
}

/// Runs an operation to its end even when the one who asked for it goes away: axum drops a handler
/// whose client has closed the connection, and a payment must not be dropped half-way.
///
/// # Errors
/// The operation's own, or `Internal` when it panicked.
pub async fn to_the_end<T, F>(app: &Arc<App>, operation: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    match app.tasks.spawn(operation).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("an operation ended without a result: {error}"))),
    }
}

/// Writes the events of a session's transition, numbering them from the session's own count.
pub fn session_events(
    session: &mut Session,
    kinds: &[SessionEvent],
    request: &EventRequest,
    now: DateTime<Utc>,
) -> Vec<NewEvent> {
    kinds
        .iter()
        .map(|kind| {
            session.event_count = session.event_count.saturating_add(1);
            let object = CheckoutSession::new(session, None, None, &Expand::default());
            let id = EventId::generate(now);
            let body = EventBody::new(&id, kind.kind(), now.timestamp(), session.livemode, &object, request);
            NewEvent {
                id: id.to_string(),
                created_at: now,
                merchant_id: session.merchant_id.to_string(),
                livemode: session.livemode,
                kind: kind.kind().to_owned(),
                object_id: session.id.to_string(),
                session_id: Some(session.id.to_string()),
                session_sequence: Some(session.event_count),
                body_head: body.head,
                body_tail: body.tail,
            }
        })
        .collect()
}

/// Counts sessions that ended, for the metrics.
pub(crate) fn count_ended(session: &Session) {
    if session.state.ended_at().is_some() {
        metrics::counter!(telemetry::SESSIONS_ENDED_TOTAL, "state" => session.state.name().as_str()).increment(1);
    }
}
