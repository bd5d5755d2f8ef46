//! localstripe, a published stand-in for Stripe's API, as a process of its own on loopback.
//!
//! It differs from Stripe where that is good for a story: it ignores idempotency keys, accepts refunds
//! of more than was taken, captures what was cancelled and announces that as a success. What really
//! happened is read from its own books.

use std::process::Stdio;

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::merchant::http_client;
use crate::outside::python;

/// A key that it takes. It takes any that begins like this.
pub const KEY: &str = "sk_test_localstripe";

/// What it refuses though Stripe knows it.
pub const REFUSED: [&str; 3] = ["description", "return_url", "statement_descriptor_suffix"];

/// The card that it declines.
pub const DECLINED_NUMBER: &str = "4000000000000341";

/// A running localstripe, empty at first. Dropping it ends it.
pub struct LocalStripe {
    pub base: String,
    _process: Child,
    // It says a little more, and would end on a broken pipe.
    _said: BufReader<ChildStdout>,
}

impl LocalStripe {
    pub async fn start() -> Self {
        let mut command = python("on_loopback.py");
        command.args(["localstripe", "--port", "0", "--from-scratch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().expect("Python starts");
        let stdout = process.stdout.take().expect("it was asked for");
        let (mut said, mut port) = (BufReader::new(stdout), String::new());
        said.read_line(&mut port).await.expect("it can be heard");
        let port: u16 = port.trim().parse().expect("localstripe starts; run scripts/install-prerequisites test");
        Self { base: format!("http://127.0.0.1:{port}"), _process: process, _said: said }
    }

    /// A request of its API, or of its own beside it; gives status and object.
    pub async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = http_client()
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(KEY)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body.finish());
        let response = request.send().await.expect("localstripe answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let (status, list) = self.ask(Method::GET, &format!("{path}?limit=100"), &[]).await;
        assert_eq!((status, &list["has_more"]), (200, &Value::Bool(false)), "{list}");
        list["data"].as_array().expect("a list").clone()
    }

    /// Every intent.
    pub async fn intents(&self) -> Vec<Value> {
        self.list("/v1/payment_intents").await
    }

    /// The statuses of all intents, sorted.
    pub async fn statuses(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.intents().await.iter().map(|intent| intent["status"].as_str().expect("a status").to_owned()).collect();
        all.sort();
        all
    }

    /// The only intent.
    pub async fn intent(&self) -> Value {
        let intents = self.intents().await;
        assert_eq!(intents.len(), 1, "{intents:?}");
        intents[0].clone()
    }

    /// The refunds that we made. What a partial capture leaves is among its refunds too, and carries no id of ours.
    pub async fn refunds(&self) -> Vec<Value> {
        let all = self.list("/v1/refunds").await;
        all.into_iter().filter(|refund| refund["metadata"]["checkstand_refund"].is_string()).collect()
    }

    /// What it holds in all: captured and not given back.
    pub async fn money(&self) -> i64 {
        let charges = self.list("/v1/charges").await;
        let held = charges.iter().filter(|charge| charge["status"] == "succeeded" && charge["captured"] == true);
        held.map(|charge| {
            charge["amount"].as_i64().expect("cents") - charge["amount_refunded"].as_i64().expect("cents")
        })
        .sum()
    }

    /// Fails unless each of our charges has at most one of its own that took or reserved money.
    pub async fn assert_one_charge_each(&self) {
        let charges = self.list("/v1/charges").await;
        let mut ours: Vec<String> = Vec::new();
        for intent in self.intents().await {
            let granted = charges
                .iter()
                .filter(|charge| charge["payment_intent"] == intent["id"] && charge["status"] == "succeeded")
                .count();
            let id = intent["metadata"]["checkstand_charge"].as_str().expect("our charge id").to_owned();
            ours.extend(std::iter::repeat_n(id, granted));
        }
        let granted = ours.len();
        ours.sort();
        ours.dedup();
        assert_eq!(ours.len(), granted, "a charge was made twice: {charges:?}");
    }

    /// Has every event sent there, signed with that secret, once and a second later.
    pub async fn send_events_to(&self, url: &str, secret: &str) {
        let (status, _) = self.ask(Method::POST, "/_config/webhooks/story", &[("url", url), ("secret", secret)]).await;
        assert_eq!(status, 200);
    }
}
