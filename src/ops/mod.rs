//! Does: short transactions round one decision each, shared by every door.
//!
//! The rule: lock, decide, save, append. An operation that moves money is two of these with the
//! provider's call between them, never inside. Locks are taken in the order session, escrow, payment,
//! charge, outbox; several sessions in the order of their ids. What is owed to webhook endpoints is handed to the worker after the commit.

pub mod audit;
pub mod batching;
pub mod callbacks;
pub mod captures;
pub mod card_vault;
pub mod charges;
pub mod confirmations;
pub mod customers;
pub mod disputes;
pub mod doubts;
pub mod endpoint_checks;
pub mod endpoint_health;
pub mod endpoint_secrets;
pub mod endpoints;
pub mod escrow_acts;
pub mod escrows;
pub mod event_replays;
pub mod event_stream;
pub mod events;
mod failover;
pub mod fraud;
pub mod identity;
pub mod mails;
pub mod merchants;
pub mod outages;
pub mod payment_methods;
pub mod payment_reads;
pub mod payments;
pub mod redirect_hold;
pub mod redirect_urls;
mod references;
mod refund_returns;
pub mod refunds;
pub mod replay;
pub mod reviews;
pub mod saved_cards;
pub mod sessions;
pub mod sweep;
pub mod test_mode;

use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::app::App;
use crate::domain::escrow::Escrow;
use crate::domain::escrow_acts::EscrowEvent;
use crate::domain::event_types;
use crate::domain::id::{EventId, MerchantId};
use crate::domain::payment::{Charge, Payment};
use crate::domain::session::{Session, SessionEvent};
use crate::error::{Error, Result};
use crate::store::outbox::NewEvent;
use crate::telemetry;
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::event::{EventBody, EventRequest};
use crate::wire::payment_intent::PaymentIntent;
use crate::wire::{self, Expand};

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

/// Events of one transaction, about a session or about what belongs to it. All of them are numbered
/// from the session's own count, so that its story has no gap.
pub(crate) struct Announcements<'a> {
    events: Vec<NewEvent>,
    request: &'a EventRequest,
    now: DateTime<Utc>,
}

impl<'a> Announcements<'a> {
    /// None yet.
    pub(crate) fn new(request: &'a EventRequest, now: DateTime<Utc>) -> Self {
        Self { events: Vec::new(), request, now }
    }

    /// Announces an object that belongs to a session.
    pub(crate) fn object<T: Serialize>(&mut self, session: &mut Session, kind: &str, object_id: &str, object: &T) {
        session.event_count = session.event_count.saturating_add(1);
        let id = EventId::generate(self.now);
        let body = EventBody::new(&id, kind, self.now.timestamp(), session.livemode, object, self.request);
        self.events.push(NewEvent {
            id: id.to_string(),
            created_at: self.now,
            merchant_id: session.merchant_id.to_string(),
            livemode: session.livemode,
            kind: listed(kind),
            object_id: object_id.to_owned(),
            session_id: Some(session.id.to_string()),
            session_sequence: Some(session.event_count),
            body_head: body.head,
            body_tail: body.tail,
        });
    }

    /// Announces an object that belongs to no session.
    pub(crate) fn apart<T: Serialize>(&mut self, owner: &Caller, kind: &str, object_id: &str, object: &T) {
        let id = EventId::generate(self.now);
        let body = EventBody::new(&id, kind, self.now.timestamp(), owner.livemode, object, self.request);
        self.events.push(NewEvent {
            id: id.to_string(),
            created_at: self.now,
            merchant_id: owner.merchant_id.to_string(),
            livemode: owner.livemode,
            kind: listed(kind),
            object_id: object_id.to_owned(),
            session_id: None,
            session_sequence: None,
            body_head: body.head,
            body_tail: body.tail,
        });
    }

    /// Announces what a transition did to the session.
    pub(crate) fn session(&mut self, session: &mut Session, kinds: &[SessionEvent]) {
        for kind in kinds {
            let object = CheckoutSession::new(session, None, None, &Expand::default());
            let id = session.id.to_string();
            self.object(session, kind.kind(), &id, &object);
        }
    }

    /// Announces what a step did to an escrow. It belongs to no session, so it is numbered from the escrow's count.
    pub(crate) fn escrow(&mut self, escrow: &mut Escrow, event: EscrowEvent) {
        escrow.event_count = escrow.event_count.saturating_add(1);
        let id = EventId::generate(self.now);
        let object = wire::escrow::Escrow::new(escrow);
        let (kind, at, livemode) = (event.kind(), self.now.timestamp(), escrow.livemode);
        let body = match event {
            EscrowEvent::ContractSigned(party) => {
                let signed = wire::escrow::SignedContract { escrow: object, signed_by: party.as_str() };
                EventBody::new(&id, kind, at, livemode, &signed, self.request)
            }
            _ => EventBody::new(&id, kind, at, livemode, &object, self.request),
        };
        self.events.push(NewEvent {
            id: id.to_string(),
            created_at: self.now,
            merchant_id: escrow.merchant_id.to_string(),
            livemode,
            kind: listed(kind),
            object_id: escrow.id.to_string(),
            session_id: None,
            session_sequence: Some(escrow.event_count),
            body_head: body.head,
            body_tail: body.tail,
        });
    }

    /// Announces a payment as it stands with its newest charge.
    pub(crate) fn payment(&mut self, session: &mut Session, kind: &str, payment: &Payment, charge: Option<&Charge>) {
        let object = PaymentIntent::new(payment, charge, false);
        self.object(session, kind, payment.id.as_str(), &object);
    }

    /// Announces a charge.
    pub(crate) fn charge(&mut self, session: &mut Session, kind: &str, charge: &Charge) {
        self.object(session, kind, charge.id.as_str(), &crate::wire::charge::Charge::new(charge));
    }

    /// The events, in the order they were announced.
    pub(crate) fn into_events(self) -> Vec<NewEvent> {
        self.events
    }
}

/// The type as it is stored. One that is not in the list of event types could not be subscribed to and would stand in no
/// documentation, so every build but a release stops at it.
fn listed(kind: &str) -> String {
    debug_assert!(event_types::is_listed(kind), "{kind} is emitted and is not in EVENT_TYPES");
    kind.to_owned()
}

/// Counts sessions that ended, for the metrics.
pub(crate) fn count_ended(session: &Session) {
    if session.state.ended_at().is_some() {
        metrics::counter!(telemetry::SESSIONS_ENDED_TOTAL, "state" => session.state.name().as_str()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_whose_type_nobody_listed_stops_the_build_that_is_tested() {
        let announce = |kind: &'static str| {
            std::panic::catch_unwind(move || {
                let (cause, now) = (EventRequest::default(), DateTime::UNIX_EPOCH);
                let owner = Caller { merchant_id: MerchantId::from_stored("acct_1".to_owned()), livemode: false };
                let mut announcements = Announcements::new(&cause, now);
                announcements.apart(&owner, kind, "x_1", &serde_json::json!({}));
                announcements.into_events().len()
            })
        };
        assert_eq!(announce("customer.created").ok(), Some(1));
        assert!(announce("customer.painted").is_err());
    }
}
