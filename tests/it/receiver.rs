//! A merchant's webhook endpoint: a real HTTP server that records what arrives and answers as told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use checkstand::server::{self, ServerLimits};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::merchant::Merchant;

/// How long a story waits for a webhook before it fails: a bound, not a measurement.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// One delivery as it arrived.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub headers: HashMap<String, String>,
    pub body: String,
    pub json: Value,
}

impl Delivery {
    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default()
    }

    pub fn event_id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    pub fn object_id(&self) -> &str {
        self.json["data"]["object"]["id"].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct Inner {
    deliveries: Mutex<Vec<Delivery>>,
    arrived: Notify,
    status: Mutex<Option<u16>>,
    /// When set, answers wait for a permit.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

/// The endpoint.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    /// Its signing secret, once registered.
    pub secret: String,
    /// Its id, once registered.
    pub endpoint_id: String,
    inner: Arc<Inner>,
    stop: CancellationToken,
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = String::from_utf8(body.to_vec()).expect("webhook bodies are text");
    let json = serde_json::from_str(&body).expect("webhook bodies are JSON");
    inner.deliveries.lock().expect("not poisoned").push(Delivery { headers, body, json });
    inner.arrived.notify_waiters();
    let gate = inner.gate.lock().expect("not poisoned").clone();
    if let Some(gate) = gate {
        gate.acquire().await.expect("the gate lives").forget();
    }
    let status = inner.status.lock().expect("not poisoned").unwrap_or(200);
    (StatusCode::from_u16(status).expect("a status"), "seen").into_response()
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/webhooks", listener.local_addr().expect("an address"));
        let inner = Arc::new(Inner::default());
        let router = Router::new().route("/webhooks", post(receive)).with_state(Arc::clone(&inner));
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, router, ServerLimits::default(), stop.clone()));
        Self { url, secret: String::new(), endpoint_id: String::new(), inner, stop }
    }

    /// Registers it at the gateway for these events.
    pub async fn register(&mut self, merchant: &Merchant, events: &[&str]) {
        let mut fields = vec![("url", self.url.as_str())];
        fields.extend(events.iter().map(|event| ("enabled_events[]", *event)));
        let endpoint = merchant.post("/v1/webhook_endpoints", &fields).await.ok();
        self.secret = endpoint["secret"].as_str().expect("the secret is shown once").to_owned();
        self.endpoint_id = endpoint["id"].as_str().expect("an id").to_owned();
    }

    /// Answers with this status from now on.
    pub fn answer_with(&self, status: u16) {
        *self.inner.status.lock().expect("not poisoned") = Some(status);
    }

    /// Holds answers back until the returned gate is given permits.
    pub fn hold_answers(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.inner.gate.lock().expect("not poisoned") = Some(Arc::clone(&gate));
        gate
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.inner.deliveries.lock().expect("not poisoned").clone()
    }

    /// Waits until the deliveries satisfy a condition, and gives them.
    #[track_caller]
    pub fn wait_until(
        &self,
        what: &str,
        condition: impl Fn(&[Delivery]) -> bool,
    ) -> impl Future<Output = Vec<Delivery>> {
        let caller = std::panic::Location::caller();
        async move {
            let waiting = async {
                loop {
                    let arrived = self.inner.arrived.notified();
                    tokio::pin!(arrived);
                    // Registered before looking, so that nothing slips through in between.
                    arrived.as_mut().enable();
                    let deliveries = self.deliveries();
                    if condition(&deliveries) {
                        return deliveries;
                    }
                    arrived.await;
                }
            };
            match tokio::time::timeout(WAIT_MAX, waiting).await {
                Ok(deliveries) => deliveries,
                Err(_) => {
                    let kinds: Vec<String> =
                        self.deliveries().iter().map(|delivery| delivery.kind().to_owned()).collect();
                    panic!("{caller}: waited for {what}; arrived: {kinds:?}")
                }
            }
        }
    }

    /// Waits for an event of this type and gives its first delivery.
    #[track_caller]
    pub fn wait_for(&self, kind: &str) -> impl Future<Output = Delivery> {
        let kind = kind.to_owned();
        let caller = std::panic::Location::caller();
        async move {
            let wanted = kind.clone();
            let deliveries =
                self.wait_until(&kind, move |all| all.iter().any(|delivery| delivery.kind() == wanted)).await;
            deliveries
                .into_iter()
                .find(|delivery| delivery.kind() == kind)
                .unwrap_or_else(|| panic!("{caller}: {kind} arrived"))
        }
    }

    /// Closes the socket; later deliveries are refused.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}
