//! Charges as merchants read them.

use super::Caller;
use crate::app::App;
use crate::domain::id::ChargeId;
use crate::error::{Error, Result};
use crate::store::{self, Page};
use crate::store::{ListFilter, payment_lists};
use crate::wire::List;
use crate::wire::charge::Charge;

/// One charge.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<Charge> {
    let absent = || Error::not_found("charge", id);
    let parsed = ChargeId::parse(id).ok_or_else(absent)?;
    let pool = app.store.pool();
    let found = store::payments::find_merchants_charge(pool, &caller.merchant_id, caller.livemode, &parsed).await?;
    Ok(Charge::new(&found.ok_or_else(absent)?))
}

/// A page of charges.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, filter: &ListFilter, page: &Page) -> Result<List<Charge>> {
    let pool = app.store.pool();
    let mut rows = payment_lists::list_charges(pool, &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/charges", rows.iter().map(Charge::new).collect(), has_more))
}
