//! Receivers that behave as badly as they can: each costs its sender one bounded attempt, says in the
//! log what went wrong, and keeps its neighbour from nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use checkstand::ops::endpoint_health::EndpointKeeper;
use checkstand::worker::deliver::{self, DeliverSettings, DeliverWorker};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

/// The stories' worker gives an attempt this long instead of fifteen seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(14);

/// And this long until an answer is begun.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(12);

/// Between two bytes of the dripping receiver.
const DRIP_EVERY: Duration = Duration::from_millis(100);

/// What the receiver of `/huge` could write before the sender had enough, over all tries.
static WRITTEN_OF_HUGE: AtomicU64 = AtomicU64::new(0);

/// Far above what kernels buffer between two sockets, far below a gigabyte.
const HUGE_WRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A world whose own worker has little patience.
async fn impatient() -> (World, DeliverWorker) {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let (app, clock) = (world.app(), Arc::clone(&world.app().clock));
    let keeper =
        EndpointKeeper { pool: app.store.pool().clone(), keyring: Arc::clone(&app.keyring), mail: app.settings.mail };
    let settings = DeliverSettings {
        first_byte_timeout: FIRST_BYTE_TIMEOUT,
        attempt_timeout: ATTEMPT_TIMEOUT,
        allow_loopback: true,
        ..DeliverSettings::default()
    };
    let (_, worker) = deliver::start(keeper, Arc::new(move || clock.now()), settings).expect("a worker");
    (world, worker)
}

/// Reads one request to the end of its body and gives its path.
async fn read_request(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut read = Vec::new();
    let mut chunk = [0_u8; 8192];
    loop {
        // The first byte of a TLS handshake, which never looks like a request.
        if read.first() == Some(&0x16) {
            return Ok("/tls".to_owned());
        }
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
            if read.len() >= end + 4 + length {
                return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
            }
        }
        match socket.read(&mut chunk).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&chunk[..count]),
        }
    }
}

async fn misbehave(mut socket: TcpStream) -> std::io::Result<()> {
    let path = read_request(&mut socket).await?;
    match path.as_str() {
        "/hang" => std::future::pending().await,
        "/close" => Ok(()),
        "/reset" => socket.set_zero_linger(),
        "/garbage" => socket.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await,
        "/half" => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await,
        "/drip" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            let mut beat = tokio::time::interval(DRIP_EVERY);
            loop {
                beat.tick().await;
                socket.write_all(b"x").await?;
            }
        }
        "/endless-head" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                socket.write_all(b"x-more: and more and more and more and more\r\n").await?;
            }
        }
        "/huge" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await?;
            loop {
                socket.write_all(&[b'y'; 65536]).await?;
                WRITTEN_OF_HUGE.fetch_add(65536, Ordering::Relaxed);
            }
        }
        "/bomb" => {
            // Said to be compressed, which was not asked for; nothing here unpacks it.
            let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
            socket.write_all(head).await?;
            std::future::pending().await
        }
        _ => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await,
    }
}

async fn hostile_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(misbehave(socket));
        }
    });
    address
}

// Some of them never stop writing, and must not do it on the sender's thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_receivers_cost_one_bounded_attempt_each() {
    let (world, worker) = impatient().await;
    let merchant = world.merchant().await;
    // An address each: to one and the same the sender would keep connections, and wait on one that another case has left
    // hanging.
    let at = async |path: &str| format!("http://{}{path}", hostile_server().await);
    let tls = at("/tls").await.replace("http://127.0.0.1", "https://localhost");
    let cases: [(String, &str, Value, &str); 11] = [
        (at("/hang").await, "retry", Value::Null, "no answer was begun within 12 s"),
        (at("/drip").await, "retry", 200.into(), "no complete answer within 14 s"),
        (at("/close").await, "retry", Value::Null, "no complete answer"),
        (at("/reset").await, "retry", Value::Null, "no complete answer"),
        (at("/garbage").await, "retry", Value::Null, "no complete answer"),
        (at("/half").await, "retry", 200.into(), "no complete answer"),
        (at("/endless-head").await, "retry", Value::Null, "no complete answer"),
        // Not HTTP over TLS at all.
        (tls, "retry", Value::Null, "no connection: "),
        // No such name: RFC 6761 keeps it free for ever.
        ("https://hooks.nowhere.invalid/".to_owned(), "retry", Value::Null, "no connection: "),
        // The status says that it was taken; how much is said beside it does not matter.
        (at("/huge").await, "delivered", 200.into(), ""),
        (at("/bomb").await, "delivered", 200.into(), ""),
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
    let written = WRITTEN_OF_HUGE.load(Ordering::Relaxed);
    assert!(written > 0 && written < HUGE_WRITTEN_BYTES_MAX, "{written} bytes were read of an answer without end");
    worker.stop(Duration::ZERO).await;
    world.end().await;
}
