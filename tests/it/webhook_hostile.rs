//! Receivers that behave as badly as they can: each costs its sender one bounded attempt, says in the
//! log what went wrong, and keeps its neighbour from nothing.

use std::sync::Arc;
use std::time::Duration;

use checkstand::config::Config;
use checkstand::ops::endpoint_health::EndpointKeeper;
use checkstand::worker::deliver::{self, DeliverSettings, DeliverWorker};
use serde_json::Value;

use crate::hostile_receiver::HostileReceiver;
use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

/// The stories' worker gives an attempt this long instead of fifteen seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(14);

/// And this long until an answer is begun.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(12);

/// Far above what kernels buffer between two sockets, far below a gigabyte.
const HUGE_WRITTEN_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// A world whose own worker has little patience.
async fn impatient() -> (World, DeliverWorker) {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let (app, clock) = (world.app(), Arc::clone(&world.app().clock));
    let limits = Config::read(None, []).and_then(|config| config.endpoint_health()).expect("the defaults are fine");
    let (pool, keyring) = (app.store.pool().clone(), Arc::clone(&app.keyring));
    let keeper = EndpointKeeper { pool, keyring, mail: app.settings.mail, limits };
    let settings = DeliverSettings {
        first_byte_timeout: FIRST_BYTE_TIMEOUT,
        attempt_timeout: ATTEMPT_TIMEOUT,
        allow_loopback: true,
        ..DeliverSettings::default()
    };
    let (_, worker) = deliver::start(keeper, Arc::new(move || clock.now()), settings).expect("a worker");
    (world, worker)
}

/// Keeps every connection open; gives the port.
fn mute_for_ever(listener: tokio::net::TcpListener) -> u16 {
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok(connection) = listener.accept().await {
            taken.push(connection);
        }
    });
    port
}

// Some of them never stop writing, and must not do it on the sender's thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_receivers_cost_one_bounded_attempt_each() {
    let (world, worker) = impatient().await;
    let merchant = world.merchant().await;
    // An address each: to one and the same the sender would keep connections, and wait on one that another case has left
    // hanging.
    let at = async |path: &str| HostileReceiver::start().await.url(path);
    let [huge, early] = [HostileReceiver::start().await, HostileReceiver::start().await];
    // Takes connections and says nothing on them, not even who it is.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mute = format!("https://localhost:{}/", mute_for_ever(mute));
    let tls = at("/tls").await.replace("http://127.0.0.1", "https://localhost");
    let cases: [(String, &str, Value, &str); 15] = [
        (at("/hang").await, "retry", Value::Null, "no answer was begun within 12 s"),
        (at("/drip").await, "retry", 200.into(), "no complete answer within 14 s"),
        (at("/close").await, "retry", Value::Null, "no complete answer"),
        (at("/reset").await, "retry", Value::Null, "no complete answer"),
        (at("/garbage").await, "retry", Value::Null, "no complete answer"),
        (at("/half").await, "retry", 200.into(), "no complete answer"),
        (at("/endless-head").await, "retry", Value::Null, "no complete answer"),
        (at("/large-head").await, "retry", Value::Null, "no complete answer"),
        (early.url("/early-answers"), "retry", Value::Null, "no complete answer: the answer and what came around it"),
        (mute, "retry", Value::Null, "no connection within 5 s"),
        // Not HTTP over TLS at all.
        (tls, "retry", Value::Null, "no connection: "),
        // No such name: RFC 6761 keeps it free for ever.
        ("https://hooks.nowhere.invalid/".to_owned(), "retry", Value::Null, "no connection: "),
        // The status says that it was taken; how much is said beside it does not matter.
        (huge.url("/huge"), "delivered", 200.into(), ""),
        (at("/bomb").await, "delivered", 200.into(), ""),
        (at("/crumbs").await, "delivered", 200.into(), ""),
    ];
    let mut endpoints = Vec::new();
    for (url, ..) in &cases {
        let endpoint = merchant.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", "*")]).await.ok();
        endpoints.push(endpoint["id"].clone());
    }
    let neighbour = world.receiver(&merchant).await;
    merchant.session().await;
    let event = neighbour.wait_for(CREATED).await;
    // The quick ones may be tried again before the slow ones have failed once: the first attempts are judged.
    let firsts = |log: &Value| -> Vec<Value> {
        let attempts = log["attempts"].as_array().expect("a list");
        attempts.iter().filter(|attempt| attempt["attempt"] == 1).cloned().collect()
    };
    let attempts = eventually("a first attempt of each", async || {
        let first = firsts(&merchant.deliveries_of(event.event_id()).await);
        (first.len() == cases.len() + 1).then_some(first)
    })
    .await;
    for ((url, outcome, status, error), endpoint) in cases.iter().zip(&endpoints) {
        let attempt = attempts.iter().find(|one| one["webhook_endpoint"] == *endpoint).expect("an attempt");
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&(*outcome).into(), status), "{url}: {attempt}");
        assert!(attempt["error"].as_str().unwrap_or("").starts_with(error), "{url}: {attempt}");
        assert!(attempt["response_excerpt"].as_str().unwrap_or("").len() <= 1024, "{url}");
    }
    // What was written of the gigabyte is what the kernel holds for two sockets, and not what was read of it.
    for endless in [huge, early] {
        let written = endless.written();
        assert!(written > 0 && written < HUGE_WRITTEN_BYTES_MAX, "{written} bytes were read of an answer without end");
    }
    worker.stop(Duration::ZERO).await;
    world.end().await;
}
