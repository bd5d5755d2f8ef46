//! What is secret of a webhook endpoint: its signing secret, its key pair, its custom headers. Sealed where it is
//! stored, opened for the sender, replaced with an overlap.
//!
//! The rule: a secret is shown in the answer that makes it and never again, and during the overlap both the
//! old and the new one sign, so that a receiver can be changed over without losing a delivery.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::endpoints::{open_secret, parse, render, secret_place};
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::custom_headers::{HEADERS_MAX, judge_name, judge_value};
use crate::domain::key_pair::SigningKeyPair;
use crate::domain::signature::SigningSecret;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::store::delivery_queue::DeliveryEndpoint;
use crate::store::endpoints::{self, Sealed};

/// Hours that the old secret still signs unless asked otherwise: a day to change a receiver over.
pub const OVERLAP_HOURS_DEFAULT: i64 = 24;

/// Most hours that it may: a week. A secret that is let go must go.
pub const OVERLAP_HOURS_MAX: i64 = 168;

/// The secrets of an endpoint, opened.
pub struct EndpointSecrets {
    /// Signs.
    pub secret: SigningSecret,
    /// Signs as well, during a rotation.
    pub previous_secret: Option<SigningSecret>,
    /// Signs beside the secret, where the endpoint wants it.
    pub key_pair: Option<SigningKeyPair>,
    /// Signs as well, during a rotation.
    pub previous_key_pair: Option<SigningKeyPair>,
    /// The merchant's own headers, names in lower case.
    pub headers: Vec<(String, Zeroizing<String>)>,
}

/// What is to become of an endpoint's custom headers.
#[derive(Debug, Default)]
pub struct HeadersChange {
    /// Whether those that there are go first.
    pub clears: bool,
    /// Names and values to set, in the order given; without a value to remove.
    pub entries: Vec<(String, Option<SecretString>)>,
}

fn key_place(endpoint: &str) -> String {
    format!("webhook_endpoint/key_seed/{endpoint}")
}

fn headers_place(endpoint: &str) -> String {
    format!("webhook_endpoint/custom_headers/{endpoint}")
}

/// A new key pair, with its seed sealed for this endpoint.
pub(super) fn new_key_pair(keyring: &Keyring, endpoint: &str) -> (SigningKeyPair, Vec<u8>) {
    let pair = SigningKeyPair::generate();
    let sealed = keyring.seal(&key_place(endpoint), pair.seed());
    (pair, sealed)
}

type Headers = BTreeMap<String, Zeroizing<String>>;

fn open_headers(keyring: &Keyring, endpoint: &str, sealed: Option<&[u8]>) -> Result<Headers, String> {
    let Some(sealed) = sealed else { return Ok(Headers::new()) };
    let plain = keyring.unseal(&headers_place(endpoint), sealed).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&plain).map_err(|_| "the custom headers are not text".to_owned())?;
    // One `name: value` a line: neither can hold a line end.
    let line = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), Zeroizing::new(value.to_owned())))
    };
    text.lines().map(line).collect::<Option<_>>().ok_or_else(|| "the custom headers are malformed".to_owned())
}

fn seal_headers(keyring: &Keyring, endpoint: &str, headers: &Headers) -> Option<Vec<u8>> {
    let text: String = headers.iter().map(|(name, value)| format!("{name}: {}\n", value.as_str())).collect();
    let text = Zeroizing::new(text);
    (!headers.is_empty()).then(|| keyring.seal(&headers_place(endpoint), text.as_bytes()))
}

/// Applies a change to sealed headers. Gives the names that there are now and the headers sealed anew.
pub(super) fn change_headers(
    keyring: &Keyring,
    endpoint: &str,
    sealed: Option<&[u8]>,
    change: &HeadersChange,
) -> Result<(Vec<String>, Option<Vec<u8>>)> {
    let mut headers = if change.clears {
        Headers::new()
    } else {
        open_headers(keyring, endpoint, sealed)
            .map_err(|error| Error::Internal(format!("the custom headers of {endpoint}: {error}")))?
    };
    for (name, value) in &change.entries {
        let refused = |message| Error::invalid("custom_header_invalid", format!("custom_headers[{name}]"), message);
        let name = judge_name(name).map_err(refused)?;
        match value {
            None => {
                headers.remove(&name);
            }
            Some(value) => {
                judge_value(value.expose_secret()).map_err(refused)?;
                headers.insert(name, Zeroizing::new(value.expose_secret().to_owned()));
            }
        }
    }
    if headers.len() > HEADERS_MAX {
        let message = format!("An endpoint may have at most {HEADERS_MAX} custom headers.");
        return Err(Error::invalid("custom_header_invalid", "custom_headers", message));
    }
    Ok((headers.keys().cloned().collect(), seal_headers(keyring, endpoint, &headers)))
}

/// Opens what is sealed of an endpoint, for the worker. What signed before the last rotation is left out once its time
/// is over.
///
/// # Errors
/// A sentence for the log and for the merchant.
pub fn open_secrets(
    keyring: &Keyring,
    endpoint: &str,
    row: &DeliveryEndpoint,
    now: DateTime<Utc>,
) -> Result<EndpointSecrets, String> {
    let secret = |sealed: &[u8]| {
        open_secret(keyring, endpoint, sealed)
            .map_err(|error| format!("the endpoint's signing secret cannot be opened: {error}"))
    };
    let key_pair = |sealed: &[u8]| {
        let seed = keyring
            .unseal(&key_place(endpoint), sealed)
            .map_err(|error| format!("the endpoint's key pair cannot be opened: {error}"))?;
        SigningKeyPair::from_seed(&seed).ok_or_else(|| "the endpoint's key pair is malformed".to_owned())
    };
    let still_signs = row.previous_secret_until.is_some_and(|until| now < until);
    let previous = |sealed: &Option<Vec<u8>>| sealed.clone().filter(|_| still_signs);
    let headers = open_headers(keyring, endpoint, row.custom_headers_sealed.as_deref())
        .map_err(|error| format!("the endpoint's custom headers cannot be opened: {error}"))?;
    Ok(EndpointSecrets {
        secret: secret(&row.secret_sealed)?,
        previous_secret: previous(&row.previous_secret_sealed).as_deref().map(secret).transpose()?,
        key_pair: row.key_seed_sealed.as_deref().map(key_pair).transpose()?,
        previous_key_pair: previous(&row.previous_key_seed_sealed).as_deref().map(key_pair).transpose()?,
        headers: headers.into_iter().collect(),
    })
}

/// Replaces an endpoint's secret, and its key pair if it has one. The old ones sign as well for so many hours; those that
/// a rotation shortly before had replaced stop at once. The answer holds the new secret.
///
/// # Errors
/// `NotFound`, `Invalid` for hours out of bounds, and those of the idempotency key.
pub async fn rotate(app: &App, write: &Write, id: &str, overlap_hours: Option<i64>) -> Result<Answer> {
    let hours = overlap_hours.unwrap_or(OVERLAP_HOURS_DEFAULT);
    if !(0..=OVERLAP_HOURS_MAX).contains(&hours) {
        let message = format!("`overlap_hours` must be between 0 and {OVERLAP_HOURS_MAX}.");
        return Err(Error::invalid("parameter_invalid_integer", "overlap_hours", message));
    }
    let (caller, endpoint_id) = (&write.caller, parse(id)?);
    let answer = write
        .once(app, async |connection, now| {
            let absent = || Error::not_found("webhook_endpoint", id);
            let mut endpoint = endpoints::lock(connection, &caller.merchant_id, caller.livemode, &endpoint_id)
                .await?
                .ok_or_else(absent)?;
            let old = endpoints::sealed(connection, &endpoint_id).await?;
            let secret = SigningSecret::generate();
            let pair = old.key_seed.is_some().then(|| new_key_pair(&app.keyring, endpoint_id.as_str()));
            let overlaps = hours > 0;
            endpoint.previous_secret_until = overlaps.then(|| now + Duration::hours(hours));
            endpoint.public_key = pair.as_ref().map(|(pair, _)| pair.public_key());
            let sealed = Sealed {
                secret: app.keyring.seal(&secret_place(endpoint_id.as_str()), secret.expose().as_bytes()),
                previous_secret: Some(old.secret).filter(|_| overlaps),
                key_seed: pair.map(|(_, sealed)| sealed),
                previous_key_seed: old.key_seed.filter(|_| overlaps),
                custom_headers: old.custom_headers,
            };
            endpoints::save(connection, &endpoint, &sealed).await?;
            Ok((Answer::new(&render(&endpoint, Some(secret.expose().to_owned()), now)), Vec::new()))
        })
        .await?;
    app.endpoint_changed(endpoint_id.as_str());
    Ok(answer)
}
