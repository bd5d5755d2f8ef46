//! A webhook endpoint for stories with very many deliveries: of each it keeps its event and a digest of its body, and no more.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use checkstand::gateway::bind;
use checkstand::server::{self, ServerLimits};
use tokio_util::sync::CancellationToken;

use crate::merchant::Merchant;
use crate::world::eventually;

/// What has arrived.
#[derive(Default)]
struct Arrived {
    /// The digest of each event's body.
    bodies: HashMap<String, u64>,
    deliveries: usize,
    /// An event that came with two bodies.
    torn: Option<String>,
}

#[derive(Default)]
struct Inner {
    digests: RandomState,
    arrived: Mutex<Arrived>,
}

/// The endpoint.
pub struct Tally {
    url: String,
    inner: Arc<Inner>,
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> &'static str {
    let id = headers["webhook-id"].to_str().expect("ids are ASCII").to_owned();
    let digest = inner.digests.hash_one(&body[..]);
    let mut arrived = inner.arrived.lock().expect("not poisoned");
    arrived.deliveries += 1;
    if *arrived.bodies.entry(id.clone()).or_insert(digest) != digest {
        arrived.torn = Some(id);
    }
    "seen"
}

impl Tally {
    /// Listens, and is registered for every event.
    pub async fn register(merchant: &Merchant) -> Self {
        let (listener, address) = bind("127.0.0.1:0", "--listen").await.expect("a free port");
        let inner: Arc<Inner> = Arc::default();
        let router = Router::new().route("/webhooks", post(receive)).with_state(Arc::clone(&inner));
        tokio::spawn(server::serve(listener, router, ServerLimits::default(), CancellationToken::new()));
        let url = format!("http://{address}/webhooks");
        merchant.post("/v1/webhook_endpoints", &[("url", &url), ("enabled_events[]", "*")]).await.ok();
        Self { url, inner }
    }

    /// Deliveries so far, repeats included.
    pub fn deliveries(&self) -> usize {
        self.inner.arrived.lock().expect("not poisoned").deliveries
    }

    /// Different events so far.
    pub fn events(&self) -> usize {
        self.inner.arrived.lock().expect("not poisoned").bodies.len()
    }

    /// Waits for so many deliveries.
    #[track_caller]
    pub fn wait_for<'t>(&'t self, deliveries: usize) -> impl Future<Output = ()> + use<'t> {
        let what = format!("{deliveries} deliveries at {}", self.url);
        eventually(&what, async move || (self.deliveries() >= deliveries).then_some(()))
    }

    /// Fails if one event came with two bodies.
    #[track_caller]
    pub fn equal_ids_meant_equal_bodies(&self) {
        let torn = self.inner.arrived.lock().expect("not poisoned").torn.clone();
        assert_eq!(torn, None, "one id, two bodies");
    }
}
