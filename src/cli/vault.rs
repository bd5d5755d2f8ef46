//! `checkstand vault`: the keys that seal the numbers of kept cards.
//!
//! The rule: keys are shown by name only, and nothing here ever shows a number.

use std::path::Path;

use checkstand::ops::card_vault;
use clap::{Args, Subcommand};
use serde_json::json;

use super::admin::{AdminOptions, administer};
use super::output::{Failure, Table, yes_or_no};

/// `checkstand vault …`
#[derive(Args, Debug)]
pub struct VaultCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: VaultAction,
}

#[derive(Subcommand, Debug)]
enum VaultAction {
    /// List the keys, configured or in use, and how many card numbers each seals
    Keys,
    /// Seal all card numbers anew under the first key
    ///
    /// Safe to cut off and to repeat, and while gateways run, once all of them know the new key.
    Rotate,
    /// Erase the card numbers that a lost key sealed
    ///
    /// The cards stay, as far as the provider that charged them remembers them.
    Forget {
        /// The key's name, as `checkstand vault keys` shows it
        #[arg(value_name = "KEY")]
        key: String,
    },
}

impl VaultCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            VaultAction::Keys => {
                let keys = card_vault::keys(app).await?;
                let mut table = Table::new(&["key", "card numbers", "configured", "seals"]);
                for key in &keys {
                    table.push(vec![
                        key.key.clone(),
                        key.numbers.to_string(),
                        yes_or_no(key.is_configured).to_owned(),
                        yes_or_no(key.is_current).to_owned(),
                    ]);
                }
                let rows: Vec<_> = keys
                    .iter()
                    .map(|key| json!({ "key": key.key, "numbers": key.numbers, "configured": key.is_configured, "current": key.is_current }))
                    .collect();
                output.show(&table.render("The card vault is off and empty."), &json!({ "object": "list", "data": rows }))
            }
            VaultAction::Rotate => {
                let done = card_vault::rotate(app).await?;
                let value = json!({ "sealed": done.sealed, "stuck": done.stuck });
                let text = format!("{} card numbers were sealed anew under the first key.", done.sealed);
                output.show(&text, &value)?;
                if done.stuck > 0 {
                    let sentence = format!(
                        "{} card numbers do not open with any configured key and were left as they are; see `checkstand vault keys`",
                        done.stuck
                    );
                    return Err(sentence.into());
                }
                Ok(())
            }
            VaultAction::Forget { key } => {
                let erased = card_vault::forget(app, &key).await?;
                let text = format!("{erased} card numbers were erased; their cards stay as far as a provider remembers them.");
                output.show(&text, &json!({ "key": key, "erased": erased }))
            }
        })
        .await
    }
}
