//! Payments as merchants read them.
//!
//! The rule: a payment and its newest charge are read in one snapshot, so that an answer never tells
//! of a charge that its payment does not know of yet. Who changes them is `ops::payments`.

use super::Caller;
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::payment::{Charge, Payment};
use crate::error::{Error, Result};
use crate::store::ListFilter;
use crate::store::{self, Page};
use crate::wire::payment_intent::PaymentIntent;
use crate::wire::{Expand, List};

/// A merchant's payment as JSON.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str, expand: &Expand) -> Result<PaymentIntent> {
    let (payment, latest) = find_with_charge(app, caller, id).await?;
    Ok(PaymentIntent::new(&payment, latest.as_ref(), expand.wants("latest_charge")))
}

/// A merchant's payment and its newest charge as they were at one moment.
///
/// # Errors
/// `NotFound`.
pub(super) async fn find_with_charge(app: &App, caller: &Caller, id: &str) -> Result<(Payment, Option<Charge>)> {
    let absent = || Error::not_found("payment_intent", id);
    let parsed = PaymentId::parse(id).ok_or_else(absent)?;
    let mut snapshot = app.store.snapshot().await?;
    let payment = store::payments::find_payment(&mut *snapshot, &caller.merchant_id, caller.livemode, &parsed)
        .await?
        .ok_or_else(absent)?;
    let latest = store::payments::latest_charge(&mut *snapshot, &payment.session_id).await?;
    Ok((payment, latest))
}

/// A merchant's payment.
///
/// # Errors
/// `NotFound`.
pub(super) async fn find(app: &App, caller: &Caller, id: &str) -> Result<Payment> {
    let absent = || Error::not_found("payment_intent", id);
    let parsed = PaymentId::parse(id).ok_or_else(absent)?;
    store::payments::find_payment(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed)
        .await?
        .ok_or_else(absent)
}

/// A page of a merchant's payments.
///
/// # Errors
/// The database's.
pub async fn list(
    app: &App,
    caller: &Caller,
    filter: &ListFilter,
    page: &Page,
    expand: &Expand,
) -> Result<List<PaymentIntent>> {
    let mut snapshot = app.store.snapshot().await?;
    let merchant = &caller.merchant_id;
    let mut rows = store::payment_lists::list_payments(&mut *snapshot, merchant, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    let ids: Vec<&str> = rows.iter().map(|payment| payment.id.as_str()).collect();
    let charges = store::payments::latest_charges(&mut *snapshot, &ids).await?;
    let data = rows
        .iter()
        .map(|payment| {
            let latest = charges.iter().find(|charge| charge.payment_id == payment.id);
            PaymentIntent::new(payment, latest, expand.wants("latest_charge"))
        })
        .collect();
    Ok(List::new("/v1/payment_intents", data, has_more))
}
