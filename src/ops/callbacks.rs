//! Messages that providers send of their own accord.
//!
//! The rule: a message names a charge, a refund or a dispute and is believed in nothing else. What became of it is
//! read back from the provider and goes the way of every look-up, so that a message which is forged,
//! late, doubled, out of order or about the stage before last changes nothing.

use std::sync::Arc;

use super::{disputes, doubts, refund_returns, to_the_end};
use crate::app::App;
use crate::domain::id::ChargeId;
use crate::domain::payment::Charge;
use crate::error::{Error, Result};
use crate::providers::{Callback, CallbackError};
use crate::store;
use crate::telemetry;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Its charge was looked up, or needed no look-up.
    Taken,
    /// It is about none of our charges.
    Unrelated,
    /// It is not signed by the provider.
    NotAuthentic,
    /// It is signed and cannot be read.
    Malformed,
    /// There is no such provider, or it sends no messages.
    NoSuchProvider,
}

impl Received {
    fn word(self) -> &'static str {
        match self {
            Received::Taken => "taken",
            Received::Unrelated => "unrelated",
            Received::NotAuthentic => "not_authentic",
            Received::Malformed => "malformed",
            Received::NoSuchProvider => "no_such_provider",
        }
    }
}

/// Takes a message in.
///
/// # Errors
/// The database's; the provider then sends it again.
pub async fn receive(app: &Arc<App>, provider: &str, headers: &[(String, String)], body: &[u8]) -> Result<Received> {
    let Some(provider) = app.providers.by_name(provider) else { return Ok(Received::NoSuchProvider) };
    let name = provider.name();
    let received = match provider.read_callback(headers, body) {
        Ok(Callback::Charge { charge_id }) => look_up(app, name, &charge_id).await?,
        Ok(Callback::Refund { charge_id, refund_id }) => hear_of_refund(app, name, &charge_id, refund_id).await?,
        Ok(Callback::Dispute { charge_reference, reference }) => {
            match disputes::charge_of(app, provider, &charge_reference).await? {
                Some(charge) => hear_of_dispute(app, charge, reference).await?,
                None => Received::Unrelated,
            }
        }
        Err(CallbackError::NotSupported) => Received::NoSuchProvider,
        Err(CallbackError::NotAuthentic) => Received::NotAuthentic,
        Err(CallbackError::Malformed) => {
            tracing::error!(provider = name, "a provider's callback is signed and cannot be read");
            Received::Malformed
        }
        Err(CallbackError::Unrelated) => Received::Unrelated,
    };
    metrics::counter!(telemetry::CALLBACKS_TOTAL, "provider" => name.to_owned(), "outcome" => received.word())
        .increment(1);
    Ok(received)
}

async fn hear_of_dispute(app: &Arc<App>, charge: Charge, reference: String) -> Result<Received> {
    let inside = Arc::clone(app);
    match to_the_end(app, async move { disputes::hear(&inside, &charge, &reference).await }).await? {
        disputes::Word::Taken => Ok(Received::Taken),
        disputes::Word::Again => {
            Err(Error::Unavailable("a dispute cannot be taken in just now; its message is to come again".to_owned()))
        }
    }
}

async fn hear_of_refund(app: &Arc<App>, provider: &str, charge_id: &str, refund_id: String) -> Result<Received> {
    let Some(charge) = find(app, provider, charge_id).await? else { return Ok(Received::Unrelated) };
    let inside = Arc::clone(app);
    to_the_end(app, async move { refund_returns::hear(&inside, &charge, &refund_id).await }).await?;
    Ok(Received::Taken)
}

async fn find(app: &App, provider: &str, charge_id: &str) -> Result<Option<Charge>> {
    let Some(id) = ChargeId::parse(charge_id) else { return Ok(None) };
    let found = store::payments::find_charge(app.store.pool(), &id).await?;
    Ok(found.filter(|charge| charge.provider == provider))
}

async fn look_up(app: &Arc<App>, provider: &str, charge_id: &str) -> Result<Received> {
    let Some(charge) = find(app, provider, charge_id).await? else { return Ok(Received::Unrelated) };
    let inside = Arc::clone(app);
    to_the_end(app, async move { doubts::hear(&inside, &charge).await }).await?;
    Ok(Received::Taken)
}
