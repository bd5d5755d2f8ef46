//! Webhook endpoints, as merchants and operators manage them.
//!
//! The rule: the secret is made here, sealed before it is stored, and shown in one answer only.

use zeroize::Zeroizing;

use super::Caller;
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::address::{UrlPolicy, judge_webhook_url};
use crate::domain::id::EndpointId;
use crate::domain::session::Metadata;
use crate::domain::signature::SigningSecret;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::store::Page;
use crate::store::endpoints::{self, Endpoint};
use crate::wire::webhook_endpoint::WebhookEndpoint;
use crate::wire::{Deleted, List};

/// An endpoint as a merchant asks for it.
#[derive(Debug, Clone)]
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
}

/// Where an endpoint's secret is sealed.
pub fn secret_place(endpoint: &str) -> String {
    format!("webhook_endpoint/secret/{endpoint}")
}

fn render(endpoint: &Endpoint, secret: Option<String>) -> WebhookEndpoint {
    WebhookEndpoint {
        id: endpoint.id.to_string(),
        object: "webhook_endpoint",
        api_version: endpoint.api_version.clone(),
        application: None,
        created: endpoint.created_at.timestamp(),
        description: endpoint.description.clone(),
        enabled_events: endpoint.enabled_events.clone(),
        livemode: endpoint.livemode,
        metadata: endpoint.metadata.clone(),
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
            let endpoint = Endpoint {
                id: EndpointId::generate(now),
                merchant_id: write.caller.merchant_id.clone(),
                livemode: write.caller.livemode,
                url: new.url,
                enabled_events: new.enabled_events,
                description: new.description,
                metadata: new.metadata,
                enabled: true,
                api_version: new.api_version,
                created_at: now,
            };
            let sealed = app.keyring.seal(&secret_place(endpoint.id.as_str()), secret.expose().as_bytes());
            let endpoints_max = app.settings.webhook_endpoints_max;
            if !endpoints::insert(connection, &endpoint, &sealed, i64::from(endpoints_max)).await? {
                let message = format!(
                    "At most {endpoints_max} webhook endpoints are kept; delete one that is not used any more."
                );
                return Err(Error::invalid("webhook_endpoints_limit", "url", message));
            }
            Ok((Answer::new(&render(&endpoint, Some(secret.expose().to_owned()))), Vec::new()))
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

fn parse(id: &str) -> Result<EndpointId> {
    EndpointId::parse(id).ok_or_else(|| Error::not_found("webhook_endpoint", id))
}

/// One endpoint, without its secret.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<WebhookEndpoint> {
    let found = endpoints::find(app.store.pool(), &caller.merchant_id, caller.livemode, &parse(id)?).await?;
    Ok(render(&found.ok_or_else(|| Error::not_found("webhook_endpoint", id))?, None))
}

/// A page of endpoints.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, page: &Page) -> Result<List<WebhookEndpoint>> {
    let mut rows = endpoints::list(app.store.pool(), &caller.merchant_id, caller.livemode, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/webhook_endpoints", rows.iter().map(|row| render(row, None)).collect(), has_more))
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
    let caller = &write.caller;
    write
        .once(app, async |connection, _| {
            let mut endpoint = endpoints::lock(connection, &caller.merchant_id, caller.livemode, &endpoint_id)
                .await?
                .ok_or_else(|| Error::not_found("webhook_endpoint", id))?;
            metadata(&mut endpoint.metadata)?;
            endpoint.url = change.url.unwrap_or(endpoint.url);
            endpoint.enabled_events = change.enabled_events.unwrap_or(endpoint.enabled_events);
            endpoint.description = change.description.unwrap_or(endpoint.description);
            endpoint.enabled = change.disabled.map_or(endpoint.enabled, |disabled| !disabled);
            endpoints::save(connection, &endpoint).await?;
            Ok((Answer::new(&render(&endpoint, None)), Vec::new()))
        })
        .await
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
    Ok(Deleted { id: endpoint_id.to_string(), object: "webhook_endpoint", deleted: true })
}
