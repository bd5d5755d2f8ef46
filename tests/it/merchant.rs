//! A merchant's backend: calls the API with its key.

use std::collections::HashMap;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::world::eventually;

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HashMap<String, String>,
    pub text: String,
    pub json: Value,
}

impl Answer {
    /// The object, when the request went well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json
    }

    /// The error object, when the request was refused with this status.
    #[track_caller]
    pub fn refused(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert!(self.json["error"]["message"].is_string(), "no error envelope: {}", self.text);
        self.json["error"].clone()
    }

    /// The same, when status, code and parameter are known too; an empty text stands for "absent".
    #[track_caller]
    pub fn refused_with(self, status: u16, code: &str, param: &str) -> Value {
        let text = self.text.clone();
        let error = self.refused(status);
        assert_eq!(error["code"].as_str().unwrap_or(""), code, "{text}");
        assert_eq!(error["param"].as_str().unwrap_or(""), param, "{text}");
        error
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The ids of a list's objects, in its order.
pub fn ids(list: &Value) -> Vec<String> {
    let data = list["data"].as_array().expect("a list has data");
    data.iter().map(|object| object["id"].as_str().expect("an id").to_owned()).collect()
}

/// Fields that are refused, with the code and the parameter of the refusal.
pub type Refused<'f> = (&'f [(&'f str, &'f str)], &'f str, &'f str);

/// A merchant and his key.
#[derive(Clone)]
pub struct Merchant {
    pub base: String,
    pub key: String,
    pub id: String,
    pub key_id: String,
    client: reqwest::Client,
}

pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(30))
        .build()
        .expect("an HTTP client")
}

/// Fields of a session with one line: two bags of coffee for 25.98 euros.
pub fn coffee() -> Vec<(&'static str, &'static str)> {
    vec![
        ("mode", "payment"),
        ("line_items[0][price_data][currency]", "eur"),
        ("line_items[0][price_data][product_data][name]", "House blend"),
        ("line_items[0][price_data][unit_amount]", "1299"),
        ("line_items[0][quantity]", "2"),
        ("success_url", "https://shop.example/thanks?id={CHECKOUT_SESSION_ID}"),
        ("cancel_url", "https://shop.example/cart"),
    ]
}

/// The same with further or other fields.
pub fn coffee_with<'f>(fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut all: Vec<(&str, &str)> = coffee();
    all.retain(|(name, _)| !fields.iter().any(|(other, _)| other == name));
    all.extend_from_slice(fields);
    all
}

impl Merchant {
    pub fn new(base: &str, key: &str, id: &str, key_id: &str) -> Self {
        Self {
            base: base.to_owned(),
            key: key.to_owned(),
            id: id.to_owned(),
            key_id: key_id.to_owned(),
            client: http_client(),
        }
    }

    /// The same merchant at another replica.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same merchant with another key.
    pub fn with_key(&self, key: &str, key_id: &str) -> Self {
        Self { key: key.to_owned(), key_id: key_id.to_owned(), ..self.clone() }
    }

    /// A request of nobody in particular.
    pub fn bare_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.bare_request(method, path).bearer_auth(&self.key)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the gateway answers");
        let status = response.status();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let text = response.text().await.expect("a whole answer");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, json }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Posts a form.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(self.form(path, fields)).await
    }

    pub async fn post_with_key(&self, path: &str, fields: &[(&str, &str)], idempotency_key: &str) -> Answer {
        self.send(self.form(path, fields).header("Idempotency-Key", idempotency_key)).await
    }

    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        self.request(Method::POST, path).header("Content-Type", "application/x-www-form-urlencoded").body(body.finish())
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A session for two bags of coffee.
    pub async fn session(&self) -> Value {
        self.post("/v1/checkout/sessions", &coffee()).await.ok()
    }

    /// A session for coffee with further or other fields.
    pub async fn session_with(&self, fields: &[(&str, &str)]) -> Value {
        self.post("/v1/checkout/sessions", &coffee_with(fields)).await.ok()
    }

    /// Reads a session back.
    pub async fn read(&self, session: &Value) -> Value {
        let id = session["id"].as_str().expect("a session has an id");
        self.get(&format!("/v1/checkout/sessions/{id}")).await.ok()
    }

    /// What became of an event's deliveries.
    pub async fn deliveries_of(&self, event_id: &str) -> Value {
        self.get(&format!("/v1/events/{event_id}/deliveries")).await.ok()
    }

    /// The same, once so many attempts are recorded.
    #[track_caller]
    pub fn attempts_of(&self, event_id: &str, count: usize) -> impl Future<Output = Value> {
        let what = format!("{count} recorded attempts of {event_id}");
        eventually(&what, async move || {
            let deliveries = self.deliveries_of(event_id).await;
            let made = deliveries["attempts"].as_array().expect("a list of attempts").len();
            assert!(made <= count, "more attempts than expected: {deliveries}");
            (made == count).then_some(deliveries)
        })
    }

    /// The newest event of a type.
    pub async fn event(&self, kind: &str) -> Value {
        let events = self.get(&format!("/v1/events?type={kind}&limit=1")).await.ok();
        assert!(events["data"][0].is_object(), "no event of type {kind}");
        events["data"][0].clone()
    }

    /// Sends an event again; to one endpoint, or to all.
    pub async fn resend(&self, event_id: &str, endpoint_id: Option<&str>) -> Answer {
        let fields: Vec<(&str, &str)> = endpoint_id.map(|id| ("webhook_endpoint", id)).into_iter().collect();
        self.post(&format!("/v1/events/{event_id}/resend"), &fields).await
    }
}
