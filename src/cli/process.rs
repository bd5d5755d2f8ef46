//! The commands that run the gateway or prepare for it: `serve`, `worker`, `migrate`, `config check`.
//!
//! The rule: the first Ctrl-C or SIGTERM asks everything to end in order, and a Ctrl-C after that ends
//! the process at once. How the parts end is the library's.

use std::path::Path;

use checkstand::config::Config;
use checkstand::error::Error;
use checkstand::gateway::{self, Gateway, Roles};
use checkstand::keyring::Keyring;
use checkstand::ops::card_vault;
use checkstand::store;
use checkstand::telemetry;
use checkstand::vault::sealing::Sealing;
use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::admin::{AdminOptions, with_database};
use super::output::{self, Failure};
use super::read_config;

/// What shells report of a process that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Options of `checkstand serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgres://checkstand@db/checkstand checkstand serve --listen 0.0.0.0:4242
  checkstand serve --no-worker                        beside processes that run `checkstand worker`")]
pub struct ServeOptions {
    /// Address to listen on, instead of the one in the settings
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Leave webhooks and overdue sessions to processes that run `checkstand worker`
    #[arg(long)]
    no_worker: bool,
}

/// Serves until a signal comes.
///
/// # Errors
/// When the gateway cannot start.
pub async fn serve(file: Option<&Path>, options: ServeOptions) -> Result<(), Failure> {
    let mut config = read_config(file)?;
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    start_telemetry(&config)?;
    let stop = stop_signal()?;
    // Before the database, because a taken port is the more frequent mistake; nothing is accepted yet.
    let (listener, address) = gateway::bind(&config.listen, "--listen").await?;
    if config.listen.ends_with(":0") {
        config.listen = address.to_string();
    }
    let bank = if config.simulator_bank_listen.is_empty() {
        None
    } else {
        let (bank, address) = gateway::bind(&config.simulator_bank_listen, "`simulator_bank_listen`").await?;
        config.simulator_bank_listen = address.to_string();
        Some(bank)
    };
    let public_url = config.public_url();
    let payers_get_a_wildcard = config.public_url.is_empty() && address.ip().is_unspecified();
    let roles = Roles { worker: !options.no_worker };
    let Some(gateway) = open(config, roles, &stop).await? else {
        return Ok(());
    };
    let role_names = if roles.worker { "serve, worker" } else { "serve" };
    tracing::info!(%address, public_url, roles = role_names, version = VERSION, "the gateway is listening");
    if payers_get_a_wildcard {
        tracing::warn!(
            public_url,
            "payers are sent to an address that only this machine understands: set public_url to the origin they reach the gateway under"
        );
    }
    let operations = gateway.serve_operations(stop.clone()).await?;
    gateway.serve(listener, bank, stop).await;
    ended(operations).await;
    tracing::info!("the gateway has stopped");
    Ok(())
}

/// Works until a signal comes.
///
/// # Errors
/// When the worker cannot start.
pub async fn work(file: Option<&Path>) -> Result<(), Failure> {
    let config = read_config(file)?;
    start_telemetry(&config)?;
    let stop = stop_signal()?;
    let Some(gateway) = open(config, Roles { worker: true }, &stop).await? else {
        return Ok(());
    };
    tracing::info!(roles = "worker", version = VERSION, "the worker is running");
    let operations = gateway.serve_operations(stop.clone()).await?;
    gateway.work(stop).await;
    ended(operations).await;
    tracing::info!("the worker has stopped");
    Ok(())
}

async fn ended(operations: Option<JoinHandle<()>>) {
    if let Some(operations) = operations {
        let _ = operations.await;
    }
}

/// Opens the gateway; `None` when a signal came first.
async fn open(config: Config, roles: Roles, stop: &CancellationToken) -> Result<Option<Gateway>, Failure> {
    if config.card_entry_live {
        tracing::warn!(
            "card_entry_live is on: live card numbers are typed into this gateway's own pages, which puts whoever runs it into the scope of PCI DSS SAQ D"
        );
    }
    if !config.card_vault_keys.is_empty() {
        tracing::warn!(
            "card_vault_keys holds a key: the numbers of kept cards are stored, sealed, and whoever runs this stores card numbers in the sense of PCI DSS"
        );
    }
    let gateway = tokio::select! {
        opened = Gateway::open(config, roles) => opened?,
        () = stop.cancelled() => return Ok(None),
    };
    // Better no gateway than one in which payers' cards do not open; commands still run, to mend it.
    if let Err(error) = card_vault::refuse_missing_keys(&gateway.app).await {
        gateway.stop().await;
        return Err(error.into());
    }
    Ok(Some(gateway))
}

fn start_telemetry(config: &Config) -> Result<(), Failure> {
    telemetry::init(config.log_format.into(), &config.log_filter)?;
    telemetry::prometheus();
    Ok(())
}

/// A token that the first Ctrl-C or SIGTERM cancels.
pub fn stop_signal() -> Result<CancellationToken, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::from(format!("signals cannot be caught: {error}")));
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = interrupts.recv() => "SIGINT",
            _ = terminations.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping: what is in hand is brought to its end; Ctrl-C stops at once");
        stopped.cancel();
        interrupts.recv().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}

/// Brings the schema up to date and says whether there was anything to do.
///
/// # Errors
/// When the database does not answer or a migration fails.
pub async fn migrate(file: Option<&Path>, options: &AdminOptions) -> Result<(), Failure> {
    with_database(file, options, async |config| {
        let applied = store::migrate(config.database_url.expose_secret()).await?;
        let text = if applied.is_empty() {
            "The database's schema was up to date already.".to_owned()
        } else {
            format!("Applied: {}.", applied.join(", "))
        };
        options.output().show(&text, &json!({ "applied": applied }))
    })
    .await
}

/// Checks what `serve` would stumble over before it asks the database anything.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_config(file: Option<&Path>) -> Result<(), Failure> {
    let config = read_config(file)?;
    if config.database_url.expose_secret().is_empty() {
        return Err("no database is configured: set `database_url` (or DATABASE_URL)".into());
    }
    Keyring::new(&config.secret_keys).map_err(|error| Failure::from(error.to_string()))?;
    Sealing::new(&config.card_vault_keys).map_err(|error| Failure::from(error.to_string()))?;
    EnvFilter::try_new(&config.log_filter)
        .map_err(|error| Failure::from(format!("`log_filter` is not a filter such as \"info\": {error}")))?;
    checkstand::gateway::check_providers(&config).map_err(|error| match error {
        Error::Unavailable(sentence) => Failure::from(sentence),
        other => Failure::from(other.to_string()),
    })?;
    output::print("The configuration is fine.\n")
}
