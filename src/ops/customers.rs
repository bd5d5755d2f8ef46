//! Customers: made, read, changed and deleted by their merchant.
//!
//! The rule: a customer of another merchant or mode is as absent as one that never was, and a deletion
//! takes the person's data and everything that could still be charged in one transaction.

use super::payment_methods::detach_locked;
use super::replay::{Answer, Write};
use super::{Announcements, Caller};
use crate::app::App;
use crate::domain::customer;
use crate::domain::id::{CustomerId, MerchantId};
use crate::domain::payment_method::CARDS_PER_CUSTOMER_MAX;
use crate::error::{Error, Result};
use crate::store::customers::Filter;
use crate::store::{self, Connection, Page};
use crate::wire::customer::{Customer, FoundCustomer};
use crate::wire::{Deleted, List};

fn absent(id: &str) -> Error {
    Error::not_found("customer", id)
}

fn parse(id: &str) -> Result<CustomerId> {
    CustomerId::parse(id).ok_or_else(|| absent(id))
}

fn deleted(id: &CustomerId) -> Deleted {
    Deleted { id: id.to_string(), object: "customer", deleted: true }
}

/// Makes a customer; `fill` writes what the merchant says of him.
///
/// # Errors
/// Those of `fill` and of the idempotency key.
pub async fn create(
    app: &App,
    write: &Write,
    fill: impl FnOnce(&mut customer::Customer) -> Result<()>,
) -> Result<Answer> {
    let caller = &write.caller;
    write
        .once(app, async |connection, now| {
            let id = CustomerId::generate(now);
            let mut customer = customer::Customer::new(id, caller.merchant_id.clone(), caller.livemode, now);
            fill(&mut customer)?;
            store::customers::insert(connection, &customer).await?;
            let object = Customer::new(&customer);
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            announcements.apart(caller, "customer.created", customer.id.as_str(), &object);
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            Ok((Answer::new(&object), outgoing))
        })
        .await
}

/// Changes a customer.
///
/// # Errors
/// `NotFound`, those of `change`, and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    change: impl FnOnce(&mut customer::Customer) -> Result<()>,
) -> Result<Answer> {
    let (caller, customer_id) = (&write.caller, parse(id)?);
    write
        .once(app, async |connection, now| {
            let mut customer = store::customers::lock(connection, &caller.merchant_id, caller.livemode, &customer_id)
                .await?
                .ok_or_else(|| absent(id))?;
            let before = customer.clone();
            change(&mut customer)?;
            let object = Customer::new(&customer);
            if customer == before {
                return Ok((Answer::new(&object), Vec::new()));
            }
            store::customers::save(connection, &customer).await?;
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            announcements.apart(caller, "customer.updated", customer.id.as_str(), &object);
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            Ok((Answer::new(&object), outgoing))
        })
        .await
}

/// One customer; a deleted one says that it is.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<FoundCustomer> {
    let customer_id = parse(id)?;
    let mut connection = app.store.pool().acquire().await?;
    let found = as_found(&mut connection, &caller.merchant_id, caller.livemode, &customer_id).await?;
    found.ok_or_else(|| absent(id))
}

/// The same for whoever expands a customer.
pub(super) async fn as_found(
    connection: &mut Connection,
    merchant: &MerchantId,
    livemode: bool,
    id: &CustomerId,
) -> Result<Option<FoundCustomer>> {
    let found = store::customers::find(connection, merchant, livemode, id).await?;
    Ok(found.map(|customer| match customer.deleted_at {
        Some(_) => FoundCustomer::Deleted(deleted(&customer.id)),
        None => FoundCustomer::Customer(Box::new(Customer::new(&customer))),
    }))
}

/// A page of customers.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page) -> Result<List<Customer>> {
    let mut rows = store::customers::list(app.store.pool(), &caller.merchant_id, caller.livemode, filter, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/customers", rows.iter().map(Customer::new).collect(), has_more))
}

/// Deletes a customer: what is known of the person, and the cards that were kept for him.
///
/// # Errors
/// `NotFound`.
pub async fn delete(app: &App, write: &Write, id: &str) -> Result<Deleted> {
    let (caller, customer_id) = (&write.caller, parse(id)?);
    let now = app.clock.now();
    let mut transaction = app.store.begin().await?;
    let customer = store::customers::lock(&mut transaction, &caller.merchant_id, caller.livemode, &customer_id)
        .await?
        .ok_or_else(|| absent(id))?;
    let cause = write.cause();
    let mut announcements = Announcements::new(&cause, now);
    let limit = i64::try_from(CARDS_PER_CUSTOMER_MAX).unwrap_or(i64::MAX);
    for method in store::payment_methods::of_customer(&mut *transaction, &customer_id, limit).await? {
        detach_locked(&mut transaction, caller, method, &mut announcements, now).await?;
    }
    announcements.apart(caller, "customer.deleted", customer_id.as_str(), &Customer::new(&customer));
    store::customers::save(&mut transaction, &customer.deleted(now)).await?;
    let outgoing = store::outbox::append(&mut transaction, &announcements.into_events(), &app.lease(now)).await?;
    app.store.commit(transaction).await?;
    app.hand_over(outgoing);
    Ok(deleted(&customer_id))
}

/// The customer that a request names in its path.
///
/// # Errors
/// `NotFound`, also for one that was deleted.
pub async fn exists(app: &App, caller: &Caller, id: &str) -> Result<CustomerId> {
    let customer_id = parse(id)?;
    let found = store::customers::find(app.store.pool(), &caller.merchant_id, caller.livemode, &customer_id).await?;
    found.filter(|customer| customer.deleted_at.is_none()).map(|customer| customer.id).ok_or_else(|| absent(id))
}

/// The customer that a request names in a parameter.
///
/// # Errors
/// `Invalid` with `resource_missing` where he is not the caller's, in the caller's mode, and there.
pub async fn named(app: &App, caller: &Caller, param: &str, id: &str) -> Result<CustomerId> {
    exists(app, caller, id).await.map_err(|error| error.named_in(param))
}
