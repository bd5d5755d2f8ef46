//! Kept cards as their merchant manages them: read, listed, noted on, given up.
//!
//! The rule: giving a card up wipes whatever could still be charged with it, in the same transaction
//! that says so; the row that stays names the card and nothing more.

use chrono::{DateTime, Utc};

use super::replay::{Answer, Write};
use super::{Announcements, Caller};
use crate::app::App;
use crate::domain::id::{CustomerId, PaymentMethodId};
use crate::domain::payment_method::{self, AllowRedisplay, PaymentMethodState};
use crate::domain::session::Metadata;
use crate::error::{Error, Result};
use crate::store::{self, Connection, Page};
use crate::wire::List;
use crate::wire::payment_method::PaymentMethod;

fn absent(id: &str) -> Error {
    Error::not_found("payment_method", id)
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<payment_method::PaymentMethod> {
    let parsed = PaymentMethodId::parse(id).ok_or_else(|| absent(id))?;
    let pool = app.store.pool();
    let found = store::payment_methods::find(pool, &caller.merchant_id, caller.livemode, &parsed).await?;
    found.ok_or_else(|| absent(id))
}

/// One kept card.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<PaymentMethod> {
    Ok(PaymentMethod::new(&find(app, caller, id).await?))
}

/// A page of a customer's cards.
///
/// # Errors
/// The database's.
pub async fn list(
    app: &App,
    caller: &Caller,
    customer: &CustomerId,
    allow_redisplay: Option<AllowRedisplay>,
    page: &Page,
    url: &str,
) -> Result<List<PaymentMethod>> {
    let pool = app.store.pool();
    let (merchant, livemode) = (&caller.merchant_id, caller.livemode);
    let mut rows = store::payment_methods::list(pool, merchant, livemode, customer, allow_redisplay, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new(url, rows.iter().map(PaymentMethod::new).collect(), has_more))
}

/// Locks a kept card of the caller's, its customer first.
async fn lock(
    app: &App,
    connection: &mut Connection,
    caller: &Caller,
    id: &str,
) -> Result<payment_method::PaymentMethod> {
    let known = find(app, caller, id).await?;
    let detached = || {
        let message = "This payment method is not attached to a customer, so this cannot be done with it.";
        Error::invalid("payment_method_not_attached", "", message)
    };
    let customer = known.customer_id.as_ref().ok_or_else(detached)?;
    store::customers::lock(connection, &caller.merchant_id, caller.livemode, customer).await?.ok_or_else(detached)?;
    let now = store::payment_methods::find(connection, &caller.merchant_id, caller.livemode, &known.id).await?;
    now.filter(|method| method.state == PaymentMethodState::Attached).ok_or_else(detached)
}

/// Changes what a merchant may change of a kept card: his notes, and whether the payer sees it again.
///
/// # Errors
/// `NotFound`, `Invalid` for one that was given up, those of `change` and of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    allow_redisplay: Option<AllowRedisplay>,
    change: impl FnOnce(&mut Metadata) -> Result<()>,
) -> Result<Answer> {
    find(app, &write.caller, id).await?;
    write
        .once(app, async |connection, now| {
            let mut method = lock(app, connection, &write.caller, id).await?;
            change(&mut method.metadata)?;
            method.allow_redisplay = allow_redisplay.unwrap_or(method.allow_redisplay);
            store::payment_methods::save(connection, &method).await?;
            let object = PaymentMethod::new(&method);
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            announcements.apart(&write.caller, "payment_method.updated", method.id.as_str(), &object);
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            Ok((Answer::new(&object), outgoing))
        })
        .await
}

/// Gives a kept card up.
///
/// # Errors
/// `NotFound`, `Invalid` for one that was given up before, and those of the idempotency key.
pub async fn detach(app: &App, write: &Write, id: &str) -> Result<Answer> {
    find(app, &write.caller, id).await?;
    write
        .once(app, async |connection, now| {
            let method = lock(app, connection, &write.caller, id).await?;
            let cause = write.cause();
            let mut announcements = Announcements::new(&cause, now);
            let object = detach_locked(connection, &write.caller, method, &mut announcements, now).await?;
            let outgoing = store::outbox::append(connection, &announcements.into_events(), &app.lease(now)).await?;
            Ok((Answer::new(&object), outgoing))
        })
        .await
}

/// Gives a card up whose customer the caller has locked.
pub(super) async fn detach_locked(
    connection: &mut Connection,
    caller: &Caller,
    method: payment_method::PaymentMethod,
    announcements: &mut Announcements<'_>,
    now: DateTime<Utc>,
) -> Result<PaymentMethod> {
    let method = method.detached(now);
    store::payment_methods::save(connection, &method).await?;
    let object = PaymentMethod::new(&method);
    announcements.apart(caller, "payment_method.detached", method.id.as_str(), &object);
    Ok(object)
}
