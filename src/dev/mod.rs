//! `checkstand dev`: everything on one machine with one command, offline, and kept between starts.
//!
//! It brings its own PostgreSQL, migrates, seeds a demo merchant and serves the gateway; beside it, on
//! a port of their own like any other merchant's site, a demo shop, a webhook inbox and a mailbox.
//! The rule: the gateway that runs here is the one that runs in production; nothing in it knows that
//! it is being developed against.

mod inbox;
mod mailbox;
mod page;
pub mod postgres;
mod seed;
mod shop;
mod shop_client;
mod tools;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::postgres::{EmbeddedOptions, EmbeddedPostgres, Purpose, default_data_dir};
use self::tools::ToolsOptions;
use crate::config::{Config, reachable};
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Roles, bind};
use crate::ops::mails;
use crate::server::{self, ServerLimits};
use crate::store;

pub use self::seed::{DEMO_KEY_BODY, DEMO_MERCHANT_ID};

/// Sessions that the embedded server accepts: enough for the gateway, the command line and a look
/// with psql.
const DATABASE_SESSIONS_MAX: u32 = 100;

/// Mails shown in the mailbox.
const MAILS_SHOWN_MAX: i64 = 200;

/// How often `dev` looks whether its database still runs.
const DATABASE_LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

/// How `checkstand dev` was called.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// The gateway's address; 127.0.0.1:4242 unless given.
    pub listen: Option<String>,
    /// The tools' address; the port above the gateway's, or any free one, unless given.
    pub tools_listen: Option<String>,
    /// Where the data is kept.
    pub data_dir: Option<PathBuf>,
    /// Begin anew: throw the data away first.
    pub reset: bool,
}

/// Runs until `shutdown`. `config` is what file and environment say; what development needs is set
/// on top of it.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(options: DevOptions, mut config: Config, shutdown: CancellationToken) -> Result<()> {
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    config.loopback_webhooks = true;
    config.capture_mail = true;

    // The ports first: a taken one is found before anything is started for nothing.
    let (listener, address) = bind(&config.listen, "--listen").await?;
    config.listen = address.to_string();
    let tools_listener = bind_tools(options.tools_listen.as_deref(), address.port()).await?;
    let tools_base = match tools_listener.local_addr() {
        Ok(address) => format!("http://{}", reachable(&address.to_string())),
        Err(error) => return Err(Error::Internal(format!("no local address: {error}"))),
    };

    let bank_listener = bind_tools(None, address_port(&tools_base)).await?;
    config.simulator_bank_listen = match bank_listener.local_addr() {
        Ok(address) => address.to_string(),
        Err(error) => return Err(Error::Internal(format!("no local address: {error}"))),
    };

    let data_dir = match options.data_dir {
        Some(dir) => std::path::absolute(&dir).unwrap_or(dir),
        None => default_data_dir(),
    };
    let embedded = if config.database_url.expose_secret().is_empty() {
        let embedded = start_postgres(data_dir.clone(), options.reset).await?;
        config.database_url = SecretString::from(embedded.url("checkstand"));
        Some(embedded)
    } else if options.reset {
        return Err(Error::Unavailable("--reset throws the embedded database away, but DATABASE_URL names another one: unset it, or empty that database yourself".to_owned()));
    } else {
        None
    };
    if config.secret_keys.is_empty() {
        config.secret_keys = secrets(&data_dir)?;
    }

    store::migrate(config.database_url.expose_secret()).await?;

    let gateway = Gateway::open(config, Roles { worker: true }).await?;
    let seeded = seed::seed(&gateway.app, &tools_base).await?;
    let mailing = Arc::clone(&gateway.app);
    let app = Arc::clone(&gateway.app);
    let tools = tools::router(ToolsOptions {
        api_base: gateway.app.settings.public_url.clone(),
        tools_base: tools_base.clone(),
        secret_key: seeded.secret_key.clone(),
        webhook_secret: seeded.webhook_secret,
        mails: Arc::new(move || {
            let app = Arc::clone(&mailing);
            Box::pin(async move { mails::newest(&app, MAILS_SHOWN_MAX).await })
        }),
        now: Arc::new(move || app.clock.now()),
    });
    print_welcome(&gateway.app.settings.public_url, &tools_base, &seeded.secret_key, &seeded.sample_url, &data_dir);

    let tools_task = tokio::spawn(server::serve(tools_listener, tools, ServerLimits::default(), shutdown.clone()));
    let serving = gateway.serve(listener, Some(bank_listener), shutdown.clone());
    let embedded = serve_beside(embedded, serving, shutdown).await?;
    println!("Stopped; the data is kept.");
    if let Err(error) = tools_task.await {
        tracing::error!(%error, "the development tools ended badly");
    }
    if let Some(embedded) = embedded {
        run_blocking(move || embedded.stop()).await?;
    }
    Ok(())
}

/// Serves as long as the embedded server lives, and gives it back. Without its database the gateway would only
/// answer 503 until somebody looked.
async fn serve_beside(
    mut embedded: Option<EmbeddedPostgres>,
    serving: impl Future<Output = ()>,
    shutdown: CancellationToken,
) -> Result<Option<EmbeddedPostgres>> {
    tokio::pin!(serving);
    let mut looks = tokio::time::interval(DATABASE_LOOKED_AT_EVERY);
    loop {
        tokio::select! {
            () = &mut serving => return Ok(embedded),
            _ = looks.tick() => {}
        }
        if let Some(server) = embedded.as_mut().filter(|_| !shutdown.is_cancelled())
            && server.has_ended()
        {
            shutdown.cancel();
            serving.await;
            return Err(Error::Unavailable(format!(
                "the PostgreSQL that checkstand dev had started has ended; {} may say why. Start again: the data is kept",
                server.log_path().display()
            )));
        }
    }
}

fn address_port(base: &str) -> u16 {
    base.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

async fn bind_tools(asked: Option<&str>, gateway_port: u16) -> Result<TcpListener> {
    if let Some(asked) = asked {
        return Ok(bind(asked, "--tools-listen").await?.0);
    }
    let next = gateway_port.checked_add(1).unwrap_or(0);
    match bind(&format!("127.0.0.1:{next}"), "--tools-listen").await {
        Ok((listener, _)) => Ok(listener),
        Err(_) => Ok(bind("127.0.0.1:0", "--tools-listen").await?.0),
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, postgres::EmbeddedError> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| Error::Unavailable(error.to_string())),
        Err(error) => Err(Error::Internal(format!("starting PostgreSQL ended badly: {error}"))),
    }
}

async fn start_postgres(data_dir: PathBuf, reset: bool) -> Result<EmbeddedPostgres> {
    let options = EmbeddedOptions {
        data_dir: data_dir.clone(),
        purpose: Purpose::Durable,
        max_connections: DATABASE_SESSIONS_MAX,
    };
    let start = options.clone();
    if reset && data_dir.join("pg").exists() {
        let embedded = run_blocking(move || EmbeddedPostgres::start(start)).await?;
        if embedded.attached() {
            return Err(Error::Unavailable(format!(
                "the data in {} is in use by another checkstand: stop that one before --reset",
                data_dir.display()
            )));
        }
        run_blocking(move || embedded.stop()).await?;
        for name in ["pg", SECRETS_FILE] {
            let path = data_dir.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Unavailable(format!("{} cannot be removed: {error}", path.display())));
                }
                _ => {}
            }
        }
    }
    let embedded = run_blocking(move || EmbeddedPostgres::start(options)).await?;
    // A second one would point the demo merchant's webhooks at itself, and lose its database with the first.
    if embedded.attached() {
        return Err(Error::Unavailable(format!(
            "another checkstand dev runs on the data in {}: stop it, or give this one another --data-dir",
            data_dir.display()
        )));
    }
    Ok(embedded)
}

const SECRETS_FILE: &str = "secret_keys";

/// The secret keys of a development data directory, made at the first start and readable by their
/// owner only.
///
/// # Errors
/// When the file cannot be read or written.
pub fn secrets(data_dir: &Path) -> Result<Vec<SecretString>> {
    let path = data_dir.join(SECRETS_FILE);
    let failed =
        |error: std::io::Error| Error::Unavailable(format!("{} cannot be read or written: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter(|line| !line.is_empty()).map(SecretString::from).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = STANDARD.encode(rand::random::<[u8; 32]>());
            fs::create_dir_all(data_dir).map_err(failed)?;
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
            writeln!(file, "{key}").map_err(failed)?;
            Ok(vec![SecretString::from(key)])
        }
        Err(error) => Err(failed(error)),
    }
}

fn print_welcome(api: &str, tools: &str, key: &str, sample: &str, data_dir: &Path) {
    println!(
        "
  checkstand is running. Ctrl-C stops it; the data stays in {data}.

  API base       {api}
  Secret key     {key}   (test mode, this machine only)
  Checkout page  {sample}
  Demo shop      {tools}/shop
  Webhook inbox  {tools}/inbox
  Mailbox        {tools}/mailbox

  Pay with card 4242 4242 4242 4242, any future expiry, any CVC.
",
        data = data_dir.display()
    );
}
