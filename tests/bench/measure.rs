//! The measurements, one function each. Contestants of a comparison take turns, forwards and backwards.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkstand::app::App;
use checkstand::config::Config;
use checkstand::domain::api_key::SecretKey;
use checkstand::domain::id::{MerchantId, SessionId};
use checkstand::gateway::{Gateway, Roles};
use checkstand::keyring::Keyring;
use checkstand::ops::Caller;
use checkstand::ops::endpoints::{self, NewEndpoint};
use checkstand::ops::merchants::{self, NewKey, NewMerchant};
use checkstand::ops::redirect_urls;
use checkstand::ops::replay::Write;
use secrecy::SecretString;
use tokio::runtime::Runtime;

use crate::Options;
use crate::base::{Samples, Script, pgbench};
use crate::confirm::Paid;
use crate::database::{Database, ID_DIGITS, SESSION_PREFIX};
use crate::load::{Answers, FORM, Wrk};
use crate::process::{
    MemoryWatch, Role, cpu_micros, cpu_micros_of_ended_children, cpu_micros_with_children, load_average, memory_kb,
};
use crate::report::{percentile, print_run, print_table, print_target, ratio};

/// Sessions whose pages are got.
const PAGE_SESSIONS: u32 = 20_000;

/// Connections, caches and prepared statements are there before anything counts.
const WARM_UP_SECONDS: u64 = 1;

/// Sessions a second while the latency of deliveries is measured.
const LATENCY_RATE: u64 = 200;

/// The same on an idle machine, and beside a slow endpoint.
const IDLE_RATE: u64 = 5;
const NEIGHBOUR_RATE: u64 = 20;

/// Bytes of an event about a session, for the receiver's own ceiling.
const EVENT_BYTES: usize = 2_500;

/// What a widely used sender of webhooks takes, measured on two quiet cores.
const CPU_MS_PER_DELIVERY_MAX: f64 = 1.4;

/// Deliveries owed to the slow endpoint while others are measured.
const BACKLOG: i64 = 100_000;

/// Draining takes at most this long.
const DRAIN_WAIT: Duration = Duration::from_secs(120);

/// One run of one contestant.
pub struct Run {
    /// Operations a second.
    pub rate: f64,
    /// Latency, where it is known.
    pub p50_ms: f64,
    /// Latency, where it is known.
    pub p99_ms: f64,
    /// CPU time of PostgreSQL for each operation.
    pub postgres_us: f64,
    /// CPU time of the gateway for each operation.
    pub gateway_us: f64,
    /// CPU time of wrk or pgbench for each operation.
    pub client_us: f64,
    /// Load average at the end.
    pub load: f64,
}

/// Everything that is started once.
pub struct Bench {
    /// How it was called.
    pub options: Options,
    /// The database.
    pub database: Database,
    pub(crate) runtime: Runtime,
    wrk: Wrk,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) secret_key: String,
    key: String,
    caller: Caller,
    sink: Role,
    endpoints: Vec<String>,
    pub(crate) samples: Samples,
    pub(crate) paid: std::rc::Rc<Paid>,
    memory_idle_kb: u64,
    memory_load_kb: u64,
    memory_highest_kb: u64,
}

fn settings(options: &Options, database: &Database, secret_key: &str) -> Vec<(String, String)> {
    let own = [
        ("CHECKSTAND_LISTEN", "127.0.0.1:0".to_owned()),
        ("CHECKSTAND_PUBLIC_URL", "http://127.0.0.1:4242".to_owned()),
        ("DATABASE_URL", database.url()),
        ("CHECKSTAND_SECRET_KEYS", secret_key.to_owned()),
        ("CHECKSTAND_LOOPBACK_WEBHOOKS", "true".to_owned()),
    ];
    let given = options.env.iter().filter_map(|one| one.split_once('='));
    own.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(given.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// A merchant with a key and an allow-list.
async fn merchant(app: &App) -> (String, Caller) {
    let new = NewMerchant {
        id: Some(MerchantId::generate(app.clock.now())),
        name: "Corner Coffee".to_owned(),
        support_email: Some("help@corner-coffee.example".to_owned()),
        accent_color: Some("#1f6f54".to_owned()),
    };
    let row = merchants::create(app, new).await.expect("a merchant");
    let merchant_id = merchants::find(app, &row.id).await.expect("the merchant");
    let key = SecretKey::generate(false);
    let new_key =
        NewKey { merchant_id: merchant_id.clone(), name: "bench".to_owned(), loopback_only: false, expires_at: None };
    merchants::store_key(app, &key, new_key).await.expect("a key");
    let caller = Caller { merchant_id, livemode: false };
    redirect_urls::create(app, &write(&caller), "https://shop.example").await.expect("a redirect URL");
    (key.expose().to_owned(), caller)
}

fn write(caller: &Caller) -> Write {
    Write { caller: caller.clone(), request_id: None, idempotency: None }
}

async fn endpoint(app: &App, caller: &Caller, address: &str, path: &str) -> String {
    let new = NewEndpoint {
        url: format!("http://{address}{path}"),
        enabled_events: vec!["*".to_owned()],
        description: None,
        metadata: Default::default(),
        api_version: None,
        options: Default::default(),
    };
    let answer = endpoints::create(app, &write(caller), new).await.expect("an endpoint");
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    json["id"].as_str().expect("an id").to_owned()
}

async fn post_session(client: &reqwest::Client, address: &str, key: &str, idempotency_key: &str) -> String {
    let request = client
        .post(format!("http://{address}/v1/checkout/sessions"))
        .bearer_auth(key)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("idempotency-key", idempotency_key)
        .body(FORM);
    let response = request.send().await.expect("the gateway answers");
    let status = response.status();
    let text = response.text().await.expect("a whole answer");
    assert!(status.is_success(), "{status}: {text}");
    text
}

fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("an HTTP client")
}

impl Bench {
    /// Starts PostgreSQL and the receiver, makes a merchant and a sample of each row.
    pub fn start(options: Options) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let database = Database::start(&runtime);
        let sink = Role::start(&["--sink"], &[]);
        let secret_key = STANDARD.encode(rand::random::<[u8; 32]>());
        let environment = settings(&options, &database, &secret_key);
        let config = Config::read(None, environment.clone()).expect("the benchmark's own settings");
        let (key, caller, endpoint_id) = runtime.block_on(async {
            let gateway = Gateway::open(config, Roles { worker: false }).await.expect("the gateway opens");
            let (key, caller) = merchant(&gateway.app).await;
            let endpoint_id = endpoint(&gateway.app, &caller, &sink.address, "/webhooks").await;
            gateway.stop().await;
            (key, caller, endpoint_id)
        });
        let gateway = Role::start(&["--gateway"], &environment);
        let (samples, paid) = runtime.block_on(async {
            let key_of_sample = format!("{:036}", 0);
            let client = http_client();
            let session = post_session(&client, &gateway.address, &key, &key_of_sample).await;
            let samples = Samples {
                session: database.sample("checkout_session").await,
                event: database.sample("event").await,
                reply: database.sample("idempotency_key").await,
                delivery: database.sample("delivery").await,
            };
            let session: serde_json::Value = serde_json::from_str(&session).expect("JSON");
            let keyring = Keyring::new(&[SecretString::from(secret_key.clone())]).expect("a key ring");
            Self::pay_sample(&client, &gateway.address, &keyring, session["id"].as_str().expect("an id")).await;
            (samples, Paid::read(&database).await)
        });
        gateway.stop();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            wrk: Wrk::new(folder.path()),
            endpoints: vec![endpoint_id],
            memory_idle_kb: 0,
            memory_load_kb: 0,
            memory_highest_kb: 0,
            options,
            database,
            runtime,
            folder,
            secret_key,
            key,
            caller,
            sink,
            samples,
            paid: std::rc::Rc::new(paid),
        }
    }

    /// PostgreSQL's version.
    pub fn server_version(&self) -> String {
        self.runtime.block_on(self.database.text("select 'PostgreSQL ' || current_setting('server_version')"))
    }

    fn gateway(&mut self, worker: bool) -> Role {
        let environment = settings(&self.options, &self.database, &self.secret_key);
        let arguments: &[&str] = if worker { &["--gateway", "--worker"] } else { &["--gateway"] };
        let gateway = Role::start(arguments, &environment);
        self.memory_idle_kb = self.memory_idle_kb.max(memory_kb(gateway.id()).0);
        gateway
    }

    /// Stops a gateway after noting its memory.
    fn end_gateway(&mut self, gateway: Role, watched_kb: u64) {
        self.memory_load_kb = self.memory_load_kb.max(watched_kb);
        self.memory_highest_kb = self.memory_highest_kb.max(memory_kb(gateway.id()).1);
        gateway.stop();
    }

    pub(crate) fn run_base(&self, script: &Script) -> Run {
        let (postgres, client) = (cpu_micros_with_children(self.database.process()), cpu_micros_of_ended_children());
        let rate = pgbench(&self.database, script, self.options.clients, self.options.seconds);
        let operations = rate * self.options.seconds as f64;
        let postgres_us = (cpu_micros_with_children(self.database.process()) - postgres) as f64 / operations;
        let client_us = (cpu_micros_of_ended_children() - client) as f64 / operations;
        Run { rate, p50_ms: 0.0, p99_ms: 0.0, postgres_us, gateway_us: 0.0, client_us, load: load_average() }
    }

    pub(crate) fn run_gateway(&mut self, worker: bool, work: impl Fn(&Wrk, &str, u64, &str) -> Answers) -> Run {
        let gateway = self.gateway(worker);
        work(&self.wrk, &gateway.address, WARM_UP_SECONDS, "warm");
        let watch = MemoryWatch::start(gateway.id());
        let postgres = cpu_micros_with_children(self.database.process());
        let (own, client) = (cpu_micros(gateway.id()), cpu_micros_of_ended_children());
        let answers = work(&self.wrk, &gateway.address, self.options.seconds, "measured");
        let each = |micros: u64| micros as f64 / answers.count as f64;
        let run = Run {
            rate: answers.rate,
            p50_ms: answers.p50_ms,
            p99_ms: answers.p99_ms,
            postgres_us: each(cpu_micros_with_children(self.database.process()) - postgres),
            gateway_us: each(cpu_micros(gateway.id()) - own),
            client_us: each(cpu_micros_of_ended_children() - client),
            load: load_average(),
        };
        self.end_gateway(gateway, watch.end());
        run
    }

    /// Lets contestants take turns.
    pub(crate) fn compare(
        &mut self,
        names: &[&str],
        mut contestant: impl FnMut(&mut Self, usize) -> Run,
    ) -> Vec<Vec<Run>> {
        let mut runs: Vec<Vec<Run>> = names.iter().map(|_| Vec::new()).collect();
        for round in 0..self.options.rounds {
            let mut order: Vec<usize> = (0..names.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for place in order {
                let run = contestant(self, place);
                print_run(names[place], &run);
                runs[place].push(run);
            }
        }
        runs
    }

    /// Creations beside pgbench.
    pub fn create(&mut self) {
        let names = [
            "pgbench: session and event",
            "pgbench: session, event, key, delivery",
            "gateway: session, event, key, delivery",
            "gateway: the same, delivering meanwhile",
        ];
        let clients = self.options.clients;
        let scripts = [false, true].map(|all| Script::creation(self.folder.path(), &self.samples, clients, all));
        let runs = self.compare(&names, |bench, place| {
            bench.runtime.block_on(bench.database.empty());
            if place < scripts.len() {
                return bench.run_base(&scripts[place]);
            }
            let key = bench.key.clone();
            let run = bench
                .run_gateway(place == 3, |wrk, address, seconds, run| wrk.create(address, clients, seconds, &key, run));
            let (sessions, keys) = bench.runtime.block_on(async {
                (bench.database.count("checkout_session").await, bench.database.count("idempotency_key").await)
            });
            assert!(sessions == keys, "{sessions} sessions but {keys} idempotency keys");
            run
        });
        print_table("Creations, as ratio to the first line", &names, &runs);
        print_target("create / pgbench session and event", ratio(&runs[2], &runs[0]).0, 0.8, false);
        println!();
    }

    /// Page views beside pgbench.
    pub fn page(&mut self) {
        let names =
            ["pgbench: one column by primary key", "pgbench: the whole row by primary key", "gateway: hosted page"];
        let paths = self.folder.path().join("pages.txt");
        let keyring = Keyring::new(&[SecretString::from(self.secret_key.clone())]).expect("a key ring");
        let pages: String = (1..=PAGE_SESSIONS)
            .map(|number| {
                let id = SessionId::parse(&format!("{SESSION_PREFIX}{number:0digits$}", digits = ID_DIGITS));
                format!("/c/{}\n", keyring.payer_token(&id.expect("an id of digits")))
            })
            .collect();
        std::fs::write(&paths, &pages).expect("the temporary folder takes files");
        self.runtime.block_on(async {
            self.database.empty().await;
            self.database.fill_sessions(&self.samples.session, PAGE_SESSIONS).await;
        });
        self.check_page(pages.lines().next().unwrap_or_default());
        let scripts =
            ["amount_total", "*"].map(|columns| Script::selection(self.folder.path(), PAGE_SESSIONS, columns));
        let clients = self.options.clients;
        let runs = self.compare(&names, |bench, place| match scripts.get(place) {
            Some(script) => bench.run_base(script),
            None => bench.run_gateway(false, |wrk, address, seconds, _| wrk.page(address, clients, seconds, &paths)),
        });
        print_table("Hosted pages, as ratio to the first line", &names, &runs);
        print_target("page / pgbench select-only", ratio(&runs[2], &runs[0]).0, 0.4, false);
        println!();
    }

    fn check_page(&mut self, path: &str) {
        let gateway = self.gateway(false);
        let url = format!("http://{}{path}", gateway.address);
        self.runtime.block_on(async {
            let response = http_client().get(url).send().await.expect("the gateway answers");
            let status = response.status();
            let text = response.text().await.expect("a whole page");
            assert!(status.is_success() && text.contains("House blend"), "{status}: {text}");
            println!("  a page has {} bytes", text.len());
        });
        gateway.stop();
    }

    async fn sink_count(&self, client: &reqwest::Client) -> usize {
        let url = format!("http://{}/count", self.sink.address);
        let text = client.get(url).send().await.expect("the sink answers").text().await.expect("a number");
        text.parse().expect("a number")
    }

    async fn sink_forget(&self, client: &reqwest::Client) {
        client.post(format!("http://{}/forget", self.sink.address)).send().await.expect("the sink answers");
    }

    /// Arrivals at the sink: event and microseconds since 1970.
    async fn sink_arrivals(&self, client: &reqwest::Client) -> Vec<(String, i64)> {
        let url = format!("http://{}/arrivals", self.sink.address);
        let text = client.get(url).send().await.expect("the sink answers").text().await.expect("arrivals");
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, at)| (id.to_owned(), at.parse().expect("a number")))
            .collect()
    }

    /// Deliveries to a receiver on this machine: first to one endpoint, then to eight.
    pub fn deliver(&mut self) {
        println!("Deliveries drained from the queue ({} events)", self.options.deliveries);
        let event = "x".repeat(EVENT_BYTES);
        for endpoints in [1, 8] {
            self.add_endpoints(endpoints);
            for _ in 0..self.options.rounds {
                let Options { clients, seconds, .. } = self.options;
                let ceiling = self.wrk.deliver(&self.sink.address, clients, seconds, &event).rate;
                println!("  {:<44} {ceiling:>9.0}/s", "what the receiver takes from wrk");
                let run = self.drain();
                println!(
                    "  {:<44} {:>9.0}/s   us/op: pg {:.0}, app {:.0}, receiver {:.0}   load {:.1}",
                    format!("{endpoints} endpoint(s)"),
                    run.rate,
                    run.postgres_us,
                    run.gateway_us,
                    run.client_us,
                    run.load
                );
                print_target("deliveries / what the receiver takes", run.rate / ceiling, 0.25, false);
                let cpu_ms = (run.postgres_us + run.gateway_us) / 1e3;
                print_target("CPU ms of PostgreSQL and gateway for each", cpu_ms, CPU_MS_PER_DELIVERY_MAX, true);
            }
        }
        println!();
    }

    fn add_endpoints(&mut self, count: usize) {
        let environment = settings(&self.options, &self.database, &self.secret_key);
        let config = Config::read(None, environment).expect("the benchmark's own settings");
        self.runtime.block_on(async {
            let gateway = Gateway::open(config, Roles { worker: false }).await.expect("the gateway opens");
            while self.endpoints.len() < count {
                self.endpoints.push(endpoint(&gateway.app, &self.caller, &self.sink.address, "/webhooks").await);
            }
            gateway.stop().await;
        });
    }

    fn drain(&mut self) -> Run {
        let client = http_client();
        let count = self.options.deliveries;
        self.runtime.block_on(async {
            self.database.empty().await;
            self.database.fill_deliveries(&self.samples.event, &self.samples.delivery, &self.endpoints, count).await;
            self.sink_forget(&client).await;
        });
        let (postgres, sink) = (cpu_micros_with_children(self.database.process()), cpu_micros(self.sink.id()));
        let gateway = self.gateway(true);
        let watch = MemoryWatch::start(gateway.id());
        let deadline = Instant::now() + DRAIN_WAIT;
        let arrivals = self.runtime.block_on(async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while i64::try_from(self.sink_count(&client).await).unwrap_or(0) < count && Instant::now() < deadline {
                look.tick().await;
            }
            self.sink_arrivals(&client).await
        });
        let each = |micros: u64| micros as f64 / arrivals.len() as f64;
        let (first, last) = (arrivals.first().map_or(0, |one| one.1), arrivals.last().map_or(1, |one| one.1));
        let run = Run {
            rate: arrivals.len() as f64 * 1e6 / (last - first) as f64,
            p50_ms: 0.0,
            p99_ms: 0.0,
            postgres_us: each(cpu_micros_with_children(self.database.process()) - postgres),
            gateway_us: each(cpu_micros(gateway.id())),
            client_us: each(cpu_micros(self.sink.id()) - sink),
            load: load_average(),
        };
        self.end_gateway(gateway, watch.end());
        run
    }

    /// From the commit of a session's event to its arrival at the receiver: idle, under load, beside an endpoint that takes
    /// ten seconds for each answer, and while that one is owed a hundred thousand deliveries.
    pub fn latency(&mut self) {
        self.runtime.block_on(async {
            self.database.empty().await;
            self.database.execute("alter system set track_commit_timestamp = on").await;
        });
        self.database.restart();
        self.runtime.block_on(async {
            let sql = format!("update webhook_endpoint set status = 'disabled' where id <> '{}'", self.endpoints[0]);
            self.database.execute(&sql).await;
        });
        println!("From commit to the first attempt's arrival");
        self.first_attempts("idle", IDLE_RATE);
        self.first_attempts("under load", LATENCY_RATE);
        let slow = self.add_slow_endpoint();
        let p95 = self.first_attempts("beside an endpoint that answers after 10 s", NEIGHBOUR_RATE);
        print_target("p95 beside the slow one in ms", p95, 50.0, true);
        let (event, delivery) = (&self.samples.event, &self.samples.delivery);
        self.runtime.block_on(self.database.fill_deliveries(event, delivery, &[slow], BACKLOG));
        let p95 = self.first_attempts("beside it and the 100,000 it is owed", NEIGHBOUR_RATE);
        print_target("p95 beside the backlog in ms", p95, 50.0, true);
        println!();
    }

    fn add_slow_endpoint(&mut self) -> String {
        let environment = settings(&self.options, &self.database, &self.secret_key);
        let config = Config::read(None, environment).expect("the benchmark's own settings");
        self.runtime.block_on(async {
            let gateway = Gateway::open(config, Roles { worker: false }).await.expect("the gateway opens");
            let slow = endpoint(&gateway.app, &self.caller, &self.sink.address, "/slow").await;
            gateway.stop().await;
            slow
        })
    }

    /// Gives the 95th percentile in milliseconds.
    fn first_attempts(&mut self, label: &str, rate: u64) -> f64 {
        let client = http_client();
        self.runtime.block_on(self.sink_forget(&client));
        let gateway = self.gateway(true);
        let total = rate * self.options.seconds;
        let (arrivals, committed) = self.runtime.block_on(async {
            let mut turn = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
            let mut posts = tokio::task::JoinSet::new();
            for number in 0..total {
                turn.tick().await;
                let (client, address, key) = (client.clone(), gateway.address.clone(), self.key.clone());
                let own_key = format!("{}-{number}", label.replace(' ', "-"));
                posts.spawn(async move { post_session(&client, &address, &key, &own_key).await });
            }
            while let Some(posted) = posts.join_next().await {
                posted.expect("a post does not panic");
            }
            let deadline = Instant::now() + DRAIN_WAIT;
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while (self.sink_count(&client).await as u64) < total && Instant::now() < deadline {
                look.tick().await;
            }
            let sql = "select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1e6)::int8::text from event";
            (self.sink_arrivals(&client).await, self.database.pairs(sql).await)
        });
        self.end_gateway(gateway, 0);
        let mut arrived = std::collections::HashMap::new();
        for (id, at) in arrivals {
            // The first attempt counts.
            arrived.entry(id).or_insert(at);
        }
        let mut waits: Vec<f64> = committed
            .iter()
            .filter_map(|(id, at)| Some((arrived.get(id)? - at.parse::<i64>().ok()?) as f64 / 1e3))
            .collect();
        waits.sort_by(f64::total_cmp);
        let p95 = percentile(&waits, 950);
        println!(
            "  {label}, {rate} a second: {} of {total} arrived; p50 {:.1} ms, p95 {p95:.1} ms, p99 {:.1} ms, longest {:.1} ms, load {:.1}",
            waits.len(),
            percentile(&waits, 500),
            percentile(&waits, 990),
            waits.last().copied().unwrap_or(0.0),
            load_average()
        );
        p95
    }

    /// Memory, and the end.
    pub fn end(self) {
        let megabytes = |kb: u64| kb as f64 / 1024.0;
        println!(
            "Resident memory of the gateway: after its start {:.1} MB, under load {:.1} MB (highest ever {:.1} MB)",
            megabytes(self.memory_idle_kb),
            megabytes(self.memory_load_kb),
            megabytes(self.memory_highest_kb)
        );
        print_target("memory under load in MB", megabytes(self.memory_highest_kb), 60.0, true);
        drop(self.sink);
        self.database.stop();
    }
}
