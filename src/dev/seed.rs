//! What `checkstand dev` finds or makes at every start: a demo merchant with a fixed key, its allowed
//! redirect URLs, and a webhook endpoint that leads to the inbox.
//!
//! The rule: seeding twice changes nothing, except that the endpoint follows the inbox's address. The
//! key is public, so it works from this machine only.

use crate::app::App;
use crate::domain::api_key::SecretKey;
use crate::domain::id::MerchantId;
use crate::domain::money::Currency;
use crate::domain::pricing::{LineInput, price_lines};
use crate::domain::redirect::{AllowedRedirect, WayBack};
use crate::domain::session::{Metadata, Options, WaysBack};
use crate::domain::signature::SigningSecret;
use crate::error::{Error, Result};
use crate::ops::endpoints::{self, EndpointChange, EndpointOptions, NewEndpoint};
use crate::ops::merchants::{self, NewKey, NewMerchant};
use crate::ops::replay::Write;
use crate::ops::sessions::{self, NewSession};
use crate::ops::{Caller, redirect_urls};
use crate::store::{Page, delivery_queue};
use crate::wire::Expand;

/// The demo merchant.
pub const DEMO_MERCHANT_ID: &str = "acct_0000000000000000000000test";

/// The thirty characters of the demo key. With prefix and checksum it is printed in the README.
pub const DEMO_KEY_BODY: &str = "CheckstandDemoKeyLoopbackOnly0";

/// How the inbox's endpoint is found again.
const INBOX_DESCRIPTION: &str = "Webhook inbox of checkstand dev";

/// Where the demo merchant may send payers back to: anything on this machine, and the host that
/// everybody's examples use.
const REDIRECTS: [&str; 3] = ["http://127.0.0.1:*", "http://localhost:*", "https://example.com"];

/// What was found or made.
pub struct Seeded {
    /// The demo key.
    pub secret_key: String,
    /// The inbox's signing secret.
    pub webhook_secret: SigningSecret,
    /// A checkout page with a sample cart.
    pub sample_url: String,
}

/// Finds or makes it all.
///
/// # Errors
/// The database's.
pub async fn seed(app: &App, tools_base: &str) -> Result<Seeded> {
    let merchant_id = MerchantId::parse(DEMO_MERCHANT_ID)
        .ok_or_else(|| Error::Internal("the demo merchant's id is malformed".to_owned()))?;
    let merchant = NewMerchant {
        id: Some(merchant_id.clone()),
        name: "Corner Coffee".to_owned(),
        support_email: Some("help@corner-coffee.example".to_owned()),
        accent_color: Some("#1f6f54".to_owned()),
    };
    merchants::create(app, merchant).await?;
    let key = SecretKey::with_body(DEMO_KEY_BODY, false);
    let new_key =
        NewKey { merchant_id: merchant_id.clone(), name: "Demo key".to_owned(), loopback_only: true, expires_at: None };
    merchants::store_key(app, &key, new_key).await?;
    let caller = Caller { merchant_id, livemode: false };
    let write = Write { caller: caller.clone(), request_id: None, idempotency: None };
    let allowed = redirect_urls::all(app, &caller).await?;
    for url in REDIRECTS {
        if AllowedRedirect::parse(url, false).is_ok_and(|entry| !allowed.contains(&entry)) {
            redirect_urls::create(app, &write, url).await?;
        }
    }
    let webhook_secret = inbox_endpoint(app, &write, tools_base).await?;
    let sample_url = sample_session(app, &write, tools_base).await?;
    Ok(Seeded { secret_key: key.expose().to_owned(), webhook_secret, sample_url })
}

async fn inbox_endpoint(app: &App, write: &Write, tools_base: &str) -> Result<SigningSecret> {
    let url = format!("{tools_base}/webhooks");
    let page = Page { limit: 100, starting_after: None, ending_before: None };
    let known = endpoints::list(app, &write.caller, &page).await?;
    let ours = known.data.into_iter().find(|endpoint| endpoint.description.as_deref() == Some(INBOX_DESCRIPTION));
    let id = match ours {
        Some(endpoint) => {
            if endpoint.url != url || endpoint.status != "enabled" {
                let change = EndpointChange { url: Some(url), disabled: Some(false), ..EndpointChange::default() };
                endpoints::update(app, write, &endpoint.id, change, |_| Ok(())).await?;
            }
            endpoint.id
        }
        None => {
            let new = NewEndpoint {
                url,
                enabled_events: vec!["*".to_owned()],
                description: Some(INBOX_DESCRIPTION.to_owned()),
                metadata: Metadata::new(),
                api_version: None,
                options: EndpointOptions::default(),
            };
            field(&endpoints::create(app, write, new).await?.body, "id")?
        }
    };
    let mut connection = app.store.pool().acquire().await?;
    let stored = delivery_queue::endpoint(&mut connection, &id)
        .await?
        .ok_or_else(|| Error::Internal("the inbox's endpoint vanished".to_owned()))?;
    endpoints::open_secret(&app.keyring, &id, &stored.secret_sealed).map_err(|_| {
        Error::Unavailable("the webhook inbox's secret does not open with the secret keys of this data directory: start once with --reset".to_owned())
    })
}

async fn sample_session(app: &App, write: &Write, tools_base: &str) -> Result<String> {
    let euro = Currency::parse("eur").ok_or_else(|| Error::Internal("eur is not in the currency table".to_owned()))?;
    let line = |name: &str, description: &str, unit_amount: i64, quantity: i64| LineInput {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        images: Vec::new(),
        product_metadata: Metadata::new(),
        currency: euro,
        unit_amount: Some(unit_amount),
        unit_amount_decimal: None,
        quantity: Some(quantity),
    };
    let lines = vec![
        line("House blend, whole beans", "250 g, roasted on Monday", 1299, 2),
        line("Stoneware mug", "Holds 300 ml", 1800, 1),
    ];
    let cart = price_lines(lines).map_err(|error| Error::Internal(format!("the sample cart: {error}")))?;
    let way = |path: &str| Some(WayBack::from_stored(format!("{tools_base}{path}")));
    let new = NewSession {
        cart,
        ways_back: WaysBack {
            success_url: way("/shop/thanks?session_id={CHECKOUT_SESSION_ID}"),
            cancel_url: way("/shop?cancelled=1"),
            ..WaysBack::default()
        },
        client_reference_id: Some("sample".to_owned()),
        customer: None,
        customer_email: None,
        target_user_email: None,
        metadata: Metadata::new(),
        options: Options { ui_mode: "hosted_page".to_owned(), ..Options::default() },
        expires_at: Some(app.clock.now() + app.settings.session_lifetime_max),
    };
    field(&sessions::create(app, write, new, &Expand::default()).await?.body, "url")
}

fn field(body: &str, name: &str) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(body)
        .map_err(|error| Error::Internal(format!("an answer of ours is not JSON: {error}")))?;
    value[name].as_str().map(str::to_owned).ok_or_else(|| Error::Internal(format!("an answer of ours has no `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_merchant_and_key_are_well_formed() {
        assert!(MerchantId::parse(DEMO_MERCHANT_ID).is_some());
        let key = SecretKey::with_body(DEMO_KEY_BODY, false);
        assert!(SecretKey::parse(key.expose()).is_ok(), "{}", key.expose());
    }
}
