//! checkstand: a self-hosted gateway for hosted checkout sessions.
//!
//! A merchant's backend makes a short-lived, single-use session over REST and sends its payer to the
//! session's page; the payer pays there; the merchant's backend learns of it by signed webhooks. The
//! modules, in reading order:
//!
//! - [`domain`] decides: pure functions over a session's state, money, cards, retries.
//! - [`store`] remembers: the only SQL.
//! - [`ops`] does: one short transaction round one decision, shared by every door.
//! - [`wire`] is the JSON that merchants see, in answers and in events.
//! - [`providers`] talk to those who move money; [`vault`] keeps card numbers from everybody else.
//! - [`api`], [`hosted`] and [`callbacks`] are the doors for merchants, payers and providers; [`worker`]
//!   does what time makes due; [`dev`] is the one-command development set-up.
//! - [`app`], [`config`], [`clock`], [`keyring`], [`error`], [`server`], [`headers`], [`telemetry`],
//!   [`i18n`], [`queue`], [`mailer`] and [`smtp`] are what all of them stand on; at the points of [`crash`]
//!   tests kill the process.

/// Every request makes and drops some hundred small values on two threads: the system's allocator spends
/// an eighth of the processor on that, this one half as much. Without huge pages, a third of which would hold nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod api;
pub mod app;
pub mod callbacks;
pub mod clock;
pub mod config;
pub mod crash;
pub mod dev;
pub mod domain;
pub mod error;
pub mod gateway;
pub mod headers;
pub mod hosted;
pub mod i18n;
pub mod keyring;
pub mod mailer;
pub mod ops;
pub mod providers;
pub mod queue;
pub mod server;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod vault;
pub mod wire;
pub mod worker;
