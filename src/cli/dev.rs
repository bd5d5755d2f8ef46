//! `checkstand dev`, which is the library's: this only reads its options and starts the log.

use std::path::PathBuf;

use checkstand::telemetry::{self, LogFormat};
use clap::Args;

use super::output::Failure;
use super::process::stop_signal;
use super::read_config;

/// Options of `checkstand dev`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  checkstand dev
  checkstand dev --listen 127.0.0.1:5000 --tools-listen 127.0.0.1:5001
  checkstand dev --data-dir /tmp/checkstand --reset   begin anew

While it runs, the other commands find its database by themselves (with --data-dir where it was given here).")]
pub struct DevOptions {
    /// Address of the gateway, instead of the one in the settings
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of the demo shop, webhook inbox and mailbox; the port above the gateway's unless given
    #[arg(long, value_name = "ADDR")]
    tools_listen: Option<String>,
    /// Folder for the database and the secret keys
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Throw the data of earlier runs away first
    #[arg(long)]
    reset: bool,
}

/// Runs the development set-up until it is stopped.
///
/// # Errors
/// When a part of it cannot start.
pub async fn run(options: DevOptions, config: Option<PathBuf>) -> Result<(), Failure> {
    let config = read_config(config.as_deref())?;
    telemetry::init(LogFormat::Pretty, &config.log_filter)?;
    telemetry::prometheus();
    let stop = stop_signal()?;
    let DevOptions { listen, tools_listen, data_dir, reset } = options;
    let options = checkstand::dev::DevOptions { listen, tools_listen, data_dir, reset };
    Ok(checkstand::dev::run(options, config, stop).await?)
}
