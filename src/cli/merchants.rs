//! `checkstand merchant`: those who take payments.

use std::path::Path;

use checkstand::domain::email::parse_email;
use checkstand::domain::id::MerchantId;
use checkstand::error::Error;
use checkstand::ops::merchants::{self, NewMerchant};
use checkstand::store::merchants::{self as rows, Merchant};
use checkstand::wire::List;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminOptions, administer};
use super::output::{Failure, Output, Table, fields, time};

/// Merchants listed at most. One who has more uses SQL.
const MERCHANTS_SHOWN_MAX: usize = 1000;

/// `checkstand merchant …`
#[derive(Args, Debug)]
pub struct MerchantCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: MerchantAction,
}

#[derive(Subcommand, Debug)]
enum MerchantAction {
    /// Make a merchant
    #[command(after_help = "\
Examples:
  checkstand merchant create --name \"Corner Coffee\" --support-email help@corner-coffee.example
  checkstand merchant create --name \"Corner Coffee\" --json | jq -r .id")]
    Create(CreateOptions),
    /// List the merchants, newest first
    List,
    /// Show a merchant
    Show {
        /// The merchant, acct_…
        id: String,
    },
}

#[derive(Args, Debug)]
struct CreateOptions {
    /// Name that payers see, at most 100 characters
    #[arg(long)]
    name: String,
    /// Id of your choice, for set-ups that must be repeatable: one that exists is left as it is
    #[arg(long, value_name = "ID", value_parser = merchant_id)]
    id: Option<MerchantId>,
    /// E-mail address that payers who need help see
    #[arg(long, value_name = "EMAIL", value_parser = email)]
    support_email: Option<String>,
    /// Colour of the payment page's buttons, such as #1a7f5a
    #[arg(long, value_name = "COLOR")]
    accent_color: Option<String>,
}

fn merchant_id(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).ok_or_else(|| {
        "an id is acct_ and 26 characters out of 0-9 and a-z without i, l, o and u, the first at most 7".to_owned()
    })
}

fn email(text: &str) -> Result<String, String> {
    parse_email(text).ok_or_else(|| "it is not an e-mail address".to_owned())
}

impl MerchantCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            MerchantAction::Create(create) => {
                let existed = match &create.id {
                    Some(id) => rows::find(app.store.pool(), id).await?.is_some(),
                    None => false,
                };
                let CreateOptions { name, id, support_email, accent_color } = create;
                let new = NewMerchant { id, name, support_email, accent_color };
                let merchant = merchants::create(app, new).await?;
                let note = if existed { "It was there already; nothing was changed.\n" } else { "" };
                show(output, &merchant, note)
            }
            MerchantAction::List => {
                let limit = i64::try_from(MERCHANTS_SHOWN_MAX + 1).unwrap_or(i64::MAX);
                let mut found = rows::list(app.store.pool(), limit).await?;
                let has_more = found.len() > MERCHANTS_SHOWN_MAX;
                found.truncate(MERCHANTS_SHOWN_MAX);
                list(output, &found, has_more)
            }
            MerchantAction::Show { id } => {
                let merchant_id = merchants::find(app, &id).await?;
                let merchant = rows::find(app.store.pool(), &merchant_id).await?;
                show(output, &merchant.ok_or_else(|| Error::not_found("merchant", &id))?, "")
            }
        })
        .await
    }
}

fn to_json(merchant: &Merchant) -> Value {
    json!({
        "id": merchant.id,
        "object": "merchant",
        "name": merchant.name,
        "support_email": merchant.support_email,
        "accent_color": merchant.accent_color,
        "created": merchant.created_at.timestamp(),
    })
}

fn show(output: Output, merchant: &Merchant, note: &str) -> Result<(), Failure> {
    let text = fields(&[
        ("id", merchant.id.clone()),
        ("name", merchant.name.clone()),
        ("support e-mail", merchant.support_email.clone().unwrap_or_default()),
        ("accent colour", merchant.accent_color.clone().unwrap_or_default()),
        ("created", time(merchant.created_at)),
    ]);
    output.show(&format!("{text}{note}"), &to_json(merchant))
}

fn list(output: Output, merchants: &[Merchant], has_more: bool) -> Result<(), Failure> {
    let mut table = Table::new(&["id", "name", "support e-mail", "created"]);
    for merchant in merchants {
        let email = merchant.support_email.clone().unwrap_or_default();
        table.push(vec![merchant.id.clone(), merchant.name.clone(), email, time(merchant.created_at)]);
    }
    let mut text = table.render("There are no merchants yet: make one with `checkstand merchant create`.");
    if has_more {
        text.push_str("There are more; these are the newest.\n");
    }
    let data: Vec<Value> = merchants.iter().map(to_json).collect();
    output.show(&text, &List::new("/merchants", data, has_more))
}
