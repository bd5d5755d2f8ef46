//! `checkstand redirect-url`: the allow-list of places that payers may be sent back to.

use std::path::Path;

use checkstand::ops::redirect_urls;
use checkstand::wire::List;
use checkstand::wire::redirect_url::RedirectUrl;
use clap::{Args, Subcommand};

use super::admin::{AdminOptions, Scope, administer, answered, whole_list, write};
use super::output::{Failure, Output, Table, mode, text_of, unix_time};

/// `checkstand redirect-url …`
#[derive(Args, Debug)]
pub struct RedirectUrlCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: RedirectUrlAction,
}

#[derive(Subcommand, Debug)]
enum RedirectUrlAction {
    /// Allow a URL and everything below it for new sessions
    #[command(after_help = "\
Examples:
  checkstand redirect-url add --merchant acct_… --live https://shop.example
  checkstand redirect-url add --merchant acct_… https://staging.shop.example/return
  checkstand redirect-url add --merchant acct_… 'http://localhost:*'")]
    Add {
        #[command(flatten)]
        scope: Scope,
        /// Origin with an optional path; in test mode also http on this machine, with :* for any port
        url: String,
    },
    /// List the allowed URLs, newest first
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Disallow a URL for new sessions; sessions made before keep theirs
    Remove {
        #[command(flatten)]
        scope: Scope,
        /// The entry, rurl_…
        id: String,
    },
}

impl RedirectUrlCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            RedirectUrlAction::Add { scope, url } => {
                let made = redirect_urls::create(app, &write(scope.caller(app).await?), &url).await?;
                let made = answered(&made)?;
                output.show(&format!("{} allows {}", text_of(&made, "id"), text_of(&made, "url")), &made)
            }
            RedirectUrlAction::List { scope } => {
                list(output, &redirect_urls::list(app, &scope.caller(app).await?, &whole_list()).await?)
            }
            RedirectUrlAction::Remove { scope, id } => {
                let removed = redirect_urls::delete(app, &scope.caller(app).await?, &id).await?;
                output.show(&format!("{} is removed.", removed.id), &removed)
            }
        })
        .await
    }
}

fn list(output: Output, found: &List<RedirectUrl>) -> Result<(), Failure> {
    let mut table = Table::new(&["id", "mode", "created", "url"]);
    for entry in &found.data {
        let mode = mode(entry.livemode).to_owned();
        table.push(vec![entry.id.clone(), mode, unix_time(entry.created), entry.url.clone()]);
    }
    let when_empty = "No redirect URL is allowed in this mode: add one with `checkstand redirect-url add`.";
    output.show(&table.render(when_empty), found)
}
