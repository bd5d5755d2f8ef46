//! `checkstand key`: what a merchant's backend shows at the API.
//!
//! The rule: a key is printed once, when it is made; afterwards not even we know it.

use std::path::Path;

use checkstand::domain::api_key::SecretKey;
use checkstand::domain::id::ApiKeyId;
use checkstand::error::Error;
use checkstand::ops::merchants::{self, NewKey};
use checkstand::store::merchants::{self as rows, ApiKey};
use checkstand::wire::List;
use chrono::{DateTime, Duration, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminOptions, administer};
use super::output::{Failure, Output, Table, fields, mode, time, yes_or_no};

/// Keys listed at most.
const KEYS_SHOWN_MAX: usize = 1000;

/// `checkstand key …`
#[derive(Args, Debug)]
pub struct KeyCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Subcommand, Debug)]
enum KeyAction {
    /// Make a key and print it, this once
    #[command(after_help = "\
Examples:
  checkstand key create --merchant acct_… --name \"Shop server\"
  checkstand key create --merchant acct_… --live --expires-in-days 365
  checkstand key create --merchant acct_… --json | jq -r .secret")]
    Create(CreateOptions),
    /// List a merchant's keys of both modes, newest first
    List {
        /// The merchant, acct_…
        #[arg(long, value_name = "ID")]
        merchant: String,
    },
    /// Revoke a key; running gateways refuse it within seconds
    Revoke {
        /// The key's id, key_…
        #[arg(value_name = "KEY_ID")]
        id: String,
    },
}

#[derive(Args, Debug)]
struct CreateOptions {
    /// The merchant, acct_…
    #[arg(long, value_name = "ID")]
    merchant: String,
    /// A key for live mode; for test mode unless given
    #[arg(long)]
    live: bool,
    /// Your name for the key, such as the server that uses it
    #[arg(long, default_value = "unnamed")]
    name: String,
    /// Days after which the key stops working by itself; never unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=3650))]
    expires_in_days: Option<i64>,
    /// Let the key work only for programs on the gateway's own machine
    #[arg(long)]
    loopback_only: bool,
}

impl KeyCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            KeyAction::Create(create) => {
                let new = NewKey {
                    merchant_id: merchants::find(app, &create.merchant).await?,
                    name: create.name,
                    loopback_only: create.loopback_only,
                    expires_at: create.expires_in_days.map(|days| app.clock.now() + Duration::days(days)),
                };
                let key = SecretKey::generate(create.live);
                let row = merchants::store_key(app, &key, new).await?;
                show_new(output, &key, &row, app.clock.now())
            }
            KeyAction::List { merchant } => {
                let merchant_id = merchants::find(app, &merchant).await?;
                let limit = i64::try_from(KEYS_SHOWN_MAX + 1).unwrap_or(i64::MAX);
                let mut keys = rows::list_keys(app.store.pool(), &merchant_id, limit).await?;
                let has_more = keys.len() > KEYS_SHOWN_MAX;
                keys.truncate(KEYS_SHOWN_MAX);
                list(output, &keys, has_more, app.clock.now())
            }
            KeyAction::Revoke { id } => {
                let absent = || Error::not_found("unrevoked API key", &id);
                let key_id = ApiKeyId::parse(&id).ok_or_else(absent)?;
                if !rows::revoke_key(app.store.pool(), &key_id, app.clock.now()).await? {
                    return Err(absent().into());
                }
                let text = format!("{key_id} is revoked; gateways that are running refuse it within seconds.");
                output.show(&text, &json!({ "id": id, "object": "api_key", "revoked": true }))
            }
        })
        .await
    }
}

/// What the key is good for right now.
fn status(key: &ApiKey, now: DateTime<Utc>) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(expires_at)) if expires_at <= now => "expired",
        _ => "active",
    }
}

fn to_json(key: &ApiKey, now: DateTime<Utc>) -> Value {
    json!({
        "id": key.id,
        "object": "api_key",
        "created": key.created_at.timestamp(),
        "expires_at": key.expires_at.map(|at| at.timestamp()),
        "last4": key.last4,
        "livemode": key.livemode,
        "loopback_only": key.loopback_only,
        "merchant": key.merchant_id,
        "name": key.name,
        "revoked_at": key.revoked_at.map(|at| at.timestamp()),
        "status": status(key, now),
    })
}

fn show_new(output: Output, key: &SecretKey, row: &ApiKey, now: DateTime<Utc>) -> Result<(), Failure> {
    let text = fields(&[
        ("key", key.expose().to_owned()),
        ("id", row.id.clone()),
        ("name", row.name.clone()),
        ("merchant", row.merchant_id.clone()),
        ("mode", mode(row.livemode).to_owned()),
        ("this machine only", yes_or_no(row.loopback_only).to_owned()),
        ("expires", row.expires_at.map_or_else(|| "never".to_owned(), time)),
    ]);
    let note = "This is the only time that the key is shown: only a hash of it is kept.";
    let mut value = to_json(row, now);
    value["secret"] = key.expose().into();
    output.show(&format!("{text}\n{note}"), &value)
}

fn list(output: Output, keys: &[ApiKey], has_more: bool, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut table = Table::new(&["id", "mode", "ends in", "status", "this machine only", "created", "expires", "name"]);
    for key in keys {
        table.push(vec![
            key.id.clone(),
            mode(key.livemode).to_owned(),
            key.last4.clone(),
            status(key, now).to_owned(),
            yes_or_no(key.loopback_only).to_owned(),
            time(key.created_at),
            key.expires_at.map_or_else(|| "never".to_owned(), time),
            key.name.clone(),
        ]);
    }
    let mut text = table.render("This merchant has no keys yet: make one with `checkstand key create`.");
    if has_more {
        text.push_str("There are more; these are the newest.\n");
    }
    let data: Vec<Value> = keys.iter().map(|key| to_json(key, now)).collect();
    output.show(&text, &List::new("/keys", data, has_more))
}
