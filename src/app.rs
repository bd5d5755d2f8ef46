//! What every operation needs, put together once at start.
//!
//! The rule: there is one of these in a process and it is handed down by reference; nothing is
//! global. Doors and the worker hold it in an `Arc`.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::keyring::Keyring;
use crate::providers::Registry;
use crate::queue::Batches;
use crate::store::Store;
use crate::store::allow_lists::AllowLists;
use crate::store::outbox::{Lease, Outgoing};
use crate::vault::Vault;
use crate::vault::sealing::Sealing;

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Origin under which payers reach this gateway, without a slash at the end.
    pub public_url: String,
    /// Longest lifetime of a session that a merchant may ask for.
    pub session_lifetime_max: Duration,
    /// Whether test-mode webhook endpoints may be on this machine.
    pub loopback_webhooks: bool,
    /// Webhook endpoints of one merchant in one mode.
    pub webhook_endpoints_max: u16,
    /// Whether paid sessions get a receipt by mail.
    pub receipts: bool,
    /// Whether card numbers may be typed into our own pages in live mode.
    pub card_entry_live: bool,
    /// How long answers to idempotent requests are kept.
    pub idempotency_retention: Duration,
    /// How long mails stay in the development mailbox.
    pub mail_retention: Duration,
}

impl Settings {
    /// Whether payers reach us over TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }
}

/// The process's own delivery worker, as operations see it.
pub struct Outbox {
    /// To whom deliveries written now belong.
    pub lease: Box<dyn Fn(DateTime<Utc>) -> Lease + Send + Sync>,
    /// Takes over deliveries after their commit; never waits.
    pub offer: Box<dyn Fn(Vec<Outgoing>) + Send + Sync>,
}

/// The application.
pub struct App {
    /// What the operator decided.
    pub settings: Settings,
    /// The database.
    pub store: Store,
    /// The database's clock.
    pub clock: Arc<Clock>,
    /// The operator's secret keys.
    pub keyring: Arc<Keyring>,
    /// Where card numbers wait for their provider.
    pub vault: Arc<Vault>,
    /// Seals the numbers of kept cards, where the operator switched that on.
    pub sealing: Sealing,
    /// Those who move money.
    pub providers: Registry,
    /// The process's own worker, if it has one.
    pub outbox: Option<Outbox>,
    /// Requests that share a statement.
    pub batches: Batches,
    /// Allow-lists of redirect URLs seen lately.
    pub allow_lists: AllowLists,
    /// Operations that must end before the process does.
    pub tasks: TaskTracker,
}

impl App {
    /// The lease for deliveries written now: held when this process delivers them from memory.
    pub fn lease(&self, now: DateTime<Utc>) -> Lease {
        self.outbox.as_ref().map_or_else(|| Lease::open(now), |outbox| (outbox.lease)(now))
    }

    /// Gives deliveries to the process's worker, after their commit.
    pub fn hand_over(&self, outgoing: Vec<Outgoing>) {
        if let (Some(outbox), false) = (&self.outbox, outgoing.is_empty()) {
            (outbox.offer)(outgoing);
        }
    }
}
