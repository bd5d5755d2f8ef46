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
use checkstand::domain::signature::{SigningSecret, TOLERANCE_SECONDS, verify_standard, verify_stripe};
use checkstand::server::{self, ServerLimits};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::net::TcpSocket;
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

    /// The signed time of this attempt.
    #[track_caller]
    pub fn timestamp(&self) -> i64 {
        self.headers["webhook-timestamp"].parse().expect("a timestamp in unix seconds")
    }
}

/// What the endpoint answers.
#[derive(Clone)]
struct Reply {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: "seen".to_owned() }
    }
}

#[derive(Default)]
struct Inner {
    deliveries: Mutex<Vec<Delivery>>,
    arrived: Notify,
    reply: Mutex<Reply>,
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
    let reply = inner.reply.lock().expect("not poisoned").clone();
    let mut response = (reply.status, reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

impl Receiver {
    pub async fn start() -> Self {
        let (receiver, socket) = Self::closed();
        receiver.open(socket);
        receiver
    }

    /// An endpoint whose port is taken but refuses connections, until [`Receiver::open`].
    pub fn closed() -> (Self, TcpSocket) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let url = format!("http://{}/webhooks", socket.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        (Self { url, secret: String::new(), endpoint_id: String::new(), inner: Arc::default(), stop }, socket)
    }

    pub fn open(&self, socket: TcpSocket) {
        let listener = socket.listen(1024).expect("the port is ours");
        let router = Router::new().route("/webhooks", post(receive)).with_state(Arc::clone(&self.inner));
        // Many deliveries come from one address here.
        let limits = ServerLimits { connections_per_ip_max: 4096, ..ServerLimits::default() };
        tokio::spawn(server::serve(listener, router, limits, self.stop.clone()));
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
        self.inner.reply.lock().expect("not poisoned").status = StatusCode::from_u16(status).expect("a status");
    }

    /// Answers with this header from now on.
    pub fn answer_with_header(&self, name: &'static str, value: &str) {
        self.inner.reply.lock().expect("not poisoned").headers.push((name, value.to_owned()));
    }

    /// Answers with this text from now on.
    pub fn answer_with_body(&self, body: &str) {
        self.inner.reply.lock().expect("not poisoned").body = body.to_owned();
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
    pub fn wait_until<'r, F>(&'r self, what: &str, condition: F) -> impl Future<Output = Vec<Delivery>> + use<'r, F>
    where
        F: Fn(&[Delivery]) -> bool,
    {
        let caller = std::panic::Location::caller();
        let what = what.to_owned();
        async move {
            let waiting = async {
                loop {
                    let arrived = self.inner.arrived.notified();
                    tokio::pin!(arrived);
                    // Registered before looking, so that nothing slips through in between.
                    arrived.as_mut().enable();
                    // Copied only in the end: stories wait for thousands.
                    if condition(&self.inner.deliveries.lock().expect("not poisoned")) {
                        return self.deliveries();
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

    /// Those of one type that have arrived.
    pub fn of_kind(&self, kind: &str) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|delivery| delivery.kind() == kind).collect()
    }

    /// Waits until so many of this type have arrived, and gives them.
    #[track_caller]
    pub fn wait_for_many(&self, kind: &str, count: usize) -> impl Future<Output = Vec<Delivery>> {
        let (kind, wanted) = (kind.to_owned(), kind.to_owned());
        let waiting = self.wait_until(&format!("{count} of {kind}"), move |all| {
            all.iter().filter(|delivery| delivery.kind() == wanted).count() >= count
        });
        async move { waiting.await.into_iter().filter(|delivery| delivery.kind() == kind).collect() }
    }

    /// Checks a delivery as a merchant's backend does that holds this endpoint's secret: both
    /// signatures, at a time that is no more than the usual tolerance away from `now`.
    #[track_caller]
    pub fn believes(&self, delivery: &Delivery, now: DateTime<Utc>) {
        let secrets = [SigningSecret::parse(&self.secret).expect("a well-formed secret")];
        let (now, body, headers) = (now.timestamp(), delivery.body.as_bytes(), &delivery.headers);
        let stripe = verify_stripe(&secrets, &headers["stripe-signature"], body, now, TOLERANCE_SECONDS);
        assert_eq!(stripe, Ok(()), "Stripe-Signature of {}", delivery.body);
        let (id, timestamp) = (&headers["webhook-id"], &headers["webhook-timestamp"]);
        let signature = &headers["webhook-signature"];
        let standard = verify_standard(&secrets, id, timestamp, signature, body, now, TOLERANCE_SECONDS);
        assert_eq!(standard, Ok(()), "webhook-signature of {}", delivery.body);
        assert_eq!(id, delivery.event_id());
        assert!(headers["stripe-signature"].starts_with(&format!("t={timestamp},v1=")));
    }
}
