//! The two other processes: this program started again as the gateway or as a merchant's receiver.
//!
//! The gateway is the library's own, put together as the command line does it; each of them tells its
//! address in the first line of its output and ends with SIGTERM.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use checkstand::config::Config;
use checkstand::gateway::{Gateway, Roles, bind};
use checkstand::server::{self, ServerLimits};
use checkstand::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(work);
}

fn announce(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").expect("the benchmark reads the address");
    out.flush().expect("the benchmark reads the address");
}

fn stop_on_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        signal(SignalKind::terminate()).expect("signals can be caught").recv().await;
        stop.cancel();
    });
    shutdown
}

/// Serves the gateway, configured by the environment.
pub fn gateway(worker: bool) {
    run(async move {
        let config = Config::read(None, std::env::vars()).expect("the benchmark's own settings");
        let (listener, address) = bind(&config.listen, "--listen").await.expect("a free port");
        telemetry::prometheus();
        let gateway = Gateway::open(config.clone(), Roles { worker }).await.expect("the gateway opens");
        announce(&address.to_string());
        // After the address, which stands in the same output.
        telemetry::init(config.log_format.into(), &config.log_filter).expect("logging starts");
        gateway.serve(listener, None, stop_on_signal()).await;
    });
}

type Arrivals = Arc<Mutex<Vec<(String, u128)>>>;

async fn receive(State(arrivals): State<Arrivals>, headers: HeaderMap, _body: axum::body::Bytes) -> &'static str {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    arrivals.lock().expect("not poisoned").push((id, at));
    "ok"
}

/// How long the slow endpoint takes.
const SLOW: std::time::Duration = std::time::Duration::from_secs(10);

/// Takes webhooks, notes when each arrived, and tells of them: `/count`, `/arrivals`, `/forget`. `/slow` takes its time and notes
/// nothing.
pub fn sink() {
    run(async {
        let arrivals = Arrivals::default();
        let router = Router::new()
            .route("/webhooks", post(receive))
            .route(
                "/slow",
                post(async |_: axum::body::Bytes| {
                    tokio::time::sleep(SLOW).await;
                    "ok"
                }),
            )
            .route(
                "/count",
                get(async |State(arrivals): State<Arrivals>| arrivals.lock().expect("not poisoned").len().to_string()),
            )
            .route(
                "/arrivals",
                get(async |State(arrivals): State<Arrivals>| {
                    let arrivals = arrivals.lock().expect("not poisoned");
                    arrivals.iter().map(|(id, at)| format!("{id} {at}\n")).collect::<String>()
                }),
            )
            .route(
                "/forget",
                post(async |State(arrivals): State<Arrivals>| arrivals.lock().expect("not poisoned").clear()),
            )
            .with_state(arrivals);
        let (listener, address) = bind("127.0.0.1:0", "--listen").await.expect("a free port");
        announce(&address.to_string());
        server::serve(listener, router, ServerLimits::default(), stop_on_signal()).await;
    });
}
