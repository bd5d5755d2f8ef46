//! A world for one story: a database of its own, a gateway on a free port, actors to use it.
//!
//! One PostgreSQL is started for the whole run, with fsync off and on a memory disk where there is
//! one, and one migrated template is copied for each story.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkstand::app::App;
use checkstand::config::Config;
use checkstand::dev::postgres::{EmbeddedOptions, EmbeddedPostgres, Purpose, disposable_data_dir, remove_data_at_exit};
use checkstand::domain::api_key::SecretKey;
use checkstand::domain::card::{CardCvc, CardExpiry, CardNumber};
use checkstand::gateway::{Gateway, Roles, bind};
use checkstand::ops::audit::{self, Audit};
use checkstand::ops::merchants::{self, NewKey, NewMerchant};
use checkstand::providers::simulator_faults::SimulatorBehaviour;
use checkstand::vault::EnteredCard;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::merchant::Merchant;
use crate::payer::Payer;
use crate::receiver::Receiver;

/// Sessions that the shared server accepts: stories run in parallel, each with replicas and pools.
const DATABASE_SESSIONS_MAX: u32 = 400;

/// Connections of one gateway in a story.
const GATEWAY_CONNECTIONS_MAX: u32 = 12;

const TEMPLATE: &str = "template_migrated";

static SERVER: OnceCell<EmbeddedPostgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

async fn server() -> &'static EmbeddedPostgres {
    SERVER
        .get_or_init(|| async {
            let data_dir = disposable_data_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
            let options =
                EmbeddedOptions { data_dir, purpose: Purpose::Disposable, max_connections: DATABASE_SESSIONS_MAX };
            let server = tokio::task::spawn_blocking(|| EmbeddedPostgres::start(options))
                .await
                .expect("the starting thread lives")
                .expect("PostgreSQL starts; run scripts/install-prerequisites test");
            remove_data_at_exit(&server);
            execute(&server.url("checkstand"), &format!("create database {TEMPLATE}")).await;
            checkstand::store::migrate(&server.url(TEMPLATE)).await.expect("the migrations run");
            execute(
                &server.url("checkstand"),
                &format!("alter database {TEMPLATE} is_template true allow_connections false"),
            )
            .await;
            server
        })
        .await
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the server answers");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    connection.close().await.expect("the connection closes");
}

/// Changes a database behind everybody's back.
pub async fn execute_at(url: &str, sql: &str) {
    execute(url, sql).await;
}

/// What an audit says of a database.
pub async fn audit_of(url: &str) -> Audit {
    let options = audit::Options { findings_max: 20, doubts_after_minutes: 10 };
    audit::run(url, options).await.expect("the audit can be made")
}

/// How long a story waits for what nobody announces: a bound, not a measurement.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something, for what cannot be awaited. Fails after [`WAIT_MAX`].
#[track_caller]
pub fn eventually<T, F>(what: &str, mut look: F) -> impl Future<Output = T> + use<T, F>
where
    F: AsyncFnMut() -> Option<T>,
{
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let deadline = Instant::now() + WAIT_MAX;
        let mut beat = tokio::time::interval(LOOK_EVERY);
        loop {
            beat.tick().await;
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{caller}: waited for {what}");
        }
    }
}

/// A card as the form hands it over, with a fitting security code and a date to come.
pub fn entered_card(digits: &str) -> EnteredCard {
    let number = CardNumber::parse(digits).expect(digits);
    let cvc = if digits.len() == 15 { "1234" } else { "123" };
    let today = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).expect("a real date");
    EnteredCard {
        cvc: CardCvc::parse(cvc, number.brand()).expect("a fitting code"),
        number,
        expiry: CardExpiry::parse("12 / 49", today).expect("a date to come"),
        holder_name: None,
    }
}

/// One gateway process, as far as the story can tell.
pub struct Replica {
    pub base: String,
    /// Where payers meet the simulator's bank.
    pub bank: String,
    pub app: Arc<App>,
    pub simulator: SimulatorBehaviour,
    /// The simulated companies by name; the one above is the one called `simulator`.
    pub simulators: BTreeMap<String, SimulatorBehaviour>,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Replica {
    /// Stops it in order, as SIGTERM does.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("the gateway stops in order");
        }
    }
}

/// A database and the gateways that share it.
pub struct World {
    database: String,
    pub replicas: Vec<Replica>,
    secret_key: String,
    options: WorldOptions,
}

/// What a story may want different.
#[derive(Clone)]
pub struct WorldOptions {
    /// Gateways on the one database.
    pub replicas: usize,
    /// Whether they run the worker.
    pub worker: bool,
    /// Whether mail is captured where no server is named, as in development.
    pub mailbox: bool,
    /// Further settings, as environment variables without their prefix.
    pub settings: Vec<(&'static str, String)>,
    /// A settings file's text, for what no variable can say.
    pub file: String,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { replicas: 1, worker: true, mailbox: true, settings: Vec::new(), file: String::new() }
    }
}

impl World {
    /// One gateway with its worker.
    pub async fn start() -> Self {
        Self::with(WorldOptions::default()).await
    }

    /// One gateway without a worker, for stories in which only the API acts.
    pub async fn without_worker() -> Self {
        Self::with(WorldOptions { worker: false, ..WorldOptions::default() }).await
    }

    /// One gateway that sends no mail and captures none.
    pub async fn without_mail() -> Self {
        Self::with(WorldOptions { mailbox: false, ..WorldOptions::default() }).await
    }

    pub async fn with(options: WorldOptions) -> Self {
        let server = server().await;
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = format!("story_{number}");
        let sql = format!("create database {database} template {TEMPLATE} strategy file_copy");
        execute(&server.url("checkstand"), &sql).await;
        let secret_key = STANDARD.encode(rand::random::<[u8; 32]>());
        let mut world = Self { database, replicas: Vec::new(), secret_key, options };
        for _ in 0..world.options.replicas {
            world.add_replica().await;
        }
        world
    }

    /// Starts one more gateway on the same database.
    pub async fn add_replica(&mut self) {
        let worker = self.options.worker;
        self.add_replica_with(worker).await;
    }

    pub async fn add_replica_with(&mut self, worker: bool) {
        let (listener, address) = bind("127.0.0.1:0", "--listen").await.expect("a free port");
        let (bank, bank_address) = bind("127.0.0.1:0", "--listen").await.expect("another");
        let mut variables = self.variables().await;
        variables.push(("CHECKSTAND_SIMULATOR_BANK_LISTEN".to_owned(), bank_address.to_string()));
        variables.push(("CHECKSTAND_LISTEN".to_owned(), address.to_string()));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), &self.options.file).expect("the file can be written");
        let mut config = Config::read(Some(file.path()), variables).expect("the settings are fine");
        config.capture_mail = self.options.mailbox;
        let gateway = Gateway::open(config, Roles { worker }).await.expect("the gateway starts");
        let app = Arc::clone(&gateway.app);
        let simulators = gateway.simulators.clone();
        let simulator = simulators["simulator"].clone();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move {
            gateway.serve(listener, Some(bank), stop).await;
        });
        let base = format!("http://{address}");
        let bank = format!("http://{bank_address}");
        self.replicas.push(Replica { base, bank, app, simulator, simulators, shutdown, serving: Some(serving) });
    }

    /// The settings of every gateway of this world, as environment variables.
    pub async fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("DATABASE_URL".to_owned(), self.database_url().await),
            ("CHECKSTAND_SECRET_KEYS".to_owned(), self.secret_key.clone()),
            ("CHECKSTAND_LOOPBACK_WEBHOOKS".to_owned(), "true".to_owned()),
            ("CHECKSTAND_DATABASE_CONNECTIONS_MAX".to_owned(), GATEWAY_CONNECTIONS_MAX.to_string()),
        ];
        for (name, value) in &self.options.settings {
            variables.push((format!("CHECKSTAND_{name}"), value.clone()));
        }
        variables
    }

    /// Changes a setting for replicas that are added from now on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.options.settings.push((name, value.to_owned()));
    }

    /// Changes the settings file for replicas that are added from now on.
    pub fn write_file(&mut self, text: &str) {
        self.options.file = text.to_owned();
    }

    /// The first gateway's address.
    pub fn base(&self) -> &str {
        &self.replicas[0].base
    }

    /// The first gateway's application, for moving time and looking inside.
    pub fn app(&self) -> &Arc<App> {
        &self.replicas[0].app
    }

    pub async fn database_url(&self) -> String {
        server().await.url(&self.database)
    }

    /// A connection to the story's database, to see what is really there.
    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.database_url().await).await.expect("the database answers")
    }

    /// One number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut connection = self.database().await;
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
        count
    }

    /// How many rows there are of everything that an API request can write.
    pub async fn rows(&self) -> i64 {
        self.count(
            "select (select count(*) from checkout_session) + (select count(*) from event)
                  + (select count(*) from delivery) + (select count(*) from idempotency_key)
                  + (select count(*) from webhook_endpoint) + (select count(*) from redirect_url)",
        )
        .await
    }

    /// The settings of another process on the same database.
    pub async fn environment(&self) -> [(&'static str, String); 2] {
        [("DATABASE_URL", self.database_url().await), ("CHECKSTAND_SECRET_KEYS", self.secret_key.clone())]
    }

    /// What an audit says of the story's database.
    pub async fn audit(&self) -> Audit {
        audit_of(&self.database_url().await).await
    }

    /// Fails with the audit's own sentences unless the books are right, the simulator's included.
    #[track_caller]
    pub fn books_are_right(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let audit = self.audit().await;
            assert!(
                audit.clean,
                "{caller}: {:#?}",
                audit.rules.iter().filter(|rule| rule.broken > 0).collect::<Vec<_>>()
            );
        }
    }

    /// A copy of the story's database, whose gateways must have stopped: its URL.
    pub async fn copy(&self, name: &str) -> String {
        let (server, copy) = (server().await, format!("{}_{name}", self.database));
        let sql = format!("create database {copy} template {} strategy file_copy", self.database);
        execute(&server.url("checkstand"), &sql).await;
        server.url(&copy)
    }

    /// Changes the story's database behind the gateway's back.
    pub async fn execute(&self, sql: &str) {
        execute(&self.database_url().await, sql).await;
    }

    /// The gateway's time in Unix seconds.
    pub fn now(&self) -> i64 {
        self.app().clock.now().timestamp()
    }

    /// One text from the database; `$1` is the given id.
    pub async fn text(&self, sql: &'static str, id: &str) -> String {
        let mut connection = self.database().await;
        let text: String = sqlx::query_scalar(sql).bind(id).fetch_one(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
        text
    }

    /// Waits until a query gives this number.
    #[track_caller]
    pub fn count_becomes(&self, sql: &'static str, count: i64) -> impl Future<Output = ()> {
        eventually(&format!("{count} from: {sql}"), async move || (self.count(sql).await == count).then_some(()))
    }

    /// Moves every gateway's clock forward.
    pub fn advance(&self, by: chrono::Duration) {
        for replica in &self.replicas {
            replica.app.clock.advance(by);
        }
    }

    /// A merchant with a test key, and `https://shop.example` and this machine on his allow-list.
    pub async fn merchant(&self) -> Merchant {
        self.merchant_with_mode(false).await
    }

    pub async fn merchant_with_mode(&self, livemode: bool) -> Merchant {
        let app = self.app();
        let new = NewMerchant {
            id: None,
            name: "Corner Coffee".to_owned(),
            support_email: Some("help@corner-coffee.example".to_owned()),
            accent_color: Some("#1f6f54".to_owned()),
        };
        let row = merchants::create(app, new).await.expect("a merchant");
        let merchant_id = merchants::find(app, &row.id).await.expect("the merchant");
        let new_key = NewKey { merchant_id, name: "test".to_owned(), loopback_only: false, expires_at: None };
        let (key, key_id) = self.store_key(livemode, new_key).await;
        let merchant = Merchant::new(self.base(), &key, &row.id, &key_id);
        merchant.post("/v1/redirect_urls", &[("url", "https://shop.example")]).await.ok();
        if !livemode {
            merchant.post("/v1/redirect_urls", &[("url", "http://127.0.0.1:*")]).await.ok();
        }
        merchant
    }

    async fn store_key(&self, livemode: bool, new_key: NewKey) -> (String, String) {
        let key = SecretKey::generate(livemode);
        let stored = merchants::store_key(self.app(), &key, new_key).await.expect("a key");
        (key.expose().to_owned(), stored.id)
    }

    /// The merchant with a further key of his: of this mode, and changed as told before it is stored.
    pub async fn another_key(&self, merchant: &Merchant, livemode: bool, change: impl FnOnce(&mut NewKey)) -> Merchant {
        let merchant_id = merchants::find(self.app(), &merchant.id).await.expect("the merchant");
        let mut new_key = NewKey { merchant_id, name: "another".to_owned(), loopback_only: false, expires_at: None };
        change(&mut new_key);
        let (key, key_id) = self.store_key(livemode, new_key).await;
        merchant.with_key(&key, &key_id)
    }

    /// The same merchant with a key of the other mode.
    pub async fn in_live_mode(&self, merchant: &Merchant) -> Merchant {
        let app = self.app();
        let merchant_id = merchants::find(app, &merchant.id).await.expect("the merchant");
        let key = SecretKey::generate(true);
        let new_key = NewKey { merchant_id, name: "live".to_owned(), loopback_only: false, expires_at: None };
        let stored = merchants::store_key(app, &key, new_key).await.expect("a key");
        let live = Merchant::new(&merchant.base, key.expose(), &merchant.id, &stored.id);
        live.post("/v1/redirect_urls", &[("url", "https://shop.example")]).await.ok();
        live
    }

    /// A browser without JavaScript at the first gateway.
    pub fn payer(&self) -> Payer {
        Payer::new(self.base())
    }

    /// A merchant's webhook endpoint that records what arrives, registered for every event.
    pub async fn receiver(&self, merchant: &Merchant) -> Receiver {
        let mut receiver = Receiver::start().await;
        receiver.register(merchant, &["*"]).await;
        receiver
    }

    /// Stops the gateways in order and drops the database. A story that fails keeps its database for
    /// a look, as long as the run lasts.
    pub async fn end(mut self) {
        for replica in &mut self.replicas {
            replica.stop().await;
        }
        let server = server().await;
        execute(&server.url("checkstand"), &format!("drop database {} with (force)", self.database)).await;
    }
}
