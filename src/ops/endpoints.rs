//! Webhook endpoints, as merchants and operators manage them.
//!
//! The rule: the secret is made here, sealed before it is stored, and shown in one answer only. What else is
//! secret is `endpoint_secrets`' business.

use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use super::Caller;
use super::endpoint_secrets::{HeadersChange, change_headers, new_key_pair};
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::address::{UrlPolicy, judge_webhook_url};
use crate::domain::endpoint_health::DisabledReason;
use crate::domain::id::EndpointId;
use crate::domain::session::Metadata;
use crate::domain::signature::SigningSecret;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::store::endpoints::{self, Endpoint, Sealed};
use crate::store::{Page, endpoint_health};
use crate::wire::webhook_endpoint::WebhookEndpoint;
use crate::wire::{Deleted, List};

/// An endpoint as a merchant asks for it.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Where deliveries go.
    pub url: String,
    /// `*`, event types, or prefixes such as `checkout.session.*`.
    pub enabled_events: Vec<String>,
    /// The merchant's words.
    pub description: Option<String>,
    /// The merchant's own data.
    pub metadata: Metadata,
    /// The API version asked for.
    pub api_version: Option<String>,
    /// How it is delivered to.
    pub options: EndpointOptions,
}

/// How an endpoint is delivered to; `None` leaves what there is, and the inner `None` clears it.
#[derive(Debug, Default)]
pub struct EndpointOptions {
    /// The merchant's own headers.
    pub custom_headers: HeadersChange,
    /// Attempts that may begin within a second, 1 to 1000.
    pub events_per_second: Option<Option<i64>>,
    /// Attempts at once, 1 to 64.
    pub concurrency: Option<Option<i64>>,
    /// Whether the events of one session come one after the other.
    pub ordered: Option<bool>,
    /// Whether an Ed25519 key pair signs beside the secret.
    pub ed25519: Option<bool>,
}

/// Most attempts within a second that a merchant may ask for; beyond it is no bound worth its cost.
const EVENTS_PER_SECOND_MAX: i32 = 1000;

/// Most attempts at once that a merchant may ask for. The operator's bound holds beside it.
const CONCURRENCY_MAX: i32 = 64;

fn bounded(param: &str, value: Option<i64>, most: i32) -> Result<Option<i32>> {
    let Some(value) = value else { return Ok(None) };
    let fits = i32::try_from(value).ok().filter(|value| (1..=most).contains(value));
    let refused = || {
        let message = format!("`{param}` must be between 1 and {most}; empty for no bound.");
        Error::invalid("parameter_invalid_integer", param, message)
    };
    Ok(Some(fits.ok_or_else(refused)?))
}

/// Applies options to an endpoint and to what is sealed of it.
fn apply(app: &App, options: &EndpointOptions, endpoint: &mut Endpoint, sealed: &mut Sealed) -> Result<()> {
    let (keyring, id) = (&app.keyring, endpoint.id.as_str());
    let old = sealed.custom_headers.as_deref();
    (endpoint.custom_header_names, sealed.custom_headers) = change_headers(keyring, id, old, &options.custom_headers)?;
    if let Some(events_per_second) = options.events_per_second {
        endpoint.events_per_second = bounded("events_per_second", events_per_second, EVENTS_PER_SECOND_MAX)?;
    }
    if let Some(concurrency) = options.concurrency {
        endpoint.concurrency = bounded("concurrency", concurrency, CONCURRENCY_MAX)?;
    }
    endpoint.ordered = options.ordered.unwrap_or(endpoint.ordered);
    match options.ed25519 {
        Some(true) if sealed.key_seed.is_none() => {
            let (pair, seed) = new_key_pair(keyring, id);
            (endpoint.public_key, sealed.key_seed) = (Some(pair.public_key()), Some(seed));
        }
        Some(false) => {
            (endpoint.public_key, sealed.key_seed, sealed.previous_key_seed) = (None, None, None);
        }
        _ => {}
    }
    Ok(())
}

/// What an update may change; `None` leaves it.
#[derive(Debug, Default)]
pub struct EndpointChange {
    /// Where deliveries go.
    pub url: Option<String>,
    /// What is delivered.
    pub enabled_events: Option<Vec<String>>,
    /// The merchant's words; the inner `None` clears them.
    pub description: Option<Option<String>>,
    /// Switches deliveries off or on.
    pub disabled: Option<bool>,
    /// How it is delivered to.
    pub options: EndpointOptions,
}

/// Where an endpoint's secret is sealed.
pub fn secret_place(endpoint: &str) -> String {
    format!("webhook_endpoint/secret/{endpoint}")
}

/// The endpoint as it is shown at `now`.
pub(super) fn render(endpoint: &Endpoint, secret: Option<String>, now: DateTime<Utc>) -> WebhookEndpoint {
    WebhookEndpoint {
        id: endpoint.id.to_string(),
        object: "webhook_endpoint",
        api_version: endpoint.api_version.clone(),
        application: None,
        concurrency: endpoint.concurrency,
        created: endpoint.created_at.timestamp(),
        custom_header_names: endpoint.custom_header_names.clone(),
        description: endpoint.description.clone(),
        disabled_reason: endpoint.disabled_reason.clone(),
        enabled_events: endpoint.enabled_events.clone(),
        events_per_second: endpoint.events_per_second,
        livemode: endpoint.livemode,
        metadata: endpoint.metadata.clone(),
        ordered: endpoint.ordered,
        previous_secret_expires_at: endpoint.previous_secret_until.filter(|at| *at > now).map(|at| at.timestamp()),
        public_key: endpoint.public_key.clone(),
        secret,
        status: if endpoint.enabled { "enabled" } else { "disabled" }.to_owned(),
        url: endpoint.url.clone(),
    }
}

fn check_url(app: &App, caller: &Caller, url: &str) -> Result<()> {
    let policy = UrlPolicy { livemode: caller.livemode, allow_loopback: app.settings.loopback_webhooks };
    judge_webhook_url(url, policy).map(|_| ()).map_err(|message| Error::invalid("url_invalid", "url", message))
}

/// Makes an endpoint; the answer holds its secret.
///
/// # Errors
/// `Invalid` for a URL that must not be delivered to, and beyond the bound on endpoints.
pub async fn create(app: &App, write: &Write, new: NewEndpoint) -> Result<Answer> {
    check_url(app, &write.caller, &new.url)?;
    write
        .once(app, async |connection, now| {
            let secret = SigningSecret::generate();
            let mut endpoint = Endpoint {
                id: EndpointId::generate(now),
                merchant_id: write.caller.merchant_id.clone(),
                livemode: write.caller.livemode,
                url: new.url,
                enabled_events: new.enabled_events,
                description: new.description,
                metadata: new.metadata,
                enabled: true,
                disabled_reason: None,
                api_version: new.api_version,
                custom_header_names: Vec::new(),
                events_per_second: None,
                concurrency: None,
                ordered: false,
                public_key: None,
                previous_secret_until: None,
                created_at: now,
            };
            let mut sealed = Sealed {
                secret: app.keyring.seal(&secret_place(endpoint.id.as_str()), secret.expose().as_bytes()),
                previous_secret: None,
                key_seed: None,
                previous_key_seed: None,
                custom_headers: None,
            };
            apply(app, &new.options, &mut endpoint, &mut sealed)?;
            let endpoints_max = app.settings.webhook_endpoints_max;
            if !endpoints::insert(connection, &endpoint, &sealed, i64::from(endpoints_max)).await? {
                let message = format!(
                    "At most {endpoints_max} webhook endpoints are kept; delete one that is not used any more."
                );
                return Err(Error::invalid("webhook_endpoints_limit", "url", message));
            }
            Ok((Answer::new(&render(&endpoint, Some(secret.expose().to_owned()), now)), Vec::new()))
        })
        .await
}

/// Opens an endpoint's sealed secret, for the worker.
///
/// # Errors
/// A sentence for the log.
pub fn open_secret(keyring: &Keyring, endpoint: &str, sealed: &[u8]) -> Result<SigningSecret, String> {
    let plain = keyring.unseal(&secret_place(endpoint), sealed).map_err(|error| error.to_string())?;
    let text = Zeroizing::new(String::from_utf8(plain.to_vec()).map_err(|_| "the secret is not text".to_owned())?);
    SigningSecret::parse(&text).ok_or_else(|| "the secret is malformed".to_owned())
}

pub(super) fn parse(id: &str) -> Result<EndpointId> {
    EndpointId::parse(id).ok_or_else(|| Error::not_found("webhook_endpoint", id))
}

/// One endpoint, without its secret.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<WebhookEndpoint> {
    let found = endpoints::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parse(id)?).await?;
    Ok(render(&found.ok_or_else(|| Error::not_found("webhook_endpoint", id))?, None, app.clock.now()))
}

/// A page of endpoints.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, page: &Page) -> Result<List<WebhookEndpoint>> {
    let mut rows = endpoints::list(app.store.pool(), &caller.merchant_id, caller.livemode, page).await?;
    let (has_more, now) = (page.cut(&mut rows), app.clock.now());
    Ok(List::new("/v1/webhook_endpoints", rows.iter().map(|row| render(row, None, now)).collect(), has_more))
}

/// Changes an endpoint.
///
/// # Errors
/// `NotFound`, `Invalid`, and those of the idempotency key.
pub async fn update(
    app: &App,
    write: &Write,
    id: &str,
    change: EndpointChange,
    metadata: impl FnOnce(&mut Metadata) -> Result<()>,
) -> Result<Answer> {
    let endpoint_id = parse(id)?;
    if let Some(url) = &change.url {
        check_url(app, &write.caller, url)?;
    }
    let wants_no_order = change.options.ordered == Some(false);
    let caller = &write.caller;
    let answer = write
        .once(app, async |connection, now| {
            let mut endpoint = endpoints::lock(connection, &caller.merchant_id, caller.livemode, &endpoint_id)
                .await?
                .ok_or_else(|| Error::not_found("webhook_endpoint", id))?;
            let mut sealed = endpoints::sealed(connection, &endpoint_id).await?;
            metadata(&mut endpoint.metadata)?;
            apply(app, &change.options, &mut endpoint, &mut sealed)?;
            let moves = change.url.as_ref().is_some_and(|url| *url != endpoint.url);
            if moves || change.disabled == Some(false) {
                // What failed there, or then, says nothing of now.
                endpoint_health::forget(connection, endpoint_id.as_str()).await?;
            }
            endpoint.url = change.url.unwrap_or(endpoint.url);
            endpoint.enabled_events = change.enabled_events.unwrap_or(endpoint.enabled_events);
            endpoint.description = change.description.unwrap_or(endpoint.description);
            match change.disabled {
                Some(true) if endpoint.enabled => {
                    endpoint.enabled = false;
                    endpoint.disabled_reason = Some(DisabledReason::Requested.word().to_owned());
                }
                Some(false) => (endpoint.enabled, endpoint.disabled_reason) = (true, None),
                _ => {}
            }
            endpoints::save(connection, &endpoint, &sealed).await?;
            if wants_no_order {
                // Nothing that is delivered from now on tells those that wait behind it.
                endpoint_health::unpark_all(connection, &endpoint_id, now).await?;
            }
            Ok((Answer::new(&render(&endpoint, None, now)), Vec::new()))
        })
        .await?;
    app.endpoint_changed(endpoint_id.as_str());
    if wants_no_order {
        app.deliveries_are_due();
    }
    Ok(answer)
}

/// Removes an endpoint and what is still owed to it.
///
/// # Errors
/// `NotFound`.
pub async fn delete(app: &App, caller: &Caller, id: &str) -> Result<Deleted> {
    let endpoint_id = parse(id)?;
    let mut transaction = app.store.begin().await?;
    if !endpoints::delete(&mut transaction, &caller.merchant_id, caller.livemode, &endpoint_id).await? {
        return Err(Error::not_found("webhook_endpoint", id));
    }
    app.store.commit(transaction).await?;
    app.endpoint_changed(endpoint_id.as_str());
    Ok(Deleted { id: endpoint_id.to_string(), object: "webhook_endpoint", deleted: true })
}
