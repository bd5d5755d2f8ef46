//! The operator's side of sealed card numbers: which keys are in use, sealing anew under the first one,
//! giving up what a lost key sealed.
//!
//! The rule: every batch is a transaction of its own and done when it is committed, so a rotation that
//! was cut off goes on where it stopped, and gateways go on charging meanwhile.

use crate::app::App;
use crate::domain::id::PaymentMethodId;
use crate::domain::payment_method::SealedNumber;
use crate::error::{Error, Result};
use crate::store;
use crate::vault::sealing::Place;

/// Numbers sealed anew in one transaction: it locks their rows, and a payer may be waiting for one.
pub const BATCH_MAX: i64 = 200;

/// One key and what it seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's name.
    pub key: String,
    /// Numbers sealed with it.
    pub numbers: i64,
    /// Whether it is configured; without it they cannot be opened.
    pub is_configured: bool,
    /// Whether it is the one that seals.
    pub is_current: bool,
}

/// What one batch of a rotation came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Numbers sealed anew.
    pub sealed: u64,
    /// Numbers that did not open, and were left alone.
    pub stuck: u64,
}

/// Every key that is configured or in use.
///
/// # Errors
/// The database's.
pub async fn keys(app: &App) -> Result<Vec<KeyUse>> {
    let in_use = store::payment_methods::vault_keys(app.store.pool()).await?;
    let configured = app.sealing.key_names();
    let mut keys: Vec<KeyUse> = configured
        .iter()
        .enumerate()
        .map(|(place, name)| KeyUse {
            key: (*name).to_owned(),
            numbers: in_use.iter().find(|(key, _)| key == name).map_or(0, |(_, numbers)| *numbers),
            is_configured: true,
            is_current: place == 0,
        })
        .collect();
    keys.extend(in_use.into_iter().filter(|(key, _)| !app.sealing.knows(key)).map(|(key, numbers)| KeyUse {
        key,
        numbers,
        is_configured: false,
        is_current: false,
    }));
    Ok(keys)
}

/// Refuses to go on while there are numbers that no configured key opens: a key was taken away too early.
///
/// # Errors
/// `Unavailable` with the names of the keys that are missing.
pub async fn refuse_missing_keys(app: &App) -> Result<()> {
    let missing: Vec<String> = keys(app)
        .await?
        .into_iter()
        .filter(|key| !key.is_configured)
        .map(|key| format!("{} ({} card numbers)", key.key, key.numbers))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Unavailable(format!(
        "card numbers are sealed with card vault keys that are not in `card_vault_keys`: {}; put the keys back and run \
         `checkstand vault rotate`, or, if they are lost, give the numbers up with `checkstand vault forget KEY`",
        missing.join(", ")
    )))
}

/// Seals one batch of numbers anew under the first key, those behind `after` under `key`; gives what it
/// came to and where the next batch begins, or `None` at the end.
///
/// # Errors
/// `Invalid` without a key, and the database's.
pub async fn rotate_batch(app: &App, key: &str, after: Option<&str>) -> Result<(Rotated, Option<String>)> {
    if !app.sealing.is_on() {
        let message = "the card vault is off: `card_vault_keys` holds no key to seal with";
        return Err(Error::invalid("parameter_invalid", "", message));
    }
    let mut transaction = app.store.begin().await?;
    let methods = store::payment_methods::lock_sealed_with(&mut transaction, key, after, BATCH_MAX).await?;
    let next = methods.last().map(|method| method.id.to_string());
    let mut done = Rotated::default();
    let mut numbers: Vec<(PaymentMethodId, SealedNumber)> = Vec::with_capacity(methods.len());
    for method in &methods {
        let place = Place { merchant: &method.merchant_id, livemode: method.livemode, method: &method.id };
        let opened = method.number.as_ref().map(|number| app.sealing.open(place, number));
        match opened {
            Some(Ok(number)) => {
                numbers.extend(app.sealing.seal(place, &number).map(|sealed| (method.id.clone(), sealed)));
                done.sealed += 1;
            }
            Some(Err(error)) => {
                tracing::error!(payment_method = %method.id, %error, "the number of a kept card does not open and was left as it is");
                done.stuck += 1;
            }
            None => {}
        }
    }
    store::payment_methods::save_numbers(&mut transaction, &numbers).await?;
    app.store.commit(transaction).await?;
    Ok((done, next))
}

/// Brings every number under the first key, a batch at a time. Numbers of keys that are not configured
/// are counted as stuck.
///
/// # Errors
/// `Invalid` without a key, and the database's; what was committed before stays.
pub async fn rotate(app: &App) -> Result<Rotated> {
    let mut total = Rotated::default();
    for key in keys(app).await?.into_iter().filter(|key| !key.is_current && key.numbers > 0) {
        let mut after: Option<String> = None;
        loop {
            let (done, next) = rotate_batch(app, &key.key, after.as_deref()).await?;
            total.sealed += done.sealed;
            total.stuck += done.stuck;
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(total)
}

/// Erases the numbers that a lost key sealed. The cards stay, as far as their provider remembers them.
///
/// # Errors
/// `Invalid` for a key that is configured, and the database's.
pub async fn forget(app: &App, key: &str) -> Result<u64> {
    if app.sealing.knows(key) {
        let message = format!("card vault key {key} is configured, so nothing is lost: run `checkstand vault rotate`");
        return Err(Error::invalid("parameter_invalid", "", message));
    }
    let mut erased = 0;
    loop {
        let mut transaction = app.store.begin().await?;
        let batch = store::payment_methods::erase_numbers(&mut transaction, key, BATCH_MAX).await?;
        app.store.commit(transaction).await?;
        erased += batch;
        if batch == 0 {
            return Ok(erased);
        }
    }
}
