//! The settings: defaults built into the binary, then a file, then the environment.
//!
//! The rule: every key stands in `config/default.toml` with its reason; an unknown key is refused
//! with its name, in the file and in the environment alike; secrets have types that do not print.

mod fraud;
mod mail;
mod webhooks;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use chrono::Duration;
use config::{Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use thiserror::Error;

pub use self::fraud::{FraudConfig, RuleConfig};
use crate::app::{ForwardingHeader, MailRoad, Settings};
use crate::domain::fraud::Rules;
use crate::domain::network::Network;
use crate::providers::stripe::OMITTABLE as STRIPE_OMITTABLE;
use crate::server::ServerLimits;
use crate::smtp::Tls;
use crate::telemetry::LogFormat;

const DEFAULTS: &str = include_str!("../config/default.toml");

const PREFIX: &str = "CHECKSTAND_";

/// Variables with our prefix that are no settings: where programs and data are, and whom the command line calls.
const OTHER_VARIABLES: [&str; 8] =
    ["PG_BIN", "DATA_DIR", "CONFIG", "PYTHON", "WRITE_REFERENCE", "API_KEY", "API_URL", "LISTEN_SECRET"];

/// The variable of the crash points, which only builds with debug assertions have.
const CRASH_VARIABLE: &str = "CRASH_AT";

/// Shortest time that answers to idempotent requests are kept: what the API promises.
const IDEMPOTENCY_RETENTION_HOURS_MIN: u32 = 24;

/// Most database connections of one process: PostgreSQL's own default is a hundred for all.
const DATABASE_CONNECTIONS_MAX: u32 = 500;

/// Longest time that a provider is left alone before it is tried again.
const BREAKER_OPEN_SECONDS_MAX: u32 = 60;

/// Most sessions in one statement: beyond that a statement only takes longer.
const CREATE_BATCH_MAX: u16 = 1024;

/// Longest hold of the way back: beyond that a payer takes the page for broken.
const REDIRECT_HOLD_MS_MAX: u32 = 10_000;

/// Shortest time that events and attempts are kept: longer than any delivery is tried.
const RETENTION_DAYS_MIN: u32 = 7;

/// Longest time that they are kept: ten years.
const RETENTION_DAYS_MAX: u32 = 3_650;

/// Most networks of trusted proxies.
const TRUSTED_PROXIES_MAX: usize = 256;
/// Keys whose values are texts even when they look like numbers: a password of digits must stay as it is.
const TEXTS: [&str; 2] = ["smtp_user", "smtp_password"];

/// The settings as they stand in file and environment.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: String,
    /// Origin under which payers reach us; empty for `http://` and `listen`.
    pub public_url: String,
    /// PostgreSQL.
    pub database_url: SecretString,
    /// Connections to it.
    pub database_connections_max: u32,
    /// Sessions made in one statement at most; 1 makes each by itself.
    pub create_batch_max: u16,
    /// Secret keys, the current one first.
    pub secret_keys: Vec<SecretString>,
    /// Keys that seal the card numbers of kept cards, the current one first; none keeps no numbers.
    pub card_vault_keys: Vec<SecretString>,
    /// `pretty` or `json`.
    pub log_format: LogFormatName,
    /// A tracing filter.
    pub log_filter: String,
    /// Longest lifetime of a session.
    pub session_lifetime_max_minutes: u32,
    /// Webhook endpoints of one merchant in one mode.
    pub webhook_endpoints_max: u16,
    /// Whether test-mode endpoints may be on this machine.
    pub loopback_webhooks: bool,
    /// Deliveries at once.
    pub webhook_concurrency_total: u16,
    /// Deliveries at once to one endpoint.
    pub webhook_concurrency_per_endpoint: u16,
    /// Name servers that are asked for webhook hosts; none for the machine's own.
    pub webhook_name_servers: Vec<String>,
    /// File with certificate authorities of the operator's own, for webhooks; empty for none.
    pub webhook_ca_file: String,
    /// Failures in a row after which an endpoint is paused; 0: never.
    pub webhook_pause_after_failures: u32,
    /// The first pause; each further one is twice as long.
    pub webhook_pause_seconds_first: u32,
    /// The longest pause.
    pub webhook_pause_seconds_max: u32,
    /// Days without one success after which an endpoint is disabled; 0: never.
    pub webhook_disable_after_days: u32,
    /// And not before so many failures.
    pub webhook_disable_after_failures: u32,
    /// Longest wait of the way back to the shop for the webhooks of a completed session.
    pub redirect_hold_ms: u32,
    /// How long events are kept.
    pub event_retention_days: u32,
    /// How long the log of delivery attempts is kept.
    pub delivery_attempt_retention_days: u32,
    /// Whether card numbers may be typed into our pages in live mode.
    pub card_entry_live: bool,
    /// Who gets which charge; the first rule that fits decides.
    pub routing: Vec<RoutingRule>,
    /// Charges without an answer before a provider is left alone; 0: never.
    pub breaker_failures_min: u32,
    /// For how long at first.
    pub breaker_open_seconds: u32,
    /// The simulated companies, in order of preference.
    pub simulator_names: Vec<String>,
    /// How they misbehave from the start: `name:fault:times`.
    pub simulator_faults: Vec<String>,
    /// Milliseconds that the simulator takes.
    pub simulator_latency_ms: u64,
    /// What the simulated companies keep of what they take: hundredths of a percent.
    pub simulator_fee_basis_points: u16,
    /// And so many minor units beside.
    pub simulator_fee_fixed: u32,
    /// Minor units that they keep for each dispute.
    pub simulator_dispute_fee: u32,
    /// A further address for health and metrics; empty for none.
    pub operations_listen: String,
    /// Address of the simulator's bank pages; empty for none.
    pub simulator_bank_listen: String,
    /// Origin under which payers reach them; empty for `http://` and `simulator_bank_listen`.
    pub simulator_bank_url: String,
    /// Who gets charges in test mode.
    pub test_mode_provider: TestModeProvider,
    /// Whether Stripe's keys may read balance transactions.
    pub stripe_read_fees: bool,
    /// Stripe's secret key for real money; empty for none.
    pub stripe_live_secret_key: SecretString,
    /// Stripe's secret key for test cards; empty for none.
    pub stripe_test_secret_key: SecretString,
    /// Origin of Stripe's API.
    pub stripe_api_base: String,
    /// Signing secrets of Stripe's messages.
    pub stripe_callback_secrets: Vec<SecretString>,
    /// Parameters that a compatible server does not know.
    pub stripe_omitted_parameters: Vec<String>,
    /// How long answers to idempotent requests are kept.
    pub idempotency_retention_hours: u32,
    /// Sockets open at once.
    pub connections_max: usize,
    /// Sockets open at once from one address.
    pub connections_per_ip_max: usize,
    /// Networks of the proxies whose word about the payer's address is believed.
    pub trusted_proxies: Vec<String>,
    /// The header that they say it in.
    pub trusted_proxy_header: ForwardingHeader,
    /// The fraud checks.
    pub fraud: FraudConfig,
    /// The rules of `fraud`, once they are checked.
    #[serde(skip)]
    pub fraud_rules: Arc<Rules>,
    /// The networks of `trusted_proxies`, once they are checked.
    #[serde(skip)]
    pub trusted_networks: Vec<Network>,
    /// The addresses of `webhook_name_servers`, once they are checked.
    #[serde(skip)]
    pub name_servers: Arc<[SocketAddr]>,
    /// The mail server; empty for none.
    pub smtp_host: String,
    /// Its port; 0 for the usual one.
    pub smtp_port: u16,
    /// How the way there is protected.
    pub smtp_tls: Tls,
    /// User at the mail server; empty for none.
    pub smtp_user: String,
    /// His password.
    pub smtp_password: SecretString,
    /// File with a certificate authority of the operator's own; empty for none.
    pub smtp_ca_file: String,
    /// In whose name mail is sent.
    pub mail_from: String,
    /// Whether payers get a receipt by mail.
    pub receipts: bool,
    /// Codes for one address in an hour.
    pub identity_codes_per_address_hour: u32,
    /// Codes for one merchant's payers in an hour.
    pub identity_codes_per_merchant_hour: u32,
    /// Codes asked for from one network in an hour.
    pub identity_codes_per_network_hour: u32,
    /// Whether mail is captured for the mailbox where no server is named; set by `checkstand dev` only.
    #[serde(skip)]
    pub capture_mail: bool,
}

/// Who gets charges in test mode.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TestModeProvider {
    /// The simulator.
    Simulator,
    /// Stripe's test mode.
    Stripe,
}

/// A rule of routing as it stands in the file.
#[derive(Deserialize, Debug, Clone, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingRule {
    /// ISO 4217 codes.
    pub currencies: Vec<String>,
    /// Card brands in Stripe's words.
    pub brands: Vec<String>,
    /// Minor units of the one currency.
    pub amount_min: Option<i64>,
    /// Minor units of the one currency.
    pub amount_max: Option<i64>,
    /// Ids.
    pub merchants: Vec<String>,
    /// `test` or `live`.
    pub mode: Option<String>,
    /// Who is asked, in order.
    pub providers: Vec<String>,
}

/// How log lines look.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormatName {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

impl From<LogFormatName> for LogFormat {
    fn from(name: LogFormatName) -> Self {
        match name {
            LogFormatName::Pretty => Self::Pretty,
            LogFormatName::Json => Self::Json,
        }
    }
}

/// What is wrong with the settings. Never carries a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file or a variable does not parse, or names something unknown.
    #[error("the configuration is wrong: {0}")]
    Malformed(String),
    /// A rule of the fraud checks is wrong.
    #[error("{0}")]
    Fraud(String),
    /// A value is out of its bounds.
    #[error("`{key}` {problem}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// What it should be.
        problem: String,
    },
}

/// An unknown key without the list of all others, which fills a screen.
fn one_sentence(error: &str) -> String {
    match error.split_once(", expected one of ").filter(|(before, _)| before.starts_with("unknown field")) {
        Some((unknown, _)) => format!(
            "{unknown} (as a variable: `{PREFIX}` and the key in capitals); config/default.toml has every key with its meaning"
        ),
        None => error.to_owned(),
    }
}

/// Whether a URL leads to this machine.
fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Config {
    /// Reads the settings from defaults, `file` and `variables` (the process's environment).
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = config::Map::new();
        for (name, value) in variables {
            if name == "DATABASE_URL" {
                settings.entry(format!("{PREFIX}DATABASE_URL")).or_insert(value);
            } else if let Some(rest) = name.strip_prefix(PREFIX)
                && !OTHER_VARIABLES.contains(&rest)
                && !(cfg!(debug_assertions) && rest == CRASH_VARIABLE)
            {
                settings.insert(name, value);
            }
        }
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        for key in TEXTS {
            if let Some(value) = settings.remove(&format!("{PREFIX}{}", key.to_ascii_uppercase())) {
                builder =
                    builder.set_override(key, value).map_err(|error| ConfigError::Malformed(error.to_string()))?;
            }
        }
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix("CHECKSTAND")
            .prefix_separator("_")
            .source(Some(settings))
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("secret_keys")
            .with_list_parse_key("card_vault_keys")
            .with_list_parse_key("webhook_name_servers")
            .with_list_parse_key("trusted_proxies")
            .with_list_parse_key("stripe_callback_secrets")
            .with_list_parse_key("stripe_omitted_parameters")
            .with_list_parse_key("simulator_names")
            .with_list_parse_key("simulator_faults");
        let config: Self = builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| ConfigError::Malformed(one_sentence(&error.to_string())))?;
        config.check()
    }

    fn check(mut self) -> Result<Self, ConfigError> {
        self.fraud_rules = Arc::new(self.fraud.rules().map_err(ConfigError::Fraud)?);
        let bad = |key, problem: String| Err(ConfigError::OutOfBounds { key, problem });
        // Compose files pass a variable that is not set on as an empty one.
        self.card_vault_keys.retain(|key| !key.expose_secret().trim().is_empty());
        let is_secret_key = |key: &SecretString| {
            self.secret_keys.iter().any(|other| other.expose_secret().trim() == key.expose_secret().trim())
        };
        if self.card_vault_keys.iter().any(is_secret_key) {
            return bad("card_vault_keys", "must hold keys of their own, none of `secret_keys`".to_owned());
        }
        if self.idempotency_retention_hours < IDEMPOTENCY_RETENTION_HOURS_MIN {
            return bad("idempotency_retention_hours", format!("must be at least {IDEMPOTENCY_RETENTION_HOURS_MIN}"));
        }
        if !(1..=DATABASE_CONNECTIONS_MAX).contains(&self.database_connections_max) {
            return bad("database_connections_max", format!("must be 1 to {DATABASE_CONNECTIONS_MAX}"));
        }
        if !(1..=CREATE_BATCH_MAX).contains(&self.create_batch_max) {
            return bad("create_batch_max", format!("must be 1 to {CREATE_BATCH_MAX}"));
        }
        if !(1..=7 * 24 * 60).contains(&self.session_lifetime_max_minutes) {
            return bad("session_lifetime_max_minutes", "must be 1 minute to 7 days (10080)".to_owned());
        }
        if !(1..=BREAKER_OPEN_SECONDS_MAX).contains(&self.breaker_open_seconds) {
            return bad("breaker_open_seconds", format!("must be 1 to {BREAKER_OPEN_SECONDS_MAX}"));
        }
        if self.redirect_hold_ms > REDIRECT_HOLD_MS_MAX {
            return bad("redirect_hold_ms", format!("must be 0 to {REDIRECT_HOLD_MS_MAX}"));
        }
        for (key, days) in [
            ("event_retention_days", self.event_retention_days),
            ("delivery_attempt_retention_days", self.delivery_attempt_retention_days),
        ] {
            if !(RETENTION_DAYS_MIN..=RETENTION_DAYS_MAX).contains(&days) {
                return bad(key, format!("must be {RETENTION_DAYS_MIN} to {RETENTION_DAYS_MAX}"));
            }
        }
        let origin_is_fine = self.public_url.is_empty()
            || url::Url::parse(&self.public_url).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.origin().ascii_serialization() == self.public_url.trim_end_matches('/')
            });
        if !origin_is_fine {
            return bad("public_url", "must be an origin such as https://pay.shop.example, without a path".to_owned());
        }
        if self.trusted_proxies.len() > TRUSTED_PROXIES_MAX {
            return bad("trusted_proxies", format!("must hold at most {TRUSTED_PROXIES_MAX} networks"));
        }
        for written in self.trusted_proxies.iter().filter(|written| !written.trim().is_empty()) {
            match Network::parse(written.trim()) {
                Some(network) => self.trusted_networks.push(network),
                None => {
                    let problem = "must hold addresses or networks such as 10.0.0.0/8".to_owned();
                    return bad("trusted_proxies", problem);
                }
            }
        }
        self.check_webhooks()?;
        self.smtp()?;
        self.check_stripe()?;
        Ok(self)
    }

    fn check_stripe(&self) -> Result<(), ConfigError> {
        let bad = |key, problem: &str| Err(ConfigError::OutOfBounds { key, problem: problem.to_owned() });
        let has = |key: &SecretString, modes: [&str; 2]| {
            let key = key.expose_secret();
            key.is_empty() || modes.iter().any(|mode| key.starts_with(mode))
        };
        if !has(&self.stripe_live_secret_key, ["sk_live_", "rk_live_"]) {
            return bad("stripe_live_secret_key", "must be a secret key of live mode (sk_live_… or rk_live_…)");
        }
        if !has(&self.stripe_test_secret_key, ["sk_test_", "rk_test_"]) {
            return bad("stripe_test_secret_key", "must be a secret key of test mode (sk_test_… or rk_test_…)");
        }
        let url = url::Url::parse(&self.stripe_api_base).ok();
        let url = url.filter(|url| url.origin().ascii_serialization() == self.stripe_api_base);
        match url {
            Some(url) if url.scheme() == "https" => {}
            Some(url) if url.scheme() == "http" && is_loopback(&url) => {
                if !self.stripe_live_secret_key.expose_secret().is_empty() {
                    return bad("stripe_api_base", "must be https where there is a live key");
                }
            }
            _ => {
                return bad(
                    "stripe_api_base",
                    "must be an origin such as https://api.stripe.com, without a slash at its end; http on this machine only",
                );
            }
        }
        if self.test_mode_provider == TestModeProvider::Stripe && self.stripe_test_secret_key.expose_secret().is_empty()
        {
            return bad("test_mode_provider", "is \"stripe\", which needs `stripe_test_secret_key`");
        }
        if let Some(unknown) =
            self.stripe_omitted_parameters.iter().find(|name| !STRIPE_OMITTABLE.contains(&name.as_str()))
        {
            let problem = format!("has `{unknown}`; what can be left out is: {}", STRIPE_OMITTABLE.join(", "));
            return bad("stripe_omitted_parameters", &problem);
        }
        if self.stripe_callback_secrets.iter().any(|secret| secret.expose_secret().is_empty()) {
            return bad("stripe_callback_secrets", "has an empty secret, which anybody could sign with");
        }
        Ok(())
    }

    /// Where payers reach us.
    pub fn public_url(&self) -> String {
        if self.public_url.is_empty() {
            format!("http://{}", reachable(&self.listen))
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }

    /// Where payers reach the simulator's bank pages; `None` where there are none, and cards that need
    /// them are declined.
    pub fn simulator_bank_url(&self) -> Option<String> {
        if !self.simulator_bank_url.is_empty() {
            Some(self.simulator_bank_url.trim_end_matches('/').to_owned())
        } else if self.simulator_bank_listen.is_empty() {
            None
        } else {
            Some(format!("http://{}", reachable(&self.simulator_bank_listen)))
        }
    }

    /// What operations need to know.
    pub fn settings(&self) -> Settings {
        Settings {
            public_url: self.public_url(),
            session_lifetime_max: Duration::minutes(i64::from(self.session_lifetime_max_minutes)),
            loopback_webhooks: self.loopback_webhooks,
            webhook_endpoints_max: self.webhook_endpoints_max,
            receipts: self.receipts && self.mail_road() != MailRoad::Off,
            mail: self.mail_road(),
            identity_limits: self.identity_limits(),
            redirect_hold: Duration::milliseconds(i64::from(self.redirect_hold_ms)),
            event_retention: Duration::days(i64::from(self.event_retention_days)),
            attempt_retention: Duration::days(i64::from(self.delivery_attempt_retention_days)),
            card_entry_live: self.card_entry_live,
            idempotency_retention: Duration::hours(i64::from(self.idempotency_retention_hours)),
            mail_retention: Duration::days(7),
            fraud: Arc::clone(&self.fraud_rules),
            review_hold: Duration::hours(i64::from(self.fraud.review_hours)),
            trusted_proxies: self.trusted_networks.clone(),
            trusted_proxy_header: self.trusted_proxy_header,
        }
    }

    /// What one peer may take of the server.
    pub fn server_limits(&self) -> ServerLimits {
        ServerLimits {
            connections_max: self.connections_max,
            connections_per_ip_max: self.connections_per_ip_max,
            ..ServerLimits::default()
        }
    }
}

/// Where a browser on this machine reaches an address that is listened on: "every address" is none to go to.
pub(crate) fn reachable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn defaults_are_complete_and_the_environment_overrides_them() {
        let config = read(&[
            ("CHECKSTAND_LISTEN", "127.0.0.1:9"),
            ("CHECKSTAND_SECRET_KEYS", "a,b"),
            ("DATABASE_URL", "postgres://x"),
            ("CHECKSTAND_PG_BIN", "/x"),
            ("PATH", "/bin"),
        ])
        .expect("reads");
        assert_eq!(config.public_url(), "http://127.0.0.1:9");
        assert_eq!(config.secret_keys.len(), 2);
    }

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_on_this_machine() {
        for (listen, url) in [
            ("0.0.0.0:4242", "http://127.0.0.1:4242"),
            ("[::]:4242", "http://127.0.0.1:4242"),
            ("10.0.0.7:80", "http://10.0.0.7:80"),
        ] {
            assert_eq!(read(&[("CHECKSTAND_LISTEN", listen)]).expect("reads").public_url(), url);
        }
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused_by_name() {
        for (variable, value, named) in [
            ("CHECKSTAND_LISTNE", "x", "listne"),
            ("CHECKSTAND_DATABASE_CONNECTIONS_MAX", "0", "database_connections_max"),
            ("CHECKSTAND_IDEMPOTENCY_RETENTION_HOURS", "1", "idempotency_retention_hours"),
            ("CHECKSTAND_PUBLIC_URL", "https://a.example/path", "public_url"),
            ("CHECKSTAND_WEBHOOK_NAME_SERVERS", "dns.example", "webhook_name_servers"),
            ("CHECKSTAND_REDIRECT_HOLD_MS", "10001", "redirect_hold_ms"),
            ("CHECKSTAND_EVENT_RETENTION_DAYS", "6", "event_retention_days"),
            ("CHECKSTAND_LOG_FORMAT", "loud", "log_format"),
            ("CHECKSTAND_TRUSTED_PROXIES", "10.0.0.1/8", "trusted_proxies"),
            ("CHECKSTAND_TRUSTED_PROXY_HEADER", "x-real-ip", "trusted_proxy_header"),
            ("CHECKSTAND_STRIPE_LIVE_SECRET_KEY", "sk_test_x", "stripe_live_secret_key"),
            ("CHECKSTAND_STRIPE_TEST_SECRET_KEY", "pk_test_x", "stripe_test_secret_key"),
            ("CHECKSTAND_STRIPE_API_BASE", "http://stripe.example", "stripe_api_base"),
            ("CHECKSTAND_STRIPE_API_BASE", "https://api.stripe.com/v1", "stripe_api_base"),
            ("CHECKSTAND_STRIPE_OMITTED_PARAMETERS", "description,amount", "stripe_omitted_parameters"),
            ("CHECKSTAND_STRIPE_CALLBACK_SECRETS", "whsec_a,", "stripe_callback_secrets"),
            ("CHECKSTAND_TEST_MODE_PROVIDER", "stripe", "test_mode_provider"),
            ("CHECKSTAND_TEST_MODE_PROVIDER", "bank", "bank"),
        ] {
            let error = read(&[(variable, value)]).expect_err(variable).to_string();
            assert!(error.contains(named), "{variable}: {error}");
        }
    }

    #[test]
    fn stripe_is_reached_in_clear_on_this_machine_only_and_never_with_a_live_key() {
        let base = ("CHECKSTAND_STRIPE_API_BASE", "http://127.0.0.1:8420");
        let test = ("CHECKSTAND_STRIPE_TEST_SECRET_KEY", "sk_test_x");
        let live = ("CHECKSTAND_STRIPE_LIVE_SECRET_KEY", "rk_live_x");
        read(&[base, test, ("CHECKSTAND_TEST_MODE_PROVIDER", "stripe")]).expect("a test key may");
        read(&[test, live]).expect("to Stripe itself both may");
        let error = read(&[base, live]).expect_err("a live key may not").to_string();
        assert!(error.contains("stripe_api_base"), "{error}");
    }

    #[test]
    fn secrets_do_not_print() {
        let secrets = [
            ("CHECKSTAND_SECRET_KEYS", "hush-hush"),
            ("DATABASE_URL", "postgres://u:hush@x/y"),
            ("CHECKSTAND_STRIPE_LIVE_SECRET_KEY", "sk_live_hush"),
            ("CHECKSTAND_STRIPE_TEST_SECRET_KEY", "sk_test_hush"),
            ("CHECKSTAND_STRIPE_CALLBACK_SECRETS", "whsec_hush,whsec_hush2"),
        ];
        assert!(!format!("{:?}", read(&secrets).expect("reads")).contains("hush"));
        let wrong = read(&[("CHECKSTAND_STRIPE_LIVE_SECRET_KEY", "hush")]).expect_err("no such key").to_string();
        assert!(!wrong.contains("hush"), "{wrong}");
    }
}
