//! Merchants and their API keys, as the operator manages them.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::domain::api_key::SecretKey;
use crate::domain::id::{ApiKeyId, MerchantId};
use crate::domain::unseen::{Lines, first_unseen};
use crate::error::{Error, Result};
use crate::store::merchants::{self, ApiKey, Merchant};

/// Longest name of a merchant or key: it stands in page titles and mails.
const NAME_CHARS_MAX: usize = 100;

/// A merchant as the operator asks for it.
#[derive(Debug, Clone)]
pub struct NewMerchant {
    /// A chosen id, for set-ups that must be repeatable; a new one otherwise.
    pub id: Option<MerchantId>,
    /// Shown to payers.
    pub name: String,
    /// Shown to payers who need help.
    pub support_email: Option<String>,
    /// `#rrggbb`.
    pub accent_color: Option<String>,
}

fn check_name(name: &str) -> Result<()> {
    let is_seen = first_unseen(name, Lines::One).is_none();
    let fine = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX && is_seen;
    if fine {
        return Ok(());
    }
    let message =
        format!("`name` must be 1 to {NAME_CHARS_MAX} characters, none of which hides or turns the text round it.");
    Err(Error::invalid("parameter_invalid", "name", message))
}

fn is_color(text: &str) -> bool {
    text.len() == 7 && text.starts_with('#') && text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit())
}

/// Makes a merchant; one with the chosen id is left as it is.
///
/// # Errors
/// `Invalid`, and the database's.
pub async fn create(app: &App, new: NewMerchant) -> Result<Merchant> {
    check_name(&new.name)?;
    if new.accent_color.as_deref().is_some_and(|color| !is_color(color)) {
        return Err(Error::invalid("parameter_invalid", "accent_color", "`accent_color` must look like #1a7f5a."));
    }
    let now = app.clock.now();
    let id = new.id.unwrap_or_else(|| MerchantId::generate(now));
    let merchant = Merchant {
        id: id.to_string(),
        name: new.name,
        support_email: new.support_email,
        accent_color: new.accent_color.map(|color| color.to_ascii_lowercase()),
        created_at: now,
    };
    if merchants::insert(app.store.pool(), &merchant).await? {
        return Ok(merchant);
    }
    merchants::find(app.store.pool(), &id).await?.ok_or_else(|| Error::not_found("merchant", id.as_str()))
}

/// A merchant by id.
///
/// # Errors
/// `NotFound`.
pub async fn find(app: &App, id: &str) -> Result<MerchantId> {
    let absent = || Error::not_found("merchant", id);
    let parsed = MerchantId::parse(id).ok_or_else(absent)?;
    merchants::find(app.store.pool(), &parsed).await?.ok_or_else(absent)?;
    Ok(parsed)
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// The operator's name for it.
    pub name: String,
    /// Whether it works from this machine only.
    pub loopback_only: bool,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Stores a key, of which only the hash is kept. The same key again changes nothing.
///
/// # Errors
/// `Invalid`, and the database's.
pub async fn store_key(app: &App, key: &SecretKey, new: NewKey) -> Result<ApiKey> {
    check_name(&new.name)?;
    let now = app.clock.now();
    let row = ApiKey {
        id: ApiKeyId::generate(now).to_string(),
        merchant_id: new.merchant_id.to_string(),
        livemode: key.livemode(),
        name: new.name,
        last4: key.last4().to_owned(),
        loopback_only: new.loopback_only,
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    let hash = key.hash();
    if merchants::insert_key(app.store.pool(), &row, &hash).await? {
        return Ok(row);
    }
    merchants::find_key(app.store.pool(), &hash).await?.ok_or_else(|| Error::Internal("a key vanished".to_owned()))
}
