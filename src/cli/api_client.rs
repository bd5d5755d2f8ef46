//! A gateway's API as its merchants see it, for the commands that act in a merchant's name with his key.
//!
//! The rule: nothing here knows the database. The key comes from the environment where it can, so that
//! it stands in no list of processes, and is never printed.

use std::path::Path;
use std::time::Duration;

use checkstand::domain::api_key::{KeyError, SecretKey};
use clap::Args;
use reqwest::{Client, Method, RequestBuilder, redirect};
use serde_json::Value;
use url::Url;

use super::output::{Failure, cut};
use super::read_config;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one call may take; a card authorisation is the slowest.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a refusal is repeated.
const REFUSAL_CHARS_MAX: usize = 400;

/// Which gateway is called, with which key.
#[derive(Args, Debug)]
pub struct ApiOptions {
    /// The merchant's secret key, sk_test_…
    #[arg(long, value_name = "KEY", env = "CHECKSTAND_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The gateway's address; the one in the settings unless given
    #[arg(long, value_name = "URL", env = "CHECKSTAND_API_URL")]
    api_url: Option<Url>,
}

/// A key and the gateway it is for.
pub struct ApiClient {
    client: Client,
    base: String,
    key: SecretKey,
}

impl ApiClient {
    /// Takes the key in hand. Nothing is sent yet.
    ///
    /// # Errors
    /// When the key is none, or is a live one and `may_be_live` is false.
    pub fn new(file: Option<&Path>, options: ApiOptions, may_be_live: Result<(), &str>) -> Result<Self, Failure> {
        let given = options.api_key.filter(|key| !key.trim().is_empty());
        let given = given.ok_or("give the merchant's secret key in CHECKSTAND_API_KEY, or with --api-key")?;
        let key = SecretKey::parse(given.trim()).map_err(|error| match error {
            KeyError::Publishable => "the key is a publishable one: give the merchant's secret key (sk_test_…)",
            KeyError::Malformed => "the key is not one of this gateway's (sk_test_…): is it copied whole?",
        })?;
        if key.livemode() {
            may_be_live?;
        }
        let base = match options.api_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => read_config(file)?.public_url(),
        };
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| format!("no HTTP client can be made: {error}"))?;
        Ok(Self { client, base, key })
    }

    /// The gateway's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the key acts on live objects.
    pub fn livemode(&self) -> bool {
        self.key.livemode()
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(self.key.expose())
    }

    /// Posts a form and gives the object that comes back. `Err` in the inner result is a card that was declined,
    /// with the reason: for some commands that is what was wanted.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Result<Value, String>, Failure> {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .timeout(CALL_TIMEOUT)
            .body(body.finish());
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        match status {
            200 => Ok(Ok(answer)),
            402 => Ok(Err(said(&answer))),
            _ => Err(format!("{path} answered {status}: {}", said(&answer)).into()),
        }
    }

    /// The failure of a request that got no answer.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        format!("the gateway at {} cannot be reached: {cause}; is it running, and is --api-url right?", self.base)
            .into()
    }
}

/// What a refusal says.
pub fn said(answer: &Value) -> String {
    cut(answer["error"]["message"].as_str().unwrap_or("no reason was given"), REFUSAL_CHARS_MAX)
}
