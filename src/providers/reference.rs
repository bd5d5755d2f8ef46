//! A provider's own id of a charge, and how it is remembered before money can move under it.
//!
//! Rule: a provider that finds a charge again only by an id that it gave itself has that id written
//! down before it does what can take money. So a charge without a remembered reference has taken
//! nothing, and one that may have taken something can be asked about. Where it is written is left to
//! the operations.

use async_trait::async_trait;

use crate::domain::money::Money;

/// A charge as it stands in our books, for every call after the one that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRef {
    /// Our id of it (`ch_…`).
    pub charge_id: String,
    /// The provider's id, where one was remembered or reported.
    pub reference: Option<String>,
    /// What it was made for. What a provider reads back is compared with it.
    pub money: Money,
    /// Whether real money is meant.
    pub livemode: bool,
}

/// Writes a provider's id of a charge down while the charge is being made.
#[async_trait]
pub trait ReferenceKeeper: Send + Sync {
    /// Remembers the reference, durably: when this gives `Ok`, later calls for the charge carry it. The
    /// first reference of a charge stays; the same one again is fine.
    ///
    /// # Errors
    /// [`NotRemembered`]. Then the provider must not do what can take money under this reference.
    async fn remember(&self, reference: &str) -> Result<(), NotRemembered>;
}

/// Why a reference was not remembered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRemembered {
    /// The charge has another one, from another call for the same charge.
    #[error("the charge is known to the provider as {0} already")]
    Earlier(String),
    /// The charge has been settled, or is being closed: it must take nothing any more.
    #[error("the charge is closed")]
    Closed,
    /// It could not be written. Perhaps it was all the same.
    #[error("the reference could not be written down: {0}")]
    Failed(String),
}
