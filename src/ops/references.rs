//! What providers are told of a charge, and where their own ids of it are remembered.
//!
//! The rule: a provider's reference is in the charge's row, committed, before the provider may take
//! money under it, and a charge that is settled or being closed takes none.

use async_trait::async_trait;

use crate::app::App;
use crate::crash::crash_point;
use crate::domain::id::ChargeId;
use crate::domain::payment::Charge;
use crate::providers::{ChargeRef, NotRemembered, ReferenceKeeper};
use crate::store::references::{Remembered, remember_reference};

/// A charge as providers know it.
pub(super) fn charge_ref(charge: &Charge) -> ChargeRef {
    ChargeRef {
        charge_id: charge.id.to_string(),
        reference: charge.provider_reference.clone(),
        money: charge.total,
        livemode: charge.livemode,
    }
}

/// Remembers the reference of one charge in its row.
pub(super) struct RowKeeper<'a> {
    app: &'a App,
    charge: &'a ChargeId,
}

impl<'a> RowKeeper<'a> {
    /// For that charge, whose row exists.
    pub(super) fn new(app: &'a App, charge: &'a ChargeId) -> Self {
        Self { app, charge }
    }
}

#[async_trait]
impl ReferenceKeeper for RowKeeper<'_> {
    async fn remember(&self, reference: &str) -> Result<(), NotRemembered> {
        crash_point!("reference.told");
        let remembered = remember_reference(self.app.store.pool(), self.charge, reference).await;
        crash_point!("reference.kept");
        match remembered {
            Ok(Remembered::Now) => Ok(()),
            Ok(Remembered::Earlier(earlier)) => Err(NotRemembered::Earlier(earlier)),
            Ok(Remembered::Closed) => Err(NotRemembered::Closed),
            Err(error) => Err(NotRemembered::Failed(error.to_string())),
        }
    }
}
