//! The whole service put together: database, doors, worker; started, served and stopped in order.
//!
//! The rule: nothing is accepted before the schema is right, and stopping goes the other way round:
//! no new requests, those in hand end, deliveries under way end and the rest is given back, then the
//! database is closed.

mod providers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Outbox, REDIRECT_HOLDS_MAX};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::headers::{HeaderPolicy, security_headers};
use crate::keyring::Keyring;
use crate::ops::endpoint_health::EndpointKeeper;
use crate::ops::{batching, outages};
use crate::providers::simulator::Simulator;
use crate::providers::simulator_acs;
use crate::providers::simulator_faults::SimulatorBehaviour;
use crate::providers::stripe::{self, Stripe, StripeSettings};
use crate::smtp::SmtpClient;
use crate::store::Store;
use crate::store::allow_lists::AllowLists;
use crate::telemetry::{self, Door, observe};
use crate::vault::Vault;
use crate::vault::sealing::Sealing;
use crate::worker::deliver::{self, DeliverSettings, DeliverWorker};
use crate::worker::test_send::{EndpointLookUp, TestSender};
use crate::worker::{mail, sweep};
use crate::{api, callbacks, hosted, server};

use self::providers::Providers;
pub use self::providers::check as check_providers;

/// How long deliveries under way may take to end when the process stops.
const DELIVERY_GRACE: Duration = Duration::from_secs(8);

/// How long operations that were started for payers may take to end when the process stops: a card
/// authorisation at its longest, within what supervisors allow.
const OPERATIONS_GRACE: Duration = Duration::from_secs(22);

/// Which parts of the service a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    /// The worker's two loops.
    pub worker: bool,
}

/// The service.
pub struct Gateway {
    /// The application.
    pub app: Arc<App>,
    /// Told how to behave in tests and in development: each simulated company, by name.
    pub simulators: BTreeMap<String, SimulatorBehaviour>,
    bank: Arc<Simulator>,
    config: Config,
    deliver: Option<DeliverWorker>,
    sweeps: Vec<JoinHandle<()>>,
    mails: Option<JoinHandle<()>>,
    batch_workers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Gateway {
    /// Opens the database and starts the worker.
    ///
    /// # Errors
    /// When a setting is missing, the database does not answer, or its schema is not this binary's.
    pub async fn open(config: Config, roles: Roles) -> Result<Self> {
        let url = config.database_url.expose_secret();
        if url.is_empty() {
            return Err(Error::Unavailable(
                "no database is configured: set DATABASE_URL, or start `checkstand dev`, which brings its own"
                    .to_owned(),
            ));
        }
        let keyring = Keyring::new(&config.secret_keys).map_err(|error| Error::Unavailable(error.to_string()))?;
        let sealing = Sealing::new(&config.card_vault_keys).map_err(|error| Error::Unavailable(error.to_string()))?;
        let store = Store::connect(url, config.database_connections_max).await?;
        if !store.is_migrated().await? {
            return Err(Error::Unavailable(
                "the database's schema is not up to date: run `checkstand migrate` first".to_owned(),
            ));
        }
        let smtp = config.smtp().map_err(|error| Error::Unavailable(error.to_string()))?;
        let smtp = smtp.map(SmtpClient::new).transpose().map_err(Error::Unavailable)?;
        let clock = Arc::new(Clock::new(&store.clock_sample().await?));
        // The first answer may have waited for its connection.
        clock.set(&store.clock_sample().await?);
        let keyring = Arc::new(keyring);
        let vault = Arc::new(Vault::new(keyring.fingerprint_key()));
        let stripe = stripe(&config, &vault, &clock)?;
        let Providers { registry: providers, bank, simulators } = providers::open(&config, &store, &vault, stripe)?;
        let mut deliver = None;
        let mut outbox = None;
        let sending = DeliverSettings {
            concurrency_total: usize::from(config.webhook_concurrency_total),
            concurrency_per_endpoint: usize::from(config.webhook_concurrency_per_endpoint),
            allow_loopback: config.loopback_webhooks,
            name_servers: Arc::clone(&config.name_servers),
            authorities: config.webhook_authorities().map_err(|error| Error::Unavailable(error.to_string()))?,
            ..DeliverSettings::default()
        };
        let keeper = EndpointKeeper {
            pool: store.pool().clone(),
            keyring: Arc::clone(&keyring),
            mail: config.settings().mail,
            limits: config.endpoint_health().map_err(|error| Error::Unavailable(error.to_string()))?,
        };
        let time = Arc::clone(&clock);
        let look_up = EndpointLookUp {
            keeper: keeper.clone(),
            clock: Arc::new(move || time.now()),
            allow_loopback: config.loopback_webhooks,
        };
        if roles.worker {
            let (queue, worker) = deliver::start(keeper, Arc::clone(&look_up.clock), sending.clone())
                .map_err(|error| Error::Internal(format!("the webhook client could not be made: {error}")))?;
            deliver = Some(worker);
            let (leasing, waking, forgetting) = (queue.clone(), queue.clone(), queue.clone());
            outbox = Some(Outbox {
                lease: Box::new(move |now| leasing.lease(now)),
                offer: Box::new(move |deliveries| queue.offer(deliveries)),
                wake: Box::new(move || waking.wake()),
                forget_endpoint: Box::new(move |endpoint| forgetting.forget_endpoint(endpoint)),
            });
        }
        let tests = Arc::new(TestSender::new(look_up, sending));
        if config.public_url().starts_with("https://") && config.trusted_proxies.is_empty() {
            tracing::warn!(
                "a proxy ends TLS in front of this gateway (`public_url` is https) and `trusted_proxies` names none: payers' networks are not known to the fraud rules"
            );
        }
        let (batches, unstarted) = batching::queues(&store, config.create_batch_max);
        let app = Arc::new(App {
            settings: config.settings(),
            store,
            clock,
            keyring,
            vault,
            sealing,
            providers,
            outbox,
            post_once: Box::new(move |merchant, endpoint, event, body| {
                let (merchant, endpoint, event) = (merchant.clone(), endpoint.to_owned(), event.to_owned());
                let tests = Arc::clone(&tests);
                Box::pin(async move { tests.send(&merchant, &endpoint, &event, &body).await })
            }),
            batches,
            allow_lists: AllowLists::default(),
            mail_wake: tokio::sync::Notify::new(),
            tasks: TaskTracker::new(),
            redirect_holds: Semaphore::new(REDIRECT_HOLDS_MAX),
        });
        outages::show_all(&app);
        let stop = CancellationToken::new();
        let batch_workers = unstarted.start(&app, config.create_batch_max, &stop);
        let sweeps = if roles.worker {
            vec![
                tokio::spawn(sweep::run(Arc::clone(&app), stop.clone())),
                tokio::spawn(sweep::settle_doubts(Arc::clone(&app), stop.clone())),
                tokio::spawn(sweep::replay_events(Arc::clone(&app), stop.clone())),
            ]
        } else {
            Vec::new()
        };
        let mails = match smtp {
            Some(client) if roles.worker => Some(tokio::spawn(mail::run(Arc::clone(&app), client, stop.clone()))),
            _ => None,
        };
        Ok(Self { app, simulators, bank, config, deliver, sweeps, mails, batch_workers, stop })
    }

    fn operations_routes(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz).with_state(Arc::clone(&self.app)))
            .route("/metrics", get(metrics))
    }

    /// Serves health and metrics on an address of their own, where the settings name one.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn serve_operations(&self, shutdown: CancellationToken) -> Result<Option<JoinHandle<()>>> {
        if self.config.operations_listen.is_empty() {
            return Ok(None);
        }
        let (listener, address) = bind(&self.config.operations_listen, "`operations_listen`").await?;
        tracing::info!(%address, "health and metrics are served");
        let policy = HeaderPolicy::new(self.app.settings.is_https());
        let router = self
            .operations_routes()
            .layer(from_fn_with_state(Door::Operations, observe))
            .layer(from_fn_with_state(policy, security_headers));
        Ok(Some(tokio::spawn(server::serve(listener, router, self.config.server_limits(), shutdown))))
    }

    /// All doors as one router.
    pub fn router(&self) -> Router {
        let document: Arc<str> = api::openapi_json().into();
        let app = &self.app;
        let operations = Router::new()
            .route("/", get(async || Redirect::to("/docs")))
            .route("/openapi.json", get(api::serve_openapi).with_state(document))
            .merge(api::reference::router())
            .merge(self.operations_routes())
            .layer(from_fn_with_state(Door::Operations, observe));
        let page = Arc::clone(app);
        let unknown = Router::new()
            .fallback(async move || hosted::unknown_page(&page))
            .layer(from_fn_with_state(Door::Hosted, observe));
        Router::new()
            .merge(operations)
            .merge(hosted::router(Arc::clone(app)))
            .merge(callbacks::router(Arc::clone(app)))
            .merge(api::router(Arc::clone(app)))
            .fallback_service(unknown)
            .layer(from_fn_with_state(HeaderPolicy::new(app.settings.is_https()), security_headers))
    }

    /// The pages of the simulator's bank, for an origin of their own.
    pub fn bank_router(&self) -> Router {
        simulator_acs::router(Arc::clone(&self.bank)).layer(from_fn_with_state(Door::Tools, observe))
    }

    /// Serves on `listener`, and the simulator's bank on `bank`, until `shutdown`; then stops everything in
    /// order.
    pub async fn serve(self, listener: TcpListener, bank: Option<TcpListener>, shutdown: CancellationToken) {
        let bank = bank.map(|bank| {
            tokio::spawn(server::serve(bank, self.bank_router(), self.config.server_limits(), shutdown.clone()))
        });
        server::serve(listener, self.router(), self.config.server_limits(), shutdown).await;
        if let Some(bank) = bank
            && let Err(error) = bank.await
        {
            tracing::error!(%error, "the simulator's bank ended badly");
        }
        self.stop().await;
    }

    /// Works until `shutdown` without serving anything.
    pub async fn work(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop().await;
    }

    /// Stops the worker and closes the database.
    pub async fn stop(self) {
        self.app.tasks.close();
        if tokio::time::timeout(OPERATIONS_GRACE, self.app.tasks.wait()).await.is_err() {
            tracing::warn!("payments were still in flight at the end; the sweep of the next start settles them");
        }
        self.stop.cancel();
        for sweep in self.sweeps {
            if let Err(error) = sweep.await {
                tracing::error!(%error, "a sweep ended badly");
            }
        }
        if let Some(mut mails) = self.mails
            && tokio::time::timeout(DELIVERY_GRACE, &mut mails).await.is_err()
        {
            tracing::warn!("a mail was still being sent at the end; it is sent again when its lease runs out");
            mails.abort();
        }
        for worker in self.batch_workers {
            if let Err(error) = worker.await {
                tracing::error!(%error, "a worker of shared statements ended badly");
            }
        }
        if let Some(deliver) = self.deliver {
            deliver.stop(DELIVERY_GRACE).await;
        }
        self.app.store.close().await;
    }
}

/// The Stripe connector, where there is a key.
fn stripe(config: &Config, vault: &Arc<Vault>, clock: &Arc<Clock>) -> Result<Option<Stripe>> {
    let given = |key: &SecretString| (!key.expose_secret().is_empty()).then(|| key.clone());
    let (live_key, test_key) = (given(&config.stripe_live_secret_key), given(&config.stripe_test_secret_key));
    if live_key.is_none() && test_key.is_none() {
        return Ok(None);
    }
    let settings = StripeSettings {
        live_key,
        test_key,
        api_base: config.stripe_api_base.clone(),
        callback_secrets: config.stripe_callback_secrets.clone(),
        omitted: config.stripe_omitted_parameters.clone(),
        request_timeout: stripe::REQUEST_TIMEOUT,
        read_fees: config.stripe_read_fees,
    };
    let time = Arc::clone(clock);
    Stripe::new(settings, Arc::clone(vault), move || time.now().timestamp())
        .map(Some)
        .map_err(|error| Error::Unavailable(error.to_string()))
}

/// Binds a listening socket; `setting` is what the address was given with.
///
/// # Errors
/// A sentence that says what to do.
pub async fn bind(listen: &str, setting: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Error::Unavailable(match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{listen} is in use by another program: stop it, or give another address with {setting}")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("listening on {listen} is not permitted: choose a port above 1023 with {setting}")
            }
            _ => format!("cannot listen on {listen}: {error}; give an address such as 127.0.0.1:4242 with {setting}"),
        })
    })?;
    let address = listener.local_addr().map_err(|error| Error::Internal(format!("no local address: {error}")))?;
    Ok((listener, address))
}

/// Alive: the process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: the database answers.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.store.now().await {
        // How the providers are is said for people only: one that is away is no reason to send payers elsewhere.
        Ok(_) => format!("ready\n{}", outages::summary(&app)).into_response(),
        Err(error) => {
            tracing::error!(error = ?error, "not ready: the database does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

async fn metrics() -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    (content_type, telemetry::render()).into_response()
}
