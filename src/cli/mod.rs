//! The command line: every command and where it is carried out.
//!
//! The rule: a command parses, calls the library and prints; it decides nothing itself. The doc
//! comments on commands and options are their help texts. Each subject has a file of its own.

mod admin;
mod api_client;
mod audit;
mod dev;
mod endpoints;
mod events;
mod health;
mod keys;
mod listen;
mod merchants;
mod output;
mod process;
mod redirect_urls;
mod sessions;
mod trigger;
mod vault;

use std::path::{Path, PathBuf};

use checkstand::config::Config;
use clap::{Parser, Subcommand};

use self::admin::AdminOptions;
use self::output::Failure;

const EXAMPLES: &str = "\
Examples:
  checkstand dev                                      everything on this machine, with a demo shop
  checkstand migrate && checkstand serve              production, with DATABASE_URL set
  checkstand merchant create --name \"Corner Coffee\"
  checkstand key create --merchant acct_…
  checkstand event list --merchant acct_… --failed    what did not arrive
  checkstand audit                                    whether the books are right
  checkstand listen --forward-to http://localhost:3000/webhooks

`checkstand COMMAND --help` tells more about a command.";

/// A self-hosted gateway for hosted checkout sessions.
///
/// Settings come from the defaults in the binary, then from the file given with --config, then from
/// the environment (CHECKSTAND_… and DATABASE_URL), each overriding the one before.
#[derive(Parser, Debug)]
#[command(name = "checkstand", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// File with settings, in TOML
    #[arg(long, global = true, env = "CHECKSTAND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run everything on this machine, with a database, a demo shop and a webhook inbox of its own
    Dev(dev::DevOptions),
    /// Serve merchants and payers, and deliver webhooks
    Serve(process::ServeOptions),
    /// Deliver webhooks and end overdue sessions, without serving anything
    Worker,
    /// Bring the database's schema up to date
    Migrate(AdminOptions),
    /// Ask a running gateway whether it is ready; exits with 0 when it is
    Health(health::HealthOptions),
    /// Check that the books are right; exits with 0 when they are, 1 when not, 2 when it cannot look
    Audit(audit::AuditOptions),
    /// Print the OpenAPI document of the API
    Openapi,
    /// Look after the settings
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Make and list merchants
    Merchant(merchants::MerchantCommand),
    /// Make, list and revoke API keys
    Key(keys::KeyCommand),
    /// Manage where payers may be sent back to
    RedirectUrl(redirect_urls::RedirectUrlCommand),
    /// Manage webhook endpoints
    Endpoint(endpoints::EndpointCommand),
    /// Look at checkout sessions and expire them
    Session(sessions::SessionCommand),
    /// Look at events and send them again
    Event(events::EventCommand),
    /// Bring events to a program on this machine, as they happen
    Listen(listen::ListenOptions),
    /// Make an event happen in test mode
    Trigger(trigger::TriggerOptions),
    /// Look after the keys that seal the numbers of kept cards
    Vault(vault::VaultCommand),
}

#[derive(Subcommand, Debug)]
enum ConfigAction {
    /// Check the settings as `serve` would, without starting anything
    Check,
}

/// Carries out a command.
///
/// # Errors
/// One sentence for the person at the terminal.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    // Compose files and unit files pass a variable that is not set on as an empty one.
    let config = arguments.config.filter(|path| !path.as_os_str().is_empty());
    let file = config.as_deref();
    match arguments.command {
        Command::Dev(options) => dev::run(options, config).await,
        Command::Serve(options) => process::serve(file, options).await,
        Command::Worker => process::work(file).await,
        Command::Migrate(options) => process::migrate(file, &options).await,
        Command::Health(options) => health::ask(file, options).await,
        Command::Audit(options) => audit::run(file, options).await,
        Command::Openapi => output::print(&checkstand::api::openapi_json()),
        Command::Config { action: ConfigAction::Check } => process::check_config(file),
        Command::Merchant(command) => command.run(file).await,
        Command::Key(command) => command.run(file).await,
        Command::RedirectUrl(command) => command.run(file).await,
        Command::Endpoint(command) => command.run(file).await,
        Command::Session(command) => command.run(file).await,
        Command::Event(command) => command.run(file).await,
        Command::Listen(options) => listen::run(file, options).await,
        Command::Trigger(options) => trigger::run(file, options).await,
        Command::Vault(command) => command.run(file).await,
    }
}

/// Reads the settings. Variables that are not UTF-8 are left out: none of ours can be meant.
fn read_config(file: Option<&Path>) -> Result<Config, Failure> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::read(file, variables)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_or_incomplete_command_is_a_usage_error() {
        for line in ["checkstand", "checkstand sarve", "checkstand key create", "checkstand session list --limit 0"] {
            let error = Arguments::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn options_of_a_subject_may_stand_before_or_behind_the_action() {
        for line in ["checkstand merchant --json list", "checkstand merchant list --json --data-dir /tmp/x"] {
            Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
