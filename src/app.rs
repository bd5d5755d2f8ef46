//! What every operation needs, put together once at start.
//!
//! The rule: there is one of these in a process and it is handed down by reference; nothing is
//! global. Doors and the worker hold it in an `Arc`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use chrono::{DateTime, Duration, Utc};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::fraud::Rules;
use crate::domain::id::MerchantId;
use crate::domain::network::{self, Network};
use crate::error::Result;
use crate::keyring::Keyring;
use crate::providers::Registry;
use crate::queue::Batches;
use crate::store::Store;
use crate::store::allow_lists::AllowLists;
use crate::store::outbox::{Lease, Outgoing};
use crate::vault::Vault;
use crate::vault::sealing::Sealing;

/// The header in which trusted proxies say whose request they hand on. Only the one that is named is read: a
/// proxy that writes the one may hand on the other as it came.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Which way mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailRoad {
    /// None is sent.
    Off,
    /// It is kept for the mailbox of a developer's machine.
    Captured,
    /// It is owed, and a worker gives it to the mail server.
    Smtp,
}

/// How many codes may be asked for in an hour.
#[derive(Debug, Clone, Copy)]
pub struct IdentityLimits {
    /// For one address, whatever the session.
    pub codes_per_address_hour: u32,
    /// For all sessions of one merchant.
    pub codes_per_merchant_hour: u32,
    /// From one network.
    pub codes_per_network_hour: u32,
}

/// Payers held back at once on their way to the shop. Each asks the database a few times; beyond this many the
/// endpoints are slow for everybody, and payers go on at once.
pub const REDIRECT_HOLDS_MAX: usize = 256;

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
    /// How long the way back to the shop waits for the webhooks of a completed session; zero for not at all.
    pub redirect_hold: Duration,
    /// How long events are kept.
    pub event_retention: Duration,
    /// How long the log of delivery attempts is kept.
    pub attempt_retention: Duration,
    /// Whether paid sessions get a receipt by mail.
    pub receipts: bool,
    /// Whether card numbers may be typed into our own pages in live mode.
    pub card_entry_live: bool,
    /// How long answers to idempotent requests are kept.
    pub idempotency_retention: Duration,
    /// Which way mail goes.
    pub mail: MailRoad,
    /// How many codes may be asked for.
    pub identity_limits: IdentityLimits,
    /// How long rows of mails are kept, and captured mails in the mailbox.
    pub mail_retention: Duration,
    /// The rules of the fraud checks.
    pub fraud: Arc<Rules>,
    /// How long a review waits for the merchant before its money is let go.
    pub review_hold: Duration,
    /// Proxies whose word about the payer's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// The header that they say it in.
    pub trusted_proxy_header: ForwardingHeader,
}

impl Settings {
    /// Whether payers reach us over TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// The payer's address behind the operator's proxies, given the address at the socket.
    pub fn payer_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let name = match self.trusted_proxy_header {
            ForwardingHeader::XForwardedFor => "x-forwarded-for",
            ForwardingHeader::Forwarded => "forwarded",
        };
        // A line that is no text is an entry that cannot be read.
        let entries = headers.get_all(name).iter().flat_map(|line| line.to_str().unwrap_or("?").split(','));
        let hops: Vec<&str> = match self.trusted_proxy_header {
            ForwardingHeader::XForwardedFor => entries.collect(),
            ForwardingHeader::Forwarded => entries.map(forwarded_for).collect(),
        };
        network::payer_address(peer, hops.into_iter(), &self.trusted_proxies)
    }
}

/// The `for=` of one element of `Forwarded` (RFC 7239 section 4); empty, which is no address, where there is none.
fn forwarded_for(element: &str) -> &str {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map_or("", |(_, value)| value)
}

/// The process's own delivery worker, as operations see it.
pub struct Outbox {
    /// To whom deliveries written now belong.
    pub lease: Box<dyn Fn(DateTime<Utc>) -> Lease + Send + Sync>,
    /// Takes over deliveries after their commit; never waits.
    pub offer: Box<dyn Fn(Vec<Outgoing>) + Send + Sync>,
    /// Has the database asked at once for what has come due.
    pub wake: Box<dyn Fn() + Send + Sync>,
    /// Has an endpoint looked up anew that was changed here.
    pub forget_endpoint: Box<dyn Fn(&str) + Send + Sync>,
}

/// What came of a message that was posted once.
#[derive(Debug, Clone, Default)]
pub struct Posted {
    /// Whether the receiver took it.
    pub delivered: bool,
    /// The receiver's HTTP status, if it answered.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer: foreign text.
    pub excerpt: Option<String>,
}

/// Posts one message outside of the queue: whose endpoint, the endpoint, the event's id and the body.
pub type PostOnce = Box<dyn Fn(&MerchantId, &str, &str, String) -> BoxFuture<'static, Result<Posted>> + Send + Sync>;

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
    /// Tries an endpoint out.
    pub post_once: PostOnce,
    /// Requests that share a statement.
    pub batches: Batches,
    /// Allow-lists of redirect URLs seen lately.
    pub allow_lists: AllowLists,
    /// Tells the process's worker that mail is owed.
    pub mail_wake: Notify,
    /// Operations that must end before the process does.
    pub tasks: TaskTracker,
    /// Payers whose way back waits for webhooks.
    pub redirect_holds: Semaphore,
}

impl App {
    /// The lease for deliveries written now: held when this process delivers them from memory.
    pub fn lease(&self, now: DateTime<Utc>) -> Lease {
        self.outbox.as_ref().map_or_else(|| Lease::open(now), |outbox| (outbox.lease)(now))
    }

    /// Tells the process's worker that an endpoint was changed, after the commit. Others see it within seconds.
    pub fn endpoint_changed(&self, endpoint: &str) {
        if let Some(outbox) = &self.outbox {
            (outbox.forget_endpoint)(endpoint);
        }
    }

    /// Has the process's worker look for deliveries that have come due, after the commit. Others look every second.
    pub fn deliveries_are_due(&self) {
        if let Some(outbox) = &self.outbox {
            (outbox.wake)();
        }
    }

    /// Gives deliveries to the process's worker, after their commit.
    pub fn hand_over(&self, outgoing: Vec<Outgoing>) {
        if let (Some(outbox), false) = (&self.outbox, outgoing.is_empty()) {
            (outbox.offer)(outgoing);
        }
    }
}
